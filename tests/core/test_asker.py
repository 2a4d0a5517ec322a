"""Bypasses that say who: by the client's address, and by a secret header."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from waitroom.core import headers as policy
from waitroom.core.asker import Asker
from waitroom.core.routing import Doubt, Route, Router, Why, readings
from waitroom.model import PathRule, Room, SecretHeader

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))
OFFICE = ip_network("192.0.2.0/24")
SECRET = SecretHeader("x-bypass-key", "open-sesame-open")


def asked(peer: str, *lines: bytes, ip: str | None = "192.0.2.0/24", header: SecretHeader | None = None) -> Why | None:
    """Return why a bypass does not hold for a request with these header lines."""
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    return Asker(headers, peer, PROXIES).against(None if ip is None else ip_network(ip), header)


@pytest.mark.parametrize(
    ("peer", "lines", "why"),
    [
        ("192.0.2.7", (), None),
        ("::ffff:192.0.2.7", (), None),
        ("192.0.2.7", (b"Accept: */*", b"Via: 1.1 squid"), None),
        ("192.0.3.7", (), Why.IP),
        ("2001:db8::7", (), Why.IP),
        ("socket", (), Why.IP),
        ("192.0.3.7", (b"X-Forwarded-For: 192.0.2.7",), Why.IP),
        ("10.0.0.1", (b"X-Forwarded-For: 192.0.2.7",), None),
        ("10.0.0.1", (b"X-Forwarded-For: 192.0.2.7", b"Forwarded: for=192.0.2.7", b"X-Real-IP: 192.0.2.7"), None),
        ("10.0.0.1", (b"X-Forwarded-For: 10.0.0.9, 192.0.2.7",), None),
        ("10.0.0.1", (b"X-Forwarded-For: 192.0.2.7, 10.0.0.2",), None),
        ("2001:db8:1::1", (b"X-Forwarded-For: 192.0.2.7",), None),
        ("10.0.0.1", (b"X-Forwarded-For: 192.0.2.7, 192.0.3.7",), Why.IP),
        ("10.0.0.1", (b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-For: 192.0.3.7"), Why.IP),
        ("10.0.0.1", (b"X_Forwarded_For: 192.0.2.7",), Why.IP),
        ("10.0.0.1", (b"Forwarded: for=192.0.2.7",), Why.IP),
        ("10.0.0.1", (b"X-Real-IP: 192.0.2.7",), Why.IP),
        ("10.0.0.1", (b"X-Forwarded-For: 192.0.2.7, unknown",), Why.IP),
    ],
)
def test_the_client_is_whom_trusted_proxies_name(peer: str, lines: tuple[bytes, ...], why: Why | None) -> None:
    """The address that ``client_address`` gives: a header of anybody else's moves nobody into the range."""
    assert asked(peer, *lines) is why


