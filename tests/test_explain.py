"""``waitroom explain``: it says of a request what the running proxy does with it, and says it to people too."""

from __future__ import annotations

import http.client
import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from house import House, RecordingOrigin, running, until

from waitroom.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TARGET_BYTES_MAX = 8 * 1024
HEADER_BYTES_MAX = 32 * 1024
SECRET = "open-sesame-open-sesame"
Run = tuple[int, str, str]


@dataclass(frozen=True)
class Case:
    """One request: the decision it meets, and what stands on its request line and below. ``status`` of a refusal."""

    decision: str
    target: str
    method: str = "GET"
    lines: tuple[str, ...] = ("Host: a.example",)
    status: int = 0

    def head(self) -> bytes:
        """Return it as bytes for a socket."""
        return "\r\n".join([f"{self.method} {self.target} HTTP/1.1", *self.lines, "", ""]).encode("latin-1")

    def words(self) -> list[str]:
        """Return it as words for the command."""
        words = ["http://a.example/", "-X", self.method, "--request-target", self.target]
        return words + [word for line in self.lines for word in ("-H", line)]


def at(host: str, *more: str) -> tuple[str, ...]:
    """Return header lines with a Host."""
    return (f"Host: {host}", *more)


def bad(target: str, *lines: str, method: str = "GET", status: int = 400) -> Case:
    """Return a request that is refused."""
    return Case("refuse", target, method, lines or at("a.example"), status)


ASKS = ("Access-Control-Request-Method: PUT",)

