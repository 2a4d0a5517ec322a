"""One room's line: order, caps, ghosts, returners, sliding passes, and what is forgotten."""

from __future__ import annotations

import random

import pytest
from rooms import room

from waitroom.core import queueing
from waitroom.core.queueing import (
    BACK,
    CALLED,
    CHUNK,
    GONE,
    IDEMPOTENCY_KEYS_MAX,
    IDEMPOTENCY_MS,
    INSIDE,
    LATE_MS,
    MORE_MAX,
    NEW,
    NONE,
    RETURNER,
    SERIES_STEP,
    SILENT,
    WAITING,
    Heard,
    JoinRequest,
    Line,
)
from waitroom.model import Overrides, QueueingMethod, RoomState

START_MS = 1_700_000_000_000


class Played:
    """A line, and the hand that moves its clock."""

    def __init__(self, room, **record):
        self.now_ms = START_MS
        self.room = room
        self.line = Line(room, START_MS, **record)

    def join(self, count=1, told_s=2.0, key=None):
        """Let ``count`` visitors join, and return their numbers."""
        requests = [JoinRequest(f"{number:016x}", told_s, key) for number in range(count)]
        return [joined.number for joined in self.line.join(requests, self.now_ms)]

    def hear(self, *numbers, told_s=2.0, visible=True):
        """Let ``numbers`` ask for themselves; they may be silent for ``told_s`` from now."""
        until_ms = self.now_ms + int(told_s * 1000)
        self.line.hear([Heard(number, until_ms, visible) for number in numbers], self.now_ms)

    def present(self, count=1, told_s=1000.0):
        """Let ``count`` visitors join who will be there for ``told_s``."""
        numbers = self.join(count)
        self.hear(*numbers, told_s=told_s)
        return numbers

    def call(self, budget=1_000):
        """Call as many as there is room for."""
        return self.line.call(budget, self.now_ms)

    def claim(self, number):
        """Claim, and go on waiting for two seconds where there is nothing."""
        return self.line.claim(number, self.now_ms, self.now_ms + 2_000)

    def admit(self, number):
        """Claim, and insist."""
        claimed = self.claim(number)
        assert claimed.end_ms, claimed
        return claimed

    def after(self, seconds):
        """Let time pass, in the way the tick does."""
        self.now_ms += int(seconds * 1000)
        self.line.sweep(self.now_ms)

    def stands(self, *numbers):
        """Return the standings of ``numbers``."""
        return [self.line._at(number) for number in numbers]

    def ahead(self, number):
        """Return how many are told to be ahead of ``number``."""
        return self.line.snapshot(self.now_ms).ahead(number)


# -- order -------------------------------------------------------------------------------------------------------------


def test_numbers_are_given_in_order_of_arrival():
    """Who comes first gets the smaller number, and is told how many are before them."""
    line = Line(room(), START_MS)
    joined = line.join([JoinRequest("a" * 16, 2), JoinRequest("b" * 16, 2)], START_MS)
    joined += line.join([JoinRequest("c" * 16, 2)], START_MS)
    assert [(one.number, one.visitor[0], one.ahead) for one in joined] == [(1, "a", 0), (2, "b", 1), (3, "c", 2)]


def test_who_is_present_is_called_in_order():
    """Calls follow the numbers, however late or often somebody asks."""
    played = Played(room(total_active_users=3))
    numbers = played.join(5)
    played.hear(*reversed(numbers))
    assert played.call() == [1, 2, 3]
    assert played.line.serving == 3


def test_serving_waits_for_who_has_not_asked_yet():
    """A number never heard is neither called nor passed over until its first time has passed."""
    played = Played(room())
    played.join(2)
    played.hear(2, told_s=100)
    assert played.call() == []
    played.after(2 * 1.3 + 2)
    assert played.call() == []
    played.after(0.2)
    assert played.call() == [2]
    assert played.stands(1, 2) == [SILENT, CALLED]


def test_who_fell_silent_is_passed_over_without_a_slot():
    """An absent head holds nothing: with one slot, the call goes to who is there."""
    played = Played(room(total_active_users=1))
    played.present(1, told_s=2)
    played.present(1)
    played.now_ms += 2_200  # before any sweep: the walk itself sees it
    assert played.call() == [2]
    assert played.line.free_slots(played.now_ms) == 0


def test_the_absent_are_passed_over_when_there_is_nothing_to_give():
    """The count of the present stays true while every slot is taken."""
    played = Played(room(total_active_users=1))
    played.present(3)
    assert played.call() == [1]
    played.hear(2, told_s=1)
    played.after(2)
    assert played.call() == []
    assert played.line.serving == 2
    assert (played.line.present, played.line.silent) == (1, 1)


def test_returners_are_called_before_anyone_new_smallest_first():
    """Who was passed over and comes back goes in before those who never left, in order of numbers."""
    played = Played(room(total_active_users=4))
    played.present(3, told_s=1)
    played.present(2)
    played.after(2)
    played.line.call(0, played.now_ms)
    played.hear(3, told_s=100)
    played.hear(1, told_s=100)
    assert played.call() == [1, 3, 4, 5]


def test_a_returner_who_vanishes_again_is_passed_over():
    """A returner holds up nobody: silent again, the call goes to the next."""
    played = Played(room(total_active_users=1))
    played.present(2, told_s=1)
    played.present(1)
    played.after(2)
    played.line.call(0, played.now_ms)
    played.hear(1, told_s=1)
    played.hear(2, told_s=100)
    played.after(2)
    assert played.call() == [2]
    assert played.stands(1) == [SILENT]


def test_who_comes_back_before_being_passed_keeps_the_place():
    """Silence ahead of serving costs nothing: who returns in time is called at their number."""
    played = Played(room(total_active_users=1))
    played.present(1)
    played.call()
    played.present(1, told_s=1)
    played.present(1)
    played.after(2)
    assert played.stands(2) == [SILENT]
    played.hear(2, told_s=100)
    assert played.stands(2) == [BACK]
    played.line.leave(1, played.now_ms)
    assert played.call() == [2]


def test_the_budget_is_the_most_that_is_called():
    """The pace says how many a tick: three of five free slots."""
    played = Played(room())
    played.present(5)
    assert played.call(3) == [1, 2, 3]


# -- never too many ----------------------------------------------------------------------------------------------------


def test_called_and_inside_never_exceed_the_cap():
    """A called visitor holds a slot like one inside; with two slots a third waits for whoever goes first."""
    played = Played(room(total_active_users=2))
    played.present(3)
    assert played.call() == [1, 2]
    played.admit(1)
    assert played.call() == []
    played.line.leave(2, played.now_ms)
    assert played.call() == [3]
    assert played.line.free_slots(played.now_ms) == 0


