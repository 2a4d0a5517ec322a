"""What the shop shows: its products, and how many units of the launch are left.

Only reading happens here. The launch's stock is one row in a table of its own, read on its own, so that ordinary pages
stay a plain read whatever the event does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schema import LAUNCH_PRODUCT

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class Product:
    """One thing on the shelf. ``price_won`` is whole won; ``picture`` names a file of ours."""

    id: int
    name: str
    line: str
    about: str
    price_won: int
    picture: str


@dataclass(frozen=True, slots=True)
class Stock:
    """The launch's units: how many there ever were, and how many are left."""

    total: int
    left: int


def products(connection: sqlite3.Connection) -> list[Product]:
    """Return every product, the launch's first."""
    return [Product(*row) for row in connection.execute("SELECT * FROM products ORDER BY id")]


def product(connection: sqlite3.Connection, product_id: int) -> Product | None:
    """Return one product, or None where no such id exists."""
    row = connection.execute("SELECT * FROM products WHERE id = ?", (product_id,)).fetchone()
    return Product(*row) if row else None


def launch(connection: sqlite3.Connection) -> Product:
    """Return the product the event sells."""
    found = product(connection, LAUNCH_PRODUCT)
    assert found is not None, "a shop is created with its launch product, and nothing deletes it"
    return found


def stock(connection: sqlite3.Connection) -> Stock:
    """Return the launch's stock as of this view of the data."""
    row = connection.execute("SELECT total, units_left FROM stock WHERE product = ?", (LAUNCH_PRODUCT,)).fetchone()
    return Stock(*row)


def session_key(connection: sqlite3.Connection) -> bytes:
    """Return the key that signs session cookies."""
    key: bytes = connection.execute("SELECT value FROM settings WHERE name = 'session_key'").fetchone()[0]
    return key
