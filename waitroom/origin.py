"""The origin's side: tells what came through the waiting room from what only says so.

The proxy signs a statement about every request that it forwards with a pass: which visitor of which room this is, when
they were admitted, and for exactly which request it says so. It travels in the header ``Waitroom-Assertion``. Whoever
goes around the proxy cannot make one, cannot use one that was made for another request, and cannot use any for longer
than a minute.

Take the whole door or the lock alone. ``AsgiAssertionMiddleware`` and ``WsgiAssertionMiddleware`` stand around an
application and answer 403 to whatever has no valid assertion. ``verify_assertion`` judges one text, for every other
framework. All need the key that ``waitroom keys assertion`` prints, never the signing key itself.

This file imports the standard library and nothing else: a shop may install Waitroom, or copy this one file. The format
is spelled out in ``docs/ORIGIN.md``, for origins in other languages.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes, unquote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = [
    "AGE_S_MAX",
    "AHEAD_S_MAX",
    "ASSERTION_BYTES_MAX",
    "AsgiAssertionMiddleware",
    "InvalidAssertion",
    "Statement",
    "WsgiAssertionMiddleware",
    "verify_assertion",
]

logger = logging.getLogger("waitroom.origin")

ASSERTION_BYTES_MAX = 1024
"""A longer text is not looked at. A usual assertion has about 250 bytes; with the longest host there is, about 500."""

AGE_S_MAX = 60.0
"""An assertion that was made longer ago is refused. It is made as the request is forwarded, so it is old in no time."""

AHEAD_S_MAX = 30.0
"""How far the proxy's clock may be ahead of this one. One that is behind by so much shortens ``AGE_S_MAX`` instead."""

_NUMBER = "(?:0|[1-9][0-9]{0,15})"
_ESCAPED = r"(?:[A-Za-z0-9\-._~:\[\]]|%[0-9A-F]{2})"
_FORM = re.compile(
    r"(?P<stated>1;(?P<key>[0-9a-f]{8});(?P<room>[a-z0-9-]{1,40})"
    rf";(?P<number>{_NUMBER});(?P<visitor>[0-9a-f]{{16,32}});(?P<admitted>{_NUMBER});(?P<made>{_NUMBER})"
    rf";(?P<method>{_ESCAPED}*);(?P<host>{_ESCAPED}*);(?P<target>[0-9a-f]{{64}}));(?P<signature>[0-9a-f]{{64}})"
)
_KEY = re.compile(r"(?P<id>[0-9a-f]{8})\.[0-9a-f]{64}")
_UNESCAPED = "-._~:[]"

_OURS = re.compile("waitroom[^a-z0-9](.*)", re.ASCII | re.IGNORECASE | re.DOTALL)
_ROUNDS_MAX = 4
_REFUSED = "This is reached through the waiting room only ({}).\n"
# What needs no escape in a path (RFC 3986, 3.3), and what every client we know leaves as it is.
_PATH_UNESCAPED = "/-._~!$&'()*+,;=:@"


