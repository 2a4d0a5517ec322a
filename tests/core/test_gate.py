"""The gate: one request, one decision."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rooms import room

from waitroom.core.gate import Admit, Forward, Join, Refusal, Shown, TurnAway, Wait, decide, pass_end_ms, renews, stands
from waitroom.core.queueing import Heard, JoinRequest, Line
from waitroom.model import Overrides, Pass, QueueingMethod, RoomState, Ticket, VisitorState

NOW_MS = 1_700_000_000_000


def line(**settings):
    """Return a line with four numbers: 1 called, 2 inside, 3 passed over, 4 waiting."""
    played = Line(room(**({"total_active_users": 2, "claim_within_s": 30} | settings)), NOW_MS)
    played.join([JoinRequest("a" * 16, 2)] * 4, NOW_MS)
    played.hear([Heard(1, NOW_MS + 90_000), Heard(2, NOW_MS + 90_000), Heard(4, NOW_MS + 90_000)], NOW_MS)
    played.sweep(NOW_MS + 5_000)
    played.call(9, NOW_MS + 5_000)
    played.claim(2, NOW_MS + 5_000, 0)
    played.call(9, NOW_MS + 5_000)
    return played


def view(**settings):
    """Return the view of ``line``."""
    return line(**settings).snapshot(NOW_MS + 5_000)


def ticket(number):
    """Return a ticket of the room."""
    return Ticket("launch", 1, number, "a" * 16, NOW_MS)


def entry_pass(number, end_ms=NOW_MS + 65_000):
    """Return a pass of the room."""
    return Pass("launch", 1, number, "a" * 16, NOW_MS + 5_000, end_ms)


def decided(shown, at_ms=NOW_MS + 5_000, **settings):
    """Return what becomes of ``shown``."""
    return decide(room(**settings), view(**settings), shown, at_ms)


@pytest.mark.parametrize("settings", [{"suspended": True}, {"queueing_method": QueueingMethod.PASSTHROUGH}])
@pytest.mark.parametrize(
    "shown", [Shown(document=True), Shown(document=False, safe=False), Shown(document=True, prefetch=True)]
)
def test_passthrough_lets_everything_through(settings, shown):
    """Suspended or passthrough: whatever comes is forwarded, and the reason says so."""
    assert decided(shown, **settings) == Forward("passthrough")


@pytest.mark.parametrize("document", [True, False])
@pytest.mark.parametrize("prefetch", [True, False])
def test_a_valid_pass_opens_for_everything(document, prefetch):
    """Documents, pictures, prefetches: with a pass they reach the shop, also while the room holds."""
    shown = Shown(document=document, prefetch=prefetch, safe=False, from_here=False, entry_pass=entry_pass(2))
    for settings in ({}, {"queue_all": True}):
        decision = decide(room(**settings), view(), shown, NOW_MS + 5_000)
        assert decision == Forward("pass", entry_pass(2), renew=False, end_ms=NOW_MS + 65_000)


def test_an_ended_pass_opens_nothing():
    """At its very end a pass is over, and the visitor joins anew."""
    shown = Shown(document=True, entry_pass=entry_pass(2))
    assert isinstance(decided(shown, at_ms=NOW_MS + 64_999), Forward)
    assert decided(shown, at_ms=NOW_MS + 65_000) == Join(form=False)


def test_a_pass_that_was_given_up_opens_nothing():
    """Left, and the record says gone: the pass is worth nothing though its end has not come."""
    played = line()
    played.leave(2, NOW_MS + 5_000)
    assert pass_end_ms(played.snapshot(NOW_MS + 5_000), entry_pass(2), NOW_MS + 5_000) == 0


def test_a_renewed_end_counts_before_the_cookie_knows():
    """The record's end holds where it is later than the pass's own."""
    played = line()
    played.renew(2, 0, 0, NOW_MS + 60_000)
    later = played.snapshot(NOW_MS + 60_000)
    assert pass_end_ms(later, entry_pass(2), NOW_MS + 100_000) == NOW_MS + 120_000


def test_a_pass_newer_than_the_view_counts_by_itself():
    """Claimed a moment ago, or before the record was lost: its own end holds."""
    assert pass_end_ms(view(), entry_pass(1), NOW_MS + 5_000) == NOW_MS + 65_000
    assert pass_end_ms(view(), entry_pass(99), NOW_MS + 5_000) == NOW_MS + 65_000


@pytest.mark.parametrize(
    ("settings", "end_s", "used_s", "expected"),
    [
        ({}, 60, 29, False),
        ({}, 60, 31, True),
        ({}, 20, 1, True),  # given in standby: not a session yet
        ({"disable_session_renewal": True}, 60, 59, False),
        ({"disable_session_renewal": True}, 20, 1, True),
    ],
)
def test_a_pass_slides_when_its_second_half_is_used(settings, end_s, used_s, expected):
    """A session's first half costs the store nothing; a standby pass becomes a session with its first use."""
    used = Pass("launch", 1, 2, "a" * 16, 0, end_s * 1000)
    played = Line(room(session_duration_s=60, **settings), 0)
    played.join([JoinRequest("a" * 16, 2)] * 2, 0)
    played.renew(2, 0, end_s * 1000, 0)
    assert renews(played.room, played.snapshot(0), used, end_s * 1000, used_s * 1000) is expected