def test_the_minute_is_judged_at_the_call():
    """No more are called than the minute has room for claims."""
    played = Played(room(new_users_per_minute=2))
    played.present(5)
    assert played.call() == [1, 2]


def test_a_claim_that_finds_the_minute_spent_is_no_miss():
    """The visitor stays called, is told when to ask again, the offer's end moves on, and then it is granted."""
    played = Played(room(new_users_per_minute=60, claim_within_s=5))
    played.present(2)
    played.call()
    played.admit(1)
    played.after(0.4)
    claimed = played.claim(2)
    assert (claimed.called, claimed.end_ms, claimed.retry_ms) == (True, 0, 600)
    played.line._turns[2] = played.now_ms
    assert played.claim(2).called
    assert played.line._turns[2] == played.now_ms + 600 + 5_000
    played.after(0.6)
    played.admit(2)


def test_a_returner_who_finds_the_minute_spent_goes_on_waiting():
    """Without a turn there is nothing to keep: told when to ask again, not called."""
    played = Played(room(new_users_per_minute=60))
    played.present(1, told_s=1)
    played.after(2)
    played.call(0)
    played.present(1)
    played.call()
    played.admit(2)
    claimed = played.claim(1)
    assert (claimed.called, claimed.end_ms, claimed.gone) == (False, 0, False)
    assert claimed.retry_ms == 1_000
    assert played.stands(1) == [RETURNER]


def test_while_passes_of_a_lost_record_may_be_out_every_slot_is_taken():
    """After a loss nobody is called or let straight in until the last old pass has ended."""
    played = Played(room(always_queue=False), base=1_000_000, assumed_until_ms=START_MS + 10_000)
    numbers = played.present(1)
    assert (numbers, played.line.free_slots(played.now_ms), played.call()) == ([1_000_000], 0, [])
    played.after(9.9)
    assert played.call() == []
    played.after(0.1)
    assert played.call() == [1_000_000]


def test_more_inside_than_the_cap_lets_nobody_in():
    """Passes of an unknown past may overfill a room; until they end even a returner's claim gets nothing."""
    played = Played(room(total_active_users=1), base=1_000_000)
    for number in (7, 8):
        assert played.line.renew(number, START_MS, START_MS + 1_000, played.now_ms) > START_MS
    assert played.line.free_slots(played.now_ms) == -1
    played.hear(5)
    assert not played.claim(5).end_ms
    assert played.call() == []


# -- standby -----------------------------------------------------------------------------------------------------------


def test_standby_lets_straight_in_while_there_is_room():
    """With nobody in line the first go in, in order, and the rest are numbered; then everyone queues."""
    played = Played(room(always_queue=False, total_active_users=2))
    assert played.line.state(played.now_ms) is RoomState.OPEN
    played.join(3)
    assert played.stands(1, 2, 3) == [INSIDE, INSIDE, NEW]
    assert played.line.state(played.now_ms) is RoomState.QUEUEING
    played.line.leave(1, played.now_ms)
    played.join(1)
    assert played.stands(4) == [NEW]


def test_standby_keeps_the_minute_and_its_seconds():
    """Straight in counts against both caps: the second's share goes in, the next one waits."""
    played = Played(room(always_queue=False, new_users_per_minute=60))
    played.join(2)
    assert played.stands(1, 2) == [INSIDE, NEW]


def test_a_pass_given_in_standby_lasts_until_it_is_brought_back():
    """Who keeps no cookie holds a slot for claim_within; the first use makes it a session."""
    played = Played(room(always_queue=False, claim_within_s=20, session_duration_s=60))
    [joined] = played.line.join([JoinRequest("a" * 16, 2)], played.now_ms)
    assert joined.end_ms == START_MS + 20_000
    played.after(5)
    assert played.line.renew(1, START_MS, joined.end_ms, played.now_ms) == START_MS + 65_000


def test_a_short_session_is_short_in_standby_too():
    """A pass given in standby never outlasts a session."""
    played = Played(room(always_queue=False, claim_within_s=60, session_duration_s=10))
    [joined] = played.line.join([JoinRequest("a" * 16, 2)], played.now_ms)
    assert joined.end_ms == START_MS + 10_000


def test_always_queue_puts_everyone_through_the_line():
    """An empty room with always_queue numbers the first visitor, and is never open."""
    played = Played(room(always_queue=True))
    assert played.line.state(played.now_ms) is RoomState.QUEUEING
    played.join()
    assert played.stands(1) == [NEW]


def test_reject_numbers_nobody_and_still_lets_straight_in():
    """With reject the free slots are given and nobody is put in line."""
    played = Played(room(queueing_method=QueueingMethod.REJECT, always_queue=False, total_active_users=1))
    assert played.join(3) == [1, 0, 0]
    assert played.line.issued == 1


def test_a_full_line_takes_nobody_more():
    """A flood between two ticks cannot pass max_waiting: the join itself is judged."""
    played = Played(room(max_waiting=2))
    assert played.join(4) == [1, 2, 0, 0]
    played.line.leave(1, played.now_ms)
    assert played.join() == [3]


def test_queue_all_holds_newcomers_calls_and_claims():
    """Held: a newcomer is numbered, nobody is called, a claim gets nothing, and whoever is inside stays."""
    played = Played(room(always_queue=False))
    played.join()
    played.line.renew(1, START_MS, START_MS + 1, played.now_ms)
    played.line.room = room(always_queue=False, queue_all=True)
    played.present(1)
    assert played.line.state(played.now_ms) is RoomState.HELD
    assert played.call() == []
    assert not played.claim(2).end_ms
    assert played.claim(1).end_ms == START_MS + 60_000


def test_queue_all_keeps_the_turns_of_the_called():
    """Who was called when the room was held stays called, told to ask again, with the offer moved on."""
    played = Played(room(claim_within_s=20))
    played.present(1)
    played.call()
    played.line.room = room(claim_within_s=20, queue_all=True)
    played.now_ms += 15_000
    claimed = played.claim(1)
    assert (claimed.called, claimed.end_ms) == (True, 0)
    assert played.line._turns[1] >= played.now_ms + 20_000


@pytest.mark.parametrize("settings", [{"suspended": True}, {"queueing_method": QueueingMethod.PASSTHROUGH}])
def test_suspended_and_passthrough_let_everyone_through(settings):
    """Both say passthrough, also when everything is held."""
    assert Line(room(queue_all=True, **settings), START_MS).state(START_MS) is RoomState.PASSTHROUGH


