"""The judge is judged: each broken promise, as a few lines of log, is found; and what only looks broken is not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from waitroom import checker
from waitroom.checker import Rules, Seen, Served

if TYPE_CHECKING:
    from pathlib import Path

RULES = Rules(cap=2, per_minute=3, stock=1, session_s=10)


def told(visitor: str, at_s: float, state: str, number: int | None, told_s: float | None = 1.0, **more) -> Seen:
    """Return what `me` told a visitor, asked at ``at_s`` and answered a moment later."""
    return Seen(visitor, "me", at_s, at_s + 0.01, 200, state, number, told_s=told_s, **more)


def waits(visitor: str, number: int, *at_s: float) -> list[Seen]:
    """Return the answers to a visitor who asked at these moments and was told to wait."""
    return [told(visitor, one_s, "waiting", number) for one_s in at_s]


def enters(visitor: str, at_s: float, number: int, **more) -> list[Seen]:
    """Return a visitor who is called, and lets themselves in a tenth of a second later."""
    document = Seen(visitor, "document", at_s + 0.1, at_s + 0.11, 200, "admitted", number)
    return [told(visitor, at_s, "called", number, **more), document]


def leaves(visitor: str, at_s: float, status: int | None = 200) -> Seen:
    """Return a visitor who leaves."""
    return Seen(visitor, "leave", at_s, at_s + 0.01, status, "none" if status else None)


def served(number: int, admitted_s: float, path: str = "/event/", **more) -> Served:
    """Return a request that the shop saw of a number admitted at ``admitted_s``."""
    fields = {"method": "GET", "status": 200, "visitor": f"v{number}", "admitted_ms": int(admitted_s * 1000)} | more
    return Served(path=path, number=str(number), **fields)


def order(number: int, admitted_s: float, order_id: str | None, **more) -> Served:
    """Return an order; one with an id took a unit."""
    status = 409 if order_id is None else 201
    sold = order_id is not None
    fields = {"method": "POST", "status": status, "order": order_id, "sold": sold} | more
    return served(number, admitted_s, "/event/order", **fields)


def broken(crowd: list[Seen], shop: list[Served], rules: Rules = RULES) -> list[str]:
    """Return the names of the promises that the logs say were broken."""
    return [finding.promise for finding in checker.judge(crowd, shop, rules).findings if not finding.kept]


GOOD_CROWD = [
    *waits("a", 1, 0, 1, 2),
    *waits("b", 2, 0, 1, 2, 3),
    *enters("a", 3, 1, claim_by_ms=6_000),
    *enters("b", 4, 2, claim_by_ms=7_000),
    Seen("a", "order", 3.5, 3.51, 201, order="first"),
    leaves("a", 3.6),
    Seen("shopper", "ordinary", 2.0, 2.02, 200),
]
GOOD_SHOP = [served(1, 3.105), order(1, 3.105, "first"), served(2, 4.105), order(2, 4.105, None)]


def test_nobody_is_called_or_let_in_before_the_start() -> None:
    """By the visitor's log or by the shop's; who only has a place before it has gathered."""
    opened = replace(RULES, opens_s=2.9)
    verdict = checker.judge(GOOD_CROWD, GOOD_SHOP, opened)
    assert verdict.ok
    assert (verdict.gathered, verdict.early) == (2, 0)
    assert broken(GOOD_CROWD, GOOD_SHOP, replace(RULES, opens_s=3.2)) == ["Nobody before the start"]
    early = [served(1, 2.0), *GOOD_SHOP[1:]]
    assert "Nobody before the start" in broken(GOOD_CROWD, [early[0]], opened)


def test_a_place_before_the_start_is_a_place_in_line() -> None:
    """Somebody told of the pre-queue is passed by a later number like anybody who waits."""
    crowd = [told("a", at_s, "prequeue", 1) for at_s in range(7)]
    crowd += [*waits("b", 2, 0, 1, 2, 3), *enters("b", 4, 2)]
    assert broken(crowd, []) == ["In order"]


def test_a_good_run_is_good() -> None:
    """A run in which everything was kept has no finding against it, and its numbers are counted."""
    verdict = checker.judge(GOOD_CROWD, GOOD_SHOP, RULES)
    assert verdict.ok
    assert (verdict.visitors, verdict.joined, verdict.admitted) == (2, 2, 2)
    assert (verdict.orders, verdict.sold, verdict.buyers) == (1, 1, 2)
    assert (verdict.ordinary_served, verdict.ordinary_p99_s) == (1, pytest.approx(0.02))


# -- waits ------------------------------------------------------------------------------------------------------------


def shown(visitor: str, at_s: float, low_s: int, high_s: int, state: str = "waiting") -> Seen:
    """Return the answer to a visitor who waits and is shown a range."""
    return told(visitor, at_s, state, 1, low_s=low_s, high_s=high_s)


@pytest.mark.parametrize(
    ("rows", "told_held"),
    [
        ([shown("a", 0, 5, 20), shown("a", 9, 0, 2), *enters("a", 10, 1)], (2, 2)),
        ([shown("a", 0, 12, 20), *enters("a", 10, 1)], (1, 0)),
        ([shown("a", 0, 11, 20), *enters("a", 10, 1)], (1, 1)),
        ([shown("a", 0, 1, 3), shown("a", 6, 0, 20), *enters("a", 10, 1)], (2, 1)),
        ([shown("a", 0, 1, 5), shown("a", 6, 0, 20), *enters("a", 10, 1)], (2, 2)),
        ([shown("a", 0, 1, 2), shown("a", 6, 1, 2, "missed"), *enters("a", 10, 1)], (0, 0)),
        ([shown("a", 0, 1, 2), shown("a", 6, 1, 2, "held"), *enters("a", 10, 1)], (0, 0)),
        ([shown("a", 0, 1, 2), leaves("a", 6)], (0, 0)),
        ([shown("a", 0, 1, 2)], (0, 0)),
        ([*waits("a", 1, 0, 1, 2), *enters("a", 3, 1)], (0, 0)),
    ],
)
def test_a_wait_is_judged_by_when_the_call_may_have_come(rows: list[Seen], told_held: tuple[int, int]) -> None:
    """Between the last *wait* and the first *called*; of who was away, was held up or gave up, nothing is judged."""
    verdict = checker.judge(rows, [], RULES)
    assert (verdict.waits_told, verdict.waits_held) == told_held


def test_waits_that_seldom_come_true_are_found() -> None:
    """Four of five keep the promise, fewer break it."""
    crowd = [row for at in range(5) for row in (shown(f"v{at}", 0, 1, 20), *enters(f"v{at}", 10, at))]
    wrong = [shown("v0", 0, 30, 40), shown("v1", 0, 30, 40)]
    promise = "Four of five waits shown come true"
    assert promise not in broken([wrong[0], *crowd], [])
    assert promise in broken([*wrong, *crowd], [])


# -- in order ---------------------------------------------------------------------------------------------------------


def test_an_overtaking_is_found() -> None:
    """Number 2 is called while number 1 stands in line before and after: that is an overtaking."""
    crowd = [*waits("a", 1, 0, 1, 2, 3, 4, 5, 6), *waits("b", 2, 0, 1, 2, 3), *enters("b", 4, 2)]
    (overtaking,) = checker.judge(crowd, [], RULES).overtakings
    assert (overtaking.number, overtaking.passed) == (2, 1)
    assert broken(crowd, []) == ["In order"]


def test_one_who_goes_straight_in_overtakes_the_line() -> None:
    """To be let in at once, while somebody before stands in line, is an overtaking too."""
    crowd = [*waits("a", 1, 0, 1, 2, 3, 4, 5), Seen("b", "document", 3, 3.01, 200, "admitted", 2)]
    assert broken(crowd, []) == ["In order"]


def test_a_returner_is_before_the_rest() -> None:
    """Who missed the call and is back is passed by nobody with a larger number, once the return is known."""
    back = [told("a", at_s, "missed", 1) for at_s in (20, 21, 22, 23, 24, 25)]
    crowd = [*waits("a", 1, 0, 1), told("a", 2, "called", 1, claim_by_ms=5_000), *back]
    crowd += [*waits("b", 2, *range(24)), *enters("b", 24, 2)]
    assert broken(crowd, []) == ["In order"]


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(waits("a", 1, 0, 1, 2, 3), id="called later, but perhaps together"),
        pytest.param(waits("a", 1, 0, 10, 11, 12), id="silent past the time told when the other was called"),
        pytest.param(waits("a", 1, 3.2, 4, 5, 6), id="back so shortly before that no view may have known"),
        pytest.param(waits("a", 3, 0, 1, 2, 3, 4, 5, 6), id="behind, not before"),
        pytest.param([*waits("a", 1, 0, 1, 2), leaves("a", 2.5, None), *waits("a", 1, 5)], id="may have left"),
    ],
)
def test_what_only_looks_like_an_overtaking(first: list[Seen]) -> None:
    """Who was absent, just back, perhaps called at the same time, or gone, was not passed."""
    assert "In order" not in broken([*first, *waits("b", 2, 0, 1, 2, 3), *enters("b", 4, 2)], [])


def test_an_answer_on_its_way_is_no_proof() -> None:
    """Who was told to wait by an answer made before the call and received after it was not passed."""
    slow = Seen("a", "me", 3.9, 5.0, 200, "waiting", 1, told_s=1.0)
    crowd = [*waits("a", 1, 0, 1, 2, 3), slow, *waits("b", 2, 0, 1, 2, 3), *enters("b", 4, 2)]
    assert "In order" not in broken(crowd, [])


# -- once, never lost -------------------------------------------------------------------------------------------------


def test_a_number_given_twice_is_found_by_the_crowd() -> None:
    """Two visitors who are told the same number have it twice."""
    assert broken([*waits("a", 1, 0), *waits("b", 1, 0)], []) == ["A number is given once"]


def test_a_number_given_twice_is_found_by_the_shop() -> None:
    """A number that the shop sees with two visitors was given twice."""
    shop = [served(1, 3.0), served(1, 3.0, visitor="another")]
    assert broken(enters("a", 2.9, 1), shop) == ["A number is given once"]


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(told("a", 2, "waiting", 7), id="another number"),
        pytest.param(told("a", 2, "none", None), id="no place"),
        pytest.param(told("a", 2, "expired", None), id="ended, but never let in"),
    ],
)
def test_a_lost_place_is_found(after: Seen) -> None:
    """Who is told of no place, or of another, while theirs was good, has lost it."""
    crowd = [*waits("a", 1, 0, 1), after]
    assert checker.judge(crowd, [], RULES).places_lost == ("a",)
    assert "A place is never lost" in broken(crowd, [])


def test_a_pass_that_ends_early_is_a_lost_place() -> None:
    """A visit is over when its pass was told to end, and not before."""
    inside = [*waits("a", 1, 0, 1), *enters("a", 2, 1), told("a", 2.2, "admitted", 1, None, pass_until_ms=12_000)]
    assert broken([*inside, told("a", 11, "expired", None)], []) == ["A place is never lost"]
    assert broken([*inside, told("a", 12.1, "expired", None)], []) == []


def test_who_left_has_lost_nothing() -> None:
    """After a leave, even one that was never answered, there is no place to lose."""
    assert broken([*waits("a", 1, 0), leaves("a", 0.5, None), told("a", 1, "none", None)], []) == []


def test_an_entry_without_an_answer_may_have_been_one() -> None:
    """Who may have been let in without knowing may find a session later that it is over, and not sooner."""
    unknown = [*waits("a", 1, 0), Seen("a", "document", 1, 11)]
    assert broken([*unknown, told("a", 11.5, "expired", None)], []) == []
    assert broken([*unknown[:1], Seen("a", "document", 1, 2), told("a", 3, "none", None)], []) == [
        "A place is never lost"
    ]


# -- never too many ---------------------------------------------------------------------------------------------------


def inside(*admitted_s: float) -> tuple[list[Seen], list[Served]]:
    """Return visitors admitted at these moments, each for a session of ten seconds that no leave cuts short."""
    crowd, shop = [], []
    for number, at_s in enumerate(admitted_s, start=1):
        crowd += enters(f"visitor {number}", at_s - 0.1, number)
        shop.append(served(number, at_s))
    return crowd, shop


def test_one_too_many_inside_is_found() -> None:
    """Three inside at once where two may be are one too many; a slot that ended is nobody's."""
    crowd, shop = inside(1, 2, 3)
    assert checker.judge(crowd, shop, RULES).most_active == 3
    assert broken(crowd, shop) == ["Never too many inside"]
    assert broken(*inside(1, 2, 11, 12)) == ["Never too many in a minute"]


