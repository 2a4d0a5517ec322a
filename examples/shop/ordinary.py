"""The ordinary pages: what the shop is on every other day, and what must stay fast during the event.

They only read. The one thing they know of the event is whether anything is left, for a line at the top of the page.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import catalogue
from answers import Answers, Refusal, data

if TYPE_CHECKING:
    import sqlite3

    from database import Database
    from starlette.requests import Request
    from starlette.responses import Response

# Nine digits fit every integer SQLite knows; anything else is no id, whatever `int` would make of it.
_ID = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


class Ordinary:
    """The pages outside the event."""

    def __init__(self, database: Database, answers: Answers) -> None:
        self._database = database
        self._answers = answers

    async def front(self, _request: Request) -> Response:
        """``GET /``."""
        products, stock = await self._database.read(_shelf)
        return self._page("front.html", {"products": products, "stock": stock})

    async def products(self, _request: Request) -> Response:
        """``GET /products``."""
        products, stock = await self._database.read(_shelf)
        return self._page("products.html", {"products": products, "stock": stock})

    async def product(self, request: Request) -> Response:
        """``GET /products/{id}``."""
        text = request.path_params["id"]
        if not _ID.fullmatch(text):
            raise Refusal(404, "not_found", "There is no such product.")

        def find(connection: sqlite3.Connection) -> tuple[catalogue.Product | None, catalogue.Stock]:
            return catalogue.product(connection, int(text)), catalogue.stock(connection)

        product, stock = await self._database.read(find)
        if product is None:
            raise Refusal(404, "not_found", "There is no such product.")
        return self._page("product.html", {"product": product, "stock": stock})

    async def stock(self, _request: Request) -> Response:
        """``GET /stock``, which ordinary pages ask while they are open."""
        stock = await self._database.read(catalogue.stock)
        response = data({"total": stock.total, "left": stock.left, "sold_out": stock.left == 0})
        response.headers["cache-control"] = "public, max-age=1"
        return response

    async def health(self, _request: Request) -> Response:
        """``GET /health``: fine while the database answers."""
        await self._database.read(catalogue.stock)
        response = data({"status": "ok"})
        response.headers["cache-control"] = "no-store"
        return response

    def _page(self, name: str, view: dict[str, object]) -> Response:
        response = self._answers.page(name, view)
        response.headers["cache-control"] = "no-cache"
        return response


def _shelf(connection: sqlite3.Connection) -> tuple[list[catalogue.Product], catalogue.Stock]:
    return catalogue.products(connection), catalogue.stock(connection)
