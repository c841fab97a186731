"""aioquic does the common list in a dialect (`d02`, `d07` or `d15`), all sessions of the list on one connection."""

import asyncio
import ssl
import sys
from functools import partial
from urllib.parse import urlsplit

from aioquic.asyncio import connect
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration
from aioquic_dialects import Connection
from common import order, pattern, perform, same


class Client:
    def __init__(self, connection, authority):
        self.connection = connection
        self.authority = authority
        self.open_sessions = set()

    async def ask(self, item):
        return await self.connection.ask(self.authority, item["path"], item["protocols"])

    async def session(self, item):
        id, response = await self.ask(item)
        assert response[b":status"] == b"200", response
        self.open_sessions.add(id)
        return id

    async def end_sessions(self):
        for id in self.open_sessions:
            if not self.connection.sessions[id].closed.done():
                await self.connection.close_session(id)
        self.open_sessions.clear()

    async def echo(self, id, size):
        stream, sent = await self.connection.open(id), pattern(size)
        _, received = await asyncio.gather(self.connection.write(id, stream, sent, True), self.connection.read(stream))
        return same(sent, received)

    async def bidi(self, item):
        return await self.echo(await self.session(item), item["size"])

    async def uni(self, item):
        id, sent = await self.session(item), pattern(item["size"])
        await self.connection.write(id, await self.connection.open(id, uni=True), sent, True)
        return same(sent, await self.connection.read(await self.connection.sessions[id].streams.get()))

    async def datagram(self, item):
        id, sent = await self.session(item), pattern(item["size"])
        reading = asyncio.create_task(self.connection.sessions[id].datagrams.get())
        while not reading.done():  # any datagram may be lost
            self.connection.send_datagram(id, sent)
            await asyncio.wait([reading], timeout=0.2)
        return same(sent, await reading)

    async def pushed(self, item):
        streams = self.connection.sessions[await self.session(item)].streams
        both = sorted([await streams.get(), await streams.get()], key=lambda stream: stream % 4)
        return [(await self.connection.read(stream)).decode() for stream in both]

    async def many(self, item):
        id = await self.session(item)
        return max([await self.echo(id, item["size"]) for _ in range(item["count"])], key=len)

    async def sessions(self, item):
        both = [await self.session(item), await self.session(item)]
        echoes = await asyncio.gather(*(self.echo(id, item["size"]) for id in both))
        await self.connection.close_session(both[0])
        return max([*echoes, await self.echo(both[1], item["size"])], key=len)

    async def begun(self, item):
        """A session, and a stream of it that has carried a byte to and fro."""
        id = await self.session(item)
        stream = await self.connection.open(id)
        await self.connection.write(id, stream, b"x")
        await self.connection.data[stream].get()
        return id, stream

    async def reset(self, item):
        id, stream = await self.begun(item)
        self.connection.reset(stream, item["code"])
        return await self.echo(id, 1)

    async def stop(self, item):
        id, stream = await self.begun(item)
        self.connection.stop(stream, item["code"])
        return await self.echo(id, 1)

    async def read_reset(self, item):
        id = await self.session(item)
        stream = await self.connection.open(id)
        await self.connection.write(id, stream, b"x")
        return await self.connection.read(stream)

    async def read_stop(self, item):
        id = await self.session(item)
        stream = await self.connection.open(id)
        await self.connection.write(id, stream, b"x")
        return await self.connection.stops[stream].get()

    async def close(self, item):
        id = await self.session(item)
        await self.echo(id, 1)
        await self.connection.close_session(id, (item["code"], item["reason"]))
        return "closed"

    async def read_close(self, item):
        id = await self.session(item)
        await self.connection.write(id, await self.connection.open(id), b"x")
        return await self.connection.sessions[id].closed

    async def protocol(self, item):
        _, response = await self.ask(item)
        return response[b"wt-protocol"].decode().strip('"')

    async def refused(self, item):
        _, response = await self.ask(item)
        return int(response[b":status"])


async def main():
    asked = order()
    url = urlsplit(asked["url"])
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN,
        is_client=True,
        verify_mode=ssl.CERT_NONE,
        max_datagram_frame_size=65536,
    )
    async with connect(
        url.hostname,
        url.port,
        configuration=configuration,
        create_protocol=partial(Connection, dialect=sys.argv[1]),
    ) as connection:
        await perform(asked, Client(connection, url.netloc))


asyncio.run(main())
