//! What a guest writes to its standard output and error: lines in the log, so many and no longer than allowed.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use super::{Label, Limits};

/// What one write may hold.
const WRITE_MAX: usize = 64 << 10;

/// One of a guest's two output streams.
#[derive(Clone, Debug)]
pub(super) struct Output {
    lines: Arc<Mutex<Lines>>,
}

impl Output {
    pub(super) fn new(name: &'static str, label: &Arc<Label>, limits: &Limits) -> Self {
        Self {
            lines: Arc::new(Mutex::new(Lines {
                name,
                label: label.clone(),
                length_max: limits.log_line,
                rate_max: limits.log_rate,
                line: Vec::new(),
                cut: false,
                second: Instant::now(),
                written: 0,
                dropped: 0,
            })),
        }
    }

    /// Has the lines that end from now on told as that label's.
    pub(super) fn speak_for(&self, label: &Arc<Label>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&lines.label, label) {
            lines.label = label.clone();
        }
    }

    fn write(&self, bytes: &[u8]) {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes);
    }
}

#[derive(Debug)]
struct Lines {
    name: &'static str,
    label: Arc<Label>,
    length_max: usize,
    rate_max: u32,
    line: Vec<u8>,
    cut: bool,
    second: Instant,
    written: u32,
    dropped: u64,
}

impl Lines {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = self.length_max.saturating_sub(self.line.len());
            self.cut |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let cut = if std::mem::take(&mut self.cut) {
            " [line cut]"
        } else {
            ""
        };
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.tell_dropped();
            self.second = Instant::now();
            self.written = 0;
        }
        if self.written >= self.rate_max {
            self.dropped += 1;
            self.label.stats.log_lines_dropped(1);
            return;
        }
        self.written += 1;
        self.log(&format!("{}{cut}", String::from_utf8_lossy(&line)));
    }

    fn tell_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            self.log(&format!(
                "[{dropped} lines dropped: more than {} in a second]",
                self.rate_max
            ));
        }
    }

    fn log(&self, line: &str) {
        let Label {
            session,
            tenant,
            route,
            path,
            ..
        } = &*self.label;
        tracing::info!(
            target: "wharf::guest",
            session,
            tenant = &**tenant,
            route = &**route,
            path = path.as_str(),
            stream = self.name,
            "{line}"
        );
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.tell_dropped();
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_MAX {
            return Err(StreamError::trap("a write larger than permitted"));
        }
        Self::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Self::write(&self, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
