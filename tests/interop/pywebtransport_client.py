"""pywebtransport does the common list: the newest draft, and all sessions of the list on one connection."""

import asyncio
import ssl
from urllib.parse import urlsplit

from common import order, pattern, perform, same
from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import SessionError, StreamError
from pywebtransport.types import EventType


class Client:
    def __init__(self, connection, authority):
        self.connection = connection
        self.authority = authority
        self.sessions_open = []

    async def session(self, item, protocols=None):
        session = await self.connection.create_session(
            authority=self.authority, path=item["path"], wt_available_protocols=protocols
        )
        self.sessions_open.append(session)
        return session

    async def end_sessions(self):
        while self.sessions_open:
            await self.sessions_open.pop().close()

    async def echo(self, session, size):
        stream, sent = await session.create_bidirectional_stream(), pattern(size)
        writing = asyncio.create_task(stream.write_all(data=sent, end_stream=True))
        received = await stream.read_all()
        await writing
        return same(sent, received)

    async def bidi(self, item):
        return await self.echo(await self.session(item), item["size"])

    async def uni(self, item):
        session, sent = await self.session(item), pattern(item["size"])
        stream = await session.create_unidirectional_stream()
        await stream.write_all(data=sent, end_stream=True)
        answer = await anext(session.incoming_unidirectional_streams())
        return same(sent, await answer.read_all())

    async def datagram(self, item):
        session, sent = await self.session(item), pattern(item["size"])
        reading = asyncio.create_task(session.read_datagram())
        while not reading.done():  # any datagram may be lost
            await session.send_datagram(data=sent)
            await asyncio.wait([reading], timeout=0.2)
        return same(sent, await reading)

    async def pushed(self, item):
        session = await self.session(item)
        bidi = await anext(session.incoming_bidirectional_streams())
        uni = await anext(session.incoming_unidirectional_streams())
        return [(await stream.read_all()).decode() for stream in (bidi, uni)]

    async def many(self, item):
        session = await self.session(item)
        echoes = [await self.echo(session, item["size"]) for _ in range(item["count"])]
        return max(echoes, key=len)

    async def sessions(self, item):
        both = [await self.session(item), await self.session(item)]
        echoes = await asyncio.gather(*(self.echo(session, item["size"]) for session in both))
        await both[0].close()
        return max([*echoes, await self.echo(both[1], item["size"])], key=len)

    async def begun(self, item):
        """A session, and a stream of it that has carried a byte to and fro."""
        session = await self.session(item)
        stream = await session.create_bidirectional_stream()
        await stream.write(data=b"x")
        await stream.read()
        return session, stream

    async def reset(self, item):
        session, stream = await self.begun(item)
        await stream.reset(error_code=item["code"])
        return await self.echo(session, 1)

    async def stop(self, item):
        session, stream = await self.begun(item)
        await stream.stop_receiving(error_code=item["code"])
        return await self.echo(session, 1)

    async def read_reset(self, item):
        stream = await (await self.session(item)).create_bidirectional_stream()
        await stream.write(data=b"x")
        try:
            return (await stream.read()).decode()
        except StreamError as error:
            return error.error_code

    async def read_stop(self, item):
        stream = await (await self.session(item)).create_bidirectional_stream()
        stopped = waiting(stream, EventType.STREAM_STOP_SENDING_RECEIVED)
        await stream.write(data=b"x")
        return (await stopped)["error_code"]

    async def close(self, item):
        session = await self.session(item)
        await self.echo(session, 1)
        await session.close(error_code=item["code"], reason=item["reason"])
        return "closed"

    async def read_close(self, item):
        session = await self.session(item)
        closed = waiting(session, EventType.SESSION_CLOSED)
        stream = await session.create_bidirectional_stream()
        await stream.write(data=b"x")
        event = await closed
        return [event["error_code"], event["reason"]]

    async def protocol(self, item):
        return (await self.session(item, item["protocols"])).wt_protocol

    async def refused(self, item):
        try:
            await self.session(item)
        except SessionError:
            return "refused"
        return "accepted"


def waiting(source, event_type):
    """What the next event of that type will bring. Listens from now on."""
    data = asyncio.get_running_loop().create_future()
    source.events.once(event_type=event_type, handler=lambda event: data.set_result(event.data))
    return data


async def main():
    asked = order()
    # It counts a session for some seconds after its end.
    config = ClientConfig(verify_mode=ssl.CERT_NONE, max_sessions=100)
    async with WebTransportClient(config=config) as client:
        first = await client.connect(url=asked["url"] + "/echo/first", timeout=5)
        await perform(asked, Client(first.connection, urlsplit(asked["url"]).netloc))


asyncio.run(main())
