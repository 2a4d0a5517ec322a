"""Draws in the whole house: committed to before, drawn once and alike for everybody, whatever dies.

Crowds gather on virtual time, with several workers on one record; the rest asks the book, the stores and the service.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import sqlite3
import stat
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rooms import room
from test_events import BORN_MS, EVENT, FAULTS, LATE_S, OPENS_S

from waitroom.core import draw
from waitroom.core.queueing import Heard, JoinRequest
from waitroom.core.tokens import Keyring
from waitroom.errors import StartError
from waitroom.model import Phase, RoomState, VisitorState
from waitroom.ports import Known, Lead, Noted
from waitroom.service import Carried, RoomService
from waitroom.store import frames
from waitroom.store.book import SLICES_A_TICK, Book
from waitroom.store.memory import MemoryStore
from waitroom.store.notes import Notes
from waitroom.testing import Crowd, FakeClock, Fault, OpenedMemory, OpenedSqlite, Plan
from waitroom.ticker import Ticker

DRAWN = replace(EVENT, shuffle_at_event_start=True)
TO_COME = replace(DRAWN, prequeue_start_time_ms=BORN_MS + 10_000)
DRAW_FAULTS = {name: FAULTS[name] for name in FAULTS} | {
    "keeper-while-it-is-dealt": ((OPENS_S + 0.25, Fault.KEEPER), (OPENS_S + 0.5, Fault.KEEPER)),
    "all-at-the-opening": ((OPENS_S, Fault.ALL),),
}

FIRST_S = 5
"""Who is drawn first may have come in the last moment, and is waited for until they were to ask for the first time."""


@functools.cache
def outcome(name):
    """Play a crowd of four workers, once."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(visitors=150, arrive_s=50, visit_s=8, never=0.1, late=0.1, faults=DRAW_FAULTS[name])
        crowd = Crowd(room(events=(DRAWN,)), plan, 7, Path(folder), opener=OpenedSqlite, workers=4)
        return asyncio.run(crowd.play(220)), crowd.services[0].view


@pytest.mark.parametrize("name", DRAW_FAULTS)
def test_a_crowd_whose_order_is_drawn_is_kept_every_promise(name):
    """Order by drawn place, both caps, no place lost, nothing shown that rises; whichever process dies when."""
    seen, _ = outcome(name)
    assert seen.overtakings == []
    assert (seen.rising, seen.places_lost, seen.given_twice) == (0, 0, 0)
    assert seen.most_active <= 20
    assert len(seen.admitted) >= 120
    assert OPENS_S <= seen.calls[0][0] <= OPENS_S + FIRST_S + LATE_S.get(name, 2)


@pytest.mark.parametrize("name", DRAW_FAULTS)
def test_the_crowd_is_called_in_the_order_that_anybody_works_out(name):
    """By the seed, the digest and the numbers that are published; and it is not the order of arrival."""
    seen, view = outcome(name)
    [shown] = view.draws
    order = draw.dealt(bytes.fromhex(shown.seed), bytes.fromhex(shown.digest), shown.series)
    faithful = [person for person in seen.people if person.kind == "faithful" and person.arrived_s < OPENS_S - 12]
    # Who was heard by a process in the very tick in which it died is passed over, and comes back.
    present = {person.number for person in faithful if person.waiting_since_s < OPENS_S}
    called = list(dict.fromkeys(number for _, number in seen.calls if number in present))
    assert len(called) > 50
    assert called == sorted(called, key=order.place)
    assert called != sorted(called)


@pytest.mark.parametrize("killed_s", [25, OPENS_S, OPENS_S + 10])
def test_a_wiped_record_is_drawn_as_it_was_committed_to(killed_s):
    """P5 P12: all die and memory: forgets everything; the note has seed, digest and count, so the order is the same."""
    plan = Plan(visitors=60, arrive_s=20, visit_s=8, faults=((killed_s, Fault.ALL),))
    lasting = replace(DRAWN, end_time_ms=BORN_MS + 600_000)
    views = []
    with tempfile.TemporaryDirectory() as folder:
        crowd = Crowd(room(events=(lasting,)), plan, 3, Path(folder), opener=OpenedMemory)

        async def play():
            seen = await crowd.play(400)
            views.append(crowd.services[0].view)
            return seen

        seen = asyncio.run(play())
    assert (seen.places_lost, seen.rising) == (0, 0)
    assert seen.overtakings == []
    assert len(seen.admitted) == 60
    [shown] = views[0].draws
    order = draw.dealt(bytes.fromhex(shown.seed), bytes.fromhex(shown.digest), shown.series)
    admitted = sorted(seen.people, key=lambda person: (person.admitted_s, order.place(person.number)))
    assert [p.number for p in admitted[:10]] != list(range(1, 11))
    assert draw.count(shown.series) == 60


