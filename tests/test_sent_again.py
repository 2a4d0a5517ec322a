"""A form of another site's page at a room's door, through a whole house, by a browser that these tests play.

What a real one makes of the page stands in ``tests/web/test_form_in_browser.py``.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes, urljoin

import httpx
import pytest
from house import DOCUMENT, RecordingOrigin, Visitor, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from house import House

PAY = "https://pay.example"
FROM_PAY = DOCUMENT | {"Origin": PAY, "Referer": f"{PAY}/", "Content-Type": "application/x-www-form-urlencoded"}
BODY = b"order=12&result=%C0%CE%C1%F5&order=13&empty=&plus=a+b%2Bc&binary=%81%FF%01&lines=a%0D%0Ab"


class Form(HTMLParser):
    """The form of a page: where it goes, what it has, and the trail that the page leaves."""

    def __init__(self, page: httpx.Response) -> None:
        super().__init__()
        self.fields: list[tuple[str, str]] = []
        self.action = self.trail = ""
        self.feed(page.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what matters of an element."""
        values = {name: value or "" for name, value in attrs}
        if tag == "input":
            assert values["type"] == "hidden"
            self.fields.append((values["name"], values["value"]))
        elif tag == "form":
            assert (values["method"], values["accept-charset"]) == ("post", "windows-1252")
            self.action = values["action"]
        elif tag == "main":
            self.trail = values["data-trail"]

    def body(self) -> bytes:
        """Return what a browser sends of it."""

        def escaped(text: str) -> str:
            data = b"".join(bytes([ord(c)]) if 0x80 <= ord(c) <= 0x9F else c.encode("cp1252") for c in text)
            return quote_from_bytes(data, safe="*-._ ").replace("~", "%7E").replace(" ", "+")

        return "&".join(f"{escaped(name)}={escaped(value)}" for name, value in self.fields).encode()


@pytest.fixture(scope="module")
def origin() -> Iterator[RecordingOrigin]:
    """One origin for the tests of this file."""
    recording = RecordingOrigin()
    recording.start()
    yield recording
    recording.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, origin: RecordingOrigin) -> Iterator[House]:
    """A room through whose line everyone passes."""
    room = {"always_queue": True, "total_active_users": 50}
    with running(tmp_path_factory.mktemp("again"), origin, room, limits={"body_idle_timeout": "1s"}) as started:
        yield started


def post(house: House, body: bytes, target: str = "/event/paid", **headers: str) -> httpx.Response:
    """Send another site's form as a browser that keeps our cookie to itself."""
    return httpx.post(f"{house.url}{target}", headers=FROM_PAY | headers, content=body, trust_env=False)


def again(visitor: Visitor, page: httpx.Response, **headers: str) -> httpx.Response:
    """Send the form of the page as the page does, from where it stands."""
    form, base = Form(page), str(visitor.base_url).rstrip("/")
    said = {
        "Origin": base,
        "Referer": urljoin(base, form.trail),
        "Sec-Fetch-Site": "same-origin",
        "Content-Type": "application/x-www-form-urlencoded",
        **headers,
    }
    return visitor.post(urljoin(str(page.url), form.action), headers=said, content=form.body())


def is_lost(page: httpx.Response) -> bool:
    """Whether the page says that the form cannot be sent again, and has none."""
    return "Your form was not sent on" in page.text and "<form" not in page.text


def test_the_page_takes_no_place_and_gives_no_cookie(house: House, origin: RecordingOrigin) -> None:
    """It is refused as before, to who reads no pages; nothing is stored, kept, or said to the shop."""
    origin.seen.clear()
    issued = httpx.get(f"{house.url}/.waitroom/launch/now", trust_env=False).json()["issued"]
    page = post(house, BODY)
    assert page.status_code == 429
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["waitroom-state"] == "none"
    assert page.headers["retry-after"]
    assert "set-cookie" not in page.headers
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    visitor = Visitor(house)
    visitor.event()
    assert visitor.me()["number"] == issued + 1
    assert origin.seen == []