class InvalidAssertion(Exception):  # noqa: N818 - what it is, as one says it
    """The text proves nothing about the request. Answer 403.

    ``reason`` is one word, for logs and for whoever sets this up; it gives nothing away:

    * ``missing``: there is none; nobody came through the waiting room, or a request was forwarded without a pass
    * ``duplicate``: there are several; the proxy sends one
    * ``oversized``, ``malformed``: this is no assertion, or one of a version that this file does not know
    * ``unknown-key``: it was signed with a key that was not given here, or what was given is no key
    * ``altered``: the signature is not that of what it states
    * ``old``, ``future``: it was made more than a minute ago, or this clock and the proxy's disagree
    * ``other-method``, ``other-host``, ``other-target``: it was made for another request
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Statement:
    """What a valid assertion states: a visitor of a room sent this request, and holds a pass.

    ``number`` is the visitor's place in the room's line, given to nobody else while the room's generation lasts.
    ``visitor`` is their random id, hexadecimal. ``admitted_at_ms`` is when they came in and ``made_at_ms`` when the
    request was forwarded, both in milliseconds since 1970, the first by the clock of the proxy's store and the second
    by that of its machine.

    ``method`` is as sent, ``host`` is the request's Host in lower case. Of the target the assertion carries a digest
    only: ``target`` is the one it was held against, and None when it was held against none.
    """

    room: str
    number: int
    visitor: str
    admitted_at_ms: int
    made_at_ms: int
    method: str
    host: str
    target: str | None = None


def verify_assertion(
    assertion: str | bytes | None,
    key: str | Sequence[str],
    *,
    method: str | bytes | None = None,
    host: str | bytes | None = None,
    target: str | bytes | None = None,
    now: float | None = None,
) -> Statement:
    """Return what an assertion states, or raise ``InvalidAssertion``.

    For example, in a view of any framework::

        stated = verify_assertion(
            request.headers.get("Waitroom-Assertion"),
            os.environ["ASSERTION_KEYS"].split(","),
            method=request.method,
            host=request.headers["Host"],
            target=request.raw_target,
        )

    ``assertion`` is the header's value; None, for a request without the header, is as invalid as any other.

    ``key`` is what ``waitroom keys assertion`` prints: one line of it, or several, in any order, while keys are being
    changed. Blanks around a key do not matter. What is no such key opens nothing.

    ``method``, ``host`` and ``target`` are those of the request at hand. **Give all three**: without them the assertion
    of any other request of the last minute is taken for this one's. ``target`` is the path *and query* exactly as they
    came in, byte for byte, before anything is decoded or normalised; ``host`` is the Host header, its case aside.
    Text is taken as UTF-8, bytes are taken as they are.

    ``now`` is the time to judge by, in seconds since 1970, and this machine's clock if left out.
    """
    found = _read(assertion, _keyring((key,) if isinstance(key, str) else key), now)
    return _state(found, method=method, host=host, targets=() if target is None else (target,))


def _keyring(keys: Iterable[str]) -> dict[str, bytes]:
    """Return the keys by their ids; what is no key is left out."""
    return {found["id"]: found[0].encode() for key in keys if (found := _KEY.fullmatch(key.strip()))}


def _read(assertion: str | bytes | None, keys: Mapping[str, bytes], now: float | None) -> re.Match[str]:
    """Return the fields of an assertion that is signed with one of the keys, and made just now."""
    if not assertion:
        raise InvalidAssertion("missing")
    if len(assertion) > ASSERTION_BYTES_MAX:
        raise InvalidAssertion("oversized")
    found = _FORM.fullmatch(assertion.decode("latin-1") if isinstance(assertion, bytes) else assertion)
    if found is None:
        raise InvalidAssertion("malformed")
    key = keys.get(found["key"])
    if key is None:
        raise InvalidAssertion("unknown-key")
    if not hmac.compare_digest(hmac.digest(key, found["stated"].encode("ascii"), "sha256").hex(), found["signature"]):
        raise InvalidAssertion("altered")
    age_s = (time.time() if now is None else now) - int(found["made"]) / 1000
    if age_s > AGE_S_MAX:
        raise InvalidAssertion("old")
    if age_s < -AHEAD_S_MAX:
        raise InvalidAssertion("future")
    return found


def _state(
    found: re.Match[str],
    *,
    method: str | bytes | None,
    host: str | bytes | None,
    targets: Sequence[str | bytes],
) -> Statement:
    """Return the statement, if it is about this request; of several ``targets`` one must be the right one."""
    if method is not None and _escaped(_bytes(method)) != found["method"]:
        raise InvalidAssertion("other-method")
    if host is not None and _escaped(_bytes(host).lower()) != found["host"]:
        raise InvalidAssertion("other-host")
    stated = Statement(
        room=found["room"],
        number=int(found["number"]),
        visitor=found["visitor"],
        admitted_at_ms=int(found["admitted"]),
        made_at_ms=int(found["made"]),
        method=unquote(found["method"], "latin-1"),
        host=unquote(found["host"], "latin-1"),
    )
    for target in targets:
        if hashlib.sha256(_bytes(target)).hexdigest() == found["target"]:
            return replace(stated, target=target.decode("latin-1") if isinstance(target, bytes) else target)
    if targets:
        raise InvalidAssertion("other-target")
    return stated


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _escaped(value: bytes) -> str:
    return quote_from_bytes(value, safe=_UNESCAPED)


# --- The middleware ----------------------------------------------------------------------------------------------


class _Guard:
    """What both kinds of middleware share: the keys, what is protected, and the judgement."""

    def __init__(self, key: str | Sequence[str], protect: str | Iterable[str]) -> None:
        keys = {one.strip() for one in ((key,) if isinstance(key, str) else key)}
        self._keys = _keyring(keys)
        if not keys or len(self._keys) < len(keys):
            raise ValueError("key: there is none, or one that `waitroom keys assertion` did not print")
        paths = (protect,) if isinstance(protect, str) else protect
        self._protected = tuple(unquote_to_bytes(_bytes(path)).lower() for path in paths)
        if not self._protected or not all(path.startswith(b"/") for path in self._protected):
            raise ValueError("protect: write paths that begin with /, such as /event/")

    def judge(
        self,
        assertions: Sequence[str | bytes],
        *,
        method: str,
        hosts: Sequence[str | bytes],
        path: bytes,
        query: bytes,
        exact: bool = False,
    ) -> Statement:
        """Return what the request's one assertion states about it.

        Unless the target is ``exact``, nobody can tell any more whether a ``?`` stood before an empty query.
        """
        if len(assertions) > 1:
            raise InvalidAssertion("duplicate")
        found = _read(assertions[0] if assertions else None, self._keys, None)
        if len(hosts) != 1:
            raise InvalidAssertion("other-host")
        targets = [path] if exact else [path + b"?" + query] if query else [path, path + b"?"]
        return _state(found, method=method, host=hosts[0], targets=targets)

    def protects(self, *paths: bytes) -> bool:
        """Tell whether one of the paths is protected, as it stands or as a careless application might read it."""
        return any(self._covers(path.lower() or b"/") or self._covers(_folded(path)) for path in paths)

    def _covers(self, path: bytes | None) -> bool:
        if path is None or not path.startswith(b"/"):
            return True
        below = path + b"/"
        return any(
            path == protected or (protected.endswith(b"/") and below.startswith(protected))
            for protected in self._protected
        )


def _folded(path: bytes) -> bytes | None:
    """Return a path as the most forgiving application reads it; None when it is decoded on and on."""
    for _ in range(_ROUNDS_MAX):
        decoded = unquote_to_bytes(path)
        if decoded == path:
            break
        path = decoded
    else:
        return None
    kept: list[bytes] = []
    for segment in re.sub(rb";[^/]*", b"", path.lower().replace(b"\\", b"/")).split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    return b"/" + b"/".join(kept)


def _ours(name: str) -> str | None:
    """Return what follows ``Waitroom-`` in a header's name, as CGI would spell that; None for all other headers."""
    found = _OURS.fullmatch(name)
    return found[1].lower() if found else None


