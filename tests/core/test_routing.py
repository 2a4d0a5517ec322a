"""Every way around a room that we could think of, and the ordinary pages that must stay ordinary.

The corpus names the tricks one by one, each with the kind of server that falls for it. The properties below it build
spellings nobody wrote down: a protected path, disguised by steps drawn at random, must still be the room's.
"""

from __future__ import annotations

from urllib.parse import quote_from_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from waitroom.core import routing
from waitroom.core.routing import ORDINARY, Doubt, OwnKind, OwnPath, Readings, Route, Router, Why, own_path, readings
from waitroom.model import PathRule, Room


def room(name: str = "launch", *rules: PathRule, bypass: tuple[PathRule, ...] = ()) -> Room:
    """Return a room; with no rules of its own it covers ``/event/``."""
    return Room(name=name, match=rules or (PathRule(path="/event/"),), bypass=bypass)


EVENT = Router([room()])

TRICKS = {
    "itself": b"/event/x",
    "an escape out of an overlong form in lower case": b"/%%c0V5vent/x",
    "an escape out of an overlong form in upper case": b"/%%c0a65vent/x",
    "itself without the slash": b"/event",
    "only the slash": b"/event/",
    "with a query": b"/event?x=1",
    "another case": b"/EVENT/x",
    "two slashes": b"//event/x",
    "two slashes inside": b"/event//x",
    "a dot": b"/./event/x",
    "dots": b"/a/../event/x",
    "dots above the root": b"/../../event/x",
    "dots at the end": b"/event/x/..",
    "escaped": b"/%65vent/x",
    "escaped twice": b"/%2565vent/x",
    "escaped seven times": b"/%25252525252565vent/x",
    "parameters": b"/event;x=1/x",
    "parameters at the end": b"/event;x=1",
    "escaped slash": b"/event%2fx",
    "escaped slash, upper case": b"/event%2Fx",
    "escaped slash twice": b"/event%252fx",
    "backslash": b"\\event\\x",
    "escaped backslash": b"/%5cevent%5cx",
    "NUL": b"/event%00/x",
    "NUL and more": b"/event%00.jpg",
    "NUL inside, dropped": b"/ev%00ent/",
    "escaped question mark": b"/event%3f",
    "escaped question mark and more": b"/event%3fx=1",
    "escaped hash": b"/event%23x",
    "raw hash": b"/event#x",
    "Tomcat's dots": b"/x/..;/event/",
    "Tomcat's dots with a parameter": b"/x/..;a=b/event/",
    "escaped dots that end inside": b"/event/%2e%2e/event/x",
    "escaped dots": b"/x/%2e%2e/event",
    "half escaped dots": b"/x/.%2e/event",
    "overlong dots": b"/%c0%ae%c0%ae/event",
    "overlong dots below": b"/x/%c0%ae%c0%ae/event",
    "overlong slash": b"/event%c0%afx",
    "overlong slash of three bytes": b"/event%e0%80%afx",
    "overlong slash, sloppy": b"/x%c0%2f..%c0%2fevent",
    "overlong backslash of IIS": b"/x%c1%1c..%c1%1cevent",
    "overlong letter": b"/%c1%a5vent",
    "overlong full-width letter": b"/%f0%8f%bd%85vent/",
    "overlong inside of overlong": b"/e%c1%c0%25a5b6ent/",
    "overlong inside of overlong, sloppy": b"/e%c1%c06ent/",
    "overlong inside of overlong, both sloppy": b"/e%c1%c0%f6ent/",
    "overlong, sloppy, with and without an escape": b"/\xc0%65\xc1%36ent/",
    "overlong around a tab": b"/e%c1%09%b6ent/",
    "overlong around nothing of width": b"/e%c1%e2%80%8b%b6ent/",
    "overlong, sloppy, around full width around a tab": b"/e\xc1\xef\xbc\xc0I\x96ent/",
    "overlong, sloppy, around a tab and a control": b"/eve%6\xc1\t\x05t/",
    "overlong around hidden digits": b"/eve\xc1%a\xc1\xe5t/",
    "%u": b"/x%u002f..%u002fevent/",
    "%u full width": b"/x%uff0f..%uff0fevent/",
    "full-width letter": b"/%EF%BD%85vent/",
    "full-width slash": b"/x/..%EF%BC%8Fevent/",
    "full-width percent": b"/%EF%BC%8565vent/",
    "full-width percent and combining accent": b"/eve%EF%BC%856e%CC%81t/",
    "%u in halves": b"/%ud835%udc1event/",
    "halves in UTF-8": b"/%ed%a0%b5%ed%b0%9event/",
    "division slash": b"/x/..%E2%88%95event/",
    "won sign": b"/x/..%E2%82%A9event/",
    "raw UTF-8": "/\uff45vent/".encode(),
    "accent": b"/%C3%A9vent/",
    "combining accent": b"/e%CC%81vent/",
    "broken UTF-8, dropped": b"/ev%ffent/",
    "zero width": b"/ev%E2%80%8Bent/",
    "newline": b"/ev%0aent/",
    "escaped slash kept, dots resolved": b"/a%2fb/%2e%2e/event/",
    "escaped slash kept, escaped backslash a separator": b"/a%2fb%5c..%5cevent/",
    "escaped backslash kept, escaped slash a separator": b"/a%5cb%2f..%2fevent/",
    "a host in front": b"//other.example/event/",
    "a host behind backslashes": b"/\\other.example/event/",
    "front controller": b"/index.php/event/",
    "ASP.NET session": b"/(S(abc))/event/",
    "ASP.NET tickets": b"/(S(abc)F(def))/event/",
    "space at the end": b"/event%20/x",
    "space at the start": b"/%20event/x",
    "dot at the end": b"/event./x",
    "stream": b"/event::$DATA",
    "index stream": b"/event:$i30:$INDEX_ALLOCATION/x",
    "no slash": b"event/x",
    "absolute": b"http://shop.example/event/x",
    "absolute, upper case": b"HTTPS://shop.example:443/event/x",
    "several": b"//a/%252e%252e%5C%45vent;v=1%2f/x",
}