# -- turns and claims --------------------------------------------------------------------------------------------------


def test_a_claim_trades_the_number_for_a_session():
    """Admitted at the claim, for a session; the turn is gone."""
    played = Played(room(session_duration_s=60))
    played.present(1)
    played.call()
    claimed = played.admit(1)
    assert (claimed.admitted_ms, claimed.end_ms) == (START_MS, START_MS + 60_000)
    assert played.line._turns == {}


def test_a_claim_is_repeatable():
    """Twice, or a minute later: the same slot, the same times, counted once against the minute."""
    played = Played(room(session_duration_s=90))
    played.present(1)
    played.call()
    first = played.admit(1)
    assert played.admit(1) == first
    played.after(60)
    assert played.admit(1) == first
    assert len(played.line._inside) == 1


def test_a_claim_without_a_call_gives_nothing_and_is_heard():
    """Asking too early never advances and never punishes."""
    played = Played(room())
    played.join()
    claimed = played.claim(1)
    assert (claimed.end_ms, claimed.called, claimed.gone) == (0, False, False)
    assert played.stands(1) == [WAITING]


def test_an_offer_lasts_claim_within():
    """Until then the claim is granted; a moment later the turn is missed and the slot is free again."""
    played = Played(room(total_active_users=1, claim_within_s=20))
    played.present(1, told_s=1)
    played.call()
    played.after(20)
    assert played.stands(1) == [CALLED]
    played.after(0.001)
    assert played.stands(1) == [SILENT]
    assert played.line.free_slots(played.now_ms) == 1


def test_an_offer_outlasts_the_interval_its_holder_was_told():
    """Told to come back in a minute, the holder cannot miss an offer of twenty seconds before asking."""
    played = Played(room(claim_within_s=20))
    played.join()
    told_s = 60.0
    played.hear(1, told_s=told_s * 1.3 + 2)
    played.call()
    assert START_MS + (told_s * 1.3 + 1) * 1000 <= played.line._turns[1] <= START_MS + (told_s * 1.3 + 2) * 1000


def test_a_late_claim_by_the_only_returner_is_called_and_admitted_at_once():
    """Who comes a moment after the offer's end, before any tick, is not sent back to wait."""
    played = Played(room(claim_within_s=20))
    played.present(1)
    played.call()
    played.now_ms = played.line._turns[1] + 1
    played.admit(1)


def test_a_returner_who_misses_again_stands_in_line_once():
    """Called as a returner, late again before any tick: admitted, and not a second time among the returners."""
    played = Played(room(claim_within_s=1, total_active_users=1))
    played.present(1, told_s=1)
    played.after(2)
    played.call(0)
    played.hear(1)
    assert played.call() == [1]
    played.now_ms = played.line._turns[1] + 1
    played.admit(1)
    assert played.line.snapshot(played.now_ms).returners == ()
    assert played.line._heap == [1]


def test_a_late_claim_waits_behind_a_smaller_returner_who_is_present():
    """Called and claimed in one operation only when nobody before them is there; in order, also among returners."""
    played = Played(room(total_active_users=2, claim_within_s=1))
    played.present(3, told_s=1)
    played.call()
    played.after(5)
    played.hear(1, told_s=50)
    assert not played.claim(2).end_ms
    played.after(2.5)
    played.hear(2, told_s=50)
    played.admit(1)
    played.admit(2)
    assert not played.claim(3).end_ms


def test_a_returner_passes_a_smaller_one_who_is_absent():
    """The smaller returner vanished again: the claim behind is granted."""
    played = Played(room(total_active_users=2, claim_within_s=1))
    played.present(2, told_s=1)
    played.call()
    played.after(5)
    played.hear(1, told_s=1)
    played.after(2)
    played.admit(2)


def test_two_offers_missed_in_a_row_are_the_last_for_a_hidden_page():
    """A hidden page holds up two slots at most; a visible one is offered again, and keeps its rank."""
    played = Played(room(claim_within_s=1))
    played.present(1, told_s=1)
    for _ in range(2):
        assert played.call() == [1]
        played.after(5)
        played.hear(1, told_s=2, visible=False)
    assert played.call() == []
    assert played.stands(1) == [SILENT]
    played.present(1)
    played.hear(1, visible=True)
    assert played.call() == [1, 2]


def test_an_offer_taken_forgets_the_misses():
    """Only offers missed in a row count: who got in starts anew."""
    played = Played(room(claim_within_s=1))
    played.present(1, told_s=1)
    played.call()
    played.after(5)
    assert played.line._misses == {1: 1}
    played.admit(1)
    assert played.line._misses == {}


def test_an_ended_slot_is_free_and_its_ticket_is_gone():
    """At its end a pass stops counting, and the number behind it is nobody's."""
    played = Played(room(total_active_users=1, session_duration_s=10))
    played.present(1)
    played.call()
    played.admit(1)
    played.now_ms += 10_000 + LATE_MS
    assert played.claim(1).gone
    played.after(0)
    assert played.line.free_slots(played.now_ms) == 1
    assert played.claim(1).gone


def test_sweep_ends_slots_that_nobody_asks_about():
    """A visitor who simply goes away frees the slot at the end of the session."""
    played = Played(room(session_duration_s=10))
    played.present(1)
    played.call()
    played.admit(1)
    played.after(9.999)
    assert played.stands(1) == [INSIDE]
    played.after(LATE_MS / 1000)
    assert played.stands(1) == [INSIDE]
    played.after(0.001)
    assert played.stands(1) == [GONE]
    assert played.line.passes_end_ms == 0


# -- renewal and leaving -----------------------------------------------------------------------------------------------


def inside(**settings):
    """Return a line with number 1 inside, for a session of 60 s."""
    played = Played(room(session_duration_s=60, **settings))
    played.present(1)
    played.call()
    played.admit(1)
    return played


def test_a_pass_slides_by_a_session():
    """Used after 40 s, it ends a session from then; the store holds that end before anyone signs it."""
    played = inside()
    played.after(40)
    assert played.line.renew(1, START_MS, START_MS + 60_000, played.now_ms) == START_MS + 100_000
    assert played.line.snapshot(played.now_ms).inside == {1: START_MS + 100_000}


def test_a_pass_slides_up_to_the_session_limit():
    """However often it is used, it ends when the longest session does, and never gets shorter."""
    played = inside(session_limit_s=80)
    played.after(40)
    assert played.line.renew(1, START_MS, START_MS + 60_000, played.now_ms) == START_MS + 80_000
    short = inside(session_limit_s=30)
    assert short.line.renew(1, START_MS, START_MS + 60_000, short.now_ms) == START_MS + 60_000


