"""What operators may ask and say: the rooms, the verbs, the metrics.

Nothing is judged here but the form of a request. What may be said over a room, and what comes of it, the store knows;
it also keeps who said it. Whatever goes wrong, the answer is one JSON object with a word and a sentence.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from waitroom.admin import metrics
from waitroom.admin.answers import HEADERS, refusal, stated, text
from waitroom.admin.door import LOGIN, Door
from waitroom.admin.events import LISTENERS_MAX, Events, Listening, Look
from waitroom.admin.facts import scored, view
from waitroom.admin.history import STEP_S, History
from waitroom.admin.pages import Pages, detail, overview
from waitroom.admin.sessions import COOKIE, LASTS_S, SECURE_COOKIE
from waitroom.errors import StoreAway

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from waitroom.admin.door import House
    from waitroom.admin.sessions import Session
    from waitroom.ports import Status, Store

logger = logging.getLogger("waitroom.admin")

BODY_BYTES_MAX = 64 * 1024
BODY_WITHIN_S = 10.0
"""How long a body may take to arrive: an operator's is a line."""

FIELDS_MAX = 8
ID_CHARS_MAX = 16
GUESS_S = 1.0
"""How long a wrong token at the login waits for its answer."""

GUESSES_MAX = 8
"""How many may wait so at a time; beyond, the answer is 429 at once."""

OPERATOR_CHARS_MAX = 64
SENTENCE_CHARS_MAX = 500
"""What an answer repeats of what it was sent."""

OWN_VERBS: Final = ("reset", "clear")
"""What the store takes beside settings, and here has paths of its own: they are not said by the way."""

HOME: Final = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Waitroom: operators</title>
<h1>Waitroom</h1>
<p>This is the operators' listener. Every request brings
<code>Authorization: Bearer TOKEN</code>, or a session's cookie.
A browser that logs in by the form gets the dashboard.</p>
<pre>
GET  /api/rooms
GET  /api/rooms/ROOM
GET  /api/rooms/ROOM/history the last hour, in steps of five seconds
GET  /api/rooms/ROOM/log
GET  /api/rooms/ROOM/draw    what the order of its event was drawn from, once it is
POST /api/rooms/ROOM         {"queue_all": true}; null goes back to the configuration
POST /api/rooms/ROOM/clear   takes back everything that was said
POST /api/rooms/ROOM/reset   ends the line and the passes; {"keep_inside": true} lets the passes run out
GET  /api/events             the rooms about once a second, as server-sent events, and what is said to them
GET  /metrics
</pre>
"""


class _Refused(Exception):  # noqa: N818 - an answer, not a fault
    """Ends a request: nothing was done."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.answer = refusal(status, error, message)


