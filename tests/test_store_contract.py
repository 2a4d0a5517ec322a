"""What every store promises, whatever it keeps its record in.

One suite, run against each store. A store is opened by a function in ``STORES``: it gets the rooms, a clock moved by
hand and a folder for what survives, and may be called again on the same folder, as after a crash. ``remote`` is the
store of SQLite as workers have it, over a socket.
"""

from __future__ import annotations

import asyncio
import socket

import pytest
from rooms import room

from waitroom.admin.verbs import VERBS
from waitroom.core.queueing import CALLED, GONE, MORE_MAX, SERIES_STEP, WAITING, Heard, JoinRequest
from waitroom.errors import StartError, StoreAway
from waitroom.model import Pass, Priority, QueueingMethod, RoomEvent, RoomState
from waitroom.ports import Known, Lead, Noted, Stock
from waitroom.store import frames
from waitroom.store.memory import MemoryStore
from waitroom.store.notes import Notes, RoomNote
from waitroom.store.remote import RemoteStore
from waitroom.store.serving import StoreServer
from waitroom.store.sqlite import SqliteStore
from waitroom.testing import FakeClock


class Memory:
    """``memory:``, with the note it leaves behind."""

    keeps = False

    def __init__(self, rooms, clock, folder):
        self.record = self.store = MemoryStore(rooms, clock, Notes(folder / "notes"))

    async def start(self):
        """Be ready at once."""

    async def crash(self):
        """End without a word."""


class Sqlite:
    """``sqlite:``, in this process. A crash lets go of the file's lock, as a process's end does, and of no more."""

    keeps = True

    def __init__(self, rooms, clock, folder):
        self.record = self.store = SqliteStore(
            rooms, clock, folder / "waitroom.db", Notes(folder / "notes"), folder / "seal"
        )

    async def start(self):
        """Be ready at once."""

    async def crash(self):
        """End without a word: nothing is flushed, closed or written that was not before."""
        self.record._file.close()
        self.record._thread.shutdown()


class Remote(Sqlite):
    """The same, over a socket."""

    async def start(self):
        """Listen, and be called."""
        listening = socket.socket(socket.AF_UNIX)
        listening.bind("")
        listening.listen()
        self._server = StoreServer(self.record, listening)
        await self._server.start()
        self.store = RemoteStore(listening.getsockname())

    async def crash(self):
        """End both ends."""
        await self.store.close()
        await self._server.close()
        await super().crash()


STORES = {"memory": Memory, "sqlite": Sqlite, "remote": Remote}


class Opened:
    """A store, and the few phrases in which the tests speak to it."""

    def __init__(self, kind, rooms, clock, folder):
        self._open = lambda: kind(rooms, clock, folder)
        self.clock = clock
        self.keeps = kind.keeps
        self.known = Known()
        self.term = self.serving = 0

    async def start(self):
        """Open what there is."""
        self.opened = self._open()
        await self.opened.start()
        return self

    @property
    def store(self):
        """The store as its callers have it."""
        return self.opened.store

    def now_ms(self):
        """Return store time."""
        return self.opened.record.now_ms()

    async def crash(self):
        """End the process without a word, and open what it left behind."""
        await self.opened.crash()
        self.term = 0
        await self.start()

    async def join(self, count=1, name="launch", key=None):
        """Let ``count`` join in one operation."""
        return await self.store.join(name, self.known, [JoinRequest(f"{i:016x}", 2.0, key) for i in range(count)])

    async def tick(self, *heard, told_s=1_000.0, budget=1_000, name="launch", worker="one", **noted):
        """Take one step in which ``heard`` asked, as the worker that leads."""
        until_ms = self.now_ms() + int(told_s * 1000)
        noted = Noted([Heard(number, until_ms) for number in heard], **noted)
        serving = (await self.store.snapshot(name)).serving
        return await self.store.tick(name, self.known, noted, Lead(worker, 0, serving, budget))

    async def claim(self, *numbers, name="launch"):
        """Claim in one operation."""
        return await self.store.claim(name, self.known, [(number, 2.0) for number in numbers])

    async def leave(self, *numbers, name="launch"):
        """Leave in one operation."""
        await self.store.leave(name, self.known, numbers)

    async def inside(self, count=1):
        """Bring ``count`` visitors inside."""
        numbers = [joined.number for joined in await self.join(count)]
        await self.tick(*numbers)
        assert all(claimed.end_ms for claimed in await self.claim(*numbers))
        return numbers


@pytest.fixture(params=STORES)
async def opened(request, tmp_path):
    """Return a function that opens the store with rooms of the given settings."""
    all_opened = []

    async def opened(*rooms, **settings):
        played = Opened(STORES[request.param], rooms or (room(**settings),), FakeClock(), tmp_path)
        all_opened.append(played)
        return await played.start()

    yield opened
    for played in all_opened:
        await played.opened.crash()


