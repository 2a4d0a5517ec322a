"""How the admin listener answers: JSON, always of today, and nothing that a browser could take for something else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""On every answer."""

PAGE_HEADERS: Final = {
    **HEADERS,
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
}
"""On a page with a form. Under ``no-referrer`` a browser would send the form with ``Origin: null``."""

LOGIN_FORM: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>Waitroom: log in</title>
<h1>Waitroom</h1>
{note}<form method="post" action="/login">
<p><label>Your name, for the log<br><input name="who" maxlength="64" autocomplete="username"></label></p>
<p><label>Admin token<br><input name="token" type="password" required autocomplete="current-password"></label></p>
<p><button>Log in</button></p>
</form>
</html>
"""


def stated(what: Mapping[str, Any]) -> Response:
    """Return an object as JSON."""
    return JSONResponse(what, headers=HEADERS)


def text(content: bytes, media_type: str) -> Response:
    """Return bytes as they are."""
    return Response(content, headers=HEADERS, media_type=media_type)


def refusal(status: int, error: str, message: str, headers: Mapping[str, str] = {}) -> Response:
    """Return why nothing was done: ``error`` is one word for programs, ``message`` a sentence for people."""
    return JSONResponse({"error": error, "message": message}, status, {**HEADERS, **headers})


def login_form(status: int, note: str = "") -> Response:
    """Return the form to log in by, with a sentence above it. ``note`` is ours, never what was sent."""
    content = LOGIN_FORM.format(note=f'<p role="alert">{note}</p>\n' if note else "")
    return Response(content, status, headers=PAGE_HEADERS, media_type="text/html")