@pytest.mark.parametrize("target", TRICKS.values(), ids=TRICKS.keys())
def test_every_spelling_of_a_protected_path_is_the_rooms(target: bytes) -> None:
    """P6: path spelled otherwise, zero origin hits."""
    route = EVENT.route("shop.example", target, "GET")

    assert route.room is not None
    assert route.rule.startswith("*/event/")
    assert not route.bypassed
    assert not EVENT.is_ordinary(target)


ORDINARY_TARGETS = [
    b"/",
    b"/events",
    b"/events/",
    b"/event-calendar",
    b"/event.html",
    b"/eventful/x",
    b"/product/event/",
    b"/product/event",
    b"/?next=/event/",
    b"/login?next=%2Fevent%2Fx",
    b"/img/%2Fa//b;c",
    b"/a/b/../c",
    b"/a;jsessionid=1/event",
    b"/product/list.html?cate_no=24&page=2",
    b"/product/%EC%83%81%ED%92%88%EB%AA%85/123/category/1/display/1/",
    b"/%C0%CC%BA%A5%C6%AE/x.jpg",
    b"/cdn-cgi/image/width=300,quality=75/https://shop.example/a%20b.jpg",
    b"/thumb/http%3A%2F%2Fhost.example%2Fa%2520b%2Ejpg;v=2",
    b"/https:%2F%2Fcdn.example%2Fa%3Fb%3Dc%26d;e/f%252Fg.jpg",
    b"/_next/image?url=%2Fevent%2Fx.png&w=64",
    b"/.well-known/acme-challenge/abc",
    b"/files/My%20Doc%20(1).pdf",
    b"/shop/item.php?it_id=3",
    b"/shop/item.php/extra",
    b"/100%25-cotton/",
    b"/a%",
    b"/%CE%B5vent/",
    b"/10%25DC%ED%95%A0%EC%9D%B8/",
    b"/%C1%C1%C0%BA%20%C0%DA%C0%FC%B0%C5/",
    b"/%C1%C1%2F%C0%CC%25/",
    b"*",
    b"",
    b"?event/",
]


@pytest.mark.parametrize("target", ORDINARY_TARGETS)
def test_ordinary_pages_stay_ordinary(target: bytes) -> None:
    """P7: requests that match no room are forwarded at once, however oddly a shop writes its URLs."""
    assert EVENT.route("shop.example", target, "GET") == ORDINARY
    assert readings(target).understood


