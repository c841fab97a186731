"""A session over HTTP/2 in the client's role, with honest flow control: the server is held to what it was granted.

What the server must not do is a fault, and whoever waits for anything of the session then fails with it.
"""

import h2_capsules as wire
from h2_capsules import number, numbers

# Of one WT_STREAM capsule.
PIECE = 1 << 14
# What may wait for HTTP/2's own windows.
WAITING = 1 << 16
MAX_STREAMS = {False: wire.MAX_STREAMS_BIDI, True: wire.MAX_STREAMS_UNI}
STREAMS_BLOCKED = {False: wire.STREAMS_BLOCKED_BIDI, True: wire.STREAMS_BLOCKED_UNI}
INITIAL_MAX_STREAMS = {False: wire.INITIAL_MAX_STREAMS_BIDI, True: wire.INITIAL_MAX_STREAMS_UNI}


class Allowance:
    """How much of something an end may use, and has."""

    def __init__(self, limit):
        self.limit = self.window = limit
        self.used = 0
        self.blocked_at = None

    @property
    def left(self):
        return self.limit - self.used

    def use(self, amount):
        self.used += amount
        assert self.left >= 0, f"{self.used} used of {self.limit} granted"

    def raised(self, limit):
        assert limit >= self.limit, f"a limit fell from {self.limit} to {limit}"
        self.limit = limit

    def freed(self, unread):
        """The new limit, when half a window was read that may be granted again."""
        limit = self.used - unread + self.window
        if (limit - self.limit) * 2 < self.window:
            return None
        self.limit = limit
        return limit


class Stream:
    def __init__(self, id, sending, receiving):
        self.id = id
        self.uni = bool(id & 2)
        self.ours = not id & 1
        self.sending = Allowance(sending)
        self.receiving = Allowance(receiving)
        self.arrived = b""
        self.sends = self.ours or not self.uni
        # How the server ended it: True for the end, a code for a reset.
        self.ended = None if not (self.ours and self.uni) else True
        self.stopped = None
        # The types of its WT_STREAM capsules, and the size that a reset named.
        self.kinds = []
        self.reliable = None