class Played:
    """A book of one room, and the hand that moves its clock. The chance of seeds counts up."""

    def __init__(self, *events, **record):
        self.now_ms = BORN_MS
        self.made = 0
        self.open(*events, **record)

    def chance(self, size):
        """Return a seed that no other is."""
        self.made += 1
        return bytes([self.made]) * size

    def open(self, *events, **record):
        """Begin a process."""
        self.room = room(events=events, total_active_users=5)
        self.record = record
        self.book = Book([self.room], self.now_ms, chance=self.chance, **record)
        self.tick()

    def reload(self, *events):
        """Read another file."""
        self.room = replace(self.room, events=events)
        self.book.configure([self.room], self.now_ms)

    def tick(self, seconds=0.0):
        """Let time pass, and take a step as the leader; return the numbers called."""
        self.now_ms += int(seconds * 1000)
        while self.book.deal("launch"):
            pass
        known = Known(self.line.generation)
        return list(self.book.tick("launch", known, Noted(), Lead("one", 0, self.line.serving, 99), self.now_ms).called)

    def join(self, count=1):
        """Let some join who are there for long."""
        requests = [JoinRequest(f"{one:016x}", 2.0) for one in range(count)]
        joined = self.book.join("launch", Known(self.line.generation), requests, self.now_ms)
        self.line.hear([Heard(one.number, self.now_ms + 10_000_000) for one in joined], self.now_ms)
        return [one.number for one in joined]

    @property
    def line(self):
        """The line as it is."""
        return self.book.lines["launch"]

    @property
    def shown(self):
        """What everybody may know of the draws."""
        return self.book.snapshot("launch", self.now_ms).draws

    def did(self):
        """What the log says."""
        return [entry["did"] for entry in self.book.logs.get("launch", [])]


def test_the_commitment_is_shown_before_anybody_gathers_and_kept_to():
    """P12: what is revealed at the start is what was committed to when the event was first known."""
    played = Played(TO_COME)
    [to_come] = played.shown
    assert (to_come.event, to_come.generation, to_come.seed) == ("noon", 0, "")
    played.tick(10)
    played.join(3)
    [gathering] = played.shown
    assert (gathering.commitment, gathering.seed, gathering.series) == (to_come.commitment, "", ((1, 3),))
    played.tick(29.75)
    assert played.shown[0].seed == ""
    played.tick(0.25)
    [closed] = played.shown
    assert hashlib.sha256(bytes.fromhex(closed.seed)).hexdigest() == to_come.commitment
    assert closed.digest == gathering.digest
    assert played.made == 1
    for said in ("commitment " + to_come.commitment, "digest " + closed.digest, "seed " + closed.seed):
        assert any(said in did for did in played.did())


def test_the_secret_seed_is_in_nothing_that_leaves_the_keeper_before_the_start():
    """Neither views, nor what operators see, nor the log, nor how anything prints."""
    played = Played(TO_COME)
    secrets = [(bytes([1]) * 32).hex(), repr(bytes([1]) * 32)]
    for seconds in (0, 10, 29):
        played.tick(seconds)
        status = played.book.status("launch", played.now_ms)
        view = played.book.snapshot("launch", played.now_ms)
        for said in (status, played.did(), view, frames.pack_view(view, None), played.line.draw):
            assert not any(secret in repr(said) for secret in secrets)
    assert played.book.drawn("launch") is None


def test_an_event_that_begins_while_the_house_is_down_or_reloads_keeps_its_commitment(tmp_path):
    """P12: the next process, and the next file, begin it late and with the seed that everybody was promised."""
    for later in ("process", "file"):
        played = Played(TO_COME, notes=Notes(tmp_path / later))
        [to_come] = played.shown
        played.now_ms += 10_001
        if later == "process":
            played.open(TO_COME, notes=Notes(tmp_path / later))
        else:
            played.reload(TO_COME)
        [gathering] = played.shown
        assert (gathering.generation, gathering.commitment) == (2, to_come.commitment)
        assert played.made == 1


