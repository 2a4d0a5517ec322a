"""The waits that pages tell come true for four of five people, also where the pace changes while they wait."""

from __future__ import annotations

import random

import pytest
from rooms import room
from test_service import Served

from waitroom.model import VisitorState
from waitroom.service import Carried

IN_LINE = (VisitorState.CALLED, VisitorState.MISSED)
JITTER = 0.3


async def played(*, people, slots, stays_s, changes_s):
    """Let a crowd that came at once go through a room, on virtual time; return its estimates, all of them judged.

    Each stays inside for the first of ``stays_s``, and from ``changes_s`` on for the second.
    """
    chance = random.Random(7)
    served = await Served(room(total_active_users=slots, session_duration_s=30)).start()
    waiting = {ticket.number: ticket for ticket in [await served.ticket() for _ in range(people)]}
    asks_s, leaves_s, inside, now_s = dict.fromkeys(waiting, 0.0), {}, {}, 0.0
    while waiting or inside:
        await served.tick()
        now_s += 0.25
        for number in [number for number in waiting if now_s >= asks_s[number]]:
            told = served.told(waiting[number])
            asks_s[number] = now_s + told.refresh_s * (1 + chance.random() * JITTER)
            if told.state in IN_LINE and (claimed := await served.service.claim(waiting[number])).end_ms:
                inside[number] = served.service.claimed_pass(waiting.pop(number), claimed)
                leaves_s[number] = now_s + stays_s[now_s >= changes_s]
        for number in [number for number in inside if now_s >= leaves_s[number]]:
            await served.service.leave(Carried(entry_pass=inside.pop(number)))
        assert now_s < 3_000, "the line stands still"
    return served.service.estimates


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
    estimates = await played(people=people, slots=slots, stays_s=stays_s, changes_s=changes_s)
    assert estimates.judged > people
    assert estimates.held / estimates.judged >= 0.8
