"""What aioquic lacks of WebTransport, in the dialects of the drafts 02, 07 and 15.

aioquic knows its streams and datagrams, no more. SETTINGS, capsules, credit and codes are written here, after the
drafts.
"""

import asyncio
import sys
from collections import defaultdict

from aioquic.asyncio import QuicConnectionProtocol
from aioquic.buffer import Buffer, BufferReadError, encode_uint_var
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import (
    DataReceived,
    DatagramReceived,
    HeadersReceived,
    WebTransportStreamDataReceived,
)
from aioquic.quic.events import ProtocolNegotiated, StopSendingReceived, StreamReset

H3_DATAGRAM = 0x33
WT_ENABLED, WT_INITIAL_MAX_DATA = 0x2C7CF000, 0x2B61
WT_INITIAL_MAX_STREAMS_UNI, WT_INITIAL_MAX_STREAMS_BIDI = 0x2B64, 0x2B65
SETTINGS = {
    "d02": {H3_DATAGRAM: 1, 0x2B603742: 1},
    "d07": {H3_DATAGRAM: 1, 0xC671706A: 1},
    # As much credit as the list needs: of what this client receives it keeps no account.
    "d15": {
        H3_DATAGRAM: 1,
        WT_ENABLED: 1,
        WT_INITIAL_MAX_DATA: 1 << 24,
        WT_INITIAL_MAX_STREAMS_UNI: 100,
        WT_INITIAL_MAX_STREAMS_BIDI: 100,
    },
}
CLOSE, MAX_DATA, MAX_STREAMS_BIDI, MAX_STREAMS_UNI = 0x2843, 0x190B4D3D, 0x190B4D3F, 0x190B4D40
FIRST_CODE = 0x52E4A40FA8DB


def to_http3(code):
    return FIRST_CODE + code + code // 0x1E


def from_http3(code):
    shifted = code - FIRST_CODE
    return shifted - shifted // 0x1F


class Session:
    """What has come for a session, and what it may send."""

    def __init__(self, initial):
        self.response = asyncio.get_running_loop().create_future()
        self.closed = asyncio.get_running_loop().create_future()
        self.datagrams = asyncio.Queue()
        self.streams = asyncio.Queue()
        self.capsules = b""
        self.close = None
        # By the capsule that raises it.
        self.limits = dict(initial)
        self.used = defaultdict(int)
        self.raised = asyncio.Event()

    def receive(self, data, ended):
        self.capsules += data
        buffer = Buffer(data=self.capsules)
        try:
            while not buffer.eof():
                kind, value = buffer.pull_uint_var(), buffer.pull_bytes(buffer.pull_uint_var())
                self.capsules = self.capsules[buffer.tell() :]
                buffer = Buffer(data=self.capsules)
                self.capsule(kind, value)
        except BufferReadError:
            pass  # the rest is still to come
        if ended and not self.closed.done():
            self.closed.set_result(self.close or [0, ""])

    def capsule(self, kind, value):
        if kind in self.limits:
            self.limits[kind] = Buffer(data=value).pull_uint_var()
            self.raised.set()
        elif kind == CLOSE:
            self.close = [int.from_bytes(value[:4], "big"), value[4:].decode()]

    async def credit(self, kind, wanted):
        """Takes credit, at least 1 and at most what is wanted, as soon as there is any."""
        while (left := self.limits.get(kind, sys.maxsize) - self.used[kind]) <= 0:
            self.raised.clear()
            await self.raised.wait()
        taken = min(left, wanted)
        self.used[kind] += taken
        return taken


class Http3(H3Connection):
    def __init__(self, quic, dialect):
        self.dialect = dialect
        super().__init__(quic, enable_webtransport=True)

    def _get_local_settings(self):
        return SETTINGS[self.dialect]