CORPUS = {
    "ordinary": Case("forward", "/"),
    "ordinary, with a query": Case("forward", "/x?y=/event/"),
    "ordinary, on the other site": Case("forward", "/x", lines=at("b.example")),
    "ordinary, on a subdomain": Case("forward", "/x", lines=at("some.wild.example")),
    "ordinary, the host spelled otherwise": Case("forward", "/x", lines=at("B.Example.:8443")),
    "ordinary, with a method": Case("forward", "/x", "DELETE"),
    "ordinary, with odd escapes": Case("forward", "/%41%2fx;y=1//z"),
    "a name that begins like the room's": Case("forward", "/eventual"),
    "the room's path on the other site": Case("forward", "/event/", lines=at("b.example")),
    "absolute": Case("forward", "http://a.example/x"),
    "absolute, without a path": Case("forward", "HTTP://A.example"),
    "absolute, with the usual port": Case("forward", "http://a.example:80/x?y"),
    "asterisk": Case("forward", "*", "OPTIONS"),
    "a room": Case("gate", "/event/"),
    "a room, posted to": Case("gate", "/event/order", "POST", at("a.example", "Content-Length: 0")),
    "a room, by an absolute target": Case("gate", "http://a.example/event/"),
    "a room, escaped": Case("gate", "/%65vent/"),
    "a room, escaped twice": Case("gate", "/%2565vent/"),
    "a room, in another case": Case("gate", "/EVENT/"),
    "a room, by dots": Case("gate", "/x/..%2fevent/"),
    "a room, by a backslash": Case("gate", "/x\\..\\event/"),
    "a room, by an escaped control byte": Case("gate", "/ev%00ent/"),
    "a room, asked before a call": Case(
        "gate", "/event/order", "OPTIONS", (*at("a.example", *ASKS), "Origin: https://app.example")
    ),
    "a room, asked before a call by a stranger": Case(
        "gate", "/event/order", "OPTIONS", (*at("a.example", *ASKS), "Origin: https://evil.example")
    ),
    "a bypass, asked before a call": Case(
        "forward-bypass", "/event/assets/a.css", "OPTIONS", (*at("a.example", *ASKS), "Origin: https://evil.example")
    ),
    "not understood": Case("gate", "/" + r"%2f;a\..%5c.//%u002f%c0%ae%00%3f%23" * 6),
    "a room with an origin of its own": Case("gate", "/own/"),
    "the same on the other site": Case("gate", "/own/x", lines=at("b.example")),
    "a bypass": Case("forward-bypass", "/own/assets/a.css"),
    "a bypass, on the other site": Case("forward-bypass", "/own/assets/a.css?v=1", lines=at("b.example")),
    "a bypass of a room that has its site's origin": Case("forward-bypass", "/event/assets/a.css"),
    "a bypass that another reading leaves": Case("gate", "/own/assets/..%2forder"),
    "a bypass in another case": Case("gate", "/own/Assets/a.css"),
    "a bypass with another method": Case("gate", "/event/hook", "GET"),
    "a bypass with its method": Case("forward-bypass", "/event/hook", "POST", at("a.example", "Content-Length: 0")),
    "a bypass for somebody": Case("forward-bypass", "/own/x", lines=at("a.example", "X-Forwarded-For: 192.0.2.7")),
    "a bypass for somebody, but perhaps of another room": Case(
        "gate", "/own/" + "%2f%5c;x/.." * 60, lines=at("a.example", "X-Forwarded-For: 192.0.2.7")
    ),
    "a bypass for somebody else": Case("gate", "/own/x", lines=at("a.example", "X-Forwarded-For: 192.0.3.7")),
    "a bypass for somebody, who says it himself": Case(
        "gate", "/own/x", lines=at("a.example", "X-Forwarded-For: 192.0.2.7, 203.0.113.9")
    ),
    "a bypass for somebody, by another spelling": Case(
        "gate", "/own/x", lines=at("a.example", "X_Forwarded_For: 192.0.2.7")
    ),
    "a bypass for somebody, whom the proxy does not name": Case(
        "gate", "/own/x", lines=at("a.example", "Forwarded: for=192.0.2.7")
    ),
    "a bypass by a secret": Case("forward-bypass", "/event/x", lines=at("a.example", f"x-bypass-key: {SECRET}")),
    "a bypass by a wrong secret": Case("gate", "/event/x", lines=at("a.example", f"X-Bypass-Key: {SECRET}x")),
    "a bypass by a secret said twice": Case(
        "gate", "/event/x", lines=at("a.example", *[f"X-Bypass-Key: {SECRET}"] * 2)
    ),
    "a bypass by a secret, by another spelling": Case(
        "gate", "/event/x", lines=at("a.example", f"X_Bypass_Key: {SECRET}")
    ),
    "ours": Case("own", "/.waitroom/launch/now"),
    "ours, of no room": Case("own", "/.waitroom/nobody/now"),
    "ours, spelled otherwise": Case("own", "/x/..%2f.waitroom/launch/now"),
    "ours, perhaps, among too many readings": Case("own", "/a;b%2f%5c%252f..;c//d" * 16 + "/%2ewaitroom/launch/now"),
    "ours, whether we are well, by address": Case("own", "/.waitroom/health/live", lines=at("10.0.0.7")),
    "a host of nobody": bad("/", "Host: c.example", status=421),
    "a host of nobody, our path": bad("/.waitroom/launch/now", "Host: c.example", status=421),
    "an empty host": bad("/", "Host:"),
    "two hosts": bad("/", "Host: a.example", "Host: b.example"),
    "a host that cannot be": bad("/", "Host: a..example"),
    "a framing header by another spelling": bad("/", "Host: a.example", "Transfer_Encoding: chunked"),
    "absolute, for another host": bad("http://b.example/x"),
    "CONNECT": bad("a.example:443", method="CONNECT"),
    "an unknown method": bad("/", method="BREW", status=501),
    "a method in lower case": bad("/", method="get"),
    "a control byte in the target": bad("/\x01event/"),
    "a blank in the target": bad("/x y"),
    "no ASCII in the target": bad("/\xe9vent/"),
    "a fragment in the target": bad("/x#/event/"),
    "a control byte in a header": bad("/", *at("a.example", "X-Y: \x00")),
    "a bare line feed": bad("/", *at("a.example", "X-Y: 1\nHost: b.example")),
    "a folded line": bad("/", *at("a.example", "X-Y: 1", " 2")),
    "a line without a colon": bad("/", *at("a.example", "X-Y")),
    "two lengths": bad("/", *at("a.example", "Content-Length: 1", "Content-Length: 1"), method="POST"),
    "a length and chunks": bad("/", *at("a.example", "Content-Length: 1", "Transfer-Encoding: chunked"), method="POST"),
    "an unknown coding": bad("/", *at("a.example", "Transfer-Encoding: gzip"), method="POST", status=501),
    "a body that is too large": bad("/", *at("a.example", f"Content-Length: {10**9}"), method="POST", status=413),
    "a target as long as may be": Case("forward", "/" + "x" * (TARGET_BYTES_MAX - 1)),
    "a target that is too long": bad("/" + "x" * TARGET_BYTES_MAX, status=414),
    "too many header lines": bad("/", *at("a.example", *["X-Y: 1"] * 100), status=431),
    "header lines that are too long": bad("/", *at("a.example", "X-Y: " + "x" * HEADER_BYTES_MAX), status=431),
}


