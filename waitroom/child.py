"""One process below the supervisor, from its birth to its end, as the supervisor sees it.

A child's life is one task that nobody cancels: it is born, given its orders, listened to until it ends, and then its
end is told. Whoever wants it to end says so with ``retire``, at any time, also before it is born. A child whose event
loop has said nothing for too long hangs and is killed; time in which the supervisor itself stood still does not count,
or a machine that slept would wake up to kill everything that slept beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Literal

from waitroom.channel import BEAT_S, BROKEN, Orders, Pieces, read_message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger("waitroom.supervisor")

READY_WITHIN_S = 30.0
"""A child that is not ready by then hangs. A keeper reads the whole record before it is."""

CONFIGURED_WITHIN_S = 30.0
"""How long the answer to new orders is waited for; until it comes the old ones hold everywhere."""

LAST_WORDS_S = 1.0
"""How long what an ended child had still sent is read for."""

CRASH_AT = "CRASH_AT"
"""The environment's order to a child to crash at a named step: a test's, and for first children only."""

Role = Literal["keeper", "worker"]


class Child:
    """One child. ``stats`` are its counters as it last told them, ``code`` its exit code once it has ended.

    It is born in the task that this starts; ``on_end`` is called once, after its end. ``silent_s`` is how long it may
    say nothing. ``first`` says that it is no replacement.
    """

    def __init__(
        self,
        role: Role,
        orders: Orders,
        sock: socket.socket,
        on_end: Callable[[Child], None],
        *,
        silent_s: float,
        first: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.role = role
        self.orders = orders
        self.stats: Mapping[str, float] = {}
        self.code: int | None = None
        self.was_ready = False
        self.retiring = False
        self.born_s = self._heard_s = loop.time()
        self._sock = sock
        self._on_end = on_end
        self._silent_s = silent_s
        self._first = first
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._settled = asyncio.Event()
        self._answer: asyncio.Future[str] | None = None
        self._goodbye = signal.SIGTERM
        self._killing: asyncio.TimerHandle | None = None
        self._life = loop.create_task(self._live())

    def __str__(self) -> str:
        """Return what the log calls it."""
        return "the keeper" if self.role == "keeper" else f"worker {self.orders.index}"

    @property
    def pid(self) -> int | None:
        """Its process id, once it is born."""
        return None if self._process is None else self._process.pid

    async def ready(self) -> bool:
        """Wait until it is ready, or has ended without having been; return whether it was."""
        await self._settled.wait()
        return self.was_ready

    async def ended(self) -> None:
        """Wait for its end."""
        await asyncio.wait({self._life})

    async def configure(self, orders: Orders) -> str:
        """Give it new orders; return why it refuses them, or nothing once they hold."""
        if not await self.ready() or self.code is not None or self._control is None:
            return f"{self} is not there"
        self._answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(CONFIGURED_WITHIN_S):
                await asyncio.get_running_loop().sock_sendall(self._control, orders.packed())
                refusal = await self._answer
        except ConnectionError:
            return f"{self} ended"
        except TimeoutError:
            # Nobody can know which orders hold in it by now. Its successor starts with those that hold everywhere.
            self._kill("does not answer")
            return f"{self} does not answer"
        finally:
            self._answer = None
        if not refusal:
            self.orders = orders
        return refusal

    def retire(self, within_s: float, number: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to finish what it does and end; kill it when it has not ended ``within_s`` from now."""
        self._goodbye = number
        self._signal(number)
        if not self.retiring:
            self.retiring = True
            if self.code is None:
                self._killing = asyncio.get_running_loop().call_later(within_s, self._kill, "does not end in time")

    # Its life.

    async def _live(self) -> None:
        try:
            self.code = await self._run()
        except OSError:
            logger.exception("%s cannot be started", self, extra={"reason": f"{self.role}-start"})
            self.code = BROKEN
        finally:
            self._settled.set()
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(f"{self} ended")
            if self._killing is not None:
                self._killing.cancel()
            self._on_end(self)

    async def _run(self) -> int:
        """Run it to its end. Return its exit code."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)  # noqa: FBT003 - the standard library's signature
            with theirs:
                if self.retiring:  # told to end before it was born
                    return 0
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    f"waitroom.{self.role}",
                    str(self._sock.fileno()),
                    str(theirs.fileno()),
                    pass_fds=(self._sock.fileno(), theirs.fileno()),
                    env={name: value for name, value in os.environ.items() if self._first or name != CRASH_AT},
                    start_new_session=True,  # Ctrl-C in a terminal reaches us alone; children are told by us
                )
            if self.retiring:  # told to end while it was being born: it has not been told
                self._signal(self._goodbye)
            self._control = ours
            hearing = asyncio.create_task(self._hear(ours))
            watching = asyncio.create_task(self._watch())
            code = await self._process.wait()
            watching.cancel()
            await asyncio.wait({hearing}, timeout=LAST_WORDS_S)
            hearing.cancel()
            await asyncio.gather(hearing, watching, return_exceptions=True)
            return code

    async def _hear(self, ours: socket.socket) -> None:
        """Give it its orders, and take what it says until it has ended."""
        loop = asyncio.get_running_loop()
        pieces = Pieces()
        with contextlib.suppress(ConnectionError):
            await loop.sock_sendall(ours, self.orders.packed())
            while data := await loop.sock_recv(ours, 64 * 1024):
                self._heard_s = loop.time()
                for piece in pieces.feed(data):
                    message = read_message(piece)
                    self.stats = message.stats
                    if message.kind == "ready":
                        self.was_ready = True
                        self._settled.set()
                    elif message.kind != "beat" and self._answer is not None and not self._answer.done():
                        self._answer.set_result(message.message)

    async def _watch(self) -> None:
        """Kill it when it has said nothing for too long."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._heard_s += loop.time() - due_s  # how late we are ourselves is not its silence
            if loop.time() - self._heard_s > (self._silent_s if self.was_ready else READY_WITHIN_S):
                self._kill("hangs")
                return

    def _kill(self, why: str) -> None:
        logger.error("%s %s; ending it", self, why, extra={"reason": f"{self.role}-hangs"})
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.code is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