async def test_numbers_follow_the_order_of_the_batch(opened):
    """One operation numbers all who joined together, in order; the next goes on from there."""
    played = await opened()
    assert [one.number for one in [*await played.join(3), *await played.join(2)]] == [1, 2, 3, 4, 5]


async def test_joins_at_once_get_different_numbers(opened):
    """Operations that overlap give no number twice."""
    played = await opened()
    batches = await asyncio.gather(*(played.join(5) for _ in range(20)))
    assert sorted(one.number for batch in batches for one in batch) == list(range(1, 101))


async def test_a_key_joins_once(opened):
    """The same key, in one batch and in the next, is one place."""
    played = await opened()
    answers = [*await played.join(2, key="key"), *await played.join(1, key="key")]
    assert answers[0] == answers[1] == answers[2]


async def test_a_tick_hears_calls_and_shows(opened):
    """What was noted is taken in before the calls, and the view shows both."""
    played = await opened(total_active_users=2)
    await played.join(4)
    ticked = await played.tick(1, 2, 3)
    assert list(ticked.called) == [1, 2]
    view = ticked.snapshot
    assert [view.standing(number) for number in (1, 2, 3)] == [CALLED, CALLED, WAITING]
    assert (view.issued, view.serving, view.state) == (4, 2, RoomState.QUEUEING)
    assert (await played.store.snapshot("launch")).turns == view.turns


async def test_a_budget_is_never_exceeded(opened):
    """The pace is the caller's; the store gives no more."""
    played = await opened()
    await played.join(4)
    assert list((await played.tick(1, 2, 3, 4, budget=1)).called) == [1]


async def test_claims_at_once_never_fill_more_than_the_slots(opened):
    """Everybody claims at the same moment, several times: as many are inside as were called, each once."""
    played = await opened(total_active_users=3)
    await played.join(6)
    await played.tick(1, 2, 3, 4, 5, 6)
    batches = await asyncio.gather(*(played.claim(1, 2, 3, 4, 5, 6) for _ in range(5)))
    admitted = {one.number for batch in batches for one in batch if one.end_ms}
    assert admitted == {1, 2, 3}
    assert all(batch == batches[0] for batch in batches)
    assert len((await played.store.snapshot("launch")).inside) == 3


async def test_the_second_and_the_minute_are_judged_at_the_claim(opened):
    """Ten called come in the same moment: the second's share gets in, the minute holds, nobody loses the turn."""
    played = await opened(new_users_per_minute=120)
    await played.join(10)
    await played.tick(*range(1, 11))
    claims = await played.claim(*range(1, 11))
    assert [bool(one.end_ms) for one in claims] == [True] * 2 + [False] * 8
    assert all(one.called and one.retry_ms for one in claims[2:])


async def test_standby_spends_each_slot_once(opened):
    """Two floods at the same moment on an empty room: straight in as many as there are slots."""
    played = await opened(always_queue=False, total_active_users=4)
    batches = await asyncio.gather(*(played.join(5) for _ in range(4)))
    assert sum(1 for batch in batches for one in batch if one.end_ms) == 4


async def test_a_used_pass_slides_with_the_tick(opened):
    """The end that the view shows afterwards is a session from now, and is what may be signed."""
    played = await opened(session_duration_s=60)
    [number] = await played.inside()
    played.clock.advance(40)
    now_ms = played.now_ms()
    used = Pass("launch", 1, number, "a" * 16, now_ms - 40_000, now_ms + 20_000)
    ticked = await played.tick(used=[used])
    assert ticked.snapshot.inside == {number: now_ms + 60_000}


async def test_who_leaves_is_gone_and_the_slot_is_free(opened):
    """The next tick calls whoever waited for it."""
    played = await opened(total_active_users=1)
    [first] = await played.inside()
    [second] = await played.join()
    assert list((await played.tick(second.number)).called) == []
    await played.leave(first)
    ticked = await played.tick()
    assert list(ticked.called) == [second.number]
    assert ticked.snapshot.standing(first) == GONE


async def test_rooms_do_not_share_anything(opened):
    """Two rooms count for themselves."""
    played = await opened(room(name="one", total_active_users=1), room(name="two", total_active_users=1))
    for name in ("one", "two"):
        assert [one.number for one in await played.join(2, name)] == [1, 2]
        assert list((await played.tick(1, 2, name=name)).called) == [1]
    await played.leave(1, 2, name="one")
    assert (await played.store.snapshot("two")).turns.keys() == {1}


