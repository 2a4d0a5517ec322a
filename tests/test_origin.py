"""The origin's side: what the proxy signed is believed, for that request and that minute, and nothing else is."""

from __future__ import annotations

import io
import re
import string
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitroom.core.assertion import AssertionSigner, assertion_key
from waitroom.core.tokens import key_id
from waitroom.model import Pass
from waitroom.origin import (
    AGE_S_MAX,
    AHEAD_S_MAX,
    ASSERTION_BYTES_MAX,
    AsgiAssertionMiddleware,
    InvalidAssertion,
    Statement,
    WsgiAssertionMiddleware,
    verify_assertion,
)

DOCS = Path(__file__).parent.parent / "docs" / "ORIGIN.md"
SECRET, OTHER_SECRET = "k" * 32, "o" * 32
KEY, OTHER = assertion_key(SECRET), assertion_key(OTHER_SECRET)
PASS = Pass("launch", 1, 1234, "0123456789abcdef", 1_700_000_000_000, 1_700_000_300_000)
NOW = 1_700_000_123.5
HOST = "shop.example:8080"
TARGET = "/event/item%2F1?product_no=123"


def signed(method="GET", host=HOST, target=TARGET, *, secret=SECRET, at=NOW):
    """Return what the proxy would send along with a request."""
    made_ms = int(at * 1000)
    return AssertionSigner(secret).sign(PASS, method.encode(), host.encode(), target.encode(), made_ms).decode()


def reason(assertion, key=KEY, *, now=NOW, **request):
    """Return why an assertion proves nothing."""
    with pytest.raises(InvalidAssertion) as caught:
        verify_assertion(assertion, key, now=now, **request)
    assert caught.value.reason == str(caught.value)
    return caught.value.reason


# --- the lock -------------------------------------------------------------------------------------------------------


def test_what_was_signed_is_what_is_stated():
    """Held against its own request, an assertion states all that the proxy knows of the visitor and the request."""
    stated = verify_assertion(signed(), KEY, method="GET", host=HOST, target=TARGET, now=NOW)
    assert stated == Statement(
        room="launch",
        number=1234,
        visitor="0123456789abcdef",
        admitted_at_ms=1_700_000_000_000,
        made_at_ms=1_700_000_123_500,
        method="GET",
        host=HOST,
        target=TARGET,
    )


def test_without_a_request_it_still_states_what_it_knows():
    """Who asks for the visitor alone is told; the target is not in it, and so not made up."""
    stated = verify_assertion(signed(), KEY, now=NOW)
    assert (stated.number, stated.method, stated.host, stated.target) == (1234, "GET", HOST, None)


@given(
    number=st.integers(0, 2**53),
    at_ms=st.integers(0, 2**50),
    method=st.binary(max_size=12),
    host=st.binary(max_size=60),
    target=st.binary(max_size=200),
)
def test_any_request_comes_back(number, at_ms, method, host, target):
    """Whatever bytes a request has, its assertion is valid for it."""
    entry_pass = Pass("a-room-name-of-forty-characters-in-lengt", 1, number, "0123456789abcdef" * 2, at_ms, at_ms)
    text = AssertionSigner(SECRET).sign(entry_pass, method, host, target, at_ms)
    stated = verify_assertion(text, KEY, method=method, host=host, target=target, now=at_ms / 1000)
    assert (stated.room, stated.number, stated.visitor) == (entry_pass.room, number, entry_pass.visitor)
    assert (stated.admitted_at_ms, stated.made_at_ms) == (at_ms, at_ms)
    assert (stated.method, stated.host) == (method.decode("latin-1"), host.lower().decode("latin-1"))
    assert stated.target == target.decode("latin-1")


@given(position=st.integers(0, 400), letter=st.sampled_from(string.printable + "\x00é\u0661"))
def test_no_letter_of_it_can_be_altered(position, letter):
    """Another letter anywhere makes it invalid, and so does one more."""
    text = signed()
    position %= len(text)
    if text[position] != letter:
        assert reason(text[:position] + letter + text[position + 1 :]) in {"malformed", "unknown-key", "altered"}
    assert reason(text[:position] + letter + text[position:]) in {"malformed", "unknown-key", "altered"}


