"""What a waiting visitor is told: how long it may take, and when to ask again.

The expected wait is people ahead over the measured pace, given as a range. The interval is a quarter of the expected
wait, within the room's bounds: people far back ask rarely, people near the front often. The sender of the interval adds
no chance to it; the page waits 1 to 1 + ``jitter`` times as long. Whoever is silent beyond that, and two seconds more,
is absent: the time told is a promise on both sides.
"""

from __future__ import annotations

import math
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
"""The range told, in shares of the expected wait. Wide, as a pace that halves doubles a wait, and as those who vanish
shorten it: so four of five calls come within it in either case (``tests/test_estimates.py``, and the demo)."""

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


def wait_range(wait_s: float | None, *, at_random: bool = False) -> tuple[int, int] | None:
    """Return the range of whole seconds that people are shown, or None where none can be told.

    ``at_random``: people are called in no order, and ``wait_s`` is until as many were called as wait now.
    """
    if wait_s is None:
        return None
    low, high = RANDOM_SPREAD if at_random else SPREAD
    return math.floor(wait_s * low), math.ceil(wait_s * high)