def test_a_leave_frees_the_slot_when_it_is_sent() -> None:
    """A slot given up is free from the moment of the asking, answered or not: the waiting room has the benefit."""
    crowd, shop = inside(1, 2, 3)
    assert broken([*crowd, leaves("visitor 1", 2.9)], shop) == []
    assert broken([*crowd, leaves("visitor 1", 2.9, None)], shop) == []
    assert broken([*crowd, leaves("visitor 1", 3.2)], shop) == ["Never too many inside"]


def test_an_offered_slot_is_a_slot() -> None:
    """Two inside and one called are three in hand, until the offer ends."""
    crowd, shop = inside(1, 2)
    called = told("visitor 3", 4, "called", 3, claim_by_ms=8_000)
    assert checker.judge([*crowd, called], shop, RULES).most_held == 3
    assert broken([*crowd, called], shop) == ["Never too many inside"]
    assert broken([*crowd, replace(called, claim_by_ms=4_000)], shop) == []


def test_a_visitor_holds_one_slot_from_call_to_end() -> None:
    """To be told of one's turn twice, and then to come in, is one slot and not three."""
    crowd, shop = inside(1, 2)
    again = [told("visitor 2", at_s, "called", 2, claim_by_ms=9_000) for at_s in (1.5, 1.7)]
    assert broken([*crowd, *again], shop) == []


