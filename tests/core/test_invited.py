"""The line of the invited: their share of the calls and no more, each invite once, and nobody else's count rises."""

from __future__ import annotations

import pytest
from ledger import Ledger
from rooms import room
from steps import steps

from waitroom.core import draw, lasting
from waitroom.core.draw import JoinList
from waitroom.core.queueing import CALLED, CHUNK, NEW, NONE, RETURNER, WAITING, WHOLE, Heard, JoinRequest, Line
from waitroom.core.tokens import Keyring
from waitroom.errors import InvalidToken
from waitroom.model import Invite, Opening, Overrides, Phase, Priority, QueueingMethod, Ticket

START_MS = 1_700_000_000_000
UNTIL_MS = START_MS + 7_200_000


class Played:
    """A line with priority, and the hand that moves its clock."""

    def __init__(self, *, share=0.2, watched=False, **settings):
        self.now_ms = START_MS
        self.room = room(priority=Priority(share=share), **({"total_active_users": 1_000} | settings))
        self.line = Line(self.room, START_MS)
        if watched:
            lasting.watch(self.line)

    def join(self, count):
        """Let ``count`` join who are there for long."""
        numbers = [one.number for one in self.line.join([JoinRequest("a" * 16, 2.0)] * count, self.now_ms)]
        self.hear(*numbers)
        return numbers

    def hear(self, *numbers, told_s=1_000.0):
        """Let ``numbers`` ask."""
        self.line.hear([Heard(number, self.now_ms + int(told_s * 1000)) for number in numbers], self.now_ms)

    def redeem(self, name, number=0, until_ms=UNTIL_MS):
        """Use an invite; return what came of it."""
        request = JoinRequest("b" * 16, 2.0, None, name, until_ms, number)
        [joined] = self.line.join([request], self.now_ms)
        return joined

    def invite(self, *names):
        """Let invited people join who are there for long."""
        numbers = [self.redeem(name).number for name in names]
        self.hear(*numbers)
        return numbers

    def call(self, budget):
        """Call."""
        return self.line.call(budget, self.now_ms)

    def ahead(self, number):
        """Return how many are told to be ahead."""
        return self.line.snapshot(self.now_ms).ahead(number)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
def test_the_invited_get_their_share_of_the_calls_and_no_more(share):
    """Over any stretch of calls, also one at a time: never more than the share, and no less while some wait."""
    played = Played(share=share)
    played.join(200)
    invited = set(played.invite(*(f"{one:016x}" for one in range(200))))
    called = [number for budget in [1] * 50 + [7] * 10 for number in played.call(budget)]
    assert len(called) == 120
    for end in range(1, 121):
        assert sum(number in invited for number in called[:end]) <= share * end
    assert sum(number in invited for number in called) >= int(share * 120) - 1
    assert played.line.overtakings == 0


def test_both_lines_keep_their_own_order():
    """P1: the line by number; the invited in the order in which they used their invites, whatever their number."""
    played = Played(share=0.5)
    line = played.join(6)
    [late] = played.invite("a" * 16)
    played.redeem("b" * 16, line[5])
    assert played.call(7) == [1, 2, late, 3, line[5], 4, 5]


def test_what_the_invited_do_not_use_goes_to_the_line():
    """With nobody invited there, with one who is silent or was never heard: no slot waits, and one call is saved up."""
    played = Played()
    played.join(40)
    assert len(played.call(10)) == 10
    invited = played.invite(*(f"{one:016x}" for one in range(10)))
    played.redeem("c" * 16)
    called = played.call(10)
    assert sum(number in invited for number in called) == 2  # the one that was saved, and every fifth
    played.hear(*invited, told_s=0.1)
    played.now_ms += 5_000
    assert not set(played.call(10)) & set(invited)


def test_the_invited_are_called_at_their_turn_in_the_line_too():
    """Where nobody else waits they need no share."""
    played = Played()
    invited = played.invite("a" * 16, "b" * 16, "c" * 16)
    assert played.call(9) == invited
    assert played.line.snapshot(played.now_ms).invited.keys() == set(invited)
    assert all(played.line.claim(number, played.now_ms, played.now_ms).end_ms for number in invited)
    assert played.line.snapshot(played.now_ms).invited == {}


def test_a_line_that_waits_for_somebody_does_not_hold_the_invited_up():
    """A number that was not heard yet is waited for; whoever is invited has earned a call goes meanwhile."""
    played = Played(share=0.5)
    played.join(1)
    assert len(played.call(1)) == 1
    assert len(played.call(1)) == 0
    played.line.invited_credit = WHOLE
    played.line.join([JoinRequest("a" * 16, 2.0)], played.now_ms)
    [invited] = played.invite("a" * 16)
    assert played.call(5) == [invited]


