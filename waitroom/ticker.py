"""The control plane of one worker: every tick, for each room on its own.

A tick takes what was noted to the store, lets time pass there, and replaces the view. Whoever the pace and the caps
allow is called, if this worker leads the room; with each tick it says so again, or asks for the lead. Each room has its
own task, so that a room whose tick is slow or fails changes nothing in another (P8).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from waitroom.errors import StoreAway
from waitroom.model import TICK_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from waitroom.ports import Store
    from waitroom.service import RoomService

logger = logging.getLogger("waitroom.ticker")


class Ticker:
    """Steps each room once a tick until it is stopped."""

    def __init__(self, rooms: Iterable[RoomService], store: Store) -> None:
        self._rooms = list(rooms)
        self._store = store
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin ticking, on the running loop."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(room)) for room in self._rooms]

    async def stop(self) -> None:
        """End ticking, with a last tick for each room, so that what was noted is not lost."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._try(room, last=True) for room in self._rooms))

    async def step(self, room: RoomService, *, last: bool = False) -> None:
        """Take one control step for ``room``. What a failed step did not take is kept for the next.

        ``last``: this worker leads no longer, so that another may at once.
        """
        noted = room.take_noted()
        lead = room.resign() if last else room.lead()
        try:
            ticked = await self._store.tick(room.room.name, room.known, noted, lead)
        except BaseException:
            room.put_back(noted)
            raise
        room.take(ticked)

    async def _run(self, room: RoomService) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            # A tick that comes late is not made up for: pacing runs on elapsed time, with a cap on saved credit.
            due_s = max(due_s + TICK_S, loop.time())
            await asyncio.sleep(due_s - loop.time())
            await self._try(room)

    async def _try(self, room: RoomService, *, last: bool = False) -> None:
        try:
            await self.step(room, last=last)
        except StoreAway as error:
            words = "the store is away: %s"
            logger.warning(words, error, extra={"room": room.room.name, "reason": "store-away"})
        except Exception:
            logger.exception("a tick failed", extra={"room": room.room.name, "reason": "tick-failed"})
