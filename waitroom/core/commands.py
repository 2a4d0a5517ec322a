"""What an origin says to us on its answers: a command, or what it has left in stock.

A word that is not understood is named for the log and changes nothing: an origin's typing error must not end a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EXTEND_MS_MAX = 24 * 3_600_000
"""One word of the origin's adds at most a day to a session."""

_EXTEND = re.compile(rb"extend=([0-9]{1,9})(ms|s|m|h)")
_UNIT_MS = {b"ms": 1, b"s": 1_000, b"m": 60_000, b"h": 3_600_000}
_STOCK = re.compile(rb"([0-9]{1,9})(?:\s*;\s*v=([0-9]{1,15}))?")
SHOWN_CHARS_MAX = 40


@dataclass(frozen=True, slots=True)
class Commands:
    """What was said: end this pass, add to this session, end the line (``sold-out`` or ``close``), what is left.

    ``stock`` is a count and the version it came with, if any; ``unknown`` what was not understood.
    """

    revoke: bool = False
    extend_ms: int = 0
    ended: str | None = None
    stock: tuple[int, int | None] | None = None
    unknown: tuple[str, ...] = ()


NOTHING = Commands()


def read(said: Iterable[tuple[bytes, bytes]]) -> Commands:
    """Return what the headers say; names are lower case, values as sent. Several commands may stand between commas."""
    revoke, extend_ms, ended, stock = False, 0, None, None
    unknown: list[str] = []
    for name, value in said:
        if name == b"waitroom-stock":
            if found := _STOCK.fullmatch(value.strip()):
                stock = (int(found[1]), None if found[2] is None else int(found[2]))
            else:
                unknown.append(_shown(name, value))
            continue
        for word in (part.strip().lower() for part in value.split(b",")):
            extend = _EXTEND.fullmatch(word)
            if word == b"revoke":
                revoke = True
            elif name == b"waitroom-command" and extend:
                extend_ms = min(int(extend[1]) * _UNIT_MS[extend[2]], EXTEND_MS_MAX)
            elif name == b"waitroom-command" and word in (b"sold-out", b"close"):
                ended = word.decode()
            else:
                unknown.append(_shown(name, word))
    return Commands(revoke, extend_ms, ended, stock, tuple(unknown))


def _shown(name: bytes, value: bytes) -> str:
    text = f"{name.decode('latin-1')}: {value.decode('latin-1')[:SHOWN_CHARS_MAX]}"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