@given(cut=st.integers(1, 400))
def test_no_part_of_it_is_one(cut):
    """However much of its end or its beginning is missing, the rest is refused."""
    text = signed()
    cut = 1 + cut % (len(text) - 1)
    assert reason(text[:-cut]) == "malformed"
    assert reason(text[cut:]) == "malformed"


@given(text=st.text() | st.binary() | st.text("1;0a-%", max_size=300))
def test_any_text_is_judged(text):
    """Any text and any bytes at all are refused, and nothing else is raised."""
    assert reason(text) in {"missing", "malformed"}


@pytest.mark.parametrize("text", [None, "", b""])
def test_none_is_invalid_too(text):
    """A request without the header is answered like any other that proves nothing."""
    assert reason(text) == "missing"


def test_what_is_too_long_is_not_looked_at():
    """Longer text than any assertion is refused before anything is computed from it."""
    assert reason("1" * (ASSERTION_BYTES_MAX + 1)) == "oversized"
    assert reason("1" * ASSERTION_BYTES_MAX) == "malformed"


def test_a_minute_makes_it_worthless():
    """It holds for exactly as long as is said, and not from farther ahead than two clocks may disagree."""
    text = signed()
    for now in (NOW + AGE_S_MAX, NOW - AHEAD_S_MAX):
        verify_assertion(text, KEY, now=now)
    assert AGE_S_MAX == 60
    assert reason(text, now=NOW + AGE_S_MAX + 0.001) == "old"
    assert reason(text, now=NOW - AHEAD_S_MAX - 0.001) == "future"


def test_the_machines_clock_is_the_default():
    """Without ``now`` it is the time of day that judges."""
    verify_assertion(signed(at=time.time()), KEY)
    with pytest.raises(InvalidAssertion, match="old"):
        verify_assertion(signed(at=time.time() - 61), KEY)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"method": "POST"}, "other-method"),
        ({"method": "get"}, "other-method"),
        ({"host": "shop.example"}, "other-host"),
        ({"host": "other.example:8080"}, "other-host"),
        ({"target": "/event/item%2f1?product_no=123"}, "other-target"),
        ({"target": "/event/item/1?product_no=123"}, "other-target"),
        ({"target": "/event/item%2F1"}, "other-target"),
        ({"target": TARGET + "&"}, "other-target"),
        ({"target": ""}, "other-target"),
        ({"method": ""}, "other-method"),
        ({"host": ""}, "other-host"),
        ({"target": "/\ud800\u3042"}, "other-target"),
    ],
)
def test_it_is_good_for_its_own_request_only(request_, expected):
    """Another method, another host or another byte in the target: it was made for another request."""
    assert reason(signed(), **request_) == expected


def test_a_host_is_compared_without_its_case():
    """A name means the same in either case; whatever stands between us may have changed it."""
    verify_assertion(signed(host="Shop.EXAMPLE"), KEY, host="sHOP.example", now=NOW)
    verify_assertion(signed(host="Shop.EXAMPLE"), KEY, host=b"SHOP.example", now=NOW)


def test_a_good_signature_does_not_mend_a_bad_field():
    """Numbers with a zero before them, a visitor that is no id, a field too many: refused although we signed them."""
    odd = Pass("launch", 1, -5, "0123456789abcdef", 1, 1), Pass("la;unch", 1, 1, "0123456789abcdef", 1, 1)
    odd += (Pass("launch", 1, 1, "<script>", 1, 1), Pass("x" * 41, 1, 1, "0123456789abcdef", 1, 1))
    for entry_pass in odd:
        assert reason(AssertionSigner(SECRET).sign(entry_pass, b"GET", b"h", b"/", int(NOW * 1000))) == "malformed"


