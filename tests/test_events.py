"""Events in the whole house: the line opens once and on time, whatever happens to clocks, processes and files.

Crowds gather on virtual time, with several workers on one record; the rest asks the book and the service directly.
"""

from __future__ import annotations

import asyncio
import functools
import json
import math
import random
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rooms import room

from waitroom.core.queueing import Heard, JoinRequest
from waitroom.core.tokens import Keyring
from waitroom.model import Phase, RoomEvent, RoomState, VisitorState
from waitroom.ports import Known, Lead, Noted
from waitroom.service import Carried, RoomService
from waitroom.store.book import Book
from waitroom.store.memory import MemoryStore
from waitroom.store.notes import Notes
from waitroom.testing import Crowd, FakeClock, Fault, OpenedMemory, OpenedSqlite, Plan
from waitroom.ticker import Ticker

BORN_MS = 1_700_000_000_000
OPENS_S = 40
EVENT = RoomEvent("noon", BORN_MS + OPENS_S * 1000, BORN_MS + 200_000, BORN_MS)

FAULTS = {
    "calm": (),
    "clock-steps": ((5, Fault.CLOCK), (OPENS_S - 1, Fault.CLOCK), (OPENS_S, Fault.CLOCK), (OPENS_S + 3, Fault.CLOCK)),
    "clock-steps-and-kills": (
        (OPENS_S - 8, Fault.CLOCK),
        (OPENS_S - 5, Fault.ALL),
        (OPENS_S - 3, Fault.CLOCK),
        (OPENS_S - 1, Fault.KEEPER),
    ),
    "keeper-at-the-opening": ((OPENS_S, Fault.KEEPER),),
    "all-after-the-opening": ((OPENS_S + 2, Fault.CLOCK), (OPENS_S + 2.5, Fault.ALL)),
    "leader-asleep-at-the-opening": ((OPENS_S - 1, Fault.ASLEEP),),
    "worker-at-the-opening": ((OPENS_S, Fault.WORKER), (OPENS_S + 0.25, Fault.WORKER)),
}
LATE_S = {"leader-asleep-at-the-opening": 4, "keeper-at-the-opening": 3, "clock-steps-and-kills": 3}
"""Beyond two seconds: a lease ends; after a moment in which nobody was heard what was noted comes in first."""