def test_an_event_that_is_back_in_the_file_has_the_commitment_that_was_published():
    """P12: a reload that is refused after all told the keeper of the other file first, and then goes back."""
    played = Played(TO_COME)
    [to_come] = played.shown
    played.reload()
    assert played.shown == ()
    played.reload(TO_COME)
    assert played.shown == (to_come,)
    played.tick(10)
    assert played.shown[0].commitment == to_come.commitment
    played.tick(300)
    tomorrow = replace(TO_COME, prequeue_start_time_ms=BORN_MS + 400_000, start_time_ms=BORN_MS + 410_000)
    played.reload(replace(tomorrow, end_time_ms=BORN_MS + 420_000))
    assert played.shown[-1].commitment != to_come.commitment


def test_who_joins_at_the_very_start_is_behind_the_draw():
    """The list is closed in the step that finds that it is late, before it does its work."""
    played = Played(DRAWN)
    played.join(4)
    played.now_ms = BORN_MS + OPENS_S * 1000
    [late] = played.join()
    assert played.shown[0].series == ((1, 4),)
    assert played.tick() == [*sorted(range(1, 5), key=played.line.order.place), late]


def test_it_is_drawn_once():
    """A later start, a reload without the draw, an event taken out and put back: the order stays what it is."""
    played = Played(DRAWN)
    played.join(12)
    played.tick(OPENS_S)
    played.tick()
    order, [shown] = played.line.order, played.shown
    later = replace(DRAWN, start_time_ms=DRAWN.start_time_ms + 100_000)
    for events in ((later,), (EVENT,), (), (DRAWN,)):
        played.reload(*events)
        played.tick(1)
        assert played.line.order is order
        assert played.shown == (shown,)
    assert played.line.generation == 2


def test_an_event_taken_out_of_the_file_is_drawn_among_those_who_came_for_a_draw():
    """Who was promised a draw is not called by who came first."""
    played = Played(DRAWN)
    numbers = played.join(12)
    played.reload()
    played.tick()
    called = played.tick()
    assert called == sorted(numbers, key=played.line.order.place)[:5] != [1, 2, 3, 4, 5]


def test_a_postponed_start_keeps_the_list_and_the_commitment():
    """The pre-queue is longer, and whoever comes in the rest of it is on the list too."""
    played = Played(DRAWN)
    before = played.shown[0].commitment
    played.join(2)
    later = replace(DRAWN, prequeue_start_time_ms=BORN_MS + 5_000, start_time_ms=DRAWN.start_time_ms + 20_000)
    played.reload(later)
    assert len(played.shown) == 1
    played.tick(OPENS_S)
    played.join(2)
    played.tick(20)
    played.tick()
    assert (played.shown[0].commitment, played.shown[0].series) == (before, ((1, 4),))


def test_each_event_has_a_seed_of_its_own_and_a_spent_one_is_not_used_again():
    """Committed to beside the draw that runs; an event of the same name on another day is committed to anew."""
    evening = replace(
        TO_COME, name="evening", prequeue_start_time_ms=BORN_MS + 300_000, start_time_ms=BORN_MS + 310_000
    )
    evening = replace(evening, end_time_ms=BORN_MS + 400_000)
    played = Played(TO_COME, evening)
    assert [one.event for one in played.shown] == ["noon", "evening"]
    played.tick(10)
    assert [(one.event, one.generation) for one in played.shown] == [("noon", 2), ("evening", 0)]
    promised = played.shown[1].commitment
    played.join(2)
    played.tick(30)
    played.tick(260)
    assert [(one.event, one.commitment) for one in played.shown] == [("evening", promised)]
    again = replace(DRAWN, prequeue_start_time_ms=BORN_MS + 500_000, start_time_ms=BORN_MS + 600_000)
    again = replace(again, end_time_ms=BORN_MS + 700_000)
    played.reload(evening, again)
    assert len({one.commitment for one in played.shown} | {promised}) == 2
    played.reload(evening)
    assert [one.event for one in played.shown] == ["evening"]


def test_nothing_is_drawn_where_nobody_gathered():
    """An event that is past its start when it is first known opens a line like any other."""
    played = Played(replace(DRAWN, start_time_ms=BORN_MS - 1_000, prequeue_start_time_ms=BORN_MS - 5_000))
    assert (played.line.opening.phase, played.shown) == (Phase.OPEN, ())
    [number] = played.join()
    assert played.tick() == [number]