def test_a_pass_ends_later_by_what_the_clock_has_stood_since_it_was_signed():
    """What it had stood before is in the end already; a record that counts less than the pass moves nothing."""
    stood = replace(view(), stood_ms=300_000)
    for signed_ms, moved_ms in ((0, 300_000), (250_000, 50_000), (300_000, 0), (400_000, 0)):
        signed = replace(entry_pass(99), stood_ms=signed_ms)
        assert pass_end_ms(stood, signed, NOW_MS + 65_000 + moved_ms) == 0
        assert pass_end_ms(stood, signed, NOW_MS + 64_999 + moved_ms) == NOW_MS + 65_000 + moved_ms


def test_a_standby_pass_becomes_a_session_also_after_a_hold():
    """What the clock stood makes it no session; where sessions are not renewed, this first use is its only chance."""
    played = Line(room(session_duration_s=60, disable_session_renewal=True), 0)
    played.join([JoinRequest("a" * 16, 2)], 0)
    played.renew(1, 0, 20_000, 0)
    stood = replace(played.snapshot(0), stood_ms=300_000, inside={1: 320_000})
    used = Pass("launch", 1, 1, "a" * 16, 0, 20_000)
    assert renews(played.room, stood, used, 320_000, 301_000)
    assert not renews(played.room, stood, replace(used, end_ms=60_000), 360_000, 301_000)


def test_a_pass_that_the_record_does_not_know_is_told_to_it():
    """Given before the record was lost; but one of a moment ago is only newer than the view."""
    played = line()
    later = played.snapshot(NOW_MS + 5_000)
    assert not renews(played.room, later, entry_pass(4), NOW_MS + 65_000, NOW_MS + 6_000)
    assert renews(played.room, later, entry_pass(4), NOW_MS + 65_000, NOW_MS + 6_001)


def test_a_pass_left_to_run_out_opens_and_is_not_renewed():
    """A reset that keeps those inside: their passes are of the generation before, and end when they end."""
    old = replace(entry_pass(2), generation=1)
    later = replace(view(), generation=2, former={(1, 2): NOW_MS + 65_000})
    assert pass_end_ms(later, old, NOW_MS + 64_999) == NOW_MS + 65_000
    assert pass_end_ms(later, old, NOW_MS + 65_000) == 0
    assert pass_end_ms(later, replace(old, number=3), NOW_MS) == 0
    assert not renews(room(), later, old, NOW_MS + 65_000, NOW_MS + 60_000)


@pytest.mark.parametrize(("said", "refusal"), [({"closed": True}, Refusal.CLOSED), ({"final": True}, Refusal.SOLD_OUT)])
def test_where_the_line_has_ended_nobody_joins_or_claims(said, refusal):
    """Closed, or sold out for good: whoever comes is told so; those inside stay."""
    played = line()
    played.configure(played.configured, Overrides(**said), NOW_MS + 5_000)
    ended = played.snapshot(NOW_MS + 5_000)
    for ticket_shown in (None, ticket(1), ticket(3), ticket(4)):
        shown = Shown(document=True, ticket=ticket_shown)
        assert decide(played.room, ended, shown, NOW_MS + 5_000) == TurnAway(refusal)
    inside = Shown(document=True, entry_pass=entry_pass(2))
    assert isinstance(decide(played.room, ended, inside, NOW_MS + 5_000), Forward)


