"""How one tells, from the outside, what a waiting room says: an adapter for each kind, and one for all others.

An adapter writes the requests of a visitor and reads the answers. It keeps nothing of any visitor: what a browser would
keep, its cookies and the address it is at, is handed in. To drive a waiting room that none of these understands, write
a class with the methods of ``Adapter`` and name it as ``module:Class``; it is made with one ``Options``.
"""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin, urlsplit

from waitroom.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

    from waitroom.crowd.answers import Answer

TOLD_MAX_S = 3600.0
COOKIES_BYTES_MAX = 4096
JITTER = 0.3
PAGE_BYTES = 400
"""Within so many bytes of the number a page says everything else of the place."""

DOCUMENT = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) waitroom-rehearse\r\n"
    "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"
    "Accept-Language: en\r\n"
    "Accept-Encoding: identity\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Site: none\r\n"
)
FETCH = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) waitroom-rehearse\r\n"
    "Accept: */*\r\n"
    "Accept-Encoding: identity\r\n"
    "Sec-Fetch-Mode: cors\r\n"
    "Sec-Fetch-Dest: empty\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
)
CALL = "User-Agent: waitroom-rehearse\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"


class Standing(Enum):
    """Where a visitor stands, as the last answer has it."""

    WAITING = auto()
    """In line, or told to try again: to come back when told."""
    CALLED = auto()
    """It is their turn: to enter at once."""
    ADMITTED = auto()
    """The site answered."""
    TURNED_AWAY = auto()
    """There is nothing to wait for: closed, rejected, sold out."""
    LOST = auto()
    """The room does not know a place that it gave."""
    ELSEWHERE = auto()
    """The answer leads to another address of the site, which is asked at once."""
    ERROR = auto()
    """An answer that says none of this."""


@dataclass(slots=True)
class Told:
    """What one answer says.

    ``number`` is the place, where the room states one; ``place`` the rank by which people are called, where that is
    another. ``come_back_s`` is when to ask again; ``jitter`` the share of it that the page may add. ``at`` is the
    address to ask from now on. ``why`` is a word for an error or for who was turned away.
    """

    standing: Standing
    come_back_s: float | None = None
    number: int | None = None
    place: int | None = None
    jitter: float | None = None
    pass_until_ms: int | None = None
    claim_by_ms: int | None = None
    at: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """What an adapter is made with: whom to ask for what, and text by which a page of the site is known."""

    authority: str
    target: str
    scheme: str = "http"
    marker: str = ""


class Adapter(Protocol):
    """One kind of waiting room. ``states_numbers``: a place has a number there, and none is shown without one."""

    states_numbers: bool

    def first(self, cookies: bytes, at: str) -> bytes:
        """Return the request by which a visitor comes, or enters when called."""

    def again(self, cookies: bytes, at: str) -> bytes:
        """Return the request by which a visitor in line asks."""

    def leave(self, cookies: bytes) -> bytes | None:
        """Return the request by which a visitor inside says that they are leaving; None where there is no such."""

    def read(self, answer: Answer, *, asked: bool) -> Told:
        """Return what an answer says, to ``first`` or, ``asked``, to ``again``."""