def test_without_renewal_a_session_stays_as_it_is():
    """disable_session_renewal: a whole session ends when it said it would."""
    played = inside(disable_session_renewal=True)
    played.after(40)
    assert played.line.renew(1, START_MS, START_MS + 60_000, played.now_ms) == START_MS + 60_000


def test_without_renewal_a_standby_pass_still_becomes_a_session():
    """disable_session_renewal forbids a second session, not the first."""
    played = Played(room(always_queue=False, disable_session_renewal=True, claim_within_s=20))
    played.join()
    played.after(5)
    end_ms = played.line.renew(1, START_MS, START_MS + 20_000, played.now_ms)
    assert end_ms == START_MS + 65_000
    played.after(40)
    assert played.line.renew(1, START_MS, end_ms, played.now_ms) == end_ms


def test_an_ended_pass_is_not_renewed():
    """Half a second after its end the slot may be somebody else's; until then the use may still be on the way."""
    played = inside()
    played.now_ms += 60_000 + LATE_MS
    assert played.line.renew(1, START_MS, START_MS + 60_000, played.now_ms) == 0
    played = inside()
    played.now_ms += 60_000 + LATE_MS - 1
    assert played.line.renew(1, START_MS, START_MS + 60_000, played.now_ms) == played.now_ms + 60_000


def test_a_pass_that_the_record_forgot_is_taken_in():
    """A signed pass of somebody who waits here was given after this record was copied: they are inside, and count."""
    played = Played(room(total_active_users=1))
    played.present(2)
    assert played.line.renew(1, START_MS, START_MS + 60_000, played.now_ms) == START_MS + 60_000
    assert played.stands(1) == [INSIDE]
    assert played.call() == []


def test_an_ended_pass_of_somebody_who_waits_is_nothing():
    """Its time is over, whoever remembers it."""
    played = Played(room())
    played.present(1)
    assert played.line.renew(1, START_MS - 60_000, START_MS, played.now_ms) == 0
    assert played.stands(1) == [WAITING]


@pytest.mark.parametrize("standing", ["waiting", "called", "inside"])
def test_who_leaves_gives_up_the_place_or_the_slot(standing):
    """A left place is nobody's: not waited for, not called, holding nothing, and its ticket is worth nothing."""
    played = Played(room(total_active_users=1))
    played.present(2)
    if standing != "waiting":
        played.call()
    if standing == "inside":
        played.admit(1)
    played.line.leave(1, played.now_ms)
    assert played.claim(1).gone
    assert played.call() == [2]
    played.line.leave(1, played.now_ms)
    played.hear(1)
    assert played.stands(1) == [GONE]


def test_a_ticket_keeps_its_rank_for_ticket_keep():
    """Silent for less, it is a returner; silent for longer, it is no ticket."""
    for seconds, standing in ((99, RETURNER), (103, GONE)):
        played = Played(room(ticket_keep_s=100))
        played.present(1, told_s=1)
        played.after(2)
        played.call()
        played.now_ms += (seconds - 2) * 1000
        played.hear(1)
        assert played.stands(1) == [standing], seconds


# -- what people are told ----------------------------------------------------------------------------------------------


def test_ahead_counts_whom_there_is_to_call_first():
    """The silent, the gone, the called and those inside are not ahead of anyone; returners are."""
    played = Played(room(total_active_users=2))
    played.present(2, told_s=1)  # 1 misses, 2 is passed over
    played.present(6)
    assert played.ahead(8) == 7
    played.after(2)
    assert played.call() == [3, 4]
    played.admit(3)
    played.line.leave(5, played.now_ms)
    assert played.ahead(8) == 2
    played.hear(1, 2, told_s=100)
    assert [played.ahead(number) for number in (1, 2, 6)] == [0, 1, 0]
    assert played.join() == [9]
    assert played.ahead(9) == 5


def test_a_comeback_never_raises_what_was_told():
    """Who was left out of the count once is counted again only for numbers given out afterwards."""
    played = Played(room(total_active_users=1))
    played.present(1)
    played.call()
    played.present(2, told_s=1)
    played.present(2)
    played.after(2)
    assert [played.ahead(4), played.ahead(5)] == [0, 1]
    played.hear(2, 3, told_s=100)
    assert [played.ahead(4), played.ahead(5)] == [0, 1]
    assert played.line.join([JoinRequest("f" * 16, 2)], played.now_ms)[0].ahead == 4
    assert played.ahead(6) == 4
    played.line.leave(3, played.now_ms)
    assert [played.ahead(5), played.ahead(6)] == [1, 3]


def test_a_comeback_between_two_views_raises_nothing():
    """A claim makes a returner known before the next view; a number given out in between keeps what it was told."""
    played = Played(room(total_active_users=1))
    played.present(3, told_s=1)
    played.present(2)
    played.after(2)
    assert played.call() == [4]
    view = played.line.snapshot(played.now_ms)
    played.claim(2)
    [joined] = played.line.join([JoinRequest("f" * 16, 2)], played.now_ms)
    shown = min(joined.ahead, view.ahead(joined.number))
    assert played.ahead(joined.number) <= shown == 1
    assert played.line.join([JoinRequest("f" * 16, 2)], played.now_ms)[0].ahead == 3
    played.line.leave(2, played.now_ms)
    played.claim(3)
    played.line.leave(3, played.now_ms)
    assert played.ahead(6) == 1


def test_numbers_newer_than_the_view_are_taken_for_present():
    """A view that does not know a number yet counts everyone before it, which can only fall."""
    played = Played(room())
    played.present(2)
    view = played.line.snapshot(played.now_ms)
    assert [view.ahead(number) for number in (3, 4, 10)] == [2, 3, 9]
    played.join(3)
    assert [played.ahead(number) for number in (3, 4, 10)] == [2, 3, 9]


def test_ahead_is_right_across_chunks():
    """Counting over the edge of a chunk loses nobody."""
    played = Played(room())
    numbers = played.present(CHUNK + 10)
    for number in (1, CHUNK - 1, CHUNK, CHUNK + 1, numbers[-1]):
        assert played.ahead(number) == number - 1
    played.line.leave(CHUNK, played.now_ms)
    assert played.ahead(numbers[-1]) == numbers[-1] - 2


def test_a_snapshot_does_not_change_and_shares_what_stayed():
    """A view shows one moment; chunks that nobody touched are the same bytes as in the view before."""
    played = Played(room())
    played.present(CHUNK + 10)
    before = played.line.snapshot(played.now_ms)
    played.line.leave(CHUNK + 1, played.now_ms)
    after = played.line.snapshot(played.now_ms)
    assert before.chunks[0] is after.chunks[0]
    assert before.chunks[1] is not after.chunks[1]
    assert (before.standing(CHUNK + 1), after.standing(CHUNK + 1)) == (WAITING, GONE)


