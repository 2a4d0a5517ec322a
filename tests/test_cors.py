"""Calls by scripts of other origins' pages, through a whole house: who may, who may read, what reaches the shop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from house import RecordingOrigin, Visitor, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from house import House

APP = "https://app.example"
ASKS = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type,waitroom-pass"}
ROOM = {"always_queue": True, "cors": {"allowed_origins": ["HTTPS://App.example:443"]}}


@pytest.fixture(scope="module")
def origin() -> Iterator[RecordingOrigin]:
    """One origin for the tests of this file."""
    recording = RecordingOrigin()
    recording.start()
    yield recording
    recording.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, origin: RecordingOrigin) -> Iterator[House]:
    """A room that gates, and lets the pages of one other origin call."""
    with running(
        tmp_path_factory.mktemp("cors"), origin, ROOM | {"bypass": [{"path": "/event/open/"}]}, trusted_proxies=[]
    ) as started:
        yield started


def preflight(house: House, origin: str, path: str = "/event/order", **more: str) -> httpx.Response:
    """Ask as a browser does before a call."""
    headers = {"Origin": origin, "Sec-Fetch-Mode": "cors", "Accept": "*/*", **ASKS, **more}
    return httpx.options(f"{house.url}{path}", headers=headers, trust_env=False)


def said(answer: httpx.Response) -> dict[str, str]:
    """Return what an answer says to other origins."""
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def test_a_listed_origin_may_call_and_needs_a_pass_all_the_same(house: House, origin: RecordingOrigin) -> None:
    """The preflight is answered here; the call waits like any other, in words its page can read; a pass lets it in."""
    origin.seen.clear()
    asked = preflight(house, APP)
    assert asked.status_code == 204
    assert said(asked) == {
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "PUT",
        "access-control-allow-headers": "content-type,waitroom-pass",
        "access-control-max-age": "60",
    }
    assert asked.headers["vary"] == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    visitor = Visitor(house)
    call = {"Origin": APP, "Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site"}
    refused = visitor.put("/event/order", headers=call)
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert said(refused) == {
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "Retry-After, Waitroom-State",
    }
    assert refused.headers["vary"] == "Origin"
    assert origin.seen == []
    until(lambda: visitor.event() and visitor.is_in())
    origin.seen.clear()
    assert visitor.put("/event/order", headers=call).text == "shop"
    assert origin.paths("PUT") == ["/event/order"]
    visitor.post("/.waitroom/launch/leave")


@pytest.mark.parametrize(
    "stranger", ["https://evil.example", "null", "http://app.example", "*", "https://app.example."]
)
def test_any_other_origin_is_told_nothing_and_reaches_nothing(
    house: House, origin: RecordingOrigin, stranger: str
) -> None:
    """Neither its preflight nor its call gets a word that would let its page go on or read."""
    origin.seen.clear()
    asked = preflight(house, stranger)
    assert (asked.status_code, said(asked)) == (403, {})
    assert "Origin" in asked.headers["vary"]
    assert "set-cookie" not in asked.headers
    refused = httpx.put(f"{house.url}/event/order", headers={"Origin": stranger}, trust_env=False)
    assert (refused.status_code, said(refused)) == (429, {})
    assert origin.seen == []


def test_asking_takes_no_place(house: House) -> None:
    """However often it is asked, nobody has joined."""
    issued = httpx.get(f"{house.url}/.waitroom/launch/now", trust_env=False).json()["issued"]
    for _ in range(5):
        preflight(house, APP)
        preflight(house, "https://evil.example")
    visitor = Visitor(house)
    visitor.event()
    assert visitor.me()["number"] == issued + 1


def test_without_a_list_nobody_is_allowed_anything(tmp_path: Any, origin: RecordingOrigin) -> None:
    """By default preflights of a queueing room get nothing but a no."""
    with running(tmp_path, origin, {"always_queue": True}) as house:
        origin.seen.clear()
        assert (preflight(house, APP).status_code, said(preflight(house, APP))) == (403, {})
        assert said(httpx.put(f"{house.url}/event/", headers={"Origin": APP}, trust_env=False)) == {}
        assert origin.seen == []


@pytest.mark.parametrize("room", [{"suspended": True}, {"queueing_method": "passthrough"}, {"always_queue": False}])
def test_a_room_that_does_not_gate_leaves_preflights_to_the_shop(
    tmp_path: Any, origin: RecordingOrigin, room: dict[str, Any]
) -> None:
    """Suspended, passthrough, standby: they are forwarded as other requests are, whoever asks."""
    with running(tmp_path, origin, room) as house:
        origin.seen.clear()
        for asker in (APP, "https://evil.example"):
            assert preflight(house, asker).text == "shop"
        assert origin.paths("OPTIONS") == ["/event/order"] * 2


def test_a_bypass_leaves_preflights_to_the_shop(house: House, origin: RecordingOrigin) -> None:
    """What goes around the room is asked about around it."""
    origin.seen.clear()
    assert preflight(house, "https://evil.example", "/event/open/x").text == "shop"
    assert origin.paths() == ["/event/open/x"]


def test_our_own_paths_have_their_own_rules(house: House) -> None:
    """``cors`` loosens nothing there: ``now`` is everybody's, the rest is no other page's."""
    assert preflight(house, APP, "/.waitroom/launch/join").status_code == 405
    assert said(preflight(house, APP, "/.waitroom/launch/join")) == {}
    for path in ("me", "now"):
        answer = httpx.get(f"{house.url}/.waitroom/launch/{path}", headers={"Origin": APP}, trust_env=False)
        assert said(answer) == ({"access-control-allow-origin": "*"} if path == "now" else {})


def test_a_shop_that_is_down_says_so_to_the_page_that_called(tmp_path: Any, origin: RecordingOrigin) -> None:
    """Our word for a failed shop can be read by the page of a listed origin, and by no other."""
    with running(tmp_path, origin, ROOM | {"origin": "http://127.0.0.1:9", "suspended": True}) as house:
        for caller, expected in ((APP, APP), ("https://evil.example", None)):
            answer = httpx.put(f"{house.url}/event/", headers={"Origin": caller}, trust_env=False)
            assert answer.status_code == 502
            assert said(answer).get("access-control-allow-origin") == expected
