"""``queueing_method: random`` through service, ticker and store: what people are told, and what a crowd comes to."""

from __future__ import annotations

import asyncio
import functools
import json
from dataclasses import replace

import pytest
from house import Visitor, running, until
from rooms import room

from waitroom.core.tokens import Keyring
from waitroom.core.waiting import wait_range
from waitroom.model import TICK_S, Invite, Overrides, Priority, QueueingMethod, RoomState, VisitorState
from waitroom.service import Carried, RoomService
from waitroom.store.memory import MemoryStore
from waitroom.testing import Crowd, FakeClock, OpenedSqlite, Plan
from waitroom.ticker import Ticker

RANDOM = room(queueing_method=QueueingMethod.RANDOM)
PLAN = Plan(visitors=160, arrive_s=20, visit_s=12, never=0.1, leave=0.1, late=0.1, repeat=0.2)


@functools.cache
def outcome(seed, folder=None):
    """Play a crowd, once."""
    kind = {"opener": OpenedSqlite, "workers": 2} if folder else {}
    return asyncio.run(Crowd(RANDOM, PLAN, seed, folder, **kind).play(260))


@pytest.mark.parametrize("seed", [7, 11])
def test_a_crowd_without_an_order_is_kept_every_other_promise(seed, tmp_path):
    """Caps, places, numbers, and everybody who stays gets in; with one worker, and with two on a record."""
    for folder in (None, tmp_path):
        crowd = outcome(seed, folder)
        assert crowd.most_active <= RANDOM.total_active_users
        assert (crowd.places_lost, crowd.given_twice, crowd.repeats_differ, crowd.rising) == (0, 0, 0, 0)
        assert all(person.aheads == [] for person in crowd.people)
        faithful = [person for person in crowd.people if person.kind == "faithful"]
        assert all(person.admitted_s is not None for person in faithful)


def test_who_comes_first_has_no_advantage():
    """Of the faithful who came in the first half and in the second, about as many are called early."""
    crowd = outcome(7)
    waited = sorted((person.called_s or 0, person.arrived_s) for person in crowd.people if person.called_s)
    early = [arrived_s for called_s, arrived_s in waited if called_s > 25][:60]
    assert any(arrived_s > 15 for arrived_s in early[:20])
    assert any(arrived_s < 8 for arrived_s in early[-20:])


class Served:
    """A service in front of a line without an order, on a store in memory."""

    def __init__(self, **settings):
        self.clock = FakeClock()
        self.room = replace(RANDOM, **settings)
        self.store = MemoryStore([self.room], self.clock)

    async def start(self):
        """Read the first view."""
        view = await self.store.snapshot("launch")
        self.service = RoomService(self.room, view, self.store, Keyring(["k" * 32]), self.clock)
        self.ticker = Ticker([self.service], self.store)
        return self

    async def tick(self):
        """Let a tick pass."""
        self.clock.advance(TICK_S)
        await self.ticker.step(self.service)


async def test_nobody_is_told_of_people_ahead_and_all_of_the_same_wait():
    """P10: neither at the join, nor later, nor in what everybody is told; the range is one for all."""
    served = await Served(total_active_users=1).start()
    tickets = []
    for _ in range(40):
        joined, told = await served.service.join()
        assert (told.state, told.ahead) == (VisitorState.WAITING, None)
        tickets.append(Carried(ticket=served.service.ticket(joined)))
        served.service.hear(joined.number, 1_000.0, visible=True)
    await served.tick()
    waiting = [told for told in map(served.service.told, tickets) if told.state is VisitorState.WAITING]
    assert len(waiting) >= 39
    assert {told.ahead for told in waiting} == {None}
    [(low, high)] = {told.wait_s for told in waiting}
    assert high > 10 * low > 0
    shared = json.loads(served.service.shared_status)
    assert (shared["state"], shared["ahead"]) == (RoomState.QUEUEING, [])


async def test_pages_ask_as_if_they_stood_in_the_middle():
    """Anybody may be next: nobody is told to stay away for longer than `far`, whatever the crowd."""
    served = await Served().start()
    refresh = served.room.refresh
    served.service.view = replace(served.service.view, present=2_000_000)
    assert served.service._told_s(1_000_000) == refresh.far_s
    served.service.view = replace(served.service.view, present=4)
    assert served.service._told_s(3) == refresh.near_s


async def test_a_line_gets_its_order_back_when_the_method_does():
    """Said by an operator: from then on people ahead are told again, and never more than before."""
    served = await Served(queueing_method=QueueingMethod.FIFO, total_active_users=1).start()
    joined, told = [await served.service.join() for _ in range(5)][-1]
    ticket = Carried(ticket=served.service.ticket(joined))
    assert told.ahead == 4
    for method, ahead in ((QueueingMethod.RANDOM, None), (QueueingMethod.FIFO, 4)):
        await served.store.operate("launch", {"queueing_method": method.value}, "someone")
        await served.tick()
        assert served.service.view.overrides == Overrides(queueing_method=method)
        assert served.service.told(ticket).ahead == ahead


async def test_the_invited_are_told_the_shorter_wait_of_both_lines():
    """Behind forty people and first of the invited: of every second call, one is theirs."""
    served = await Served(
        queueing_method=QueueingMethod.FIFO, total_active_users=1, priority=Priority(share=0.5)
    ).start()
    for _ in range(40):
        joined, _ = await served.service.join()
        served.service.hear(joined.number, 1_000.0, visible=True)
    last = Carried(ticket=served.service.ticket(joined))
    invited = await served.service.redeem(Invite("launch", "a" * 16, served.store.now_ms() + 60_000), None)
    guest = Carried(ticket=served.service.ticket(invited))
    served.service.hear(invited.number, 1_000.0, visible=True)
    await served.tick()
    slow, fast = served.service.told(last), served.service.told(guest)
    assert (fast.number, fast.ahead) == (41, 0)
    assert slow.ahead > 30
    assert fast.wait_s[1] < slow.wait_s[0]
    assert fast.wait_s == wait_range(served.service._wait_s(1))


def test_the_page_of_such_a_line_claims_no_order(tmp_path, origin):
    """As it is served: at random, and nobody ahead."""
    method = {"queueing_method": "random", "always_queue": True, "total_active_users": 1}
    with running(tmp_path, origin, method) as house:
        visitors = [Visitor(house) for _ in range(3)]
        for visitor in visitors:
            visitor.event()
        until(lambda: any(visitor.me()["state"] == "called" for visitor in visitors))
        waits = next(visitor for visitor in visitors if visitor.me()["state"] == "waiting")
        assert "People are let in at random" in waits.event().text
        assert waits.me()["ahead"] is None