def test_a_snapshot_tells_a_new_number_from_a_number_of_no_one():
    """Newer than the view: unknown. In the series but not known: gone. Before the series: unknown while adopted."""
    played = Played(room(ticket_keep_s=100), base=10 * CHUNK)
    played.join()
    view = played.line.snapshot(played.now_ms)
    assert [view.standing(number) for number in (5, 10 * CHUNK, 10 * CHUNK + 1)] == [NONE, NEW, NONE]
    played.after(492)
    view = played.line.snapshot(played.now_ms)
    assert [view.standing(number) for number in (5, 10 * CHUNK + 1)] == [GONE, NONE]


def test_the_silent_ahead_of_serving_are_found_in_every_chunk():
    """Chunk by chunk, a few a sweep, everybody who fell silent far back leaves the count."""
    played = Played(room(total_active_users=1))
    played.present(1)
    played.call()
    played.join(5 * CHUNK)
    played.after(10)
    for _ in range(3):
        played.after(0.25)
    assert played.line.present == 0


def test_a_crowd_that_falls_silent_together_is_passed_over_at_once():
    """Two chunks of ghosts cost one look each; who came back among them is looked at one by one, and so is the rest."""
    played = Played(room(total_active_users=1))
    played.present(2 * CHUNK, told_s=1)
    [last] = played.present(1)
    played.now_ms += 2_000
    assert played.call() == [last]
    assert played.line.present == 0
    assert played.line._tally[SILENT] == 2 * CHUNK
    played.hear(5, last - 1, told_s=1)
    view = played.line.snapshot(played.now_ms)
    assert (view.returners, view.late) == ((5, last - 1), (last, last))
    played.after(2)
    view = played.line.snapshot(played.now_ms)
    assert (view.returners, view.late, played.line.present) == ((), (), 0)


# -- repeats -----------------------------------------------------------------------------------------------------------


def test_the_same_key_within_ten_minutes_gets_the_same_number():
    """A lost answer costs nothing: the number, the visitor and the time are those of the first."""
    played = Played(room(ticket_keep_s=7200))
    first, again = played.line.join([JoinRequest("a" * 16, 2, "key"), JoinRequest("b" * 16, 2, "key")], START_MS)
    assert first == again
    assert played.line.join([JoinRequest("c" * 16, 2, "key")], START_MS + IDEMPOTENCY_MS - 1) == [first]
    [later] = played.line.join([JoinRequest("d" * 16, 2, "key")], START_MS + IDEMPOTENCY_MS)
    assert (later.number, later.visitor) == (2, "d" * 16)


def test_a_repeat_of_who_is_inside_tells_the_end_that_is_held():
    """A repeat after going straight in, and after a renewal, gets the slot's present end."""
    played = Played(room(always_queue=False))
    played.join(key="key")
    end_ms = played.line.renew(1, START_MS, START_MS + 20_000, played.now_ms)
    [again] = played.line.join([JoinRequest("b" * 16, 2, "key")], played.now_ms)
    assert (again.number, again.end_ms) == (1, end_ms)


def test_a_repeat_of_who_was_called_and_claimed_is_the_same_admission():
    """One slot, one pass: the repeat states when the slot was taken, not when the place was."""
    played = Played(room())
    [number] = played.join(key="once")
    played.hear(number)
    played.now_ms += 1_000
    played.call()
    claimed = played.admit(number)
    [again] = played.line.join([JoinRequest("f" * 16, 2, "once")], played.now_ms)
    assert (again.number, again.joined_ms, again.end_ms) == (number, claimed.admitted_ms, claimed.end_ms)


def test_a_key_whose_place_was_given_up_starts_anew():
    """Who left and joins again with the same key gets a new place, good for its own ten minutes."""
    played = Played(room())
    played.join(key="key")
    played.join(key="other")
    played.line.leave(1, played.now_ms)
    assert played.join(key="key") == [3]
    played.now_ms += IDEMPOTENCY_MS - 1
    assert played.join(key="key") == [3]
    played.now_ms += 1
    assert played.join(key="other") == [4]


def test_a_rejected_join_is_not_remembered():
    """A key that got no place is free to get one later."""
    played = Played(room(max_waiting=1))
    played.join(key="first")
    assert played.join(key="second") == [0]
    played.line.leave(1, played.now_ms)
    assert played.join(key="second") == [2]


def test_keys_are_bounded(monkeypatch):
    """However many keys a client invents, memory holds so many; the oldest are forgotten first."""
    assert IDEMPOTENCY_KEYS_MAX <= 100_000
    monkeypatch.setattr(queueing, "IDEMPOTENCY_KEYS_MAX", 10)
    played = Played(room())
    for index in range(50):
        played.join(key=f"key {index}")
        assert len(played.line._repeats) <= 11
    assert played.join(key="key 49") == [50]
    assert played.join(key="key 0") == [51]


# -- records lost and forgotten ----------------------------------------------------------------------------------------


def test_a_series_begins_at_its_base():
    """After a loss no number is given that may have been given before."""
    played = Played(room(), base=1_700_000_000_000_000)
    assert played.join(2) == [1_700_000_000_000_000, 1_700_000_000_000_001]
    assert played.ahead(1_700_000_000_000_001) == 1


def test_old_tickets_are_adopted_and_called_before_newcomers_in_order():
    """Tickets from before the loss keep their numbers: returners, smallest first, then the new series."""
    played = Played(room(), base=1_000_000)
    played.present(1)
    played.hear(90, 30, 60, told_s=100)
    assert played.line.present == 4
    assert played.call() == [30, 60, 90, 1_000_000]


def test_an_old_ticket_can_claim_at_once():
    """Called and claimed in one operation, if nobody before them is there."""
    played = Played(room(), base=1_000_000)
    played.admit(30)


def test_an_old_pass_counts_from_its_first_use():
    """A pass from before the loss is taken in as it states itself, and slides like any other."""
    played = Played(room(session_duration_s=60), base=1_000_000)
    assert played.line.renew(30, START_MS - 50_000, START_MS + 10_000, START_MS) == START_MS + 60_000
    assert played.line.free_slots(played.now_ms) == 19
    assert played.line.renew(31, START_MS - 50_000, START_MS, START_MS) == 0
    assert played.stands(31) == [NONE]


