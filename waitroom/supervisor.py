"""The process that stays: it listens, starts the worker, and starts another when that one dies.

The socket is bound and *listening* before any worker runs and outlives every one of them, so a connection made while a
worker is replaced waits in the backlog instead of being refused. Workers inherit the socket; ``SO_REUSEPORT`` would
give each its own queue, and a leaving worker would take its queue with it.

Supervisor and worker are tied by a pair of sockets. Down it go the settings and the keys, so the worker runs what was
checked, not what the file says by now. Up it come ``ready`` and a heartbeat *from the worker's event loop*: a worker
that hangs is found out and replaced. When the supervisor is gone, however it went, the pair closes, and the worker
ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import socket
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waitroom.errors import StartError
from waitroom.model import Address

if TYPE_CHECKING:
    from waitroom.model import Settings

logger = logging.getLogger("waitroom.supervisor")

BACKLOG = 4096
"""The flood arrives in one second; the kernel caps this at ``net.core.somaxconn``."""

BEAT_S = 0.25
SILENT_S = 10.0
"""A worker whose loop says nothing for so long hangs; the longest step of ours is a few hundred milliseconds."""

READY_WITHIN_S = 30.0
RESTART_S = 1.0
"""Between the death of a worker and the next one, so that one that cannot start does not spin."""

CANNOT_START = 78
"""A worker's exit code for what only the operator can mend (``EX_CONFIG``); any other is a fault of ours."""

READY = b"r"
BEAT = b"b"
LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is started with."""

    settings: Settings
    secret_keys: tuple[str, ...]
    log_format: str


def listen(settings: Settings) -> socket.socket:
    """Return the listening socket. Raises ``StartError`` with what to do when it cannot be had."""
    address = settings.listen
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {address}: {error.strerror}; choose another with --listen") from error
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return sock


class Supervisor:
    """Runs one worker on ``sock`` until told to stop. ``silent_s`` is how long a worker may say nothing."""

    def __init__(self, orders: Orders, sock: socket.socket, *, silent_s: float = SILENT_S) -> None:
        self._orders = orders
        self._sock = sock
        self._silent_s = silent_s
        self._address = Address(*sock.getsockname()[:2])  # the port that was really had, where 0 was asked for
        self._stopping = asyncio.Event()
        self._worker: asyncio.subprocess.Process | None = None
        self._heard_s = 0.0

    async def run(self) -> int:
        """Return the exit code: 0 after a stop that was asked for.

        When no worker could be started at all it is 1 if the operator can mend that, and 70 if not.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._cannot_reload)
        ever_ready = False
        while not self._stopping.is_set():
            ready, code = await self._run_worker()
            ever_ready = ever_ready or ready
            if self._stopping.is_set():
                break
            if not ever_ready:
                logger.error("the worker cannot start; see above", extra={"reason": "worker-start"})
                return 1 if code == CANNOT_START else 70
            logger.error("the worker ended with %s; starting another", code, extra={"reason": "worker-died"})
            await self._pause(RESTART_S)
        return 0

    def _stop(self) -> None:
        logger.info("stopping: finishing what is in flight")
        self._stopping.set()
        # No new connection is taken from here on; the worker closes its own copy when it drains.
        self._sock.close()
        if self._worker is not None and self._worker.returncode is None:
            self._worker.send_signal(signal.SIGTERM)

    def _cannot_reload(self) -> None:
        logger.warning("SIGHUP: reload is not built yet; restart to read the configuration", extra={"reason": "reload"})

    async def _run_worker(self) -> tuple[bool, int]:
        """Run one worker to its end. Return whether it was ever ready, and its exit code."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)  # noqa: FBT003 - the standard library's signature
            with theirs:
                self._worker = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "waitroom.worker",
                    str(self._sock.fileno()),
                    str(theirs.fileno()),
                    pass_fds=(self._sock.fileno(), theirs.fileno()),
                    start_new_session=True,  # Ctrl-C in a terminal reaches us alone; the worker is told by us
                )
            if self._stopping.is_set():  # told to stop while it was being started: it has not been told
                self._worker.send_signal(signal.SIGTERM)
            watching = asyncio.create_task(self._watch(ours, self._worker))
            try:
                code = await self._worker.wait()
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        return self._heard_s > 0, code

    async def _watch(self, ours: socket.socket, worker: asyncio.subprocess.Process) -> None:
        """Give the worker its orders, and end it when it falls silent."""
        loop = asyncio.get_running_loop()
        self._heard_s = 0.0
        orders = pickle.dumps(self._orders)
        await loop.sock_sendall(ours, LENGTH.pack(len(orders)) + orders)
        try:
            while True:
                patience_s = self._silent_s if self._heard_s else READY_WITHIN_S
                said = await asyncio.wait_for(loop.sock_recv(ours, 4096), patience_s)
                if not said:
                    return
                if READY in said:
                    logger.info("ready on %s", self._address)
                self._heard_s = loop.time()
        except TimeoutError:
            logger.error("the worker hangs; ending it", extra={"reason": "worker-hangs"})  # noqa: TRY400 - not an exception of ours
            worker.kill()
        except ConnectionError:
            return

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def read_orders(sock: socket.socket) -> Orders:
    """Return the orders that the supervisor sends to a new worker over its own end of the pair."""
    with os.fdopen(os.dup(sock.fileno()), "rb") as stream:
        (length,) = LENGTH.unpack(stream.read(LENGTH.size))
        orders = pickle.loads(stream.read(length))  # noqa: S301 - from our parent, over a socket nobody else has
    assert isinstance(orders, Orders)
    return orders