@functools.cache
def outcome(name):
    """Play a crowd of four workers, once."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(visitors=150, arrive_s=30, visit_s=8, never=0.1, late=0.1, faults=FAULTS[name])
        crowd = Crowd(room(events=(EVENT,)), plan, 7, Path(folder), opener=OpenedSqlite, workers=4)
        return asyncio.run(crowd.play(200))


@pytest.mark.parametrize("name", FAULTS)
def test_the_line_opens_on_time_and_nobody_is_called_before(name):
    """At the start, not a tick before, and within seconds after it, in whatever state the house is."""
    calls = outcome(name).calls
    assert OPENS_S <= calls[0][0] <= OPENS_S + LATE_S.get(name, 2)


@pytest.mark.parametrize("name", FAULTS)
def test_the_crowd_of_an_event_is_kept_every_promise(name):
    """Order, places, both caps, and numbers shown that never rise, from the pre-queue to the last visitor."""
    seen = outcome(name)
    assert seen.overtakings == []
    assert seen.rising == 0
    assert seen.places_lost == 0
    assert seen.given_twice == 0
    assert seen.most_active <= 20
    assert len(seen.admitted) >= 120


def test_a_wiped_record_keeps_the_event_and_its_generation():
    """P5: all processes are killed in the pre-queue and memory: forgets everything; the note knows the event."""
    plan = Plan(visitors=60, arrive_s=20, visit_s=8, faults=((25, Fault.ALL),))
    with tempfile.TemporaryDirectory() as folder:
        lasting = replace(EVENT, end_time_ms=BORN_MS + 600_000)
        crowd = Crowd(room(events=(lasting,)), plan, 3, Path(folder), opener=OpenedMemory)
        seen = asyncio.run(crowd.play(400))
    assert seen.places_lost == 0
    assert seen.overtakings == []
    assert len(seen.admitted) == 60
    assert seen.calls[0][0] >= OPENS_S


class Played:
    """A book of one room with events, a wall clock apart from store time, and the hand that moves both."""

    def __init__(self, *events, ahead_ms=0, notes=None, **settings):
        self.now_ms = BORN_MS
        self.notes = notes
        self.open(*events, ahead_ms=ahead_ms, **settings)

    def open(self, *events, ahead_ms=0, **settings):
        """Begin a process that has only the note of the one before."""
        self.room = room(events=events, **settings)
        self.book = Book([self.room], self.now_ms, self.notes, ahead_ms=ahead_ms)
        self.tick()

    def reload(self, *events, ahead_ms=0):
        """Read another file, and take a step; return the numbers called."""
        self.room = replace(self.room, events=events)
        self.book.configure([self.room], self.now_ms, ahead_ms=ahead_ms)
        return self.tick()

    def tick(self, seconds=0.0):
        """Let time pass and take a step as the leader; return the numbers called."""
        self.now_ms += int(seconds * 1000)
        known = Known(self.line.generation)
        return list(self.book.tick("launch", known, Noted(), Lead("one", 0, self.line.serving, 99), self.now_ms).called)

    def join(self):
        """Let somebody join who is there for long; return the number."""
        [joined] = self.book.join("launch", Known(self.line.generation), [JoinRequest("a" * 16, 2.0)], self.now_ms)
        if joined.number:
            self.line.hear([Heard(joined.number, self.now_ms + 10_000_000)], self.now_ms)
        return joined.number

    @property
    def line(self):
        """The line as it is."""
        return self.book.lines["launch"]

    @property
    def facts(self):
        """What an operator sees."""
        return self.book.status("launch", self.now_ms).facts

    def did(self):
        """What the log says."""
        return [entry["did"] for entry in self.book.logs.get("launch", [])]


def test_each_event_is_a_generation_and_what_ended_the_last_line_is_forgotten():
    """Places of before are nothing, passes run out and count; sold out, closed and stock are of the night before."""
    played = Played(replace(EVENT, prequeue_start_time_ms=BORN_MS + 10_000))
    first = played.join()
    assert played.tick() == [first]
    assert played.book.claim("launch", Known(1), [(first, 2.0)], played.now_ms)[0].end_ms
    played.book.operate(
        "launch", {"closed": True, "final": True, "stock": 0, "total_active_users": 5}, "me", played.now_ms
    )
    played.tick(10)
    assert (played.line.generation, played.line.issued, played.line.inside) == (2, 0, 1)
    assert played.facts["said"] == {"total_active_users": 5}
    assert (played.facts["state"], played.facts["event"], played.facts["opens_s"]) == (RoomState.PREQUEUE, "noon", 30)
    assert played.join() == 1
    assert played.tick(29.75) == []
    assert played.tick(0.25) == [1]
    played.tick(200)
    assert (played.facts["state"], played.facts["opens_s"], played.join()) == (RoomState.CLOSED, None, 0)
    assert played.did()[1:] == ["event noon: people gather", "event noon: the line opens", "event noon: the line ends"]


def test_a_clock_that_is_set_moves_nothing_until_a_reload_before_the_event():
    """Read when the wall was 5 s ahead; then it is set two hours on, and the file is read again too late to matter."""
    gathers = replace(EVENT, prequeue_start_time_ms=BORN_MS + 10_000)
    played = Played(gathers, ahead_ms=5_000)
    played.tick(4.75)
    assert played.facts["event"] is None
    played.tick(0.25)
    assert played.facts["opens_s"] == 30
    played.reload(gathers, ahead_ms=7_200_000)
    assert played.facts["opens_s"] == 30
    early = Played(gathers, ahead_ms=5_000)
    early.reload(gathers, ahead_ms=-60_000)
    assert early.line.readings[0].ahead_ms == -60_000


def test_a_reload_after_an_event_does_not_run_it_twice():
    """A clock set back by hours makes nothing of the past due again, whatever is read anew."""
    played = Played(EVENT)
    played.tick(300)
    played.reload(EVENT, ahead_ms=-7_200_000)
    played.tick(7_200)
    assert (played.line.generation, played.facts["state"]) == (2, RoomState.CLOSED)


def test_an_event_out_of_the_file_leaves_the_line_to_the_room():
    """Dropped in the pre-queue: everybody keeps their place, and the room's own settings call them."""
    played = Played(replace(EVENT, total_active_users=1))
    number = played.join()
    assert played.reload() == [number]
    assert played.facts["event"] is None
    assert played.line.generation == 2
    assert played.line.room.total_active_users == 20
    assert played.did() == ["event noon: people gather", "event noon: is in the configuration no more"]


def test_the_note_knows_of_which_event_the_generation_is(tmp_path):
    """A record that was lost in the middle of an event goes on in it; the same generation, a series of its own."""
    played = Played(EVENT, notes=Notes(tmp_path / "notes"))
    played.join()
    played.book.note(played.now_ms, at_once=True)
    played.now_ms += 5_000
    played.open(EVENT)
    assert (played.line.generation, played.line.opening.phase) == (2, Phase.PREQUEUE)
    assert played.line.base > 1
    played.open()
    assert (played.line.generation, played.line.opening) == (2, None)


def test_a_lost_generation_is_found_with_its_event():
    """A worker that knows of a later generation is believed, and the event goes on."""
    played = Played(EVENT)
    played.book.tick("launch", Known(5, 12), Noted(), Lead("one"), played.now_ms)
    assert (played.line.generation, played.line.opening.event) == (5, "noon")
    assert played.line.readings
    played.tick(1)
    assert played.line.generation == 5