def test_with_a_pass_the_form_arrives_as_it_was(house: House, origin: RecordingOrigin) -> None:
    """Byte for byte, at the same target; and from who sent it, with no cookie that did not come from there."""
    visitor = Visitor(house)
    until(lambda: visitor.event() and visitor.is_in())
    page = post(house, BODY, "/event/paid?a=%2F&b=<\">'", Cookie="sid=7")
    origin.seen.clear()
    visitor.cookies.set("sid", "7")
    visitor.cookies.set("lax", "8")
    assert again(visitor, page).text == "shop"
    (seen,) = origin.seen
    assert (seen.method, seen.body) == ("POST", BODY)
    assert seen.target == str(page.url.raw_path, "ascii")
    assert seen.header("Origin") == PAY
    assert seen.header("Referer") == f"{PAY}/"
    assert seen.header("Sec-Fetch-Site") == "cross-site"
    assert seen.header("Cookie") == "sid=7"
    assert seen.header("Waitroom-Number")
    visitor.post("/.waitroom/launch/leave")


def test_what_is_no_repeat_keeps_its_own_origin(house: House, origin: RecordingOrigin) -> None:
    """A form of the shop's own page goes on with every cookie, and from where it came."""
    visitor = Visitor(house)
    until(lambda: visitor.event() and visitor.is_in())
    origin.seen.clear()
    visitor.cookies.set("lax", "8")
    own = {"Origin": house.url, "Referer": f"{house.url}/event/cart?origin=x", "Sec-Fetch-Site": "same-origin"}
    visitor.post("/event/order", data={"a": "b"}, headers=own)
    (seen,) = origin.seen
    for name, value in own.items():
        assert seen.header(name) == value
    assert seen.header("Cookie") == "lax=8"
    visitor.post("/.waitroom/launch/leave")


def test_with_a_ticket_only_the_repeat_waits(tmp_path: Path, origin: RecordingOrigin) -> None:
    """It keeps its place, and its page leads to the shop and not to the address that the form was sent from."""
    with running(tmp_path, origin, {"always_queue": True, "total_active_users": 1, "claim_within": "60s"}) as house:
        first, second = Visitor(house), Visitor(house)
        until(lambda: first.event() and first.is_in())
        second.event()
        number = second.me()["number"]
        origin.seen.clear()
        page = again(second, post(house, BODY))
        assert page.headers["waitroom-state"] == "waiting"
        assert 'href="/event/paid"' in page.text
        assert "/form?" not in page.text
        assert second.me()["number"] == number
        assert origin.seen == []


def test_in_standby_the_repeat_walks_in(tmp_path: Path, origin: RecordingOrigin) -> None:
    """With a slot free it is let straight in like any other, and is even then the other site's."""
    with running(tmp_path, origin, {}) as house:
        page = post(house, BODY)
        assert page.status_code == 429
        origin.seen.clear()
        visitor = Visitor(house)
        visitor.cookies.set("lax", "8")
        assert again(visitor, page).text == "shop"
        (seen,) = origin.seen
        assert (seen.body, seen.header("Origin"), seen.header("Cookie")) == (BODY, PAY, None)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "null", "Referer": ""},
        {"Origin": "null", "Referer": "", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "", "Referer": "", "Sec-Fetch-Site": ""},
    ],
)
def test_a_repeat_that_looks_like_no_repeat_gets_an_answer(house: House, headers: dict[str, str]) -> None:
    """Where a browser hides where it comes from, the page comes once more or the visitor waits: both are an end."""
    visitor = Visitor(house)
    page = again(visitor, post(house, BODY), **headers)
    assert (page.status_code, page.headers["waitroom-state"]) in {(429, "none"), (200, "waiting")}