def test_while_keys_are_changed_both_open():
    """Of several keys, in any order, the one that signed is found by its name; a key that is gone opens nothing."""
    old, new = signed(), signed(secret=OTHER_SECRET)
    for keys in ([KEY, OTHER], (OTHER, KEY), [f" {KEY}\n", OTHER]):
        assert verify_assertion(old, keys, now=NOW).number == verify_assertion(new, keys, now=NOW).number == 1234
    assert reason(old, OTHER) == "unknown-key"
    assert reason(old, OTHER.replace(key_id(OTHER_SECRET), key_id(SECRET))) == "altered"


@pytest.mark.parametrize("key", ["", [], "x", SECRET, KEY[:-1], KEY.upper(), f"{key_id(SECRET)}.", [""], KEY * 2])
def test_what_is_no_key_opens_nothing(key):
    """The signing key itself, an empty or a cut one: whatever was signed with such a thing is refused."""
    assert reason(signed(), key) == "unknown-key"


def test_the_worked_example_of_the_documentation_is_true():
    """What docs/ORIGIN.md shows to those who verify in other languages is what the proxy signs."""
    text = DOCS.read_text(encoding="utf-8")

    def shown(name):
        return re.search(rf"^\| {name} \| `([^`]+)` \|$", text, re.MULTILINE)[1]

    secret, key, assertion = shown("signing key"), shown("key"), shown("assertion")
    request = {name: shown(name) for name in ("method", "host", "target")}
    assert assertion_key(secret) == key
    stated = verify_assertion(assertion, key, **request, now=int(assertion.split(";")[6]) / 1000)
    entry_pass = Pass(stated.room, 1, stated.number, stated.visitor, stated.admitted_at_ms, 0)
    encoded = [value.encode() for value in request.values()]
    assert AssertionSigner(secret).sign(entry_pass, *encoded, stated.made_at_ms).decode() == assertion


# --- the door, in ASGI ----------------------------------------------------------------------------------------------


class App:
    """An ASGI application that remembers what it was asked, and answers 200 to it."""

    def __init__(self):
        self.scopes = []

    async def __call__(self, scope, receive, send):
        """Answer."""
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"shop"})

    @property
    def stated(self):
        """What the last request was known to be."""
        return self.scopes[-1]["state"]["waitroom"]

    def told(self):
        """The last request's headers that name us."""
        return {name: value for name, value in self.scopes[-1]["headers"] if b"room" in name.lower()}


def scope(assertion=None, *, target=TARGET, host=HOST, method="GET", headers=(), **more):
    """Return a request's scope as uvicorn makes it."""
    path, _, query = target.partition("?")
    fields = [(b"host", host.encode()), (b"accept", b"*/*"), *headers]
    if assertion is not None:
        fields.append((b"waitroom-assertion", assertion.encode()))
    return {
        "type": "http",
        "method": method,
        "path": re.sub("%2[fF]", "/", path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": fields,
        **more,
    }


async def asked(app, request):
    """Return the messages with which an application answers."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError("a request is judged by its head")

    await app(request, receive, send)
    return sent


async def status(app, request):
    """Return the status with which an application answers."""
    return (await asked(app, request))[0]["status"]


def fresh(**request):
    """Return an assertion made this instant."""
    return signed(at=time.time(), **request)


async def test_who_came_through_the_waiting_room_is_let_in_and_known():
    """A valid assertion opens, and the application finds the statement in the request's state."""
    app = App()
    assert await status(AsgiAssertionMiddleware(app, KEY), scope(fresh(), state={"pool": 1})) == 200
    assert (app.stated.number, app.stated.target) == (1234, TARGET)
    assert app.scopes[-1]["state"]["pool"] == 1, "what the application keeps there is lost"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (scope, "missing"),
        (lambda: scope(""), "missing"),
        (lambda: scope("1;2"), "malformed"),
        (lambda: scope(fresh(method="POST")), "other-method"),
        (lambda: scope(fresh(host="h")), "other-host"),
        (lambda: scope(fresh(target="/event/")), "other-target"),
        (lambda: scope(fresh(secret=OTHER_SECRET)), "unknown-key"),
        (lambda: scope(signed(at=time.time() - 100)), "old"),
        (lambda: scope(fresh(), headers=[(b"waitroom-assertion", b"x")]), "duplicate"),
        (lambda: scope(fresh(), headers=[(b"Waitroom_Assertion", b"x")]), "duplicate"),
        (lambda: scope(fresh(), headers=[(b"host", b"h")]), "other-host"),
    ],
)
async def test_whoever_went_around_it_gets_403(request_, expected):
    """Without one valid assertion for exactly this request the application is not asked, and the answer says why."""
    app = App()
    start, body = await asked(AsgiAssertionMiddleware(app, KEY), request_())
    headers = dict(start["headers"])
    assert (start["status"], app.scopes) == (403, [])
    assert body["body"].decode() == f"This is reached through the waiting room only ({expected}).\n"
    assert headers[b"content-length"] == str(len(body["body"])).encode()
    assert headers[b"cache-control"] == b"no-store"


