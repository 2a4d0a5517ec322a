"""The tables, and what a new shop has on its shelves.

Two rules stand here rather than in code, so that no later program can forget them: the units left are never below
zero and never above the total (``CHECK``), and a visitor has one order (``UNIQUE``). The key that signs session cookies
lives in the database too, so a restart throws nobody's cart away.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

VERSION = 1
"""Kept in the file's ``user_version``; a file with a newer one is refused."""

LAUNCH_PRODUCT = 1
"""The id of the one product that the event sells."""

_TABLES = (
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT",
    """CREATE TABLE products (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        line TEXT NOT NULL,
        about TEXT NOT NULL,
        price_won INTEGER NOT NULL CHECK (price_won > 0),
        picture TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE stock (
        product INTEGER PRIMARY KEY REFERENCES products (id),
        total INTEGER NOT NULL,
        units_left INTEGER NOT NULL CHECK (units_left BETWEEN 0 AND total)
    ) STRICT""",
    """CREATE TABLE orders (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        visitor TEXT NOT NULL UNIQUE,
        product INTEGER NOT NULL REFERENCES products (id),
        price_won INTEGER NOT NULL,
        placed_at REAL NOT NULL
    ) STRICT""",
)

_PRODUCTS = (
    (
        LAUNCH_PRODUCT,
        "Kestrel 5",
        "The phone. One each, first come, first served.",
        "A screen that reads well in the sun, two days of battery, and a camera that sees in the dark.",
        1_290_000,
        "phone.svg",
    ),
    (
        2,
        "Wren earbuds",
        "Small, light, and quiet outside.",
        "Seven grams the pair. Thirty hours with their case, which charges on any pad.",
        149_000,
        "earbuds.svg",
    ),
    (
        3,
        "Heron charger",
        "One plug for the whole desk.",
        "Sixty-five watts through three ports, and a plug that folds flat into a pocket.",
        59_000,
        "charger.svg",
    ),
    (
        4,
        "Plover case",
        "Keeps corners out of trouble.",
        "Recycled felt outside, soft cork inside, and room for two cards.",
        39_000,
        "case.svg",
    ),
)


def create(connection: sqlite3.Connection, stock: int) -> None:
    """Fill a new file, within the caller's transaction, with ``stock`` units for the event."""
    for table in _TABLES:
        connection.execute(table)
    connection.executemany("INSERT INTO products VALUES (?, ?, ?, ?, ?, ?)", _PRODUCTS)
    connection.execute("INSERT INTO stock VALUES (?, ?, ?)", (LAUNCH_PRODUCT, stock, stock))
    connection.execute("INSERT INTO settings VALUES ('session_key', ?)", (secrets.token_bytes(32),))
    connection.execute(f"PRAGMA user_version = {VERSION}")