async def test_store_time_does_not_follow_a_wall_clock_that_steps(opened):
    """An operator sets the clock back an hour, or NTP forward: offers and sessions end when they said."""
    played = await opened()
    before_ms = played.now_ms()
    for step_s in (-3_600, 7_200):
        played.clock.step_wall(step_s)
        assert played.now_ms() == before_ms
    played.clock.advance(1)
    assert played.now_ms() == before_ms + 1_000


# -- who leads ---------------------------------------------------------------------------------------------------------


class Worker:
    """One of several that tick the same room, with what it believes."""

    def __init__(self, played, name):
        self.played, self.name = played, name
        self.term = self.serving = 0

    async def tick(self, budget=1_000, *, resign=False):
        """Take a step as this worker would; return whom it called."""
        lead = Lead(self.name, self.term, self.serving, -1 if resign else budget)
        ticked = await self.played.store.tick("launch", self.played.known, Noted(), lead)
        self.term, self.serving = ticked.term, ticked.snapshot.serving
        return list(ticked.called)


async def test_one_worker_leads_and_only_it_calls(opened):
    """The first to ask leads; the other ticks as often and calls nobody."""
    played = await opened(total_active_users=2)
    first, second = Worker(played, "first"), Worker(played, "second")
    await first.tick()
    await played.join(2)
    await played.tick(1, 2, worker="third")
    assert await second.tick() == []
    assert await first.tick() == [1, 2]


async def test_a_worker_that_slept_through_its_lease_changes_nothing(opened):
    """It was stopped for thirty seconds while another led; resumed, still believing that it leads, it calls nobody."""
    played = await opened(total_active_users=2)
    asleep, other = Worker(played, "asleep"), Worker(played, "other")
    await asleep.tick()
    played.clock.advance(30)
    await played.join(2)
    await played.tick(1, 2, worker="third", budget=0)  # what was noted is everybody's to bring
    await played.tick(worker="third", budget=-1)
    await other.tick(0)
    assert other.term
    assert await asleep.tick() == []
    assert asleep.term == 0
    assert await other.tick() == [1, 2]


async def test_a_worker_whose_lease_ran_out_leads_anew_before_it_calls(opened):
    """Nobody took the lead meanwhile; but what it believes is old, so this one step calls nobody."""
    played = await opened(total_active_users=2)
    worker = Worker(played, "one")
    await worker.tick()
    term = worker.term
    played.clock.advance(30)
    await played.join(1)
    await played.tick(1, worker="two", budget=-1)
    worker.term = term
    assert await worker.tick() == []
    assert worker.term > term
    assert await worker.tick() == [1]


async def test_a_call_from_another_serving_than_the_records_is_refused(opened):
    """The term may be right and the view still old: then nobody is called."""
    played = await opened(total_active_users=1)
    worker = Worker(played, "one")
    await worker.tick()
    await played.join(2)
    until_ms = played.now_ms() + 10_000
    noted = Noted([Heard(1, until_ms), Heard(2, until_ms)])
    wrong = Lead("one", worker.term, worker.serving + 1, 1_000)
    assert (await played.store.tick("launch", played.known, noted, wrong)).called == []
    assert await worker.tick() == [1]


async def test_who_resigns_is_followed_at_once(opened):
    """A worker that is told to stop leaves the lead to the next tick of another, not to three seconds of silence."""
    played = await opened()
    leaving, staying = Worker(played, "leaving"), Worker(played, "staying")
    await leaving.tick()
    await staying.tick()
    assert staying.term == 0
    await leaving.tick(resign=True)
    await staying.tick()
    assert staying.term


async def test_terms_only_grow_across_a_crash(opened):
    """A leader of before the crash is refused after it, whatever was granted since."""
    played = await opened(total_active_users=2)
    before = Worker(played, "before")
    await before.tick()
    if not played.keeps:
        return
    old_term = before.term
    await played.crash()
    after = Worker(played, "after")
    await after.tick()
    assert after.term > old_term


# -- what is said to a room --------------------------------------------------------------------------------------------


async def said(played, **verbs):
    """Say something to the room, as its operator."""
    return (await played.store.operate("launch", verbs, "someone")).facts


async def test_held_nobody_is_called_and_no_clock_runs(opened):
    """queue_all: a turn and a pass end as much later as the room was held, and both are there when it goes on."""
    played = await opened(total_active_users=2, session_duration_s=60, claim_within_s=20)
    [inside] = await played.inside()
    [called, waiting] = [one.number for one in await played.join(2)]
    assert list((await played.tick(called, waiting)).called) == [called]
    before = await played.store.snapshot("launch")
    assert (await said(played, queue_all=True))["state"] == RoomState.HELD
    for _ in range(100):
        played.clock.advance(10)
        await played.tick(called, waiting)
    assert not (await played.claim(called))[0].end_ms
    held = await played.store.snapshot("launch")
    assert (held.turns, held.inside) == (before.turns, before.inside)
    await said(played, queue_all=None)
    after = await played.store.snapshot("launch")
    assert after.turns == {called: before.turns[called] + 1_000_000}
    assert after.inside == {inside: before.inside[inside] + 1_000_000}
    assert after.stood_ms == 1_000_000
    assert (await played.claim(called))[0].end_ms


