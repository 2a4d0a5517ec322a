"""How many to call, and how many may come in.

A slot at the origin is in one of three hands: a visitor who is inside, a visitor who was called and may still come, or
free. Only free slots are offered; that is the first hard cap, ``total_active_users``, and it is judged where the record
is (``core/queueing.py``), because a worker's view of it is a tick old.

The second hard cap, ``new_users_per_minute``, is kept here in three pieces:

* ``Admissions`` judges claims: never more than the cap in *any* 60 seconds, and never more than its sixtieth part,
  rounded up, in any second, so that all who were called coming in the same 10 ms do not arrive at the shop together;
* ``Pacer`` spreads calls evenly and keeps at most a second of unused credit, so that nothing bursts after a pause;
* ``Pace`` measures how fast slots really come free, which is what people are told.

Instants are whole milliseconds of store time, given by the caller.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BUCKET_MS = 250
MINUTE_BUCKETS = 240
"""The minute is the current bucket and the 240 before it, each counted whole: never less than 60 s."""

SECOND_MS = 1_000
CREDIT_S = 1.0
"""Unused credit the pacer keeps: more would be a burst, less would lose calls to the coarseness of a tick."""


class Admissions:
    """The claims of the last minute, and how many more the cap allows."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._buckets: deque[tuple[int, int]] = deque()
        self._in_minute = 0
        self._recent: deque[int] = deque()

    @property
    def per_second(self) -> int:
        """The most claims in any second: a sixtieth of the cap, rounded up."""
        return -(-self.per_minute // 60)

    def in_minute(self, now_ms: int) -> int:
        """Return the claims counted against the cap at ``now_ms``."""
        oldest = now_ms // BUCKET_MS - MINUTE_BUCKETS
        while self._buckets and self._buckets[0][0] < oldest:
            self._in_minute -= self._buckets.popleft()[1]
        return self._in_minute

    def room(self, now_ms: int) -> int:
        """Return how many claims may be granted at this instant."""
        while self._recent and self._recent[0] <= now_ms - SECOND_MS:
            self._recent.popleft()
        return max(0, min(self.per_minute - self.in_minute(now_ms), self.per_second - len(self._recent)))

    def minute_room(self, now_ms: int) -> int:
        """Return how many claims the minute still has room for, its spread over seconds left aside."""
        return max(0, self.per_minute - self.in_minute(now_ms))

    def wait_ms(self, now_ms: int) -> int:
        """Return after how many milliseconds another claim may be granted; 0 when one may be now."""
        if self.room(now_ms):
            return 0
        if not self.per_minute:
            return MINUTE_BUCKETS * BUCKET_MS
        second_ms = self._recent[0] + SECOND_MS - now_ms if len(self._recent) >= self.per_second else 0
        if self.minute_room(now_ms):
            return second_ms
        return max(second_ms, (self._buckets[0][0] + MINUTE_BUCKETS + 1) * BUCKET_MS - now_ms)

    def record(self) -> list[tuple[int, int]]:
        """Return what is counted, by bucket."""
        return list(self._buckets)

    def restore(self, buckets: Iterable[tuple[int, int]]) -> None:
        """Go on from what was counted; of the last second each claim is taken for made at its bucket's end."""
        self._buckets = deque((bucket, count) for bucket, count in buckets)
        self._in_minute = sum(count for _, count in self._buckets)
        last = self._buckets[-1][0] if self._buckets else 0
        for bucket, count in self._buckets:
            if bucket >= last - SECOND_MS // BUCKET_MS:
                self._recent.extend([(bucket + 1) * BUCKET_MS] * count)

    def add(self, now_ms: int) -> None:
        """Count one claim granted at ``now_ms``."""
        bucket = now_ms // BUCKET_MS
        if self._buckets and self._buckets[-1][0] >= bucket:
            bucket, before = self._buckets.pop()
            self._buckets.append((bucket, before + 1))
        else:
            self._buckets.append((bucket, 1))
        self._in_minute += 1
        self._recent.append(now_ms)


class Pacer:
    """A token bucket for calls: even, and without catching up on time that was lost."""

    def __init__(self, now_ms: int) -> None:
        self._credit = 0.0
        self._at_ms = now_ms

    def credit(self, now_ms: int, per_minute: int) -> int:
        """Return how many may be called now; unused credit beyond ``CREDIT_S`` is lost."""
        rate = per_minute / 60
        elapsed_s = max(0, now_ms - self._at_ms) / 1000
        self._at_ms = max(self._at_ms, now_ms)
        self._credit = min(self._credit + rate * elapsed_s, max(1.0, rate * CREDIT_S))
        return int(self._credit)

    def spend(self, called: int) -> None:
        """Take what was really called from the credit."""
        self._credit = max(0.0, self._credit - called)


class Pace:
    """How fast slots come free: calls a second, over the last minute in which every slot was taken.

    Until half a minute has been seen, what the caps promise stands in with the weight of ``PROMISE_S`` seconds: the
    first people to wait are told something sensible, and what is seen soon outweighs what was promised. While slots are
    free the cap on new users alone sets the pace, and nothing is learned.

    ``gap_s`` is the longest time of that minute in which nobody was called: where many came in together they also leave
    together, and whoever is next then waits for all of a session, or for nothing.
    """

    WINDOW_S = 60.0
    PROMISE_S = 10.0

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque()
        self._seconds = 0.0
        self._calls = 0
        self._promised_per_s = 0.0
        self.gap_s = 0.0

    def step(self, elapsed_s: float, called: int, *, full: bool, promised_per_s: float) -> None:
        """Note one tick. ``full``: every slot was taken and somebody waited; other time says nothing of the pace."""
        self._promised_per_s = promised_per_s
        if not full:
            return
        self._steps.append((elapsed_s, called))
        self._seconds += elapsed_s
        self._calls += called
        while self._seconds > self.WINDOW_S:
            seconds, calls = self._steps.popleft()
            self._seconds -= seconds
            self._calls -= calls
        quiet_s = self.gap_s = 0.0
        for seconds, calls in self._steps:
            quiet_s = 0.0 if calls else quiet_s + seconds
            self.gap_s = max(self.gap_s, quiet_s)

    @property
    def per_s(self) -> float:
        """Calls a second; zero only when nothing was seen and nothing is promised."""
        weight_s = self.PROMISE_S if self._seconds < self.WINDOW_S / 2 else 1.0
        return (self._calls + self._promised_per_s * weight_s) / (self._seconds + weight_s)


def expected_wait_s(ahead: int, free: int, per_minute: int, freed_per_s: float) -> float | None:
    """Return the seconds until whoever has ``ahead`` people before them is called; None when it cannot be told.

    The ``free`` slots go as fast as ``per_minute`` allows; after them one goes whenever one comes free.
    """
    per_s = per_minute / 60
    if ahead < free:
        return (ahead + 1) / per_s
    freed_per_s = min(per_s, freed_per_s)
    return None if not freed_per_s else max(0, free) / per_s + (ahead + 1 - max(0, free)) / freed_per_s
