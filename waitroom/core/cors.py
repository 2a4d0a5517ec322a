"""Calls by scripts of other origins' pages (CORS, as the Fetch standard has it): what a room's own answers say to them.

Before a call that a form could not make, a browser asks in a *preflight* whether the page may. A preflight carries no
cookie, so it can never show a pass; let through it would be a way to the origin for everybody, and refused it would
keep out who has been let in. So a room that gates answers it itself, from the list of origins that the operator names.
That gives nothing away: the call that follows goes through the gate like any other.

A refusal that a page may not read looks to its script like a dead network, so a listed origin may read ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

Headers = list[tuple[bytes, bytes]]

HEADERS_BYTES_MAX = 1024
"""As much of the names of a call's headers as is given back; browsers ask for some twenty bytes."""

MAX_AGE_S = 60
"""How long a browser need not ask again: as the list may change, and the room's own answers give way to the shop's."""

VARY = (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
"""What an answer to a preflight depends on."""

_TOKENS = re.compile(rb"[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(?:,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*)*")


def is_preflight(method: bytes, fields: Mapping[bytes, bytes]) -> bool:
    """Tell whether a browser asks if a call may be made."""
    return method == b"OPTIONS" and b"origin" in fields and b"access-control-request-method" in fields


def answer_to_preflight(
    fields: Mapping[bytes, bytes], allowed: Container[bytes], methods: Container[bytes]
) -> Headers | None:
    """Return what a preflight is answered with, ``VARY`` aside; None when its origin may not call.

    ``methods`` are those that are forwarded. What is asked beyond bounds is left out of the answer, and so refused by
    the browser.
    """
    origin = _allowed(fields, allowed)
    if origin is None:
        return None
    headers = [*_to(origin), (b"Access-Control-Max-Age", b"%d" % MAX_AGE_S)]
    method = fields[b"access-control-request-method"]
    if method in methods:
        headers.append((b"Access-Control-Allow-Methods", method))
    names = fields.get(b"access-control-request-headers", b"")
    if len(names) <= HEADERS_BYTES_MAX and _TOKENS.fullmatch(names):
        headers.append((b"Access-Control-Allow-Headers", names))
    return headers


def readable(fields: Mapping[bytes, bytes], allowed: Container[bytes]) -> Headers:
    """Return what lets the page that called read an answer of ours: that it must wait, and when to come back."""
    origin = _allowed(fields, allowed)
    if origin is None:
        return []
    return [*_to(origin), (b"Access-Control-Expose-Headers", b"Retry-After, Waitroom-State"), (b"Vary", b"Origin")]


def _allowed(fields: Mapping[bytes, bytes], allowed: Container[bytes]) -> bytes | None:
    origin = fields.get(b"origin")
    return origin if origin in allowed else None


def _to(origin: bytes) -> Headers:
    return [(b"Access-Control-Allow-Origin", origin), (b"Access-Control-Allow-Credentials", b"true")]