async def test_a_host_is_needed():
    """A request without a Host is not the one that was asserted."""
    app = App()
    request = scope(fresh())
    request["headers"] = [field for field in request["headers"] if field[0] != b"host"]
    assert await status(AsgiAssertionMiddleware(app, KEY), request) == 403


@pytest.mark.parametrize("keys", [[KEY, OTHER], [OTHER, KEY]])
async def test_the_door_takes_several_keys(keys):
    """Both keys open while they are being changed."""
    app = AsgiAssertionMiddleware(App(), keys)
    assert await status(app, scope(fresh())) == 200
    assert await status(app, scope(fresh(secret=OTHER_SECRET))) == 200


@pytest.mark.parametrize("key", ["", [], SECRET, [KEY, "x"], KEY + "0"])
def test_a_door_without_a_key_is_not_built(key):
    """A missing or mistaken key shows at the start, not with the first visitor."""
    for middleware in (AsgiAssertionMiddleware, WsgiAssertionMiddleware):
        with pytest.raises(ValueError, match="waitroom keys assertion"):
            middleware(App(), key)


@pytest.mark.parametrize("protect", [[], ["event/"], [""]])
def test_a_door_that_stands_nowhere_is_not_built(protect):
    """No path, or one that no request has, is a mistake."""
    with pytest.raises(ValueError, match="begin with /"):
        AsgiAssertionMiddleware(App(), KEY, protect=protect)


SPELLINGS = [
    "/event/",
    "/event",
    "/event/x",
    "/Event/x",
    "//event/x",
    "/x/../event/x",
    "/./event",
    "/%65vent/x",
    "/%2565vent/x",
    "/event%2Fx",
    "/event;v=1/x",
    "/x;/..;y/event/x",
    "\\event\\x",
    "/x\\..\\event/x",
    "/%" + "25" * 9 + "65vent/",
    "/order",
    "/order/",
    "/ORDER",
    "*",
]


@pytest.mark.parametrize("path", SPELLINGS)
async def test_however_a_protected_path_is_spelled_it_is_protected(path):
    """What an application might take for a protected path is one; the server's decoding may not be the last."""
    app = App()
    guarded = AsgiAssertionMiddleware(app, KEY, protect=["/event/", "/order"])
    assert await status(guarded, scope(target="/x") | {"path": path}) == 403
    assert await status(guarded, scope(target="/x") | {"path": f"/shop{path}", "root_path": "/shop"}) == 403
    assert not app.scopes


@pytest.mark.parametrize("path", ["/", "/events", "/eventually/", "/order/1", "/shop/event", "/x%2Fy;z//", "/%25/"])
async def test_what_is_not_protected_goes_on(path):
    """Ordinary pages need no assertion, and are told of none."""
    app = App()
    guarded = AsgiAssertionMiddleware(app, KEY, protect=["/event/", "/order"])
    spoofed = [(b"waitroom-number", b"1")]
    assert await status(guarded, scope("nonsense", target="/x", headers=spoofed) | {"path": path}) == 200
    assert app.stated is None
    assert app.told() == {}