def _told(stated: Statement | None) -> list[tuple[str, str]]:
    """Return the headers that an application may believe."""
    if stated is None:
        return []
    return [
        ("waitroom-room", stated.room),
        ("waitroom-number", str(stated.number)),
        ("waitroom-visitor", stated.visitor),
        ("waitroom-admitted-at", str(stated.admitted_at_ms)),
    ]


class AsgiAssertionMiddleware:
    r"""Lets only those requests of an ASGI application through that came through the waiting room.

    For example, around a Starlette or FastAPI application, or any other, outermost::

        app = AsgiAssertionMiddleware(app, os.environ["ASSERTION_KEYS"].split(","), protect=["/event/"])

    A request whose path is protected gets **403** and a line of plain text, unless it carries one valid assertion for
    exactly this method, Host and target; a WebSocket is refused before it is accepted. Every other request goes on.
    ``scope["state"]["waitroom"]`` is then the ``Statement`` (``request.state.waitroom`` in Starlette), or None for a
    request that proved nothing, to a path that is not protected. Headers named ``Waitroom-*``, in any spelling that CGI
    would take for them, are dropped and written anew from the statement, so what an application finds in them is true.

    ``key`` is as for ``verify_assertion``. ``ValueError`` if one of them is no key that ``waitroom keys assertion``
    printed, so that a mistake shows at the start.

    ``protect`` lists paths as in the proxy's configuration: one that ends in ``/`` covers all below it and itself
    without the ``/``, any other covers itself. They are compared without regard to case, and also with the path as an
    application might read it that decodes once more, takes ``\`` for ``/``, cuts ``;parameters``, merges slashes or
    resolves dots. All paths are protected if nothing is said. Leave out what the proxy forwards without a pass:
    ordinary pages, a room's ``bypass``, and whatever is not to fail while the room is suspended or in ``passthrough``.

    ``root_path`` is what the server puts before every path although it was not in the request, as ``uvicorn
    --root-path`` does. It is taken away before the target is compared.

    Put it outermost: what stands around it must not change method, Host or path.
    """

    def __init__(
        self,
        app: ASGIApplication,
        key: str | Sequence[str],
        *,
        protect: str | Iterable[str] = ("/",),
        root_path: str = "",
    ) -> None:
        self._app = app
        self._guard = _Guard(key, protect)
        self._root = root_path.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge one request, and pass it on or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            raise ValueError(f"a scope of type {scope['type']!r} cannot be judged")
        stated = None
        try:
            stated = self._judge(scope)
        except InvalidAssertion as error:
            # Either may be what the application routes by: servers disagree whether the root is a part of the path.
            path, root = _bytes(scope["path"]), _bytes(scope.get("root_path", ""))
            if self._guard.protects(path, path.removeprefix(root)):
                logger.info("refused: %s", error.reason, extra={"reason": error.reason})
                await _refuse(scope, send, error.reason)
                return
        headers = [(name, value) for name, value in scope["headers"] if _ours(name.decode("latin-1")) is None]
        headers += [(name.encode(), value.encode()) for name, value in _told(stated)]
        state = {**(scope.get("state") or {}), "waitroom": stated}
        await self._app({**scope, "headers": headers, "state": state}, receive, send)

    def _judge(self, scope: Scope) -> Statement:
        raw_path = scope.get("raw_path")
        if raw_path is None:
            raw_path = quote_from_bytes(_bytes(scope["path"]), safe=_PATH_UNESCAPED).encode()
        fields = [(name.decode("latin-1").lower(), value) for name, value in scope["headers"]]
        return self._guard.judge(
            [value for name, value in fields if _ours(name) == "assertion"],
            method=scope.get("method", "GET"),  # a WebSocket's scope has none, and its request is a GET
            hosts=[value for name, value in fields if name == "host"],
            path=raw_path.removeprefix(self._root),
            query=scope.get("query_string", b""),
        )


