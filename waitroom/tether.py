"""A child's end of what ties it to the supervisor, and the way every child begins and ends.

A child gets its orders before it does anything else, says ``ready`` once it serves, and from then on beats *from its
event loop*, so that one that hangs is found out. It never outlives the supervisor: nothing may stay on the port that
nobody can stop. The closed channel tells a child whose loop turns; the kernel kills one whose loop does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import signal
import socket
import sys
from typing import TYPE_CHECKING

import uvloop

from waitroom import logs
from waitroom.channel import (
    BEAT_S,
    BROKEN,
    CANNOT_START,
    HOUSE_ENDS,
    Message,
    Orders,
    Pieces,
    read_orders,
    receive_orders,
)
from waitroom.errors import StartError, WaitroomError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

logger = logging.getLogger("waitroom.child")

LOOK_S = 0.01
"""How often it is looked whether the child serves by now."""

_PR_SET_PDEATHSIG = 1


class Tether:
    """The child's end. ``stats`` returns its counters; ``configure`` takes new orders, if this child can."""

    def __init__(self, control: socket.socket) -> None:
        control.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self._control = control
        self._sending = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._stats: Callable[[], Mapping[str, float]] = dict
        self._configure: Callable[[Orders], Awaitable[None]] | None = None

    def hold(
        self,
        stop: Callable[[signal.Signals], object],
        stats: Callable[[], Mapping[str, float]],
        *,
        serves: Callable[[], bool],
        configure: Callable[[Orders], Awaitable[None]] | None = None,
    ) -> None:
        """Be tied from now on: say ``ready`` once ``serves()``, and then beat; ``stop`` gets the signal to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, HOUSE_ENDS):
            loop.add_signal_handler(number, stop, number)
        self._stats = stats
        self._configure = configure
        self._tasks = [loop.create_task(self._beat(serves)), loop.create_task(self._listen())]
        for task in self._tasks:
            task.add_done_callback(_tell)

    async def let_go(self) -> None:
        """Tell the last counters, for the process is about to end."""
        with contextlib.suppress(ConnectionError):
            await self._say(Message("beat", self._stats()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _beat(self, serves: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        while not serves():  # noqa: ASYNC110 - uvicorn has no event to wait for
            await asyncio.sleep(LOOK_S)
        with contextlib.suppress(ConnectionError):
            await self._say(Message("ready", self._stats()))
            while True:
                due_s = loop.time() + BEAT_S
                await asyncio.sleep(BEAT_S)
                late_s = max(0.0, loop.time() - due_s)
                await self._say(Message("beat", {**self._stats(), "loop_lag_seconds": late_s}))

    async def _listen(self) -> None:
        """Take new orders, and end at once when the supervisor is gone."""
        loop = asyncio.get_running_loop()
        pieces = Pieces()
        with contextlib.suppress(ConnectionError):
            while data := await loop.sock_recv(self._control, 64 * 1024):
                for piece in pieces.feed(data):
                    await self._say(await self._obey(read_orders(piece)))
        logger.error("the supervisor is gone; ending", extra={"reason": "supervisor-gone"})
        signal.raise_signal(signal.SIGKILL)

    async def _obey(self, orders: Orders) -> Message:
        assert self._configure is not None, "orders for a child that takes none"
        try:
            await self._configure(orders)
        except WaitroomError as error:
            return Message("refused", self._stats(), str(error))
        except Exception:
            logger.exception("taking new orders failed", extra={"reason": "configure"})
            return Message("refused", self._stats(), "a fault of ours; see the log")
        return Message("configured", self._stats())

    async def _say(self, message: Message) -> None:
        async with self._sending:  # or two messages could come in pieces of each other
            await asyncio.get_running_loop().sock_sendall(self._control, message.packed())


def _tell(task: asyncio.Task[None]) -> None:
    """Say what broke: without its tether a child is only found out when it has been silent for long."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the tether broke", exc_info=error, extra={"reason": "bug"})


def run(serve: Callable[[Orders, socket.socket, Tether], Coroutine[None, None, None]]) -> int:
    """Be a child from its beginning to its end: ``python -m MODULE SOCKET-FD CONTROL-FD``. Return the exit code.

    ``serve`` gets the orders, the listening socket and the tether, which it must ``hold`` and ``let_go``.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload is asked of the supervisor, not of everybody
    # Also for a child that hangs or is stopped, and so cannot see that the channel was closed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    sock, control = (socket.socket(fileno=int(argument)) for argument in sys.argv[1:3])
    try:
        orders = receive_orders(control)
        _refuse_orphans(control)
    except (EOFError, ConnectionError):
        return 0  # the supervisor was gone before it had said anything, or before the kernel knew to tell us
    logs.configure(orders.log_format)
    try:
        uvloop.run(_tied(serve, orders, sock, control))
    except StartError as error:
        logger.error("%s", error, extra={"reason": "start"})  # noqa: TRY400 - said in one line, without a traceback
        return CANNOT_START
    except Exception:
        logger.exception("a fault of ours", extra={"reason": "bug"})
        return BROKEN
    return 0


def _refuse_orphans(control: socket.socket) -> None:
    """Raise ``EOFError`` when the supervisor is gone: it may have died after its orders and before the prctl."""
    with contextlib.suppress(BlockingIOError):
        if not control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            raise EOFError("the supervisor is gone")


async def _tied(
    serve: Callable[[Orders, socket.socket, Tether], Coroutine[None, None, None]],
    orders: Orders,
    sock: socket.socket,
    control: socket.socket,
) -> None:
    await serve(orders, sock, Tether(control))