async def test_one_path_may_be_written_without_a_list():
    """``protect="/event/"`` means that path, and not its letters; escapes in it are read."""
    for protect in ("/event/", "/%65vent/", "/EVENT/"):
        guarded = AsgiAssertionMiddleware(App(), KEY, protect=protect)
        assert await status(guarded, scope(target="/event/x")) == 403
        assert await status(guarded, scope(target="/")) == 200


async def test_only_true_headers_reach_the_application():
    """What names us is written anew from the statement, whatever the request said, in any spelling CGI would take."""
    app = App()
    spoofed = [
        (b"Waitroom-Number", b"1"),
        (b"waitroom_visitor", b"forged"),
        (b"WAITROOM-ROOM", b"other"),
        (b"waitroom.admitted.at", b"0"),
        (b"waitroom-pass", b"p.1"),
        (b"waitroom\xe9x", b"y"),
        (b"x-room", b"kept"),
    ]
    assert await status(AsgiAssertionMiddleware(app, KEY), scope(fresh(), headers=spoofed)) == 200
    assert app.told() == {
        b"x-room": b"kept",
        b"waitroom-room": b"launch",
        b"waitroom-number": b"1234",
        b"waitroom-visitor": b"0123456789abcdef",
        b"waitroom-admitted-at": b"1700000000000",
    }


async def test_an_unprotected_request_with_a_good_assertion_is_known():
    """Ordinary pages can greet the visitor, too."""
    app = App()
    await asked(AsgiAssertionMiddleware(app, KEY, protect="/order"), scope(fresh()))
    assert app.stated.number == 1234


async def test_requests_share_no_state():
    """Even if a server gave all requests one state, no visitor would be taken for another."""
    app, shared = App(), {}
    guarded = AsgiAssertionMiddleware(app, KEY, protect="/order")
    await asked(guarded, scope(fresh(), state=shared))
    await asked(guarded, scope(state=shared))
    assert [one["state"]["waitroom"] is None for one in app.scopes] == [False, True]
    assert shared == {}


@pytest.mark.parametrize("asserted", ["/event/", "/event/?"])
async def test_a_lone_question_mark_makes_no_difference(asserted):
    """ASGI does not tell ``/event/?`` from ``/event/``, so neither can the application, nor need we."""
    assert await status(AsgiAssertionMiddleware(App(), KEY), scope(fresh(target=asserted), target="/event/")) == 200


async def test_the_servers_own_prefix_is_no_part_of_the_target():
    """With uvicorn's ``--root-path`` a prefix stands in ``raw_path`` that nobody sent; said so, it is taken away."""
    request = scope(fresh(), root_path="/shop")
    request |= {"path": f"/shop{request['path']}", "raw_path": b"/shop" + request["raw_path"]}
    assert await status(AsgiAssertionMiddleware(App(), KEY, root_path="/shop"), request) == 200
    assert await status(AsgiAssertionMiddleware(App(), KEY), request) == 403


async def test_without_a_raw_path_the_usual_spelling_is_tried():
    """A server need not give ``raw_path``: then what clients usually write for the path is held against."""
    for target, expected in (("/event/%EA%B0%80%20b?x", 200), ("/event/(1);a=b,c@d", 200), ("/event/%2561", 403)):
        request = scope(fresh(target=target), target=target)
        request |= {"path": target.partition("?")[0].replace("%EA%B0%80%20", "가 ").replace("%25", "%")}
        request["path"] = request["path"].replace("%61", "a")
        del request["raw_path"]
        assert await status(AsgiAssertionMiddleware(App(), KEY), request) == expected, target


