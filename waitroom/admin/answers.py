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


def stated(what: Mapping[str, Any]) -> Response:
    """Return an object as JSON."""
    return JSONResponse(what, headers=HEADERS)


def text(content: bytes, media_type: str) -> Response:
    """Return bytes as they are."""
    return Response(content, headers=HEADERS, media_type=media_type)


def refusal(status: int, error: str, message: str, headers: Mapping[str, str] = {}) -> Response:
    """Return why nothing was done: ``error`` is one word for programs, ``message`` a sentence for people."""
    return JSONResponse({"error": error, "message": message}, status, {**HEADERS, **headers})