class _Api:
    """Answers requests that came through the door."""

    def __init__(self, house: House, store: Store, counted: Callable[[], Mapping[str, float]], pages: Pages) -> None:
        self._house = house
        self._store = store
        self._counted = counted
        self._pages = pages
        self._guesses = 0
        self._history = History()
        self.events = Events(self._statuses, self._history)

    async def home(self, request: Request) -> Response:
        """Show the rooms to who logged in; say what is here to who brings the token, which is a program."""
        session = request.scope.get("session")
        return text(HOME, "text/html") if session is None else await self._overview(session)

    async def _overview(self, session: Session) -> Response:
        look, answered = await self._look()
        return self._pages.rooms(session, look, answered=answered)

    async def room_page(self, request: Request) -> Response:
        """Show one room."""
        session, room = request.scope.get("session"), self._named(request)
        if session is None:
            return text(HOME, "text/html")
        look, answered = await self._look()
        return self._pages.room(
            session,
            look,
            answered=answered,
            name=room,
            events=self._house.rooms[room],
            minutes=self._history.minutes(room),
        )

    async def asset(self, request: Request) -> Response:
        """Give a file of the dashboard's."""
        answer = self._pages.asset(request.path_params["name"])
        if answer is None:
            raise _Refused(404, "path", "there is no such file; load the page again")
        return answer

    async def login(self, request: Request) -> Response:
        """Open a session for who sends the token. The right one is never kept waiting, so guesses lock nobody out."""
        form = _fields(await _body(request))
        if not self._house.opens(form.get("token", "").strip()):
            logger.warning("wrong token at the login", extra={"reason": "admin-login", "client": _client(request)})
            if self._guesses >= GUESSES_MAX:
                return self._pages.login(429, "Too many wrong tokens at once; try again.")
            self._guesses += 1
            try:
                await asyncio.sleep(GUESS_S)
            finally:
                self._guesses -= 1
            return self._pages.login(401, "This is not the token.")
        session = self._house.sessions.open(self._house.token, _readable(form.get("who", "")) or "dashboard")
        answer = Response(status_code=303, headers={**HEADERS, "Location": "/"})
        secure = request.headers.get("origin", "").startswith("https:")
        name = SECURE_COOKIE if secure else COOKIE
        answer.set_cookie(name, session.name, max_age=LASTS_S, secure=secure, httponly=True, samesite="strict")
        logger.info("%s logged in", session.who, extra={"client": _client(request)})
        return answer

    async def session(self, request: Request) -> Response:
        """State who is logged in, and what the session's page sends along."""
        session = request.scope.get("session")
        if session is None:
            raise _Refused(404, "session", "the token opens everything; only a login by the form makes a session")
        return stated({"who": session.who, "csrf": session.csrf})

    async def logout(self, request: Request) -> Response:
        """End the session."""
        if session := request.scope.get("session"):
            self._house.sessions.close(session)
        answer = stated({})
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        answer.delete_cookie(SECURE_COOKIE, secure=True, httponly=True, samesite="strict")
        return answer

    async def rooms(self, _: Request) -> Response:
        """State every room."""
        return stated({"rooms": [view(status) for status in await self._statuses()]})

    async def room(self, request: Request) -> Response:
        """State one room, or say settings over its configuration."""
        if request.method == "POST":
            return await self._say(request)
        return stated(view(await self._status(self._named(request))))

    async def log(self, request: Request) -> Response:
        """State what was said to a room, the oldest first."""
        status = await self._store.status(self._named(request))
        return stated({"room": status.room, "log": list(status.log)})

    async def drawn(self, request: Request) -> Response:
        """State the draw of a room's event, once its places are dealt."""
        drawn = await self._store.drawn(self._named(request))
        if drawn is None:
            raise _Refused(404, "draw", "there is no draw to publish: none was made, or its places are not dealt yet")
        tickets, ranks = (base64.b64encode(many).decode() for many in (drawn.tickets, drawn.ranks))
        return stated(asdict(drawn) | {"tickets": tickets, "ranks": ranks})

    async def history(self, request: Request) -> Response:
        """State a room's last hour."""
        room = self._named(request)
        return stated({"room": room, "step_s": STEP_S, **self._history.of(room)})

    async def clear(self, request: Request) -> Response:
        """Take back everything that was said."""
        room = self._named(request)
        if said := await _said(request):
            raise _Refused(422, "said", f"{next(iter(said))}: clear takes back everything, and takes no keys")
        return await self._operate(request, room, {"clear": True})

    async def reset(self, request: Request) -> Response:
        """End the line, and the passes too unless they are to run out."""
        room, said = self._named(request), await _said(request)
        keep = said.pop("keep_inside", False)
        if said:
            raise _Refused(422, "said", f"{next(iter(said))}: is unknown; reset takes keep_inside")
        if not isinstance(keep, bool):
            raise _Refused(422, "said", "keep_inside: is neither true nor false")
        return await self._operate(request, room, {"reset": "keep_inside" if keep else True})

    async def listen(self, request: Request) -> Response:
        """Tell of the rooms as they change, until the session or the token is no longer good."""
        last = request.headers.get("last-event-id") or request.query_params.get("since", "")
        told = int(last) if last.isascii() and last.isdigit() and len(last) <= ID_CHARS_MAX else 0
        write = self._writer(request)
        token, cookies = self._house.token, request.headers.get("cookie", "")
        by_session = "session" in request.scope

        def may_listen() -> bool:
            sessions = self._house.sessions
            return self._house.opens(token) and (not by_session or sessions.find(cookies, token) is not None)

        if not self.events.take_seat():
            raise _Refused(503, "listeners", f"{LISTENERS_MAX} listen already")
        return Listening(self.events, self.events.tell(may_listen, told, write), HEADERS)

    def _writer(self, request: Request) -> Callable[[Look], str] | None:
        """Return what writes the events of a page of the dashboard: ``page`` names the room, or none for all."""
        room = request.query_params.get("page")
        if room is None:
            return None
        if room and room not in self._house.rooms:
            raise _Refused(404, "room", "there is no room of this name")

        def write(look: Look) -> str:
            if look.rooms is None:
                return look.event("away", lambda: ("away", {}))
            return look.event(("page", room), lambda: detail(look, room) if room else overview(look))

        return write

    async def metrics(self, _: Request) -> Response:
        """State everything in Prometheus' words; without the record, what the processes count."""
        try:
            statuses = await self._statuses()
        except StoreAway:
            statuses = None
        return text(metrics.page(statuses, self._counted()), metrics.CONTENT_TYPE)

    def _named(self, request: Request) -> str:
        room: str = request.path_params["room"]
        if room not in self._house.rooms:
            known = f"; there are: {', '.join(self._house.rooms)}" if self._house.rooms else ""
            raise _Refused(404, "room", f"there is no room of this name{known}")
        return room

    async def _look(self) -> tuple[Look, bool]:
        """Return all rooms as of now for a page, or as they were last seen; and whether the record answered."""
        try:
            return Look(0, await self._statuses()), True
        except StoreAway:
            return Look(0, self.events.known), False

    async def _statuses(self) -> list[Status]:
        found = await asyncio.gather(*(self._store.status(room) for room in self._house.rooms))
        counted = self._counted()
        return [scored(status, counted) for status in found]

    async def _status(self, room: str) -> Status:
        return scored(await self._store.status(room), self._counted())

    async def _say(self, request: Request) -> Response:
        room, said = self._named(request), await _said(request)
        for name in OWN_VERBS:
            if name in said:
                raise _Refused(422, "said", f"{name}: is no setting; POST to /api/rooms/{room}/{name}")
        if any(isinstance(value, (dict, list)) for value in said.values()):
            raise _Refused(422, "said", "a setting is one value: true, false, a number, a text, or null")
        return await self._operate(request, room, said)

    async def _operate(self, request: Request, room: str, verbs: Mapping[str, Any]) -> Response:
        try:
            status = await self._store.operate(room, verbs, _who(request))
        except ValueError as error:
            raise _Refused(422, "said", str(error)[:SENTENCE_CHARS_MAX]) from None
        self.events.look_now()
        last = status.log[-1]
        logger.info("%s said: %s", last["who"], last["did"], extra={"room": room, "client": _client(request)})
        return stated(view(scored(status, self._counted())))


