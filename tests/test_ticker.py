"""The control plane: each room for itself, nothing noted lost, nothing caught up on."""

from __future__ import annotations

import asyncio
import time

import pytest
from rooms import room

from waitroom.core.queueing import JoinRequest
from waitroom.core.tokens import Keyring
from waitroom.model import TICK_S
from waitroom.ports import Known
from waitroom.service import RoomService
from waitroom.store.memory import MemoryStore
from waitroom.testing import FakeClock
from waitroom.ticker import Ticker

KEYRING = Keyring(["k" * 32])


class TroubledStore(MemoryStore):
    """A store in which the room ``bad`` has the trouble that a test gives it."""

    def __init__(self, rooms, clock):
        super().__init__(rooms, clock)
        self.trouble = None
        self.ticks = []

    async def tick(self, room, known, noted, lead):
        """Note the step; for ``bad`` raise or hang first."""
        self.ticks.append((room, [heard.number for heard in noted.heard], lead.budget))
        if room == "bad" and self.trouble is not None:
            await self.trouble()
        return await super().tick(room, known, noted, lead)


async def raises():
    """The store is away."""
    raise OSError("the store is away")


async def hangs():
    """The store never answers."""
    await asyncio.Event().wait()


@pytest.fixture
async def rooms():
    """Two rooms on one store, with a ticker for both; one of them is called bad."""
    clock = FakeClock()
    models = [room(name=name, new_users_per_minute=600) for name in ("bad", "good")]
    store = TroubledStore(models, clock)
    services = [RoomService(model, await store.snapshot(model.name), store, KEYRING, clock) for model in models]
    return clock, store, services, Ticker(services, store)


@pytest.fixture
def ticks_fast(monkeypatch):
    """A tick of five milliseconds, so that tests on the real loop are short."""
    monkeypatch.setattr("waitroom.ticker.TICK_S", 0.005)


async def until(condition):
    """Wait on the real loop for ``condition``, and give up only where it will never be."""
    give_up_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_s, "did not come about"
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("trouble", [raises, hangs])
@pytest.mark.usefixtures("ticks_fast")
async def test_a_room_in_trouble_changes_nothing_in_another(rooms, trouble, caplog):
    """One room's steps fail or hang: the other joins, is called and admitted at its own pace (P8)."""
    clock, store, (bad, good), ticker = rooms
    store.trouble = trouble
    ticker.start()
    try:
        joined, _ = await good.join()
        good.hear(joined.number, 100.0, visible=True)
        bad.hear(1, 100.0, visible=True)
        clock.advance(1)
        await until(lambda: joined.number in good.view.turns)
        assert (await good.claim(good.ticket(joined))).end_ms
        assert bad.view.issued == 0
    finally:
        store.trouble = None
        await ticker.stop()
    assert all("bad" in record.getMessage() or record.room == "bad" for record in caplog.records)


@pytest.mark.usefixtures("ticks_fast")
async def test_a_room_that_failed_goes_on_with_what_it_noted(rooms, caplog):
    """The steps after the trouble bring what was noted before and during it; each failure is one line in the log."""
    clock, store, (bad, _), ticker = rooms
    store.trouble = raises
    joined, _ = await bad.join()
    bad.hear(joined.number, 100.0, visible=True)
    ticker.start()
    try:
        await until(lambda: sum(name == "bad" for name, _, _ in store.ticks) >= 3)
        assert all(heard == [joined.number] for name, heard, _ in store.ticks if name == "bad")
        store.trouble = None
        clock.advance(1)
        await until(lambda: joined.number in bad.view.turns)
    finally:
        await ticker.stop()
    assert {record.reason for record in caplog.records} == {"tick-failed"}
    assert {record.room for record in caplog.records} == {"bad"}


async def test_what_was_noted_outlives_a_failed_tick(rooms):
    """The numbers heard and the passes used are there for the next step; what came since is newer and wins."""
    _, store, (bad, _), ticker = rooms
    joined, _ = await bad.join()
    bad.hear(joined.number, 10.0, visible=True)
    store.trouble = raises
    with pytest.raises(OSError, match="away"):
        await ticker.step(bad)
    bad.hear(joined.number, 100.0, visible=False)
    [heard] = bad.take_noted().heard
    assert heard.visible
    assert heard.silent_until_ms > bad.now_ms() + 100_000


async def test_a_cancelled_tick_loses_nothing(rooms):
    """A step cut off by a stop hands back what it had taken."""
    _, store, (bad, _), ticker = rooms
    bad.hear(1, 10.0, visible=True)
    store.trouble = hangs
    step = asyncio.ensure_future(ticker.step(bad))
    await asyncio.sleep(0)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert [heard.number for heard in bad.take_noted().heard] == [1]


async def test_a_pause_is_not_followed_by_a_burst(rooms):
    """Ten seconds without a step: the next one may call a second's worth, and the one after it no more."""
    clock, store, (_, good), ticker = rooms
    await store.join("good", Known(), [JoinRequest("a" * 16, 100.0)] * 100)
    for number in range(1, 101):
        good.hear(number, 1_000.0, visible=True)
    await ticker.step(good)
    clock.advance(10)
    await ticker.step(good)  # its lease is over: it takes the lead anew, and calls nobody in the same breath
    assert len(good.view.turns) == 0
    await ticker.step(good)
    assert len(good.view.turns) == 10
    await ticker.step(good)
    assert len(good.view.turns) == 10
    clock.advance(TICK_S)
    await ticker.step(good)
    assert len(good.view.turns) == 12


@pytest.mark.usefixtures("ticks_fast")
async def test_late_ticks_are_not_made_up_for(rooms):
    """The loop was blocked for twenty ticks: afterwards steps come one by one, not twenty at once."""
    _, store, _, ticker = rooms
    ticker.start()
    try:
        await until(lambda: store.ticks)
        time.sleep(0.1)  # noqa: ASYNC251 - blocking the loop is the point
        before = len(store.ticks)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(store.ticks) - before <= 4
    finally:
        await ticker.stop()


async def test_stopping_takes_a_last_step_for_every_room(rooms, caplog):
    """What was noted last reaches the store; a room that fails even then keeps no other from it."""
    _, store, (bad, good), ticker = rooms
    store.trouble = raises
    ticker.start()
    bad.hear(1, 10.0, visible=True)
    good.hear(1, 10.0, visible=True)
    await ticker.stop()
    assert ("good", [1], -1) in store.ticks
    assert [record.room for record in caplog.records] == ["bad"]
    ticks = len(store.ticks)
    await asyncio.sleep(0.01)
    assert len(store.ticks) == ticks
