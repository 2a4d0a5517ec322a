"""One room as one worker sees it: tokens judged, places told, repeats harmless, joins and claims gathered."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from rooms import room

from waitroom.core.gate import Forward, Shown
from waitroom.core.queueing import Heard, JoinRequest
from waitroom.core.tokens import Keyring
from waitroom.core.waiting import HIDDEN_S, silence_s
from waitroom.errors import StoreAway
from waitroom.model import Invite, Pass, Priority, QueueingMethod, RoomState, Ticket, VisitorState
from waitroom.ports import Known, Lead, Noted
from waitroom.service import BATCH_MAX, BREAKPOINTS_MAX, Batch, Carried, RoomService
from waitroom.store.memory import MemoryStore
from waitroom.testing import FakeClock
from waitroom.ticker import Ticker

KEYRING = Keyring(["k" * 32])


class Served:
    """A service on a store in memory, with a ticker that moves when told."""

    def __init__(self, room):
        self.clock = FakeClock()
        self.store = MemoryStore([room], self.clock)
        self.room = room

    async def start(self):
        """Read the first view."""
        view = await self.store.snapshot(self.room.name)
        self.service = RoomService(self.room, view, self.store, KEYRING, self.clock)
        self.ticker = Ticker([self.service], self.store)
        return self

    async def tick(self, seconds=0.25):
        """Let ``seconds`` pass, then take a step."""
        self.clock.advance(seconds)
        await self.ticker.step(self.service)

    async def ticket(self):
        """Join, and return the ticket."""
        joined, _ = await self.service.join()
        return self.service.ticket(joined)

    async def called(self):
        """Join and wait until called; return the ticket."""
        ticket = await self.ticket()
        while self.told(ticket).state is not VisitorState.CALLED:
            await self.tick()
        return ticket

    async def inside(self):
        """Join, wait, claim; return the ticket and the pass."""
        ticket = await self.called()
        claimed = await self.service.claim(ticket)
        assert claimed.end_ms
        return ticket, self.service.claimed_pass(ticket, claimed)

    def told(self, ticket, **how):
        """Return what the holder of ``ticket`` is told."""
        return self.service.told(Carried(ticket=ticket), **how)

    def read(self, *tokens):
        """Return what is made of ``tokens``, carried as if nothing were known of their kind."""
        return self.service.read([(text(token), None) for token in tokens])


def text(token):
    """Return a token as the visitor carries it."""
    if isinstance(token, str):
        return token
    return KEYRING.sign_ticket(token) if isinstance(token, Ticket) else KEYRING.sign_pass(token)


@pytest.fixture
async def served():
    """The usual room."""
    return await Served(room()).start()


# -- what is carried ---------------------------------------------------------------------------------------------------


async def test_a_place_and_an_admission_are_read_back(served):
    """What was given is what is believed."""
    ticket = await served.ticket()
    assert served.read(ticket) == Carried(ticket=ticket)
    _, entry_pass = await served.inside()
    assert served.read(entry_pass) == Carried(entry_pass=entry_pass)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("garbage", "unknown-kind"),
        (text(Ticket("launch", 1, 1, "a" * 16, 0))[:-2], "forged"),
        (Ticket("other", 1, 1, "a" * 16, 0), "other-room"),
        (Ticket("launch", 0, 1, "a" * 16, 0), "other-generation"),
        (Pass("other", 1, 1, "a" * 16, 0, 2**50), "other-room"),
        (Pass("launch", 0, 1, "a" * 16, 0, 2**50), "other-generation"),
    ],
)
async def test_what_is_not_for_this_room_is_no_token(served, token, reason):
    """Broken, of another room, of another generation: nothing is carried, and one word says why."""
    assert served.read(token) == Carried(invalid=(reason,))


async def test_a_header_for_tickets_takes_no_pass(served):
    """Where the kind is known, the other kind is refused, whatever its signature."""
    ticket, entry_pass = await served.inside()
    carried = served.service.read([(text(entry_pass), Ticket), (text(ticket), Pass)])
    assert carried == Carried(invalid=("wrong-kind", "wrong-kind"))


async def test_one_bad_token_does_not_spoil_a_good_one(served):
    """A forged cookie beside a good one is named and left aside."""
    ticket = await served.ticket()
    assert served.read("garbage", ticket) == Carried(ticket=ticket, invalid=("unknown-kind",))


async def test_of_several_places_the_smallest_is_kept_and_the_others_given_up(served):
    """A page holds one ticket and the cookie another: one place remains, at once here and soon for everyone."""
    tickets = [await served.ticket() for _ in range(3)]
    await served.tick()
    assert served.read(*reversed(tickets)).ticket == tickets[0]
    assert served.read(tickets[2]) == Carried()
    await asyncio.sleep(0)
    await served.tick()
    assert served.told(tickets[1]).state is VisitorState.NONE
    assert served.service.view.present == 1


async def test_a_place_that_is_gone_is_not_kept_before_one_that_lives(served):
    """The smallest number counts only while its place exists."""
    gone, alive = [await served.ticket() for _ in range(2)]
    await served.service.leave(Carried(ticket=gone))
    await served.tick()
    assert served.read(gone, alive) == Carried(ticket=alive)


async def test_an_ended_pass_is_told_from_none(served):
    """The page can say that the visit is over, instead of nothing."""
    _, entry_pass = await served.inside()
    await served.tick(61)
    carried = served.read(entry_pass)
    assert carried == Carried(ended=entry_pass)
    assert served.service.told(carried).state is VisitorState.EXPIRED
    assert served.service.told(Carried()).state is VisitorState.NONE


async def test_who_left_is_out_at_once(served):
    """The place and the pass are worth nothing from the moment of leaving, before the next tick."""
    _, entry_pass = await served.inside()
    ticket = await served.ticket()
    await served.service.leave(served.read(ticket, entry_pass))
    assert served.read(ticket, entry_pass) == Carried(ended=entry_pass)
    await served.tick()
    assert served.read(ticket, entry_pass) == Carried(ended=entry_pass)
    assert served.service.view.present == 0
    assert served.service.view.inside == {}


# -- joining and repeats -----------------------------------------------------------------------------------------------


async def test_joins_that_arrive_together_are_one_operation_in_order(served):
    """A thousand visitors in the same moment: in order of arrival, in one commit."""
    operations = []
    join = served.store.join

    async def counted(room, known, requests):
        operations.append(len(requests))
        return await join(room, known, requests)

    served.store.join = counted
    answers = await asyncio.gather(*(served.service.join() for _ in range(BATCH_MAX + 200)))
    assert [joined.number for joined, _ in answers] == list(range(1, BATCH_MAX + 201))
    assert operations == [BATCH_MAX, 200]


async def test_a_batch_is_committed_while_the_next_is_gathered():
    """What arrives during a commit waits for it, and goes all together with the next."""
    release, committed = asyncio.Event(), []

    async def commit(wishes):
        committed.append(wishes)
        await release.wait()
        return [-wish for wish in wishes]

    batch = Batch(commit)
    first = batch.add(1)
    await asyncio.sleep(0)
    others = [batch.add(wish) for wish in (2, 3)]
    assert (committed, batch.gathered) == ([[1]], 2)
    release.set()
    assert await asyncio.gather(first, *others) == [-1, -2, -3]
    assert committed == [[1], [2, 3]]
    assert await batch.add(4) == -4


async def test_a_failed_commit_is_told_to_its_own_and_the_next_goes_on():
    """An error reaches each who waited for that commit, and nobody else; who has gone away disturbs nothing."""

    async def commit(wishes):
        if 1 in wishes:
            raise OSError("the store is away")
        return wishes

    batch = Batch(commit)
    failed = [batch.add(1) for _ in range(2)]
    gone = batch.add(1)
    gone.cancel()
    assert [type(error) for error in await asyncio.gather(*failed, return_exceptions=True)] == [OSError] * 2
    cancelled, later = batch.add(2), batch.add(3)
    cancelled.cancel()
    assert await later == 3


async def test_the_first_visit_tells_where_one_stands(served):
    """Number, people ahead, a range and an interval, with the answer that brings the ticket."""
    for _ in range(3):
        await served.ticket()
    joined, told = await served.service.join()
    assert (told.state, told.number, told.ahead) == (VisitorState.WAITING, 4, 3)
    assert told.wait_s is not None
    assert 2 <= told.refresh_s <= 30
    assert joined.ahead == 3


async def test_the_same_key_is_one_place_and_is_told_how_it_stands_now(served):
    """A repeat gets the number again, and the answer of this moment: fewer ahead, or called."""
    first = [await served.ticket() for _ in range(2)]
    joined, told = await served.service.join("key")
    assert told.ahead == 2
    await served.service.leave(Carried(ticket=first[0]))
    await served.tick()
    again, told = await served.service.join("key")
    assert (again.number, again.visitor, told.ahead) == (joined.number, joined.visitor, 1)
    await served.service.leave(Carried(ticket=first[1]))
    await served.tick(1)
    again, told = await served.service.join("key")
    assert (again.number, told.state) == (joined.number, VisitorState.CALLED)


async def test_a_repeat_is_heard_for_the_interval_it_is_told(served):
    """The second answer may name a longer interval than the first; whoever keeps to it is not passed over."""
    refresh = served.room.refresh
    (first, _), (again, told) = await asyncio.gather(served.service.join("key"), served.service.join("key"))
    assert first.number == again.number
    [heard] = served.service.take_noted().heard
    assert heard.silent_until_ms == served.service.now_ms() + int(silence_s(told.refresh_s, refresh) * 1000)


async def test_people_ahead_never_rise_between_the_join_and_the_next_view(served):
    """Somebody leaves, somebody joins, before any tick: the first answer is not less than the next."""
    tickets = [await served.ticket() for _ in range(5)]
    await served.tick()
    await served.service.leave(Carried(ticket=tickets[0]))
    joined, told = await served.service.join()
    shown = [told.ahead, served.told(served.service.ticket(joined)).ahead]
    await served.tick()
    shown.append(served.told(served.service.ticket(joined)).ahead)
    assert shown == sorted(shown, reverse=True)
    assert shown[-1] == 4


async def test_who_is_turned_away_is_told_why():
    """Reject and full are two words, and neither comes with a number."""
    for settings, state in (
        ({"queueing_method": QueueingMethod.REJECT}, VisitorState.REJECTED),
        ({"max_waiting": 0}, VisitorState.FULL),
    ):
        served = await Served(room(**settings)).start()
        joined, told = await served.service.join()
        assert (joined.number, told.state, told.number) == (0, state, None)


async def test_standby_admits_with_the_join():
    """Straight in: the answer is an admission, with the end that the store holds."""
    served = await Served(room(always_queue=False)).start()
    joined, told = await served.service.join()
    assert (told.state, told.pass_until) == (VisitorState.ADMITTED, joined.end_ms)
    assert joined.end_ms == served.store.now_ms() + 20_000


async def test_while_held_newcomers_are_told_so_and_no_wait_is_named():
    """queue_all: a place is given, the state says held, and nothing is promised."""
    served = await Served(room(queue_all=True)).start()
    joined, told = await served.service.join()
    assert (told.state, told.wait_s) == (VisitorState.HELD, None)
    told = served.told(served.service.ticket(joined))
    assert (told.state, told.wait_s, told.refresh_s) == (VisitorState.HELD, None, 10)


async def test_claims_repeated_in_every_way_are_one_slot_and_one_pass(served):
    """Double click, lost answer, second tab, a minute later: the same admission."""
    ticket = await served.called()
    first, second = await asyncio.gather(served.service.claim(ticket), served.service.claim(ticket))
    lost = await served.service.claim(ticket)
    await served.tick()
    tab = await served.service.claim(ticket)
    assert first == second == lost == tab
    assert first.end_ms
    assert served.told(ticket).state is VisitorState.ADMITTED
    assert served.told(ticket).pass_until == first.end_ms
    assert len(served.service.view.inside) == 1


async def test_a_claim_too_early_keeps_the_place_and_is_heard():
    """Not called yet: nothing is given, nothing is lost, and whoever claimed is present for the time told."""
    served = await Served(room(total_active_users=1)).start()
    await served.inside()
    ticket = await served.ticket()
    claimed = await served.service.claim(ticket)
    assert (claimed.end_ms, claimed.gone) == (0, False)
    await served.tick()
    assert served.told(ticket).state is VisitorState.WAITING


async def test_a_missed_call_is_next():
    """Who comes after the offer ended is told so, and gets in with the claim when a slot is free."""
    served = await Served(room(claim_within_s=5)).start()
    ticket = await served.called()
    await served.tick(70)
    assert served.told(ticket).state is VisitorState.MISSED
    assert (await served.service.claim(ticket)).end_ms


# -- waiting -----------------------------------------------------------------------------------------------------------


async def test_asking_is_being_heard_until_the_time_told(served):
    """Each answer names an interval, and the store learns that silence is expected for so long."""
    served = await Served(room(total_active_users=1)).start()
    await served.inside()
    ticket = await served.ticket()
    told = served.told(ticket)
    [heard] = [heard for heard in served.service.take_noted().heard if heard.number == ticket.number]
    until_ms = served.service.now_ms() + int(silence_s(told.refresh_s, served.room.refresh) * 1000)
    assert heard == Heard(ticket.number, until_ms, visible=True, at_ms=served.service.now_ms())


async def test_a_hidden_page_is_told_a_minute_and_heard_as_hidden(served):
    """Called or waiting: a hidden page is told what it can keep, and a visible ask in the same tick outweighs it."""
    ticket = await served.ticket()
    for _ in range(2):
        assert served.told(ticket, hidden=True).refresh_s == HIDDEN_S
        noted = served.service.take_noted()
        assert [heard.visible for heard in noted.heard] == [False]
        served.service.put_back(noted)
        await served.tick()
    assert served.told(ticket, hidden=True).state is VisitorState.CALLED
    served.told(ticket)
    served.told(ticket, hidden=True)
    assert [heard.visible for heard in served.service.take_noted().heard] == [True]


async def test_a_page_without_script_is_told_whole_seconds():
    """A refresh in a page counts whole seconds: rounded up, and heard for as long."""
    served = await Served(room(total_active_users=1, session_duration_s=7)).start()
    await served.inside()
    tickets = [await served.ticket() for _ in range(3)]
    told = served.told(tickets[2])
    whole = served.service.waiting(tickets[2].number, VisitorState.WAITING, whole=True)
    assert told.refresh_s != int(told.refresh_s)
    assert whole.refresh_s == int(told.refresh_s) + 1


async def test_the_called_are_told_by_when_to_come(served):
    """Called: nobody ahead, no wait, and the end of the offer."""
    told = served.told(await served.called())
    assert (told.ahead, told.wait_s) == (0, (0, 0))
    assert told.claim_by == served.service.view.turns[told.number]


async def test_what_was_noted_and_not_taken_is_kept_and_the_newer_wins(served):
    """Put back after a failed tick: the later due time counts, and that a person was looking is not forgotten."""
    served.service.hear(1, 2, visible=False)
    old_pass = Pass("launch", 1, 9, "a" * 16, 0, 1)
    served.service.put_back(Noted([Heard(1, 5, visible=True), Heard(2, 7, visible=False)], [old_pass]))
    noted = served.service.take_noted()
    by_number = {heard.number: heard for heard in noted.heard}
    assert by_number[1].visible
    assert by_number[1].silent_until_ms > served.service.now_ms()
    assert by_number[2] == Heard(2, 7, visible=False)
    assert noted.used == [old_pass]
    assert served.service.take_noted() == Noted([], [], generation=1, extended_before=0)


# -- sliding passes ----------------------------------------------------------------------------------------------------


async def test_no_end_is_signed_that_the_store_does_not_hold(served):
    """Used in its second half a pass is noted; only after the tick is there a later one to give."""
    _, entry_pass = await served.inside()
    await served.tick(40)
    shown = Shown(document=True, entry_pass=entry_pass)
    decision = served.service.decide(shown)
    assert isinstance(decision, Forward)
    assert decision.renew
    assert served.service.renewed(entry_pass) is None
    await served.tick(0)
    renewed = served.service.renewed(entry_pass)
    assert renewed == replace(entry_pass, end_ms=served.service.now_ms() + 60_000)
    assert served.read(renewed).entry_pass == renewed
    assert served.service.renewed(renewed) is None


async def test_the_first_half_of_a_session_costs_the_store_nothing(served):
    """A pass used soon after the claim is forwarded, and nothing is noted."""
    _, entry_pass = await served.inside()
    served.service.take_noted()
    assert isinstance(served.service.decide(Shown(document=False, entry_pass=entry_pass)), Forward)
    assert served.service.take_noted().used == []


# -- time and what is shared -------------------------------------------------------------------------------------------


async def test_sessions_slide_after_a_hold_as_before_it(served):
    """Held for an hour: a pass given after it, also before this worker knew of its end, slides when it is due."""
    await served.store.operate("launch", {"queue_all": True}, "someone")
    ticket = await served.ticket()
    await served.tick(3_600)
    await served.store.operate("launch", {"queue_all": None}, "someone")
    served.service.hear(ticket.number, 10, visible=True)
    noted = served.service.take_noted()
    await served.store.tick("launch", served.service.known, noted, Lead("other", 0, 0, 1))
    claimed = await served.service.claim(ticket)
    entry_pass = served.read(served.service.claimed_pass(ticket, claimed)).entry_pass
    await served.tick(25)
    assert not served.service.decide(Shown(document=False, entry_pass=entry_pass)).renew
    await served.tick(10)
    assert served.service.decide(Shown(document=False, entry_pass=entry_pass)).renew


async def test_store_time_never_runs_backwards_here(served):
    """A view that is a little older than the worker believed does not turn its clock back."""
    served.clock.advance(10)
    now_ms = served.service.now_ms()
    served.service.view = replace(served.service.view, at_ms=served.service.view.at_ms - 3_000)
    assert served.service.now_ms() == now_ms


async def test_what_everybody_shares_is_true_and_bounded():
    """A few points tell anyone's people ahead, however long the line; the bytes change when they say something else."""
    served = await Served(room(total_active_users=1)).start()
    empty = json.loads(served.service.shared_status)
    assert (empty["ahead"], empty["present"], empty["state"]) == ([], 0, RoomState.QUEUEING)
    before = served.service.shared_etag
    await asyncio.gather(*(served.service.join() for _ in range(500)))
    await served.tick()
    status = json.loads(served.service.shared_status)
    assert (status["issued"], status["present"], status["serving"]) == (500, 500, 0)
    assert 2 <= len(status["ahead"]) <= BREAKPOINTS_MAX
    assert all(served.service.view.ahead(number) == ahead for number, ahead in status["ahead"])
    assert (status["ahead"][0], status["ahead"][-1]) == ([1, 0], [500, 499])
    assert served.service.shared_etag != before