class _Written:
    """Writes requests: everything but the cookie is known beforehand."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._heads: dict[tuple[str, str, str], bytes] = {}

    def _request(self, method: str, target: str, headers: str, cookies: bytes) -> bytes:
        head = self._heads.get((method, target, headers))
        if head is None:
            length = "Content-Length: 0\r\n" if method == "POST" else ""
            head = f"{method} {target} HTTP/1.1\r\nHost: {self._options.authority}\r\n{headers}{length}".encode()
            if len(self._heads) < 1000:  # noqa: PLR2004 - a room whose every visitor has an address of their own
                self._heads[method, target, headers] = head
        return b"%bCookie: %b\r\n\r\n" % (head, cookies) if cookies else head + b"\r\n"

    def first(self, cookies: bytes, at: str) -> bytes:
        """Open the document."""
        return self._request("GET", at or self._options.target, DOCUMENT, cookies)

    def again(self, cookies: bytes, at: str) -> bytes:
        """Load it again."""
        return self.first(cookies, at)

    def leave(self, cookies: bytes) -> bytes | None:  # noqa: ARG002 - what most rooms lack
        """Say nothing."""
        return None


class Waitroom(_Written):
    """Our own kind: ``Waitroom-State`` and ``Retry-After``, the number in the page, and the object of ``me``."""

    states_numbers = True
    WAIT = frozenset({"prequeue", "waiting", "missed", "held", "paused"})
    LOST = frozenset({"none", "expired"})
    AWAY = frozenset({"closed", "rejected"})

    _shown = re.compile(rb'data-number="([0-9]{1,16})"')
    _jitter = re.compile(rb'data-jitter="(0?\.[0-9]{1,6}|[01])"')
    _cookie = re.compile(rb"(?:^|; )(?:__Host-)?waitroom_([a-z0-9-]{1,40})=")

    def again(self, cookies: bytes, at: str) -> bytes:
        """Ask `me`, as the page does."""
        room = self._room(cookies)
        return self._request("GET", f"/.waitroom/{room}/me", FETCH, cookies) if room else self.first(cookies, at)

    def leave(self, cookies: bytes) -> bytes | None:
        """Give up the pass, as the page of the shop may."""
        origin = f"{FETCH}Origin: {self._options.scheme}://{self._options.authority}\r\n"
        room = self._room(cookies)
        return self._request("POST", f"/.waitroom/{room}/leave", origin, cookies) if room else None

    def read(self, answer: Answer, *, asked: bool) -> Told:
        """Read the object of `me`, or a document."""
        state = answer.header(b"waitroom-state")
        if asked and answer.body.startswith(b"{"):
            stated = answer.object()
            told = self._told(stated.get("state"), _seconds(stated.get("refresh_s")), answer)
            told.number, told.place = _whole(stated.get("number")), _whole(stated.get("place"))
            told.pass_until_ms, told.claim_by_ms = _whole(stated.get("pass_until")), _whole(stated.get("claim_by"))
            if told.standing is Standing.ADMITTED and told.pass_until_ms is None:
                told.standing = Standing.CALLED
            return told
        if state is None or state == "admitted":
            return _site(answer)
        told = self._told(state, _seconds(answer.header(b"retry-after")), answer)
        # A page is twelve thousand bytes, of which these are near the end; ``find`` is ten times as fast as ``search``.
        at = answer.body.find(b"data-number=")
        if found := self._shown.match(answer.body, at) if at >= 0 else None:
            told.number = int(found[1])
            if found := self._jitter.search(answer.body, at, at + PAGE_BYTES):
                told.jitter = float(found[1])
        return told

    def _told(self, state: object, come_back_s: float | None, answer: Answer) -> Told:
        if state in self.WAIT:
            return Told(Standing.WAITING, come_back_s)
        if state == "called":
            return Told(Standing.CALLED, come_back_s)
        if state == "admitted":
            return Told(Standing.ADMITTED)
        if state in self.LOST:
            return Told(Standing.LOST, why=str(state))
        if come_back_s is not None and state not in self.AWAY:  # full, sold out for now, too many from here
            return Told(Standing.WAITING, come_back_s, why=str(state))
        if isinstance(state, str):
            return Told(Standing.TURNED_AWAY, why=state)
        return Told(Standing.ERROR, why=f"status {answer.status}")

    def _room(self, cookies: bytes) -> str:
        found = self._cookie.search(cookies)
        return found[1].decode() if found else ""


class Generic(_Written):
    """Any waiting room that works without script.

    A page that says when to come back (``Retry-After``, ``Refresh``, or a meta refresh) is the line, and is loaded
    again. The site is known by the marker; without a marker any page is the site that does not say to come back.
    Redirects within the host are followed.
    """

    states_numbers = False
    WAIT = frozenset({202, 425, 429, 503})
    AWAY = frozenset({401, 403, 404, 410})
    AGAIN_S = 20.0

    _meta = re.compile(
        rb"""<meta[^>]{0,200}http-equiv=["']?refresh["']?[^>]{0,200}content=["']?\s*([0-9.]{1,8})""", re.IGNORECASE
    )

    def read(self, answer: Answer, *, asked: bool) -> Told:  # noqa: ARG002 - both are a document
        """Read a document."""
        if answer.status in range(300, 400) and (location := answer.header(b"location")):
            return self._elsewhere(location)
        marker = self._options.marker
        if marker and marker.encode() in answer.body:
            return Told(Standing.ADMITTED)
        told_s = self._told_s(answer)
        if told_s is not None or answer.status in self.WAIT:
            return Told(Standing.WAITING, self.AGAIN_S if told_s is None else told_s)
        if answer.status in self.AWAY:
            return Told(Standing.TURNED_AWAY, why=f"status {answer.status}")
        if marker and answer.status < _ERRORS:
            return Told(Standing.WAITING, self.AGAIN_S)
        return _site(answer)

    def _told_s(self, answer: Answer) -> float | None:
        told = answer.header(b"retry-after") or (answer.header(b"refresh") or "").split(";")[0].split(",")[0]
        found = None if told else self._meta.search(answer.body)
        return _seconds(found[1].decode() if found else told)

    def _elsewhere(self, location: str) -> Told:
        here = f"{self._options.scheme}://{self._options.authority}"
        try:
            there = urlsplit(urljoin(f"{here}{self._options.target}", location))
        except ValueError:
            return Told(Standing.ERROR, why="a Location that is none")
        if f"{there.scheme}://{there.netloc}" != here:
            return Told(Standing.ERROR, why=f"leads to {there.netloc[:60]}")
        at = (there.path or "/") + (f"?{there.query}" if there.query else "")
        if not at.isascii() or not at.isprintable() or " " in at:
            return Told(Standing.ERROR, why="a Location that is none")
        return Told(Standing.ELSEWHERE, at=at)


class Cloudflare(Generic):
    """Cloudflare's waiting room by its JSON, which has ``cfWaitingRoom``; this one speaks that too."""

    def first(self, cookies: bytes, at: str) -> bytes:
        """Ask for JSON at the address of the room."""
        return self._request("GET", at or self._options.target, CALL, cookies)

    def read(self, answer: Answer, *, asked: bool) -> Told:
        """Read the object."""
        stated = answer.object().get("cfWaitingRoom")
        if not isinstance(stated, dict):
            return super().read(answer, asked=asked)
        if stated.get("inWaitingRoom") is not True:
            return Told(Standing.ADMITTED)
        if stated.get("queueingMethod") == "reject":
            return Told(Standing.TURNED_AWAY, why="rejected")
        told_s = _seconds(stated.get("refreshIntervalSeconds"))
        return Told(Standing.WAITING, self.AGAIN_S if told_s is None else told_s)