def app(house: House, store: Store, counted: Callable[[], Mapping[str, float]]) -> Starlette:
    """Return the listener's ASGI application.

    ``counted`` returns what all processes count together, under the names of ``waitroom/stats.py``. Raises
    ``StartError`` when the pages cannot be had.
    """
    pages = Pages()
    api = _Api(house, store, counted, pages)
    application = Starlette(
        routes=[
            Route("/", api.home),
            Route("/rooms/{room}", api.room_page),
            Route("/assets/{name}", api.asset),
            Route(LOGIN, api.login, methods=["POST"]),
            Route("/logout", api.logout, methods=["POST"]),
            Route("/api/events", api.listen),
            Route("/api/session", api.session),
            Route("/api/rooms", api.rooms),
            Route("/api/rooms/{room}", api.room, methods=["GET", "POST"]),
            Route("/api/rooms/{room}/reset", api.reset, methods=["POST"]),
            Route("/api/rooms/{room}/clear", api.clear, methods=["POST"]),
            Route("/api/rooms/{room}/log", api.log),
            Route("/api/rooms/{room}/draw", api.drawn),
            Route("/api/rooms/{room}/history", api.history),
            Route("/metrics", api.metrics),
        ],
        middleware=[Middleware(Door, house, pages)],
        exception_handlers={
            _Refused: _refused,
            StoreAway: _store_away,
            HTTPException: _not_here,
            Exception: _fault,
        },
    )
    application.router.redirect_slashes = False
    application.state.events = api.events
    return application


async def _body(request: Request) -> bytes:
    """Return the body, which is short and arrives soon."""
    body = b""
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for piece in request.stream():
                body += piece
                if len(body) > BODY_BYTES_MAX:
                    raise _Refused(413, "body", f"the body is longer than {BODY_BYTES_MAX} bytes")
    except (TimeoutError, ClientDisconnect):
        raise _Refused(408, "body", "the body did not arrive") from None
    return body


def _fields(body: bytes) -> dict[str, str]:
    """Return the fields of a form."""
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=FIELDS_MAX))
    except ValueError:
        raise _Refused(400, "body", f"the form has more than {FIELDS_MAX} fields") from None


async def _said(request: Request) -> dict[str, Any]:
    """Return the JSON object of the body; an empty body is an empty object."""
    body = await _body(request)
    if not body:
        return {}
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise _Refused(400, "body", "the body is no JSON object")
    return said


def _who(request: Request) -> str:
    """Return who the operator says to be, or said at the login; ``api`` where nothing readable is said."""
    said = request.headers.get("waitroom-operator", "").encode("latin-1").decode("utf-8", "replace")
    session = request.scope.get("session")
    return _readable(said) or (session.who if session else "api")


def _readable(who: str) -> str:
    """Return a name that a log can hold; empty where this is none."""
    who = who.strip()
    return who if who.isprintable() and len(who) <= OPERATOR_CHARS_MAX else ""


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, _Refused)
    return error.answer


async def _store_away(_: Request, error: Exception) -> Response:
    return refusal(503, "store-away", f"{error}; nothing is lost, ask again", {"Retry-After": "1"})


async def _not_here(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, "path", "GET / says what is here", error.headers or {})


async def _fault(_: Request, __: Exception) -> Response:
    return refusal(500, "bug", "a fault of ours; the log says more")