@pytest.mark.parametrize(
    "line",
    [
        b"X-Forwarded-For: 203.0.113.9",
        b"x-forwarded-for: 192.0.2.8",
        b"X_Forwarded_For: 203.0.113.9",
        b"X-Forwarded-For: ",
        b"X-Forwarded-Proto: https",
        b"Forwarded: for=203.0.113.9",
        b"X-Real-IP: 203.0.113.9",
        b"CF-Connecting-IP: 203.0.113.9",
    ],
)
def test_an_unlisted_proxy_lets_nobody_around(line: bytes) -> None:
    """A peer in the range that speaks for somebody else is a proxy: its people are not the operator's."""
    assert asked("192.0.2.7", line) is Why.FOR_ANOTHER


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ((), None),
        ((b"X-Forwarded-For: 10.1.2.3",), None),
        ((b"X-Forwarded-For: 10.1.2.3, 10.0.0.2",), None),
        ((b"X-Forwarded-For: unknown",), Why.FOR_ANOTHER),
        ((b"X-Forwarded-For: 203.0.113.9, _hidden, 10.0.0.2",), Why.FOR_ANOTHER),
        ((b"X-Forwarded-Proto: https",), Why.FOR_ANOTHER),
        ((b"Forwarded: for=203.0.113.9",), Why.FOR_ANOTHER),
        ((b"X-Forwarded-For: 10.0.0.1",), Why.FOR_ANOTHER),
        ((b"X-Forwarded-For: 10.1.2.3, 203.0.113.9",), Why.IP),
    ],
)
def test_a_trusted_proxy_that_names_nobody_lets_nobody_around(lines: tuple[bytes, ...], why: Why | None) -> None:
    """In a range that has the proxies themselves, a chain that breaks off on one of them says nothing of its end."""
    assert asked("10.0.0.1", *lines, ip="10.0.0.0/8") is why


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ((b"X-Bypass-Key: open-sesame-open",), None),
        ((b"x-bypass-KEY: open-sesame-open \t",), None),
        ((), Why.HEADER),
        ((b"X-Bypass-Key: open-sesame-opem",), Why.HEADER),
        ((b"X-Bypass-Key: open-sesame-open, open-sesame-open",), Why.HEADER),
        ((b"X-Bypass-Key: Open-Sesame-Open",), Why.HEADER),
        ((b"X-Bypass-Key: open",), Why.HEADER),
        ((b"X-Bypass-Key: ",), Why.HEADER),
        ((b"X-Bypass-Key: \xff\xfe",), Why.HEADER),
        ((b"X_Bypass_Key: open-sesame-open",), Why.HEADER),
        ((b"X-Bypass-Key: open-sesame-open", b"X-Bypass-Key: open-sesame-open"), Why.HEADER_TWICE),
        ((b"X-Bypass-Key: open-sesame-open", b"X_Bypass_Key: x"), Why.HEADER_TWICE),
    ],
)
def test_a_secret_is_shown_once_and_as_it_is(lines: tuple[bytes, ...], why: Why | None) -> None:
    """Letter by letter, in one header of the operator's own spelling."""
    assert asked("203.0.113.9", *lines, ip=None, header=SECRET) is why


def test_both_must_hold() -> None:
    """Address and secret are and-ed; without either nobody is asked for anything."""
    line = b"X-Bypass-Key: open-sesame-open"
    assert asked("192.0.2.7", line, header=SECRET) is None
    assert asked("192.0.3.7", line, header=SECRET) is Why.IP
    assert asked("192.0.2.7", header=SECRET) is Why.HEADER
    assert asked("socket", ip=None) is None


def test_a_secret_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """How far a guess is right does not show in the time it takes."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr("waitroom.core.asker.compare_digest", compare)
    assert asked("203.0.113.9", b"X-Bypass-Key: open-sesame-open", ip=None, header=SECRET) is Why.HEADER
    assert compared == [(b"open-sesame-open", b"open-sesame-open")]


def test_a_request_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rules ask for the address, the way back to it is walked once."""
    walked: list[str] = []
    walk = policy.client

    def counted(headers: list[tuple[bytes, bytes]], peer: str, trusted: tuple[()]) -> policy.Client:
        walked.append(peer)
        return walk(headers, peer, trusted)

    monkeypatch.setattr(policy, "client", counted)
    asker = Asker([], "192.0.2.7", ())
    assert [asker.against(ip_network(ip), None) for ip in ("192.0.3.0/24", "192.0.2.0/24")] == [Why.IP, None]
    assert walked == ["192.0.2.7"]


# --- In the rules of a room -------------------------------------------------------------------------------------------

RULES = (
    PathRule("/event/up", ip=OFFICE),
    PathRule("", method="POST", ip=ip_network("198.51.100.7"), header=SecretHeader("x-gateway", "1")),
    PathRule("", host="a.example", query=(("key", "x"),), header=SECRET),
)
ROUTER = Router([Room(name="launch", match=(PathRule("/event/"),), bypass=RULES)])
KEY = (b"X-Bypass-Key", b"open-sesame-open")
GATEWAY = (b"X-Gateway", b"1")
ODD = b"/event/" + rb"%2f;a\..%5c.//%u002f%c0%ae%00%3f%23" * 6


def route(target: bytes, method: str, peer: str, *headers: tuple[bytes, bytes], host: str = "a.example") -> Route:
    """Return where a request belongs."""
    return ROUTER.route(host, target, method, None, Asker(headers, peer, ()))


