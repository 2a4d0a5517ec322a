"""Who may speak to the admin listener at all.

A request passes three questions, and nothing about the house is told before the last. *Is it meant for us?* A ``Host``
that is neither an address nor a name of ours is how a page in the operator's own browser reaches a listener on
loopback: it lets its name point there. *Does it come from a page of somebody else's?* Browsers say so in ``Origin``.
*Does it bring the token?* Compared in constant time, so that a wrong one does not tell how nearly right it is.

A browser brings a session's cookie instead, which it sends to every port of this host and with whatever makes it send.
So who says something by a cookie also names the ``Origin``, and sends what only the session's own page can read.

Who is turned away is logged with the address, and never with what was sent.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers

from waitroom.admin.answers import refusal
from waitroom.admin.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from waitroom.admin.pages import Pages
    from waitroom.model import RoomEvent

logger = logging.getLogger("waitroom.admin")

LOGIN: Final = "/login"
CSRF: Final = "waitroom-csrf"
"""The header in which a session's page sends what only it can read."""


@dataclass(slots=True)
class House:
    """What a reload may change: the rooms with their events, the name the listener goes by, the token."""

    rooms: Mapping[str, Sequence[RoomEvent]]
    host: str
    token: str
    sessions: Sessions = field(default_factory=Sessions)

    def opens(self, token: str) -> bool:
        """Return whether this is the token."""
        return _same(token, self.token)


class Door:
    """Lets through to ``inside`` what may speak."""

    def __init__(self, inside: ASGIApp, house: House, pages: Pages) -> None:
        self._inside = inside
        self._house = house
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        turned_away = self._judge(Headers(scope=scope), scope)
        await (turned_away or self._inside)(scope, receive, send)

    def _judge(self, headers: Headers, scope: Scope) -> Response | None:
        """Return why a request may not pass; None when it may."""
        client = scope["client"]
        host, origins = headers.get("host", ""), headers.getlist("origin")
        if not self._is_ours(host):
            return _turn_away(client, 421, "host", "write an address, or the name in admin.listen, into the Host")
        if any(origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()) for origin in origins):
            return _turn_away(client, 403, "origin", "pages of other sites may not speak here")
        if scope["path"] == LOGIN and scope["method"] == "POST":
            return None
        if "authorization" in headers:
            scheme, _, token = headers["authorization"].partition(" ")
            if self._house.opens(token.strip()) and scheme.lower() == "bearer":
                return None
        elif session := self._house.sessions.find(headers.get("cookie", ""), self._house.token):
            scope["session"] = session
            if scope["method"] in ("GET", "HEAD") or (origins and _same(headers.get(CSRF, ""), session.csrf)):
                return None
            return _turn_away(client, 403, "csrf", "load the page again: what it sent is not of this session")
        elif scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return self._pages.login(401)
        return _turn_away(client, 401, "token", "send the token: Authorization: Bearer TOKEN")

    def _is_ours(self, host: str) -> bool:
        name = _name(host.lower())
        if name in ("localhost", self._house.host.lower()):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _same(one: str, other: str) -> bool:
    """Compare in constant time. Bytes, because the comparison takes only ASCII where it is given text."""
    return hmac.compare_digest(one.encode(), other.encode())


def _name(host: str) -> str:
    """Return the host without its port, an IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _turn_away(client: tuple[str, int] | None, status: int, reason: str, words: str) -> Response:
    extra = {"reason": f"admin-{reason}", "client": client[0] if client else ""}
    logger.warning("turned away from the admin listener", extra=extra)
    challenge = {"WWW-Authenticate": "Bearer"} if status == 401 else {}  # noqa: PLR2004 - its own name
    return refusal(status, reason, words, challenge)