def test_an_old_ticket_can_be_given_up():
    """Leaving with a ticket that the record does not know makes it gone, not unknown."""
    played = Played(room(), base=1_000_000)
    played.line.leave(30, played.now_ms)
    assert played.claim(30).gone


def test_a_number_beyond_the_counter_begins_a_series():
    """A signed number larger than any given here shows that the record forgot some: they are places still.

    No newcomer gets one of them again, nobody is called before everybody had the time to be heard, and then they come
    in order.
    """
    played = Played(room(session_duration_s=100))
    played.present(1, told_s=50)
    played.hear(3 * CHUNK, told_s=50)
    [newcomer] = played.join(told_s=1)
    assert newcomer == START_MS // 1000 * SERIES_STEP
    played.after(99.9)
    played.hear(newcomer, 17, 1, 3 * CHUNK, told_s=1_000)
    assert played.call() == []
    played.after(0.1)
    assert played.call() == [1, 17, 3 * CHUNK, newcomer]


def test_tickets_before_the_record_are_adopted_for_ticket_keep():
    """Once every old ticket has aged, an unknown number is nobody's: kept since the longest silence a page was told."""
    played = Played(room(ticket_keep_s=100), base=1_000_000)
    played.after(491)
    assert not played.claim(29).gone
    played.line.leave(29, played.now_ms)
    played.after(1)
    assert played.claim(30).gone
    played.hear(31)
    played.line.leave(32, played.now_ms)
    assert played.line.present == 0


def test_by_when_everybody_in_line_has_asked():
    """What a successor must wait for: the longest interval told to anyone, while anyone is in line or called."""
    played = Played(room())
    assert played.line.asks_by_ms == 0
    played.present(1, told_s=70)
    played.present(1, told_s=5)
    assert played.line.asks_by_ms == START_MS + 70_000
    played.call()
    assert played.line.asks_by_ms == START_MS + 70_000
    played.admit(1)
    played.admit(2)
    assert played.line.asks_by_ms == 0


def test_memory_is_bounded_by_who_may_still_matter():
    """Once nobody in a chunk can come back it is forgotten, with all that was remembered of its numbers."""
    played = Played(room(ticket_keep_s=100, total_active_users=2, claim_within_s=1))
    played.present(1, told_s=1)
    played.call()
    played.join(3 * CHUNK)
    played.after(5)
    assert played.line._misses == {1: 1}
    for _ in range(2):
        played.call()
        played.after(5)
    assert len(played.line._chunks) == 4
    for _ in range(4):
        played.after(110)
    assert played.line._chunk_ids == list(played.line._chunks) == [3]  # where the next number goes
    assert played.line._misses == {}
    assert list(played.line.snapshot(played.now_ms).chunks) == [3]
    assert played.claim(1).gone
    played.after(1)
    assert played.present(1) == [3 * CHUNK + 2]
    assert played.call() == [3 * CHUNK + 2]


def test_a_chunk_is_kept_while_somebody_in_it_matters():
    """One visitor who renews for hours keeps their own chunk, and not the others'."""
    played = Played(room(ticket_keep_s=100, session_duration_s=1000))
    played.present(1)
    played.call()
    played.admit(1)
    played.join(3 * CHUNK)
    played.after(5)
    played.call()
    for _ in range(4):
        played.after(200)
        played.line.renew(1, START_MS, 0, played.now_ms)
    assert list(played.line._chunks) == [0, 3]  # theirs, and where the next number goes
    assert played.admit(1)


@pytest.mark.parametrize("seed", range(3))
def test_the_walk_is_the_same_however_it_is_cut_into_ticks(seed):
    """Calls depend on who is present, not on how the budget is dealt out."""
    chance = random.Random(seed)
    one, many = (Played(room(total_active_users=100)) for _ in range(2))
    for played in (one, many):
        played.join(60)
    heard = sorted(chance.sample(range(1, 61), 40))
    for played in (one, many):
        played.hear(*heard, told_s=100)
        played.after(5)
    called = [number for _ in range(60) for number in many.call(1)]
    assert one.call() == called == heard, seed


# -- who leads ---------------------------------------------------------------------------------------------------------


def test_one_leads_at_a_time_and_terms_only_grow():
    """A lease of three seconds; who takes it, or takes it up again, has a term of its own."""
    line = Line(room(), START_MS)
    assert line.lead("one", START_MS) == 1
    assert line.lead("two", START_MS + 2_999) == 0
    assert line.lead("one", START_MS + 2_999) == 1
    assert line.lead("two", START_MS + 5_998) == 0
    assert line.lead("two", START_MS + 5_999) == 2
    assert line.lead("two", START_MS + 8_999) == 3  # it slept through its lease: what it believes is old
    assert line.lead("two", START_MS + 9_000, resign=True) == 0
    assert line.lead("one", START_MS + 9_000) == 4


# -- clocks that stand still -------------------------------------------------------------------------------------------


def test_a_held_room_moves_every_end_by_what_it_stood():
    """Turns, passes, and those left from the generation before: nobody pays for the operator's pause."""
    played = Played(room(total_active_users=2, session_duration_s=60))
    played.present(2)
    played.call()
    played.admit(1)
    played.line.former = {(0, 9): START_MS + 30_000}
    before = played.line.snapshot(played.now_ms)
    held = room(total_active_users=2, session_duration_s=60, queue_all=True)
    played.line.configure(held, Overrides(), played.now_ms)
    played.line.configure(held, Overrides(), played.now_ms + 5_000)  # said twice is held once
    played.after(1_000)
    view = played.line.snapshot(played.now_ms)
    assert (view.turns, view.inside, view.clock_ms(played.now_ms)) == (before.turns, before.inside, START_MS)
    played.line.configure(room(total_active_users=2, session_duration_s=60), Overrides(), played.now_ms)
    after = played.line.snapshot(played.now_ms)
    assert after.turns == {2: before.turns[2] + 1_000_000}
    assert after.inside == {1: before.inside[1] + 1_000_000}
    assert after.former == {(0, 9): START_MS + 1_030_000}
    assert after.stood_ms == 1_000_000


def test_time_in_which_nobody_could_be_heard_makes_nobody_silent():
    """The record was away: who was due meanwhile is due so much later, and what changed is known to have."""
    played = Played(room())
    played.line.touched = set()
    played.present(1, told_s=5)
    played.call()
    played.line.touched.clear()
    played.line.stand(60_000, unheard=True)
    assert played.line.touched == {1}
    played.join(told_s=1)
    played.now_ms += 60_000
    assert not played.line._is_silent(1, played.now_ms + 4_900)
    assert played.line._is_silent(1, played.now_ms + 5_200)