# Each takes a path and returns another that some server reads as the same.
DISGUISES = {
    "escape": lambda path, at: path[:at] + b"%%%02x" % path[at] + path[at + 1 :],
    "escape upper": lambda path, at: path[:at] + b"%%%02X" % path[at] + path[at + 1 :],
    "escape all": lambda path, at: (
        quote_from_bytes(path, safe="/").encode() if at % 2 else b"/" + b"".join(b"%%%02x" % byte for byte in path[1:])
    ),
    "case": lambda path, at: path[:at] + path[at : at + 1].swapcase() + path[at + 1 :],
    "slashes": lambda path, _: path.replace(b"/", b"//"),
    "slash in front": lambda path, _: b"/" + path,
    "dot": lambda path, _: b"/." + path,
    "dots": lambda path, _: b"/zz/.." + path,
    "dots of Tomcat": lambda path, _: b"/zz/..;a=1" + path,
    "above": lambda path, _: b"/.." + path,
    "params": lambda path, _: path + b";a=b",
    "backslashes": lambda path, _: b"/" + path[1:].replace(b"/", b"\\"),
    "nul": lambda path, _: path + b"\0.jpg",
    "overlong": lambda path, at: (
        path[:at] + bytes([0xC0 | path[at] >> 6, 0x80 | path[at] & 63]) + path[at + 1 :] if path[at] < 128 else path
    ),
    "overlong, sloppy": lambda path, at: (
        path[:at] + bytes([0xC0 | path[at] >> 6, at % 2 * 0xC0 | path[at] & 63]) + path[at + 1 :]
        if path[at] < 128
        else path
    ),
    "overlong, longer": lambda path, at: (
        path[:at]
        + [b"\xe0", b"\xf0\x80", b"\xf8\x80\x80"][at % 3]
        + bytes([0x80 | path[at] >> 6, 0x80 | path[at] & 63])
        + path[at + 1 :]
        if path[at] < 128
        else path
    ),
    "overlong full width": lambda path, at: (
        path[:at] + b"\xf0\x8f" + chr(path[at] + 0xFEE0).encode()[1:] + path[at + 1 :]
        if 33 <= path[at] <= 126
        else path
    ),
    "tab": lambda path, at: path[:at] + b"\t" + path[at:],
    "wide": lambda path, at: path[:at] + b"%%u%04x" % path[at] + path[at + 1 :] if path[at] < 128 else path,
    "full width": lambda path, at: (
        path[:at] + chr(path[at] + 0xFEE0).encode() + path[at + 1 :] if 33 <= path[at] <= 126 else path
    ),
    "controller": lambda path, _: b"/index.php" + path,
}


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"/event", b"/event/", b"/event/x", b"/event/x/y.html"]),
    st.lists(st.tuples(st.sampled_from(sorted(DISGUISES)), st.integers(1, 40)), max_size=6),
)
@example(b"/event", [("overlong", 1), ("escape", 26), ("overlong", 2)])
@example(b"/event", [("overlong, sloppy", 3), ("wide", 28), ("overlong, sloppy", 6)])
@example(b"/event/", [("tab", 1), ("overlong, sloppy", 21), ("above", 1), ("overlong, sloppy", 5), ("tab", 4)])
@example(b"/event/x", [("escape", 1), ("overlong", 1), ("full width", 2), ("backslashes", 1), ("escape", 3)])
def test_no_sequence_of_disguises_leads_out_of_the_room(path: bytes, steps: list[tuple[str, int]]) -> None:
    """However spellings are laid over each other, the request is the room's; also when it is not understood."""
    for name, at in steps:
        path = DISGUISES[name](path, 1 + at % (len(path) - 1))

    assert EVENT.route("shop.example", path, "GET").room is not None, path
    assert not EVENT.is_ordinary(path), path


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from([*b"/.;\\%?#:( \0e", b"%2f", b"%00", b"%u002f", b"\xc0\xae", b"..", b"event", "\uff0f"]),
            max_size=60,
        ).map(
            lambda parts: (
                b"/"
                + b"".join(
                    bytes([part]) if isinstance(part, int) else part.encode() if isinstance(part, str) else part
                    for part in parts
                )
            )
        ),
    ),
    st.text(max_size=20),
    st.text(max_size=10),
)
def test_nothing_a_client_sends_raises(target: bytes, host: str, method: str) -> None:
    """Routing answers for any bytes at all, and lists no more readings than its limit."""
    rules = (PathRule(path="/event/", query=(("a", "1"),)), PathRule(path="/x", host="*.shop.example", method="POST"))
    seen = readings(target)

    router = Router([room("a", *rules, bypass=rules)])
    route = router.route(host, target, method)

    assert isinstance(route, Route)
    assert not router.is_ordinary(target) or (route == ORDINARY and own_path(target) is None)
    assert own_path(target) == own_path(target, seen)
    assert len(seen.paths) <= routing.READINGS_MAX
    assert all(path.startswith(b"/") for path in seen.paths)


