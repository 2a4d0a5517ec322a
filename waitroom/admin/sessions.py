"""Who logged in by the form: a few sessions in memory, each as good as the token it was opened with.

A session is a random name in a cookie; nothing is told by it and nothing can be made out of it. It ends with its time,
at its logout, with the token, and with the process.
"""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LASTS_S: Final = 12 * 3600
SESSIONS_MAX: Final = 100
"""Beyond so many the oldest ends."""

COOKIE: Final = "waitroom-operator"
SECURE_COOKIE: Final = "__Host-waitroom-operator"


@dataclass(frozen=True, slots=True)
class Session:
    """One login. ``csrf`` is what its pages send along with what they say, ``who`` whom the log names."""

    name: str
    csrf: str
    who: str
    token: str
    until: float


class Sessions:
    """The sessions there are."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._open: dict[str, Session] = {}

    def open(self, token: str, who: str) -> Session:
        """Open one; beyond the bound the oldest ends."""
        while len(self._open) >= SESSIONS_MAX:
            del self._open[next(iter(self._open))]
        session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), who, token, self._now() + LASTS_S)
        self._open[session.name] = session
        return session

    def find(self, cookies: str, token: str) -> Session | None:
        """Return the session that a ``Cookie`` header names, if it was opened with ``token`` and is not over."""
        try:
            jar = SimpleCookie(cookies)
        except CookieError:
            return None
        for name in (SECURE_COOKIE, COOKIE):
            session = self._open.get(jar[name].value) if name in jar else None
            if session is None:
                continue
            if self._now() < session.until and hmac.compare_digest(session.token.encode(), token.encode()):
                return session
            self.close(session)
        return None

    def close(self, session: Session) -> None:
        """End one."""
        self._open.pop(session.name, None)
