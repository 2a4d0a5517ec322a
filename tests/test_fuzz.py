"""Whatever a client writes on a connection, through the whole house: generated conversations, judged from both ends.

A conversation is a row of requests sent ahead on one connection: valid ones, ones put together from lines that two
readers could read differently, and ones that are then mutilated byte by byte; with targets that spell the room's path
otherwise, tokens forged, bent, cut and of another room, bodies by length and in chunks, cut into segments anywhere. It
goes through ``waitroom serve`` as an operator starts it. Behind it listens an origin that reads strictly
(``strict_origin.py``); here the answers are read strictly too, and both are held against what must never happen.

``make test`` plays a fixed, bounded number of them. ``make fuzz`` sets ``FUZZ_EXAMPLES`` and plays others each time;
the smallest conversation that breaks something is printed.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import pytest
from house import House, Visitor, running, until
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from strict_origin import StrictOrigin
from strict_reader import Refused, answers

from waitroom.origin import verify_assertion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strict_reader import Message

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
QUIET_S = 0.3
"""How long nothing comes until it is believed that the proxy waits for more of a message that is not whole."""

PATIENCE_S = 10.0
"""The same where every message is whole, and the end must come."""

CUT_S = 0.001
"""The pause between two segments, so that they arrive as two."""

# -- what is sent ------------------------------------------------------------------------------------------------------

PLAIN_TARGETS = [b"/", b"/a", b"/a%2Fb;c//d?e=f", b"/%", b"/|{}", b"/shop/event", b"/events/", b"/x?/event/"]
ROOM_TARGETS = [b"/event/", b"/event", b"/event/order?x=1"]
ODD_TARGETS = [
    b"http://b/event/",
    b"http://a//event",
    b"HTTP://A/%45vent",
    b"/event#a",
    b"event/",
    b"*",
    b"/%u0065vent/",
]
BEFORE = [
    b"/",
    b"//",
    b"/./",
    b"/x/../",
    b"/%2e/",
    b"/x/%2e%2e/",
    b"/x%2f..%2f",
    b"/;a/",
    b"/\\",
    b"\\",
    b"/%5c",
    b"/..;/",
]
BEFORE += [b"/a/b/../../", b"/%252e%252e/", b"/%00/../", b"/%e0%80%af..%2f", b"http://a/", b"http://a//"]
AFTER = [
    b"",
    b"/",
    b"/order",
    b"?",
    b"?a=/x",
    b";a=b/",
    b"%00",
    b"%2forder",
    b"/%2e%2e/event/",
    b"%3f",
    b"%20",
    b"\\",
    b"/./",
]
OUR_TARGETS = [
    b"/.waitroom/launch/me",
    b"/.waitroom/launch/now",
    b"/%2ewaitroom/launch/me",
    b"/.WAITROOM/x",
    b"/.waitroom",
]
METHODS = [b"GET", b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"PROPFIND"]
ODD_METHODS = [b"CONNECT", b"get", b"BREW", b"G@T", b"TRACE", b""]
PLAIN_LINES = [
    b"Accept: text/html",
    b"Accept: */*",
    b"User-Agent: x",
    b"X-Answer: chunked",
    b"X-Answer: close",
    b"X-Answer: none",
    b"X-Answer: unchanged",
    b"X-Answer: hints",
    b"Origin: https://evil.example",
    b"Sec-Purpose: prefetch",
    b"Cookie: a=b; c=d",
    b"X-Forwarded-For: 1.2.3.4",
    b"Waitroom-Room: launch",
    b"Waitroom_Number: 1",
    b"Waitroom-Assertion: 1;x",
    b"X-Original-URL: /event/",
    b"X-Rewrite-URL: /event/",
    b"X-HTTP-Method-Override: GET",
    b"Connection: keep-alive",
    b"Connection: cookie, host",
    b"TE: trailers",
    b"Trailer: X",
    b"X-Empty:",
    b"X-High: \xff\x80",
    b"Range: bytes=0-1",
]
ENDING_LINES = [
    b"Connection: close",
    b"Connection: Upgrade\r\nUpgrade: websocket",
    b"Connection: upgrade\r\nUpgrade: h2c",
]
ODD_LINES = [
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding : chunked",
    b"Transfer_Encoding: chunked",
    b"Content-Length: 3",
    b"Content-Length: 0",
    b"Content-Length: +3",
    b"Content-Length: 3, 3",
    b"Content_Length: 7",
    b"Content-Length : 3",
    b" Content-Length: 3",
    b"Host: b",
    b"Host: a/event",
    b"Host:",
    b"X: a\r\n folded",
    b"X: a\rb",
    b"X: a\nContent-Length: 5",
    b"X: \x00",
    b"X\x00: y",
    b": y",
    b"nothing",
    b"Expect: 100-continue",
    b"Expect: miracles",
    b"Upgrade: websocket",
    b"Connection: close, keep-alive",
    b"Connection: \xff",
    b"Proxy-Connection: keep-alive",
    b"Keep-Alive: timeout=1",
]
SMUGGLED = b"GET /event/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
BODIES = [b"", b"x", b"abc", SMUGGLED, b"0\r\n\r\n", b"y" * 5000]
SCRAPS = [
    b"",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\x00",
    b"0",
    b":",
    b",",
    b"chunked",
    b"\r\n\r\n",
    b";",
    b"\xff",
    b"-",
]
CHUNK_SCRAPS = [
    b"0\r\n\r\n",
    b"0x1\r\n",
    b"-1\r\n",
    b"fffffffffffffffff\r\n",
    b"1;a=b\r\n",
    b"1\n",
    b"\r\n",
    b"5\r\nab",
    b" 1\r\n",
]


LIES = {"length": 0, "long": 7, "short": -1}
"""By how much a length is wrong."""


@dataclass
class Sent:
    """One request to be written. ``valid`` says that nothing about it is odd, so that an answer is due."""

    valid: bool
    method: bytes
    target: bytes
    version: bytes
    lines: list[bytes]
    token: str
    framing: str
    body: bytes
    chunk_scrap: tuple[int, bytes] | None
    scraps: list[tuple[int, int, bytes]]

    def written(self, turn: bytes, tokens: dict[str, bytes]) -> bytes:
        """Return its bytes."""
        lines = [b"Host: a", b"X-Turn: " + turn, *self.lines]
        if self.token:
            lines.append(tokens[self.token])
        body = self.body
        if self.framing in LIES:
            lines.append(b"Content-Length: %d" % max(0, len(body) + LIES[self.framing]))
        elif self.framing == "chunked":
            lines.append(b"Transfer-Encoding: chunked")
            half = len(body) // 2
            parts = [part for part in (body[:half], body[half:]) if part]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
            if self.chunk_scrap is not None:
                body = _changed(body, self.chunk_scrap[0], 0, self.chunk_scrap[1])
        else:
            body = b""
        raw = b"%b %b %b\r\n" % (self.method, self.target, self.version)
        raw += b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body
        for at, removed, scrap in self.scraps:
            raw = _changed(raw, at, removed, scrap)
        return raw


def _changed(raw: bytes, permille: int, removed: int, scrap: bytes) -> bytes:
    at = permille * len(raw) // 1000
    return raw[:at] + scrap + raw[at + removed :]


TOKENS = ["pass", "ticket", "other's pass", "bent", "cut", "empty", "pass as ticket", "header", "quoted", "twice"]
TARGETS = st.sampled_from(PLAIN_TARGETS) | st.sampled_from(ROOM_TARGETS) | st.sampled_from(OUR_TARGETS)
PERMILLE = st.integers(0, 1000)
SCRAP = st.tuples(PERMILLE, st.integers(0, 3), st.sampled_from(SCRAPS))


@st.composite
def spelled(draw: st.DrawFn) -> bytes:
    """Draw the room's path as nobody would write it."""
    forms = draw(st.lists(st.sampled_from(["%c", "%c", "%%%02x", "%%25%02X", "upper"]), min_size=5, max_size=5))
    letters = [
        chr(letter).upper() if form == "upper" else form % letter for form, letter in zip(forms, b"event", strict=True)
    ]
    return draw(st.sampled_from(BEFORE)) + "".join(letters).encode() + draw(st.sampled_from(AFTER))


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """Draw a request: valid, put together from odd pieces, or mutilated as well."""
    kind = draw(st.sampled_from(["valid", "odd", "mutilated"]))
    target = draw(TARGETS if kind == "valid" else TARGETS | spelled() | st.sampled_from(ODD_TARGETS))
    lines = draw(st.lists(st.sampled_from(PLAIN_LINES), max_size=3))
    if kind != "valid":
        lines += draw(st.lists(st.sampled_from(ODD_LINES + ENDING_LINES), max_size=2))
    framing = draw(st.sampled_from(["", "length", "chunked"] + ["long", "short"] * (kind == "mutilated")))
    chunk_scrap = None
    if kind == "mutilated" and framing == "chunked" and draw(st.booleans()):
        chunk_scrap = draw(st.tuples(PERMILLE, st.sampled_from(CHUNK_SCRAPS)))
    odd_line = kind == "mutilated" and draw(st.integers(0, 9)) == 0
    return Sent(
        valid=kind == "valid",
        method=draw(st.sampled_from(ODD_METHODS if odd_line else METHODS)),
        target=target,
        version=draw(st.sampled_from([b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b""])) if odd_line else b"HTTP/1.1",
        lines=lines,
        token=draw(st.sampled_from(["", "", "pass", "pass", *TOKENS])),
        framing=framing,
        body=draw(st.sampled_from(BODIES)),
        chunk_scrap=chunk_scrap,
        scraps=draw(st.lists(SCRAP, min_size=1, max_size=3)) if kind == "mutilated" and not odd_line else [],
    )