def test_a_reset_while_people_gather_begins_the_list_anew_under_the_same_commitment():
    """And one after the draw begins a line in order of arrival."""
    played = Played(DRAWN)
    before = played.shown[0].commitment
    played.join(3)
    played.book.operate("launch", {"reset": True}, "someone", played.now_ms)
    [anew] = played.shown
    assert (anew.commitment, anew.series, anew.generation) == (before, (), 3)
    played.join(2)
    played.tick(OPENS_S)
    played.tick()
    assert played.line.order.series == ((1, 2),)
    played.book.operate("launch", {"reset": True}, "someone", played.now_ms)
    assert (played.shown, played.line.order) == ((), None)
    assert played.join(2) == played.tick()


def test_a_reset_while_places_are_dealt_gives_nobody_places_of_before():
    """The work under way is of the generation that ended."""
    played = Played(DRAWN)
    played.join(3)
    played.now_ms += OPENS_S * 1000
    played.book.tick("launch", Known(2), Noted(), Lead("one"), played.now_ms)
    while played.book.deal("launch"):
        pass
    played.book.operate("launch", {"reset": True}, "someone", played.now_ms)
    played.tick()
    assert played.line.order is None
    assert "3 places are dealt" not in played.did()


def test_the_note_is_enough_to_commit_and_to_draw_again(tmp_path):
    """The record is lost before anybody gathers, then among those who gather, then after the draw."""
    path = tmp_path / "notes"
    played = Played(TO_COME, notes=Notes(path))
    before = played.shown[0].commitment
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    played.open(TO_COME, notes=Notes(path))
    assert (played.shown[0].commitment, played.line.base) == (before, 1)
    played.tick(10)
    numbers = played.join(5)
    digest = played.shown[0].digest
    played.open(TO_COME, notes=Notes(path))
    assert (played.shown[0].commitment, played.shown[0].digest) == (before, digest)
    numbers += played.join(5)
    digest = played.shown[0].digest
    played.tick(30)
    played.tick()
    order = played.line.order
    assert played.shown[0].digest == digest
    played.open(TO_COME, notes=Notes(path))
    played.tick()
    assert played.line.order == order
    assert played.made == 1
    played.line.hear([Heard(number, played.now_ms + 10_000_000) for number in numbers], played.now_ms)
    played.tick(500)
    assert played.tick(0.25) == []  # its event has ended meanwhile
    assert [played.book.drawn("launch").lost, played.line.draw.count] == [10, 10]


def test_an_unreadable_note_of_a_draw_is_said_at_the_start(tmp_path):
    """To take it for none would draw by another seed than was committed to."""
    path = tmp_path / "notes"
    played = Played(DRAWN, notes=Notes(path))
    played.join()
    stated = json.loads(path.read_text())
    for broken in ({"draw": {"seed": "x"}}, {"seeds": {"noon": "xyz"}}):
        path.write_text(json.dumps({"launch": stated["launch"] | broken}))
        with pytest.raises(StartError, match="cannot be read"):
            Notes(path).read()


# -- stores ------------------------------------------------------------------------------------------------------------


async def test_an_older_copy_of_the_record_is_drawn_as_the_note_knows(tmp_path):
    """A restored backup has fewer on the list, or nothing of the draw at all: everybody keeps the drawn place."""
    clock, gathers = FakeClock(), room(events=(DRAWN,))
    opened = OpenedSqlite(gathers, clock, tmp_path)
    await join(opened.store, 6)
    opened.crash()
    files = {path: path.read_bytes() for path in tmp_path.glob("*.db*")}
    opened = OpenedSqlite(gathers, clock, tmp_path)
    await join(opened.store, 4)
    clock.advance(OPENS_S)
    order = (await ticked(opened.store, clock)).order
    opened.crash()
    for path, content in files.items():
        path.write_bytes(content)
    opened = OpenedSqlite(gathers, clock, tmp_path)
    view = await ticked(opened.store, clock)
    await opened.store.close()
    assert view.order == order
    assert draw.count(view.draws[0].series) == 10


