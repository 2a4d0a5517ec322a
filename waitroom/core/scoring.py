"""Whether what people were told of their wait came true: ranges, judged when their holder is called.

Every range that a number is told is kept until it is called, and judged then; a call that comes within the range, or
within a second of it, has held it. Who was away when called, gave up, or waited through a hold tells nothing of the
estimate, and is not judged. So that a line of any length costs the same, only some numbers are kept of a long one: one
in so many, evenly, whatever they were told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NUMBERS_MAX = 1000
"""Numbers whose ranges are kept at a time; some 300 kB at most."""

RANGES_MAX = 64
"""Ranges kept of one number: a page asks at a quarter of its wait, so they are some 20 for a wait of hours."""

GRACE_S = 1.0
"""Calls are made, and pages ask, in steps of this order."""


class Estimates:
    """The ranges that one worker told; ``held`` of the ``judged`` came true."""

    def __init__(self) -> None:
        self.judged = 0
        self.held = 0
        self._every = 1
        self._told: dict[int, list[tuple[int, int, int, int]]] = {}

    def keeps(self, number: int) -> bool:
        """Whether anything is kept of what a number is told."""
        return not number % self._every

    def tell(self, number: int, range_s: tuple[int, int], now_ms: int, stood_ms: int) -> None:
        """Note that a number was told to wait between two numbers of seconds."""
        if not self.keeps(number):
            return
        ranges = self._told.setdefault(number, [])
        if len(ranges) < RANGES_MAX:
            ranges.append((now_ms, stood_ms, *range_s))
        while len(self._told) > NUMBERS_MAX:
            self._every *= 2
            self._told = {one: told for one, told in self._told.items() if one % self._every == 0}

    def forget(self, number: int) -> None:
        """Judge nothing of a number: it was away when it was called, or gave up."""
        self._told.pop(number, None)

    def clear(self) -> None:
        """Forget what was told and not judged: the line is another."""
        self._told.clear()
        self._every = 1

    def call(self, numbers: Iterable[int], at_ms: int, stood_ms: int) -> None:
        """Judge those numbers that were called by ``at_ms``; ``stood_ms`` is how long the room's clock stood so far."""
        if not self._told:
            return
        for number in self._told.keys() & set(numbers):
            for told_ms, stood_before_ms, low_s, high_s in self._told.pop(number):
                if stood_before_ms != stood_ms:
                    continue
                self.judged += 1
                self.held += low_s - GRACE_S <= (at_ms - told_ms) / 1000 <= high_s + GRACE_S
        if not self._told:
            self._every = 1
