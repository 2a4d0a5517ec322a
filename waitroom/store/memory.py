"""``memory:``, the store of one process: the reference behaviour, and what tests read.

Each operation runs to its end without awaiting anything, which is all the atomicity one process needs. Store time is
the wall clock at the start plus monotonic time since: it cannot step.

Nothing survives the process except tickets and passes, which are with the visitors. A small note beside the key file
(``store/notes.py``) says which rooms have run, how far they had numbered, and until when a successor must rest. With it
a restarted room begins a fresh *series* of numbers instead of giving an old one twice (P2), and lets nobody in until no
old pass can be out, the minute of the last claims is over (P3), and everybody in line has had the time to ask again: so
old tickets are called in order, before newcomers (P5).
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from waitroom.store.book import SLICES_A_TICK, Book

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from waitroom.clock import Clock
    from waitroom.core.queueing import Claimed, Joined, JoinRequest, Snapshot
    from waitroom.model import Pass, Room
    from waitroom.ports import Drawn, Known, Lead, Ledger, Noted, Status, Ticked
    from waitroom.store.notes import Notes


class MemoryStore:
    """Every room's line, in this process. ``notes`` None forgets everything with the process.

    ``assume_ran``: without a note, a room is taken for one that has run before. ``chance`` makes the seeds of draws.
    ``ledger`` is told who was let in and what was done, if there is one.
    """

    def __init__(
        self,
        rooms: Sequence[Room],
        clock: Clock,
        notes: Notes | None = None,
        *,
        assume_ran: bool = False,
        chance: Callable[[int], bytes] = secrets.token_bytes,
        ledger: Ledger | None = None,
    ) -> None:
        self._clock = clock
        self._start_ms = int(clock.wall_s() * 1000)
        self._started_s = clock.monotonic_s()
        # Store time is the wall's at this moment: no event is ahead of it.
        self._book = Book(rooms, self._start_ms, notes, assume_ran=assume_ran, chance=chance, ledger=ledger)

    def now_ms(self) -> int:
        """Return store time."""
        return self._start_ms + int((self._clock.monotonic_s() - self._started_s) * 1000)

    async def configure(self, rooms: Sequence[Room]) -> None:
        """Go on with other settings."""
        now_ms = self.now_ms()
        self._book.configure(rooms, now_ms, ahead_ms=int(self._clock.wall_s() * 1000) - now_ms)

    async def join(self, room: str, known: Known, requests: Sequence[JoinRequest]) -> list[Joined]:
        """Give numbers in order; in standby admit as many as there is room for."""
        return self._book.join(room, known, requests, self.now_ms())

    async def claim(
        self, room: str, known: Known, numbers: Sequence[tuple[int, float]], visitors: Sequence[str] = ()
    ) -> list[Claimed]:
        """Trade called numbers for slots."""
        return self._book.claim(room, known, numbers, self.now_ms(), visitors)

    async def leave(self, room: str, known: Known, numbers: Sequence[int]) -> None:
        """Give up places and slots."""
        self._book.leave(room, known, numbers, self.now_ms())

    async def look_up(self, room: str, known: Known, passes: Sequence[Pass]) -> list[int]:
        """Return the ends that are held."""
        return self._book.look_up(room, known, passes, self.now_ms())

    async def tick(self, room: str, known: Known, noted: Noted, lead: Lead) -> Ticked:
        """Take in what was noted, let time pass, call. What is left of a draw is dealt first, others in between."""
        for _ in range(SLICES_A_TICK):
            if not self._book.deal(room):
                break
            await asyncio.sleep(0)
        return self._book.tick(room, known, noted, lead, self.now_ms())

    async def snapshot(self, room: str) -> Snapshot:
        """Return the present view of a room."""
        return self._book.snapshot(room, self.now_ms())

    async def operate(self, room: str, verbs: Mapping[str, Any], who: str) -> Status:
        """Do what an operator says."""
        self._book.operate(room, verbs, who, self.now_ms())
        return self._book.status(room, self.now_ms())

    async def status(self, room: str) -> Status:
        """Return a room as an operator sees it."""
        return self._book.status(room, self.now_ms())

    async def drawn(self, room: str) -> Drawn | None:
        """Return the draw of a room's event, once its places are dealt."""
        return self._book.drawn(room)

    async def close(self) -> None:
        """Write the note a last time."""
        self._book.settle(self.now_ms())
        self._book.note(self.now_ms(), at_once=True)
