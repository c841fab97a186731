"""A connection over HTTP/2 that carries sessions: TLS, frames and requests by the h2 package, the rest beside it."""

import asyncio
import ssl
import struct

import h2_capsules as wire
import hyperframe.frame
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from h2.settings import Settings
from h2_session import Session

# A window that the list exceeds, so that nothing passes without new credit.
WINDOW = 1 << 18
SETTINGS = {
    wire.INITIAL_MAX_DATA: WINDOW,
    wire.INITIAL_MAX_STREAM_DATA_UNI: WINDOW,
    wire.INITIAL_MAX_STREAM_DATA_BIDI_LOCAL: WINDOW,
    wire.INITIAL_MAX_STREAM_DATA_BIDI_REMOTE: WINDOW,
    wire.INITIAL_MAX_STREAMS_UNI: 8,
    wire.INITIAL_MAX_STREAMS_BIDI: 8,
}


def _settings_body(self):
    return b"".join(struct.pack(">HL", int(id), value) for id, value in self.settings.items())


# hyperframe writes the low 8 bits of a setting's id; WebTransport's have 16.
hyperframe.frame.SettingsFrame.serialize_body = _settings_body


class Connection(asyncio.Protocol):
    """`settings` are the server's; `ours` are this end's."""

    def __init__(self, authority, ours=None, draft_15=False):
        self.authority = authority
        self.ours = {**SETTINGS, **(ours or {})}
        # The types of WT_STREAM: one that goes on, one that ends.
        self.kinds = wire.STREAM_TYPES[::-1] if draft_15 else wire.STREAM_TYPES
        self.frames = wire.Frames()
        self.sessions = {}
        self.settings = {}
        self.lost = False
        self.changed = asyncio.Event()

    async def news(self):
        await self.changed.wait()

    def tell(self):
        self.changed.set()
        self.changed = asyncio.Event()

    async def until(self, found):
        while not (result := found()):
            assert not self.lost, "the connection is lost"
            await self.news()
        return result

    async def until_lost(self):
        while not self.lost:
            await self.news()

    def connection_made(self, transport):
        self.transport = transport
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.http.local_settings = Settings(client=True, initial_values={2: 0, 4: WINDOW, **self.ours})
        self.http.initiate_connection()
        self.flush()

    def connection_lost(self, _):
        self.lost = True
        self.end_all("lost")
        self.tell()

    def end_all(self, why):
        for session in self.sessions.values():
            session.closed = session.closed or why

    def data_received(self, data):
        try:
            for event in self.http.receive_data(self.frames.receive(data)):
                self.on_event(event)
        except (AssertionError, ProtocolError, KeyError) as fault:
            for session in self.sessions.values():
                session.fault = session.fault or fault
        self.flush()
        self.tell()

    def on_event(self, event):
        session = self.sessions.get(getattr(event, "stream_id", None))
        match event:
            case RemoteSettingsChanged():
                self.settings.update((int(id), change.new_value) for id, change in event.changed_settings.items())
            case ResponseReceived():
                session.response = dict(event.headers)
            case DataReceived():
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                session.receive(event.data)
            case StreamEnded():
                assert not session.unread, "the session ends within a capsule"
                session.closed = session.close or [0, ""]
                session.finish()
            case StreamReset():
                session.closed = ["reset", int(event.error_code)]

    def flush(self):
        """Sends what the windows of HTTP/2 allow."""
        for id, session in self.sessions.items():
            try:
                self.flush_session(id, session)
            except ProtocolError:  # the stream is closed, or the connection
                session.waiting, session.ending = b"", False
        self.transport.write(self.http.data_to_send())

    def flush_session(self, id, session):
        while session.waiting:
            size = min(self.http.local_flow_control_window(id), self.http.max_outbound_frame_size)
            if size <= 0:
                return
            self.http.send_data(id, session.waiting[:size])
            session.waiting = session.waiting[size:]
        if session.ending:
            session.ending = False
            self.http.end_stream(id)

    async def ask(self, path, protocols=(), fields=(), ours=None):
        """Asks for a session. `ours` is what it is granted, where a field says more than the settings."""
        await self.until(lambda: wire.INITIAL_MAX_DATA in self.settings)
        id = self.http.get_next_available_stream_id()
        self.sessions[id] = session = Session(self, id, {**self.ours, **(ours or {})})
        headers = [
            (":method", "CONNECT"),
            (":protocol", "webtransport"),
            (":scheme", "https"),
            (":authority", self.authority),
            (":path", path),
            *fields,
        ]
        if protocols:
            headers.append(("wt-available-protocols", ", ".join(f'"{protocol}"' for protocol in protocols)))
        self.http.send_headers(id, headers)
        self.flush()
        await session.until(lambda: session.response)
        return session

    def go_away(self):
        """Says GOAWAY, and goes on: the library would send nothing after it."""
        self.transport.write(hyperframe.frame.GoAwayFrame(0).serialize())


async def connect(authority, **more):
    """A connection, its server's certificate taken as it is."""
    host, port = authority.rsplit(":", 1)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(authority, **more), host.strip("[]"), int(port), ssl=context
    )
    return connection
