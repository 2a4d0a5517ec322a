"""What a waiting visitor is told: the interval, the silence allowed, the range."""

from __future__ import annotations

import pytest

from waitroom.core.waiting import interval_s, silence_s, wait_range
from waitroom.model import Refresh

REFRESH = Refresh(near_s=2, far_s=60, farthest_s=300, jitter=0.3)


@pytest.mark.parametrize(
    ("wait_s", "told_s"),
    [(0, 2), (8, 2), (40, 10), (240, 60), (1800, 60), (1801, 300), (1300, 60), (1e9, 300), (None, 60)],
)
def test_the_interval_is_a_quarter_of_the_wait_within_bounds(wait_s, told_s):
    """Near people ask often, far people rarely, beyond half an hour more rarely still; unknown is far."""
    assert interval_s(wait_s, REFRESH) == told_s


@pytest.mark.parametrize(("wait_s", "told_s"), [(0, 2), (60, 15), (3600, 30), (None, 30)])
def test_the_first_time_is_told_within_half_a_minute(wait_s, told_s):
    """Who never asks once is found out within 30 s, however long the line."""
    assert interval_s(wait_s, REFRESH, first=True) == told_s


def test_the_first_time_is_never_below_near():
    """Where even near pages ask once a minute, the first time is no sooner."""
    assert interval_s(0, Refresh(near_s=60, far_s=60), first=True) == 60


@pytest.mark.parametrize(("wait_s", "told_s"), [(0, 60), (240, 60), (7200, 300)])
def test_a_hidden_page_is_told_a_minute_at_least(wait_s, told_s):
    """Browsers run a hidden page's timers once a minute: less would be a promise it cannot keep."""
    assert interval_s(wait_s, REFRESH, hidden=True) == told_s


def test_silence_allows_for_the_jitter_and_a_slow_network():
    """Whoever waits as long as the page may, and two seconds more, is not yet absent."""
    assert silence_s(10, REFRESH) == pytest.approx(10 * 1.3 + 2)


def test_the_range_holds_the_expected_wait():
    """The range is whole seconds around what is expected; nothing is said where nothing can be."""
    assert wait_range(100) == (45, 180)
    assert wait_range(0) == (0, 0)
    assert wait_range(None) is None
