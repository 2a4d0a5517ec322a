"""Who has a place where it belongs to an account: what the operator's own edge says of who signed in.

The word counts only from a trusted proxy, spelled as configured and said once. An edge that sets it by adding a line
leaves the client's own standing beside it, and then nobody knows which of them is true. What it says is compared byte
by byte, and is never kept: the record has a pseudonym of it (``Keyring.pseudonyms``).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from waitroom.core.headers import plain_name

if TYPE_CHECKING:
    from collections.abc import Iterable

MEMBER_BYTES_MAX = 256
_MEMBER = re.compile(rb"[!-~\x80-\xff](?:[ -~\x80-\xff]*[!-~\x80-\xff])?")


class Unknown(StrEnum):
    """Why nobody knows whose request it is."""

    MISSING = "member-missing"
    """Nothing is said: whoever it is did not sign in."""

    UNTRUSTED = "member-untrusted"
    """The peer is no trusted proxy; anybody could say it."""

    TWICE = "member-twice"
    """Several lines say it, or one that is spelled otherwise."""

    MALFORMED = "member-malformed"
    """What is said is longer than any account's name, or has control characters."""


def read(headers: Iterable[tuple[bytes, bytes]], name: bytes, *, trusted: bool) -> bytes | Unknown:
    """Return what the header ``name``, in lower case, says; ``trusted``: the peer is a proxy of the operator's."""
    said = [(spelled, value) for spelled, value in headers if plain_name(spelled) == name]
    if not trusted:
        return Unknown.UNTRUSTED if said else Unknown.MISSING
    values = [value.strip(b" \t") for _, value in said]
    if not any(values):
        return Unknown.MISSING
    if len(said) > 1 or said[0][0].lower() != name:
        return Unknown.TWICE
    good = len(values[0]) <= MEMBER_BYTES_MAX and _MEMBER.fullmatch(values[0])
    return values[0] if good else Unknown.MALFORMED
