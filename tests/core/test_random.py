"""A line without an order: whoever is present is as likely to be called as anybody, and nobody else is."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from rooms import room
from steps import steps

from waitroom.core.gate import stands
from waitroom.core.queueing import BACK, CHUNK, NEW, RETURNER, SILENT, Heard, JoinRequest, Line
from waitroom.core.waiting import wait_range
from waitroom.model import QueueingMethod, VisitorState

START_MS = 1_700_000_000_000


class Played:
    """A line that calls at random, and the hand that moves its clock."""

    def __init__(self, count=0, seed=1, **settings):
        self.now_ms = START_MS
        self.line = Line(room(queueing_method=QueueingMethod.RANDOM, **settings), START_MS)
        self.chance = random.Random(seed)
        self.numbers = self.join(count)
        self.hear(*self.numbers)

    def join(self, count):
        """Let ``count`` join, who were not heard yet."""
        return [one.number for one in self.line.join([JoinRequest("a" * 16, 2.0)] * count, self.now_ms)]

    def hear(self, *numbers, told_s=1000.0, visible=True):
        """Let ``numbers`` ask."""
        until_ms = self.now_ms + int(told_s * 1000)
        self.line.hear([Heard(number, until_ms, visible) for number in numbers], self.now_ms)

    def call(self, budget=1_000):
        """Call as many as there is room for."""
        return self.line.call(budget, self.now_ms, self.chance.randrange)


def test_everybody_present_is_as_likely_to_be_first():
    """Over many lines each of ten is first about as often, whoever came first; also over two chunks."""
    first = Counter(Played(10, seed, total_active_users=1).call()[0] for seed in range(2_000))
    assert first.keys() == set(range(1, 11))
    assert all(140 < count < 260 for count in first.values())
    wide = Counter(Played(CHUNK + 1_000, seed, total_active_users=1).call()[0] > CHUNK for seed in range(100))
    assert 8 <= wide[True] <= 34  # of which 20 are to be expected


def test_all_are_called_once_and_nobody_counts_as_overtaken():
    """Whoever is called is called once, until nobody is left; there is no order that could be broken."""
    played = Played(30, total_active_users=30)
    called = played.call(10) + played.call()
    assert sorted(called) == played.numbers
    assert called != sorted(called)
    assert played.line.overtakings == 0
    assert (played.call(), played.line.present) == ([], 0)


def test_who_was_never_heard_and_who_is_silent_is_not_called():
    """P4: a ghost costs no slot, before its first time and after it."""
    played = Played(5, total_active_users=30)
    ghosts = played.join(20)
    assert sorted(played.call()) == played.numbers
    played.now_ms += 20_000
    [late] = played.join(1)
    played.hear(late)
    assert played.call() == [late]
    assert {played.line._at(number) for number in ghosts} == {SILENT}


def test_the_silent_are_found_out_when_they_are_drawn():
    """Those beside them too, and whoever is present is called in the same tick."""
    played = Played(200, total_active_users=5)
    played.hear(*played.numbers, told_s=1.0)
    played.now_ms += 2_000
    present = [7, 100, 180]
    played.hear(*present)
    assert sorted(played.call()) == present
    assert played.line._at(150) == SILENT


def test_a_tick_looks_no_longer_for_somebody_present_than_it_may():
    """A crowd that left from every chunk is found out over some ticks, and not in one."""
    chunks = 12
    played = Played(chunks * CHUNK, total_active_users=1)
    played.hear(*played.numbers, told_s=1.0)
    played.hear(*range(1, chunks * CHUNK, CHUNK), told_s=1_000.0)  # one in each chunk, which so is no silent one
    played.now_ms += 2_000
    called = [played.call(1) for _ in range(100)]
    assert called[0] == []
    assert any(called)


def test_who_missed_a_call_is_called_next():
    """P5: a returner before anyone new, also in a line without an order; and is told so."""
    played = Played(50, total_active_users=1)
    [missed] = played.call()
    played.line._turns[missed] = played.now_ms
    played.hear(missed, told_s=0.5)
    played.now_ms += 1_000
    played.line.sweep(played.now_ms)
    [other] = played.call()
    assert other != missed
    played.hear(missed)
    assert played.line._at(missed) == RETURNER
    assert stands(played.line.snapshot(played.now_ms), missed, played.now_ms) is VisitorState.MISSED
    played.line.leave(other, played.now_ms)
    assert played.call() == [missed]


def test_who_was_silent_without_a_call_is_drawn_among_the_rest():
    """Nobody passed them over: there is nothing to make up for."""
    played = Played(3, total_active_users=5)
    played.hear(2, told_s=0.5)
    played.now_ms += 1_000
    played.line.sweep(played.now_ms)
    played.hear(2)
    assert played.line._at(2) == BACK
    assert sorted(played.call()) == [1, 2, 3]


def test_numbers_before_everybody_present_are_left_behind():
    """Memory is bounded by who still waits: the absent in front are passed over as in any line."""
    played = Played(3)
    played.line.leave(1, played.now_ms)
    played.join(1)
    played.call(0)
    assert (played.line.serving, played.line._at(4)) == (1, NEW)


def test_a_call_in_a_long_line_is_short():
    """It counts chunks and looks at one of them; ten calls behind a hundred thousand do not look at each."""
    played = Played(100_000, total_active_users=10)
    called = []
    cost = steps(lambda: called.extend(played.call()))
    assert len(called) == 10
    assert cost < 100_000


@pytest.mark.parametrize("newcomers", [0, 1])
def test_four_of_five_wait_within_the_range_that_is_told(newcomers):
    """P10: in a crowd that nobody joins any more, and in one that is joined by as many as are called."""
    chance, waiting, now = random.Random(4), [0] * 500, 0
    low, high = wait_range(500.0, at_random=True)
    waits = []
    while waiting and now < 5_000:
        now += 1
        since = waiting.pop(chance.randrange(len(waiting)))
        if now > 1_500 or not newcomers:
            waits.append(now - since)
        waiting += [now] * newcomers
    within = sum(low <= wait <= high for wait in waits) / len(waits)
    assert within >= 0.78
    assert wait_range(None, at_random=True) is None


def test_where_nothing_is_left_to_chance_the_first_is_called():
    """For callers that bring none: the same line every time."""
    played = Played(5, total_active_users=2)
    assert played.line.call(9, played.now_ms) == [1, 2]
