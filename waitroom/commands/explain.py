"""``waitroom explain``: what would become of one request, and why, asked without sending it.

The request is written out as it would stand on the wire and handed to the code that serves: ``web/framing.py`` reads
the head, ``web/ways.py`` says which way it goes, ``core/headers.py`` whose it is. Nothing is decided here, so nothing
here can disagree with the proxy; what is here puts it in words. No house need be running, and no token is looked at: a
room's own decision is known to the room alone.

A head that comes in pieces is judged from its first piece on, so one that is refused anyway may be refused with another
sentence than that of the whole; and what depends on the moment (a full house, a body) is not seen in a head.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, assert_never
from urllib.parse import quote

from waitroom import config
from waitroom.core import cors
from waitroom.core import headers as policy
from waitroom.core.routing import OwnKind, Why, readings
from waitroom.errors import CommandError
from waitroom.web.framing import METHODS, Refusal, take_head
from waitroom.web.ways import Forward, Gate, Ours, Ways

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waitroom.core.routing import Doubt, OwnPath, Route
    from waitroom.model import Address, Room, Settings
    from waitroom.web.messages import Request

DESCRIPTION = """\
Say what would become of a request, and why, without sending it: whether a room covers it and by which rule, whether a
bypass holds, which shop would get it, whom we take the client for, or with what it would be refused. It is the proxy's
own code that answers. No house need be running, and nothing is asked of one.

The request has a Host and what you say with -H, nothing else. Of the URL a fragment is left out, and what is not ASCII
is escaped as a browser does; the rest goes as you write it, dots and escapes too. https or http makes no difference:
we speak plain HTTP, and whether a client came by https says a trusted proxy.
"""

EPILOG = """\
decisions:
  forward         no room covers it; it goes to the shop at once
  forward-bypass  a room covers it, and a bypass of the room names every reading of it, and lets this client around
  gate            a room decides, by the token that the visitor carries
  own             a path of ours, /.waitroom/…; the shop never sees it
  refuse          no shop may see it; the reason has the status and the sentence

examples:
  waitroom explain --config waitroom.yaml http://shop.example/event/
  waitroom explain --config waitroom.yaml 'http://shop.example/event/assets/..%2forder' --json
  waitroom explain --config waitroom.yaml http://shop.example/ --peer 10.0.0.7 -H 'X-Forwarded-For: 203.0.113.9'
  waitroom explain --config waitroom.yaml http://shop.example/ --request-target http://other.example/

It ends with 0 for any answer, 1 for a configuration with mistakes or a URL that is none, and 2 for usage.
"""

_URL = re.compile(r"(?is)https?://([^/?#@]+)((?:[/?][^#]*)?)(?:#.*)?")
_NOT_VISIBLE = re.compile(rb"[^\x20-\x7e]")
_AGAINST = {
    Why.HOST: "it is for another host",
    Why.METHOD: "it is for another method",
    Why.NOT_UNDERSTOOD: "not every reading of the target is known",
    Why.QUERY: "some reading of the query does not have what it asks for",
    Why.IP: "it is for other addresses than the client's",
    Why.FOR_ANOTHER: "whoever has this address speaks for another, whom no proxy in `trusted_proxies` names",
    Why.HEADER: "the request does not show its header, in its own spelling and with its value",
    Why.HEADER_TWICE: "its header stands there more than once",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What ``--json`` prints. ``client`` is None when the head was refused before anybody looked whose it is."""

    room: str | None
    rule: str | None
    decision: str
    reason: str
    client: str | None
    forwarded_target: str | None


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "explain",
        help="say what would become of a request, and why",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="the whole URL, as http://shop.example/event/")
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the configuration, YAML")
    parser.add_argument("-X", dest="method", default="GET", metavar="METHOD", help="the method (default GET)")
    parser.add_argument(
        "-H",
        dest="lines",
        action="append",
        default=[],
        metavar="'Name: value'",
        help="a header line, as it stands; more than once for more. A Host stands instead of the URL's",
    )
    parser.add_argument(
        "--request-target", metavar="TARGET", help="what the request line has instead of the URL's path, as it stands"
    )
    parser.add_argument(
        "--peer",
        type=_peer,
        default="127.0.0.1",
        metavar="ADDRESS",
        help="who is at the other end of the connection: the client, or your proxy before us (default 127.0.0.1)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _peer(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no IP address") from None


def _run(options: argparse.Namespace) -> int:
    settings = config.load(options.config, os.environ)
    head = _head(options.url, options.method, options.lines, options.request_target)
    taken, _ = take_head(head, settings.limits, options.peer)
    assert taken is not None, "a head that ends is judged"
    answer, lines = (_refused(taken, None), []) if isinstance(taken, Refusal) else _explained(settings, taken)
    if options.json:
        print(json.dumps(asdict(answer), ensure_ascii=False))
    else:
        line = _visible(head.partition(b"\r\n")[0])
        print("\n".join([line, "", f"{answer.decision}: {answer.reason}", *lines]))
    return 0


def _head(url: str, method: str, lines: Sequence[str], target: str | None) -> bytes:
    """Return the request as it would stand on the wire. Raises ``CommandError`` for what is no URL."""
    found = _URL.fullmatch(url)
    if found is None:
        shown = _visible(os.fsencode(url))
        raise CommandError(f"{shown} is no URL of a shop; write the whole of it, as http://shop.example/event/")
    authority, rest = found.groups()
    if not authority.isascii():
        try:
            authority = authority.encode("idna").decode()
        except UnicodeError:
            raise CommandError(f"{_visible(os.fsencode(authority))} is no name that a host can have") from None
    if target is None:
        target = "".join(one if one.isascii() else quote(one, errors="surrogateescape") for one in rest)
        target = target if target.startswith("/") else f"/{target}"
    said = [line for line in lines if line.partition(":")[0].lower() == "host"]
    hosts = [] if said else [f"Host: {authority}"]
    return os.fsencode("\r\n".join([f"{method} {target} HTTP/1.1", *hosts, *lines, "", ""]))