async def test_a_websocket_is_judged_by_its_handshake():
    """Its request is a GET; refused, it is closed before it is accepted, which servers answer with 403."""
    app = App()
    guarded = AsgiAssertionMiddleware(app, KEY)
    request = scope(fresh()) | {"type": "websocket", "subprotocols": []}
    del request["method"]
    await asked(guarded, request)
    assert app.stated.number == 1234
    assert await asked(guarded, request | {"raw_path": b"/other"}) == [{"type": "websocket.close"}]
    start, body = await asked(guarded, request | {"raw_path": b"/other", "extensions": {"websocket.http.response": {}}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert (body["type"], b"other-target" in body["body"]) == ("websocket.http.response.body", True)
    assert len(app.scopes) == 1


async def test_the_lifespan_passes_and_the_unknown_does_not():
    """Start and stop are no requests; what this file does not know it cannot judge, and does not let through."""
    app = App()
    await asked(AsgiAssertionMiddleware(app, KEY), {"type": "lifespan"})
    assert app.scopes == [{"type": "lifespan"}]
    with pytest.raises(ValueError, match="webtransport"):
        await asked(AsgiAssertionMiddleware(app, KEY), {"type": "webtransport"})


async def test_a_refusal_is_logged_by_its_reason(caplog):
    """The log says why, in one word, and never shows the assertion."""
    with caplog.at_level("INFO", logger="waitroom.origin"):
        await asked(AsgiAssertionMiddleware(App(), KEY), scope(fresh(method="POST")))
    assert [(record.reason, record.getMessage()) for record in caplog.records] == [
        ("other-method", "refused: other-method")
    ]


# --- the door, in WSGI ----------------------------------------------------------------------------------------------


class WsgiApp:
    """A WSGI application that remembers what it was asked."""

    def __init__(self):
        self.environs = []

    def __call__(self, environ, start_response):
        """Answer."""
        self.environs.append(environ)
        start_response("200 OK", [])
        return [b"shop"]


def environ(assertion=None, *, target=TARGET, uri="REQUEST_URI", method="GET", **more):
    """Return a request's environment as a server makes it that tells the target as ``uri``."""
    path, _, query = target.partition("?")
    made = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": re.sub("%2[fF]", "/", path),
        "QUERY_STRING": query,
        "HTTP_HOST": HOST,
        "wsgi.input": io.BytesIO(),
        **({uri: target} if uri else {}),
        **more,
    }
    return made if assertion is None else made | {"HTTP_WAITROOM_ASSERTION": assertion}


def called(app, request):
    """Return status, headers and body of an answer."""
    answers = []
    body = b"".join(app(request, lambda status, headers: answers.append((status, dict(headers)))))
    return (*answers[0], body)


@pytest.mark.parametrize("uri", ["REQUEST_URI", "RAW_URI"])
def test_a_wsgi_server_tells_the_target(uri):
    """The target as it was sent is found under either name, escapes and all, and exactly that is held against."""
    app = WsgiApp()
    guarded = WsgiAssertionMiddleware(app, KEY)
    assert called(guarded, environ(fresh(), uri=uri))[0] == "200 OK"
    assert app.environs[-1]["waitroom.statement"].target == TARGET
    assert called(guarded, environ(fresh(), uri=uri, target="/event/item%2f1?product_no=123"))[0] == "403 Forbidden"
    assert called(guarded, environ(fresh(target="/event/?"), uri=uri, target="/event/"))[0] == "403 Forbidden"


@pytest.mark.parametrize(
    ("asserted", "path", "query", "expected"),
    [
        ("/event/", "/event/", "", "200 OK"),
        ("/event/?", "/event/", "", "200 OK"),
        ("/event/?x=%2f&y", "/event/", "x=%2f&y", "200 OK"),
        ("/event/%EA%B0%80%20b", "/event/\xea\xb0\x80 b", "", "200 OK"),
        ("/", "", "", "200 OK"),
        ("/event/a%2Fb", "/event/a/b", "", "403 Forbidden"),
        ("/event/a", "/event/b", "", "403 Forbidden"),
        ("/event/?x=1", "/event/", "x=2", "403 Forbidden"),
    ],
)
def test_a_wsgi_server_that_does_not_tell_it(asserted, path, query, expected):
    """Without either name the usual spelling is held against; what is spelled otherwise is refused, like any other."""
    request = environ(fresh(target=asserted), uri="", PATH_INFO=path, QUERY_STRING=query)
    assert called(WsgiAssertionMiddleware(WsgiApp(), KEY), request)[0] == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (environ, "missing"),
        (lambda: environ(fresh(method="POST")), "other-method"),
        (lambda: environ(f"{fresh()},{fresh()}"), "malformed"),
        (lambda: environ(fresh(), **{"HTTP_WAITROOM.ASSERTION": "x"}), "duplicate"),
        (lambda: environ(fresh(), HTTP_HOST="other.example"), "other-host"),
    ],
)
def test_whoever_went_around_it_gets_403_in_wsgi(request_, expected):
    """The application is not asked; duplicates, which servers join with a comma, are no assertion."""
    app = WsgiApp()
    answer, headers, body = called(WsgiAssertionMiddleware(app, KEY), request_())
    assert (answer, app.environs) == ("403 Forbidden", [])
    assert body.decode() == f"This is reached through the waiting room only ({expected}).\n"
    assert headers["Content-Length"] == str(len(body))


