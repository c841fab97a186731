//! Between `h2` and TLS: adds settings to the first SETTINGS frame that `h2` writes, and reads the peer's.
//!
//! `h2` sends the settings that it knows, and drops those of the peer that it does not. All other bytes pass untouched, and
//! nothing is held but the part of a frame's header, or of a setting, whose rest has not come.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

use super::settings::PeerSettings;
use crate::transport::Role;

/// The client's connection preface, without its SETTINGS (RFC 9113, "HTTP/2 Connection Preface").
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const SETTING: usize = 6;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const ACK: u8 = 0x1;

/// What the peer's frames said.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) settings: PeerSettings,
    /// It sent GOAWAY: it asks for the end of its sessions.
    pub(super) goaway: bool,
}

/// A connection whose SETTINGS are seen to. It is shared with who needs the TLS below, for a moment each.
pub(super) struct Tap<T> {
    io: Arc<Mutex<T>>,
    outgoing: Outgoing,
    extra: Vec<(u16, u32)>,
    /// Rewritten, and not written yet.
    pending: BytesMut,
    incoming: Incoming,
    peer: watch::Sender<Peer>,
}

impl<T> Tap<T> {
    /// `role` is that of `h2`.
    pub(super) fn new(
        io: Arc<Mutex<T>>,
        role: Role,
        extra: Vec<(u16, u32)>,
        peer: watch::Sender<Peer>,
    ) -> Self {
        let (sent, received) = match role {
            Role::Client => (PREFACE, 0),
            Role::Server => (0, PREFACE),
        };
        Self {
            io,
            outgoing: Outgoing::Preface(sent),
            extra,
            pending: BytesMut::new(),
            incoming: Incoming::begin_after(received),
            peer,
        }
    }
}

fn lock<T>(io: &Mutex<T>) -> MutexGuard<'_, T> {
    io.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where `h2` is in what it writes.
#[derive(Debug)]
enum Outgoing {
    Preface(usize),
    Header(BytesMut),
    /// So many bytes of the settings are left.
    Settings(usize),
    Through,
}

impl Outgoing {
    /// Takes some of what `h2` writes, and says how much; `out` has what is to be written instead.
    fn rewrite(&mut self, mut bytes: &[u8], extra: &[(u16, u32)], out: &mut BytesMut) -> usize {
        let before = bytes.len();
        loop {
            match self {
                Self::Preface(left) => {
                    *left -= copy(&mut bytes, *left, out);
                    if *left > 0 {
                        break;
                    }
                    *self = Self::Header(BytesMut::new());
                }
                Self::Header(header) => {
                    copy(&mut bytes, FRAME_HEADER - header.len(), header);
                    if header.len() < FRAME_HEADER {
                        break;
                    }
                    let length = (&header[..3]).get_uint(3);
                    let longer = length + (SETTING * extra.len()) as u64;
                    out.put_uint(longer, 3);
                    out.put_slice(&header[3..]);
                    *self = Self::Settings(usize::try_from(length).unwrap_or(0));
                }
                Self::Settings(left) => {
                    *left -= copy(&mut bytes, *left, out);
                    if *left > 0 {
                        break;
                    }
                    for &(id, value) in extra {
                        out.put_u16(id);
                        out.put_u32(value);
                    }
                    *self = Self::Through;
                }
                Self::Through => break,
            }
        }
        before - bytes.len()
    }
}

/// Moves at most `max` bytes, and says how many.
fn copy(from: &mut &[u8], max: usize, to: &mut BytesMut) -> usize {
    let n = from.len().min(max);
    to.put_slice(&from[..n]);
    from.advance(n);
    n
}

/// Where the peer is in what it sends.
#[derive(Debug)]
enum Incoming {
    /// So many bytes are of no interest.
    Skip(usize),
    Header(BytesMut),
    Settings {
        left: usize,
        setting: BytesMut,
    },
}

impl Incoming {
    fn begin_after(skipped: usize) -> Self {
        match skipped {
            0 => Self::Header(BytesMut::new()),
            skipped => Self::Skip(skipped),
        }
    }

    fn read(&mut self, mut bytes: &[u8], peer: &watch::Sender<Peer>) {
        while !bytes.is_empty() {
            match self {
                Self::Skip(left) => {
                    let n = bytes.len().min(*left);
                    bytes.advance(n);
                    *left -= n;
                    if *left == 0 {
                        *self = Self::Header(BytesMut::new());
                    }
                }
                Self::Header(header) => {
                    copy(&mut bytes, FRAME_HEADER - header.len(), header);
                    if header.len() == FRAME_HEADER {
                        *self = Self::begin(header, peer);
                    }
                }
                Self::Settings { left, setting } => {
                    *left -= copy(&mut bytes, (*left).min(SETTING - setting.len()), setting);
                    if setting.len() == SETTING {
                        let (id, value) = (setting.get_u16(), setting.get_u32());
                        peer.send_modify(|peer| peer.settings.set(id, value));
                    }
                    if *left == 0 {
                        *self = Self::Header(BytesMut::new());
                    }
                }
            }
        }
    }

    /// What follows a frame's header.
    fn begin(mut header: &[u8], peer: &watch::Sender<Peer>) -> Self {
        let length = usize::try_from(header.get_uint(3)).unwrap_or(usize::MAX);
        let (kind, flags) = (header.get_u8(), header.get_u8());
        if kind == GOAWAY {
            peer.send_modify(|peer| peer.goaway = true);
        }
        if kind == SETTINGS && flags & ACK == 0 && length > 0 {
            return Self::Settings {
                left: length,
                setting: BytesMut::new(),
            };
        }
        Self::begin_after(length)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Tap<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut *lock(&this.io)).poll_read(cx, buf))?;
        this.incoming.read(&buf.filled()[before..], &this.peer);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> Tap<T> {
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let n = ready!(Pin::new(&mut *lock(&self.io)).poll_write(cx, &self.pending))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tap<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        if matches!(this.outgoing, Outgoing::Through) {
            return Pin::new(&mut *lock(&this.io)).poll_write(cx, bytes);
        }
        let n = this.outgoing.rewrite(bytes, &this.extra, &mut this.pending);
        // What does not leave now leaves before the next write, or with the flush.
        if let Poll::Ready(Err(error)) = this.poll_pending(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !matches!(self.outgoing, Outgoing::Through) {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(cx, first.map_or(&[], |slice| slice));
        }
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        Pin::new(&mut *lock(&this.io)).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.io).is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        Pin::new(&mut *lock(&this.io)).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        Pin::new(&mut *lock(&this.io)).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