async def test_a_list_in_a_file_of_the_first_format_begins_there(tmp_path):
    """A record from before there were draws is read, and keeps what a draw needs from then on."""
    clock, gathers = FakeClock(), room(events=(DRAWN,))
    opened = OpenedSqlite(room(), clock, tmp_path)
    await opened.store.close()
    [path] = tmp_path.glob("*.db")
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE lists")
        database.execute("PRAGMA user_version = 1")
    database.close()
    for count in (3, 0):
        opened = OpenedSqlite(gathers, clock, tmp_path)
        if count:
            await join(opened.store, count)
        opened.crash()
    opened = OpenedSqlite(gathers, clock, tmp_path)
    clock.advance(OPENS_S)
    await ticked(opened.store, clock)
    drawn = await opened.store.drawn("launch")
    await opened.store.close()
    assert len(drawn.tickets) == 3 * draw.TICKET_BYTES
    assert not list(tmp_path.glob("*set-aside*"))


async def test_a_view_sends_the_order_once():
    """It is a megabyte for a large crowd: the very object it was is not sent again."""
    clock, gathers = FakeClock(), room(events=(DRAWN,))
    store = MemoryStore([gathers], clock)
    await join(store, 3)
    clock.advance(OPENS_S)
    first = await ticked(store, clock)
    second = await ticked(store, clock)
    assert first.order is not None
    sent = frames.pack_view(second, first)
    assert "ranks" not in repr(sent[-1].order)
    assert sent[-1].order is None
    assert frames.unpack_view(sent, first).order is first.order
    assert frames.unpack_view(frames.pack_view(second, None), None).order == first.order


async def test_three_hundred_thousand_places_are_dealt_in_slices_and_others_get_their_turn(tmp_path):
    """The list is dealt over many turns of the loop, and none of them takes the better part of the work."""
    clock, gathers = FakeClock(), room(events=(DRAWN,))
    store = MemoryStore([gathers], clock)
    for _ in range(30):
        await join(store, 10_000)
    clock.advance(OPENS_S)
    turns, longest_s, at_s = 0, 0.0, time.process_time()
    ticking = asyncio.ensure_future(ticked(store, clock))
    began_s = at_s
    while not ticking.done():
        await asyncio.sleep(0)
        now_s = time.process_time()
        turns, longest_s, at_s = turns + 1, max(longest_s, now_s - at_s), now_s
    assert ticking.result().order.place(300_000) <= 300_000
    assert turns >= 20
    assert longest_s < (at_s - began_s) / 2


async def join(store, count):
    """Let so many join in one operation, who are there for long; return their numbers."""
    generation = (await store.snapshot("launch")).generation
    return [
        one.number
        for one in await store.join(
            "launch", Known(generation), [JoinRequest(f"{one:016x}", 100_000.0) for one in range(count)]
        )
    ]