@pytest.mark.parametrize(
    "target",
    [
        b"/" + b"%2f;a\\..%5c.//%u002f%c0%ae%00%3f%23" * 6,  # too many readings
        b"/" + b"%2f%5c/;" * 1000,  # too many bytes
        b"/" + b"\xcc\x81\xcc\xa3" * 1000,  # too much to normalise
        b"/" + b"\xc1%41" * 7,  # too many bytes that two decoders want
        b"/\xf0%c%30%80\x81\xa5",  # a character half escaped and half not
        b"/x%8\xc0\xf0",  # the same, and half of the escape in a character
    ],
)
def test_a_target_that_is_not_understood_is_protected(target: bytes) -> None:
    """What is not understood is the room's on that host, and no bypass lets it around."""
    bypass = (PathRule(path="/"),)
    router = Router([room("shop", PathRule(path="/event/", host="a.example"), bypass=bypass)])

    route = router.route("a.example", target, "GET")

    assert not readings(target).understood
    assert route.room is not None
    assert "not understood" in route.rule
    assert not route.bypassed
    assert router.route("b.example", target, "GET") == ORDINARY


@pytest.mark.parametrize("target", [b"/", b"/products/42?color=blue", b"/static/app-1.2.min.js", b"/the/event/"])
def test_a_usual_page_is_known_to_be_ordinary_at_one_look(target: bytes) -> None:
    """P7: what forwarding costs is decided here; a room for everything leaves nothing ordinary."""
    assert EVENT.is_ordinary(target)
    assert not Router([room("all", PathRule(path="/"))]).is_ordinary(target)


def test_a_plain_target_has_one_reading() -> None:
    """Nearly all requests are read once, as they stand."""
    assert readings(b"/product/list-1.html?a=1&b=2") == Readings((b"/product/list-1.html",), (b"a=1&b=2",))


def test_the_first_reading_is_the_path_as_it_stands() -> None:
    """What people are shown begins with what was sent."""
    assert readings(b"/a%2fb?x").paths[0] == b"/a%2fb"


def test_the_route_names_the_rule_and_the_reading() -> None:
    """An operator sees why: which rule, by which reading."""
    router = Router([room("two", PathRule(path="/eve/"), PathRule(path="/event/"))])

    route = router.route("shop.example", b"/eve/%2e%2e/event/x", "GET")
    other = router.route("shop.example", b"/a/%2e%2e/event/x", "GET")
    both = router.route("shop.example", b"/event/x/..%2f../events", "GET")

    assert (route.rule, route.reading) == ("*/eve/", b"/eve/%2e%2e/event/x")
    assert (other.rule, other.reading) == ("*/event/", b"/event/x")
    assert (both.rule, both.reading) == ("*/event/", b"/event/x/..%2f../events")


@pytest.mark.parametrize(
    ("target", "inside"),
    [
        (b"/event", True),
        (b"/Event", True),
        (b"/event/", True),
        (b"/event//", True),
        (b"/event/x", False),
        (b"/event/index.php", True),
        (b"/event;session/x", True),
        (b"/event?x=1", True),
        (b"/events", False),
        (b"/x/event", False),
    ],
)
def test_an_exact_rule_covers_itself_and_no_page_below(target: bytes, inside: bool) -> None:
    """A rule without a slash at the end is one page; servers that forgive a slash there serve the same page."""
    router = Router([room("exact", PathRule(path="/event"))])

    assert (router.route("h", target, "GET").room is not None) is inside


