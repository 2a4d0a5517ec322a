"""One line of the ledger: a JSON object that names the line before it, and is sealed.

``prev`` is the SHA-256 of the whole line before, without its end of line. So a line that is known stands for all before
it, and anybody can check that. ``seal``, which comes last, is an HMAC over everything before it in the line, by a key
of the file's own: who has no key can write no line that fits, and each altered line is found by itself.

The two keys of a file are derived from a signing key and the random ``nonce`` in the file's first line: one seals, the
other makes pseudonyms. A visitor's pseudonym is another in every file.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from waitroom.core.tokens import key_id

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "waitroom ledger 1"
LINE_BYTES_MAX = 16 * 1024
"""A longer line is none of ours: the longest has an operator's message, or a room's rule."""

BEGINNING = "0" * 64
"""What the very first line names for the one before it."""

PSEUDONYM_BYTES = 8
_JSON = json.JSONEncoder(separators=(",", ":"))
_SEAL = b',"seal":"'
_END = b'"}'
_SEAL_CHARS = 64
_TAIL = len(_SEAL) + _SEAL_CHARS + len(_END)


@dataclass(frozen=True, slots=True)
class FileKeys:
    """What seals the lines of one file, and makes its pseudonyms."""

    id: str
    sealing: bytes = field(repr=False)
    naming: bytes = field(repr=False)

    @classmethod
    def derive(cls, secret: str, nonce: str) -> FileKeys:
        """Return the keys of the file whose first line has ``nonce``, from a signing key."""
        sealing, naming = (
            hmac.digest(hmac.digest(secret.encode(), use, "sha256"), nonce.encode(), "sha256")
            for use in (b"waitroom.ledger.seal.1", b"waitroom.ledger.visitor.1")
        )
        return cls(key_id(secret), sealing, naming)

    def pseudonym(self, visitor: str) -> str:
        """Return what stands for a visitor's id in this file."""
        return hmac.digest(self.naming, visitor.encode(), "sha256")[:PSEUDONYM_BYTES].hex()


@dataclass(frozen=True, slots=True)
class Read:
    """A line as it states itself. ``facts`` are all its fields, ``stated`` what its seal is over."""

    seq: int
    kind: str
    prev: str
    facts: Mapping[str, Any]
    stated: bytes = field(repr=False)
    seal: str = field(repr=False)

    def fits(self, keys: FileKeys) -> bool:
        """Whether the seal is one that only the file's key makes."""
        return hmac.compare_digest(hmac.digest(keys.sealing, self.stated, "sha256").hex(), self.seal)


def write(facts: Mapping[str, Any], prev: str, keys: FileKeys) -> bytes:
    """Return a line without its end: ``facts``, which begin with ``seq``, ``at`` and ``kind``."""
    stated = _JSON.encode({**facts, "prev": prev})[:-1].encode()
    return stated + _SEAL + hmac.digest(keys.sealing, stated, "sha256").hex().encode() + _END


def digest(line: bytes) -> str:
    """Return what the next line names for this one."""
    return hashlib.sha256(line).hexdigest()


def read(line: bytes) -> Read | None:
    """Return what a line states; None for one that is none of ours."""
    if len(line) > LINE_BYTES_MAX or line[-_TAIL : -_TAIL + len(_SEAL)] != _SEAL or not line.endswith(_END):
        return None
    try:
        facts = json.loads(line)
        seq, kind, prev, seal = facts["seq"], facts["kind"], facts["prev"], facts["seal"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    words = (kind, prev, seal, facts.get("at"))
    if type(seq) is not int or seq < 1 or not all(isinstance(word, str) and word.isascii() for word in words):
        return None
    return Read(seq, kind, prev, facts, line[:-_TAIL], seal)
