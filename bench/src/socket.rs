//! The UDP sockets of servers and clients, with the same receive buffer: what overflows measures the system's default.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use socket2::SockRef;
use wharf::transport::Limits;

/// A socket on loopback, at a free port.
pub(crate) fn udp() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    SockRef::from(&socket).set_recv_buffer_size(Limits::default().udp_receive_buffer)?;
    Ok(socket)
}

/// QUIC on such a socket; a client's without a configuration.
pub(crate) fn endpoint(server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let config = EndpointConfig::default();
    Endpoint::new(config, server, udp()?, Arc::new(TokioRuntime))
}