async def _refuse(scope: Scope, send: Send, reason: str) -> None:
    """Answer 403; to a WebSocket too, where the server knows how. Where it does not, it answers so by itself."""
    kind = "http.response"
    if scope["type"] == "websocket":
        kind = "websocket.http.response"
        if kind not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close"})
            return
    body = _REFUSED.format(reason).encode()
    headers = [(name.lower().encode(), value.encode()) for name, value in _refusal_headers(body)]
    await send({"type": f"{kind}.start", "status": 403, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _refusal_headers(body: bytes) -> list[tuple[str, str]]:
    return [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]


class WsgiAssertionMiddleware:
    """Lets only those requests of a WSGI application through that came through the waiting room.

    For example, around a Flask or Django application, or any other, outermost::

        app = WsgiAssertionMiddleware(app, os.environ["ASSERTION_KEYS"].split(","), protect=["/event/"])

    All is as with ``AsgiAssertionMiddleware``, except that the ``Statement``, or None, stands in
    ``environ["waitroom.statement"]``, and that the headers written anew are ``HTTP_WAITROOM_ROOM`` and so on.

    WSGI has only the decoded path. The target as it was sent is taken from ``REQUEST_URI`` (uWSGI, waitress, cheroot,
    Werkzeug, mod_wsgi) or ``RAW_URI`` (gunicorn). Where a server gives neither (wsgiref, gevent, Granian) it is put
    together from what there is, in the usual spelling. Nothing is let through by that which the application could tell
    from what was asserted, but a request that was spelled unusually, ``%2F`` or ``%41`` in a path, is refused.
    """

    def __init__(
        self, app: WSGIApplication, key: str | Sequence[str], *, protect: str | Iterable[str] = ("/",)
    ) -> None:
        self._app = app
        self._guard = _Guard(key, protect)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Judge one request, and pass it on or refuse it."""
        stated = None
        try:
            stated = self._judge(environ)
        except InvalidAssertion as error:
            path = environ.get("PATH_INFO", "").encode("latin-1")
            if self._guard.protects(_script_name(environ) + path, path):
                logger.info("refused: %s", error.reason, extra={"reason": error.reason})
                body = _REFUSED.format(error.reason).encode()
                start_response("403 Forbidden", _refusal_headers(body))
                return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        for name in [name for name in environ if _ours(name.removeprefix("HTTP_")) is not None]:
            del environ[name]
        for name, value in _told(stated):
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
        environ["waitroom.statement"] = stated
        return self._app(environ, start_response)

    def _judge(self, environ: WSGIEnvironment) -> Statement:
        assertions = [value for name, value in environ.items() if _ours(name.removeprefix("HTTP_")) == "assertion"]
        sent = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
        path = _script_name(environ) + environ.get("PATH_INFO", "").encode("latin-1")
        return self._guard.judge(
            assertions,
            method=environ["REQUEST_METHOD"],
            hosts=[environ["HTTP_HOST"]] if "HTTP_HOST" in environ else [],
            path=sent.encode("latin-1") if sent else quote_from_bytes(path or b"/", safe=_PATH_UNESCAPED).encode(),
            query=environ.get("QUERY_STRING", "").encode("latin-1"),
            exact=bool(sent),
        )


def _script_name(environ: WSGIEnvironment) -> bytes:
    return str(environ.get("SCRIPT_NAME", "")).encode("latin-1")