def test_sold_out_for_now_keeps_every_place():
    """Nothing left at the moment: who waits goes on waiting, and newcomers get a place."""
    played = line()
    played.configure(played.configured, Overrides(stock=0), NOW_MS + 5_000)
    later = played.snapshot(NOW_MS + 5_000)
    assert later.state is RoomState.SOLD_OUT
    waiting = Shown(document=True, ticket=ticket(4))
    assert decide(played.room, later, waiting, NOW_MS + 5_000) == Wait(ticket(4), form=False)
    assert decide(played.room, later, Shown(document=True), NOW_MS + 5_000) == Join(form=False)


def test_a_forwarded_pass_in_its_second_half_asks_to_be_renewed():
    """The decision itself says that the store is to be told."""
    decision = decided(Shown(document=False, entry_pass=entry_pass(2)), at_ms=NOW_MS + 50_000)
    assert decision == Forward("pass", entry_pass(2), renew=True, end_ms=NOW_MS + 65_000)


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_prefetch_neither_joins_nor_claims(number):
    """What no person has looked at yet takes no place and no turn."""
    shown = Shown(document=True, prefetch=True, ticket=ticket(number))
    assert decided(shown) == TurnAway(Refusal.PREFETCH)


@pytest.mark.parametrize("carried", [None, ticket(1), ticket(4)])
def test_what_is_no_document_never_makes_a_place(carried):
    """A picture or a script's call is told where to join, called or not."""
    assert decided(Shown(document=False, ticket=carried)) == TurnAway(Refusal.NOT_A_DOCUMENT)


def test_a_crawler_takes_no_place_and_waits_for_none():
    """It is sent away from a line, and let through in standby without a slot; a place it holds is looked at first."""
    crawler = Shown(document=True, crawler=True)
    assert decided(crawler) == TurnAway(Refusal.CRAWLER)
    assert decided(Shown(document=True, crawler=True, ticket=ticket(4))) == Wait(ticket(4), form=False)
    standby = room(always_queue=False)
    assert decide(standby, Line(standby, NOW_MS).snapshot(NOW_MS), crawler, NOW_MS) == Forward("standby")


def test_in_standby_what_is_no_document_goes_through():
    """Before the room queues a shop's own calls are forwarded; prefetches are not."""
    settings = {"always_queue": False}
    empty = Line(room(**settings), NOW_MS).snapshot(NOW_MS)
    assert empty.state is RoomState.OPEN
    assert decide(room(**settings), empty, Shown(document=False), NOW_MS) == Forward("standby")
    assert decide(room(**settings), empty, Shown(document=True), NOW_MS) == Join(form=False)
    assert decide(room(**settings), empty, Shown(document=True, prefetch=True), NOW_MS) == TurnAway(Refusal.PREFETCH)


@pytest.mark.parametrize("safe", [True, False])
def test_each_ticket_gets_what_its_place_is_worth(safe):
    """Called and inside: the store judges. Passed over: the same. Waiting: waits. A form is remembered as one."""
    decisions = {number: decided(Shown(document=True, safe=safe, ticket=ticket(number))) for number in (1, 2, 3, 4)}
    assert decisions == {
        1: Admit(ticket(1), not safe),
        2: Admit(ticket(2), not safe),
        3: Admit(ticket(3), not safe),
        4: Wait(ticket(4), not safe),
    }


def test_while_held_the_waiting_are_told_so():
    """queue_all: the place is kept, and the page says that the room holds."""
    shown = Shown(document=True, ticket=ticket(4))
    assert decided(shown, queue_all=True) == Wait(ticket(4), form=False)


def test_a_ticket_for_no_place_joins_anew():
    """Left or aged, the ticket is none; the visitor gets a new place, not an error."""
    played = line()
    played.leave(4, NOW_MS + 5_000)
    shown = Shown(document=True, ticket=ticket(4))
    assert decide(room(), played.snapshot(NOW_MS + 5_000), shown, NOW_MS + 5_000) == Join(form=False)


