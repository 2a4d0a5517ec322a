"""What people were told of their wait is judged by when they were called."""

from __future__ import annotations

from waitroom.core.scoring import NUMBERS_MAX, RANGES_MAX, Estimates


def score(estimates):
    """Return how many held, of how many judged."""
    return estimates.held, estimates.judged


def test_a_range_holds_when_the_call_comes_within_it():
    """Each range a number was told is judged by itself; a second more or less is the grain of it all."""
    estimates = Estimates()
    estimates.tell(7, (10, 20), 0, 0)
    estimates.tell(7, (1, 2), 12_000, 0)
    estimates.tell(7, (9, 30), 13_000, 0)
    estimates.tell(8, (0, 1), 0, 0)
    estimates.call([7, 9], 15_000, 0)
    assert score(estimates) == (2, 3)
    estimates.call([7], 15_000, 0)
    assert score(estimates) == (2, 3), "judged twice"
    estimates.tell(9, (10, 20), 0, 0)
    estimates.tell(10, (10, 20), 0, 0)
    estimates.call([9], 9_000, 0)
    estimates.call([10], 21_500, 0)
    assert score(estimates) == (3, 5)


def test_who_was_away_or_waited_through_a_hold_tells_nothing():
    """Neither is the estimate's doing; nor is another line's."""
    estimates = Estimates()
    estimates.tell(1, (1, 2), 0, 0)
    estimates.tell(2, (1, 2), 0, 0)
    estimates.tell(3, (1, 2), 0, 0)
    estimates.forget(1)
    estimates.forget(99)
    estimates.call([1, 2], 90_000, 60_000)
    estimates.clear()
    estimates.call([3], 1_500, 0)
    assert score(estimates) == (0, 0)


def test_a_line_of_any_length_costs_the_same():
    """Of a long line one number in so many is followed, and all of them again once it is short."""
    estimates = Estimates()
    for number in range(1, 50_001):
        for _ in range(2):
            estimates.tell(number, (1, 1), 0, 0)
    assert len(estimates._told) <= NUMBERS_MAX
    for _ in range(200):
        estimates.tell(49_984, (1, 1), 0, 0)
    assert max(map(len, estimates._told.values())) == RANGES_MAX
    estimates.call(range(1, 50_001), 1_000, 0)
    assert estimates.judged >= NUMBERS_MAX
    assert estimates.held == estimates.judged
    estimates.tell(50_001, (1, 1), 0, 0)
    assert len(estimates._told) == 1