@pytest.mark.parametrize("verbs", [{"closed": True}, {"final": True}])
async def test_where_the_line_has_ended_nobody_gets_a_place_or_a_pass(opened, verbs):
    """Closed, or sold out for good: no number, no claim; opened again, everybody is where they were."""
    played = await opened(total_active_users=1)
    await played.join(2)
    await played.tick(1, 2)
    await said(played, **verbs)
    assert (await played.join())[0].number == 0
    assert not (await played.claim(1))[0].end_ms
    await said(played, closed=False, final=False)
    assert (await played.claim(1))[0].end_ms
    assert (await played.join())[0].number == 3


@pytest.mark.parametrize(
    ("configured", "opens"), [("fifo", "fifo"), ("random", "random"), ("passthrough", "fifo"), ("reject", "fifo")]
)
async def test_opening_a_line_leaves_it_the_way_that_it_is_configured_to_call(opened, configured, opens):
    """Held and opened again, or let through meanwhile, a line without an order has none, and an order stays one."""
    played = await opened(queueing_method=QueueingMethod(configured), total_active_users=1)
    for shut in ({"queue_all": True}, {"queueing_method": "passthrough"}):
        await said(played, **shut)
        await said(played, **VERBS["open"].says)
        over = (await played.store.snapshot("launch")).overrides
        assert over.over(room(queueing_method=QueueingMethod(configured))).queueing_method == opens
        assert (await played.store.status("launch")).facts["state"] in (RoomState.OPEN, RoomState.QUEUEING)


async def test_sold_out_for_now_calls_nobody_and_keeps_every_place(opened):
    """Stock 0: newcomers get a place, nobody is called, and when stock rises the line goes on in order."""
    played = await opened(total_active_users=2)
    await played.join(2)
    assert (await played.tick(stock=Stock(0))).snapshot.state is RoomState.SOLD_OUT
    assert (await played.join())[0].number == 3
    assert list((await played.tick(1, 2, 3)).called) == []
    assert list((await played.tick(stock=Stock(5))).called) == [1, 2]


async def test_an_older_word_on_the_stock_is_not_heard_over_a_newer(opened):
    """Answers overtake each other on the way; the version says which was said last."""
    played = await opened()
    await played.tick(stock=Stock(0, 7))
    await played.tick(stock=Stock(5, 6))
    assert (await played.store.snapshot("launch")).overrides.stock == 0
    await played.tick(stock=Stock(5, 8))
    assert (await played.store.snapshot("launch")).overrides.stock == 5


@pytest.mark.parametrize(("ended", "state"), [("sold-out", RoomState.SOLD_OUT), ("close", RoomState.CLOSED)])
async def test_the_origin_ends_the_line(opened, ended, state):
    """Its word is final, is logged as its own, and survives whatever the operator's would."""
    played = await opened()
    assert (await played.tick(ended=ended)).snapshot.state is state
    assert (await played.store.status("launch")).log[-1]["who"] == "origin"


async def test_a_limit_lowered_throws_nobody_out(opened):
    """From 3 to 1 with 3 inside: they stay, and nobody is called until there is room below the new limit."""
    played = await opened(total_active_users=3)
    inside = await played.inside(3)
    await said(played, total_active_users=1)
    [waiting] = await played.join()
    for gone in inside:
        assert list((await played.tick(waiting.number)).called) == []
        await played.leave(gone)
    assert list((await played.tick(waiting.number)).called) == [waiting.number]


async def test_a_reset_ends_the_line_and_the_passes(opened):
    """A new generation begins at 1; numbers and passes of the one before are nothing."""
    played = await opened(total_active_users=1)
    [inside] = await played.inside()
    await played.join(3)
    facts = await said(played, reset=True)
    assert (facts["generation"], facts["issued"], facts["inside"], facts["waiting"]) == (2, 0, 0, 0)
    assert (await played.claim(inside))[0].gone
    [first] = await played.join()
    assert (first.number, first.generation) == (1, 2)


async def test_a_reset_may_let_those_inside_stay(opened):
    """Their passes run out by themselves and count as active until then."""
    played = await opened(total_active_users=1, session_duration_s=60)
    [inside] = await played.inside()
    await said(played, reset="keep_inside")
    played.known = Known(2)
    [waiting] = await played.join()
    ticked = await played.tick(waiting.number)
    assert list(ticked.called) == []
    assert ticked.snapshot.former.keys() == {(1, inside)}
    played.clock.advance(61)
    assert list((await played.tick(waiting.number)).called) == [waiting.number]


