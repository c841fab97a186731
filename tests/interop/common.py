"""What the Python clients share: the list of items comes on standard input, one line of JSON for each goes out.

The input is `{"url": …, "items": [{"item": …, "do": …, …}]}`; a line is `{"item": …, "saw": …}`, or `{"item": …,
"error": …}` where the client got no further. What should have been seen is for the test to say.
"""

import asyncio
import json
import sys

# What no single item may exceed.
PATIENCE = 20


async def perform(order, client):
    """Asks the client for each item in turn."""
    for item in order["items"]:
        line = {"item": item["item"]}
        try:
            async with asyncio.timeout(PATIENCE):
                line["saw"] = await getattr(client, item["do"])(item)
        except Exception as error:
            line["error"] = f"{type(error).__name__}: {error}"
        await client.end_sessions()
        print(json.dumps(line), flush=True)


def order():
    """What the test asks for."""
    return json.load(sys.stdin)


def pattern(size):
    """Bytes that show what was lost or repeated."""
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


def same(sent, received):
    """What an item answers that expects its bytes back."""
    return "same" if sent == received else f"{len(received)} other bytes"