async def test_a_ticket_of_an_older_key_is_to_be_signed_anew(served):
    """A rotation costs nobody the place, not even who waits longer than the old key is kept."""
    ticket = await served.ticket()
    newer = RoomService(served.room, served.service.view, served.store, Keyring(["k" * 32, "n" * 32]), served.clock)
    assert newer.read([(text(ticket), None)]) == Carried(ticket=ticket, resign=True)
    assert newer.read([(newer.ticket_text(ticket), None)]) == Carried(ticket=ticket)


async def test_an_extension_that_seemed_lost_is_added_once(served):
    """The tick was done, and its answer was not heard: what is said again with the next is not added again."""
    _, entry_pass = await served.inside()
    await served.tick()
    end_ms = served.service.view.inside[entry_pass.number]
    tick = served.store.tick

    async def done_but_not_heard(*arguments):
        await tick(*arguments)
        raise StoreAway("slow")

    served.store.tick = done_but_not_heard
    served.service.extend(entry_pass, 10_000)
    for _ in range(3):
        with pytest.raises(StoreAway):
            await served.tick()
    served.store.tick = tick
    served.service.extend(entry_pass, 5_000)
    await served.tick()
    assert served.service.view.inside[entry_pass.number] == end_ms + 15_000


# -- another generation ------------------------------------------------------------------------------------------------