def test_an_offer_is_over_when_it_is_taken() -> None:
    """Who came in and whose pass has ended holds no slot any more, though the offer would have lasted longer."""
    crowd, shop = inside(1, 2, 4)
    offered = told("visitor 2", 1.5, "called", 2, claim_by_ms=9_000)
    ended = told("visitor 2", 2.5, "admitted", 2, None, pass_until_ms=3_000)
    assert broken([*crowd, offered, ended], shop) == []


def test_clocks_need_not_agree_to_the_millisecond() -> None:
    """Two readings of one moment by two programs differ a little; a slot is not doubled by that."""
    crowd, shop = inside(1, 2, 3)
    assert broken([*crowd, leaves("visitor 1", 3.002)], shop) == []


def test_one_too_many_in_a_minute_is_found() -> None:
    """Four within sixty seconds where three may be are one too many; a minute after the first there is room again."""
    rules = replace(RULES, cap=9)
    assert broken(*inside(1, 2, 3, 60.9), rules) == ["Never too many in a minute"]
    assert broken(*inside(1, 2, 3, 61), rules) == []


def test_who_never_came_to_the_shop_was_inside_all_the_same() -> None:
    """A claim counts from its answer where the shop saw nothing of it."""
    crowd = [Seen(f"v{number}", "claim", 1, 1.1, 200, "admitted", number) for number in (1, 2, 3)]
    assert broken(crowd, []) == ["Never too many inside"]


