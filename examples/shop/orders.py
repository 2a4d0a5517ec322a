"""The order's transaction, the heart of the shop.

Taking a unit and writing the order happen together or not at all. The unit is taken by an update that carries its own
condition, so the question "is one left?" and the answer "then it is yours" cannot be parted by another buyer: there is
nothing to lock beforehand and nothing to check afterwards. The transaction lasts a millisecond or so, most of it the
disk's, and waits for nobody outside the database, least of all for a payment.

A visitor has one order. Who asks again (a lost answer, a double click, a second tab) gets the same one, and no second
unit.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema import LAUNCH_PRODUCT

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class Order:
    """A unit that has a buyer. ``id`` cannot be guessed, ``number`` counts from 1; ``placed_at`` is unix seconds."""

    id: str
    number: int
    price_won: int
    placed_at: float


@dataclass(frozen=True, slots=True)
class Placed:
    """The visitor's order. ``new`` is False when it stood before this request."""

    order: Order
    left: int
    new: bool


@dataclass(frozen=True, slots=True)
class SoldOut:
    """No unit was left, and this visitor has none."""


def place(connection: sqlite3.Connection, visitor: str, now: float) -> Placed | SoldOut:
    """Give ``visitor`` one unit, within the caller's transaction; ``now`` is unix seconds."""
    earlier = of_visitor(connection, visitor)
    if earlier is not None:
        return Placed(earlier, _left(connection), new=False)
    taken = connection.execute(
        "UPDATE stock SET units_left = units_left - 1 WHERE product = ? AND units_left > 0", (LAUNCH_PRODUCT,)
    )
    if taken.rowcount == 0:
        return SoldOut()
    connection.execute(
        "INSERT INTO orders (id, visitor, product, price_won, placed_at)"
        " SELECT ?, ?, id, price_won, ? FROM products WHERE id = ?",
        (secrets.token_urlsafe(12), visitor, now, LAUNCH_PRODUCT),
    )
    placed = of_visitor(connection, visitor)
    assert placed is not None, "it was written two lines above, in this transaction"
    return Placed(placed, _left(connection), new=True)


def of_visitor(connection: sqlite3.Connection, visitor: str) -> Order | None:
    """Return the visitor's order, or None."""
    return _one(connection, "visitor", visitor)


def by_id(connection: sqlite3.Connection, order_id: str) -> Order | None:
    """Return the order with this id, or None."""
    return _one(connection, "id", order_id)


def _one(connection: sqlite3.Connection, column: str, value: str) -> Order | None:
    query = f"SELECT id, number, price_won, placed_at FROM orders WHERE {column} = ?"  # noqa: S608 - two constants, above
    row = connection.execute(query, (value,)).fetchone()
    return Order(*row) if row else None


def _left(connection: sqlite3.Connection) -> int:
    left: int = connection.execute("SELECT units_left FROM stock WHERE product = ?", (LAUNCH_PRODUCT,)).fetchone()[0]
    return left
