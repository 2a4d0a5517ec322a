"""What may cross the proxy in a header, what may not, and who is believed about what."""

from __future__ import annotations

import re
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waitroom.core import headers as policy
from waitroom.core.headers import (
    client_address,
    cookies,
    from_origin,
    is_crawler,
    is_document,
    is_prefetch,
    is_trusted,
    language,
    path_on,
    prefers_json,
    private_cache,
    same_site,
    shared_cache_may_keep,
    toward_origin,
)

OURS = frozenset({b"waitroom_launch", b"__Host-waitroom_launch", b"place", b"__Host-place"})
ROOM = (b"Waitroom-Room", b"launch")
PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


def sent(
    *headers: tuple[bytes, bytes],
    trusted: bool = False,
    peer: str = "192.0.2.7",
    host: bytes = b"shop.example",
    scheme: str = "http",
    **more: bool,
) -> list[tuple[bytes, bytes]]:
    """Return what the origin gets of these headers."""
    return toward_origin(
        headers, peer=peer, trusted=trusted, scheme=scheme, host=host, ours=[ROOM], cookie_names=OURS, **more
    )


def of_the_client(*headers: tuple[bytes, bytes], **more: bool) -> list[tuple[bytes, bytes]]:
    """Return what is left of these headers, without those that we add."""
    return sent(*headers, **more)[: -len(sent())]