# -- the gate, the stock, the rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reached",
    [
        pytest.param(Served("POST", "/event/cart", 303), id="no number"),
        pytest.param(Served("GET", "/%45vent;a=b/", 404), id="another spelling"),
        pytest.param(Served("GET", "/products/..%252fEVENT/order", 404), id="encoded twice"),
        pytest.param(served(5, 1.0), id="number of one who was never called"),
        pytest.param(served(9, 1.0, visitor="posing"), id="a name that a cheat wrote"),
        pytest.param(Served("GET", "/products", 200, visitor="posing"), id="our header on an ordinary page"),
    ],
)
def test_a_cheat_that_reached_the_shop_is_found_in_the_shops_log(reached: Served) -> None:
    """What no pass allowed stands in the shop's log without a number, or with that of somebody else."""
    tried = Seen("c", "cheat", 1, 1.01, 429, "not-a-document", target="/event/order", posed_as="posing")
    crowd = [*waits("a", 5, 0, 1), tried]
    assert checker.judge(crowd, [reached], RULES).cheats_reached == 1
    assert broken(crowd, [reached]) == ["The gate holds"]


def test_a_cheat_that_was_answered_by_the_shop_is_found() -> None:
    """A cheat whose answer names no state of the room, and is no refusal, was answered by the shop."""
    cheat = Seen("c", "cheat", 1, 1.01, 200, target="//event/")
    assert broken([cheat], []) == ["The gate holds"]
    for harmless in (
        replace(cheat, state="waiting"),
        replace(cheat, status=400),
        replace(cheat, status=None),
        replace(cheat, target="/products"),
    ):
        assert broken([harmless], []) == []


