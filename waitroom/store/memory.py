"""``memory:``, the store of one process: the reference behaviour, and what tests read.

Each operation runs to its end without awaiting anything, which is all the atomicity one process needs. Store time is
the wall clock at the start plus monotonic time since: it cannot step.

Nothing survives the process except tickets and passes, which are with the visitors. A small note beside the key file
(``store/notes.py``) says which rooms have run, how far they had numbered, and until when a pass may be out. With it a
restarted room begins a fresh *series* of numbers instead of giving an old one twice (P2), takes old tickets for what
they are (P5), and offers no slot that an old pass may still fill (P3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from waitroom.core.queueing import Line
from waitroom.ports import Noted, Ticked
from waitroom.store.notes import RoomNote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waitroom.clock import Clock
    from waitroom.core.queueing import Claimed, Joined, JoinRequest, Snapshot
    from waitroom.model import Room
    from waitroom.store.notes import Notes

SERIES_STEP = 1_000_000
"""Numbers of a fresh series begin at unix seconds times this, or this much beyond the last that is known."""

NOTE_EVERY_MS = 5_000


class MemoryStore:
    """Every room's line, in this process. ``notes`` None forgets everything with the process."""

    def __init__(self, rooms: Sequence[Room], clock: Clock, notes: Notes | None = None) -> None:
        self._clock = clock
        self._start_ms = int(clock.wall_s() * 1000)
        self._started_s = clock.monotonic_s()
        self._notes = notes
        self._noted: dict[str, RoomNote] = dict(notes.read()) if notes else {}
        self._note_due_ms = 0
        self._lines = {room.name: self._new_line(room) for room in rooms}

    def now_ms(self) -> int:
        """Return store time."""
        return self._start_ms + int((self._clock.monotonic_s() - self._started_s) * 1000)

    async def join(self, room: str, requests: Sequence[JoinRequest]) -> list[Joined]:
        """Give the requests numbers in order; in standby admit as many as there is room for."""
        return self._lines[room].join(requests, self.now_ms())

    async def claim(self, room: str, numbers: Sequence[tuple[int, float]]) -> list[Claimed]:
        """Trade called numbers for slots."""
        now_ms = self.now_ms()
        return [
            self._lines[room].claim(number, now_ms, now_ms + int(silence_s * 1000)) for number, silence_s in numbers
        ]

    async def leave(self, room: str, numbers: Sequence[int]) -> None:
        """Give up places and slots."""
        for number in numbers:
            self._lines[room].leave(number, self.now_ms())

    async def tick(self, room: str, noted: Noted, budget: int) -> Ticked:
        """Take in what was noted, let time pass, call."""
        line, now_ms = self._lines[room], self.now_ms()
        line.hear(noted.heard, now_ms)
        for used in noted.used:
            line.renew(used.number, used.admitted_ms, used.end_ms, now_ms)
        line.sweep(now_ms)
        called = line.call(budget, now_ms)
        self._note(now_ms)
        return Ticked(called, line.snapshot(now_ms))

    async def snapshot(self, room: str) -> Snapshot:
        """Return the present view of a room."""
        return self._lines[room].snapshot(self.now_ms())

    async def close(self) -> None:
        """Write the note a last time."""
        self._note_due_ms = 0
        self._note(self.now_ms())

    def _new_line(self, room: Room) -> Line:
        noted = self._noted.get(room.name)
        if noted is None:
            return Line(room, self._start_ms)
        base = max(self._start_ms // 1000 * SERIES_STEP, noted.issued + SERIES_STEP)
        return Line(room, self._start_ms, base=base, assumed_until_ms=noted.passes_until_ms)

    def _note(self, now_ms: int) -> None:
        """Note what a successor must know. Written every few seconds, so it says what may be by the next time."""
        if self._notes is None or (now_ms < self._note_due_ms and not self._outgrown()):
            return
        for name, line in self._lines.items():
            if line.issued >= line.base:
                ahead_ms = int(line.room.session_duration_s * 1000) + NOTE_EVERY_MS
                until_ms = max(line.passes_end_ms, now_ms + ahead_ms) if line.passes_end_ms else 0
                self._noted[name] = RoomNote(line.issued, until_ms)
        if self._notes.write(self._noted):
            self._note_due_ms = now_ms + NOTE_EVERY_MS

    def _outgrown(self) -> bool:
        """Whether a pass is out for longer than the note admits."""
        return any(
            line.passes_end_ms and (name not in self._noted or line.passes_end_ms > self._noted[name].passes_until_ms)
            for name, line in self._lines.items()
        )