@pytest.mark.parametrize(
    ("safe", "from_here", "expected"),
    [
        (True, True, Join(form=False)),
        (True, False, Join(form=False)),
        (False, True, Join(form=True)),
        (False, False, TurnAway(Refusal.CROSS_SITE_FORM)),
    ],
)
def test_a_form_from_elsewhere_never_becomes_a_place(safe, from_here, expected):
    """A return from a payment page, without a cookie, is sent again from the shop's own origin first."""
    assert decided(Shown(document=True, safe=safe, from_here=from_here)) == expected


def test_a_preflight_reaches_the_shop_in_standby_only():
    """It can show no pass, so it is answered here while the room gates; a pass it shows all the same is one."""
    asks = Shown(document=False, safe=False, preflight=True)
    for settings in ({}, {"queue_all": True}, {"queueing_method": QueueingMethod.REJECT}):
        assert decided(asks, **settings) == TurnAway(Refusal.PREFLIGHT)
    assert isinstance(decided(replace(asks, entry_pass=entry_pass(2))), Forward)
    free = Line(room(always_queue=False), NOW_MS).snapshot(NOW_MS)
    assert decide(room(), free, asks, NOW_MS) == Forward("standby")
    assert decided(asks, suspended=True) == Forward("passthrough")


def test_reject_turns_away_whom_there_is_no_slot_for():
    """With reject nobody new queues; whoever has a place keeps it, and standby lets in."""
    settings = {"queueing_method": QueueingMethod.REJECT}
    busy = view()
    assert decide(room(**settings), busy, Shown(document=True), NOW_MS + 5_000) == TurnAway(Refusal.REJECTED)
    assert isinstance(decide(room(**settings), busy, Shown(document=True, ticket=ticket(4)), NOW_MS + 5_000), Wait)
    free = Line(room(always_queue=False, **settings), NOW_MS).snapshot(NOW_MS)
    assert decide(room(**settings), free, Shown(document=True), NOW_MS) == Join(form=False)


@pytest.mark.parametrize(("max_waiting", "expected"), [(1, TurnAway(Refusal.FULL)), (2, Join(form=False))])
def test_a_full_line_turns_newcomers_away(max_waiting, expected):
    """One waits: with room for one the page says full, with room for two it does not; a place is never taken."""
    full = room(max_waiting=max_waiting)
    assert decide(full, view(), Shown(document=True), NOW_MS + 5_000) == expected
    assert isinstance(decide(full, view(), Shown(document=True, ticket=ticket(4)), NOW_MS + 5_000), Wait)


def test_a_line_that_may_hold_nobody_still_lets_straight_in():
    """max_waiting of zero in standby: free slots are given, only waiting is refused."""
    settings = {"max_waiting": 0, "always_queue": False}
    empty = Line(room(**settings), NOW_MS).snapshot(NOW_MS)
    assert decide(room(**settings), empty, Shown(document=True), NOW_MS) == Join(form=False)


def test_where_each_number_stands():
    """Called until the offer ends, then missed; passed over is missed; newer than the view waits."""
    seen = view()
    states = [stands(seen, number, NOW_MS + 5_000) for number in (1, 2, 3, 4, 5)]
    assert states == [
        VisitorState.CALLED,
        VisitorState.ADMITTED,
        VisitorState.MISSED,
        VisitorState.WAITING,
        VisitorState.WAITING,
    ]
    assert stands(seen, 1, seen.turns[1]) is VisitorState.CALLED
    assert stands(seen, 1, seen.turns[1] + 1) is VisitorState.MISSED


def test_who_is_silent_ahead_of_serving_waits():
    """Silent, but not passed over yet: coming back now costs nothing, and is no miss."""
    played = line()
    played.hear([Heard(4, NOW_MS + 5_000)], NOW_MS + 5_000)
    played.sweep(NOW_MS + 9_000)
    assert stands(played.snapshot(NOW_MS + 9_000), 4, NOW_MS + 9_000) is VisitorState.WAITING


def test_a_place_from_before_the_record_was_lost_is_next():
    """An old ticket is a returner before the record has seen it, until old tickets have aged."""
    played = Line(room(ticket_keep_s=100), NOW_MS, base=1_000_000)
    assert stands(played.snapshot(NOW_MS), 30, NOW_MS) is VisitorState.MISSED
    assert stands(played.snapshot(NOW_MS + 492_000), 30, NOW_MS + 492_000) is VisitorState.NONE