def held(played, seconds, **settings):
    """Hold the room for some seconds, with ticks, and let it go on."""
    played.line.configure(room(queue_all=True, **settings), Overrides(), played.now_ms)
    played.after(seconds)
    played.line.configure(room(**settings), Overrides(), played.now_ms)


def test_an_outage_in_a_held_room_is_counted_once():
    """Held for 100 s of which the record was away for 40: everything ends 100 s later, not 140."""
    played = inside()
    played.line.configure(room(session_duration_s=60, queue_all=True), Overrides(), played.now_ms)
    played.now_ms += 40_000
    played.line.stand(40_000, unheard=True)
    assert played.line.snapshot(played.now_ms).clock_ms(played.now_ms) == START_MS + 40_000
    played.after(60)
    played.line.configure(room(session_duration_s=60), Overrides(), played.now_ms)
    assert played.line.ends() == {1: START_MS + 160_000}
    assert played.line.stood_ms == 100_000


def test_a_turn_claimed_while_held_lasts_as_long_as_any():
    """Asking every minute of an hour's hold does not make an offer of twenty seconds one of an hour."""
    played = Played(room(claim_within_s=20))
    played.present(1, told_s=2)
    played.call()
    played.line.configure(room(claim_within_s=20, queue_all=True), Overrides(), played.now_ms)
    for _ in range(60):
        played.after(60)
        assert played.claim(1).called
    played.line.configure(room(claim_within_s=20), Overrides(), played.now_ms)
    assert played.line._turns == {1: played.now_ms + 20_000}


def test_the_session_limit_does_not_count_what_the_clock_stood():
    """A session of at most 80 s, held for 100 s in between, still has its 80 s."""
    played = inside(session_limit_s=80)
    played.after(40)
    held(played, 100, session_duration_s=60, session_limit_s=80)
    assert played.line.renew(1, START_MS, START_MS + 60_000, played.now_ms) == START_MS + 180_000


def test_a_pass_given_in_standby_is_no_session_because_the_room_was_held():
    """Held before it was brought back, it has lasted longer than a session; its holder has had none."""
    settings = {"always_queue": False, "disable_session_renewal": True, "claim_within_s": 20, "session_duration_s": 60}
    played = Played(room(**settings))
    played.join()
    held(played, 100, **settings)
    assert played.line.renew(1, START_MS, START_MS + 120_000, played.now_ms) == played.now_ms + 60_000


def test_a_pass_that_the_record_lost_is_taken_in_while_the_clock_stands():
    """While the room is held the pass opens the door, so it counts, although its time would be over by the wall."""
    played = Played(room(), base=1_000_000)
    played.line.configure(room(queue_all=True), Overrides(), played.now_ms)
    played.after(100)
    assert played.line.renew(30, START_MS - 50_000, START_MS + 10_000, played.now_ms) == START_MS + 60_000
    assert played.stands(30) == [INSIDE]


@pytest.mark.parametrize("unheard", [False, True])
def test_what_may_be_out_after_a_loss_is_out_for_longer_by_what_the_clock_stood(unheard):
    """Passes that the record lost end later like all others, so their slots are not given away before."""
    played = Played(room(), base=1_000_000, assumed_until_ms=START_MS + 10_000)
    played.present(1)
    if unheard:
        played.now_ms += 100_000
        played.line.stand(100_000, unheard=True)
    else:
        held(played, 100)
    played.after(9.9)
    assert played.call() == []
    played.after(0.1)
    assert played.call() == [1_000_000]


# -- an older copy -----------------------------------------------------------------------------------------------------


def test_a_record_that_lost_something_trusts_no_turn():
    """The slot of a turn that it knows may be somebody else's by now; who holds it is next once the roll is called."""
    played = Played(room(total_active_users=1, session_duration_s=60))
    played.present(2, told_s=10)
    assert played.call() == [1]
    played.line.begin_series(9, played.now_ms)
    assert (played.claim(1).end_ms, played.claim(1).gone, played.line.called) == (0, False, 0)
    played.after(30)
    assert played.line.renew(9, START_MS, START_MS + 60_000, played.now_ms) == START_MS + 90_000
    played.after(31)
    played.hear(1, 2, told_s=1_000)
    assert played.call() == []
    played.line.leave(9, played.now_ms)
    assert played.call() == [1]


def test_while_the_roll_is_called_nobody_is_passed_over():
    """They may have asked while nobody could hear them: serving waits until everybody had the time to ask again."""
    played = Played(room(session_duration_s=100))
    played.present(2, told_s=10)
    played.line.begin_series(9, played.now_ms)
    played.after(99)
    played.call()
    assert (played.stands(1, 2), played.line.serving) == ([WAITING, WAITING], 0)
    played.hear(2, told_s=10)
    played.after(1)
    assert played.call() == [2]
    assert played.stands(1) == [SILENT]


def test_a_record_that_lost_something_ends_no_slot_by_the_end_it_knows():
    """The pass may have been renewed since: whoever uses it goes on, and counts."""
    played = inside(total_active_users=1)
    played.line.begin_series(9, played.now_ms)
    played.after(70)
    view = played.line.snapshot(played.now_ms)
    assert view.standing(1) != GONE
    assert played.line.renew(1, START_MS, START_MS + 100_000, played.now_ms) == START_MS + 130_000
    played.present(1)
    assert played.call() == []


def test_a_slot_that_outlasts_the_roll_is_counted_to_its_end():
    """The origin had made a session an hour long: its slot is not given away when the usual ones must be over."""
    played = inside(total_active_users=1)
    played.line.extend(1, 3_600_000, played.now_ms)
    played.line.begin_series(9, played.now_ms)
    [newcomer] = played.present(1, told_s=10_000)
    played.after(3_659)
    assert played.call() == []
    played.after(2)
    assert played.call() == [newcomer]


def test_whom_an_older_record_takes_for_silent_keeps_the_place():
    """They asked all along, but not it: a ticket ages from the loss, not from the copy."""
    played = Played(room(ticket_keep_s=100))
    played.present(1, told_s=1)
    played.now_ms += 3_600_000
    played.line.begin_series(9, played.now_ms)
    played.after(90)
    assert not played.claim(1).gone


def test_who_was_done_before_a_loss_stays_done():
    """A number of an earlier series that was given up is nobody's, also when all about it is forgotten."""
    played = Played(room(ticket_keep_s=100))
    played.join(CHUNK)
    for number in range(1, CHUNK):
        played.line.leave(number, played.now_ms)
    played.present(1)
    played.call()
    played.after(200)
    assert 0 not in played.line._chunks
    played.line.begin_series(2 * CHUNK, played.now_ms)
    assert played.claim(7).gone
    assert played.line.snapshot(played.now_ms).standing(7) == GONE
    assert not played.claim(2 * CHUNK).gone


