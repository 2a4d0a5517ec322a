"""What happened in each room in the last hour, in steps of five seconds.

It is kept by the process that serves operators, in memory and in a bounded form: four rings of numbers a room, 23 kB,
whatever happens in it. The record counts joins and admissions as totals, so a step is the difference of two looks; a
step in which nobody looked, because the record was away, is unknown and no zero. The hour begins with the process.
"""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

STEP_S: Final = 5.0
STEPS: Final = 720
STEPS_A_MINUTE: Final = 12

SERIES: Final = ("joined", "admitted", "waiting", "inside")
"""What is kept: how many joined and were let in within each step, and how many waited and were inside at its end."""

TOTALS: Final = {"joined": "joined_total", "admitted": "admitted_total"}
"""The facts that the first two are differences of; the others are facts themselves."""

UNKNOWN: Final = -1


class _Trail:
    """One room's rings; ``step`` is the one that is still running."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.rings = {name: array("q", [UNKNOWN]) * STEPS for name in SERIES}
        self.totals: dict[str, int] = {}


class History:
    """The last hour of every room. ``now_s`` is a clock that never steps."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._trails: dict[str, _Trail] = {}

    def note(self, rooms: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Take in the facts of all rooms there are, as of now; a room that is not among them is forgotten."""
        step = int(self._now_s() // STEP_S)
        before, self._trails = self._trails, {}
        for room, facts in rooms:
            trail = self._trails[room] = before.get(room) or _Trail(step)
            _note(trail, step, facts)

    def of(self, room: str) -> dict[str, list[int | None]]:
        """Return the steps that are over, the oldest first; None where nothing is known."""
        now = int(self._now_s() // STEP_S)
        trail = self._trails.get(room) or _Trail(now)
        return {
            name: [
                ring[step % STEPS] if step <= trail.step and ring[step % STEPS] != UNKNOWN else None
                for step in range(now - STEPS + 1, now)
            ]
            for name, ring in trail.rings.items()
        }

    def minutes(self, room: str) -> list[dict[str, int | None]]:
        """Return the last hour minute by minute, the latest first: sums of joins and admissions, the ends of the rest.

        A minute of which a step is unknown is not added up.
        """
        found = []
        steps = self.of(room)
        for end in range(STEPS - 1, STEPS_A_MINUTE - 1, -STEPS_A_MINUTE):
            minute: dict[str, int | None] = {}
            for name, values in steps.items():
                part = [value for value in values[end - STEPS_A_MINUTE : end] if value is not None]
                if name in TOTALS:
                    minute[name] = sum(part) if len(part) == STEPS_A_MINUTE else None
                else:
                    minute[name] = part[-1] if part else None
            found.append(minute)
        return found


def _note(trail: _Trail, step: int, facts: Mapping[str, Any]) -> None:
    skipped = range(max(trail.step + 1, step - STEPS + 1), step + 1)
    for one in skipped:
        for ring in trail.rings.values():
            ring[one % STEPS] = UNKNOWN
    # What happened while nobody looked for a whole step belongs to no step that is known.
    followed = step - trail.step <= 1 and bool(trail.totals)
    trail.step = step
    for name, ring in trail.rings.items():
        place = step % STEPS
        if name not in TOTALS:
            ring[place] = facts[name]
            continue
        total = facts[TOTALS[name]]
        if followed:  # a total that fell is another record's, and says nothing of this step
            ring[place] = max(0, ring[place]) + max(0, total - trail.totals[name])
        trail.totals[name] = total