@pytest.mark.parametrize("chunked", [True, False])
def test_how_the_length_was_told_makes_no_difference(house: House, chunked: bool) -> None:
    """A form arrives by length or in chunks, and the connection goes on with the next request."""
    with httpx.Client(trust_env=False) as client:
        for _ in range(2):
            content: Any = iter([BODY[:10], BODY[10:]]) if chunked else BODY
            page = client.post(f"{house.url}/event/paid", headers=FROM_PAY, content=content)
            assert Form(page).body() == BODY


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": "text/plain"}, b"a=b\r\n"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--\r\n"),
        ({"Content-Type": "application/json"}, b"{}"),
        ({"Content-Type": "application/x-www-form-urlencoded; charset=euc-kr"}, b"a=b"),
        ({"Content-Encoding": "gzip"}, b"a=b"),
        ({}, b"a=" + b"b" * (64 * 1024 - 1)),
        ({}, b"a=" + b"b" * (1024 * 1024)),
        ({}, b"a&" * (32 * 1024)),
        ({}, b"&".join(b"a=%d" % number for number in range(1001))),
        ({}, b"a=%00"),
        ({}, b"a=%0A"),
        ({}, b"=a"),
        ({}, b"_charset_=utf-8"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_sent_again_is_said(
    house: House, origin: RecordingOrigin, headers: dict[str, str], body: bytes
) -> None:
    """Other encodings, larger bodies, fields that a page cannot carry: a page that says so, and a way on."""
    origin.seen.clear()
    page = post(house, body, **headers)
    assert page.status_code == 429
    assert is_lost(page)
    assert 'href="/event/paid"' in page.text
    assert "set-cookie" not in page.headers
    assert origin.seen == []


def test_a_form_of_64_kib_is_sent_again(house: House) -> None:
    """The limit itself still is."""
    body = b"a=" + b"b" * (64 * 1024 - 2)
    assert Form(post(house, body)).body() == body


HOSTILE = {
    "markup": b"a=%3C/script%3E%3Cscript%3Ealert(1)%3C/script%3E&%22%3E%3Cimg+src=x+onerror=alert(1)%3E=\"><b>'`",
    "lone surrogates": b"a=%ED%A0%80&%ED%BF%BF=%F0%9F",
    "bad escapes": b"a=%&b=%4&c=%zz&%=%%%&d=%u003c",
    "no equals sign": b"just some text, and no field at all",
    "names that scripts use": b"submit=1&action=//evil.example&id=x&dataset=1&form=2&__proto__=4&isindex=5",
    "only signs": b"&&&=&==&&=",
    "marks of templates": b"a={{fill.page_url}}{%25+raw+%25}%EE%80%80number%EE%80%81&b=%7B%7D",
    "control characters": bytes(byte for byte in range(1, 128) if byte not in b"\r\n&=%+"),
    "the most fields": b"&".join(b'"=%3c' for _ in range(1000)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_form_becomes_no_markup(house: House, what: str) -> None:
    """Whatever is in it, the page has one script, one form to this host, and inputs that mean what was sent."""
    plain, page = post(house, b"a=b"), post(house, HOSTILE[what])
    assert page.status_code == 429
    if is_lost(page):
        assert what == "only signs"
        return
    without = [re.sub(r"<input [^<>]*>", "", answer.text) for answer in (plain, page)]
    assert without[0] == without[1]
    form = Form(page)
    assert form.action == "/event/paid"
    assert len(form.fields) == page.text.count("<input ")


def test_a_hostile_sender_becomes_no_markup(house: House) -> None:
    """What the headers hold stands in the trail as an address of ours, and nowhere else."""
    page = post(house, b"a=b", Origin='https://"><script>', Referer="javascript:alert(1)", Cookie="\">=1; '<b>=2")
    form = Form(page)
    assert form.trail.startswith("/.waitroom/launch/form?")
    assert re.fullmatch(r"[\w/.?&=%~-]+", form.trail)
    assert page.text.count("<script>") == 1


@pytest.mark.parametrize("target", ["//evil.example/event/", "/event//evil", "/event/?x=javascript:alert(1)"])
def test_the_form_goes_to_this_host(house: House, target: str) -> None:
    """Wherever the form was sent, it is sent there again, and never to another host."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as sock:
        head = "\r\n".join([f"POST {target} HTTP/1.1", "Host: a", *map(": ".join, FROM_PAY.items())])
        sock.sendall(f"{head}\r\nContent-Length: 3\r\nConnection: close\r\n\r\na=b".encode())
        page = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    found = re.search(r'action="([^"]*)"', page)
    if found is None:
        assert "evil.example" in target, "only what is in no room"
    else:
        assert urljoin("http://a/", found[1]).startswith("http://a/")


def test_a_form_that_stops_coming_is_given_up(house: House) -> None:
    """All of it is due within ``body_idle_timeout``, however busily it trickles."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as sock:
        head = "\r\n".join(["POST /event/ HTTP/1.1", "Host: a", *map(": ".join, FROM_PAY.items())])
        sock.sendall(f"{head}\r\nContent-Length: 60000\r\n\r\n".encode())
        sock.settimeout(0.1)
        begun, answer = time.monotonic(), b""
        while not answer and time.monotonic() - begun < 20:
            with contextlib.suppress(TimeoutError):
                sock.send(b"a")
                answer = sock.recv(65536)
        assert answer.split()[1] in {b"408", b"503"}