def test_overselling_is_found() -> None:
    """Two sold where one was for sale is oversold; none sold to somebody who wanted one is not well sold either."""
    crowd, _ = inside(1, 2)
    assert broken(crowd, [order(1, 1, "x"), order(2, 2, "y")]) == ["Nothing is oversold"]
    assert broken(crowd, [order(1, 1, None)]) == ["Nothing is oversold"]
    assert broken(crowd, [order(1, 1, "x"), order(2, 2, None)]) == []


def test_two_units_for_one_visitor_are_found() -> None:
    """One visitor has one order, by the shop's log and by what the crowd was told."""
    rules = replace(RULES, stock=2)
    crowd, _ = inside(1, 2)
    others = [order(2, 2, None, status=201)]
    assert broken(crowd, [order(1, 1, "x"), order(1, 1, "y"), *others], rules) == ["Nothing is oversold"]
    two = [Seen("visitor 1", "order", 1, 1.1, 201, order=name) for name in ("x", "y")]
    assert broken([*crowd, *two], [order(1, 1, "x"), order(2, 2, "y")], rules) == ["Nothing is oversold"]


def test_an_order_the_shop_does_not_know_is_found() -> None:
    """Whoever was told of an order finds it in the shop's log."""
    crowd, _ = inside(1)
    assert broken([*crowd, Seen("visitor 1", "order", 1, 1.1, 201, order="x")], []) == ["Nothing is oversold"]


def test_who_is_left_standing_is_found() -> None:
    """A line that stands still lets nobody overtake, and is broken all the same."""
    assert broken([*waits("a", 1, 0, 1), Seen("a", "time-up", 60, 60, number=1)], []) == ["Everybody's turn comes"]


@pytest.mark.parametrize("status", [None, 502, 429])
def test_an_ordinary_request_that_failed_is_found(status: int | None) -> None:
    """A page that no room covers and that was not served, or not answered, is a failure."""
    assert broken([Seen("shopper", "ordinary", 0, 1, status)], []) == ["Ordinary shoppers feel nothing"]


def test_the_logs_are_read_as_they_are_written(tmp_path: Path) -> None:
    """What the crowd writes is read back the same; the shop's lines are read by name, and forged numbers are none."""
    crowd = tmp_path / "crowd.jsonl"
    crowd.write_text("".join(seen.line() + "\n" for seen in GOOD_CROWD))
    assert checker.read_crowd(crowd) == GOOD_CROWD
    line = {"time": 1.0, "method": "GET", "path": "/event/", "status": 200, "number": "²", "admitted_at": "soon"}
    shop = tmp_path / "shop.jsonl"
    shop.write_text(json.dumps(line | {"visitor": "v", "sold": None, "order": None}) + "\n")
    (read,) = checker.read_shop(shop)
    assert read == Served("GET", "/event/", 200, number="²", visitor="v")
    assert broken([], [read]) == ["The gate holds"]