class Connection(QuicConnectionProtocol):
    def __init__(self, *arguments, dialect, **more):
        super().__init__(*arguments, **more)
        self.dialect = dialect
        self.http = None
        self.settled = asyncio.Event()
        self.sessions = {}
        self.data = defaultdict(asyncio.Queue)
        self.stops = defaultdict(asyncio.Queue)

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = Http3(self._quic, self.dialect)
        if isinstance(event, StreamReset):
            self.data[event.stream_id].put_nowait((from_http3(event.error_code), True))
        elif isinstance(event, StopSendingReceived):
            self.stops[event.stream_id].put_nowait(from_http3(event.error_code))
        for event in self.http.handle_event(event) if self.http else ():
            self.http_event_received(event)
        if self.http and self.http.received_settings:
            self.settled.set()

    def http_event_received(self, event):
        match event:
            case HeadersReceived():
                self.sessions[event.stream_id].response.set_result(dict(event.headers))
            case DatagramReceived():
                self.sessions[event.stream_id].datagrams.put_nowait(event.data)
            case DataReceived():
                self.sessions[event.stream_id].receive(event.data, event.stream_ended)
            case WebTransportStreamDataReceived():
                if event.stream_id % 2 == 1 and event.stream_id not in self.data:
                    self.sessions[event.session_id].streams.put_nowait(event.stream_id)
                self.data[event.stream_id].put_nowait((event.data, event.stream_ended))

    async def ask(self, authority, path, protocols):
        """Asks for a session; its id and the response."""
        await self.settled.wait()
        theirs = self.http.received_settings
        flow_control = {
            MAX_DATA: theirs[WT_INITIAL_MAX_DATA],
            MAX_STREAMS_BIDI: theirs[WT_INITIAL_MAX_STREAMS_BIDI],
            MAX_STREAMS_UNI: theirs[WT_INITIAL_MAX_STREAMS_UNI],
        }
        newest = self.dialect == "d15"
        id = self._quic.get_next_available_stream_id()
        self.sessions[id] = session = Session(flow_control if newest else {})
        headers = [
            (b":method", b"CONNECT"),
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
            (b":protocol", b"webtransport-h3" if newest else b"webtransport"),
        ]
        if self.dialect == "d02":
            headers.append((b"sec-webtransport-http3-draft02", b"1"))
        if protocols:
            offer = ", ".join(f'"{protocol}"' for protocol in protocols)
            headers.append((b"wt-available-protocols", offer.encode()))
        self.http.send_headers(id, headers)
        self.transmit()
        return id, await session.response

    async def open(self, id, uni=False):
        await self.sessions[id].credit(MAX_STREAMS_UNI if uni else MAX_STREAMS_BIDI, 1)
        stream = self.http.create_webtransport_stream(id, uni)
        if not uni:  # or it would take the answer for HTTP/3 frames
            with self.http._get_or_create_stream(stream) as state:
                state.frame_type, state.session_id = 0x41, id
        self.transmit()
        return stream

    async def write(self, id, stream, data, fin=False):
        while data:
            size = await self.sessions[id].credit(MAX_DATA, len(data))
            self._quic.send_stream_data(stream, data[:size], fin and size == len(data))
            self.transmit()
            data = data[size:]

    async def read(self, stream):
        """The bytes up to the end, or the code of a reset."""
        received = b""
        while True:
            data, ended = await self.data[stream].get()
            if isinstance(data, int):
                return data
            received += data
            if ended:
                return received

    def reset(self, stream, code):
        self._quic.reset_stream(stream, to_http3(code))
        self.transmit()

    def stop(self, stream, code):
        self._quic.stop_stream(stream, to_http3(code))
        self.transmit()

    def send_datagram(self, id, data):
        self.http.send_datagram(id, data)
        self.transmit()

    async def close_session(self, id, close=None):
        """Closes with a code and a reason, or without, and waits until the server has ended its half."""
        capsule = b""
        if close:
            value = close[0].to_bytes(4, "big") + close[1].encode()
            capsule = encode_uint_var(CLOSE) + encode_uint_var(len(value)) + value
        self.http.send_data(id, capsule, end_stream=True)
        self.transmit()
        await self.sessions[id].closed
