"""One worker: an event loop, the rooms' views, and the wire on an inherited socket.

Started by the supervisor as ``python -m waitroom.worker LISTENING-FD CONTROL-FD``, and by nobody else. When it is told
to end it accepts nothing more from that moment on; the listening socket stays open in its siblings. What it had
accepted is served: requests under way are finished, connections between two requests get one more with ``Connection:
close``, and WebSockets are told to go. It ends when nobody is left, at the latest after ``drain_timeout``.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import resource
import signal
import sys
from typing import TYPE_CHECKING

import uvicorn

from waitroom import tether
from waitroom.build import Parts, build
from waitroom.channel import HOUSE_ENDS
from waitroom.sockets import BACKLOG

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from waitroom.channel import Orders

logger = logging.getLogger("waitroom.worker")

FILES_BESIDE = 1_280
"""Open files beside the clients' connections, for each origin: the connections to it that are kept, and some to spare
for those who are told that there are too many.

How many connections to an origin are in use at once is the shop's pace, not ours; it is far below the crowd's.
"""


GARBAGE = 5_000
"""New objects between two looks of the collector. A request's objects go by themselves, and a crowd's are many at once:
to look at them every 700 takes a sixth of a flooded worker's time, and finds nothing."""


class Server(uvicorn.Server):
    """uvicorn's server with an end of ours, and without its signal handlers: they would end the process by a signal."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts.uvicorn_config(BACKLOG))
        self._parts = parts

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the worker."""
        yield

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Accept nothing more, now, and begin to drain."""
        if number == HOUSE_ENDS:
            self._parts.desk.draining = True
        if self.should_exit:
            return
        self.should_exit = True
        if self.started:
            self._stop_accepting()
        self._parts.begin_to_drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, and leave to uvicorn what is then left: its bookkeeping."""
        self._stop_accepting()
        await self._parts.drain()
        await super().shutdown(sockets)

    def _stop_accepting(self) -> None:
        for server in self.servers:
            server.close()


async def serve(orders: Orders, listening: socket.socket, tied: tether.Tether) -> None:
    """Serve until told to stop."""
    settings = orders.settings
    allowed = allow_files(wanted := settings.limits.connections_per_worker + FILES_BESIDE * len(settings.origins()))
    if allowed < wanted and not orders.index:  # it is the same for all of them
        words = "limits.connections_per_worker needs %d open files, %d are allowed; raise the hard limit (ulimit -Hn)"
        logger.warning(words, wanted, allowed, extra={"reason": "open-files"})
    parts = await build(orders.settings, orders.secret_keys, orders.store_address, orders.index)
    server = Server(parts)
    tied.hold(server.stop, parts.stats, serves=lambda: server.started)
    # What was made until now stays as long as the process; the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
    parts.ticker.start()
    try:
        await server.serve([listening])
    finally:
        await parts.close()
        await tied.let_go()


def allow_files(wanted: int) -> int:
    """Let this process have ``wanted`` files open, or as many as it may. Return how many.

    Most systems start a process with 1,024 although it may have many more. Without this the crowd's connection number
    1,024 would be refused, and so would the shop's ordinary visitors.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    allowed = wanted if hard == unlimited else min(wanted, hard)
    if soft != unlimited and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


if __name__ == "__main__":
    sys.exit(tether.run(serve))