class Session:
    def __init__(self, connection, id, ours):
        theirs = connection.settings
        self.connection = connection
        self.id = id
        self.ours = ours
        self.response = self.close = self.closed = self.fault = None
        self.draining = self.ending = False
        self.datagrams = []
        # Streams of the server that nobody has taken yet.
        self.incoming = []
        self.streams = {}
        # Every capsule but those of streams' data, as it came.
        self.capsules = []
        self.unread = self.waiting = b""
        self.sending = Allowance(theirs[wire.INITIAL_MAX_DATA])
        self.receiving = Allowance(ours[wire.INITIAL_MAX_DATA])
        self.opening = {uni: Allowance(theirs[id]) for uni, id in INITIAL_MAX_STREAMS.items()}
        self.accepting = {uni: Allowance(ours[id]) for uni, id in INITIAL_MAX_STREAMS.items()}

    async def until(self, found):
        """What is found, as soon as it is."""
        while not (result := found()) or self.fault:
            if self.fault:
                raise self.fault
            assert not self.closed, f"the session has ended: {self.closed}"
            await self.connection.news()
        return result

    def add(self, id):
        mine, peers = wire.INITIAL_MAX_STREAM_DATA_BIDI_LOCAL, wire.INITIAL_MAX_STREAM_DATA_BIDI_REMOTE
        if id & 2:
            mine = peers = wire.INITIAL_MAX_STREAM_DATA_UNI
        elif id & 1:
            mine, peers = peers, mine
        self.streams[id] = Stream(id, self.connection.settings[peers], self.ours[mine])
        return self.streams[id]

    # What this end does.

    def say(self, kind, *values, data=b""):
        self.waiting += wire.capsule(kind, b"".join(map(number, values)) + data)
        self.connection.flush()

    def blocked(self, allowance, kind, *values):
        """Says of each limit once that it is reached."""
        if not allowance.left and allowance.blocked_at != allowance.limit:
            allowance.blocked_at = allowance.limit
            self.say(kind, *values, allowance.limit)

    async def open(self, uni=False):
        allowance = self.opening[uni]
        self.blocked(allowance, STREAMS_BLOCKED[uni])
        await self.until(lambda: allowance.left)
        stream = self.add(4 * allowance.used + 2 * uni)
        allowance.use(1)
        return stream

    async def write(self, stream, data, fin=False):
        while data or fin:
            if data:
                self.blocked(self.sending, wire.DATA_BLOCKED)
                self.blocked(stream.sending, wire.STREAM_DATA_BLOCKED, stream.id)
                await self.until(lambda: min(self.sending.left, stream.sending.left))
            piece = data[: min(PIECE, self.sending.left, stream.sending.left)]
            data = data[len(piece) :]
            last = fin and not data
            self.sending.use(len(piece))
            stream.sending.use(len(piece))
            self.say(self.connection.kinds[last], stream.id, data=piece)
            if last:
                return self.sent_all(stream)
            await self.until(lambda: len(self.waiting) < WAITING)

    def sent_all(self, stream):
        stream.sends = False
        self.is_over(stream)

    def reset(self, stream, code):
        self.say(wire.RESET_STREAM, stream.id, code, stream.sending.used)
        self.sent_all(stream)

    def stop(self, stream, code):
        self.say(wire.STOP_SENDING, stream.id, code)

    async def piece(self, stream):
        """What has come on a stream; nothing at its end."""
        await self.until(lambda: stream.arrived or stream.ended is not None)
        piece, stream.arrived = stream.arrived, b""
        self.give_back(stream)
        return piece

    async def read(self, stream):
        """The bytes up to the end, or the code of a reset."""
        received = b""
        while piece := await self.piece(stream):
            received += piece
        return received if stream.ended is True else stream.ended

    def finish(self, close=None):
        """Ends this end's half of the session, with a code and a reason or without."""
        if close:
            self.say(wire.CLOSE, data=close[0].to_bytes(4, "big") + close[1].encode())
        self.ending = True
        self.connection.flush()

    # Credit for what was read, and for streams that are over.

    def give_back(self, stream):
        if self.closed:
            return
        if stream.ended is None and (limit := stream.receiving.freed(len(stream.arrived))):
            self.say(wire.MAX_STREAM_DATA, stream.id, limit)
        unread = sum(len(stream.arrived) for stream in self.streams.values())
        if limit := self.receiving.freed(unread):
            self.say(wire.MAX_DATA, limit)

    def is_over(self, stream):
        if not stream.ours and not stream.sends and stream.ended is not None and not self.closed:
            accepting = self.accepting[stream.uni]
            accepting.limit += 1
            self.say(MAX_STREAMS[stream.uni], accepting.limit)

    # What the server does.

    def receive(self, data):
        self.unread += data
        while True:
            found, self.unread = wire.take_capsule(self.unread)
            if found is None:
                return
            assert not self.close, "a capsule comes after CLOSE"
            kind, value = found
            if kind in self.connection.kinds:
                self.on_stream(kind, value)
            else:
                self.capsules.append(found)
                self.on_capsule(kind, value)

    def on_stream(self, kind, value):
        id, data = wire.take_number(value)
        stream = self.known(id)
        assert stream.ended is None, f"data comes after the end of stream {id}"
        stream.kinds.append(kind)
        stream.receiving.use(len(data))
        self.receiving.use(len(data))
        stream.arrived += data
        if kind == self.connection.kinds[True]:
            stream.ended = True
            self.is_over(stream)

    def on_capsule(self, kind, value):
        match kind:
            case wire.DATAGRAM:
                self.datagrams.append(value)
            case wire.CLOSE:
                self.close = [int.from_bytes(value[:4], "big"), value[4:].decode()]
            case wire.DRAIN:
                assert not value, "DRAIN has a value"
                self.draining = True
            case wire.MAX_DATA:
                self.sending.raised(*numbers(value, 1))
            case wire.MAX_STREAMS_BIDI | wire.MAX_STREAMS_UNI:
                self.opening[kind == wire.MAX_STREAMS_UNI].raised(*numbers(value, 1))
            case wire.MAX_STREAM_DATA:
                id, limit = numbers(value, 2)
                self.known(id).sending.raised(limit)
            case wire.RESET_STREAM:
                id, code, size = numbers(value, 3)
                stream = self.known(id)
                assert stream.ended is None, f"a reset comes after the end of stream {id}"
                assert size == stream.receiving.used, f"{size} bytes before a reset, {stream.receiving.used} came"
                stream.ended, stream.reliable = code, size
                self.is_over(stream)
            case wire.STOP_SENDING:
                id, code = numbers(value, 2)
                stream = self.known(id)
                stream.stopped = code
                if stream.sends:
                    self.reset(stream, code)

    def known(self, id):
        """A stream that there is. One of the server's opens all before it."""
        uni, accepting = bool(id & 2), self.accepting[bool(id & 2)]
        while id & 1 and id not in self.streams:
            self.incoming.append(self.add(4 * accepting.used + 2 * uni + 1))
            accepting.use(1)
        return self.streams[id]
