"""What the stores tell the ledger: each admission once, after it was kept; what went around; what was done."""

from __future__ import annotations

import pytest
from rooms import room

from waitroom.core.queueing import Heard, JoinRequest
from waitroom.core.tokens import Keyring
from waitroom.errors import StoreAway
from waitroom.ports import Known, Lead, Noted
from waitroom.service import RoomService
from waitroom.store.memory import MemoryStore
from waitroom.store.sqlite import SqliteStore
from waitroom.testing import FakeClock
from waitroom.ticker import Ticker


class Told(list):
    """A ledger that remembers what it was told."""

    def write(self, entries):
        """Take entries in."""
        self.extend(entries)

    def of(self, kind):
        """Return what was told of one kind."""
        return [entry for entry in self if entry.kind == kind]

    def admitted(self):
        """Return who was let in: number, visitor, the room's count, and how."""
        return [(one.facts["number"], one.visitor, one.facts["nth"], one.facts["by"]) for one in self.of("admitted")]


class Opened:
    """A store with a ledger, and the phrases in which these tests speak to it."""

    def __init__(self, kind, folder, **settings):
        self.clock, self.told, self.room = FakeClock(), Told(), room(**settings)
        if kind == "memory":
            self.store = MemoryStore([self.room], self.clock, ledger=self.told)
        else:
            self.store = SqliteStore([self.room], self.clock, folder / "record.db", ledger=self.told)

    async def join(self, *visitors, key=None):
        """Let visitors join in one operation."""
        return await self.store.join("launch", Known(), [JoinRequest(visitor, 2.0, key) for visitor in visitors])

    async def called(self, *visitors):
        """Let visitors join, ask and be called; return their numbers."""
        numbers = [joined.number for joined in await self.join(*visitors)]
        until_ms = self.store.now_ms() + 1_000_000
        serving = (await self.store.snapshot("launch")).serving
        noted = Noted([Heard(number, until_ms) for number in numbers])
        await self.store.tick("launch", Known(), noted, Lead("one", 0, serving, 100))
        return numbers

    async def claim(self, numbers, *visitors):
        """Claim in one operation."""
        return await self.store.claim("launch", Known(), [(number, 2.0) for number in numbers], visitors)

    async def close(self):
        """Close it, once."""
        if self.store is not None:
            store, self.store = self.store, None
            await store.close()

    async def around(self, counts, worker="one"):
        """Bring a tick's counts of what went around."""
        return await self.store.tick("launch", Known(), Noted(around=counts), Lead(worker, 0, 0, -1))


@pytest.fixture(params=["memory", "sqlite"])
async def opened(request, tmp_path):
    """Return a function that opens a store of each kind."""
    made = []

    def opened(**settings):
        made.append(Opened(request.param, tmp_path, **settings))
        return made[-1]

    yield opened
    for one in made:
        await one.close()


async def test_each_who_is_let_in_is_told_once(opened):
    """Straight in or by a claim; the limits before the first; a repeat, or a second tab, is nobody new."""
    here = opened(total_active_users=3, always_queue=False)
    await here.join("aaaa", "bbbb", key="same")
    await here.join("cccc", key="same")
    assert here.told.admitted() == [(1, "aaaa", 1, "join")]
    assert here.told[0].kind == "limits"
    await here.join("dddd", "eeee")
    assert [number for number, *_ in here.told.admitted()] == [1, 2, 3]
    await here.store.leave("launch", Known(), [2])
    again = [JoinRequest("gggg", 2.0, "same"), JoinRequest("hhhh", 2.0)]
    assert all(joined.end_ms for joined in await here.store.join("launch", Known(), again))
    assert here.told.admitted()[3:] == [(4, "hhhh", 4, "join")], "who comes again beside somebody new is nobody new"
    await here.join("ffff")
    assert len(here.told.admitted()) == 4, "the house is full: the next one waits"


async def test_a_claim_is_told_with_its_holder(opened):
    """By the number's own visitor; asked again, or twice in one step, it is the same admission; without a turn none."""
    here = opened(total_active_users=2, always_queue=True)
    numbers = await here.called("aaaa", "bbbb", "cccc")
    assert here.told.admitted() == []
    await here.claim([*numbers, numbers[0]], "aaaa", "bbbb", "cccc", "aaaa")
    await here.claim(numbers[:1], "aaaa")
    assert here.told.admitted() == [(numbers[0], "aaaa", 1, "claim"), (numbers[1], "bbbb", 2, "claim")]
    await here.store.leave("launch", Known(), numbers[:1])
    await here.claim(await here.called("dddd"))
    assert here.told.admitted()[2:] == [], "somebody before them is called first"


