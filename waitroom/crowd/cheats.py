"""What some visitors try instead of waiting. None of it may reach the shop.

Each trial is one request on a connection and with cookies of its own. Whatever place it is given belongs to nobody, so
it also leaves a ghost in the line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from waitroom.crowd.client import Headers

DOCUMENT: Headers = {
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "none",
}
CALL: Headers = {"Accept": "application/json"}

SPELLINGS = (
    "/Event/order",
    "//event/order",
    "/%65vent/order",
    "/%2565vent/order",
    "/event%2forder",
    "/event;a=b/order",
    "/event/./order",
    "/products/../event/order",
    "/products/%2e%2e/event/order",
    "/products/..%2fevent%2forder",
    "/products/..;/event/order",
    "/\\event\\order",
    "/event/order%00",
    "/EVENT/ORDER?a=b",
)
"""The path of the order as some server or other would read it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One request that must not get through; ``posed_as`` is the visitor's name it writes into our headers."""

    method: str
    target: str
    headers: Headers = field(default_factory=dict)
    posed_as: str | None = None


def trials(chance: random.Random, name: str, cookie: str, ticket: str) -> list[Trial]:
    """Return one of each kind, in any order, for a visitor who holds ``ticket`` in the cookie named ``cookie``."""
    kind, _, rest = ticket.partition(".")
    stated, _, signature = ticket.rpartition(".")
    forged = f"{stated}.{signature[::-1]}"
    earlier = ".".join(part[:-1] or "1" if part.isdecimal() else part for part in stated.split("."))
    as_pass = f"{'p' if kind != 'p' else 't'}.{rest}"
    posing = {
        "Waitroom-Room": "launch",
        "Waitroom-Number": "1",
        "Waitroom-Visitor": name,
        "Waitroom-Admitted-At": "1",
    }
    underscored = {header.replace("-", "_"): value for header, value in posing.items()}
    found = [
        Trial("POST", "/event/order", CALL),
        Trial("POST", "/event/order", CALL | {"Cookie": f"{cookie}={ticket}"}),
        Trial("POST", "/event/order", CALL | {"Cookie": f"{cookie}={as_pass}"}),
        Trial("POST", "/event/order", CALL | {"Waitroom-Pass": ticket}),
        Trial("GET", "/event/", DOCUMENT | {"Cookie": f"{cookie}={forged}"}),
        Trial("GET", "/event/", DOCUMENT | {"Cookie": f"{cookie}={earlier}.{signature}"}),
        Trial("GET", "/event/", DOCUMENT | {"Waitroom-Pass": ticket}),
        Trial("GET", "/event/", {**CALL, "Cookie": f"{cookie}={'x' * 3000}"}),
        Trial("POST", "/event/order", CALL | posing, name),
        Trial("POST", "/event/order", CALL | underscored, name),
        Trial("GET", "/products", DOCUMENT | posing, name),
        Trial("GET", "/products", DOCUMENT | underscored, name),
        *(Trial("POST", spelling, CALL) for spelling in SPELLINGS),
    ]
    chance.shuffle(found)
    return found
