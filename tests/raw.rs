//! A client of bare QUIC streams, for what no honest client does: its bytes are written by hand.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use wharf_proto::{capsule::Capsule, varint::VarInt};

use crate::harness::{TestServer, within};

/// The SETTINGS of a client of the newest draft: datagrams, WebTransport, session flow control.
pub(crate) const NEWEST: &[(u64, u64)] = &[
    (0x33, 1),
    (0x2c7c_f000, 1),
    (0x2b61, 1 << 20),
    (0x2b64, 100),
    (0x2b65, 100),
];
/// The same, with more granted than any test needs.
pub(crate) const GENEROUS: &[(u64, u64)] = &[
    (0x33, 1),
    (0x2c7c_f000, 1),
    (0x2b61, 1 << 40),
    (0x2b64, 1000),
    (0x2b65, 1000),
];
/// The SETTINGS of a browser: draft 02.
pub(crate) const BROWSER: &[(u64, u64)] = &[(0x33, 1), (0x2b60_3742, 1)];

/// A connection.
pub(crate) struct Raw {
    pub(crate) conn: quinn::Connection,
    _endpoint: quinn::Endpoint,
    pub(crate) control: Option<quinn::SendStream>,
}

/// A CONNECT stream whose session began.
pub(crate) struct RawSession {
    pub(crate) id: u64,
    pub(crate) send: quinn::SendStream,
    pub(crate) recv: quinn::RecvStream,
}

impl Raw {
    /// Connects and sends the newest draft's SETTINGS.
    pub(crate) async fn connect(server: &TestServer) -> Self {
        Self::connect_to(server.address, NEWEST).await
    }

    pub(crate) async fn connect_to(address: SocketAddr, settings: &[(u64, u64)]) -> Self {
        let mut raw = Self::silent(address).await;
        raw.say_settings(settings).await;
        raw
    }

    /// Connects from a socket that the caller has, with a configuration made from [`client_config`].
    pub(crate) async fn connect_from(
        endpoint: &quinn::Endpoint,
        config: quinn::ClientConfig,
        address: SocketAddr,
        settings: &[(u64, u64)],
    ) -> Self {
        let mut raw = Self::dial(endpoint.clone(), config, address, "localhost").await;
        raw.say_settings(settings).await;
        raw
    }

    /// Opens the control stream and sends SETTINGS on it.
    pub(crate) async fn say_settings(&mut self, settings: &[(u64, u64)]) {
        let mut payload = BytesMut::new();
        for (id, value) in settings {
            put(&mut payload, *id);
            put(&mut payload, *value);
        }
        let mut control = self.conn.open_uni().await.unwrap();
        control.write_all(&[0]).await.unwrap();
        control.write_all(&frame(4, &payload)).await.unwrap();
        self.control = Some(control);
    }

    /// Connects and says nothing.
    pub(crate) async fn silent(address: SocketAddr) -> Self {
        Self::silent_with(address, client_config()).await
    }

    /// Connects with settings of QUIC, and says nothing.
    pub(crate) async fn silent_with(address: SocketAddr, config: quinn::ClientConfig) -> Self {
        Self::silent_as("localhost", address, config).await
    }

    /// The same for another name in TLS.
    pub(crate) async fn silent_as(
        name: &str,
        address: SocketAddr,
        config: quinn::ClientConfig,
    ) -> Self {
        let any_port = match address {
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
        };
        let endpoint = quinn::Endpoint::client(any_port).unwrap();
        Self::dial(endpoint, config, address, name).await
    }

    async fn dial(
        endpoint: quinn::Endpoint,
        config: quinn::ClientConfig,
        address: SocketAddr,
        name: &str,
    ) -> Self {
        let conn = endpoint.connect_with(config, address, name).unwrap();
        Self {
            conn: within("the handshake", conn).await.unwrap(),
            _endpoint: endpoint,
            control: None,
        }
    }

