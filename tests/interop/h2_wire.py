"""What the server puts on the wire over HTTP/2: each item is a connection, and answers what was on it."""

import asyncio
from urllib.parse import urlsplit

import h2_capsules as wire
from common import order, pattern, perform, same
from h2_connection import connect


class Client:
    def __init__(self, authority):
        self.authority = authority

    async def end_sessions(self):
        pass  # each item ends its own

    async def connect(self, item):
        """`ours` are settings of this end that are not the usual ones."""
        ours = {int(id): value for id, value in item.get("ours", {}).items()}
        return await connect(self.authority, ours=ours, draft_15=item.get("draft_15", False))

    async def session(self, item):
        return await (await self.connect(item)).ask(item["path"])

    async def echo(self, session, size):
        """A stream that came back whole, or what came."""
        stream, sent = await session.open(), pattern(size)
        _, received = await asyncio.gather(session.write(stream, sent, True), session.read(stream))
        return same(sent, received), stream

    async def settings(self, item):
        session = await self.session(item)
        return session.connection.frames.settings()

    async def ends(self, item):
        """Whether the bytes came back, the types of the capsules that ended no stream, and of the last."""
        echoed, stream = await self.echo(await self.session(item), item["size"])
        *more, last = stream.kinds
        return [echoed, sorted(set(more)), last]

    async def reset(self, item):
        """The code of the server's reset, and the reliable size in it, of a stream on which a few bytes came."""
        session = await self.session(item)
        stream = await session.open()
        await session.write(stream, pattern(item["size"]))
        await session.until(lambda: stream.receiving.used == item["size"])
        session.reset(stream, item["code"])
        await session.until(lambda: stream.ended is not None)
        return [stream.ended, stream.reliable]

    async def closed(self, item):
        """How the session ended, and what followed CLOSE: the server ends its half before this end says anything."""
        session = await self.session(item)
        await session.write(await session.open(), b"x")
        end = await session.until(lambda: session.closed)
        said, ended = b"", []
        for payload, last in session.connection.frames.data(session.id):
            said += payload
            ended.append(last)
        kinds = []
        while said:
            (kind, _), said = wire.take_capsule(said)
            kinds.append(kind)
        return [end, kinds[-1], kinds.count(wire.CLOSE), ended.index(True) == len(ended) - 1]

    async def close(self, item):
        """How the server answered a close, and whether it said CLOSE itself."""
        session = await self.session(item)
        session.finish((item["code"], "enough"))
        end = await session.until(lambda: session.closed)
        return [end, session.close]

    async def limits(self, item):
        """At which limits of streams the server says that it is held up, while it is granted no more."""
        connection = await self.connect(item)
        granted = {int(id): value for id, value in item["granted"].items()}
        held_up = []
        for path, count in item["paths"]:
            session = await connection.ask(path, fields=[("webtransport-init", item["field"])], ours=granted)
            await session.write(await session.open(), b"x")
            said = lambda: [value for kind, value in session.capsules if kind == wire.STREAM_DATA_BLOCKED]
            await session.until(lambda: len(said()) == count)
            for id, limit in sorted(wire.numbers(value, 2) for value in said()):
                assert session.streams[id].receiving.used == limit, f"{id} is held up before its limit"
                held_up.append([id, limit])
        return held_up

    async def statuses(self, item):
        """The status for each value of the field."""
        connection = await self.connect(item)
        fields = ([("webtransport-init", value)] for value in item["values"])
        sessions = [await connection.ask(item["path"], fields=one) for one in fields]
        return [int(session.response[":status"]) for session in sessions]

    async def goes_away(self, item):
        """Whether a session goes on after this end's GOAWAY."""
        session = await self.session(item)
        session.connection.go_away()
        echoed, _ = await self.echo(session, 1)
        session.finish()
        await session.until(lambda: session.closed)
        return echoed

    async def goaway(self, item):
        """The codes of the server's GOAWAY frames, whether they leave the session out, and whether it went on."""
        session = await self.session(item)
        frames = session.connection.frames
        await session.until(frames.goaways)
        echoed, _ = await self.echo(session, 1)
        session.finish()
        await session.connection.until_lost()
        said = frames.goaways()
        return [sorted({code for _, code in said}), any(last < session.id for last, _ in said), echoed]


async def main():
    asked = order()
    await perform(asked, Client(urlsplit(asked["url"]).netloc))


asyncio.run(main())
