"""Time, with two faces.

``wall_s`` is for what people and logs read; ``monotonic_s`` is for durations. Nothing that paces or ends anything reads
the wall: it steps. Loops at the rim own a clock; everything below them is given instants.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What is asked of a clock; ``testing.FakeClock`` is the other one."""

    def wall_s(self) -> float:
        """Return seconds since 1970 by the wall clock, which may step."""

    def monotonic_s(self) -> float:
        """Return seconds since some moment, never running backwards."""

    def boot_s(self) -> float:
        """Return seconds since the machine's boot, those it slept through counted too; the same in every process."""

    def boot_id(self) -> str:
        """Return what tells this boot of the machine from every other."""


class SystemClock:
    """The machine's clock."""

    def wall_s(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def monotonic_s(self) -> float:
        """Return seconds since boot or so."""
        return time.monotonic()

    def boot_s(self) -> float:
        """Return seconds since boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        """Return the kernel's name for this boot; empty where it has none."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return ""