async def ticked(store, clock):
    """Take the steps in which a list is closed and dealt; return the view."""
    for _ in range(2 + SLICES_A_TICK // 20):
        view = await store.snapshot("launch")
        ticked = await store.tick("launch", Known(view.generation), Noted(), Lead("one", 0, view.serving, 0))
        clock.advance(0.01)
    return ticked.snapshot


# -- what visitors are told --------------------------------------------------------------------------------------------


class Served:
    """A service in a pre-queue whose order will be drawn, on a store in memory."""

    def __init__(self, **settings):
        self.clock = FakeClock()
        self.room = room(events=(replace(DRAWN, end_time_ms=BORN_MS + 10_000_000),), **settings)
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

    async def open(self):
        """Reach the start, and the end of the draw."""
        await self.tick(OPENS_S)
        await self.tick()

    @property
    def draws(self):
        """What everybody is told of the draws."""
        return json.loads(self.service.shared_draws)["draws"]


async def test_nobody_is_shown_people_ahead_before_the_draw():
    """P10: who knows no place shows none, and afterwards what is shown never rises."""
    served = await Served(total_active_users=1).start()
    tickets = []
    for _ in range(6):
        joined, told = await served.service.join()
        assert (told.state, told.ahead, told.place, told.wait_s) == (VisitorState.PREQUEUE, None, None, None)
        tickets.append(Carried(ticket=served.service.ticket(joined)))
        served.service.hear(joined.number, 1_000.0, visible=True)
    await served.tick()
    told = served.service.told(tickets[3])
    assert (told.state, told.number, told.ahead, told.place) == (VisitorState.PREQUEUE, 4, None, None)
    assert json.loads(served.service.shared_status)["ahead"] == []
    await served.open()
    [shown] = served.draws
    order = draw.dealt(bytes.fromhex(shown["seed"]), bytes.fromhex(shown["digest"]), ((1, 6),))
    told = [served.service.told(ticket) for ticket in tickets]
    assert [(one.number, one.place) for one in told] == [(number, order.rank(number)) for number in range(1, 7)]
    waiting = [one for one in told if one.state is VisitorState.WAITING]
    assert [one.ahead for one in sorted(waiting, key=lambda one: one.place)] == list(range(len(waiting)))
    await served.tick()
    joined, late = await served.service.join()
    assert (late.number, late.place, late.ahead) == (7, None, len(waiting))
    assert json.loads(served.service.shared_status)["ahead"]


async def test_everybody_is_told_of_the_draw_as_far_as_it_has_come():
    """Gathering, closed and drawn: the commitment always, the seed and the list's digest from the start on."""
    served = await Served().start()
    assert [one["state"] for one in served.draws] == ["gathering"]
    [before] = served.draws
    assert (before["seed"], before["count"]) == (None, 0)
    await served.service.join()
    await served.tick(OPENS_S)
    [closed] = served.draws
    assert (closed["state"], closed["commitment"], closed["count"]) == ("closed", before["commitment"], 1)
    assert hashlib.sha256(bytes.fromhex(closed["seed"])).hexdigest() == before["commitment"]
    await served.tick()
    assert served.draws == [closed | {"state": "drawn"}]


async def test_a_visitor_has_a_receipt():
    """The number, the position on the list and the hash of the ticket: what is found again in what is published."""
    served = await Served(total_active_users=20).start()
    for _ in range(3):
        joined, _ = await served.service.join()
    carried = Carried(ticket=served.service.ticket(joined))
    assert served.service.receipt(carried) is None  # this view does not know of the list's end yet
    await served.tick()
    ticket = draw.ticket_hash("launch", 2, 3, joined.visitor)
    expected = {"number": 3, "position": 3, "ticket": ticket.hex()}
    assert served.service.receipt(carried) == expected
    assert served.service.receipt(Carried()) is None
    await served.open()
    assert (await served.store.drawn("launch")).tickets[-16:] == ticket
    claimed = await served.service.claim(carried.ticket)
    entry_pass = served.service.claimed_pass(carried.ticket, claimed)
    await served.tick()
    inside = Carried(entry_pass=entry_pass)
    assert served.service.receipt(inside) == expected
    assert served.service.told(inside).place == served.service.told(carried).place is not None
    assert served.service.receipt(Carried(ticket=replace(carried.ticket, generation=1))) is None
    assert served.service.told(Carried(entry_pass=replace(entry_pass, generation=1))).place is None


async def test_a_called_visitor_is_told_the_drawn_place():
    """As before and after it: `place` is a fact of the draw."""
    served = await Served(total_active_users=20).start()
    joined, _ = await served.service.join()
    served.service.hear(joined.number, 1_000.0, visible=True)
    await served.open()
    await served.tick()
    told = served.service.told(Carried(ticket=served.service.ticket(joined)))
    assert (told.state, told.place) == (VisitorState.CALLED, 1)


async def test_pages_before_a_draw_ask_neither_all_at_once_nor_rarely():
    """Anybody may be first: nobody hears of it later than `far`; and a large crowd does not ask every two seconds."""
    served = await Served(refresh=replace(room().refresh, far_s=60), new_users_per_minute=600).start()
    served.service.view = replace(served.service.view, present=300_000)
    assert served.service._told_s(0) == 60
    assert served.service._told_s(0, first=True) == 2  # for a line waits for who was never heard
    served.service.view = replace(served.service.view, present=10)
    assert served.service._told_s(0) == pytest.approx(OPENS_S / 4, abs=0.3)
    served.clock.advance(OPENS_S - 1)
    assert served.service._told_s(0) == 2
    served.service.view = replace(served.service.view, present=300_000)
    assert served.service._told_s(0) == 60
    assert served.service.view.state is RoomState.PREQUEUE


async def test_pages_are_told_nothing_by_a_view_that_is_behind():
    """Joined in the tick in which places were dealt, while this worker's view is from before: ahead is not made up."""
    served = await Served().start()
    await served.service.join()
    await served.tick()
    served.clock.advance(OPENS_S)
    await ticked(served.store, served.clock)
    assert served.service.view.undrawn
    joined, told = await served.service.join()
    assert (joined.ahead, told.ahead, told.state) == (0, None, VisitorState.PREQUEUE)
