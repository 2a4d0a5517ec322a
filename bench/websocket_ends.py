"""The two ends of the WebSockets in bench/suites.py. Runs in the suite's own environment, which has ``websockets``.

``serve PORT`` answers every message with itself. ``ask URL`` connects to a suite's server as often as it has cases,
and does the same with what it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import WebSocketException

if TYPE_CHECKING:
    from websockets.asyncio.connection import Connection

AGENT = "end"

LIMITS = {"max_size": None, "ping_interval": None, "close_timeout": 2}
"""Nothing of its own disturbs a case, and no message is too long for it."""


async def echo(socket: Connection) -> None:
    """Say back what is said."""
    async for message in socket:
        await socket.send(message)


async def answer(port: int) -> None:
    """Serve until the process ends."""
    async with serve(echo, "127.0.0.1", port, **LIMITS):
        await asyncio.Future()


async def ask(url: str) -> None:
    """Go through all cases, and have the report written."""
    async with connect(f"{url}/getCaseCount", **LIMITS) as socket:
        count = int(await socket.recv())
    for case in range(1, count + 1):
        with contextlib.suppress(WebSocketException, OSError):
            async with connect(f"{url}/runCase?case={case}&agent={AGENT}", **LIMITS) as socket:
                await echo(socket)
    with contextlib.suppress(WebSocketException, OSError):
        async with connect(f"{url}/updateReports?agent={AGENT}", **LIMITS) as socket:
            await socket.wait_closed()


if __name__ == "__main__":
    asyncio.run(answer(int(sys.argv[2])) if sys.argv[1] == "serve" else ask(sys.argv[2]))
