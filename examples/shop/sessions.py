"""Who is asking.

Behind Waitroom every admitted visitor comes with a ``Waitroom-Visitor`` header, and that is who they are: the name
holds on every request of one admission, with cookies or without. Alone, or where no room applies, the shop knows a
visitor by its own signed cookie. The two kinds of name are kept apart by a prefix, so neither can pose as the other.

Whoever reaches the shop around the proxy can write any header they like. Keep the shop's port closed to the outside.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from answers import Refusal
from itsdangerous import BadData, URLSafeSerializer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

COOKIE = "shop_session"
VISITOR_CHARACTERS_MAX = 200
COOKIE_CHARACTERS_MAX = 400


@dataclass(frozen=True, slots=True)
class Session:
    """What the cookie says: a random id, and whether the launch's unit lies in the cart."""

    id: str
    in_cart: bool = False


def new_session() -> Session:
    """Return a session nobody has had before, with an empty cart."""
    return Session(secrets.token_urlsafe(16))


class Sessions:
    """Reads and writes the session cookie, signed with ``key``."""

    def __init__(self, key: bytes) -> None:
        # The salt names the purpose and the cookie's form: a signature made for another thing is none here.
        self._serializer = URLSafeSerializer(
            key, salt="shop_session.1", signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"}
        )

    def read(self, request: Request) -> Session | None:
        """Return the visitor's session; None where there is no cookie, or none that we signed."""
        text = request.cookies.get(COOKIE, "")
        if not text or len(text) > COOKIE_CHARACTERS_MAX:
            return None
        try:
            session_id, in_cart = self._serializer.loads(text)
        except BadData:
            return None
        return Session(session_id, in_cart)

    def write(self, request: Request, response: Response, session: Session) -> None:
        """Put the session on an answer. It ends with the browser."""
        response.set_cookie(
            COOKIE,
            str(self._serializer.dumps([session.id, session.in_cart])),
            httponly=True,
            samesite="lax",
            # Believed without proof: the worst a forged header does is hide the forger's own cookie.
            secure=request.headers.get("x-forwarded-proto") == "https",
        )


def visitor_of(request: Request, session: Session) -> str:
    """Return the name under which this visitor's order is kept."""
    name = ", ".join(request.headers.getlist("waitroom-visitor"))
    if len(name) > VISITOR_CHARACTERS_MAX:
        raise Refusal(400, "bad_visitor", "The Waitroom-Visitor header is too long.")
    return f"waitroom:{name}" if name else f"session:{session.id}"
