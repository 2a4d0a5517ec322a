"""Several shops behind one proxy, from outside: who gets which request, and who notices a neighbour's fall."""

from __future__ import annotations

import contextlib
import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from house import House, RecordingOrigin, Visitor, free_port, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def origins() -> Iterator[list[RecordingOrigin]]:
    """Four origins that remember every request: that of the top of the file, of site a, of site b, of a room."""
    recording = [RecordingOrigin() for _ in range(4)]
    for origin in recording:
        origin.start()
    yield recording
    for origin in recording:
        origin.stop()


def url(origin: RecordingOrigin) -> str:
    """Return an origin's address as a configuration has it."""
    return f"http://127.0.0.1:{origin.port}"


def two_sites(origins: list[RecordingOrigin]) -> list[dict[str, Any]]:
    """Return the configuration of the two sites."""
    return [
        {"hosts": ["a.example", "*.wild.example"], "origin": url(origins[1])},
        {"hosts": ["b.example", "*.very.wild.example", "[::1]"], "origin": url(origins[2])},
    ]


@pytest.fixture
def house(tmp_path: Path, origins: list[RecordingOrigin]) -> Iterator[House]:
    """Two sites; a room on a, and a room on every host with an origin of its own."""
    common = {"admission": "fixed", "session_duration": "60s", "total_active_users": 2, "always_queue": True}
    rooms = [
        {"name": "launch", "match": [{"host": "a.example", "path": "/event/"}], **common},
        {
            "name": "own",
            "match": [{"path": "/own/"}],
            "bypass": [{"path": "/own/assets/"}],
            "origin": url(origins[3]),
            **common,
        },
    ]
    with running(tmp_path, origins[0], sites=two_sites(origins), rooms=rooms) as started:
        yield started


