"""Places that belong to accounts, from the edge's header to the shop: over real sockets, workers and restarts."""

from __future__ import annotations

import pytest
from house import Visitor, running, until

ROOM = {"always_queue": True, "total_active_users": 1, "one_ticket_per": "header:X-Member-Id"}
EDGE = {"trusted_proxies": ["127.0.0.1"], "store": "sqlite:///record.db", "workers": 2}


def signed_in(house, name, **headers):
    """Return a browser of an account, as the edge lets it through."""
    return Visitor(house, **{"X-Member-Id": name, **headers})


def test_an_account_has_one_place_in_every_browser(tmp_path, origin):
    """Three browsers and an app of one account have one number and one pass; a restart takes nothing of it away."""
    with running(tmp_path, origin, ROOM, **EDGE) as house:
        inside = signed_in(house, "first")
        inside.event()
        until(inside.is_in)
        phone, laptop, other = signed_in(house, "mina"), signed_in(house, "mina"), signed_in(house, "minb")
        for visitor in (phone, other, laptop):
            assert visitor.event().status_code == 200
        assert [one.me()["number"] for one in (phone, laptop, other)] == [2, 2, 3]
        app = signed_in(house, "mina", Accept="application/json")
        assert app.post("/.waitroom/launch/join").json()["number"] == 2
        assert house.stop() == 0
        house.start()
        late = signed_in(house, "mina")
        late.event()
        assert late.me()["number"] == 2
        inside.again().post("/.waitroom/launch/leave")
        until(late.is_in)
        second = signed_in(house, "mina")
        assert second.is_in()
        assert second.me()["number"] == 2
        theirs = [seen for seen in origin.seen if seen.header("Waitroom-Number") == "2"]
        assert len({(seen.header("Waitroom-Visitor"), seen.header("X-Member-Id")) for seen in theirs}) == 1
        assert not [path for path in tmp_path.glob("record.db*") if b"mina" in path.read_bytes()]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "member-missing"),
        ({"X-Member-Id": "a" * 257}, "member-malformed"),
        ({"X_Member_Id": "mina"}, "member-twice"),
    ],
)
def test_who_is_not_signed_in_gets_no_place(tmp_path, origin, headers, reason):
    """A page that says so, in the visitor's language, and no cookie; an app gets a sentence; the log says why."""
    with running(tmp_path, origin, ROOM, **EDGE) as house:
        nobody = Visitor(house, **headers)
        page = nobody.event()
        assert page.status_code == 403
        assert "Please sign in first" in page.text
        assert "로그인" in nobody.get("/event/", headers={"Accept-Language": "ko"}).text
        refused = nobody.post("/.waitroom/launch/join", headers={"Accept": "application/json"})
        assert (refused.status_code, "sign in" in refused.text) == (403, True)
        assert not nobody.cookies
        assert nobody.get(f"/.waitroom/{house.room}/now").json()["issued"] == 0
        until(lambda: len(house.logged(reason)) == 3)
        assert nobody.get("/other").text == "shop"
        assert [seen.target for seen in origin.seen] == ["/other"]


@pytest.mark.parametrize("name", ["X-Member-Id", "x_member_id"])
def test_an_account_that_anybody_could_name_counts_for_nothing(tmp_path, origin, name):
    """From a peer that is no trusted proxy the header gives no place, and does not reach the shop; the log says why."""
    with running(tmp_path, origin, ROOM, **{**EDGE, "trusted_proxies": ["192.0.2.1"], "workers": 1}) as house:
        thief = Visitor(house, **{name: "mina"})
        assert thief.event().status_code == 403
        assert thief.get("/elsewhere").text == "shop"
        (seen,) = origin.seen
        assert not [value for _, value in seen.headers if value == "mina"]
        until(lambda: house.logged("member-untrusted"))


def test_a_full_line_knows_who_has_a_place_in_it(tmp_path, origin):
    """Another browser of an account that waits is no newcomer; a newcomer is told that the line is full."""
    with running(tmp_path, origin, {**ROOM, "max_waiting": 1}, **EDGE) as house:
        inside = signed_in(house, "first")
        inside.event()
        until(inside.is_in)
        waiting = signed_in(house, "mina")
        until(lambda: waiting.event().status_code == 200)
        until(lambda: signed_in(house, "late").event().status_code == 503)
        second = signed_in(house, "mina")
        assert second.event().status_code == 200
        assert second.me()["number"] == waiting.me()["number"]