CONVERSATIONS = st.tuples(st.lists(requests(), min_size=1, max_size=5), st.lists(PERMILLE, max_size=4))


# -- the house ---------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """A house in front of a strict origin, its room full, with the tokens of who got one."""

    house: House = field(repr=False)
    origin: StrictOrigin = field(repr=False)
    tokens: dict[str, bytes] = field(repr=False)
    entry_pass: bytes = field(repr=False)
    key: str = field(repr=False)
    turn: int = 0
    read_of_log: int = 0
    ends: Counter[str] = field(default_factory=Counter)

    def new_log(self) -> str:
        """Return what was logged since this was asked last."""
        with self.house.log.open("rb") as log:
            log.seek(self.read_of_log)
            text = log.read()
        self.read_of_log += len(text)
        return text.decode()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One place in the room, and it is taken for good; everybody else waits."""
    origin = StrictOrigin()
    origin.start()
    room = {"always_queue": True, "total_active_users": 1, "session_duration": "2h"}
    other = {"name": "other", "match": [{"path": "/other/"}], "admission": "fixed", "session_duration": "2h"}
    folder = tmp_path_factory.mktemp("fuzz")
    try:
        with running(folder, origin, room, rooms=[_room(room), other]) as house:
            yield _world(house, origin)
    finally:
        origin.stop()


def _room(room: dict[str, object]) -> dict[str, object]:
    return {
        "name": "launch",
        "match": [{"path": "/event/"}],
        "admission": "fixed",
        "new_users_per_minute": 6000,
        "claim_within": "10s",
        "refresh": {"near": "250ms", "far": "1s", "farthest": "5s"},
        **room,
    }


def _world(house: House, origin: StrictOrigin) -> World:
    inside, waiting, elsewhere = Visitor(house), Visitor(house), Visitor(house)
    inside.event()
    until(lambda: inside.me()["state"] == "called" and inside.event().text.startswith("- GET /event/"))
    inside.event()
    until(lambda: inside.me()["pass_until"] / 1000 - time.time() > 3600)
    waiting.event()
    elsewhere.get("/other/")
    elsewhere.get("/other/")
    entry_pass, ticket = inside.token().encode(), waiting.token().encode()
    other = elsewhere.cookies["waitroom_other"].encode()
    middle = len(entry_pass) // 2
    bent = entry_pass[:middle] + (b"0" if entry_pass[middle : middle + 1] != b"0" else b"1") + entry_pass[middle + 1 :]
    name = b"Cookie: waitroom_launch="
    tokens = {
        "pass": name + entry_pass,
        "ticket": name + ticket,
        "other's pass": name + other + b"; waitroom_other=" + other,
        "bent": name + bent,
        "cut": name + entry_pass[:-5],
        "empty": name,
        "pass as ticket": name + b"t" + entry_pass[1:] + b"; waitroom_launch=p" + ticket[1:],
        "header": b"Waitroom-Pass: " + entry_pass,
        "quoted": name + b'"' + bent + b'"; a="b; waitroom_launch=' + bent,
        "twice": name + bent + b"; waitroom_launch=" + ticket + b"\r\nCookie: waitroom_launch=" + entry_pass[::-1],
    }
    command = [sys.executable, "-m", "waitroom.cli", "keys", "assertion", "--config", str(house.config)]
    key = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    return World(house, origin, tokens, entry_pass, key)


def converse(port: int, raw: bytes, cuts: list[int], quiet_s: float = PATIENCE_S) -> tuple[bytes, str]:
    """Send ``raw`` in segments; return all that came back, and how it ended: ``end``, ``reset``, or ``quiet``."""
    places = sorted({cut * len(raw) // 1000 for cut in cuts} | {0, len(raw)})
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for begin, end in pairwise(places):
                sock.sendall(raw[begin:end])
                time.sleep(CUT_S)
            sock.settimeout(quiet_s)
            while piece := sock.recv(65536):
                answer += piece
        except TimeoutError:
            return answer, "quiet"
        except ConnectionError:
            return answer, "reset"
    return answer, "end"


# -- what is judged ----------------------------------------------------------------------------------------------------


def readings(target: bytes) -> set[bytes]:
    """Return the paths a server might make of a target, by steps that servers are known to take, in any order."""
    path = re.sub(rb"^[A-Za-z]+://[^/]*", b"", target).split(b"?")[0]
    found, fresh = set(), {path}
    while fresh and len(found) < 200:
        found |= fresh
        steps = set()
        for one in fresh:
            steps |= {
                unquote_to_bytes(one),
                one.replace(b"\\", b"/"),
                re.sub(rb";[^/]*", b"", one),
                one.split(b"\x00")[0],
                re.sub(rb"/+", b"/", one),
                re.sub(rb"/\.(?=/|$)", b"", one),
                re.sub(rb"/[^/]+/\.\.(?=/|$)", b"", one, count=1),
                re.sub(rb"^(/\.\.)+(?=/|$)", b"", one),
                one.lower(),
            }
        fresh = steps - found
    return found


def is_in(target: bytes, prefix: bytes) -> bool:
    """Whether any reading of a target is below a prefix."""
    return any(path == prefix or path.startswith(prefix + b"/") for path in readings(target))


def judge_origin(world: World, message: Message, raw: bytes) -> None:
    """What reached the origin may be there, and says nothing that is not true."""
    method, target, _ = message.start
    assert not is_in(target, b"/.waitroom"), "a path of ours was forwarded"
    said = {name.lower().replace(b"_", b"-") for name, _ in message.fields}
    ours = {name for name in said if name.startswith(b"waitroom-")}
    if is_in(target, b"/event"):
        assert world.entry_pass in raw, "the room was entered without a pass"
        assert message.all(b"waitroom-room") == [b"launch"]
    if ours:
        assertion = message.one(b"waitroom-assertion")
        assert assertion is not None
        host = (message.one(b"host") or b"").decode("latin-1")
        stated = verify_assertion(
            assertion.decode(), world.key, method=method.decode(), host=host, target=target.decode("latin-1")
        )
        assert message.all(b"waitroom-room") == [stated.room.encode()]
    assert not said & {b"te", b"trailer", b"keep-alive", b"proxy-connection", b"x-original-url", b"x-rewrite-url"}
    for value in message.all(b"cookie"):
        assert not re.search(rb"(?:^|;)\s*waitroom_launch=", value), "a cookie of ours was forwarded"


def judge_answers(heard: list[Message], mark: bytes) -> None:
    """The answers are this connection's own, in the order it asked, and none of them a fault of ours."""
    last = -1
    for message in heard:
        assert message.status not in (500, 502, 504), message
        assert b"Please try again in a moment." not in message.body, "a fault of ours"
        turn = re.match(rb"(\d+)\.(\d+) ", message.body)
        if turn:
            assert turn[1] == mark, "another's answer"
            assert int(turn[2]) > last, "out of order"
            last = int(turn[2])


