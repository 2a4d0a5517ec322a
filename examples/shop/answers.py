"""How the shop answers: a page for people, JSON for programs, and refusals that say what and why.

A page is rendered whole before its first byte leaves, so an answer is either complete or an error, never half of one.
Every answer carries the same few headers that keep a browser from running, framing or guessing what we did not write.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from starlette.requests import Request

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}

_ACCEPT_CHARACTERS_MAX = 1_000


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """Ends a request with ``status``. ``code`` is one word for programs, ``message`` a sentence for people."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


def _when(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))


class Answers:
    """Renders the templates of ``folder``. ``asset`` maps a static file's name to the address that pages use."""

    def __init__(self, folder: Path, asset: Mapping[str, str]) -> None:
        # Autoescaping is what keeps a visitor's text from becoming markup; a misspelled name is an error, not a blank.
        self._environment = Environment(
            loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, auto_reload=False
        )
        self._environment.globals["asset"] = asset
        self._environment.filters["won"] = "₩{:,}".format
        self._environment.filters["when"] = _when

    def page(self, name: str, view: Mapping[str, object], status: int = 200) -> Response:
        """Return the template ``name`` as a page."""
        return HTMLResponse(self._environment.get_template(name).render(view), status, HEADERS)

    def refuse(self, request: Request, refusal: Refusal) -> Response:
        """Return a refusal as JSON where that is preferred, else as a page."""
        if prefers_json(request):
            response = data({"error": refusal.code, "message": refusal.message}, refusal.status)
        else:
            response = self.page("message.html", {"code": refusal.code, "message": refusal.message}, refusal.status)
        response.headers["cache-control"] = "no-store"
        response.headers.update(refusal.headers)
        return response


def data(value: object, status: int = 200) -> Response:
    """Return ``value`` as JSON."""
    return JSONResponse(value, status, HEADERS)


def prefers_json(request: Request) -> bool:
    """Say whether ``Accept`` ranks JSON above HTML, or names JSON and ranks HTML no higher without naming it."""
    accept = ",".join(request.headers.getlist("accept"))
    if len(accept) > _ACCEPT_CHARACTERS_MAX:
        return False
    ranks: dict[str, float] = {}
    for entry in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        ranks[kind] = next((_rank(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
    json_rank = ranks.get("application/json", ranks.get("application/*", ranks.get("*/*", 0.0)))
    html_rank = ranks.get("text/html", ranks.get("text/*", ranks.get("*/*", 0.0)))
    if json_rank == html_rank:
        return json_rank > 0 and "application/json" in ranks and "text/html" not in ranks
    return json_rank > html_rank


def _rank(text: str) -> float:
    try:
        rank = float(text)
    except ValueError:
        return 0.0
    return rank if 0.0 <= rank <= 1.0 else 0.0
