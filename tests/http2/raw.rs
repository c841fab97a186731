//! A client of HTTP/2 that writes frames by hand: it can do what no honest client does, and sees every byte.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{harness::within, raw::tls_config};

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client that takes much grants.
pub(crate) const GENEROUS: &[(u16, u32)] = &[
    (0x4, 1 << 24),
    (0x2b60, 1),
    (0x2b61, 1 << 24),
    (0x2b62, 1 << 24),
    (0x2b63, 1 << 24),
    (0x2b66, 1 << 24),
    (0x2b64, 1 << 10),
    (0x2b65, 1 << 10),
];

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = (self.payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The code of a reset, or of a GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The settings of a SETTINGS frame.
    pub(crate) fn settings(&self) -> Vec<(u16, u32)> {
        let setting = |bytes: &[u8]| {
            let id = u16::from_be_bytes([bytes[0], bytes[1]]);
            (id, u32::from_be_bytes(bytes[2..].try_into().unwrap()))
        };
        self.payload.chunks(6).map(setting).collect()
    }

    /// The status of a response, which is the first field of its HEADERS.
    pub(crate) fn status(&self) -> u16 {
        match self.payload[0] {
            0x88 => 200,
            0x89 => 204,
            0x8c => 400,
            0x8d => 404,
            0x8e => 500,
            // A literal whose name is `:status`.
            0x08 | 0x18 | 0x48 => digits(&self.payload[1..]),
            other => panic!("the first field is {other:#x}"),
        }
    }
}

/// Three digits, written plainly or by Huffman's code (RFC 7541, "Huffman Code").
fn digits(value: &[u8]) -> u16 {
    let (length, huffman) = (usize::from(value[0] & 0x7f), value[0] & 0x80 != 0);
    let bytes = &value[1..=length];
    if !huffman {
        return str::from_utf8(bytes).unwrap().parse().unwrap();
    }
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1))
        .collect();
    let (mut number, mut at) = (0, 0);
    for _ in 0..3 {
        let take = |n: usize| {
            let bits = bits[at..at + n].iter();
            bits.fold(0_u16, |sum, bit| sum << 1 | u16::from(*bit))
        };
        let digit = match take(5) {
            small @ 0..=2 => {
                at += 5;
                small
            }
            _ => {
                let digit = take(6) - 0x19 + 3;
                at += 6;
                digit
            }
        };
        number = number * 10 + digit;
    }
    number
}

/// A field section without compression.
pub(crate) fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = Vec::new();
    for (name, value) in fields {
        section.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a length of one byte");
            section.push(text.len() as u8);
            section.extend(text.bytes());
        }
    }
    section
}

/// The fields that ask for a session.
pub(crate) fn connect_fields(path: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "CONNECT"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
        (":protocol", "webtransport"),
    ]
}

/// TLS that has agreed on h2, and nothing more.
pub(crate) async fn tls(server: SocketAddr) -> TlsStream<TcpStream> {
    let mut tls = tls_config();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = within("TCP", TcpStream::connect(server)).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(tls));
    within("TLS", connector.connect(name, tcp)).await.unwrap()
}

/// A connection.
pub(crate) struct Raw {
    pub(crate) io: TlsStream<TcpStream>,
    /// The server's first SETTINGS.
    pub(crate) settings: Vec<(u16, u32)>,
    next: u32,
}

impl Raw {
    /// A connection whose settings both ends know, and whose window is large.
    pub(crate) async fn connect(server: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut io = tls(server).await;
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut hello = PREFACE.to_vec();
        hello.extend(Frame::new(SETTINGS, 0, 0, payload).encode());
        let window = (1_u32 << 30).to_be_bytes();
        hello.extend(Frame::new(WINDOW_UPDATE, 0, 0, window).encode());
        io.write_all(&hello).await.unwrap();
        let mut raw = Self {
            io,
            settings: Vec::new(),
            next: 1,
        };
        let first = raw.frame().await.unwrap();
        assert_eq!((first.kind, first.flags), (SETTINGS, 0), "{first:?}");
        raw.settings = first.settings();
        raw.send(&Frame::new(SETTINGS, ACK, 0, [])).await;
        raw
    }

    pub(crate) async fn send(&mut self, frame: &Frame) {
        self.io.write_all(&frame.encode()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// The next frame, whatever it is.
    pub(crate) async fn frame(&mut self) -> io::Result<Frame> {
        let mut header = [0; 9];
        within("a frame", self.io.read_exact(&mut header)).await?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let mut payload = vec![0; length];
        within("its payload", self.io.read_exact(&mut payload)).await?;
        let stream = u32::from_be_bytes(header[5..].try_into().unwrap());
        Ok(Frame::new(header[3], header[4], stream, payload))
    }

    /// The next frame of one of these kinds. PING is answered meanwhile, what else comes is passed over.
    pub(crate) async fn next(&mut self, kinds: &[u8]) -> Frame {
        loop {
            let frame = self.frame().await.unwrap();
            if frame.kind == PING && frame.flags & ACK == 0 {
                let pong = Frame::new(PING, ACK, 0, frame.payload.clone());
                self.send(&pong).await;
            }
            if kinds.contains(&frame.kind) {
                return frame;
            }
        }
    }

    /// Sends a request of these fields, and says on which stream.
    pub(crate) async fn request(&mut self, fields: &[(&str, &str)], flags: u8) -> u32 {
        let stream = self.next;
        self.next += 2;
        let head = Frame::new(HEADERS, END_HEADERS | flags, stream, section(fields));
        self.send(&head).await;
        stream
    }

    /// Begins a session, and says on which stream.
    pub(crate) async fn session(&mut self, path: &str) -> u32 {
        let stream = self.request(&connect_fields(path), 0).await;
        loop {
            let response = self.next(&[HEADERS, RST_STREAM]).await;
            if response.stream == stream {
                assert_eq!((response.kind, response.status()), (HEADERS, 200));
                return stream;
            }
        }
    }

    /// Sends capsules in one DATA frame.
    pub(crate) async fn capsules(&mut self, stream: u32, capsules: &[u8]) {
        self.send(&Frame::new(DATA, 0, stream, capsules)).await;
    }

    /// Reads DATA of a stream until that many bytes of it are there, or it ends.
    pub(crate) async fn data(&mut self, stream: u32, length: usize) -> Vec<u8> {
        let mut data = Vec::new();
        while data.len() < length {
            let frame = self.next(&[DATA, RST_STREAM]).await;
            assert_eq!((frame.kind, frame.stream), (DATA, stream), "{frame:?}");
            data.extend(&frame.payload);
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
        data
    }
}