def test_a_script_is_covered_with_whatever_follows_it() -> None:
    """``/event.php/x`` runs ``/event.php`` on PHP, so a rule for the script covers it."""
    router = Router([room("exact", PathRule(path="/event.php"))])

    assert router.route("h", b"/event.php/x/y", "GET").room is not None
    assert router.route("h", b"/event.phpx", "GET").room is None


def test_a_rule_for_the_root_covers_everything() -> None:
    """``path: /`` is the whole site."""
    router = Router([room("all", PathRule(path="/"))])

    for target in (b"/", b"/x", b"/x//..%2f", b"*", b""):
        assert router.route("h", target, "GET").room is not None


@pytest.mark.parametrize(
    "target",
    [
        "/이벤트/x".encode(),
        b"/%EC%9D%B4%EB%B2%A4%ED%8A%B8/x",
        b"/%ec%9d%b4%eb%b2%a4%ed%8a%b8",
        b"/%25EC%259D%25B4%25EB%25B2%25A4%25ED%258A%25B8/",
        b"/" + "".join(f"%{byte:02X}" for byte in "이벤트".encode("cp949")).encode() + b"/x",
        b"/%E1%84%8B%E1%85%B5%E1%84%87%E1%85%A6%E1%86%AB%E1%84%90%E1%85%B3/x",
    ],
)
@pytest.mark.parametrize("written", ["/이벤트/", "/%EC%9D%B4%EB%B2%A4%ED%8A%B8/"])
def test_a_path_that_is_not_ascii_is_known_in_every_encoding(written: str, target: bytes) -> None:
    """UTF-8, its escapes, a legacy code page, decomposed jamo: the same page, however the rule was written."""
    router = Router([room("korean", PathRule(path=written))])

    assert router.route("h", target, "GET").room is not None


def test_a_rule_may_be_bytes_that_are_no_text() -> None:
    """A shop in a legacy code page writes its rule in escapes."""
    router = Router([room("legacy", PathRule(path="/%C0%CC%BA%A5%C6%AE/"))])

    assert router.route("h", b"/%C0%CC%BA%A5%C6%AE/x", "GET").room is not None


def test_upper_case_may_come_first() -> None:
    """A server that compares in upper case takes a dotless i for an i."""
    router = Router([room("limited", PathRule(path="/limited/"))])

    assert router.route("h", b"/l%C4%B1mited/", "GET").room is not None


@pytest.mark.parametrize(
    ("rule", "host", "inside"),
    [
        ("*", "anything", True),
        ("shop.example", "shop.example", True),
        ("shop.example", "SHOP.example.:8080", True),
        ("Shop.Example", "shop.example", True),
        ("shop.example", "a.shop.example", False),
        ("*.shop.example", "a.shop.example", True),
        ("*.shop.example", "a.b.shop.example.", True),
        ("*.shop.example", "shop.example", False),
        ("*.shop.example", "ashop.example", False),
        ("쇼핑.example", "xn--9v2bp8ay2l.example", False),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("::1", "[::1]:80", False),
        ("[::1]", "[::1]:80", True),
        ("a" * 70, "a" * 70, True),
    ],
)
def test_hosts(rule: str, host: str, inside: bool) -> None:
    """A rule's host is any, a name, or the names below one; case, port and a dot at the end do not matter."""
    router = Router([room("hosts", PathRule(path="/event/", host=rule))])

    assert (router.route(host, b"/event/", "GET").room is not None) is inside


QUERY = Router([room("item", PathRule(path="/item.php", query=(("it_id", "123"), ("v", "a b"))))])
V = b"&v=a+b"


@pytest.mark.parametrize(
    "query",
    [
        b"it_id=123",
        b"x=1&it_id=123",
        b"x=1;it_id=123",
        b"it_id=5&it_id=123",
        b"IT_ID=123",
        b"%69t_id=%31%32%33",
        b"%2569t_id=%2531%2532%2533",
        b"x=1%26it_id=123",
        b"it_id[]=123",
        b"it_id%5B0%5D=123",
        b"it.id=123",
        b"+it_id=+123+",
        b"it_id%00x=123%00x",
        b"it_id=0123",
        b"it_id=123abc",
        b"it_id=%2b123",
        b"it_id=123.0",
        b"it_id=1.23e2",
        b"it_id=0x7b",
        b"it_id=1_23",
        b"it_id=%EF%BC%91%EF%BC%92%EF%BC%93",
        b"it_id=%u0031%u0032%u0033",
        b"it_id=123#x",
        b"&".join(b"x%d=1" % number for number in range(routing.PAIRS_MAX + 1)),
        b"x=" + b"y" * 2 * routing.READING_BYTES_MAX,
    ],
)
def test_a_rule_with_a_query_knows_its_pairs_in_any_spelling(query: bytes) -> None:
    """Any reading of the query is enough, and one with too much in it is not understood and so the room's."""
    assert QUERY.route("h", b"/item.php?" + query + V, "GET").room is not None


