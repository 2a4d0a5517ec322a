"""The shop put together: which address leads to which page, and what becomes of every failure.

This is the only file that knows all the others.
"""

from __future__ import annotations

import asyncio
import http
from pathlib import Path
from typing import TYPE_CHECKING

from answers import Answers, Refusal
from assets import Assets
from database import DatabaseUnavailable
from event import Event
from ordinary import Ordinary
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

if TYPE_CHECKING:
    from database import Database
    from sessions import Sessions
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

HERE = Path(__file__).resolve().parent

RETRY_AFTER_S = 2
"""What a visitor is told when the database is away: long enough for a lock to pass."""


def create_app(database: Database, sessions: Sessions, *, delay_s: float, closed: bool) -> ASGIApp:
    """Return the shop. Each page takes ``delay_s`` longer than it would; ``closed`` is an event not yet open."""
    assets = Assets(HERE / "static")
    answers = Answers(HERE / "templates", assets.addresses)
    ordinary = Ordinary(database, answers)
    event = Event(database, answers, sessions, closed=closed)
    # No slash is added or taken away by the router: it would answer with an address made from the Host header.
    app = Starlette(
        routes=[
            Route("/", ordinary.front),
            Route("/products", ordinary.products),
            Route("/products/{id}", ordinary.product),
            Route("/stock", ordinary.stock),
            Route("/health", ordinary.health),
            Route("/static/{name}", assets.serve),
            Route("/event", event.page_without_slash),
            Route("/event/", event.launch),
            Route("/event/cart", event.cart, methods=["GET", "POST"]),
            Route("/event/order", event.order, methods=["POST"]),
            Route("/event/order/{id}", event.confirmation),
        ],
        middleware=[Middleware(Delay, delay_s=delay_s)] if delay_s else [],
        exception_handlers=_failures(answers),
    )
    app.router.redirect_slashes = False
    return app


class Delay:
    """Makes every page slower without using anything up: the shop of a bad day."""

    def __init__(self, app: ASGIApp, delay_s: float) -> None:
        self._app = app
        self._delay_s = delay_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, then pass the request on. Health and static files are not pages."""
        if not scope["path"].startswith(("/health", "/static/")):
            await asyncio.sleep(self._delay_s)
        await self._app(scope, receive, send)


def _failures(answers: Answers) -> dict[int | type[Exception], ExceptionHandler]:
    async def refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return answers.refuse(request, error)

    async def routing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = http.HTTPStatus(error.status_code)
        code = status.phrase.lower().replace(" ", "_")
        message = {
            404: "There is nothing at this address.",
            405: "This address does not answer that method.",
        }.get(status, f"{status.phrase}.")
        return answers.refuse(request, Refusal(status, code, message, headers=error.headers))

    async def unavailable(request: Request, _error: Exception) -> Response:
        message = "The shop cannot reach its database just now. Please try again: you cannot order twice."
        headers = {"retry-after": str(RETRY_AFTER_S)}
        return answers.refuse(request, Refusal(503, "unavailable", message, headers=headers))

    async def bug(request: Request, _error: Exception) -> Response:
        # Starlette raises the error again behind this answer, and the server prints it on stderr, for us alone.
        message = "Something of ours went wrong. If you were ordering, try again: you cannot order twice."
        return answers.refuse(request, Refusal(500, "internal", message))

    return {Refusal: refusal, HTTPException: routing, DatabaseUnavailable: unavailable, Exception: bug}