def test_a_refused_head_has_no_body():
    """WSGI servers do not all drop it themselves."""
    assert called(WsgiAssertionMiddleware(WsgiApp(), KEY), environ(method="HEAD"))[2] == b""


def test_without_a_host_nothing_is_proved_in_wsgi():
    """A request without a Host is not the one that was asserted."""
    request = environ(fresh())
    del request["HTTP_HOST"]
    assert called(WsgiAssertionMiddleware(WsgiApp(), KEY), request)[0] == "403 Forbidden"


@pytest.mark.parametrize("path", SPELLINGS)
def test_however_a_protected_path_is_spelled_it_is_protected_in_wsgi(path):
    """The same paths as in ASGI, with and without a prefix of the server's."""
    guarded = WsgiAssertionMiddleware(WsgiApp(), KEY, protect=["/event/", "/order"])
    assert called(guarded, environ(PATH_INFO=path))[0] == "403 Forbidden"
    assert called(guarded, environ(PATH_INFO=path, SCRIPT_NAME="/shop"))[0] == "403 Forbidden"


def test_a_mounted_application_is_protected_by_its_whole_path():
    """What a server or a dispatcher took off the path and put into SCRIPT_NAME still counts."""
    guarded = WsgiAssertionMiddleware(WsgiApp(), KEY, protect="/event/")
    assert called(guarded, environ(PATH_INFO="", SCRIPT_NAME="/event"))[0] == "403 Forbidden"
    assert called(guarded, environ(PATH_INFO="/x", SCRIPT_NAME="/event"))[0] == "403 Forbidden"
    request = environ(fresh(target="/event/x"), uri="", PATH_INFO="/x", SCRIPT_NAME="/event", QUERY_STRING="")
    assert called(guarded, request)[0] == "200 OK"


def test_only_true_headers_reach_a_wsgi_application():
    """What names us is written anew from the statement, or is not there at all."""
    app = WsgiApp()
    spoofed = {"HTTP_WAITROOM_NUMBER": "1", "HTTP_WAITROOM_PASS": "p.1", "HTTP_WAITROOM.ROOM": "x", "HTTP_ROOM": "kept"}
    guarded = WsgiAssertionMiddleware(app, KEY, protect="/event/")
    called(guarded, environ(fresh(), **spoofed))
    called(guarded, environ("nonsense", target="/x", **spoofed))
    told = [{name: value for name, value in one.items() if "ROOM" in name} for one in app.environs]
    assert told == [
        {
            "HTTP_ROOM": "kept",
            "HTTP_WAITROOM_ROOM": "launch",
            "HTTP_WAITROOM_NUMBER": "1234",
            "HTTP_WAITROOM_VISITOR": "0123456789abcdef",
            "HTTP_WAITROOM_ADMITTED_AT": "1700000000000",
        },
        {"HTTP_ROOM": "kept"},
    ]
    assert app.environs[1]["waitroom.statement"] is None