def test_an_invite_is_good_once():
    """Used, over, or for a room without such a line: no place. Closed: no place either, and it is not used by that."""
    played = Played()
    joined = played.redeem("a" * 16)
    played.hear(joined.number)
    assert (joined.number, joined.spent) == (1, False)
    for again in (played.redeem("a" * 16), played.redeem("b" * 16, until_ms=START_MS)):
        assert (again.number, again.spent) == (0, True)
    played.line.configure(played.room, Overrides(closed=True), played.now_ms)
    assert (played.redeem("c" * 16).number, played.redeem("c" * 16).spent) == (0, False)
    played.line.configure(room(), Overrides(), played.now_ms)
    assert played.redeem("c" * 16).spent
    assert played.line.issued == 1


def test_a_lost_answer_is_asked_for_again():
    """P14: until anybody was heard on that place, the same invite gets the same place; its holder always does."""
    played = Played()
    joined = played.redeem("a" * 16)
    assert played.redeem("a" * 16).number == joined.number
    played.hear(joined.number)
    assert played.redeem("a" * 16).spent
    assert played.redeem("a" * 16, joined.number).number == joined.number
    assert played.line.issued == 1


def test_who_stands_in_line_keeps_the_place():
    """A place is not lost by an invite: called or inside it is not even used up; one that is gone gets another."""
    played = Played(total_active_users=2)
    first, second, third, fourth = played.join(4)
    assert played.redeem("a" * 16, third).number == third
    assert played.call(9) == [first, second]
    assert played.line.claim(first, played.now_ms, played.now_ms).end_ms
    for number in (first, second):
        assert played.redeem("b" * 16, number).number == number
    assert played.redeem("b" * 16, fourth).number == fourth
    played.line.leave(fourth, played.now_ms)
    assert played.redeem("c" * 16, fourth).number == 5


def test_the_invited_go_straight_in_and_past_a_full_line():
    """Standby takes them as anybody; where `max_waiting` takes nobody more, they get a place."""
    played = Played(always_queue=False)
    assert played.redeem("a" * 16).end_ms
    full = Played(max_waiting=1)
    full.join(1)
    assert full.line.join([JoinRequest("a" * 16, 2.0)], full.now_ms)[0].number == 0
    assert full.redeem("a" * 16).number == 2


def test_nobodys_people_ahead_rise_by_the_invited():
    """P10: of those before them, of the invited themselves, and of who is invited later, having a smaller number."""
    played = Played()
    line = played.join(20)
    invited = played.invite("a" * 16, "b" * 16)
    before = {number: played.ahead(number) for number in [*line, *invited]}
    assert [before[number] for number in invited] == [0, 1]
    played.redeem("c" * 16, line[10])
    assert {number: played.ahead(number) for number in before} == before | {line[10]: 2}
    played.call(10)
    assert all(played.ahead(number) <= count for number, count in before.items())


def test_a_missed_call_of_the_invited_is_next_as_any():
    """P5: called ahead of the line, missed, come back: before anyone new."""
    played = Played(share=0.5, total_active_users=2)
    played.join(10)
    [invited] = played.invite("a" * 16)
    played.line.invited_credit = WHOLE
    assert played.call(1) == [invited]
    assert played.line._at(invited) == CALLED
    played.hear(invited, told_s=0.1)
    played.line._turns[invited] = played.now_ms
    played.now_ms += 1_000
    played.line.sweep(played.now_ms)
    played.hear(invited)
    assert played.line._at(invited) == RETURNER
    assert played.call(1) == [invited]


def test_the_share_is_kept_in_a_line_without_an_order():
    """Also where the rest are called at random."""
    played = Played(queueing_method=QueueingMethod.RANDOM)
    played.join(50)
    invited = played.invite(*(f"{one:016x}" for one in range(5)))
    assert sum(number in invited for number in played.call(11)) >= 2


