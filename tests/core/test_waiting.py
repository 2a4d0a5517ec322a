"""What a waiting visitor is told: the interval, the silence allowed, the range."""

from __future__ import annotations

import pytest

from waitroom.core.waiting import Thinning, interval_s, silence_s, thinned_s, wait_range
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


def test_a_line_that_people_leave_is_shorter_than_it_seems():
    """At a pace of one a second with a hundred ahead, of whom two in a hundred go each second, it takes 55 s."""
    ahead, seconds = 100.0, 0.0
    while ahead > 0:
        ahead -= (1 + ahead * 0.02) * 0.001
        seconds += 0.001
    assert thinned_s(100, 0.02) == pytest.approx(seconds, rel=0.001)
    assert thinned_s(100, 0.0) == 100


def test_the_range_counts_on_those_who_give_up():
    """On all of them for its lower end, on half of them for its upper one: it still holds if they stop."""
    thinning = Thinning()
    for _ in range(120):
        thinning.step(0.25, 200, 1)
    assert thinning.perhaps_per_s == thinning.per_s == 0.02
    soonest_s = thinned_s(100, 0.02)
    low, high = wait_range(100, thinning=thinning)
    assert low == int(0.45 * soonest_s)
    assert 100 < high == -int(-1.8 * (100 + soonest_s) // 2) < 180


def test_how_fast_people_give_up_is_what_the_last_minute_saw():
    """The share of who waits that goes in a second; nothing before anybody was seen, and what is old is forgotten."""
    thinning = Thinning()
    assert thinning.per_s == 0
    thinning.step(0.0, 100, 1)
    assert thinning.per_s == 0
    for _ in range(40):
        thinning.step(0.25, 100, 1)
    assert thinning.per_s == pytest.approx(0.041)
    for _ in range(240):
        thinning.step(0.25, 50, 0)
    assert thinning.per_s == 0


def test_a_line_that_nobody_has_watched_yet_may_be_one_that_people_leave():
    """Only the lower end counts on it, and only until whoever never asks would have been found out."""
    thinning = Thinning()
    low, high = wait_range(600, thinning=thinning)
    assert (low, high) == (int(0.45 * thinned_s(600, Thinning.PERHAPS_PER_S)), 1080)
    for _ in range(60):
        thinning.step(0.25, 100, 0)
    assert low < wait_range(600, thinning=thinning)[0] < 270
    for _ in range(60):
        thinning.step(0.25, 100, 0)
    assert wait_range(600, thinning=thinning) == (270, 1080)


def test_calls_that_come_together_are_off_by_as_much_as_is_between_them():
    """Whoever is next waits for the whole gap or for nothing; far back the range is wide enough for that."""
    assert wait_range(5, gap_s=9) == (0, 14)
    assert wait_range(12, gap_s=9) == (3, 22)
    assert wait_range(100, gap_s=9) == (45, 180)
