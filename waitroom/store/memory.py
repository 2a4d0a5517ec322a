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
"""How often the note is written while a room is used; what it states therefore holds for so long."""

MINUTE_MS = 60_250
"""A minute, and the bucket in which it is counted."""


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
        joined = self._lines[room].join(requests, self.now_ms())
        self._note_if_new(room, joined)
        return joined

    async def claim(self, room: str, numbers: Sequence[tuple[int, float]]) -> list[Claimed]:
        """Trade called numbers for slots."""
        now_ms = self.now_ms()
        claimed = [
            self._lines[room].claim(number, now_ms, now_ms + int(silence_s * 1000)) for number, silence_s in numbers
        ]
        self._note_if_new(room, claimed)
        return claimed

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
        self._note(self.now_ms(), at_once=True)

    def _new_line(self, room: Room) -> Line:
        noted = self._noted.get(room.name)
        if noted is None:
            return Line(room, self._start_ms)
        base = max(self._start_ms // 1000 * SERIES_STEP, noted.issued + SERIES_STEP)
        return Line(room, self._start_ms, base=base, assumed_until_ms=noted.rests_until_ms)

    def _note_if_new(self, room: str, outcomes: Sequence[Joined] | Sequence[Claimed]) -> None:
        """Note at once the first number of a series, and a pass that ends later than the note allows for."""
        noted = self._noted.get(room)
        if (
            noted is None
            or noted.issued < self._lines[room].base
            or any(outcome.end_ms > noted.rests_until_ms for outcome in outcomes)
        ):
            self._note(self.now_ms(), at_once=True)

    def _note(self, now_ms: int, *, at_once: bool = False) -> None:
        """Note what a successor must know, should this process end at any moment until the next time."""
        if self._notes is None or not (at_once or now_ms >= self._note_due_ms or self._outgrown()):
            return
        for name, line in self._lines.items():
            if line.issued >= line.base:
                self._noted[name] = RoomNote(line.issued, self._rests_until_ms(line, now_ms))
        if self._notes.write(self._noted):
            self._note_due_ms = now_ms + NOTE_EVERY_MS

    def _outgrown(self) -> bool:
        """Whether a pass is out, or somebody was told to be away, for longer than the note allows for."""
        return any(
            max(line.passes_end_ms, line.asks_by_ms) > (self._noted[name].rests_until_ms if name in self._noted else 0)
            for name, line in self._lines.items()
        )

    @staticmethod
    def _rests_until_ms(line: Line, now_ms: int) -> int:
        """Until when a successor lets nobody in: 0 when nobody is inside, in line, or was in the last minute."""
        until_ms = line.assumed_until_ms if line.assumed_until_ms > now_ms else 0
        if line.asks_by_ms:
            until_ms = max(until_ms, line.asks_by_ms + NOTE_EVERY_MS)
        if line.passes_end_ms or line.admissions.in_minute(now_ms):
            longest_ms = max(int(line.room.session_duration_s * 1000), MINUTE_MS)
            until_ms = max(until_ms, line.passes_end_ms, now_ms + NOTE_EVERY_MS + longest_ms)
        return until_ms