async def test_what_was_said_outlives_a_restart_until_it_is_cleared(opened):
    """A room held at noon is held after a crash; `clear` goes back to the configuration."""
    played = await opened(total_active_users=5)
    await said(played, queue_all=True, total_active_users=2, message="back soon")
    if played.keeps:
        await played.crash()
        assert (await played.store.status("launch")).log[-1]["who"] == "someone"
    facts = (await played.store.status("launch")).facts
    assert (facts["state"], facts["total_active_users"], facts["message"]) == (RoomState.HELD, 2, "back soon") or (
        not played.keeps
    )
    facts = await said(played, clear=True)
    assert (facts["state"], facts["total_active_users"], facts["message"]) == (RoomState.QUEUEING, 5, None)


@pytest.mark.parametrize(
    "verbs",
    [
        {},
        {"queue_all": "yes"},
        {"new_users_per_minute": 0},
        {"total_active_users": True},
        {"queueing_method": "lifo"},
        {"message": "two\nlines"},
        {"stock": -1},
        {"colour": "red"},
        {"admission": "measured"},
        {"stock_version": 3},
    ],
)
async def test_what_cannot_be_said_changes_nothing(opened, verbs):
    """A sentence says what is wrong, and not even the half that was right is done."""
    played = await opened()
    before = (await played.store.status("launch")).facts["said"]
    with pytest.raises(ValueError, match=r"."):
        await said(played, **({"message": "hello"} | verbs if verbs else {}))
    assert (await played.store.status("launch")).facts["said"] == before


# -- passes ------------------------------------------------------------------------------------------------------------


async def test_the_origin_adds_to_a_session(opened):
    """extend=10m: the end moves by that, within the limit of a session."""
    played = await opened(session_duration_s=60, session_limit_s=600)
    [number] = await played.inside()
    end_ms = (await played.store.snapshot("launch")).inside[number]
    await played.tick(extended=[(number, 120_000)])
    assert (await played.store.snapshot("launch")).inside[number] == end_ms + 120_000
    await played.tick(extended=[(number, 3_600_000)])
    assert (await played.store.snapshot("launch")).inside[number] == end_ms + 540_000


async def test_a_turn_begins_anew_when_its_holder_asks_for_more_time(opened):
    """It ends ``claim_within`` after they asked, and the slot stays theirs; at most so often."""
    played = await opened(claim_within_s=60, total_active_users=1)
    first, second = (joined.number for joined in await played.join(2))
    await played.tick(first, told_s=2.0, budget=0)
    assert (await played.tick(second, told_s=9_999.0)).called == [first]
    for _ in range(MORE_MAX):
        played.clock.advance(55)
        asked_ms = played.now_ms()
        await played.tick(extended=[(first, 0)])
        assert (await played.store.snapshot("launch")).turns == {first: asked_ms + 60_000}
    if played.keeps:
        ends = (await played.store.snapshot("launch")).turns
        await played.crash()
        assert (await played.store.snapshot("launch")).turns == ends
        return
    played.clock.advance(55)
    await played.tick(extended=[(first, 0)])
    played.clock.advance(6)
    assert (await played.tick()).called == [second]


async def test_an_ended_pass_is_looked_up(opened):
    """The record holds a later end than the pass states: it is told, and slides; of one that is gone it says 0."""
    played = await opened(session_duration_s=60)
    [held, gone] = await played.inside(2)
    await played.leave(gone)
    played.clock.advance(40)
    passes = [Pass("launch", 1, number, "a" * 16, 0, 1) for number in (held, gone)]
    assert await played.store.look_up("launch", played.known, passes) == [played.now_ms() + 60_000, 0]


async def test_numbers_of_another_generation_are_not_this_ones(opened):
    """A worker that has not heard of a reset claims, leaves and renews nothing of the new generation."""
    played = await opened(total_active_users=1)
    await said(played, reset=True)
    played.known = Known(2)
    await played.join(1)
    await played.tick(1)
    played.known = Known(1)
    assert (await played.claim(1))[0].gone
    await played.leave(1)
    assert await played.store.look_up("launch", played.known, [Pass("launch", 1, 1, "a" * 16, 0, 1)]) == [0]
    assert (await played.store.snapshot("launch")).turns.keys() == {1}


# -- what the record may have lost -------------------------------------------------------------------------------------


async def test_a_number_that_a_worker_saw_signed_is_never_given_again(opened):
    """The record is smaller than what was signed: the next number is of a new series, beyond everything known."""
    played = await opened()
    await played.join(3)
    played.known = Known(1, 500)
    [next_one] = await played.join()
    assert next_one.number > 1_000_000
    assert (await played.store.snapshot("launch")).standing(400) != GONE
    assert (await played.store.snapshot("launch")).standing(2) != GONE


