"""The bytes of WebTransport over HTTP/2, after the draft: numbers, capsules, and the frames that carry them."""

import struct

DATAGRAM, CLOSE, DRAIN = 0x00, 0x2843, 0x78AE
RESET_STREAM, STOP_SENDING = 0x190B4D39, 0x190B4D3A
# Up to draft 14, and in every implementation, the second ends a stream; in draft 15 the first does.
STREAM_TYPES = 0x190B4D3B, 0x190B4D3C
MAX_DATA, MAX_STREAM_DATA = 0x190B4D3D, 0x190B4D3E
MAX_STREAMS_BIDI, MAX_STREAMS_UNI = 0x190B4D3F, 0x190B4D40
DATA_BLOCKED, STREAM_DATA_BLOCKED = 0x190B4D41, 0x190B4D42
STREAMS_BLOCKED_BIDI, STREAMS_BLOCKED_UNI = 0x190B4D43, 0x190B4D44

ENABLE_CONNECT_PROTOCOL, WT_ENABLED = 0x08, 0x2B60
INITIAL_MAX_DATA = 0x2B61
INITIAL_MAX_STREAM_DATA_UNI = 0x2B62
INITIAL_MAX_STREAM_DATA_BIDI_LOCAL, INITIAL_MAX_STREAM_DATA_BIDI_REMOTE = 0x2B63, 0x2B66
INITIAL_MAX_STREAMS_UNI, INITIAL_MAX_STREAMS_BIDI = 0x2B64, 0x2B65

DATA_FRAME, SETTINGS_FRAME, GOAWAY_FRAME = 0x0, 0x4, 0x7
ACK = END_STREAM = 0x1


def number(value):
    """A variable-length integer of QUIC."""
    for size, prefix in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if value < 1 << (8 * size - 2):
            return (value | prefix << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(value)


def take_number(data):
    """The integer at the beginning, and what follows; None where not all of it is there."""
    if not data:
        return None, data
    size = 1 << (data[0] >> 6)
    if len(data) < size:
        return None, data
    return int.from_bytes(data[:size], "big") & ((1 << (8 * size - 2)) - 1), data[size:]


def numbers(value, count):
    """A value that is integers, and so many of them exactly."""
    found = []
    for _ in range(count):
        one, value = take_number(value)
        assert one is not None, "a capsule ends too early"
        found.append(one)
    assert not value, "a capsule has more than it should"
    return found


def capsule(kind, value):
    return number(kind) + number(len(value)) + value


def take_capsule(data):
    """The type and the value of the capsule at the beginning, and what follows; None where not all of it is there."""
    kind, rest = take_number(data)
    size, rest = take_number(rest) if kind is not None else (None, rest)
    if size is None or len(rest) < size:
        return None, data
    return (kind, rest[:size]), rest[size:]


class Frames:
    """The frames of a connection, read beside the library: type, flags, stream and payload of each."""

    def __init__(self):
        self.all = []
        self.rest = b""

    def receive(self, data):
        """Takes what came, and gives what the library may see: after a GOAWAY it would take nothing more."""
        self.rest += data
        whole = b""
        while len(self.rest) >= 9 + (size := int.from_bytes(self.rest[:3], "big")):
            kind, flags, stream = struct.unpack(">BBL", self.rest[3:9])
            self.all.append((kind, flags, stream & 0x7FFFFFFF, self.rest[9 : 9 + size]))
            if kind != GOAWAY_FRAME:
                whole += self.rest[: 9 + size]
            self.rest = self.rest[9 + size :]
        return whole

    def goaways(self):
        """The last stream and the code of each GOAWAY."""
        return [list(struct.unpack(">LL", payload[:8])) for kind, _, _, payload in self.all if kind == GOAWAY_FRAME]

    def settings(self):
        """Each SETTINGS frame that is no acknowledgement, as pairs."""
        return [
            [list(pair) for pair in struct.iter_unpack(">HL", payload)]
            for kind, flags, _, payload in self.all
            if kind == SETTINGS_FRAME and not flags & ACK
        ]

    def data(self, stream):
        """The DATA frames of a stream: payload, and whether it ends the stream. None of them is padded."""
        return [
            (payload, bool(flags & END_STREAM))
            for kind, flags, of, payload in self.all
            if kind == DATA_FRAME and of == stream
        ]
