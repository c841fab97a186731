"""The h2 package does the common list over HTTP/2, all sessions of the list on one connection."""

import asyncio
from urllib.parse import urlsplit

from common import order, pattern, perform, same
from h2_connection import connect


class Client:
    def __init__(self, connection):
        self.connection = connection

    async def session(self, item):
        session = await self.connection.ask(item["path"], item["protocols"])
        assert session.response[":status"] == "200", session.response
        return session

    async def end_sessions(self):
        for session in self.connection.sessions.values():
            if not session.closed:
                await self.close_session(session)
        self.connection.sessions.clear()

    async def close_session(self, session, close=None):
        """Closes, and waits until the server has ended its half."""
        session.finish(close)
        return await session.until(lambda: session.closed)

    async def echo(self, session, size):
        stream, sent = await session.open(), pattern(size)
        _, received = await asyncio.gather(session.write(stream, sent, True), session.read(stream))
        return same(sent, received)

    async def bidi(self, item):
        return await self.echo(await self.session(item), item["size"])

    async def uni(self, item):
        session, sent = await self.session(item), pattern(item["size"])
        await session.write(await session.open(uni=True), sent, True)
        await session.until(lambda: session.incoming)
        return same(sent, await session.read(session.incoming[0]))

    async def datagram(self, item):
        session, sent = await self.session(item), pattern(item["size"])
        session.say(0, data=sent)
        await session.until(lambda: session.datagrams)
        return same(sent, session.datagrams[0])

    async def pushed(self, item):
        session = await self.session(item)
        await session.until(lambda: len(session.incoming) == 2)
        both = sorted(session.incoming, key=lambda stream: stream.uni)
        return [(await session.read(stream)).decode() for stream in both]

    async def many(self, item):
        session = await self.session(item)
        return max([await self.echo(session, item["size"]) for _ in range(item["count"])], key=len)

    async def sessions(self, item):
        both = [await self.session(item), await self.session(item)]
        echoes = await asyncio.gather(*(self.echo(session, item["size"]) for session in both))
        await self.close_session(both[0])
        return max([*echoes, await self.echo(both[1], item["size"])], key=len)

    async def asking(self, item):
        """A session, and a stream of it that has sent a byte."""
        session = await self.session(item)
        stream = await session.open()
        await session.write(stream, b"x")
        return session, stream

    async def begun(self, item):
        """The same, when the byte has come back."""
        session, stream = await self.asking(item)
        await session.piece(stream)
        return session, stream

    async def reset(self, item):
        session, stream = await self.begun(item)
        session.reset(stream, item["code"])
        return await self.echo(session, 1)

    async def stop(self, item):
        session, stream = await self.begun(item)
        session.stop(stream, item["code"])
        return await self.echo(session, 1)

    async def read_reset(self, item):
        session, stream = await self.asking(item)
        return await session.read(stream)

    async def read_stop(self, item):
        session, stream = await self.asking(item)
        await session.until(lambda: stream.stopped is not None)
        return stream.stopped

    async def close(self, item):
        session = await self.session(item)
        await self.echo(session, 1)
        await self.close_session(session, (item["code"], item["reason"]))
        return "closed"

    async def read_close(self, item):
        session, _ = await self.asking(item)
        return await session.until(lambda: session.closed)

    async def protocol(self, item):
        return (await self.session(item)).response["wt-protocol"].strip('"')

    async def refused(self, item):
        return int((await self.connection.ask(item["path"])).response[":status"])


async def main():
    asked = order()
    await perform(asked, Client(await connect(urlsplit(asked["url"]).netloc)))


if __name__ == "__main__":
    asyncio.run(main())