def _explained(settings: Settings, request: Request) -> tuple[Answer, list[str]]:
    """Return the answer to a request that can be read, and what led to it."""
    ways = Ways(settings)
    way = ways.way(request)
    client, https = policy.client_address(request.headers, request.peer, settings.trusted_proxies)
    trusted = policy.is_trusted(request.peer, settings.trusted_proxies)
    lines = [("host", _site(ways, settings, request.host))]
    match way:
        case Refusal():
            answer = _refused(way, client)
        case Ours(own):
            answer = Answer(None, None, "own", _of_ours(own), client, None)
        case Forward(route):
            if route.room is None:
                answer = Answer(None, None, "forward", "no room covers it", client, _visible(request.target))
            else:
                reason = f"a bypass of the room {route.room.name} holds for it"
                answer = _of_room(route, "forward-bypass", reason, client, request)
            lines += _rules(ways, request, route)
        case Gate(route):
            assert route.room is not None
            reason = _of_gate(route.room, request)
            answer = _of_room(route, "gate", reason, client, request)
            lines += _rules(ways, request, route)
        case _:
            assert_never(way)
    lines.append(("client", _whose(client, request.peer, trusted=trusted, https=https)))
    if answer.forwarded_target is not None:
        address = ways.origin(request.host, answer.room or "")
        assert address is not None, "a host of no site is refused"
        when = ""
        if isinstance(way, Gate):
            asks = cors.is_preflight(request.method, request.fields)
            when = ", while the room is in standby" if asks else ", once the visitor is let in"
        lines.append(("shop", f"gets {answer.forwarded_target} at {_url(address)}{when}"))
    return answer, [f"  {name:8}  {text}" for name, text in lines]


def _of_room(route: Route, decision: str, reason: str, client: str, request: Request) -> Answer:
    assert route.room is not None
    return Answer(route.room.name, route.rule, decision, reason, client, _visible(request.target))


def _of_gate(room: Room, request: Request) -> str:
    if not cors.is_preflight(request.method, request.fields):
        return f"the room {room.name} decides, by the token that the visitor carries"
    allowed = cors.answer_to_preflight(request.fields, {*map(str.encode, room.allowed_origins)}, METHODS)
    verdict = (
        "allows nothing: `cors.allowed_origins` does not list its origin" if allowed is None else "allows the call"
    )
    return f"a CORS preflight, which can show no pass: while it gates, the room {room.name} answers it and {verdict}"


def _refused(refusal: Refusal, client: str | None) -> Answer:
    return Answer(None, None, "refuse", f"{refusal.status} {refusal.text}", client, None)


def _of_ours(own: OwnPath) -> str:
    if own.kind is OwnKind.UNKNOWN:
        return "under /.waitroom/ by some reading of it, and nothing of ours: 404"
    return f"a path of ours: {own.kind}" + (f" of {own.name}" if own.name else "")


def _site(ways: Ways, settings: Settings, host: str) -> str:
    address = ways.origin(host)
    if address is None:
        return f"{host}, which no site names"
    return f"{host}, whose site is at {_url(address)}" + (
        "" if settings.sites else ", as every host is without `sites`"
    )


def _url(address: Address) -> str:
    return f"{'https' if address.https else 'http'}://{address}"


def _rules(ways: Ways, request: Request, route: Route) -> list[tuple[str, str]]:
    """Return a line for every reading of the target, and one for every bypass that came into question."""
    seen = readings(request.target)
    method, asker = request.method.decode("ascii", "replace"), ways.asker(request)
    covering = ways.router.covering(request.host, method, seen)
    lines = [("reading", _reading(path, routes)) for path, routes in covering]
    if not seen.understood:
        lines.append(("", "and others, more than are followed or torn; what is not understood is protected"))
    if route.bypassed:
        lines.append(("bypass", f"{route.rule} holds"))
    rooms = dict.fromkeys(one.room.name for _, routes in covering for one in routes if one.room is not None)
    for room in rooms:
        lines += [("bypass", _against(doubt)) for doubt in ways.router.doubts(room, request.host, method, seen, asker)]
    return lines


def _reading(path: bytes, routes: Sequence[Route]) -> str:
    rules = ", ".join(f"{route.rule} of {route.room.name}" for route in routes if route.room is not None)
    return f"{_visible(path)}  is in {rules}" if rules else f"{_visible(path)}  is in no room"


def _against(doubt: Doubt) -> str:
    why = f"a shop may read {_visible(doubt.reading)}" if doubt.why is Why.READING else _AGAINST[doubt.why]
    return f"{doubt.rule} does not hold: {why}"


def _whose(client: str, peer: str, *, trusted: bool, https: bool) -> str:
    if not trusted:
        return (
            f"{client}, the other end of the connection: it is in no `trusted_proxies`, so what it says is not believed"
        )
    scheme = ", by https" if https else ""
    if client == peer:
        return f"{client}{scheme}: it is in `trusted_proxies`, and names nobody in X-Forwarded-For"
    return f"{client}{scheme}: X-Forwarded-For says so, and {peer} is in `trusted_proxies`"


def _visible(text: bytes) -> str:
    r"""Return bytes as they may be shown on a terminal: ``\x1b`` for what is no visible ASCII."""
    return _NOT_VISIBLE.sub(lambda found: b"\\x%02x" % found[0][0], text).decode("ascii")