ADAPTERS: dict[str, Callable[[Options], Adapter]] = {
    "waitroom": Waitroom,
    "generic": Generic,
    "cloudflare": Cloudflare,
}


def find(name: str, options: Options) -> Adapter:
    """Return the adapter ``name``, or the one that a module of the operator's own has. Raises ``CommandError``."""
    if name in ADAPTERS:
        return ADAPTERS[name](options)
    module, colon, attribute = name.partition(":")
    if not colon:
        raise CommandError(f"--adapter {name}: write {', '.join(ADAPTERS)}, or module:Class for one of your own")
    try:
        made: Adapter = getattr(importlib.import_module(module), attribute)(options)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise CommandError(f"--adapter {name}: {error}") from None
    return made


def keep(cookies: bytes, answer: Answer) -> bytes:
    """Return what a browser that sends ``cookies`` sends after this answer."""
    lines = answer.headers(b"set-cookie")
    if not lines:
        return cookies
    if not cookies and len(lines) == 1 and "max-age=0" not in lines[0].lower():
        pair = lines[0].partition(";")[0].strip()
        return pair.encode("latin-1")[:COOKIES_BYTES_MAX] if "=" in pair else b""
    jar = dict(pair.split("=", 1) for pair in cookies.decode("latin-1").split("; ") if pair)
    for line in lines:
        pair, *attributes = line.split(";")
        name, equals, value = pair.strip().partition("=")
        if not equals:
            continue
        jar.pop(name, None)
        if not any(attribute.strip().lower() in ("max-age=0", "max-age=-1") for attribute in attributes):
            jar[name] = value
    kept = "; ".join(f"{name}={value}" for name, value in jar.items()).encode("latin-1")
    return kept if len(kept) <= COOKIES_BYTES_MAX else cookies


_OK = range(200, 400)
_ERRORS = 400


def _site(answer: Answer) -> Told:
    """Return what an answer says that is none of a waiting room's own."""
    if answer.status in _OK:
        return Told(Standing.ADMITTED)
    return Told(Standing.ERROR, why=f"status {answer.status}")


def _seconds(value: Any) -> float | None:
    """Return a time to wait; None for what is none. The moment that Retry-After may state is not understood."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return min(max(0.0, seconds), TOLD_MAX_S) if math.isfinite(seconds) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60 else None
