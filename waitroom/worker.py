"""One worker: an event loop, the rooms' views, and the wire on an inherited socket.

Started by the supervisor as ``python -m waitroom.worker LISTENING-FD CONTROL-FD``, and by nobody else. It ends when it
is told (SIGTERM: no new connections, what is in flight finishes within ``drain_timeout``) or when the supervisor is
gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from waitroom import logs
from waitroom.build import build
from waitroom.errors import StartError
from waitroom.supervisor import BACKLOG, BEAT, BEAT_S, CANNOT_START, READY, read_orders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waitroom.supervisor import Orders

logger = logging.getLogger("waitroom.worker")


FILES_BESIDE = 1_280
"""Open files beside the clients' connections, for each origin: the connections to it that are kept, and some to spare
for those who are told that there are too many.

How many connections to an origin are in use at once is the shop's pace, not ours; it is far below the crowd's.
"""


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, which would end the process by the signal instead of with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the worker."""
        yield


async def serve(orders: Orders, listening: socket.socket, control: socket.socket) -> None:
    """Serve until told to stop."""
    loop = asyncio.get_running_loop()
    control.setblocking(False)  # noqa: FBT003 - the standard library's signature
    parts = await build(orders.settings, orders.secret_keys)
    server = Server(parts.uvicorn_config(BACKLOG))

    def stop() -> None:
        parts.desk.draining = True
        server.should_exit = True

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    tied = loop.create_task(_end_with_supervisor(control))
    parts.ticker.start()
    beating = loop.create_task(_beat(server, control))
    try:
        await server.serve([listening])
    finally:
        for task in (beating, tied):
            task.cancel()
        await asyncio.gather(beating, tied, return_exceptions=True)
        await parts.close()


async def _beat(server: Server, control: socket.socket) -> None:
    """Tell the supervisor that this loop turns: ``ready`` once it serves, then a beat four times a second."""
    loop = asyncio.get_running_loop()
    told_ready = False
    with contextlib.suppress(ConnectionError):
        while True:
            if server.started:
                await loop.sock_sendall(control, BEAT if told_ready else READY)
                told_ready = True
            await asyncio.sleep(BEAT_S)


async def _end_with_supervisor(control: socket.socket) -> None:
    """End at once when the supervisor is gone: nothing may stay on the port that nobody can stop."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(control, 1024):
            pass
    logger.error("the supervisor is gone; ending", extra={"reason": "supervisor-gone"})
    signal.raise_signal(signal.SIGKILL)


def allow_files(wanted: int) -> None:
    """Let this process have ``wanted`` files open, or as many as it may.

    Most systems start a process with 1,024 although it may have many more. Without this the crowd's connection number
    1,024 would be refused, and so would the shop's ordinary visitors.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    allowed = wanted if hard == unlimited else min(wanted, hard)
    if soft != unlimited and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        words = "limits.connections_per_worker needs %d open files, %d are allowed; raise the hard limit (ulimit -Hn)"
        logger.warning(words, wanted, allowed, extra={"reason": "open-files"})


def main() -> int:
    """Run a worker to its end. Return the exit code."""
    listening, control = (socket.socket(fileno=int(argument)) for argument in sys.argv[1:3])
    orders = read_orders(control)
    logs.configure(orders.log_format)
    settings = orders.settings
    allow_files(settings.limits.connections_per_worker + FILES_BESIDE * len(settings.origins()))
    try:
        uvloop.run(serve(orders, listening, control))
    except StartError as error:
        logger.error("%s", error, extra={"reason": "start"})  # noqa: TRY400 - said in one line, without a traceback
        return CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