    /// Sends a request's head and returns its stream.
    pub(crate) async fn request(
        &self,
        fields: &[(&str, &str)],
    ) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, recv) = self.conn.open_bi().await.unwrap();
        send_head(&mut send, fields).await;
        (send, recv)
    }

    /// Asks for a session and returns the status.
    pub(crate) async fn ask(&self, path: &str, token: &str) -> (u16, RawSession) {
        let (send, mut recv) = self.request(&connect_fields(path, token)).await;
        let id = send.id().into();
        let status = within("the response", read_status(&mut recv)).await;
        (status, RawSession { id, send, recv })
    }

    /// A session that begins.
    pub(crate) async fn session(&self, path: &str) -> RawSession {
        let (status, session) = self.ask(path, "webtransport-h3").await;
        assert_eq!(status, 200);
        session
    }

    /// Opens a bidirectional stream of a session.
    pub(crate) async fn open_bi(&self, session: u64) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, recv) = self.conn.open_bi().await.unwrap();
        send.write_all(&header(0x41, session)).await.unwrap();
        (send, recv)
    }

    /// Opens a unidirectional stream of a session.
    pub(crate) async fn open_uni(&self, session: u64) -> quinn::SendStream {
        let mut send = self.conn.open_uni().await.unwrap();
        send.write_all(&header(0x54, session)).await.unwrap();
        send
    }

    /// The next unidirectional stream of the server that is a session's, behind its header.
    pub(crate) async fn webtransport_uni(&self) -> quinn::RecvStream {
        loop {
            let mut recv = self.conn.accept_uni().await.unwrap();
            // Of one byte: that of the control stream, which has no header besides.
            let mut kind = [0; 2];
            recv.read_exact(&mut kind[..1]).await.unwrap();
            if kind[0] == 0x40 {
                recv.read_exact(&mut kind[1..]).await.unwrap();
                assert_eq!(kind[1], 0x54);
                let mut session = [0];
                recv.read_exact(&mut session).await.unwrap();
                assert!(session[0] < 64, "a session id of one byte");
                return recv;
            }
        }
    }

    /// Sends a datagram of a session.
    pub(crate) fn datagram(&self, session: u64, payload: &[u8]) {
        let mut datagram = BytesMut::new();
        put(&mut datagram, session / 4);
        datagram.put_slice(payload);
        self.conn.send_datagram(datagram.freeze()).unwrap();
    }

    /// Sends some bytes on a bidirectional stream of a session and expects them back.
    pub(crate) async fn expect_echo(&self, session: u64, bytes: &[u8]) {
        let (mut send, mut recv) = self.open_bi(session).await;
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        assert_eq!(
            within("the echo", recv.read_to_end(1 << 20)).await.unwrap(),
            bytes
        );
    }

    /// The code with which the server closes the connection.
    pub(crate) async fn closed_with(&self) -> u64 {
        match within("the connection to close", self.conn.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("closed otherwise: {other}"),
        }
    }

    /// The SETTINGS of the server, as they are on the wire.
    pub(crate) async fn server_settings(&self) -> Vec<(u64, u64)> {
        loop {
            let mut recv = within("a stream of the server", self.conn.accept_uni())
                .await
                .unwrap();
            let mut bytes = BytesMut::new();
            while let Some(chunk) = within("its bytes", recv.read_chunk(4096, true))
                .await
                .unwrap()
            {
                bytes.extend_from_slice(&chunk.bytes);
                if bytes[0] != 0 {
                    break;
                }
                let mut rest = &bytes[2..];
                let Some(length) = take(&mut rest) else {
                    continue;
                };
                if rest.len() as u64 >= length {
                    assert_eq!(bytes[1], 4, "the control stream begins with SETTINGS");
                    let mut settings = Vec::new();
                    while let Some(id) = take(&mut rest) {
                        settings.push((id, take(&mut rest).unwrap()));
                    }
                    return settings;
                }
            }
        }
    }
}

impl RawSession {
    /// Sends a capsule in a DATA frame.
    pub(crate) async fn send_capsule(&mut self, capsule: &Capsule) {
        let mut bytes = BytesMut::new();
        capsule.encode(&mut bytes);
        self.send.write_all(&frame(0, &bytes)).await.unwrap();
    }

    /// The payload of the DATA frames up to FIN.
    pub(crate) async fn received(&mut self) -> Bytes {
        let all = within("the end of the CONNECT stream", read_rest(&mut self.recv)).await;
        payload(&all.unwrap())
    }
}

/// The payload of the DATA frames among those frames.
fn payload(mut frames: &[u8]) -> Bytes {
    let mut payload = BytesMut::new();
    while let Some(kind) = take(&mut frames) {
        let length = usize::try_from(take(&mut frames).unwrap()).unwrap();
        if kind == 0 {
            payload.put_slice(&frames[..length]);
        }
        frames.advance(length);
    }
    payload.freeze()
}

/// A client's TLS, that takes any certificate.
pub(crate) fn tls_config() -> rustls::ClientConfig {
    let provider = Arc::new(ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth()
}

/// A client's QUIC, with the library's defaults, the ALPN of HTTP/3, and any certificate.
pub(crate) fn client_config() -> quinn::ClientConfig {
    let mut tls = tls_config();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.enable_early_data = true;
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    quinn::ClientConfig::new(Arc::new(crypto))
}

/// Sends a request's head on its stream.
pub(crate) async fn send_head(send: &mut quinn::SendStream, fields: &[(&str, &str)]) {
    let head = frame(1, &field_section(fields));
    send.write_all(&head).await.unwrap();
}

/// The head of a request for a session.
pub(crate) fn connect_fields<'a>(path: &'a str, token: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", "CONNECT"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
        (":protocol", token),
    ]
}

/// A frame of HTTP/3.
pub(crate) fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    put(&mut frame, kind);
    put(&mut frame, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame
}

/// The header of a WebTransport stream.
pub(crate) fn header(signal: u64, session: u64) -> Vec<u8> {
    let mut header = Vec::new();
    put(&mut header, signal);
    put(&mut header, session);
    header
}

