"""The minute's cap, its spread over seconds, even calls, and the pace that people are told."""

from __future__ import annotations

import random

import pytest

from waitroom.core.inlet import Admissions, Pace, Pacer, expected_wait_s

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("per_minute", [1, 7, 60, 119, 600])
def test_no_minute_and_no_second_holds_more_than_the_cap(seed, per_minute):
    """Whoever asks whenever they like: any 60 s hold at most the cap, any second at most its sixtieth, rounded up."""
    chance, now_ms = random.Random(seed), 0
    admissions, granted = Admissions(per_minute), []
    while now_ms < 200_000:
        now_ms += chance.choice([0, 0, 1, 7, 249, 250, 999, 1_000, 5_000])
        if admissions.room(now_ms):
            admissions.add(now_ms)
            granted.append(now_ms)
    for index, at_ms in enumerate(granted):
        assert sum(1 for other in granted[index:] if other < at_ms + 60_000) <= per_minute, seed
        assert sum(1 for other in granted[index:] if other < at_ms + 1_000) <= -(-per_minute // 60), seed


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("per_minute", [7, 60, 119, 600])
def test_no_process_that_ends_makes_room(seed, per_minute):
    """Kept and restored at any moment, in the middle of a second too: both caps hold over all processes together."""
    chance, now_ms = random.Random(seed), 1_000_000
    admissions, granted = Admissions(per_minute), []
    while now_ms < 1_200_000:
        now_ms += chance.choice([0, 1, 7, 120, 249, 250, 251, 999, 5_000])
        if chance.random() < 0.2:
            kept, admissions = admissions.record(), Admissions(per_minute)
            admissions.restore(kept)
            assert admissions.record() == kept
        if admissions.room(now_ms):
            admissions.add(now_ms)
            granted.append(now_ms)
    for index, at_ms in enumerate(granted):
        assert sum(1 for other in granted[index:] if other < at_ms + 60_000) <= per_minute, seed
        assert sum(1 for other in granted[index:] if other < at_ms + 1_000) <= -(-per_minute // 60), seed


def test_a_minute_in_which_nobody_came_is_restored_as_one():
    """Nothing kept, nothing counted."""
    admissions = Admissions(60)
    admissions.restore(Admissions(60).record())
    assert (admissions.in_minute(5), admissions.room(5)) == (0, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_wait_told_is_the_wait_there_is(seed):
    """A claim that is told to wait so many milliseconds finds room then, and would not have a millisecond before."""
    chance, now_ms = random.Random(seed), 1_000
    admissions = Admissions(90)
    for _ in range(300):
        now_ms += chance.randrange(400)
        wait_ms = admissions.wait_ms(now_ms)
        if wait_ms:
            assert not admissions.room(now_ms + wait_ms - 1), seed
            now_ms += wait_ms
        assert admissions.room(now_ms), seed
        admissions.add(now_ms)


def test_the_minute_is_used_up_whole():
    """The cap is reached, not merely kept: a minute lets in all but what the buckets' edges take."""
    admissions = Admissions(60)
    granted = 0
    for now_ms in range(0, 600_000, 50):
        if admissions.room(now_ms):
            admissions.add(now_ms)
            granted += 1
    assert granted >= 600 * 0.99


def test_a_cap_of_nothing_says_to_ask_in_a_minute():
    """With a cap of zero nothing is granted, and the wait told is a minute rather than an error."""
    admissions = Admissions(0)
    assert (admissions.room(5), admissions.minute_room(5), admissions.wait_ms(5)) == (0, 0, 60_000)


def test_time_that_steps_back_loses_no_claim():
    """A claim stated for an earlier moment than the last is counted with the last."""
    admissions = Admissions(10)
    admissions.add(10_000)
    admissions.add(9_000)
    assert admissions.in_minute(10_000) == 2


def test_calls_are_even():
    """At 120 a minute one call is allowed each half second, however often one asks."""
    pacer, calls = Pacer(0), []
    for now_ms in range(250, 10_001, 250):
        if pacer.credit(now_ms, 120):
            calls.append(now_ms)
            pacer.spend(1)
    assert calls == list(range(500, 10_001, 500))


def test_a_pause_is_not_made_up_for():
    """After a minute in which nobody was called, at most a second's worth may be called at once."""
    pacer = Pacer(0)
    assert pacer.credit(60_000, 600) == 10
    pacer.spend(10)
    assert pacer.credit(60_000, 600) == 0


def test_a_slow_pace_still_calls_somebody():
    """Six a minute is a tenth a second: credit gathers until it is one, and is never cut off below."""
    pacer = Pacer(0)
    assert pacer.credit(9_000, 6) == 0
    assert pacer.credit(10_000, 6) == 1


def test_a_clock_that_runs_back_gives_and_takes_nothing():
    """Time that seems to run back adds no credit, and is not counted a second time."""
    pacer = Pacer(10_000)
    pacer.spend(pacer.credit(11_000, 60))
    assert pacer.credit(10_000, 60) == 0
    assert pacer.credit(11_000, 60) == 0


def test_what_was_called_beyond_the_credit_is_not_owed():
    """Spending more than there was leaves nothing, not a debt."""
    pacer = Pacer(0)
    pacer.spend(50)
    assert pacer.credit(1_000, 60) == 1


def test_before_anything_was_seen_the_promise_is_told():
    """Who waits first is told what the caps promise."""
    pace = Pace()
    assert pace.per_s == 0
    pace.step(0.25, 0, full=False, promised_per_s=3.0)
    assert pace.per_s == pytest.approx(3.0)


def test_what_is_seen_outweighs_what_was_promised():
    """A line promised ten a second that moves at one is told about one after a minute."""
    pace = Pace()
    for _ in range(60):
        pace.step(1.0, 1, full=True, promised_per_s=10.0)
    assert pace.per_s == pytest.approx(1.0, rel=0.2)


def test_a_pace_that_quadruples_is_known_within_a_minute():
    """The window forgets: a minute after the line moves four times as fast, the pace told is four times as high."""
    pace = Pace()
    for calls in (1, 4):
        for _ in range(61):
            pace.step(1.0, calls, full=True, promised_per_s=1.0)
    assert pace.per_s == pytest.approx(4.0, rel=0.05)


def test_time_in_which_nobody_waits_says_nothing():
    """An idle hour does not make the line look slow."""
    pace = Pace()
    for _ in range(60):
        pace.step(1.0, 2, full=True, promised_per_s=2.0)
    before = pace.per_s
    pace.step(3600.0, 0, full=False, promised_per_s=2.0)
    assert pace.per_s == before


def test_free_slots_go_at_the_caps_pace_and_the_rest_as_they_come_free():
    """Of ten a second with five slots free, the fifth waits half a second; the sixth waits for somebody to leave."""
    assert expected_wait_s(4, 5, 600, 0.5) == pytest.approx(0.5)
    assert expected_wait_s(5, 5, 600, 0.5) == pytest.approx(0.5 + 2.0)
    assert expected_wait_s(9, 0, 600, 0.5) == pytest.approx(20.0)
    assert expected_wait_s(9, -3, 600, 0.5) == pytest.approx(20.0)


def test_nobody_is_told_a_faster_pace_than_the_cap():
    """However fast slots come free, the cap on new users bounds the pace that is told."""
    assert expected_wait_s(9, 0, 60, 100.0) == pytest.approx(10.0)


def test_where_nothing_comes_free_no_wait_can_be_told():
    """A pace of nothing is no number of seconds."""
    assert expected_wait_s(0, 0, 60, 0.0) is None


def test_the_longest_time_without_a_call_is_told():
    """In the minute that is remembered, and only while every slot was taken."""
    pace = Pace()
    assert pace.gap_s == 0
    for called in (1, 0, 0, 0, 1, 0, 0):
        pace.step(1.0, called, full=True, promised_per_s=1.0)
    pace.step(50.0, 0, full=False, promised_per_s=1.0)
    assert pace.gap_s == 3
    for _ in range(60):
        pace.step(1.0, 1, full=True, promised_per_s=1.0)
    assert pace.gap_s == 0