def test_places_from_before_a_loss_are_kept_through_an_outage():
    """Hours in which nobody could show a ticket are no hours in which it ages."""
    played = Played(room(ticket_keep_s=100), base=1_000_000)
    played.now_ms += 3_600_000
    played.line.stand(3_600_000, unheard=True)
    assert not played.claim(29).gone


def test_a_newcomer_of_a_new_series_is_told_only_of_people():
    """A worker whose view is from before the series does not take the gap for a line of a million."""
    played = Played(room())
    played.present(3)
    view = played.line.snapshot(played.now_ms)
    played.line.begin_series(500, played.now_ms)
    numbers = played.join(3)
    assert [view.ahead(number) for number in numbers] == [3, 4, 5]
    assert [played.ahead(number) for number in numbers] == [3, 4, 5]
    again = played.line.snapshot(played.now_ms)
    played.line.begin_series(numbers[-1], played.now_ms)
    assert again.ahead(*played.join()) == 6


# -- what the origin and the operator say ------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [Overrides(closed=True), Overrides(final=True)])
def test_a_line_that_ended_gives_nothing_and_forgets_nobody(said):
    """No number, no call, no slot, not even for a turn; opened again it goes on where it was."""
    played = Played(room(total_active_users=2))
    played.present(2)
    assert played.call(1) == [1]
    played.line.configure(played.room, said, played.now_ms)
    assert played.join() == [0]
    assert played.call() == []
    assert (played.claim(1).end_ms, played.claim(1).called) == (0, True)
    played.line.configure(played.room, Overrides(), played.now_ms)
    assert played.call() == [2]
    assert played.claim(1).end_ms
    assert played.join() == [3]


def test_sold_out_for_now_only_whom_it_called_gets_in():
    """Whoever has a turn may take it; nobody else is called or goes straight in, and every place is kept."""
    played = Played(room(total_active_users=2, always_queue=False))
    played.line.configure(played.room, Overrides(stock=0), played.now_ms)
    assert played.join() == [1]
    assert played.stands(1) == [NEW]
    played.line.configure(played.room, Overrides(stock=1), played.now_ms)
    played.hear(1)
    assert played.call() == [1]
    played.line.configure(played.room, Overrides(stock=0), played.now_ms)
    played.present(1)
    assert played.call() == []
    assert played.claim(1).end_ms
    assert not played.claim(2).end_ms
    assert played.line.state(played.now_ms) is RoomState.SOLD_OUT


def test_a_session_is_extended_within_its_limit():
    """By what the origin says; only of somebody who is inside."""
    played = Played(room(session_duration_s=60, session_limit_s=100))
    played.present(2)
    played.call(1)
    end_ms = played.admit(1).end_ms
    played.line.extend(1, 10_000, played.now_ms)
    assert played.line.held_end_ms(1, played.now_ms) == end_ms + 10_000
    played.line.extend(1, 10_000_000, played.now_ms)
    assert played.line.held_end_ms(1, played.now_ms) == START_MS + 100_000
    played.line.extend(2, 10_000, played.now_ms)
    assert played.line.held_end_ms(2, played.now_ms) == 0
    assert not played.line.has_turn(2)


def test_an_open_turn_begins_anew_when_its_holder_asks():
    """Not one whose time is over, and no session is the longer for it."""
    played = Played(room(claim_within_s=60, session_duration_s=60))
    played.present(3)
    played.hear(1, 2, told_s=2)
    played.call(2)
    played.after(50)
    played.line.extend(1, 0, played.now_ms)
    played.line.extend(3, 0, played.now_ms)
    assert played.line.snapshot(played.now_ms).turns == {1: START_MS + 110_000, 2: START_MS + 60_000}
    played.now_ms += 11_000
    played.line.extend(2, 0, played.now_ms)
    played.after(0)
    assert played.stands(1, 2, 3) == [CALLED, SILENT, WAITING]
    end_ms = played.admit(1).end_ms
    played.line.extend(1, 0, played.now_ms)
    assert played.line.held_end_ms(1, played.now_ms) == end_ms


def test_a_turn_begins_anew_only_so_often():
    """Then it is missed, and the slot is for who is next; the turn after that can be asked for as often again."""
    played = Played(room(claim_within_s=60, total_active_users=1))
    played.present(2)
    for turn in range(2):
        played.hear(1, told_s=2)
        assert played.call() == [1]
        for _ in range(MORE_MAX + 1):
            for _ in range(2):  # the second moves nothing, and is not counted
                played.line.extend(1, 0, played.now_ms)
            played.after(1)
        played.after(50)
        played.line.extend(1, 0, played.now_ms)
        called = played.stands(1) == [CALLED]
        played.after(60)
        assert called, turn
        assert played.stands(1) == [SILENT]


def test_passes_of_the_generation_before_count_until_they_end():
    """A slot they fill is nobody's."""
    played = Played(room(total_active_users=1))
    played.line.former = {(0, 9): START_MS + 1_000}
    played.present(1)
    assert played.call() == []
    played.after(1.25)
    assert played.call() == [1]


def test_a_roll_without_numbers_asks_nobody():
    """A room that had given out nothing begins its series at once beyond what is known elsewhere."""
    line = Line(room(), START_MS)
    line.begin_series(40, START_MS, rests_until_ms=0)
    assert (line.base, line.earlier, line.call(9, START_MS)) == (START_MS // 1000 * SERIES_STEP, [], [])
    [joined] = line.join([JoinRequest("a" * 16, 2.0)], START_MS)
    line.leave(joined.number, START_MS)
    line.call(9, START_MS)
    assert line.serving == line.issued


def test_a_hearing_that_was_long_on_the_way_does_not_shorten_a_later_one():
    """Two workers heard the same visitor, and the older word came last: the later due time is kept."""
    played = Played(room())
    played.present(1, told_s=60)
    late = Heard(1, played.now_ms + 5_000, at_ms=played.now_ms - 2_000)
    played.line.hear([late], played.now_ms)
    assert not played.line._is_silent(1, played.now_ms + 50_000)
    later = Heard(1, played.now_ms + 90_000, at_ms=played.now_ms - 2_000)
    played.line.hear([later], played.now_ms)
    assert not played.line._is_silent(1, played.now_ms + 80_000)


def test_asking_while_inside_changes_nothing():
    """A page that did not know yet that it is in."""
    played = Played(room())
    played.present(1)
    played.call()
    played.admit(1)
    played.hear(1)
    assert played.stands(1) == [INSIDE]