/// A field section of literals: no table, no Huffman.
pub(crate) fn field_section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = vec![0, 0];
    for (name, value) in fields {
        prefixed(&mut section, 0x20, 3, name.len());
        section.extend(name.bytes());
        prefixed(&mut section, 0, 7, value.len());
        section.extend(value.bytes());
    }
    section
}

/// An integer of RFC 7541 ("Integer Representation").
fn prefixed(out: &mut Vec<u8>, flags: u8, bits: u32, value: usize) {
    let max = (1 << bits) - 1;
    if value < max {
        out.push(flags | u8::try_from(value).unwrap());
        return;
    }
    out.push(flags | u8::try_from(max).unwrap());
    let mut rest = value - max;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
}

/// Appends a varint.
pub(crate) fn put(out: &mut impl bytes::BufMut, value: u64) {
    VarInt::try_from(value).unwrap().encode(out);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (value, size) = VarInt::decode(bytes)?;
    bytes.advance(size);
    Some(value.into())
}

/// The varint that comes next, where the stream does not end before it is whole.
pub(crate) async fn read_varint(recv: &mut quinn::RecvStream) -> Option<u64> {
    let mut bytes = [0; 8];
    recv.read_exact(&mut bytes[..1]).await.ok()?;
    let length = 1 << (bytes[0] >> 6);
    recv.read_exact(&mut bytes[1..length]).await.ok()?;
    VarInt::decode(&bytes[..length]).map(|(value, _)| value.into_inner())
}

/// What comes up to FIN, of a stream of which some was read already. QUIC's own `read_to_end` reads in any order, and may
/// then take twice what was read in order before and was sent again.
pub(crate) async fn read_rest(recv: &mut quinn::RecvStream) -> Result<Vec<u8>, quinn::ReadError> {
    let mut rest = Vec::new();
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
        rest.extend_from_slice(&chunk.bytes);
        assert!(rest.len() <= 1 << 20, "more than a test sends");
    }
    Ok(rest)
}

/// A whole response: its status, and its body as text.
pub(crate) async fn read_response(recv: &mut quinn::RecvStream) -> (u16, String) {
    let status = read_status(recv).await;
    let body = payload(&read_rest(recv).await.unwrap());
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// The status of a response, and nothing of what follows its head.
pub(crate) async fn read_status(recv: &mut quinn::RecvStream) -> u16 {
    let mut read = Vec::new();
    loop {
        let mut rest = &read[..];
        if let (Some(kind), Some(length)) = (take(&mut rest), take(&mut rest)) {
            assert_eq!(kind, 1, "a response begins with HEADERS");
            let missing = usize::try_from(length).unwrap().saturating_sub(rest.len());
            if missing == 0 {
                return status(&rest[2..]);
            }
            let mut more = vec![0; missing];
            recv.read_exact(&mut more).await.unwrap();
            read.extend(more);
        } else {
            let mut byte = [0];
            recv.read_exact(&mut byte).await.unwrap();
            read.extend(byte);
        }
    }
}

/// Decodes `:status`, which is the first field: from QPACK's static table, or three digits, Huffman-coded or not.
fn status(section: &[u8]) -> u16 {
    const INDEXED: [(u8, u16); 13] = [
        (24, 103),
        (25, 200),
        (26, 304),
        (27, 404),
        (28, 503),
        (64, 204),
        (65, 206),
        (66, 302),
        (67, 400),
        (68, 403),
        (69, 421),
        (70, 425),
        (71, 500),
    ];
    if section[0] & 0xc0 == 0xc0 {
        let index = if section[0] & 0x3f == 63 {
            63 + section[1]
        } else {
            section[0] & 0x3f
        };
        return INDEXED.iter().find(|(known, _)| *known == index).unwrap().1;
    }
    assert_eq!(
        section[0] & 0xf0,
        0x50,
        "a literal with a name of the static table"
    );
    let value = if section[0] & 0x0f == 15 { 2 } else { 1 };
    let (coded, length) = (
        section[value] & 0x80 != 0,
        usize::from(section[value] & 0x7f),
    );
    let bytes = &section[value + 1..value + 1 + length];
    if !coded {
        return std::str::from_utf8(bytes).unwrap().parse().unwrap();
    }
    let bits: Vec<u16> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)))
        .collect();
    let mut status = 0;
    let mut at = 0;
    for _ in 0..3 {
        let number = |length: usize| {
            bits[at..at + length]
                .iter()
                .fold(0, |value, bit| value * 2 + bit)
        };
        // RFC 7541, "Huffman Code": 0 to 2 are five bits from 00000, 3 to 9 six bits from 011001.
        let (digit, length) = if number(5) < 3 {
            (number(5), 5)
        } else {
            (number(6) - 0b01_1001 + 3, 6)
        };
        status = status * 10 + digit;
        at += length;
    }
    status
}

/// Takes any certificate: these tests are not about it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