@settings(
    max_examples=EXAMPLES or 1000,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(CONVERSATIONS)
def test_whatever_a_client_writes_nothing_gets_where_it_may_not(
    world: World, conversation: tuple[list[Sent], list[int]]
) -> None:
    """Both ends read strictly: no request enters without a pass, none is ill framed, every answer is its asker's."""
    sent, cuts = conversation
    world.turn += 1
    mark = b"%d" % world.turn
    before = len(world.origin.heard)
    raw = b"".join(one.written(b"%b.%d" % (mark, index), world.tokens) for index, one in enumerate(sent))
    raw += b"GET /end HTTP/1.1\r\nHost: a\r\nX-Turn: end\r\nConnection: close\r\n\r\n"
    whole = all(one.valid for one in sent)
    came, how = converse(world.house.port, raw, cuts, PATIENCE_S if whole else QUIET_S)
    event(how)
    world.ends[how] += 1

    assert not world.origin.refused, world.origin.refused
    for message in world.origin.heard[before:]:
        judge_origin(world, message, raw)
    heads = b"HEAD" in raw
    try:
        heard = answers(came, ended=how == "end", heads=heads)
    except Refused as refused:
        raise AssertionError(f"an ill-formed answer: {refused}\n{came!r}") from None
    judge_answers(heard.messages, mark)
    assert how == "reset" or not heard.rest, (how, heard.rest)
    if whole:
        assert how == "end"
        final = [message for message in heard.messages if message.status >= 200]
        assert len(final) == len(sent) + 1 or final[-1].options(b"connection") == [b"close"], (how, heard)

    fresh = b"GET /next/%b HTTP/1.1\r\nHost: a\r\nX-Turn: %b\r\nConnection: close\r\n\r\n" % (mark, mark)
    own, how = converse(world.house.port, fresh, [])
    assert (how, answers(own, ended=True).messages[0].body) == ("end", b"%b GET /next/%b 0" % (mark, mark))
    said = world.new_log()
    assert "raceback" not in said, said
    assert '"level": "error"' not in said, said
