"""The waits that pages tell come true for four of five people, also where the pace changes while they wait."""

from __future__ import annotations

import math
import random
from statistics import median

import pytest
from rooms import room
from test_service import Served

from waitroom.model import VisitorState
from waitroom.service import Carried

IN_LINE = (VisitorState.CALLED, VisitorState.MISSED)
JITTER = 0.3


async def played(*, people, slots, stays_s, changes_s, vanish=0.0, seed=7):
    """Let a crowd that came at once go through a room, on virtual time; return its estimates and all ranges told.

    Each stays inside for the first of ``stays_s``, and from ``changes_s`` on for the second. The share ``vanish`` gives
    up at some moment of the first two minutes, without a word.
    """
    chance, ranges = random.Random(seed), []
    served = await Served(room(total_active_users=slots, session_duration_s=30)).start()
    waiting = {ticket.number: ticket for ticket in [await served.ticket() for _ in range(people)]}
    asks_s, leaves_s, inside, now_s = dict.fromkeys(waiting, 0.0), {}, {}, 0.0
    ends_s = {number: 120 * chance.random() if chance.random() < vanish else math.inf for number in waiting}
    while waiting or inside:
        await served.tick()
        now_s += 0.25
        waiting = {number: ticket for number, ticket in waiting.items() if now_s < ends_s[number]}
        for number in [number for number in waiting if now_s >= asks_s[number]]:
            told = served.told(waiting[number])
            ranges += [] if told.wait_s is None else [told.wait_s]
            asks_s[number] = now_s + told.refresh_s * (1 + chance.random() * JITTER)
            if told.state in IN_LINE and (claimed := await served.service.claim(waiting[number])).end_ms:
                inside[number] = served.service.claimed_pass(waiting.pop(number), claimed)
                leaves_s[number] = now_s + stays_s[now_s >= changes_s]
        for number in [number for number in inside if now_s >= leaves_s[number]]:
            await served.service.leave(Carried(entry_pass=inside.pop(number)))
        assert now_s < 3_000, "the line stands still"
    return served.service.estimates, ranges


@pytest.mark.parametrize(
    ("people", "slots", "stays_s", "changes_s"),
    [
        (400, 20, (10, 10), 0),
        (400, 20, (10, 20), 120),
        (400, 20, (20, 10), 120),
        (600, 20, (10, 20), 60),
        (1000, 50, (15, 30), 200),
    ],
    ids=["steady", "halves", "doubles", "halves early", "halves late in a long line"],
)
async def test_four_of_five_waits_come_true(people, slots, stays_s, changes_s):
    """Every range that anybody was shown, from the first second on, is judged by when the call came."""
    estimates, _ = await played(people=people, slots=slots, stays_s=stays_s, changes_s=changes_s)
    assert estimates.judged > people
    assert estimates.held / estimates.judged >= 0.8


@pytest.mark.parametrize(
    ("slots", "stays_s", "vanish", "seed"),
    [(20, (10, 20), 0.3, 2), (20, (10, 20), 0.6, 1), (10, (10, 10), 0.66, 1)],
    ids=["a third, and the pace halves", "most, and the pace halves", "most of a long line"],
)
async def test_four_of_five_waits_come_true_where_many_give_up(slots, stays_s, vanish, seed):
    """Of those ahead many vanish, as in any crowd, also while the pace halves; and the range stays one to go by."""
    estimates, ranges = await played(people=900, slots=slots, stays_s=stays_s, changes_s=100, vanish=vanish, seed=seed)
    assert estimates.judged > 300, f"seed {seed}"
    assert estimates.held / estimates.judged >= 0.8, f"seed {seed}"
    assert median(high / low for low, high in ranges if low >= 10) <= 6, f"seed {seed}"


async def test_how_fast_a_line_thins_is_seen_from_who_is_gone_and_not_called():
    """Who is called has not given up; who asks no more has, of all that stood before the last; a reset counts none."""
    served = await Served(room(total_active_users=5, session_duration_s=600)).start()
    tickets = [await served.ticket() for _ in range(100)]
    for step in range(80):
        for ticket in tickets if step % 10 == 0 else ():
            served.told(ticket)
        await served.tick()
    assert served.service.view.calls == 5
    assert served.service._thinning.per_s == 0
    for step in range(120):
        for ticket in tickets[:50] if step % 10 == 0 else ():
            served.told(ticket)
        await served.tick()
    assert served.service._thinning._gone == 49
    assert 0 < served.service._thinning.per_s < 50 / 50 / 30
    await served.store.operate("launch", {"reset": True}, "test")
    await served.tick()
    assert served.service._thinning._gone == 49
