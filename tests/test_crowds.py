"""Seeded crowds on virtual time: the promises, as the people in line see them.

Every crowd is played once against the real service, ticker and store, then judged promise by promise. A test's name
ends with the crowd it judged: how people behave, the room, and the seed from which all chance was drawn.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from rooms import room

from waitroom.core.queueing import CHUNK, Heard, JoinRequest, Line
from waitroom.core.tokens import Keyring
from waitroom.model import TICK_S, Ticket
from waitroom.service import RoomService
from waitroom.store.memory import MemoryStore
from waitroom.testing import Crowd, FakeClock, Fault, OpenedSqlite, Plan

CROWD = Plan(visitors=160, arrive_s=20, visit_s=12)

PLANS = {
    "faithful": CROWD,
    "half-ghosts": replace(CROWD, never=0.2, leave=0.2, late=0.1),
    "ninety-ghosts": replace(CROWD, never=0.4, leave=0.5),
    "exodus": replace(CROWD, exodus=(30, 0.8)),
    "hidden": replace(CROWD, hidden=0.3),
    "late": replace(CROWD, late=0.5),
    "faster": replace(CROWD, visit_s=24, faster=(60, 4)),
    "repeats": replace(CROWD, repeat=0.5, never=0.2, late=0.2),
}

ROOMS = {
    "line": room(),
    "standby": room(always_queue=False),
    "tight": room(new_users_per_minute=30),
}

SEEDS = (7, 11)
CROWDS = [(plan, name, seed) for plan in PLANS for name in ROOMS for seed in SEEDS]
LOOSE = [crowd for crowd in CROWDS if crowd[1] != "tight"]
SECONDS = 210


@functools.cache
def outcome(plan, name, seed):
    """Play a crowd, once."""
    return asyncio.run(Crowd(ROOMS[name], PLANS[plan], seed).play(SECONDS))


def crowds(which):
    """Judge each of these crowds, named by how it was made."""
    return pytest.mark.parametrize(("plan", "name", "seed"), which, ids=["-".join(map(str, crowd)) for crowd in which])


def caps_hold(crowd, protected):
    """Assert P3, as far as visitors can see it."""
    assert crowd.most_active <= protected.total_active_users
    assert crowd.most_in_a_minute <= protected.new_users_per_minute
    assert crowd.most_in_a_second <= -(-protected.new_users_per_minute // 60)


@crowds(CROWDS)
def test_nobody_is_called_before_somebody_present_and_before_them(plan, name, seed):
    """P1: each call, and each admission without one, is right at its moment."""
    assert outcome(plan, name, seed).overtakings == []


@crowds(CROWDS)
def test_neither_cap_is_ever_exceeded(plan, name, seed):
    """P3: passes that open the door, admissions in any minute, admissions in any second."""
    caps_hold(outcome(plan, name, seed), ROOMS[name])


@crowds(LOOSE)
def test_no_slot_stands_idle_before_somebody_present(plan, name, seed):
    """P4: however many are ghosts, a free slot waits two ticks at most while its next holder is there."""
    assert outcome(plan, name, seed).longest_idle_s <= 2 * TICK_S


@crowds([crowd for crowd in CROWDS if "ghosts" in crowd[0] or crowd[0] == "exodus"])
def test_who_is_silent_beyond_the_time_told_is_not_called(plan, name, seed):
    """P4: a slot is offered only to somebody who may still be there; who never asked once is offered none."""
    people = outcome(plan, name, seed).people
    silent = [person for person in people if person.admitted_s is None and person.kind != "late"]
    assert len(silent) > 20
    for person in silent:
        # Due times are kept in tenths of a second, rounded up, and looked at once a tick.
        assert person.called_s is None or person.called_s <= person.silent_until_s + 0.1 + TICK_S
        assert person.called_s is None or person.kind != "never"


@crowds(CROWDS)
def test_no_place_and_no_pass_is_lost(plan, name, seed):
    """P5: every ask finds its place, late and hidden ones too, and every pass opens the door until its end."""
    crowd = outcome(plan, name, seed)
    assert (crowd.places_lost, crowd.passes_refused) == (0, 0)


@pytest.mark.parametrize("name", ["line", "standby"])
@pytest.mark.parametrize("plan", ["faithful", "late", "faster"])
def test_everybody_who_stays_gets_in(plan, name):
    """P5: with time enough the line runs dry, and those who were away for a while were let in as well."""
    people = outcome(plan, name, SEEDS[0]).people
    assert [person.number for person in people if person.admitted_s is None and person.kind != "late"] == []
    late = [person for person in people if person.kind == "late"]
    assert sum(person.admitted_s is not None for person in late) >= 0.8 * len(late)


@crowds([crowd for crowd in CROWDS if crowd[1] == "tight" and crowd[0] in {"faithful", "late", "hidden"}])
def test_the_minute_is_used_not_only_kept(plan, name, seed):
    """A tight cap is reached: nearly so many get in each minute while there are so many."""
    assert outcome(plan, name, seed).most_in_a_minute >= 0.9 * ROOMS[name].new_users_per_minute


@crowds(CROWDS)
def test_waiting_costs_no_store_operation(plan, name, seed):
    """P9: the store hears of joins, claims and leaves; of asks only with the tick."""
    crowd = outcome(plan, name, seed)
    assert crowd.asks > 0
    assert crowd.store_operations <= crowd.wishes


@crowds(CROWDS)
def test_nobody_is_shown_more_people_ahead_than_before(plan, name, seed):
    """P10: whoever comes back, whoever leaves, what one visitor is told never rises."""
    assert outcome(plan, name, seed).rising == 0


@crowds([crowd for crowd in CROWDS if crowd[0] == "repeats"])
def test_repeats_are_harmless(plan, name, seed):
    """P14: joins and claims sent twice at once, and again from an old tab: one number, one slot, one pass."""
    crowd = outcome(plan, name, seed)
    repeating = [person for person in crowd.people if person.repeats]
    assert sum(person.admitted_s is not None for person in repeating) > 10
    assert (crowd.repeats_differ, crowd.given_twice) == (0, 0)
    assert max(person.number for person in crowd.people) == len(crowd.people)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("killed_s", [6, 30])
@pytest.mark.parametrize("name", ["line", "standby"])
def test_a_killed_process_costs_nobody_the_place(name, killed_s, seed, tmp_path):
    """P1 P2 P3 P5 across kill -9: places and passes hold, in order, no number twice, both caps; the line goes on."""
    plan = replace(CROWD, faults=((killed_s, Fault.ALL),), late=0.1, never=0.1, repeat=0.2)
    crowd = asyncio.run(Crowd(ROOMS[name], plan, seed, tmp_path).play(180))
    assert crowd.overtakings == []
    assert (crowd.places_lost, crowd.passes_refused, crowd.given_twice, crowd.repeats_differ) == (0, 0, 0, 0)
    caps_hold(crowd, ROOMS[name])
    of_old_places = [p for p in crowd.admitted if p.arrived_s < killed_s < p.admitted_s]
    assert len(of_old_places) >= (30 if killed_s > 20 else 3)


# -- several workers on a record that lasts ----------------------------------------------------------------------------

HOUSES = {
    "calm": (),
    "keeper-killed": tuple((at_s, Fault.KEEPER) for at_s in (5, 12, 30, 31, 50, 75)),
    "workers-killed": tuple((at_s, Fault.WORKER) for at_s in (4, 9, 20, 21, 40, 60)),
    "everything-killed": tuple((at_s, Fault.ALL) for at_s in (8, 33, 34, 70)),
    "away": ((6, Fault.AWAY), (30, Fault.AWAY), (64, Fault.AWAY)),
    "leader-asleep": ((10, Fault.ASLEEP), (60, Fault.ASLEEP)),
    "clock-steps": tuple((at_s, fault) for at_s in (10, 30, 50) for fault in (Fault.CLOCK, Fault.ALL)),
}


@functools.cache
def lasting(house, name, workers, seed):
    """Play a crowd against workers that share a file, once."""
    plan = replace(CROWD, faults=HOUSES[house], late=0.15, never=0.1, leave=0.1, repeat=0.2)
    with tempfile.TemporaryDirectory() as folder:
        crowd = Crowd(ROOMS[name], plan, seed, Path(folder), opener=OpenedSqlite, workers=workers)
        return asyncio.run(crowd.play(180))


LASTING = [(house, name, 2, SEEDS[0]) for house in HOUSES for name in ("line", "standby", "tight")]
LASTING += [("calm", "line", 1, SEEDS[1]), ("calm", "line", 4, SEEDS[1]), ("everything-killed", "standby", 4, SEEDS[1])]
lasting_crowds = pytest.mark.parametrize(
    ("house", "name", "workers", "seed"), LASTING, ids=["-".join(map(str, crowd)) for crowd in LASTING]
)


@lasting_crowds
def test_whatever_dies_nobody_overtakes(house, name, workers, seed):
    """P1 with several workers, and with whichever process killed: each call is right at its moment."""
    assert lasting(house, name, workers, seed).overtakings == []


@lasting_crowds
def test_whatever_dies_no_number_is_given_twice_and_no_place_lost(house, name, workers, seed):
    """P2 P5 P14: what was answered is kept; a ticket finds its place at every worker, a pass its door."""
    crowd = lasting(house, name, workers, seed)
    assert (crowd.places_lost, crowd.passes_refused, crowd.given_twice, crowd.repeats_differ) == (0, 0, 0, 0)


@lasting_crowds
def test_whatever_dies_both_caps_hold(house, name, workers, seed):
    """P3: passes that open a door anywhere, admissions in any minute and any second."""
    caps_hold(lasting(house, name, workers, seed), ROOMS[name])


@lasting_crowds
def test_whatever_dies_the_line_goes_on(house, name, workers, seed):
    """P4: nobody who stayed is left standing, and nobody was shown more people ahead than before."""
    crowd = lasting(house, name, workers, seed)
    assert crowd.rising == 0
    if name != "tight":
        assert [
            person.number for person in crowd.people if person.admitted_s is None and person.kind == "faithful"
        ] == []


# -- what a poll costs -------------------------------------------------------------------------------------------------


class Scanned(bytes):
    """A chunk that counts how many of its standings are looked at."""

    looked_at = 0

    def count(self, what, low, high):
        """Count, and note how far."""
        Scanned.looked_at += max(0, high - low)
        return super().count(what, low, high)


def poll_cost(waiting):
    """Return the calls made and the standings looked at by one poll from the middle of so many waiting."""
    protected, clock = room(total_active_users=1), FakeClock()
    line = Line(protected, 0)
    line.join([JoinRequest("a" * 16, 3600.0)] * waiting, 0)
    line.hear([Heard(number, 3_600_000) for number in range(1, waiting + 1)], 0)
    line.call(1, 0)
    view = line.snapshot(0)
    view = replace(view, chunks={chunk_id: Scanned(chunk) for chunk_id, chunk in view.chunks.items()})
    service = RoomService(protected, view, MemoryStore([protected], clock), Keyring(["k" * 32]), clock)
    text = service.ticket_text(Ticket("launch", 1, waiting // 2, "a" * 16, 0))
    calls = 0

    def count(frame, event, arg):
        nonlocal calls
        calls += event in {"call", "c_call"}

    service.told(service.read([(text, None)]))
    Scanned.looked_at = 0
    sys.setprofile(count)
    try:
        told = service.told(service.read([(text, None)]))
    finally:
        sys.setprofile(None)
    assert told.ahead == waiting // 2 - 2
    return calls, Scanned.looked_at


def test_a_poll_costs_the_same_behind_a_hundred_thousand():
    """P9: the calls made are the same in number, and never more than one chunk is counted through."""
    (calls_of_few, _), (calls_of_many, looked_at) = poll_cost(100), poll_cost(100_000)
    assert calls_of_many == calls_of_few
    assert looked_at <= 2 * CHUNK