@pytest.mark.parametrize(
    "target",
    [
        b"/item.php",
        b"/item.php?it_id=123",
        b"/item.php?it_id=124&v=a+b",
        b"/item.php?it_id=1234&v=a+b",
        b"/item.php?it_id=0x7c&v=a+b",
        b"/item.php?it_id=0xzz&v=a+b",
        b"/item.php?it_id=abc&v=a+b",
        b"/item.php?id=123&v=a+b",
        b"/item.php?it_id=123&v=a-b",
        b"/other.php?it_id=123&v=a+b",
    ],
)
def test_a_rule_with_a_query_leaves_other_pages_alone(target: bytes) -> None:
    """Every pair must be there, with its value."""
    assert QUERY.route("h", target, "GET") == ORDINARY


def test_an_escaped_question_mark_may_begin_the_query() -> None:
    """An origin that splits after decoding finds the pairs there."""
    assert QUERY.route("h", b"/item.php%3fit_id=123%26v=a+b", "GET").room is not None


BYPASS = Router(
    [
        room(
            bypass=(
                PathRule(path="/event/assets/"),
                PathRule(path="/event/한/"),
                PathRule(path="/event/pay/callback", method="POST"),
                PathRule(path="/event/ping", host="a.example", query=(("key", "s e"),)),
            )
        )
    ]
)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", b"/event/assets/"),
        ("GET", b"/event/assets/a%20b.png"),
        ("GET", b"/event/assets/a.js?v=../../event"),
        ("GET", b"/event/%ED%95%9C/x"),
        ("GET", b"/event/%ed%95%9c/x"),
        ("POST", b"/event/pay/callback?id=1"),
        ("GET", b"/event/ping?x=1&key=S e"),
    ],
)
def test_a_bypass_lets_around_what_it_names(method: str, target: bytes) -> None:
    """A bypass names its room and its own rule, so that the request can be counted."""
    route = BYPASS.route("a.example", target, method)

    assert route.bypassed
    assert route.room is not None
    assert "/event/" in route.rule


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", b"/event/assets/../x"),
        ("GET", b"/event/assets/..%2fx"),
        ("GET", b"/event/assets/%2e%2e/x"),
        ("GET", b"/event/assets/..;/x"),
        ("GET", b"/event/assets%00/x"),
        ("GET", b"/event/assets%252f..%252f..%252fevent"),
        ("GET", b"/event/Assets/x"),
        ("GET", b"/event/%61ssets/x"),
        ("GET", b"/event/x/../assets/x"),
        ("GET", b"/event/pay/callback"),
        ("post", b"/event/pay/callback"),
        ("POST", b"/event/pay/callback/"),
        ("POST", b"/event/pay/callback;x"),
        ("POST", b"/event/pay/callback/../../x"),
        ("GET", b"/event/ping"),
        ("GET", b"/event/ping?key=other"),
        ("GET", b"/event/ping?key=s e&key=other"),
        ("GET", b"/event/ping?" + b"&".join(b"x%d=1" % number for number in range(300)) + b"&key=s e"),
        ("GET", b"/event/assetsx"),
    ],
)
def test_a_bypass_holds_only_if_every_reading_agrees(method: str, target: bytes) -> None:
    """One reading that leads elsewhere, another method, a second value: the gate decides."""
    route = BYPASS.route("a.example", target, method)

    assert route.room is not None
    assert not route.bypassed


def test_a_bypass_speaks_about_its_own_host() -> None:
    """A bypass for one host lets nobody around on another."""
    assert not BYPASS.route("b.example", b"/event/ping?key=s e", "GET").bypassed