async def test_a_generation_that_was_signed_is_adopted(opened):
    """A record that lost a reset does not go back to the generation before it."""
    played = await opened()
    played.known = Known(4, 20)
    [joined] = await played.join()
    assert joined.generation == 4
    assert joined.number > 20
    assert (await played.store.snapshot("launch")).generation == 4


async def test_while_the_roll_is_called_nobody_is_called_or_passed_over(opened):
    """After a loss everybody has the time to be heard; then they come in order, the oldest first."""
    played = await opened(session_duration_s=30, total_active_users=1)
    played.known = Known(1, 9)
    [newcomer] = await played.join()
    assert (await played.store.snapshot("launch")).rolls_until_ms > played.now_ms()
    called = []
    for _ in range(400):
        played.clock.advance(0.25)
        called += (await played.tick(newcomer.number, 9, 4, told_s=5)).called
        if called:
            break
    assert called == [4]
    assert played.now_ms() >= newcomer.joined_ms + 60_000


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lived_s", [0, 0.25, 30])
async def test_no_number_is_given_twice_across_crashes(opened, lived_s):
    """However soon after its first join the process dies, and however often, each number is given once."""
    played, given = await opened(), []
    for _ in range(4):
        given += [joined.number for joined in await played.join(2)]
        played.clock.advance(lived_s)
        if lived_s:
            await played.tick()
        await played.crash()
    given += [joined.number for joined in await played.join(2)]
    assert len(set(given)) == len(given)
    assert given == sorted(given)


async def test_the_cap_holds_across_a_crash(opened):
    """Passes that were out before the crash still open the door: until their ends nobody new gets a slot."""
    played = await opened(total_active_users=2, session_duration_s=90, always_queue=False)
    ends_ms = [joined.end_ms for joined in await played.join(2)]
    await played.crash()
    [newcomer] = await played.join()
    assert newcomer.end_ms == 0
    while played.now_ms() < max(ends_ms):
        assert list((await played.tick(newcomer.number)).called) == []
        played.clock.advance(10)
    played.clock.advance(110)
    await played.tick(newcomer.number)
    assert (await played.claim(newcomer.number))[0].end_ms


async def test_the_cap_holds_across_two_crashes(opened):
    """A process that lived a moment, and let nobody in, does not forget what the one before it left."""
    played = await opened(total_active_users=1, session_duration_s=300)
    await played.inside()
    for _ in range(3):
        await played.crash()
        [waiting] = await played.join()
        await played.tick(waiting.number)
        played.clock.advance(20)
        assert list((await played.tick(waiting.number, told_s=5)).called) == []


async def test_the_minute_holds_across_a_crash(opened):
    """Who came in and left within a minute before the crash still counts against the minute after it."""
    played = await opened(new_users_per_minute=120, session_duration_s=5, claim_within_s=5)
    admitted_ms = []
    for step in range(500):
        if step == 270:
            await played.crash()
        for one in await played.join(1 if step < 400 else 0):
            await played.tick(one.number)
        for number in (await played.store.snapshot("launch")).turns:
            admitted_ms += [one.admitted_ms for one in await played.claim(number) if one.end_ms]
        played.clock.advance(0.25)
        await played.tick()
    assert len(admitted_ms) > 120
    for at_ms in admitted_ms:
        assert sum(at_ms - 60_000 < other_ms <= at_ms for other_ms in admitted_ms) <= 120
        assert sum(at_ms - 1_000 < other_ms <= at_ms for other_ms in admitted_ms) <= 2


async def test_old_tickets_are_called_in_order_before_newcomers(opened):
    """Places kept by the visitors alone: after a crash the first to ask is not the first to go in."""
    played = await opened(total_active_users=1)
    await played.join(4)
    await played.tick(1, 2, 3, 4, told_s=15)
    await played.crash()
    [newcomer] = await played.join()
    await played.tick(newcomer.number)
    await played.tick(4)
    played.clock.advance(10)
    await played.tick(3)
    called = []
    for _ in range(200):
        played.clock.advance(0.25)
        for number in (await played.tick(2, 3, 4, newcomer.number)).called:
            called.append(number)
            await played.leave(number)
    assert called == [2, 3, 4, newcomer.number]


async def test_a_quiet_room_opens_at_once_after_a_restart(opened):
    """Nobody inside, nobody in line, nobody in the last minute: the next visitor goes straight in."""
    played = await opened(always_queue=False, session_duration_s=10, claim_within_s=10)
    await played.join()
    for _ in range(90):
        played.clock.advance(1)
        await played.tick()
    await played.store.close()
    await played.crash()
    assert (await played.join())[0].end_ms