async def reset(served, verb=True):
    """Begin a generation behind the service's back, with one visitor in it; return their ticket."""
    await served.store.operate("launch", {"reset": verb}, "me")
    [joined] = await served.store.join("launch", Known(2), [JoinRequest("a" * 16, 5.0)])
    return Ticket("launch", 2, joined.number, joined.visitor, joined.joined_ms)


@pytest.mark.parametrize("early", [True, False])
async def test_what_was_noted_before_a_reset_says_nothing_of_the_next_generation(served, early):
    """Numbers heard of the last line are others' in this one, or nobody's: none is taken in, no roll is called.

    ``early``: a ticket of the next generation is seen before the view knows it; else a poll falls into the tick.
    """
    last = [await served.ticket() for _ in range(5)][-1]
    await served.tick()
    fresh = await reset(served)
    if early:
        served.told(last)
        assert served.read(fresh).newer
    else:
        take = served.service.take
        served.service.take = lambda ticked: (served.told(last), take(ticked))
    await served.tick()
    await served.tick()
    view = served.service.view
    assert (view.generation, view.base, view.issued, view.rolls_until_ms) == (2, 1, 1, 0)


async def test_more_time_is_asked_for_once_a_tick_and_for_one_s_own_turn(served):
    """However often a button is pressed; who was not called, or was of an earlier line, asks for nothing."""
    ticket, other = await served.called(), await served.ticket()
    ends_ms = served.told(ticket).claim_by
    for _ in range(2):
        await served.tick(seconds=1)
        for one in (ticket, ticket, other, replace(ticket, generation=0)):
            served.service.more(one)
        assert [number for number, _ in served.service._extended] == [ticket.number]
    await served.tick(seconds=1)
    assert served.told(ticket).claim_by == ends_ms + 3_000