def test_the_invited_keep_their_line_over_a_draw():
    """Their place in the drawn order is the one that was drawn; their own line is by who used an invite first."""
    played = Played(share=0.5)
    times = (START_MS, START_MS + 1_000, START_MS + 900_000)
    played.line.opening = Opening("noon", Phase.PREQUEUE, *times)
    played.line.draw = JoinList.begin("launch", "noon", 1, b"s" * 32)
    line = played.join(6)
    invited = played.invite("a" * 16, "b" * 16)
    played.line.opening, played.line.draw.closed = Opening("noon", Phase.OPEN, *times), True
    order = draw.dealt(b"s" * 32, played.line.draw.digest, ((1, 8),))
    played.line.deal(order, played.now_ms)
    drawn = sorted([*line, *invited], key=order.place)
    called = played.call(4)
    assert called[:2] == drawn[:2]
    assert called[2] == next(number for number in invited if number not in drawn[:2])
    assert sorted(called + played.call(9)) == [*line, *invited]


def test_who_used_an_invite_is_kept():
    """After a start the invited stand where they stood, and a used invite stays used; one that is over is forgotten."""
    ledger, played = Ledger(), Played(watched=True)
    played.join(10)
    invited = [played.redeem("a" * 16, 7).number, *played.invite("c" * 16, "b" * 16)]
    played.redeem("d" * 16, until_ms=START_MS + 1_000)
    ledger.keep(played.line)
    played.call(1)
    played.line.leave(invited[1], played.now_ms)
    ledger.keep(played.line)
    restored = Played()
    restored.line = ledger.restored(played.room)
    assert restored.line.invited_credit == played.line.invited_credit
    assert restored.line.snapshot(START_MS).invited == played.line.snapshot(START_MS).invited
    assert restored.redeem("c" * 16).spent
    assert restored.redeem("b" * 16).spent
    restored.hear(14)
    restored.now_ms += 2_000
    assert restored.redeem("e" * 16).number
    assert restored.line.invites.keys() == {"a" * 16, "b" * 16, "c" * 16, "e" * 16}
    lasting.everything(played.line)
    assert {one.key[1:] for one in lasting.changes(played.line, set()).repeats} == set(played.line.invites)
    assert played.line._at(invited[0]) == WAITING != NEW


def test_a_crowd_of_invited_holds_nobody_up():
    """Thousands come at once and then fall silent: neither their links nor a full call may cost a look at all each."""
    played = Played(share=0.5, total_active_users=5_000, new_users_per_minute=60_000)

    def come(start):
        for number in range(start, start + 1_000):
            played.redeem(f"{number:016x}")

    first = steps(lambda: come(0))
    for number in range(1_000, 19_000):
        played.redeem(f"{number:016x}")
    last = steps(lambda: come(19_000))
    assert last < 2 * first
    played.join(1_000)
    played.now_ms += 20_000
    called = []
    cost = steps(lambda: called.extend(played.call(250)))
    assert len(called) == 250
    assert cost < 250 * 20_000 / 10


def test_who_was_forgotten_is_not_among_the_invited_after_a_start():
    """P10: whose chunk is gone counts before nobody, or the people ahead of the other invited would rise."""
    ledger, played = Ledger(), Played(watched=True)
    gone = played.redeem("a" * 16).number
    played.line.leave(gone, played.now_ms)
    line = played.join(CHUNK)
    [there] = played.invite("b" * 16)
    played.now_ms += int(played.room.ticket_keep_s * 1000) + 1_100_000
    played.hear(*line[-2:], there)
    played.call(0)
    for _ in range(3):
        played.line.sweep(played.now_ms)
    assert played.line._at(gone) == NONE
    assert played.ahead(there) == 0
    ledger.keep(played.line, merged=True)
    restored = ledger.restored(played.room)
    assert restored.snapshot(played.now_ms).ahead(there) == 0


def test_an_invite_is_signed_and_is_nothing_else():
    """Altered, of another key, or shown as a ticket: refused. And a ticket is no invite."""
    keyring = Keyring(["k" * 32])
    invite = Invite("launch", "0123456789abcdef", UNTIL_MS)
    text = keyring.sign_invite(invite)
    assert keyring.read_invite(text) == invite
    ticket = keyring.sign_ticket(Ticket("launch", 1, 1, "a" * 16, START_MS))
    for broken in (text[:-1], text.replace("launch", "sale"), ticket, "", "i" * 500, text.replace(".1.", ".2.", 1)):
        with pytest.raises(InvalidToken):
            keyring.read_invite(broken)
    for malformed in (Invite("launch", "x", UNTIL_MS), Invite("launch", "a" * 16, -1)):
        with pytest.raises(InvalidToken, match="malformed"):
            keyring.read_invite(keyring.sign_invite(malformed))
    with pytest.raises(InvalidToken, match="unknown-kind"):
        keyring.read(text)
    with pytest.raises(InvalidToken, match="unknown-key"):
        Keyring(["o" * 32]).read_invite(text)