@pytest.fixture(scope="module")
def origins() -> Iterator[list[RecordingOrigin]]:
    """Four origins: that of the top of the file, of site a, of site b, of a room."""
    recording = [RecordingOrigin() for _ in range(4)]
    for origin in recording:
        origin.start()
    yield recording
    for origin in recording:
        origin.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, origins: list[RecordingOrigin]) -> Iterator[House]:
    """Two sites, a room on one of them, and a room on both with an origin of its own. This machine is a proxy."""
    urls = [f"http://127.0.0.1:{origin.port}" for origin in origins]
    common = {"admission": "fixed", "total_active_users": 2, "always_queue": True}
    launch = {
        "name": "launch",
        "match": [{"host": "a.example", "path": "/event/"}],
        "cors": {"allowed_origins": ["https://app.example"]},
        "bypass": [
            {"path": "/event/assets/"},
            {"path": "/event/hook", "method": "POST"},
            {"header": {"X-Bypass-Key": SECRET}},
        ],
    }
    around = [{"path": "/own/assets/"}, {"ip": "192.0.2.0/24"}]
    own = {"name": "own", "match": [{"path": "/own/"}], "bypass": around, "origin": urls[3]}
    with running(
        tmp_path_factory.mktemp("explain"),
        origins[0],
        sites=[
            {"hosts": ["a.example", "*.wild.example"], "origin": urls[1]},
            {"hosts": ["b.example"], "origin": urls[2]},
        ],
        rooms=[{**launch, **common}, {**own, **common}],
        trusted_proxies=["127.0.0.0/8"],
    ) as started:
        yield started


