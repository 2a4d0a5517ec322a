"""Time, with two faces.

``wall_s`` is for what people and logs read; ``monotonic_s`` is for durations. Nothing that paces or ends anything reads
the wall: it steps. Loops at the rim own a clock; everything below them is given instants.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What is asked of a clock; ``testing.FakeClock`` is the other one."""

    def wall_s(self) -> float:
        """Return seconds since 1970 by the wall clock, which may step."""

    def monotonic_s(self) -> float:
        """Return seconds since some moment, never running backwards."""


class SystemClock:
    """The machine's clock."""

    def wall_s(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def monotonic_s(self) -> float:
        """Return seconds since boot or so."""
        return time.monotonic()
