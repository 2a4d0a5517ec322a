"""The event: launch page, cart, order. This is the part that a waiting room protects.

Every answer under ``/event/`` says ``Waitroom-Stock: N``, the units left, so that the proxy in front can tell those who
wait. With the last one it says ``Waitroom-Command: sold-out``: an order is never taken back here, so it is for good.
The proxy drops both before the browser. Nothing here may be kept by a cache.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

import catalogue
import orders
from answers import Answers, Refusal, data, prefers_json
from forms import check_wish
from journal import note
from sessions import Sessions, new_session, visitor_of
from starlette.responses import RedirectResponse, Response

if TYPE_CHECKING:
    import sqlite3

    from database import Database
    from starlette.requests import Request

SOLD_OUT = {"waitroom-stock": "0", "waitroom-command": "sold-out"}

_ORDER_ID = re.compile(r"[A-Za-z0-9_-]{16}", re.ASCII)


class Event:
    """The pages of the event. ``closed`` shows the launch page and takes neither carts nor orders."""

    def __init__(self, database: Database, answers: Answers, sessions: Sessions, *, closed: bool) -> None:
        self._database = database
        self._answers = answers
        self._sessions = sessions
        self._closed = closed

    async def launch(self, request: Request) -> Response:
        """``GET /event/``: what is sold, how many are left, and the way into the cart."""
        return await self._page(request, "launch.html")

    async def cart(self, request: Request) -> Response:
        """``GET /event/cart`` shows the cart, ``POST`` puts the unit into it."""
        if request.method != "POST":
            return await self._page(request, "cart.html")
        self._check_open()
        await check_wish(request)
        stock = await self._database.read(catalogue.stock)
        if stock.left == 0:
            raise _sold_out()
        response = _see("/event/cart", stock.left)
        session = self._sessions.read(request) or new_session()
        self._sessions.write(request, response, replace(session, in_cart=True))
        return response

    async def order(self, request: Request) -> Response:
        """``POST /event/order``: one unit becomes the visitor's, or they learn that none is left.

        A cart is no condition: it is there for the shopper's eye, and one order a visitor is kept by the order itself.
        """
        note(request.scope, sold=False)
        self._check_open()
        await check_wish(request)
        session = self._sessions.read(request) or new_session()
        visitor = visitor_of(request, session)
        now = time.time()
        outcome = await self._database.write(lambda connection: orders.place(connection, visitor, now))
        match outcome:
            case orders.Placed(order, left, new):
                note(request.scope, order=order.id, sold=new)
                response = self._confirm(request, order, left)
                self._sessions.write(request, response, replace(session, in_cart=False))
                return response
            case orders.SoldOut():
                raise _sold_out()
            case _ as never:
                assert_never(never)

    async def confirmation(self, request: Request) -> Response:
        """``GET /event/order/{id}``. The id cannot be guessed; who has it may see the order."""
        order_id = request.path_params["id"]
        order = None
        if _ORDER_ID.fullmatch(order_id):
            order = await self._database.read(lambda connection: orders.by_id(connection, order_id))
        if order is None:
            raise Refusal(404, "not_found", "There is no such order.")
        if not prefers_json(request):
            return await self._page(request, "order.html", order)
        stock = await self._database.read(catalogue.stock)
        return _marked(data({"order": order.id, "number": order.number, "placed_at": order.placed_at}), stock.left)

    async def page_without_slash(self, _request: Request) -> Response:
        """``GET /event``: the launch page has one address. Relative, so that no Host can send anyone elsewhere."""
        return RedirectResponse("/event/", 308)

    def _confirm(self, request: Request, order: orders.Order, left: int) -> Response:
        address = f"/event/order/{order.id}"
        if not prefers_json(request):
            return _see(address, left)
        response = data({"order": order.id, "number": order.number}, 201)
        response.headers["location"] = address
        return _marked(response, left)

    def _check_open(self) -> None:
        if self._closed:
            raise Refusal(403, "closed", "The event has not opened yet. Nothing is sold before it does.")

    async def _page(self, request: Request, template: str, shown: orders.Order | None = None) -> Response:
        # Who comes without a session is looked up under a new name, which has no order; no cookie is made of it.
        session = self._sessions.read(request) or new_session()
        visitor = visitor_of(request, session)

        def look(connection: sqlite3.Connection) -> tuple[catalogue.Product, catalogue.Stock, orders.Order | None]:
            return catalogue.launch(connection), catalogue.stock(connection), orders.of_visitor(connection, visitor)

        product, stock, order = await self._database.read(look)
        view: dict[str, object] = {
            "product": product,
            "stock": stock,
            "order": order,
            "shown": shown,
            "closed": self._closed,
            "in_cart": session.in_cart,
        }
        return _marked(self._answers.page(template, view), stock.left)


def _marked(response: Response, left: int) -> Response:
    response.headers["waitroom-stock"] = str(left)
    if left == 0:
        response.headers["waitroom-command"] = "sold-out"
    response.headers["cache-control"] = "private, no-store"
    return response


def _see(address: str, left: int) -> Response:
    return _marked(RedirectResponse(address, 303), left)


def _sold_out() -> Refusal:
    return Refusal(409, "sold_out", "Every unit of this launch has been ordered.", headers=SOLD_OUT)