def ask(house: House, host: str, target: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    """Send one request exactly as given, and return its answer, read."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", house.port, timeout=30)) as connection:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": host, "Connection": "close", **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        return answer


def hits(origins: list[RecordingOrigin]) -> list[int]:
    """Return how many requests each origin got."""
    return [len(origin.seen) for origin in origins]


def test_the_host_picks_the_site(house: House, origins: list[RecordingOrigin]) -> None:
    """A request goes to the site that names its Host, however it is spelled, and a room is only where its host is."""
    for host, target, site in (
        ("a.example", "/x", 1),
        ("b.example", "/x", 2),
        ("B.EXAMPLE", "/x", 2),
        ("b.example:8443", "/x", 2),
        ("B.Example.:80", "/x", 2),
        ("some.wild.example", "/x", 1),
        ("some.very.wild.example", "/x", 2),
        ("very.wild.example", "/x", 1),
        ("[::1]:8080", "/x", 2),
        ("[0::0001]", "/x", 2),
        ("b.example", "http://b.example/x", 2),
        ("b.example:81", "http://B.Example:81/x", 2),
        ("b.example", "/event/x", 2),
        ("some.wild.example", "/event/x", 1),
    ):
        answer = ask(house, host, target, Accept="text/html")
        assert answer.status == 200, (host, target)
        assert hits(origins) == [int(index == site) for index in range(4)], (host, target)
        assert origins[site].seen.pop().header("Host") == host
    for host, target in (("a.example", "/event/x"), ("A.example:80", "http://a.example/%65vent/../event/")):
        assert ask(house, host, target, Accept="text/html").getheader("Waitroom-State") == "waiting"
    assert hits(origins) == [0, 0, 0, 0]


def test_a_host_that_no_site_names_is_refused(house: House, origins: list[RecordingOrigin]) -> None:
    """Any other host gets 421 whatever it asks for, no cookie, nothing to store, and reaches no origin."""
    for method, target in (
        ("GET", "/"),
        ("POST", "/order"),
        ("GET", "/event/"),
        ("GET", "/own/"),
        ("GET", "/own/assets/a.css"),
        ("GET", "/.waitroom/launch/now"),
        ("GET", "/.waitroom/own/me"),
        ("POST", "/.waitroom/own/join"),
        ("GET", "/.waitroom/assets/a.css"),
        ("GET", "/.waitroom/health/other"),
        ("GET", "/x/../.waitroom/health/live"),
        ("OPTIONS", "*"),
    ):
        for host in ("c.example", "wild.example", "xa.example", "a.example.evil.example", "127.0.0.1", "[::2]"):
            answer = ask(house, host, target, method, Accept="text/html", **{"Content-Length": "0"})
            assert (answer.status, answer.reason) == (421, "Misdirected Request"), (host, target)
            assert answer.getheader("Cache-Control") == "no-store"
            assert answer.getheader("Set-Cookie") is None
            assert answer.body == b"This host is not served here.\n"  # type: ignore[attr-defined]
    assert hits(origins) == [0, 0, 0, 0]


def test_the_authority_of_a_target_cannot_stand_in_for_the_host(house: House, origins: list[RecordingOrigin]) -> None:
    """An absolute target must name the Host; one for a host nobody named is refused like any request for it."""
    assert ask(house, "c.example", "http://a.example/x").status == 400
    assert ask(house, "a.example", "http://c.example/x").status == 400
    assert ask(house, "c.example", "http://c.example/x").status == 421
    assert ask(house, "c.example", "/x", **{"X-Forwarded-Host": "a.example"}).status == 421
    assert hits(origins) == [0, 0, 0, 0]


def test_a_refused_host_is_logged_and_its_connection_goes_on(house: House, origins: list[RecordingOrigin]) -> None:
    """The log says which host was asked for; the client may ask for another on the same connection."""
    with Visitor(house) as visitor:
        assert visitor.post("/x", headers={"Host": "c.example"}, content=b"some body").status_code == 421
        assert visitor.get("/x", headers={"Host": "a.example"}).text == "shop"
    assert [line["host"] for line in house.logged("misdirected")] == ["c.example"]
    assert hits(origins) == [0, 1, 0, 0]


def test_health_is_told_on_every_host(house: House) -> None:
    """A load balancer asks by address, and is answered."""
    for host in ("a.example", "b.example", "c.example", "10.0.0.7:8080"):
        for path in ("/.waitroom/health/live", "/.waitroom/health/ready"):
            answer = ask(house, host, path)
            assert (answer.status, answer.body) == (200, b"ok\n")  # type: ignore[attr-defined]


def test_our_paths_work_on_every_host_that_a_site_names(house: House) -> None:
    """Waiting pages ask on the host they are on, so every room's status is told on each."""
    for host in ("a.example", "B.example:8443", "x.wild.example"):
        for room in ("launch", "own"):
            assert ask(house, host, f"/.waitroom/{room}/now").status == 200
            assert ask(house, host, f"/.waitroom/{room}/me").status == 200


def test_a_room_has_an_origin_of_its_own(house: House, origins: list[RecordingOrigin]) -> None:
    """Those who are let into the room go to its origin, and so do its bypasses, from either site; nothing else does."""
    for host in ("a.example", "b.example"):
        with Visitor(house, Host=host) as visitor:
            visitor.room = "own"
            assert visitor.get("/own/").headers["waitroom-state"] == "waiting"
            until(lambda: visitor.me()["state"] == "called" and visitor.get("/own/").text == "shop")
            assert visitor.get("/own/assets/a.css").text == "shop"
            assert visitor.get("/").text == "shop"
    assert origins[3].paths() == ["/own/", "/own/assets/a.css"] * 2
    assert [seen.header("Waitroom-Room") for seen in origins[3].seen] == ["own", None] * 2
    assert [origin.paths() for origin in origins[:3]] == [[], ["/"], ["/"]]


def test_a_room_without_an_origin_has_its_site_s(house: House, origins: list[RecordingOrigin]) -> None:
    """Those who are let into a room of site a go to site a's origin."""
    with Visitor(house, Host="a.example") as visitor:
        visitor.event()
        until(lambda: visitor.me()["state"] == "called" and visitor.is_in())
    assert [origin.paths() for origin in origins] == [[], ["/event/"], [], []]


def test_a_suspended_room_keeps_its_origin(tmp_path: Path, origins: list[RecordingOrigin]) -> None:
    """Suspending takes the line away; the pages stay where they are. Without sites every host is served."""
    with running(tmp_path, origins[0], {"suspended": True, "origin": url(origins[3])}) as house:
        assert ask(house, "anything.example", "/event/").status == 200
        assert ask(house, "anything.example", "/").status == 200
    assert [origin.paths() for origin in origins] == [["/"], [], [], ["/event/"]]


def test_one_site_may_take_every_other_host(tmp_path: Path, origins: list[RecordingOrigin]) -> None:
    """Who writes ``*`` serves every host; what a name says still goes first."""
    sites = [*two_sites(origins), {"hosts": ["*"], "origin": url(origins[0])}]
    with running(tmp_path, origins[0], sites=sites) as house:
        assert ask(house, "c.example", "/").status == 200
        assert ask(house, "b.example", "/").status == 200
    assert hits(origins) == [1, 0, 1, 0]


def test_sites_that_share_an_origin_share_its_connections(tmp_path: Path, origins: list[RecordingOrigin]) -> None:
    """However many sites and rooms lead to one address, there is one pool of kept connections to it."""
    sites = [{"hosts": ["a.example"], "origin": url(origins[0])}, {"hosts": ["b.example"], "origin": url(origins[0])}]
    with running(tmp_path, origins[0], {"origin": url(origins[0])}, sites=sites) as house:
        for _ in range(2):
            for host, path in (("a.example", "/"), ("b.example", "/"), ("b.example", "/event/")):
                assert ask(house, host, path).status in (200, 429)
    assert origins[0].connections == 1


# --- a neighbour's fall ---------------------------------------------------------------------------------------------


def two_rooms(tmp_path: Path, front: RecordingOrigin, sick: str, well: str) -> Any:
    """Start two rooms of two slots each, each with an origin of its own."""
    common = {
        "admission": "fixed",
        "total_active_users": 2,
        "new_users_per_minute": 6000,
        "refresh": {"near": "250ms", "far": "1s", "farthest": "5s"},
        "always_queue": True,
    }
    rooms = [
        {"name": "sick", "match": [{"path": "/sick/"}], "origin": sick, **common},
        {"name": "well", "match": [{"path": "/well/"}], "origin": well, **common},
    ]
    return running(tmp_path, front, rooms=rooms)


def come(house: House, room: str, count: int) -> list[Visitor]:
    """Send visitors to a room's page, one after the other."""
    visitors = [Visitor(house) for _ in range(count)]
    for visitor in visitors:
        visitor.room = room
        visitor.get(f"/{room}/")
    return visitors


def called(visitors: list[Visitor]) -> list[int]:
    """Return who is called, by place."""
    return [place for place, visitor in enumerate(visitors, 1) if visitor.me()["state"] == "called"]


def test_an_origin_that_is_down_is_its_own_room_s_only(tmp_path: Path, origins: list[RecordingOrigin]) -> None:
    """P8: while one room's origin is down, another room calls, admits and serves in order, and ordinary pages come.

    Those of the room in front of it lose nothing: they see our page and keep the slot, and are in when it is back.
    """
    front, well = origins[:2]
    sick = RecordingOrigin(port=free_port())
    with two_rooms(tmp_path, front, url(sick), url(well)) as house:
        unlucky, lucky = come(house, "sick", 3), come(house, "well", 3)
        until(lambda: called(unlucky) == [1, 2])
        until(lambda: called(lucky) == [1, 2])
        answers = [visitor.get("/sick/") for visitor in unlucky[:2]]
        assert [answer.status_code for answer in answers] == [502, 502]
        assert [answer.headers["waitroom-state"] for answer in answers] == ["admitted", "admitted"]

        assert [visitor.get("/well/").text for visitor in lucky[:2]] == ["shop", "shop"]
        assert called(lucky) == []
        lucky[0].post("/.waitroom/well/leave")
        until(lambda: called(lucky) == [3])
        assert lucky[2].get("/well/").text == "shop"
        assert lucky[1].get("/").text == "shop"
        assert [seen.header("Waitroom-Number") for seen in well.seen] == ["1", "2", "3"]
        assert {line["origin"] for line in house.logged("origin-refused")} == {f"127.0.0.1:{sick.port}"}

        sick.start()
        try:
            until(lambda: unlucky[0].get("/sick/").text == "shop")
            assert unlucky[1].get("/sick/").text == "shop"
            assert [seen.header("Waitroom-Number") for seen in sick.seen][-2:] == ["1", "2"]
            assert unlucky[2].me()["state"] == "waiting"
        finally:
            sick.stop()


def test_an_origin_that_hangs_is_its_own_room_s_only(tmp_path: Path, origins: list[RecordingOrigin]) -> None:
    """P8: requests that hang in one room's origin hold up neither another room nor an ordinary page."""
    front, well, sick = origins[:3]
    sick.delay_s = 60.0
    hanging = 50
    with two_rooms(tmp_path, front, url(sick), url(well)) as house, ThreadPoolExecutor(hanging) as pool:
        (unlucky,), (lucky,) = come(house, "sick", 1), come(house, "well", 1)
        until(lambda: called([unlucky]) == [1])
        until(lambda: called([lucky]) == [1])
        cookie = f"waitroom_sick={unlucky.token()}"
        for _ in range(hanging):
            pool.submit(ask_in_vain, house, cookie)
        until(lambda: len(sick.seen) == hanging)

        began_s = time.monotonic()
        for _ in range(20):
            assert lucky.get("/well/").text == "shop"
            assert lucky.get("/").text == "shop"
            assert lucky.me()["state"] == "admitted"
        assert time.monotonic() - began_s < 50.0
        assert len(sick.seen) == hanging
        house.stop()  # ends those that hang


def ask_in_vain(house: House, cookie: str) -> None:
    """Open the page of the room whose origin hangs, until the proxy is stopped."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask(house, "any.example", "/sick/", Accept="text/html", Cookie=cookie)
