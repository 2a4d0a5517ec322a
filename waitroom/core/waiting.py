"""What a waiting visitor is told: how long it may take, and when to ask again.

The expected wait is people ahead over the measured pace, given as a range. Its lower end counts on as many giving up
as did lately, for a line from which half vanish takes half as long; its upper end on half of that. The interval is a
quarter of the expected wait, within the room's bounds: people far back ask rarely, people near the front often. The
sender of the interval adds no chance to it; the page waits 1 to 1 + ``jitter`` times as long. Whoever is silent beyond
that, and two seconds more, is absent: the time told is a promise on both sides.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waitroom.model import Refresh

SILENCE_S = 2.0
"""Grace beyond the longest time a page may wait: a slow network, a busy phone."""

OFFER_S = 1.0
"""An offer outlasts the next time its holder may ask by this much."""

HIDDEN_S = 60.0
"""Browsers run a hidden page's timers once a minute at most; less would be a promise it cannot keep."""

FIRST_S = 30.0
"""The longest a first visit is told to wait: whoever never asks once is found out within it."""

SPREAD = (0.45, 1.8)
"""The range told, in shares of the expected wait: a pace that halves midway makes it up to twice as long, one that
doubles half as long, and four of five calls come within it in either case (``tests/test_estimates.py``, the demo)."""

RANDOM_SPREAD = (0.1, 2.3)
"""The range told where people are called at random, in shares of the time in which the pace calls as many as wait.

If nobody new came, that time would be the longest wait; if as many come as are called, four of five wait within this.
"""

HALF_AN_HOUR_S = 1800.0


def interval_s(wait_s: float | None, refresh: Refresh, *, hidden: bool = False, first: bool = False) -> float:
    """Return in how many seconds a page should ask again. ``wait_s`` None is *cannot be told*."""
    wait_s = math.inf if wait_s is None else wait_s
    longest_s = refresh.farthest_s if HALF_AN_HOUR_S < wait_s < math.inf else refresh.far_s
    if first:
        longest_s = max(refresh.near_s, min(longest_s, FIRST_S))
    told_s = min(longest_s, max(refresh.near_s, wait_s / 4))
    return max(told_s, HIDDEN_S) if hidden else told_s


def silence_s(told_s: float, refresh: Refresh) -> float:
    """Return after how many seconds of silence whoever was told ``told_s`` is absent."""
    return told_s * (1 + refresh.jitter) + SILENCE_S


class Thinning:
    """How fast people in line give up: the share of them that is gone a second, over the last minute.

    Everybody is taken for equally likely to go at any moment. That is not so, for most who vanish do it soon; but then
    they are found out soon, and the minute forgets it. Until a line was watched for as long as it takes to find out who
    never asks at all, nobody knows; ``perhaps_per_s`` is then what may well be.
    """

    WINDOW_S = 60.0
    PERHAPS_PER_S = 0.004
    """A crowd of which half is gone after three minutes."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int, int]] = deque()
        self._seconds = 0.0
        self._waited = 0.0
        self._gone = 0

    def step(self, elapsed_s: float, waiting: int, gone: int) -> None:
        """Note one tick through which ``waiting`` stood in line, and after which ``gone`` of them do not any more."""
        self._steps.append((elapsed_s, waiting, gone))
        self._seconds += elapsed_s
        self._waited += elapsed_s * waiting
        self._gone += gone
        while self._seconds > self.WINDOW_S:
            seconds, waited, went = self._steps.popleft()
            self._seconds -= seconds
            self._waited -= seconds * waited
            self._gone -= went

    @property
    def per_s(self) -> float:
        """The share that gives up in a second; 0 while nobody does."""
        return self._gone / self._waited if self._gone and self._waited > 0 else 0.0

    @property
    def perhaps_per_s(self) -> float:
        """The share that may give up in a second: more than was seen, as long as little was."""
        return max(self.per_s, self.PERHAPS_PER_S * (1 - self._seconds / FIRST_S))


def thinned_s(wait_s: float, per_s: float) -> float:
    """Return how long a wait of ``wait_s`` takes if of those ahead the share ``per_s`` gives up in each second.

    With ``a`` ahead, called at the pace ``c``, the line moves by ``c + a * per_s`` a second.
    """
    return math.log1p(per_s * wait_s) / per_s if per_s else wait_s


def wait_range(
    wait_s: float | None, *, at_random: bool = False, thinning: Thinning | None = None, gap_s: float = 0.0
) -> tuple[int, int] | None:
    """Return the range of whole seconds that people are shown, or None where none can be told.

    ``at_random``: people are called in no order, and ``wait_s`` is until as many were called as wait now.
    ``thinning`` is how those ahead give up, None: not at all; calls may be ``gap_s`` apart, and so may be the
    call and the time for which it is expected.
    """
    if wait_s is None:
        return None
    low, high = RANDOM_SPREAD if at_random else SPREAD
    soonest_s = perhaps_s = wait_s
    if thinning is not None:
        soonest_s, perhaps_s = (thinned_s(wait_s, per_s) for per_s in (thinning.per_s, thinning.perhaps_per_s))
    earliest_s = min(perhaps_s * low, max(0.0, perhaps_s - gap_s))
    return math.floor(earliest_s), math.ceil(max((soonest_s + wait_s) / 2 * high, wait_s + gap_s))