async def test_a_record_reads_an_event_once_and_by_the_wall(tmp_path):
    """Store time may be off the wall's: an event is read by the wall when a start first finds it, and not again."""
    clock = FakeClock()
    opened = OpenedSqlite(room(), clock, tmp_path)
    opened.crash()
    clock.step_wall(100)
    gathers = replace(EVENT, prequeue_start_time_ms=BORN_MS + 130_000, start_time_ms=BORN_MS + 140_000)
    for stepped_s in (0, 7_200):
        clock.step_wall(stepped_s)
        opened = OpenedSqlite(room(events=(gathers,)), clock, tmp_path)
        opened.crash()
    for due_s, state in ((29.75, RoomState.QUEUEING), (0.25, RoomState.PREQUEUE), (10, RoomState.QUEUEING)):
        clock.advance(due_s)
        opened = OpenedSqlite(room(events=(gathers,)), clock, tmp_path)
        view = await opened.store.snapshot("launch")
        await opened.store.close()
        assert view.state is state
    assert view.generation == 2


class Served:
    """A service before the opening, on a store in memory."""

    def __init__(self, *, opens_s=600, **settings):
        self.clock = FakeClock()
        event = RoomEvent("noon", BORN_MS + opens_s * 1000, BORN_MS + 10_000_000, BORN_MS)
        self.room = room(events=(event,), **settings)
        self.store = MemoryStore([self.room], self.clock)

    async def start(self):
        """Read the first view."""
        view = await self.store.snapshot("launch")
        self.service = RoomService(self.room, view, self.store, Keyring(["k" * 32]), self.clock)
        self.ticker = Ticker([self.service], self.store)
        return self

    async def tick(self, seconds=0.25):
        """Let time pass and take a step."""
        self.clock.advance(seconds)
        await self.ticker.step(self.service)

    def shared(self):
        """Return what everybody is told."""
        return json.loads(self.service.shared_status)


async def test_everybody_is_told_when_it_opens():
    """`now` and the page say the start as it was configured, and what a visitor is told is the pre-queue."""
    served = await Served().start()
    joined, told = await served.service.join()
    assert (told.state, told.ahead, told.wait_s) == (VisitorState.PREQUEUE, 0, None)
    await served.tick(0.3)
    again = served.service.told(Carried(ticket=served.service.ticket(joined)))
    assert (again.state, again.number) == (VisitorState.PREQUEUE, 1)
    assert (served.shared()["state"], served.shared()["opens_at"]) == ("prequeue", BORN_MS + 600_000)
    assert served.service.opens_s() == 600
    assert served.service.notes() == []
    await served.tick(600)
    assert (served.shared()["opens_at"], served.service.opens_s()) == (None, None)


async def test_a_clock_that_was_set_is_allowed_for_in_what_is_told():
    """What is told is by the clock of our `Date` headers, so a countdown stays right; and operators are told."""
    served = await Served().start()
    served.clock.step_wall(7_200)
    await served.tick()
    assert served.shared()["opens_at"] == BORN_MS + 7_200_000 + 600_000
    [note] = served.service.notes()
    assert "noon" in note
    assert "starts in 600 s" in note


async def test_limits_of_the_event_are_the_workers_too():
    """From its beginning a worker judges by them."""
    served = Served()
    event = replace(served.room.events[0], max_waiting=1, prequeue_start_time_ms=BORN_MS + 1_000)
    served.room = replace(served.room, events=(event,))
    served.store = MemoryStore([served.room], served.clock)
    await served.start()
    assert served.service.room.max_waiting is None
    await served.tick(1)
    assert served.service.room.max_waiting == 1


async def test_three_hundred_thousand_pages_do_not_ask_in_one_second():
    """Pages of every place keep to what they are told from ten minutes before the start until it has been.

    A page in a hundred is played, each for all of them, and the first twenty. Once all have come, no more than a
    sixtieth of them ask in any second, that of the start too; and those in front hear of it within four seconds.
    """
    people, share, chance = 300_000, 100, random.Random(5)
    served = await Served(new_users_per_minute=6_000, refresh=replace(room().refresh, far_s=60)).start()
    places = [*range(0, people, share), *range(1, 20)]
    due = [(chance.uniform(0, 30), ahead) for ahead in places]
    asks, heard_s = Counter(), {}
    for second in range(660):
        await served.tick(1)
        now_s = second + 1
        for index, (due_s, ahead) in enumerate(due):
            if due_s <= now_s:
                asks[now_s] += ahead % share == 0
                told_s = served.service._told_s(ahead)
                due[index] = (due_s + told_s * chance.uniform(1, 1.3), ahead)
                if now_s >= 600:
                    heard_s.setdefault(ahead, now_s)
    assert max(count for second, count in asks.items() if second > 60) * share <= people / 60
    assert max(heard_s.get(ahead, math.inf) for ahead in range(1, 20)) <= 604
