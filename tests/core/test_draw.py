"""The draw: an order that nobody could choose, and that everybody can work out again."""

from __future__ import annotations

import hashlib
import random

import pytest
from ledger import Ledger
from rooms import room

from waitroom.core import draw, lasting
from waitroom.core.draw import JoinList, Order
from waitroom.core.gate import stands
from waitroom.core.queueing import BACK, CHUNK, GONE, INSIDE, NEW, RETURNER, SILENT, WAITING, Heard, JoinRequest, Line
from waitroom.model import Opening, Phase, RoomState, VisitorState

SEED, DIGEST = b"s" * 32, b"d" * 32
SERIES = ((1, 40), (1_000_000, 1_000_059))


def people(count, **more):
    """Return a list with so many on it."""
    found = JoinList.begin("launch", "noon", 2, SEED)
    for number in range(1, count + 1):
        found.write(number, draw.ticket_hash("launch", 2, number, f"{number:016x}"))
    return found


def test_the_order_is_by_the_hash_of_seed_digest_and_number():
    """Worked out here by hand, as anybody would who reads the documentation."""
    numbers = [*range(1, 41), *range(1_000_000, 1_000_060)]
    by_lot = sorted(numbers, key=lambda number: hashlib.sha256(SEED + DIGEST + number.to_bytes(8, "big")).digest())
    order = draw.dealt(SEED, DIGEST, SERIES)
    assert [order.number(place) for place in numbers] == by_lot
    assert [order.rank(number) for number in by_lot] == list(range(1, 101))


def test_places_are_the_numbers_in_another_order():
    """Every number has a place of its own, and who was not drawn keeps the number for a place."""
    order = draw.dealt(SEED, DIGEST, SERIES)
    numbers = [*range(1, 41), *range(1_000_000, 1_000_060)]
    places = [order.place(number) for number in numbers]
    assert places != numbers
    assert sorted(places) == numbers
    assert [order.number(place) for place in places] == numbers
    for other in (41, 999_999, 1_000_060):
        assert (order.place(other), order.number(other), order.rank(other)) == (other, other, None)


def test_the_order_changes_with_the_seed_the_digest_and_the_list():
    """Whoever may change one of the three knows nothing of what comes out without the other two."""
    drawn = draw.dealt(SEED, DIGEST, ((1, 100),)).drawn
    assert draw.dealt(b"t" * 32, DIGEST, ((1, 100),)).drawn != drawn
    assert draw.dealt(SEED, b"e" * 32, ((1, 100),)).drawn != drawn
    assert draw.dealt(SEED, DIGEST, ((2, 101),)).drawn != drawn


def test_work_is_done_in_slices_that_come_to_the_same(monkeypatch):
    """Others get their turn after each, and nobody else's place depends on how large they are."""
    whole = draw.dealt(SEED, DIGEST, SERIES)
    monkeypatch.setattr(draw, "SLICE", 10)
    sliced = []

    def watched():
        sliced.append((yield from draw.deal(SEED, DIGEST, SERIES)))

    assert len(list(watched())) >= 15
    assert sliced == [whole]


def test_a_draw_among_nobody_is_an_order_of_nobody():
    """Nobody came before the start: everybody stands behind, in order of arrival."""
    order = draw.dealt(SEED, DIGEST, ())
    assert (order.place(1), order.number(1), order.rank(1)) == (1, 1, None)


