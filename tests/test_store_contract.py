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

from waitroom.core.queueing import CALLED, GONE, SERIES_STEP, WAITING, Heard, JoinRequest
from waitroom.errors import StartError
from waitroom.model import Pass, RoomState
from waitroom.ports import Known, Lead, Noted
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