@pytest.mark.parametrize(
    ("host", "method", "target", "doubt"),
    [
        ("a.example", "GET", b"/event/assets/x", None),
        ("a.example", "GET", b"/event/assets/..%2fx", Doubt("*/event/assets/", Why.READING, b"/event/x")),
        ("a.example", "GET", b"/event/Assets/x", Doubt("*/event/assets/", Why.READING, b"/event/Assets/x")),
        ("a.example", "GET", b"/event/assets/%C3\xa9", Doubt("*/event/assets/", Why.NOT_UNDERSTOOD)),
        ("a.example", "GET", b"/event/pay/callback", Doubt("POST */event/pay/callback", Why.METHOD)),
        ("b.example", "GET", b"/event/ping?key=s e", Doubt("a.example/event/ping?key=s e", Why.HOST)),
        ("a.example", "GET", b"/event/ping?key=other", Doubt("a.example/event/ping?key=s e", Why.QUERY)),
    ],
)
def test_a_bypass_that_almost_holds_says_why_not(host: str, method: str, target: bytes, doubt: Doubt | None) -> None:
    """Only bypasses that name some reading of the target come into question, and only those of the room."""
    seen = readings(target)

    assert BYPASS.doubts("launch", host, method, seen) == (() if doubt is None else (doubt,))
    assert BYPASS.doubts("other", host, method, seen) == ()
    assert BYPASS.route(host, target, method, seen).bypassed is (doubt is None)


def test_every_reading_names_the_rooms_it_is_in() -> None:
    """By each reading, the first rule of every room that covers it, in the order of the configuration."""
    router = Router([room("vip", PathRule(path="/event/vip/")), room("event")])
    seen = readings(b"/event/vip/..%2fx")

    covering = router.covering("h", "GET", seen)

    assert [path for path, _ in covering] == list(seen.paths)
    rules = {path: [route.rule for route in routes] for path, routes in covering}
    assert rules[b"/event/vip/..%2fx"] == ["*/event/vip/", "*/event/"]
    assert rules[b"/event/x"] == ["*/event/"]
    assert router.covering("h", "GET", readings(b"/x")) == ((b"/x", ()),)


def test_the_first_room_in_the_configuration_has_the_request() -> None:
    """Where two rooms cover a page, the order of the configuration decides."""
    router = Router([room("first", PathRule(path="/event/vip/")), room("second"), room("third", PathRule(path="/"))])

    def name(target: bytes) -> str:
        found = router.route("h", target, "GET").room
        assert found is not None
        return found.name

    assert [name(target) for target in (b"/event/vip/x", b"/event/x", b"/x")] == ["first", "second", "third"]


def test_a_bypass_of_one_room_is_no_way_around_the_next() -> None:
    """Who is let around the first room is still judged by a later one that covers the page."""
    around = (PathRule(path="/event/"),)
    router = Router([room("all", PathRule(path="/"), bypass=around), room("event")])
    both = Router([room("all", PathRule(path="/"), bypass=around), room("event", bypass=around)])

    inside = router.route("h", b"/event/x", "GET")
    outside = both.route("h", b"/event/x", "GET")

    assert (inside.room and inside.room.name, inside.bypassed) == ("event", False)
    assert (outside.room and outside.room.name, outside.bypassed) == ("all", True)


def test_a_rule_may_be_for_one_method() -> None:
    """A rule with a method covers that method alone, in any case; HEAD asks what GET asks."""
    router = Router([room("m", PathRule(path="/event/", method="GET"))])

    assert [router.route("h", b"/event/", method).room is not None for method in ("GET", "get", "HEAD", "POST")] == [
        True,
        True,
        True,
        False,
    ]


def test_without_rooms_everything_is_ordinary() -> None:
    """No rooms, no gate."""
    assert Router([]).route("h", b"/event/%2e%2e/", "GET") == ORDINARY
    assert Router([]).route("h", b"/" + b"%2f%5c/;" * 1000, "GET") == ORDINARY