async def test_the_limits_in_force_are_told_before_whoever_they_let_in(opened):
    """When they are others than before, by whomever; so each admission can be judged by what was told last."""
    here = opened(total_active_users=9, new_users_per_minute=600)
    await here.store.operate("launch", {"new_users_per_minute": 120}, "kim")
    await here.store.operate("launch", {"message": "soon"}, "kim")
    await here.store.configure([room(total_active_users=8, new_users_per_minute=600)])
    told = [
        (one.facts["total_active_users"], one.facts["new_users_per_minute"]) if one.kind == "limits" else one.facts
        for one in here.told
    ]
    assert told == [
        (9, 600),
        {"who": "kim", "did": "new_users_per_minute = 120"},
        (9, 120),
        {"who": "kim", "did": "message = soon"},
        (8, 120),
    ]


async def test_what_goes_around_is_counted_and_told_every_ten_seconds(opened):
    """The first by a rule at once, the others together; what a worker says again is not counted again."""
    here = opened()
    rule = ("bypass", "*/event/a/")

    def counts():
        return [one.facts["count"] for one in here.told.of("bypassed")]

    await here.around({rule: (0, 5)})
    assert [one.facts for one in here.told][-1:] == [{"reason": "bypass", "rule": "*/event/a/", "count": 5}]
    first_ms = here.store.now_ms()
    here.clock.advance(9)
    await here.around({rule: (0, 7)})
    await here.around({rule: (5, 7)}, worker="two")
    await here.around({rule: (7, 7)})
    assert counts() == [5]
    await here.around({("passthrough", ""): (0, 3)})
    assert here.told[-1].facts == {"reason": "passthrough", "count": 3}
    here.clock.advance(1)
    await here.around({})
    assert counts() == [5, 3, 4]
    assert here.told[-1].facts["since_ms"] == first_ms
    await here.around({rule: (0, 7)})
    here.clock.advance(20)
    await here.around({})
    assert counts() == [5, 3, 4], "nothing went around since"
    await here.around({rule: (7, 8)})
    await here.around({rule: (8, 10), ("bypass", "x" * 9_000): (0, 4)})
    assert counts() == [5, 3, 4, 1, 4]
    assert here.told[-1].facts["rule"] == "x" * 500
    await here.close()
    assert counts() == [5, 3, 4, 1, 4, 2], "what is left is told at the end"


async def test_a_worker_brings_what_went_around_it_and_says_it_again_until_it_is_taken(opened):
    """The service's count of its life, and how much of it a store has answered for."""
    here = opened()
    view = await here.store.snapshot("launch")
    service = RoomService(here.room, view, here.store, Keyring(["k" * 32]), here.clock, worker="one")
    ticker = Ticker([service], here.store)
    service.go_around("bypass", "x")
    service.go_around("bypass", "x")
    failed = service.take_noted()
    assert failed.around == {("bypass", "x"): (0, 2)}
    service.go_around("standby")
    service.put_back(failed)
    again = service.take_noted()
    assert again.around == {("bypass", "x"): (0, 2), ("standby", ""): (0, 1)}
    service.put_back(again)
    await here.around(failed.around)  # it was done all the same
    await ticker.step(service)
    assert service.take_noted().around == {}
    told = {(one.facts["reason"], one.facts["count"]) for one in here.told.of("bypassed")}
    assert told == {("bypass", 2), ("standby", 1)}


async def test_nothing_is_told_that_was_not_kept(tmp_path, monkeypatch):
    """A line in the ledger of somebody whom the record forgot would be a lie: it follows the commit."""
    here = Opened("sqlite", tmp_path, always_queue=False)
    before = len(here.told)

    def fails(*_):
        assert len(here.told) == before
        raise StoreAway("no space")

    with monkeypatch.context() as patched:
        patched.setattr(here.store, "_write_file", fails)
        with pytest.raises(StoreAway):
            await here.join("aaaa")
        assert len(here.told) == before
        here.store._returning.cancel()
    await here.store.close()
    assert here.told.admitted() == [(1, "aaaa", 1, "join")], "kept at last, and told then"


async def test_the_rooms_count_goes_on_over_a_restart(tmp_path):
    """It stands in the record: so a line that a killed process did not write shows as a gap in it."""
    here = Opened("sqlite", tmp_path, always_queue=False)
    await here.join("aaaa", "bbbb")
    here.store.abandon()
    again = Opened("sqlite", tmp_path, always_queue=False)
    await again.join("cccc")
    assert again.told.admitted() == [(3, "cccc", 3, "join")]
    await again.store.close()


async def test_without_a_ledger_nothing_is_gathered(tmp_path):
    """Whoever keeps none pays nothing for it, not even memory."""
    here = Opened("memory", tmp_path, always_queue=False)
    here.store = MemoryStore([here.room], here.clock)
    await here.join("aaaa")
    await here.around({("bypass", "x"): (0, 5)})
    book = here.store._book
    assert (book._entries, book._around, book._around_known, book._limits) == ([], {}, {}, {})