# -- memory: only ------------------------------------------------------------------------------------------------------


async def test_memory_without_notes_forgets_with_the_process():
    """For tests and embedding: no file, and a fresh count each time."""
    clock = FakeClock()
    for _ in range(2):
        store = MemoryStore([room()], clock)
        assert (await store.join("launch", Known(), [JoinRequest("a" * 16, 2)]))[0].number == 1
        assert (await store.claim("launch", Known(), [(1, 2.0)]))[0].end_ms == 0
        await store.close()


async def test_a_series_never_begins_below_what_is_noted(tmp_path):
    """With a wall clock that was set back a year, the next series still begins beyond the last number."""
    notes = Notes(tmp_path / "notes")
    last = 1_800_000_000 * SERIES_STEP
    notes.write({"launch": RoomNote(last, 0)})
    store = MemoryStore([room()], FakeClock(wall_s=1_700_000_000), Notes(tmp_path / "notes"))
    assert (await store.join("launch", Known(), [JoinRequest("a" * 16, 2)]))[0].number == last + SERIES_STEP


async def test_a_room_that_never_ran_starts_at_one(tmp_path):
    """The notes of one room say nothing about another, and are kept when only the other is used."""
    Notes(tmp_path / "notes").write({"other": RoomNote(7, 8)})
    store = MemoryStore([room()], FakeClock(), Notes(tmp_path / "notes"))
    assert (await store.join("launch", Known(), [JoinRequest("a" * 16, 2)]))[0].number == 1
    assert Notes(tmp_path / "notes").read()["other"] == RoomNote(7, 8)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"launch": 1}', '{"launch": {"issued": 1}}', '{"launch": {"issued": "x"}}', "\0"]
)
def test_notes_that_cannot_be_understood_are_an_error_at_start(tmp_path, text):
    """To take a broken note for an empty one would give numbers twice; the message says what to do."""
    (tmp_path / "notes").write_text(text)
    with pytest.raises(StartError, match=r"notes: cannot be read .* Restore it"):
        MemoryStore([room()], FakeClock(), Notes(tmp_path / "notes"))


def test_a_note_is_whole_or_absent(tmp_path):
    """The file is replaced, never written over: nothing else is left beside it."""
    notes = Notes(tmp_path / "notes")
    for issued in range(3):
        assert notes.write({"launch": RoomNote(issued, 0)})
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    assert notes.read() == {"launch": RoomNote(2, 0)}


def test_the_same_note_is_not_written_again(tmp_path):
    """A quiet room costs no write."""
    notes = Notes(tmp_path / "notes")
    assert notes.write({"launch": RoomNote(1, 0)})
    assert not notes.write({"launch": RoomNote(1, 0)})


def test_a_note_that_could_not_be_written_is_tried_again(tmp_path, caplog):
    """A full disk is said in the log and stops nobody; once there is room the note is written, though unchanged."""
    folder = tmp_path / "missing"
    notes = Notes(folder / "notes")
    assert notes.write({"launch": RoomNote(1, 0)})
    assert "cannot note which rooms have run" in caplog.text
    folder.mkdir()
    notes.write({"launch": RoomNote(1, 0)})
    assert notes.read() == {"launch": RoomNote(1, 0)}


# -- a keeper that dies, or hangs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verbs", "times"), [({"reset": True}, 1), ({"closed": True}, 3)])
async def test_what_is_not_the_same_the_second_time_is_asked_for_once(verbs, times):
    """The keeper may have died after the reset was kept: another would end the line of all who came since."""
    asked = []

    async def die(reader, writer):
        await frames.read(reader)
        frames.write(writer, "welcome")
        asked.append(await frames.read(reader))
        writer.close()

    listening = socket.socket(socket.AF_UNIX)
    listening.bind("")
    server = await asyncio.start_unix_server(die, sock=listening)
    store = RemoteStore(listening.getsockname(), patience_s=0.5)
    with pytest.raises(StoreAway):
        await store.operate("launch", verbs, "me")
    assert len(asked) >= times
    assert times > 1 or len(asked) == 1
    await store.close()
    server.close()


async def test_a_keeper_that_hangs_collects_no_connections():
    """Each operation that gives up while it is being reached lets go of what it had opened."""
    open_now = 0

    async def hang(reader, writer):
        nonlocal open_now
        open_now += 1
        await reader.read()
        open_now -= 1
        writer.close()

    listening = socket.socket(socket.AF_UNIX)
    listening.bind("")
    server = await asyncio.start_unix_server(hang, sock=listening)
    store = RemoteStore(listening.getsockname(), patience_s=0.05)
    for _ in range(5):
        with pytest.raises(StoreAway):
            await store.status("launch")
    await asyncio.sleep(0.05)
    assert not open_now
    server.close()