@pytest.fixture
def explain(house: House, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run the command with the house's configuration; return its exit code, and what it wrote."""

    def run(*words: str, config: Path | None = None) -> Run:
        code = main(["explain", "--config", str(config or house.config), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def told(run: Run) -> dict[str, Any]:
    """Return the answer that was printed as JSON."""
    code, out, err = run
    assert (code, err, out.count("\n")) == (0, "", 1)
    answer: dict[str, Any] = json.loads(out)
    assert list(answer) == ["room", "rule", "decision", "reason", "client", "forwarded_target"]
    return answer


def lived(house: House, head: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a head on a connection of its own; return the status, the headers and the body that came back."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as sock:
        sock.sendall(head)
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.mark.parametrize("case", CORPUS.values(), ids=CORPUS)
def test_it_says_what_the_proxy_does(
    case: Case, house: House, origins: list[RecordingOrigin], explain: Callable[..., Run]
) -> None:
    """Whether a request reaches an origin, which one and with what target, and how it is refused: both agree."""
    answer = told(explain(*case.words(), "--json"))
    text = explain(*case.words())[1]
    assert answer["decision"] == case.decision
    assert f"\n{case.decision}: {answer['reason']}\n" in text
    assert re.fullmatch(r"[\n -~]+", text), "nothing of a request reaches the terminal as it is"
    assert SECRET not in text + json.dumps(answer)

    for origin in origins:
        origin.seen.clear()
    status, headers, body = lived(house, case.head())
    reached = [(origin.port, seen.target) for origin in origins for seen in origin.seen]
    shop = re.search(r"^  shop      gets (\S+) at http://127\.0\.0\.1:([0-9]+)(.*)$", text, re.MULTILINE)
    if case.decision in ("forward", "forward-bypass"):
        assert shop is not None
        assert reached == [(int(shop[2]), answer["forwarded_target"])]
        assert (status, body, shop[1], shop[3]) == (200, b"shop", answer["forwarded_target"], "")
        return
    assert reached == []
    if case.decision == "gate":
        assert "waitroom-state" in headers
        assert shop is not None
        when = ", while the room is in standby" if "preflight" in answer["reason"] else ", once the visitor is let in"
        assert (answer["forwarded_target"], when) == (shop[1], shop[3])
        assert ("allows the call" in answer["reason"]) is ("access-control-allow-origin" in headers)
    elif case.decision == "own":
        assert status in (200, 404)
        assert (answer["forwarded_target"], shop) == (None, None)
    else:
        assert (status, f"{status} {body.decode().strip()}") == (case.status, answer["reason"])
        assert (answer["room"], answer["rule"], answer["forwarded_target"], shop) == (None, None, None, None)


@pytest.mark.parametrize("name", ["launch", "own"])
def test_the_room_and_its_shop_are_those_of_the_proxy(
    name: str, house: House, origins: list[RecordingOrigin], explain: Callable[..., Run]
) -> None:
    """Whoever is let in reaches the origin that was told before, with the target that was told."""
    target = {"launch": "/event/..%2fevent/", "own": "/x/..%2fown/"}[name]
    case = Case("gate", target)
    assert told(explain(*case.words(), "--json"))["room"] == name
    port = int(re.search(r"at http://127\.0\.0\.1:([0-9]+), once", explain(*case.words())[1])[1])  # type: ignore[index]
    for origin in origins:
        origin.seen.clear()
    joined = lived(house, f"POST /.waitroom/{name}/join HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())
    carried = f"HTTP/1.1\r\nHost: a.example\r\nWaitroom-Ticket: {json.loads(joined[2])['ticket']}\r\n"

    def is_in() -> bool:
        lived(house, f"GET /.waitroom/{name}/me {carried}\r\n".encode())
        return lived(house, f"GET {target} {carried}Accept: text/html\r\n\r\n".encode())[2] == b"shop"

    until(is_in)
    assert [(origin.port, seen.target) for origin in origins for seen in origin.seen] == [(port, target)]


@pytest.mark.parametrize(
    ("peer", "lines", "client", "why"),
    [
        ("127.0.0.1", ["X-Forwarded-For: 203.0.113.9"], "203.0.113.9", "X-Forwarded-For says so"),
        ("127.0.0.1", ["X-Forwarded-For: 198.51.100.1, 203.0.113.9"], "203.0.113.9", "127.0.0.1 is in `trusted_"),
        ("127.0.0.1", ["X-Forwarded-Proto: https"], "127.0.0.1", "by https: it is in `trusted_proxies`, and names"),
        ("127.0.0.1", ["X_Forwarded_For: 203.0.113.9"], "127.0.0.1", "names nobody in X-Forwarded-For"),
        ("10.0.0.7", ["X-Forwarded-For: 203.0.113.9"], "10.0.0.7", "in no `trusted_proxies`"),
    ],
)
def test_the_client_is_whom_the_proxy_takes_it_for(
    peer: str, lines: list[str], client: str, why: str, *, house: House, explain: Callable[..., Run]
) -> None:
    """The address and the reason for it; the proxy's own log, where we can be that peer, has the same address."""
    case = bad("/", *at("c.example", *lines))
    assert told(explain(*case.words(), "--peer", peer, "--json"))["client"] == client
    (line,) = re.findall(r"^  client    (.*)$", explain(*case.words(), "--peer", peer)[1], re.MULTILINE)
    assert line.startswith(client)
    assert why in line
    if peer == "127.0.0.1":
        before = len(house.logged("misdirected"))
        lived(house, case.head())
        until(lambda: len(house.logged("misdirected")) > before)
        assert house.logged("misdirected")[-1]["client"] == client


def test_it_tells_people_what_led_to_it(explain: Callable[..., Run]) -> None:
    """Every reading with the rule it meets, and a bypass that almost held with the reading that differs."""
    code, out, err = explain("http://a.example/own/assets/..%2forder?x#y")
    assert (code, err) == (0, "")
    first, _, decision, *lines = out.splitlines()
    assert first == "GET /own/assets/..%2forder?x HTTP/1.1"
    assert decision == "gate: the room own decides, by the token that the visitor carries"
    assert lines[1:5] == [
        "  reading   /own/assets/..%2forder  is in */own/ of own",
        "  reading   /own/assets/../order  is in */own/ of own",
        "  reading   /own/order  is in */own/ of own",
        "  bypass    */own/assets/ does not hold: a shop may read /own/order",
    ]
    assert lines[5] == "  bypass    * from 192.0.2.0/24 does not hold: it is for other addresses than the client's"
    assert "  bypass    * from 192.0.2.0/24 holds\n" in explain("http://a.example/own/", "--peer", "192.0.2.9")[1]
    spoken = explain("http://a.example/own/", "--peer", "192.0.2.9", "-H", "Forwarded: for=203.0.113.9")[1]
    assert "does not hold: whoever has this address speaks for another, whom no proxy in `trusted_proxies`" in spoken
    assert (
        "* with x-bypass-key does not hold: the request does not show its header"
        in explain("http://a.example/event/")[1]
    )
    twice = explain(*CORPUS["a bypass by a secret said twice"].words())[1]
    assert "* with x-bypass-key does not hold: its header stands there more than once" in twice
    assert "*/event/hook does not hold: it is for another method" not in out
    assert "POST */event/hook does not hold: it is for another method" in explain("http://a.example/event/hook")[1]
    assert "  bypass    */own/assets/ holds\n" in explain("http://a.example/own/assets/a.css")[1]
    assert "what is not understood is protected" in explain(*CORPUS["not understood"].words())[1]
    assert "whose site is at" in out
    assert "which no site names" in explain("http://c.example/")[1]


def test_without_sites_every_host_is_the_origin_s(explain: Callable[..., Run], tmp_path: Path) -> None:
    """A configuration of one shop needs no sites, and its origin may speak TLS."""
    path = tmp_path / "waitroom.yaml"
    path.write_text("origin: https://shop.internal\nrooms: []\n")
    out = explain("http://any.example/x", config=path)[1]
    assert "  host      any.example, whose site is at https://shop.internal:443, as every host is without" in out
    assert out.endswith("  shop      gets /x at https://shop.internal:443\n")


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://a.example", "GET / HTTP/1.1"),
        ("HTTPS://a.example?x=1#part", "GET /?x=1 HTTP/1.1"),
        ("http://a.example/\u00e9v\u00e9nement/%41/../\udcff", "GET /%C3%A9v%C3%A9nement/%41/../%FF HTTP/1.1"),
        ("http://a.example/a b\x1b[2J", r"GET /a b\x1b[2J HTTP/1.1"),
    ],
)
def test_a_url_becomes_the_request_line_of_a_browser(url: str, line: str, explain: Callable[..., Run]) -> None:
    """Without its fragment, what is not ASCII escaped, and all else as it was written."""
    assert explain(url)[1].splitlines()[0] == line


def test_a_host_is_the_url_s_unless_one_is_said(explain: Callable[..., Run]) -> None:
    """As it is with curl; a name that is not ASCII goes as browsers send it."""
    assert "b.example, whose site" in explain("http://a.example/", "-H", "hOST: b.example")[1]
    assert "xn--fa-hia.example, which no site" in explain("http://xn--fa-hia.example/")[1]
    assert "xn--1lq90i.example, which no site" in explain("http://\u5317\u4eac.example/")[1]


@pytest.mark.parametrize(
    "url", ["nonsense", "a.example/x", "http://", "http:///x", "ftp://a.example/", "http://u@a.b/"]
)
def test_what_is_no_url_is_a_mistake(url: str, explain: Callable[..., Run]) -> None:
    """One sentence, which says what to write, and exit code 1."""
    code, out, err = explain(url)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "http://shop.example/event/" in err


def test_a_name_no_host_can_have_is_a_mistake(explain: Callable[..., Run]) -> None:
    """What IDNA refuses no browser could ask for."""
    assert explain(f"http://{chr(0xE9) * 64}.example/")[::2] == (
        1,
        "waitroom: " + r"\xc3\xa9" * 64 + ".example is no name that a host can have\n",
    )


def test_a_bad_configuration_is_a_mistake(explain: Callable[..., Run], tmp_path: Path) -> None:
    """Its mistakes are said as ``waitroom check`` says them."""
    path = tmp_path / "waitroom.yaml"
    path.write_text("listen: nonsense\n")
    code, out, err = explain("http://a.example/", config=path)
    assert (code, out) == (1, "")
    assert f"{path}:1: listen:" in err


@pytest.mark.parametrize("words", [[], ["http://a.example/"], ["http://a.example/", "--peer", "nobody"]])
def test_usage_is_usage(words: list[str], house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no command ends with 2."""
    config = ["--config", str(house.config)] if "--peer" in words else []
    with pytest.raises(SystemExit) as ended:
        main(["explain", *config, *words])
    assert ended.value.code == 2
    assert "usage: waitroom explain" in capsys.readouterr().err


def test_it_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """``--help`` names every decision, and what is left out of a request."""
    with pytest.raises(SystemExit) as ended:
        main(["explain", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert {case.decision for case in CORPUS.values()} <= set(out.split())
    assert "a fragment is left out" in out


def test_the_documented_answer_is_a_real_one(explain: Callable[..., Run], tmp_path: Path) -> None:
    """What ``docs/OPERATIONS.md`` shows is what the command prints."""
    text = (Path(__file__).parent.parent / "docs" / "OPERATIONS.md").read_text()
    shown = re.search(r"\$ waitroom explain .*\n    .*\n((?:.*\n)+?)```", text)
    assert shown is not None
    launch = {
        "name": "launch",
        "admission": "fixed",
        "match": [{"path": "/event/"}],
        "bypass": [{"path": "/event/assets/"}],
    }
    path = tmp_path / "waitroom.yaml"
    sites = [{"hosts": ["shop.example"], "origin": "http://127.0.0.1:8000"}]
    path.write_text(yaml.safe_dump({"sites": sites, "trusted_proxies": ["10.0.0.0/8"], "rooms": [launch]}))
    words = ["http://shop.example/event/assets/..%2forder", "--peer", "10.0.0.7", "-H", "X-Forwarded-For: 203.0.113.9"]
    assert explain(*words, config=path) == (0, shown[1], "")