def only(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Return the values of one header."""
    return [value for found, value in headers if found.lower() == name]


# --- Toward the origin


def test_everything_else_goes_on_as_it_was_sent() -> None:
    """Order, case and duplicates of a client's headers are nobody's to change."""
    headers = [
        (b"HOST", b"shop.example"),
        (b"accept", b"*/*"),
        (b"X-Thing", b"1"),
        (b"aCCept", b"text/html"),
        (b"X-Thing", b"2"),
        (b"Cookie", b"a=b;  c=d ;e"),
        (b"Authorization", b"Basic x"),
        (b"Content-Type", b"text/plain"),
        (b"", b"\xff"),
    ]

    assert of_the_client(*headers) == headers


def test_ours_come_last() -> None:
    """What we say about the visitor stands at the end, whatever the client sent."""
    assert sent((b"A", b"b"))[-1] == ROOM


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Authenticate",
        b"Proxy-Authorization",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"transfer_encoding",
        b"Upgrade",
        b"HTTP2-Settings",
        b"Content-Length",
        b"Content_Length",
        b"Expect",
        b"Proxy",
    ],
)
def test_headers_of_one_connection_end_here(name: bytes) -> None:
    """Framing and connection are ours to write toward the origin, under any alias of a name."""
    assert of_the_client((name, b"x")) == []


def test_headers_that_connection_names_are_dropped() -> None:
    """RFC 9110, 7.6.1: what ``Connection`` names concerns this connection only; all lines and aliases count."""
    headers = [(b"Connection", b"close, X-One"), (b"connection", b" x_two ,"), (b"X-One", b"1"), (b"X-Two", b"2")]

    assert of_the_client(*headers, (b"X-Three", b"3")) == [(b"X-Three", b"3")]


@pytest.mark.parametrize("name", sorted(policy.COMMON))
def test_a_header_known_at_one_look_goes_the_way_of_all_its_spellings(name: bytes) -> None:
    """The table of common names spares a comparison and decides nothing: every other spelling fares the same."""
    for spelling in (name, name.swapcase(), name.replace(b"-", b"_")):
        assert of_the_client((spelling, b"x")) == [(spelling, b"x")]
        assert from_origin([(spelling, b"x")], OURS) == policy.FromOrigin([(spelling, b"x")])
        named = [(b"Connection", spelling), (name, b"x")]
        assert bool(of_the_client(*named)) is (name.lower() in policy._NOT_FOR_CONNECTION)


def test_connection_names_nothing_that_the_request_was_judged_by() -> None:
    """A client cannot strip ours, the Host, its cookies, or a trusted proxy's word by naming them."""
    kept = [(b"Host", b"h"), (b"Cookie", b"a=b"), (b"Authorization", b"x"), (b"X-Forwarded-Proto", b"https")]
    named = b"host, cookie, authorization, waitroom-room, x-forwarded-for, x-forwarded-proto"

    result = sent((b"Connection", named), (b"X-Forwarded-For", b"198.51.100.1"), *kept, trusted=True, peer="10.0.0.1")

    assert result[:4] == kept
    assert ROOM in result
    assert only(result, b"x-forwarded-for") == [b"198.51.100.1, 10.0.0.1"]


@pytest.mark.parametrize(
    "name",
    [b"Waitroom-Room", b"waitroom_room", b"WAITROOM-NUMBER", b"Waitroom.Visitor", b"Waitroom-Ticket", b"Waitroom-"],
)
def test_nobody_outside_speaks_for_us(name: bytes) -> None:
    """No ``Waitroom-*`` from outside reaches the origin, also not one that CGI would spell the same."""
    assert of_the_client((name, b"forged")) == []


@pytest.mark.parametrize("name", [b"X-Original-URL", b"x_rewrite_url", b"SCRIPT_NAME", b"Path-Info"])
@pytest.mark.parametrize("trusted", [True, False])
def test_no_header_takes_the_origin_to_another_path(name: bytes, trusted: bool) -> None:
    """P6: the gate judged the request line, so nothing else may say which page is meant."""
    assert only(sent((name, b"/event/"), trusted=trusted), name.lower()) == []


def test_an_untrusted_peers_word_about_the_client_is_replaced() -> None:
    """What a stranger says about addresses and schemes is dropped, and ours stands in its place."""
    claims = [
        (b"X-Forwarded-For", b"1.1.1.1"),
        (b"X_Forwarded_For", b"1.1.1.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"evil.example"),
        (b"X-Forwarded-Port", b"1"),
        (b"X-Forwarded-Prefix", b"/event"),
        (b"Forwarded", b"for=1.1.1.1"),
        (b"X-Real-IP", b"1.1.1.1"),
    ]

    assert sent(*claims) == [
        (b"X-Forwarded-For", b"192.0.2.7"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Forwarded-Port", b"80"),
        (b"Forwarded", b'for="192.0.2.7";proto=http;host="shop.example"'),
        ROOM,
    ]


def test_a_trusted_proxys_word_is_kept_and_carried_on() -> None:
    """Its addresses get the proxy's own behind them; what else it says stays; an alias is the client's and goes."""
    said = [
        (b"X-Forwarded-For", b"198.51.100.1"),
        (b"x-forwarded-for", b"10.0.0.9"),
        (b"X_Forwarded_For", b"1.1.1.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X_Forwarded_Host", b"evil.example"),
        (b"Forwarded", b"for=198.51.100.1"),
        (b"X-Real-IP", b"198.51.100.1"),
    ]

    assert sent(*said, trusted=True, peer="10.0.0.1", scheme="https") == [
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Real-IP", b"198.51.100.1"),
        (b"X-Forwarded-For", b"198.51.100.1, 10.0.0.9, 10.0.0.1"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Forwarded-Port", b"443"),
        (b"Forwarded", b'for=198.51.100.1, for="10.0.0.1";proto=https;host="shop.example"'),
        ROOM,
    ]


def test_of_a_claim_said_twice_the_nearest_proxys_goes_on() -> None:
    """What we believe of a proxy is what the shop reads: a client's own line, left standing before it, stays behind."""
    said = [(b"X-Forwarded-Proto", b"https"), (b"A", b"1"), (b"x-forwarded-proto", b"http"), (b"X-Real-IP", b"9.9.9.9")]
    said += [
        (b"X-Forwarded-Host", b"evil.example"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Real-IP", b"192.0.2.1"),
    ]

    kept = toward_origin(said, peer="10.0.0.1", trusted=True, scheme="http", host=b"shop.example")

    assert kept == [
        (b"A", b"1"),
        (b"x-forwarded-proto", b"http"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Real-IP", b"192.0.2.1"),
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"X-Forwarded-Port", b"80"),
    ]


def test_our_word_about_odd_peers_and_hosts() -> None:
    """A port is told, IPv6 is bracketed where RFC 7239 wants it, a Host that would break out is left out."""
    plain = sent((b"Forwarded", b""), peer="2001:db8::1%eth0", host=b"shop.example:8080")
    odd = sent((b"Forwarded", b""), peer="socket", host=b'x";for=1.1.1.1')

    assert only(plain, b"x-forwarded-port") == [b"8080"]
    assert only(plain, b"x-forwarded-for") == [b"2001:db8::1"]
    assert only(plain, b"forwarded") == [b'for="[2001:db8::1]";proto=http;host="shop.example:8080"']
    assert only(odd, b"forwarded") == [b'for="socket";proto=http']


@pytest.mark.parametrize(
    ("name", "owned"),
    [
        (b"host", True),
        (b"connection", True),
        (b"cookie", True),
        (b"content-anything", True),
        (b"waitroom-anything", True),
        (b"x-forwarded-anything", True),
        (b"forwarded", True),
        (b"x-real-ip", True),
        (b"x-original-url", True),
        (b"authorization", True),
        (b"x-bypass-key", False),
        (b"hosting", False),
    ],
)
def test_headers_that_others_use_are_owned(name: bytes, owned: bool) -> None:
    """What HTTP, browsers, proxies or we read in a header is no secret of one client's, and not to be dropped."""
    assert policy.is_owned(name) is owned
    assert all(map(policy.is_owned, map(bytes.lower, policy.COMMON))), "what goes on at one look cannot be withheld"


def test_a_secret_of_ours_stays_here() -> None:
    """A header that lets its sender around a room is nothing for a shop's logs, in whatever spelling it comes."""
    sent = [(b"X-Bypass-Key", b"1"), (b"x_bypass_key", b"2"), (b"X-Bypass", b"3")]

    kept = toward_origin(
        sent, peer="192.0.2.7", trusted=False, scheme="http", host=b"h", withheld=frozenset({b"x-bypass-key"})
    )

    assert [value for name, value in kept if b"ypass" in name] == [b"3"]


def test_a_tunnel_keeps_its_upgrade() -> None:
    """An upgrade names its protocol and its connection, and nothing else of the connection comes along."""
    headers = [(b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Key", b"k")]

    result = sent(*headers, tunnel=True)

    assert result[:2] == headers[1:]
    assert only(result, b"connection") == [b"Upgrade"]


def test_expect_is_kept_where_the_wire_wants_it() -> None:
    """``Expect: 100-continue`` is passed on by choice."""
    assert of_the_client((b"Expect", b"100-continue"), expect=True) == [(b"Expect", b"100-continue")]


@pytest.mark.parametrize(
    ("cookie", "left"),
    [
        (b"waitroom_launch=t", None),
        (b"__Secure-waitroom_gone=t; a=1", b"a=1"),
        (b" __Host-waitroom_launch = t ;", b""),
        (b"a=b; waitroom_launch=t; c=d", b"a=b; c=d"),
        (b"waitroom_launch=t; a=b", b"a=b"),
        (b"a=b; waitroom_launch=t", b"a=b"),
        (b'a="x y";place=t;  c=d;__Host-place=u;e', b'a="x y";  c=d;e'),
        (b"waitroom_gone=t; waitroom_launch=t", None),
        (b"a=waitroom_launch=t", b"a=waitroom_launch=t"),
        (b"Xwaitroom_launch=t; =; ;", b"Xwaitroom_launch=t; =; ;"),
    ],
)
def test_our_cookies_never_reach_the_origin(cookie: bytes, left: bytes | None) -> None:
    """Ours are taken out, others stay byte for byte and in order, and an empty header goes."""
    assert of_the_client((b"Cookie", cookie)) == ([(b"Cookie", left)] if left else [])


# --- From the origin


def test_commands_are_for_us_and_the_rest_for_the_browser() -> None:
    """An origin's commands are found under any alias and kept from the browser, as is all else of ours."""
    page = [(b"Content-Type", b"text/html"), (b"Set-Cookie", b"a=b"), (b"set-cookie", b"xplace=1; Path=/")]
    answer = from_origin(
        [
            page[0],
            (b"Waitroom-Command", b"revoke"),
            (b"cf-waiting-room-command", b"revoke"),
            (b"WAITROOM_STOCK", b"7;v=2"),
            (b"Waitroom-State", b"admitted"),
            page[1],
            (b"Set-Cookie", b"waitroom_launch=forged; Path=/"),
            (b"Set_Cookie", b" place = forged"),
            (b"Set-Cookie", b"=__Host-place=forged"),
            page[2],
        ],
        OURS,
    )

    assert answer.headers == page
    assert answer.commands == (
        (b"waitroom-command", b"revoke"),
        (b"cf-waiting-room-command", b"revoke"),
        (b"waitroom-stock", b"7;v=2"),
    )


@pytest.mark.parametrize(
    ("said", "private"),
    [
        ([], b"private"),
        ([b"public, max-age=60"], b"private, max-age=60"),
        ([b"no-store"], b"private, no-store"),
        ([b"Private, No-Cache"], b"private, No-Cache"),
        ([b"s-maxage=60", b"max-age=5 , PUBLIC"], b"private, max-age=5"),
        ([b'private="Set-Cookie, X", no-cache="a,b"'], b'private, no-cache="a,b"'),
        ([b"proxy-revalidate, must-revalidate"], b"private, must-revalidate"),
        ([b'x="unclosed, public'], b'private, x="unclosed'),
    ],
)
def test_an_answer_is_made_private(said: list[bytes], private: bytes) -> None:
    """What permits a shared cache goes, what the browser is told stays, and ``private`` is said."""
    headers = [(b"A", b"b"), *[(b"Cache-control", value) for value in said], (b"ETag", b"x")]

    result = private_cache(headers)

    assert result == [(b"A", b"b"), (b"ETag", b"x"), (b"Cache-Control", private)]
    assert not shared_cache_may_keep(200, result)


@pytest.mark.parametrize(
    "name",
    [b"CDN-Cache-Control", b"Cloudflare-CDN-Cache-Control", b"Surrogate-Control", b"X-Accel-Expires", b"Edge-Control"],
)
def test_no_header_tells_a_cdn_otherwise(name: bytes) -> None:
    """Headers that caches obey instead of Cache-Control make an answer shared, and are dropped to make it private."""
    headers = [(b"Cache-Control", b"private"), (name, b"max-age=60")]

    assert shared_cache_may_keep(200, headers)
    assert private_cache(headers) == [(b"Cache-Control", b"private")]


@pytest.mark.parametrize(
    ("status", "headers", "may"),
    [
        (200, [], True),
        (404, [], True),
        (304, [], True),
        (302, [], False),
        (500, [], False),
        (302, [(b"Cache-Control", b"max-age=5")], True),
        (302, [(b"Cache-Control", b"public")], True),
        (500, [(b"Expires", b"0")], True),
        (200, [(b"Cache-Control", b"no-cache, max-age=0")], True),
        (200, [(b"Cache-Control", b"max-age=5"), (b"cache-control", b"x, private ")], False),
        (200, [(b"Cache-Control", b'private="Set-Cookie"')], True),
        (200, [(b"Cache-Control", b"no-store")], False),
        (200, [(b"Cache-Control", b"no-store, must-understand")], True),
        (200, [(b"Cache_Control", b"private")], True),
    ],
)
def test_a_shared_cache_is_taken_to_keep_what_it_may(
    status: int, headers: list[tuple[bytes, bytes]], may: bool
) -> None:
    """Only an answer that no shared cache may keep can carry a visitor's cookie; in doubt it may be kept."""
    assert shared_cache_may_keep(status, headers) is may


# --- Who asks


def test_all_values_of_our_cookies_are_found() -> None:
    """Duplicates come in order, from all Cookie lines, without quotes and cut at a length no token has."""
    headers = [
        (b"Cookie", b'; = ;place=one; x=y; place ; place="two"'),
        (b"X-Cookie", b"place=no"),
        (b"COOKIE", b"xplace=no; __Host-place= three=3 ; place=\xff; place=" + b"x" * 513),
        (b"cookie", b'place="'),
    ]

    long = "x" * policy.COOKIE_BYTES_MAX
    assert cookies(headers, OURS) == ["one", "", "two", "three=3", "\xff", long, '"']


def test_the_names_that_were_sent_are_told_as_often_as_they_were() -> None:
    """Over all lines and in order, so that of two of one name the older can be taken away."""
    lines = [(b"Cookie", b"place=1; a=2; __Host-place"), (b"COOKIE", b"place = 3;"), (b"X", b"place=4")]

    assert policy.cookies_sent(lines, OURS) == [b"place", b"__Host-place", b"place"]


def test_no_more_cookies_are_read_than_the_limit() -> None:
    """A thousand cookies of one name cost sixteen looks."""
    assert len(cookies([(b"Cookie", b"place=x;" * 1000)], OURS)) == policy.COOKIES_MAX


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        ("192.0.2.7", [b"1.1.1.1"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"1.1.1.1", b"198.51.100.1 , 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [b"198.51.100.1, junk, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [b"198.51.100.1,"], "10.0.0.1"),
        ("10.0.0.1", [b"999.1.1.1"], "10.0.0.1"),
        ("10.0.0.1", [b"010.1.1.1"], "10.0.0.1"),
        ("10.0.0.1", [b"\xff"], "10.0.0.1"),
        ("10.0.0.1", [b"1" * 100], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", [b"[2001:DB9::1]:4711"], "2001:db9::1"),
        ("10.0.0.1", [b"[fe80::1%eth0]"], "fe80::1"),
        ("10.0.0.1", [b"2001:db9::1%eth0"], "2001:db9::1"),
        ("10.0.0.1", [b"198.51.100.1%x"], "10.0.0.1"),
        ("10.0.0.1", [b"::ffff:198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("2001:db8::5", [b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"198.51.100.1" + b",10.0.0.2" * 20], "10.0.0.2"),
        ("10.0.0.1", [b"198.51.100.1" + b",10.0.0.2" * (policy.HOPS_MAX - 1)], "198.51.100.1"),
        ("10.0.0.1", [b"198.51.100.1" + b",10.0.0.2" * policy.HOPS_MAX], "10.0.0.2"),
        ("socket", [b"198.51.100.1"], "socket"),
    ],
)
def test_an_address_is_believed_as_far_as_proxies_are_trusted(peer: str, chain: list[bytes], client: str) -> None:
    """From the right, through trusted proxies only, to the first that is none; junk ends the walk."""
    headers = [(b"X-Forwarded-For", line) for line in chain]

    assert client_address(headers, peer, PROXIES) == (client, False)


def test_an_alias_is_never_believed() -> None:
    """A proxy sets its own header; ``X_Forwarded_For`` beside it came from the client."""
    headers = [(b"X_Forwarded_For", b"1.1.1.1"), (b"X_Forwarded_Proto", b"https")]

    assert client_address(headers, "10.0.0.1", PROXIES) == ("10.0.0.1", False)


@pytest.mark.parametrize(
    ("peer", "lines", "https"),
    [
        ("10.0.0.1", [b"https"], True),
        ("10.0.0.1", [b" HTTPS , http"], True),
        ("10.0.0.1", [b"https", b"http"], False),
        ("10.0.0.1", [b"httpsx"], False),
        ("10.0.0.1", [], False),
        ("192.0.2.7", [b"https"], False),
    ],
)
def test_https_is_a_trusted_proxys_word(peer: str, lines: list[bytes], https: bool) -> None:
    """Only a trusted peer can say that the client came by https."""
    assert client_address([(b"X-Forwarded-Proto", line) for line in lines], peer, PROXIES) == (peer, https)


# --- What is asked for

BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("method", "fields", "document"),
    [
        (b"GET", {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"}, True),
        (b"POST", {b"sec-fetch-mode": b"Navigate "}, True),
        (b"GET", {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"iframe"}, True),
        (b"GET", {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"embed", b"accept": BROWSER}, False),
        (b"GET", {b"sec-fetch-mode": b"cors", b"sec-fetch-dest": b"empty", b"accept": b"text/html"}, False),
        (b"GET", {b"sec-fetch-mode": b"no-cors", b"sec-fetch-dest": b"image", b"accept": BROWSER}, False),
        (b"PUT", {b"sec-fetch-mode": b"navigate"}, False),
        (b"GET", {b"accept": BROWSER}, True),
        (b"HEAD", {b"accept": b"application/xhtml+xml"}, True),
        (b"GET", {b"accept": b"TEXT/HTML ; level=1;q=0.7 , application/json;q=0.5"}, True),
        (b"GET", {b"accept": b"text/html, application/json"}, True),
        (b"GET", {b"accept": b"application/json, text/html"}, False),
        (b"GET", {b"accept": b"text/html;q=0.5, application/problem+json"}, False),
        (b"GET", {b"accept": b"text/html;q=0"}, False),
        (b"GET", {b"accept": b"text/html;q=x"}, False),
        (b"GET", {b"accept": b"*/*"}, False),
        (b"GET", {b"accept": b"image/webp,*/*"}, False),
        (b"GET", {b"accept": b""}, False),
        (b"GET", {}, False),
        (b"GET", {b"accept": b"a/b," * 64 + b"text/html"}, False),
        (b"GET", {b"accept": b"text/html, */*; q=0.01", b"x-requested-with": b"XMLHttpRequest"}, False),
        (b"GET", {b"accept": BROWSER, b"x-requested-with": b"com.example.app"}, True),
        (b"OPTIONS", {b"accept": BROWSER}, False),
    ],
)
def test_a_document_is_what_a_browser_shows_as_a_page(
    method: bytes, fields: dict[bytes, bytes], document: bool
) -> None:
    """Only a document request may become a place in line."""
    assert is_document(method, fields) is document


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        (b"application/json", True),
        (b"application/json, text/plain, */*", True),
        (b"application/json, text/html", True),
        (b"text/html, application/json", False),
        (b"text/html;q=0.9, application/vnd.api+json", True),
        (b"text/json+json", False),
        (BROWSER, False),
        (b"*/*", False),
        (b"application/json;q=0.000", False),
    ],
)
def test_json_is_preferred_where_it_is_named_before_html(accept: bytes, json: bool) -> None:
    """An API client gets JSON, a browser a page."""
    assert prefers_json({b"accept": accept}) is json
    assert not prefers_json({})


@pytest.mark.parametrize(
    ("fields", "ahead"),
    [
        ({b"sec-purpose": b"prefetch;prerender"}, True),
        ({b"purpose": b"Prefetch"}, True),
        ({b"x-purpose": b"preview"}, True),
        ({b"x-moz": b"prefetch"}, True),
        ({b"purpose": b""}, False),
        ({}, False),
    ],
)
def test_a_prefetch_says_so(fields: dict[bytes, bytes], ahead: bool) -> None:
    """Prefetch and prerender neither join nor claim."""
    assert is_prefetch(fields) is ahead


@pytest.mark.parametrize(
    ("agent", "crawler"),
    [
        (b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", True),
        (
            b"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0) Chrome/116.0 Safari/537.36",
            True,
        ),
        (b"Mozilla/5.0 (compatible; Yeti/1.1; +https://naver.me/spd)", True),
        (b"facebookexternalhit/1.1; kakaotalk-scrap/1.0; +https://devtalk.kakao.com/", True),
        (b"Mozilla/5.0 (compatible; Daum/4.1; +http://cs.daum.net/)", True),
        (b"Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) AppleWebKit/537.36 Chrome/92.0 Mobile Safari/537.36", False),
        (b"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile/15E148 KAKAOTALK 10.4.5", False),
        (
            b"Mozilla/5.0 (Linux; Android 13; SM-S918N) Mobile Safari/537.36 DaumApps/4.5 DaumDevice/mobile",
            False,
        ),
        (b"Mozilla/5.0 (Linux; Android 13) NAVER(inapp; search; 1000; 12.5.2)", False),
        (b"Mozilla/5.0 (iPhone) [FBAN/FBIOS;FBAV/430.0.0.29.107]", False),
        (b"curl/8.0", False),
        (b"", False),
    ],
)
def test_a_crawler_says_so(agent: bytes, crawler: bool) -> None:
    """Those that say it by name; no telephone and no app's own browser is taken for one."""
    assert is_crawler({b"user-agent": agent}) is crawler
    assert not is_crawler({})


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (b"", "ko"),
        (b"en-US,en;q=0.9", "en"),
        (b"ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7", "ko"),
        (b"fr, ja;q=0.3, en;q=0.2", "ja"),
        (b"fr-CA, de", "ko"),
        (b"EN", "en"),
        (b"en;q=0, ja;q=0.1", "ja"),
        (b"en;q=zero", "ko"),
        (b"*", "ko"),
        (b"pt-br", "pt-BR"),
        (b"pt", "ko"),
        (b"\xff\xfe, en", "en"),
        (b"x," * 200 + b"en", "ko"),
        (b"en-" * 80, "en"),
    ],
)
def test_a_visitor_is_spoken_to_in_the_language_asked_for(accepted: bytes, chosen: str) -> None:
    """The most wanted of those offered; a longer tag is content with a shorter one; else the first."""
    assert language({b"accept-language": accepted}, ("ko", "en", "ja", "pt-BR")) == chosen


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({b"sec-fetch-site": b"same-origin"}, True),
        ({b"sec-fetch-site": b"same-site"}, True),
        ({b"sec-fetch-site": b"none", b"origin": b"https://evil.example"}, True),
        ({b"sec-fetch-site": b"cross-site", b"origin": b"https://shop.example"}, False),
        ({b"sec-fetch-site": b"junk", b"origin": b"https://shop.example"}, True),
        ({b"origin": b"https://shop.example:8443"}, True),
        ({b"origin": b"https://shop.example.evil.example"}, False),
        ({b"origin": b"null", b"referer": b"https://shop.example/"}, False),
        ({b"referer": b"https://SHOP.example./x"}, True),
        ({b"referer": b"https://user:word@shop.example/x"}, True),
        ({b"referer": b"https://evil.example/shop.example"}, False),
        ({b"referer": b"https://shop.example@evil.example/"}, False),
        ({b"referer": b"https://evil.example\\@shop.example/"}, False),
        ({b"referer": b"about:blank"}, None),
        ({b"referer": b"https://:80/"}, None),
        ({}, None),
    ],
)
def test_the_same_site_is_told_by_the_first_that_says_it(fields: dict[bytes, bytes], same: bool | None) -> None:
    """Sec-Fetch-Site, else Origin, else Referer; nothing said is nothing known."""
    assert same_site(fields, "shop.example") is same


def test_a_host_in_brackets_is_a_host() -> None:
    """A shop reached by its address is the same site too."""
    assert same_site({b"origin": b"http://[::1]:8080"}, "[::1]")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (b"https://shop.example/event/x?a=b", b"/event/x?a=b"),
        (b"HTTP://SHOP.example", b"/"),
        (b"https://shop.example/x#y", b"/x"),
        (b"https://shop.example:8443/x", None),
        (b"https://shop.example.evil.example/", None),
        (b"https://shop.example@evil.example/", None),
        (b"https://evil.example/shop.example", None),
        (b"https://shop.example//evil.example/", None),
        (b"https://shop.example/\\evil.example/", None),
        (b"https://shop.example/a b", None),
        (b"https://shop.example/x\n", None),
        (b"javascript:alert(1)", None),
        (b"", None),
    ],
)
def test_a_way_back_stays_on_this_host(url: bytes, path: bytes | None) -> None:
    """A Referer is followed only to a path of the same host, and never to one that leads to another."""
    assert path_on(url, b"shop.example") == path


@pytest.mark.parametrize(
    ("peer", "trusted"), [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("192.0.2.7", False), ("socket", False)]
)
def test_who_is_trusted(peer: str, trusted: bool) -> None:
    """A trusted proxy is known by the address of the socket."""
    assert is_trusted(peer, PROXIES) is trusted


# --- Whatever comes

NAMES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            b"Connection",
            b"Cookie",
            b"Set-Cookie",
            b"Forwarded",
            b"X-Forwarded-For",
            b"X-Forwarded-Proto",
            b"Cache-Control",
            b"Waitroom-Room",
            b"waitroom_room",
            b"wAITROOM~x",
        ]
    ),
)
VALUES = st.one_of(st.binary(max_size=40), st.text('=;, "\\waitroom_launch10.:[]%', max_size=40).map(str.encode))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.text(max_size=12), st.booleans(), st.booleans())
def test_nothing_of_ours_survives_and_nothing_raises(
    headers: list[tuple[bytes, bytes]], text: str, trusted: bool, tunnel: bool
) -> None:
    """Any bytes at all: no ``Waitroom-*`` passes in either direction, and no function fails."""
    out = toward_origin(
        headers,
        peer=text,
        trusted=trusted,
        scheme=text,
        host=text.encode("utf-8", "replace"),
        cookie_names=OURS,
        tunnel=tunnel,
    )
    back = from_origin(headers, OURS).headers

    for name, value in [*out, *back]:
        assert not re.sub(rb"[^a-z0-9]", b"-", name.lower()).startswith(b"waitroom-")
        if name.lower() == b"cookie" and (name, value) in out:
            assert cookies([(name, value)], OURS) == []
    assert not shared_cache_may_keep(200, private_cache(headers))
    client_address(headers, "10.0.0.1", PROXIES)
    client_address(headers, text, PROXIES)
    fields = {name.lower().replace(b"_", b"-"): value for name, value in headers}
    values = [value for _, value in headers]
    for value in values:
        asked = {**fields, b"accept": value, b"origin": value, b"referer": value, b"sec-purpose": value}
        is_document(value, asked)
        is_document(b"GET", asked)
        prefers_json(asked)
        is_prefetch(asked)
        is_crawler({b"user-agent": value})
        same_site(asked, text)
        path_on(value, b"shop.example")
    is_trusted(text, PROXIES)