@pytest.mark.parametrize(
    ("target", "own"),
    [
        (b"/.waitroom/launch/now", OwnPath(OwnKind.NOW, "launch")),
        (b"/.waitroom/launch/me", OwnPath(OwnKind.ME, "launch")),
        (b"/.waitroom/launch/me?a=1&hidden=1", OwnPath(OwnKind.ME, "launch", hidden=True)),
        (b"/.waitroom/launch/me?hidden=10", OwnPath(OwnKind.ME, "launch")),
        (b"/.waitroom/launch/join", OwnPath(OwnKind.JOIN, "launch")),
        (b"/.waitroom/launch/claim", OwnPath(OwnKind.CLAIM, "launch")),
        (b"/.waitroom/launch/more", OwnPath(OwnKind.MORE, "launch")),
        (b"/.waitroom/launch/leave", OwnPath(OwnKind.LEAVE, "launch")),
        (b"/.waitroom/health/live", OwnPath(OwnKind.LIVE)),
        (b"/.waitroom/health/ready?x", OwnPath(OwnKind.READY)),
        (b"/.waitroom/assets/page.0af3.js", OwnPath(OwnKind.ASSET, "page.0af3.js")),
    ],
)
def test_paths_of_our_own(target: bytes, own: OwnPath) -> None:
    """The table of our own paths, with the mark of a hidden page."""
    assert own_path(target) == own


@pytest.mark.parametrize(
    "target",
    [
        b"/.waitroom",
        b"/.waitroom/",
        b"/.waitroom/launch",
        b"/.waitroom/launch/now/",
        b"/.waitroom/launch/other",
        b"/.waitroom/LAUNCH/now",
        b"/.Waitroom/launch/now",
        b"/.waitroom/assets/../x",
        b"/.waitroom/assets/.hidden",
        b"//.waitroom/launch/now",
        b"/%2ewaitroom/launch/now",
        b"/.waitroom%2flaunch%2fnow",
        b"/x/../.waitroom/launch/now",
        b"/%2ewaitroom/\xf0%c3x",
        b"http://shop.example/.waitroom/launch/now",
    ],
)
def test_nothing_under_our_own_paths_is_the_origins(target: bytes) -> None:
    """A spelling that is not plain, and a path that we do not know, are answered by us and never forwarded."""
    assert own_path(target) == OwnPath(OwnKind.UNKNOWN)
    assert not Router([]).is_ordinary(target)


@pytest.mark.parametrize(
    "target", [b"/", b"/waitroom/launch/now", b"/x/.waitroom/", b"/.waitrooms/", b"/x?/.waitroom/"]
)
def test_other_paths_are_not_ours(target: bytes) -> None:
    """Only what lies under ``/.waitroom/`` is ours."""
    assert own_path(target) is None


MANY = b"/a;b%2f%5c%252f..;c//d;e%2f./f%255c.." * 4


@pytest.mark.parametrize(
    "target",
    [
        MANY + b"/%2e%2e" * 40 + b"/%2ewaitroom/launch/now",
        MANY + b"/%2e%2577%61%69%74room/x",
        MANY + b"/.%u0077aitroom/x",
        MANY + b"/.%c1%b7aitroom/x",
        MANY + b"/.wait%00room/x",
        MANY + b"/.wait\xffroom/x",
        MANY + "/.\uff57\xe1itroom/x".encode(),
        MANY + b"/.\xc0%77aitroom/x",
        MANY + b"/.%\xc0w7aitroom/x",
        MANY + b"/.w%\xc0V1itroom/x",
        MANY + b"/%" + b"25" * 400 + b"77aitroom",
    ],
)
def test_what_may_be_ours_among_too_many_readings_is_never_the_origins(target: bytes) -> None:
    """Where no room covers it nobody else would keep it back: not understood, and our name may be in it."""
    assert not readings(target).understood
    assert own_path(target) == OwnPath(OwnKind.UNKNOWN)


def test_a_text_that_never_settles_may_be_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding has an end, and what is not plain by then is kept back."""
    monkeypatch.setattr(routing, "_ROUNDS_MAX", 1)
    assert own_path(MANY) == OwnPath(OwnKind.UNKNOWN)


@pytest.mark.parametrize("target", [MANY, b"/" + b"%2f%5c/;" * 1000, MANY + b"/%c0%cc%ba%a5%c6%ae", MANY + b"/100%"])
def test_an_odd_target_of_a_shop_that_is_not_understood_is_not_ours(target: bytes) -> None:
    """Only our name makes it ours; a shop without rooms keeps its odd paths."""
    assert not readings(target).understood
    assert own_path(target) is None