@pytest.mark.parametrize(
    ("target", "method", "peer", "headers", "rule"),
    [
        (b"/event/up", "GET", "192.0.2.7", (), "*/event/up from 192.0.2.0/24"),
        (b"/event/order", "POST", "198.51.100.7", (GATEWAY,), "POST * from 198.51.100.7/32 with x-gateway"),
        (b"/event/..%2fevent/x", "POST", "198.51.100.7", (GATEWAY,), "POST * from 198.51.100.7/32 with x-gateway"),
        (ODD, "POST", "198.51.100.7", (GATEWAY,), "POST * from 198.51.100.7/32 with x-gateway"),
        (b"/event/?key=x", "GET", "203.0.113.9", (KEY,), "a.example?key=x with x-bypass-key"),
    ],
)
def test_a_bypass_lets_around_whom_it_names(
    target: bytes, method: str, peer: str, headers: tuple[tuple[bytes, bytes], ...], rule: str
) -> None:
    """The rule is told without its secret, and that it would not hold for everybody."""
    found = route(target, method, peer, *headers)

    assert (found.bypassed, found.personal, found.rule) == (True, True, rule)
    assert "sesame" not in repr(found)


@pytest.mark.parametrize(
    ("target", "method", "peer", "headers"),
    [
        (b"/event/up", "GET", "192.0.3.7", ()),
        (b"/event/up/..%2f..%2fx", "GET", "192.0.2.7", ()),
        (b"/event/other", "GET", "192.0.2.7", ()),
        (b"/event/order", "GET", "198.51.100.7", (GATEWAY,)),
        (b"/event/order", "POST", "198.51.100.7", ()),
        (b"/event/order", "POST", "198.51.100.8", (GATEWAY,)),
        (b"/event/?key=y", "GET", "203.0.113.9", (KEY,)),
        (b"/event/?key=x&key=y", "GET", "203.0.113.9", (KEY,)),
        (b"/event/", "GET", "203.0.113.9", (KEY,)),
        (ODD + b"?key=x", "GET", "203.0.113.9", (KEY,)),
    ],
)
def test_all_keys_of_a_rule_must_hold(
    target: bytes, method: str, peer: str, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    """Path, query, method, address and header are and-ed, and a path still holds only by all its readings."""
    found = route(target, method, peer, *headers)

    assert found.room is not None
    assert not found.bypassed


def test_a_rule_without_a_path_is_of_its_room_alone() -> None:
    """It lets around what the room covers, on its own host; other pages have no room to be let around."""
    assert not route(b"/event/?key=x", "GET", "203.0.113.9", KEY, host="b.example").bypassed
    assert route(b"/other?key=x", "GET", "203.0.113.9", KEY).room is None


def test_for_nobody_no_such_bypass_holds() -> None:
    """Who does not say who asks is let around by nothing that wants to know."""
    assert ROUTER.asks_who
    assert not ROUTER.route("a.example", b"/event/?key=x", "GET").bypassed
    assert not ROUTER.route("a.example", b"/event/up", "GET").bypassed
    assert not Router([Room(name="launch", match=(PathRule("/event/"),), bypass=(PathRule("/event/x"),))]).asks_who


def test_a_route_says_that_a_proxy_was_in_question() -> None:
    """So that the operator hears of it; not where the address is none of the rule's, or another rule held."""
    claim = (b"X-Forwarded-For", b"203.0.113.9")
    assert route(b"/event/up", "GET", "192.0.2.7", claim).for_another
    assert not route(b"/event/up", "GET", "192.0.2.7", claim).bypassed
    assert not route(b"/event/up", "GET", "192.0.3.7", claim).for_another
    assert not route(b"/event/other", "GET", "192.0.2.7", claim).for_another
    held = route(b"/event/up?key=x", "GET", "192.0.2.7", claim, KEY)
    assert (held.bypassed, held.for_another) == (True, False)


def test_people_are_told_why_such_a_bypass_does_not_hold() -> None:
    """One reason a rule, and never the secret."""
    seen = readings(b"/event/up?key=x")
    claim = (b"X-Forwarded-For", b"203.0.113.9")

    doubts = ROUTER.doubts("launch", "a.example", "POST", seen, Asker([claim, GATEWAY], "192.0.2.7", ()))

    assert doubts == (
        Doubt("*/event/up from 192.0.2.0/24", Why.FOR_ANOTHER),
        Doubt("POST * from 198.51.100.7/32 with x-gateway", Why.IP),
        Doubt("a.example?key=x with x-bypass-key", Why.HEADER),
    )