async def test_a_claim_gathered_before_a_reset_claims_nobody_elses_place(served):
    """The number is somebody else's by the time of the commit: the old place is gone."""
    ticket = await served.called()
    claiming = asyncio.create_task(served.service.claim(ticket))
    await asyncio.sleep(0)
    fresh = await reset(served)
    served.read(fresh)
    assert (await claiming).gone


@pytest.mark.parametrize("how", ["leave", "revoke", "extend"])
async def test_a_pass_of_an_earlier_generation_ends_nobody_elses_place(served, how):
    """Kept inside across a reset, its holder leaves, or the origin speaks of it: the same number of today stays."""
    _, former = await served.inside()
    fresh = await reset(served, "keep_inside")
    await served.tick()
    assert fresh.number == former.number
    match how:
        case "leave":
            await served.service.leave(served.read(former))
        case "revoke":
            served.service.revoke(former)
        case _:
            served.service.extend(former, 1_000)
            assert not served.service.take_noted().extended
    await asyncio.sleep(0)
    await served.tick()
    assert served.read(former).entry_pass == former
    assert served.told(fresh).state is VisitorState.WAITING


async def test_a_flood_while_the_store_is_away_is_told_so_at_once():
    """All that gathered during a commit that failed fail with it: waiting for the same would add up."""
    commits = []

    async def commit(wishes):
        commits.append(len(wishes))
        await asyncio.sleep(0.01)
        raise StoreAway("away")

    batch = Batch(commit)
    outcomes = await asyncio.gather(*(batch.add(wish) for wish in range(10 * BATCH_MAX)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreAway}
    assert commits == [BATCH_MAX]


async def test_a_wait_that_was_told_is_judged_when_the_call_comes():
    """Every range that a page was shown counts, whether it held or not; of a place that missed its call none does."""
    served = await Served(room(total_active_users=1, session_duration_s=8, claim_within_s=1)).start()
    _, entry_pass = await served.inside()
    estimates = served.service.estimates
    before = estimates.judged
    joined, told = await served.service.join()
    waiting, absent, shown = served.service.ticket(joined), await served.ticket(), [told.wait_s]
    assert served.told(absent).wait_s is not None
    for step in range(40):
        told = served.told(waiting)
        if told.state is VisitorState.CALLED:
            break
        shown.append(told.wait_s)
        await served.tick(0.5)
        if step == 16:
            await served.service.leave(Carried(entry_pass=entry_pass))
    assert None not in shown
    assert estimates.judged - before == len(shown)
    assert 0 < estimates.held < estimates.judged
    for _ in range(40):
        await served.tick(0.5)
    assert served.told(absent).state is VisitorState.MISSED
    assert estimates.judged - before == len(shown)


async def test_who_is_invited_is_told_the_wait_of_their_own_line():
    """Nobody is ahead of the only one invited; but with half of the calls they wait as the second in line does."""
    served = await Served(room(total_active_users=1, priority=Priority(share=0.5))).start()
    await served.inside()
    line = [await served.ticket() for _ in range(9)]
    joined = await served.service.redeem(Invite("launch", "0" * 16, served.service.now_ms() + 60_000), None)
    guest = served.service.ticket(joined)
    for ticket in (*line, guest):
        served.told(ticket)
    await served.tick()
    assert (served.told(guest).ahead, served.told(line[1]).ahead, served.told(line[8]).ahead) == (0, 1, 8)
    assert served.told(guest).wait_s == served.told(line[1]).wait_s != served.told(line[0]).wait_s
