"""The store as a worker has it: another process of ours keeps the record, and is asked over a Unix socket.

The other end may be gone for a moment, because it was killed and replaced. An operation waits for it, so long as its
patience lasts, and asks again: a claim, a leave and a tick are the same the second time, and a join whose answer was
lost leaves a number behind that nobody holds. A reset is not the same: it is asked for once. After that it is
``StoreAway``, and the worker goes on from its last view.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from typing import TYPE_CHECKING, Any

from waitroom.core.queueing import Claimed, Joined, JoinRequest
from waitroom.errors import StoreAway
from waitroom.store import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from waitroom.core.queueing import Snapshot
    from waitroom.model import Pass
    from waitroom.ports import Drawn, Known, Lead, Noted, Status, Ticked

PATIENCE_S = 2.0
"""How long an operation waits for the record. Longer, and a page that says so helps a visitor more."""

AGAIN_S = 0.05
"""Between two attempts to reach it."""


class RemoteStore:
    """The store behind the Unix address ``address``."""

    def __init__(self, address: bytes, *, patience_s: float = PATIENCE_S) -> None:
        self._address = address
        self._patience_s = patience_s
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[asyncio.Future[Any], Callable[[Any], Any]]] = {}
        self._views: dict[str, Snapshot] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def join(self, room: str, known: Known, requests: Sequence[JoinRequest]) -> list[Joined]:
        """Give numbers in order; in standby admit as many as there is room for."""
        packed = frames.pack(JoinRequest, requests)
        joined: list[Joined] = await self._do(
            "join", room, known, packed, then=lambda done: frames.unpack(Joined, done)
        )
        return joined

    async def claim(
        self, room: str, known: Known, numbers: Sequence[tuple[int, float]], visitors: Sequence[str] = ()
    ) -> list[Claimed]:
        """Trade called numbers for slots."""
        claimed: list[Claimed] = await self._do(
            "claim", room, known, list(numbers), list(visitors), then=lambda done: frames.unpack(Claimed, done)
        )
        return claimed

    async def leave(self, room: str, known: Known, numbers: Sequence[int]) -> None:
        """Give up places and slots."""
        await self._do("leave", room, known, list(numbers))

    async def look_up(self, room: str, known: Known, passes: Sequence[Pass]) -> list[int]:
        """Return the ends that are held."""
        ends_ms: list[int] = await self._do("look_up", room, known, frames.pack_passes(passes))
        return ends_ms

    async def tick(self, room: str, known: Known, noted: Noted, lead: Lead) -> Ticked:
        """Take in what was noted, let time pass, call."""
        packed = frames.pack_noted(noted)
        ticked: Ticked = await self._do(
            "tick", room, known, packed, lead, then=lambda done: self._take_ticked(room, done)
        )
        return ticked

    async def snapshot(self, room: str) -> Snapshot:
        """Return the present view of a room."""
        view: Snapshot = await self._do("snapshot", room, then=lambda done: self._take_view(room, done))
        return view

    async def operate(self, room: str, verbs: Mapping[str, Any], who: str) -> Status:
        """Do what an operator says."""
        status: Status = await self._do("operate", room, dict(verbs), who, once="reset" in verbs)
        return status

    async def status(self, room: str) -> Status:
        """Return a room as an operator sees it."""
        status: Status = await self._do("status", room)
        return status

    async def drawn(self, room: str) -> Drawn | None:
        """Return the draw of a room's event, once its places are dealt."""
        drawn: Drawn | None = await self._do("drawn", room)
        return drawn

    async def close(self) -> None:
        """Let go of the connection."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    # -- how ---------------------------------------------------------------------------------------------------------

    async def _do(
        self, name: str, *arguments: Any, then: Callable[[Any], Any] = lambda done: done, once: bool = False
    ) -> Any:
        """Ask, and ask again while the other end is gone and patience lasts; if ``once``, not after it was sent."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + self._patience_s
        try:
            async with asyncio.timeout_at(give_up_s):
                while True:
                    try:
                        writer = await self._reached()
                    except (ConnectionError, FileNotFoundError):
                        await asyncio.sleep(AGAIN_S)
                        continue
                    try:
                        return await self._ask(writer, name, give_up_s - loop.time(), arguments, then)
                    except ConnectionError:
                        if once:
                            raise StoreAway("the record's keeper is gone; it may have been done") from None
                        await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            raise StoreAway("the record does not answer") from None

    async def _reached(self) -> asyncio.StreamWriter:
        if self._writer is not None:
            return self._writer
        async with self._connecting:
            return self._writer or await self._connect()

    async def _ask(
        self,
        writer: asyncio.StreamWriter,
        name: str,
        patience_s: float,
        arguments: tuple[Any, ...],
        then: Callable[[Any], Any],
    ) -> Any:
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (future, then)
        frames.write(writer, (number, name, patience_s, arguments))
        # One that is given up stays known until its answer comes: that finds nobody, and is taken for nobody else's.
        return await future

    async def _connect(self) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_unix_connection(sock=await self._reach())
        frames.write(writer, ("waitroom", frames.VERSION))
        try:
            await frames.read(reader)
        except BaseException:  # also of who waits no longer: a keeper that hangs would collect connections
            writer.close()
            raise
        self._views.clear()
        self._writer = writer
        self._listening = asyncio.get_running_loop().create_task(self._listen(reader, writer))
        return writer

    async def _reach(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        try:
            await asyncio.get_running_loop().sock_connect(sock, self._address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while True:
                    self._take(*await frames.read(reader))
        finally:
            if self._writer is writer:
                self._writer = None
            writer.close()
            waiting, self._waiting = self._waiting, {}
            for future, _ in waiting.values():
                if not future.done():
                    future.set_exception(ConnectionError("the record's keeper is gone"))

    def _take(self, number: int, outcome: str, done: Any) -> None:
        """Hand an answer to who waits for it. A view is taken in even if nobody does: the next builds on it."""
        future, then = self._waiting.pop(number)
        if outcome == "done":
            done = then(done)
        if future.done():
            return
        match outcome:
            case "done":
                future.set_result(done)
            case "wrong":
                future.set_exception(ValueError(done))
            case _:
                future.set_exception(StoreAway(done))

    def _take_view(self, room: str, packed: tuple[Any, ...]) -> Snapshot:
        view = self._views[room] = frames.unpack_view(packed, self._views.get(room))
        return view

    def _take_ticked(self, room: str, packed: tuple[Any, ...]) -> Ticked:
        ticked = frames.unpack_ticked(packed, self._views.get(room))
        self._views[room] = ticked.snapshot
        return ticked