# -- invites -----------------------------------------------------------------------------------------------------------


async def test_an_invite_is_used_once_over_any_crash(opened):
    """What was answered is kept: nobody else gets a place by it, and who has it stands in the line of the invited."""
    store = await opened(priority=Priority(share=0.5), total_active_users=3)

    async def redeem(invite):
        until_ms = store.now_ms() + 600_000
        request = JoinRequest("b" * 16, 2.0, None, invite, until_ms)
        return (await store.store.join("launch", store.known, [request]))[0]

    line = [joined.number for joined in await store.join(6)]
    invited = (await redeem("a" * 16)).number
    view = (await store.tick(*line, invited, budget=0)).snapshot
    assert view.ahead(invited) == 0
    assert (await redeem("a" * 16)).spent
    await store.crash()
    if store.keeps:
        assert (await redeem("a" * 16)).spent
        assert (await store.store.snapshot("launch")).invited == {invited: 0}
        store.clock.advance(2)
        assert (await store.tick(*line, invited)).called == [*line[:2], invited]
    else:  # a lost record knows no more who used what, and gives no number twice
        assert (await redeem("a" * 16)).number > invited


async def test_an_account_has_one_place_over_any_crash(opened):
    """P14 for accounts: the same number and visitor, one slot and pass, over restarts; given up, another place."""
    store = await opened(total_active_users=3)

    async def join(*members, visitor="c" * 16):
        [joined] = await store.store.join("launch", store.known, [JoinRequest(visitor, 2.0, members=members)])
        return joined

    one, other = await asyncio.gather(join("a"), join("b"))
    again = await join("a", visitor="d" * 16)
    assert (again.number, again.visitor) == (one.number, "c" * 16)
    assert {one.number, other.number} == {1, 2}
    await store.tick(1, 2)
    [claimed] = await store.claim(one.number)
    await store.crash()
    back = await join("new key", "a")
    if not store.keeps:  # a lost record does not know whose place was whose, and gives no number twice
        assert back.number > 2
        return
    assert (back.number, back.visitor) == (one.number, "c" * 16)
    assert back.end_ms >= claimed.end_ms
    assert (await join("new key")).number == one.number
    assert (await join("b")).number == other.number
    await store.leave(one.number)
    store.clock.advance(2)
    for _ in range(2):
        await store.tick(2)
    await store.crash()
    assert (await join("a")).number == 3
    assert (await join("b")).number == other.number


# -- draws -------------------------------------------------------------------------------------------------------------


async def test_a_draw_is_committed_to_closed_and_dealt_once_over_any_crash(opened_draw):
    """P12: the same commitment, list and order before and after each end of the process; places are by the order."""
    store = opened_draw
    [promised] = (await store.store.snapshot("launch")).draws
    await store.crash()
    store.clock.advance(10)
    store.known = Known((await store.store.snapshot("launch")).generation)
    numbers = [joined.number for joined in await store.join(6)]
    assert [joined.ahead for joined in await store.join(2)] == [None, None]
    [gathering] = (await store.store.snapshot("launch")).draws
    assert (gathering.commitment, gathering.seed) == (promised.commitment, "")
    assert await store.store.drawn("launch") is None
    await store.crash()
    assert (await store.store.snapshot("launch")).draws == (gathering,)
    store.clock.advance(30)
    assert (await store.tick(budget=0)).called == []
    view = (await store.tick(budget=0)).snapshot
    [closed] = view.draws
    assert (closed.digest, closed.series) == (gathering.digest, ((1, 8),))
    await store.crash()
    await store.tick(budget=0)
    again = (await store.tick(budget=0)).snapshot
    assert (again.order, again.draws) == (view.order, view.draws)
    drawn = await store.store.drawn("launch")
    assert (drawn.draw, drawn.ranks) == (closed, view.order.ranks.tobytes())
    assert (drawn.lost, len(drawn.tickets)) == ((0, 8 * 16) if store.keeps else (8, 0))
    store.clock.advance(200)
    called = (await store.tick(*numbers)).called
    assert called == sorted(numbers, key=view.order.place)
    assert all(claimed.end_ms for claimed in await store.claim(*called))
    view = await store.store.snapshot("launch")
    assert view.inside.keys() == set(numbers)


@pytest.fixture(params=STORES)
async def opened_draw(request, tmp_path):
    """A store whose room has an event to come, the order of which will be drawn."""
    clock = FakeClock()
    wall_ms = int(clock.wall_s() * 1000)
    event = RoomEvent("noon", wall_ms + 40_000, wall_ms + 900_000, wall_ms + 10_000, shuffle_at_event_start=True)
    rooms = [room(events=(event,))]
    found = await Opened(STORES[request.param], rooms, clock, tmp_path).start()
    yield found
    await found.opened.crash()