def test_first_places_fall_on_everybody_alike():
    """Over many draws each tenth of the list gets a tenth of the first places, give or take."""
    chance, first = random.Random(3), [0] * 10
    for _ in range(400):
        order = draw.dealt(chance.randbytes(32), DIGEST, ((1, 100),))
        for rank in range(10):
            first[order.drawn[rank] // 10] += 1
    assert all(300 < count < 500 for count in first)


@pytest.mark.parametrize("how", ["number", "ticket", "order", "room", "event", "generation", "seed"])
def test_the_digest_holds_everything_that_was_written(how):
    """A list of another number, ticket or order, or of another draw, has another digest."""
    seed = b"t" * 32 if how == "seed" else SEED
    room, event, generation = how == "room", how == "event", how == "generation"
    digests = []
    for changed in (False, True):
        named = ("other" if room and changed else "launch", "other" if event and changed else "noon")
        found = JoinList.begin(*named, 3 if generation and changed else 2, seed if changed else SEED)
        entries = [(1, b"a" * 16), (2, b"b" * 16)]
        if changed and how == "number":
            entries[1] = (3, b"b" * 16)
        if changed and how == "ticket":
            entries[0] = (1, b"c" * 16)
        if changed and how == "order":
            entries.reverse()
        for number, ticket in entries:
            found.write(number, ticket)
        digests.append(found.digest)
    assert digests[0] != digests[1]


def test_numbers_stand_on_the_list_in_runs():
    """A series that begins in between begins a run of its own."""
    found = people(3)
    found.write(1_000_000, b"x" * 16)
    found.write(1_000_001, b"y" * 16)
    assert (found.series, found.count) == ([(1, 3), (1_000_000, 1_000_001)], 5)
    assert [draw.position(found.series, number) for number in (1, 3, 4, 1_000_001)] == [0, 2, None, 4]
    with pytest.raises(IndexError):
        draw.number_at(found.series, 5)


def test_the_seed_is_shown_only_once_the_list_is_closed():
    """Before that, nothing that is published or printed has it."""
    found = people(2)
    assert found.shown().seed == ""
    assert SEED.hex() not in repr(found)
    assert repr(SEED) not in repr(found)
    assert found.shown().commitment == hashlib.sha256(SEED).hexdigest()
    found.closed = True
    assert bytes.fromhex(found.shown().seed) == SEED


def test_a_list_comes_back_from_its_record():
    """With the hashes of its tickets it is the same; without, or with too few, the digest and the order are."""
    found = people(5)
    found.closed = True
    assert JoinList.restore(found.record(), bytes(found.tickets)) == found
    for tickets in (None, bytes(found.tickets)[:-1]):
        lost = JoinList.restore(found.record(), tickets)
        assert (lost.lost, lost.lost_digest, lost.tickets) == (5, found.digest, b"")
        assert draw.dealt(lost.seed, lost.digest, tuple(lost.series)) == Order(
            *(getattr(draw.dealt(SEED, found.digest, ((1, 5),)), name) for name in ("series", "ranks", "drawn"))
        )
        lost.write(6, b"z" * 16)
        again = JoinList.restore(lost.record(), bytes(lost.tickets))
        assert (again.lost, again.count, again.tickets) == (5, 6, b"z" * 16)


# -- a line whose order is drawn ---------------------------------------------------------------------------------------

START_MS = 1_700_000_000_000


class Drawn:
    """A line that gathers for a draw, and the hand that moves its clock."""

    def __init__(self, count=0, *, base=1, watched=False, **settings):
        self.now_ms = START_MS
        self.room = room(**settings)
        opening = Opening("noon", Phase.PREQUEUE, START_MS, START_MS + 60_000, START_MS + 600_000)
        self.line = Line(self.room, START_MS, generation=2, base=base, opening=opening)
        if watched:
            lasting.watch(self.line)
        self.line.draw = JoinList.begin("launch", "noon", 2, SEED)
        self.numbers = self.join(count)

    def join(self, count, key=None):
        """Let ``count`` visitors join who are there for long; return their numbers."""
        joined = self.line.join([JoinRequest(f"{one:016x}", 2.0, key) for one in range(count)], self.now_ms)
        self.hear(*(one.number for one in joined))
        return [one.number for one in joined]

    def hear(self, *numbers, told_s=1_000_000.0):
        """Let ``numbers`` ask for themselves."""
        self.line.hear([Heard(number, self.now_ms + int(told_s * 1000)) for number in numbers], self.now_ms)

    def close(self):
        """Reach the start: the list is closed."""
        self.now_ms += 60_000
        self.line.opening = Opening("noon", Phase.OPEN, START_MS, START_MS + 60_000, START_MS + 600_000)
        self.line.draw.closed = True

    def deal(self):
        """Let the places take effect."""
        found = self.line.draw
        self.line.deal(draw.dealt(found.seed, found.digest, tuple(found.series)), self.now_ms)
        return self

    def drawn(self):
        """Close the list and deal; return the numbers in their drawn order."""
        self.close()
        self.deal()
        return sorted(self.numbers, key=self.line.order.place)

    def call(self, budget=1_000):
        """Call as many as there is room for."""
        return self.line.call(budget, self.now_ms)

    def claim(self, number):
        """Claim, and say what came of it."""
        return self.line.claim(number, self.now_ms, self.now_ms + 2_000)

    @property
    def view(self):
        """What workers know."""
        return self.line.snapshot(self.now_ms)


def test_the_drawn_are_called_in_drawn_order_and_who_came_later_behind_them():
    """P1 where a draw made the order: nobody is called before somebody with a smaller place."""
    played = Drawn(15, total_active_users=18)
    order = played.drawn()
    late = played.join(5)
    called = played.call()
    assert called == [*order, *late[:3]]
    assert order != played.numbers
    assert played.line.overtakings == 0


def test_nobody_is_called_or_let_in_until_all_places_are_dealt():
    """Between the start and the last place dealt people still join, behind, and nobody knows their place."""
    played = Drawn(5, always_queue=False)
    played.close()
    assert played.line.to_deal
    assert (played.call(), played.view.state, played.view.undrawn) == ([], RoomState.PREQUEUE, True)
    [joined] = played.line.join([JoinRequest("b" * 16, 2.0)], played.now_ms)
    assert (joined.number, joined.ahead, joined.end_ms) == (6, None, 0)
    assert played.line.draw.count == 5
    played.deal()
    assert (played.line.to_deal, played.view.state, played.view.undrawn) == (False, RoomState.QUEUEING, False)
    assert played.line.join([JoinRequest("c" * 16, 2.0)], played.now_ms)[0].ahead == 6


def test_people_ahead_are_those_with_smaller_places():
    """What a visitor is told counts by place, leaves out who has gone, and knows of who came later."""
    played = Drawn(30, total_active_users=2)
    played.line.leave(7, played.now_ms)
    order = played.drawn()
    assert played.view.standing(7) == GONE
    order.remove(7)
    [late] = played.join(1)
    assert [played.view.ahead(number) for number in [*order, late]] == list(range(30))
    assert played.call() == order[:2]
    assert [played.view.ahead(number) for number in order[2:]] == list(range(27))


def test_a_number_is_answered_by_number_everywhere():
    """Claims, passes, turns, ends and leaves of a drawn number are its own, not those of whoever has it for a place."""
    played = Drawn(20, total_active_users=3)
    order = played.drawn()
    first, second, third = played.call()
    assert played.view.turns.keys() == {first, second, third} == set(order[:3])
    assert played.line.has_turn(first)
    claimed = played.claim(first)
    assert claimed.number == first
    assert played.view.inside == played.line.ends() == {first: claimed.end_ms}
    assert played.claim(first) == claimed
    assert played.line.held_end_ms(first, played.now_ms) == claimed.end_ms
    played.now_ms += 10_000
    renewed_ms = played.line.renew(first, claimed.admitted_ms, claimed.end_ms, played.now_ms)
    assert renewed_ms == claimed.end_ms + 10_000
    played.line.extend(first, 5_000, played.now_ms)
    assert played.view.inside == {first: renewed_ms + 5_000}
    played.line.leave(second, played.now_ms)
    assert stands(played.view, second, played.now_ms) is VisitorState.NONE
    assert stands(played.view, third, played.now_ms) is VisitorState.CALLED
    assert played.call() == [order[3]]


def test_a_missed_call_is_missed_by_its_holder():
    """Behind ``serving`` by place, whatever the number; and next when they come back."""
    played = Drawn(20, total_active_users=1)
    order = played.drawn()
    played.hear(*order, told_s=100)
    [first] = played.call()
    played.now_ms += 110_000
    played.line.sweep(played.now_ms)
    assert stands(played.view, first, played.now_ms) is VisitorState.MISSED
    assert all(
        stands(played.view, number, played.now_ms) is VisitorState.WAITING for number in order[1:] if number < first
    )
    played.hear(*order)
    assert played.call() == [first]


def test_a_repeat_of_a_join_finds_its_drawn_place():
    """P14: the same key after the draw gets the same number; admitted meanwhile, the same pass."""
    played = Drawn(10, total_active_users=20)
    [mine] = played.join(1, key="mine")
    played.numbers.append(mine)
    played.drawn()
    assert mine in played.call()
    claimed = played.claim(mine)
    [again] = played.line.join([JoinRequest("f" * 16, 2.0, "mine")], played.now_ms)
    assert (again.number, again.end_ms) == (mine, claimed.end_ms)
    played.line.leave(mine, played.now_ms)
    [anew] = played.line.join([JoinRequest("f" * 16, 2.0, "mine")], played.now_ms)
    assert anew.number != mine


def test_who_came_back_before_the_draw_waits_as_all_do():
    """A return counts for nothing when nobody had been called: everybody present is ahead of whoever is behind."""
    played = Drawn(12, total_active_users=1)
    played.hear(3, 4, told_s=0.5)
    played.line.sweep(played.now_ms + 5_000)
    played.now_ms += 6_000
    played.hear(3)
    assert (played.view.standing(3), played.view.standing(4)) == (BACK, SILENT)
    order = played.drawn()
    assert (played.view.standing(3), played.view.standing(4)) == (WAITING, SILENT)
    order.remove(4)
    assert [played.view.ahead(number) for number in [*order, *played.join(1)]] == list(range(12))
    assert played.line.present == 12
    played.hear(4)
    assert played.view.standing(4) == BACK


def test_who_returned_beside_the_list_stays_a_returner():
    """Places from before a lost record that are on no list are called first, in order of their numbers."""
    played = Drawn(4, base=1_000_000, total_active_users=20)
    played.hear(17, 16)
    late = played.join(1)
    played.hear(999)
    assert played.view.standing(17) == RETURNER
    order = played.drawn()
    later = played.join(1)
    played.hear(18)
    assert played.call() == [16, 17, 18, 999, *sorted([*order, *late], key=played.line.order.place), *later]


def test_a_list_of_which_the_record_lost_a_part_is_drawn_whole():
    """P5 P12: the places of all on the list are dealt; who was lost is taken in when they ask, at their place."""
    before = people(6)
    played = Drawn(base=1_000_000, total_active_users=20)
    played.line.draw = JoinList.restore(before.record(), None)
    played.numbers = [*range(1, 7), *played.join(6)]
    played.hear(2)
    played.close()
    [late] = played.join(1)
    played.deal()
    assert played.line.serving == 0
    order = sorted(played.numbers, key=played.line.order.place)
    assert [played.view.standing(number) for number in (1, 2)] == [SILENT, WAITING]
    assert not any(played.line._is_silent(played.line.order.place(n), played.now_ms) for n in range(1, 7))
    played.hear(1, 3, 4, 5, 6)
    assert played.call() == [*order, late]
    assert played.line.present == 0


def test_a_pass_that_was_out_before_the_draw_stays_its_holders():
    """A pass of this generation that the record did not know is taken in as it is, and moves with its number."""
    played = Drawn(9, watched=True)
    end_ms = START_MS + 900_000
    assert played.line.renew(5, START_MS, end_ms, played.now_ms)
    played.line._turns[6] = end_ms
    played.line._set(7, SILENT)
    played.line._misses[7] = 1
    played.drawn()
    place = played.line.order.place
    assert played.view.inside == {5: end_ms}
    assert played.view.turns == {6: end_ms}
    assert played.line._misses == {place(7): 1}
    assert played.line._at(place(5)) == INSIDE
    assert {5, place(5), 6, place(6)} <= played.line.touched


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_a_draw_over_any_number_of_chunks_keeps_everybody(count):
    """Counts are the same before and after, at every size that fills a chunk or does not."""
    played = Drawn(count)
    if count > CHUNK:
        played.line.leave(CHUNK, played.now_ms)
    [unheard] = (one.number for one in played.line.join([JoinRequest("9" * 16, 9_999.0)], played.now_ms))
    tally = list(played.line._tally)
    played.drawn()
    assert played.line._tally == tally
    assert played.line.present == sum(chunk.live for chunk in played.line._chunks.values())
    assert played.view.standing(unheard) == NEW
    assert sorted(map(played.line.order.place, range(1, count + 2))) == list(range(1, count + 2))


# -- what is kept of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["gathering", "closed", "dealt"])
def test_a_draw_that_was_kept_goes_on_where_it_was(when):
    """The list with its hashes, the seed, and each place: after a start the same people are called in that order."""
    ledger, played = Ledger(), Drawn(7, watched=True, total_active_users=50)
    played.line.seeds = {"evening": b"e" * 32}
    ledger.keep(played.line)
    played.numbers += played.join(CHUNK)
    ledger.keep(played.line)
    if when != "gathering":
        played.close()
        ledger.keep(played.line)
    if when == "dealt":
        played.deal()
        ledger.keep(played.line)
    tickets = bytes(played.line.draw.tickets)
    restored = Drawn(total_active_users=50)
    restored.now_ms, restored.line = played.now_ms, ledger.restored(played.room)
    assert restored.line.draw == played.line.draw
    assert bytes(restored.line.draw.tickets) == tickets
    assert restored.line.draws == played.line.draws
    assert restored.line.seeds == played.line.seeds
    for one in (played, restored):
        if when == "gathering":
            one.close()
        if when != "dealt":
            one.deal()
    assert restored.call() == played.call()
    assert restored.view.standing(1) == played.view.standing(1)


def test_a_list_is_kept_anew_where_the_record_is():
    """A record that begins anew gets all of it; what was lost before stays lost."""
    ledger, played = Ledger(), Drawn(watched=True)
    played.line.draw = JoinList.restore(people(6).record(), None)
    played.line.issued = 6
    ledger.keep(played.line)
    played.join(3)
    ledger.keep(played.line)
    lasting.everything(played.line)
    ledger.lists.clear()
    ledger.keep(played.line)
    restored = ledger.restored(played.room).draw
    assert (restored.lost, restored.count, len(restored.tickets)) == (6, 9, 3 * draw.TICKET_BYTES)
    ledger.keep(Line(room(), START_MS))
    lasting.everything(Line(room(), START_MS))


def test_the_draws_of_events_to_come_are_shown_beside_this_one():
    """Everybody sees each commitment before anybody gathers."""
    played = Drawn(1)
    played.line.seeds = {"evening": b"e" * 32}
    this, to_come = played.view.draws
    assert (this.event, this.generation, this.series) == ("noon", 2, ((1, 1),))
    assert (to_come.event, to_come.generation, to_come.seed) == ("evening", 0, "")
    assert to_come.commitment == hashlib.sha256(b"e" * 32).hexdigest()
