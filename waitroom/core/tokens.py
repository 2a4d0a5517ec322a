"""Tickets and passes as text that a visitor carries.

A token is ``kind.version.key-id.room.generation.number.visitor.time.signature``; in a pass the end, and how long the
room's clock had stood still, follow the time. Every field is delimited, no field can hold the delimiter, and the
signature covers all that stands before it. Three rules keep a token from being more than it says:

* the *kind* is part of the text and of the key's derivation, so a ticket can never be shown as a pass;
* the *key id* names the one key to try, so a rotation costs no second HMAC and a retired key is recognised at once;
* the signature must be spelled exactly as we spell it. Base64 leaves spare bits in the last letter, so four texts
  decode to one signature (RFC 4648, section 3.5); only ours is accepted, and the token's text can stand for the token.

Signing is itsdangerous' ``Signer`` with SHA-256. Its timed signers are not used: they refuse tokens from a host whose
clock is ahead; we carry times inside and the store's clock judges them.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from itsdangerous import Signer
from itsdangerous.signer import SigningAlgorithm

from waitroom.errors import InvalidToken
from waitroom.model import Invite, Pass, Ticket

if TYPE_CHECKING:
    from collections.abc import Sequence

PSEUDONYM_BYTES = 16
"""Of an account: half of a SHA-256, so that no two of a crowd have the same."""

TOKEN_BYTES_MAX = 400
"""Longer text is not looked at: ours never come near, and a cookie header has room for many."""

SECRET_CHARS_MIN = 32
"""A key shorter than this is refused at start: 32 hexadecimal digits are 128 bits."""

_VERSION = "1"
_TICKET = "t"
_PASS = "p"  # noqa: S105 - the letter of a kind, not a word to enter by
_INVITE = "i"
_MEMBER = "m"
"""Of no token: the salt under which accounts get their pseudonyms."""

_TICKET_FIELDS = 8
_PASS_FIELDS = 10
_INVITE_FIELDS = 6
_FIELDS = {_TICKET: _TICKET_FIELDS, _PASS: _PASS_FIELDS, _INVITE: _INVITE_FIELDS}
_BLOCK_BYTES = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_KEY_ID = slice(len("t.1."), len("t.1.") + 8)
_SIGNATURE_CHARS = 43
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
# Digits without a leading zero, at most 16 of them: every number has one spelling and fits 2**53.
_N = "0|[1-9][0-9]{0,15}"
_NUMBER = re.compile(_N)
_VISITOR = re.compile(r"[0-9a-f]{16,32}")
_SIGNED = rf"(%s\.{_VERSION}\.([0-9a-f]{{8}})\.([a-z0-9-]+)\.({_N})\.({_N})\.({_VISITOR.pattern})%s)\.([\w-]{{43}})"
_TICKET_TEXT = re.compile(_SIGNED % (_TICKET, rf"\.({_N})"), re.ASCII)
_PASS_TEXT = re.compile(_SIGNED % (_PASS, 3 * rf"\.({_N})"), re.ASCII)
"""What tickets and passes look like. Of a text that does not, it is found out slowly what is wrong with it."""


class _Sha256(SigningAlgorithm):
    """HMAC with SHA-256 (RFC 2104), begun once for the key: a copy of what was begun costs a third of beginning."""

    def __init__(self, key: bytes) -> None:
        block = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(block.translate(_INNER))
        self._outer = hashlib.sha256(block.translate(_OUTER))

    def get_signature(self, key: bytes, value: bytes) -> bytes:  # noqa: ARG002 - part of the seam
        """Return the signature of ``value``."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(value)
        outer.update(inner.digest())
        return outer.digest()


class _Signer(Signer):
    """A signer of itsdangerous' that derives its key once, and not for every token."""

    def __init__(self, secret: str, salt: str) -> None:
        super().__init__(secret, salt, sep=".", key_derivation="hmac", digest_method=hashlib.sha256)
        self._derived = super().derive_key()
        self.algorithm = _Sha256(self._derived)

    def get_signature(self, value: str | bytes) -> bytes:
        """Return the signature of ``value`` in Base64 for URLs, without padding."""
        raw = self.algorithm.get_signature(self._derived, value.encode() if isinstance(value, str) else value)
        return binascii.b2a_base64(raw, newline=False).translate(_URL_SAFE)[:_SIGNATURE_CHARS]

    def seal(self, stated: str) -> str:
        """Return what ``sign`` returns, in a third of the time."""
        return f"{stated}.{self.get_signature(stated).decode()}"

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:  # noqa: ARG002 - part of the seam
        """Return the key that signs, whichever is named: there is one secret to a signer."""
        return self._derived


def key_id(secret: str) -> str:
    """Return the eight letters by which tokens name ``secret``; they tell nothing about it."""
    return hashlib.sha256(b"waitroom key id\0" + secret.encode()).hexdigest()[:8]


class Keyring:
    """The signing keys, newest last. The newest signs; every one of them still verifies."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("a keyring needs at least one key")
        self._signers: dict[tuple[str, str], _Signer] = {}
        for secret in secrets:
            for kind in (*_FIELDS, _MEMBER):
                self._signers[kind, key_id(secret)] = _Signer(secret, salt=f"waitroom.{kind}.{_VERSION}")
        self._newest = key_id(secrets[-1])
        self._ticket = f"{_TICKET}.{_VERSION}.{self._newest}."
        self._ticket_signer = self._signers[_TICKET, self._newest]

    def sign_ticket(self, ticket: Ticket) -> str:
        """Return ``ticket`` as text."""
        return self.sign_place(ticket.room, ticket.generation, ticket.number, ticket.visitor, ticket.issued_ms)

    def sign_place(self, room: str, generation: int, number: int, visitor: str, issued_ms: int) -> str:
        """Return the ticket of these words as text."""
        return self._ticket_signer.seal(f"{self._ticket}{room}.{generation}.{number}.{visitor}.{issued_ms}")

    def sign_pass(self, entry_pass: Pass) -> str:
        """Return ``entry_pass`` as text."""
        return self._sign(
            _PASS,
            entry_pass.room,
            entry_pass.generation,
            entry_pass.number,
            entry_pass.visitor,
            entry_pass.admitted_ms,
            entry_pass.end_ms,
            entry_pass.stood_ms,
        )

    def pseudonyms(self, room: str, member: bytes) -> tuple[str, ...]:
        """Return what stands for an account in the record of a room: one for each key, of the newest first.

        Who has the record and no key can neither turn one back nor try names, nor follow an account to another room.
        """
        stated = room.encode() + b"\0" + member
        signers = [signer for (kind, _), signer in self._signers.items() if kind == _MEMBER]
        keys = [signer.derive_key() for signer in reversed(signers)]
        return tuple(hmac.digest(key, stated, "sha256")[:PSEUDONYM_BYTES].hex() for key in keys)

    def sign_invite(self, invite: Invite) -> str:
        """Return ``invite`` as text."""
        return self._sign(_INVITE, invite.room, invite.id, invite.until_ms)

    def is_newest(self, text: str) -> bool:
        """Whether ``text``, a token of ours, was signed by the newest key."""
        return text[_KEY_ID] == self._newest

    def read(self, text: str) -> Ticket | Pass:
        """Return what ``text`` states.

        Raises ``InvalidToken`` with a reason of one word: ``oversized``, ``malformed``, ``unknown-kind``,
        ``unknown-key`` or ``forged``. Whether it is for this room, and still good, is for the caller to judge.
        """
        if (found := _TICKET_TEXT.fullmatch(text)) is not None:
            stated, key, room, generation, number, visitor, time, signature = found.groups()
            if self._is_signed(_TICKET, key, stated, signature):
                return Ticket(room, int(generation), int(number), visitor, int(time))
        elif (found := _PASS_TEXT.fullmatch(text)) is not None:
            stated, key, room, generation, number, visitor, time, end, stood, signature = found.groups()
            if self._is_signed(_PASS, key, stated, signature):
                return Pass(room, int(generation), int(number), visitor, int(time), int(end), int(stood))
        self._verified(text, (_TICKET, _PASS))
        raise InvalidToken("malformed")

    def read_invite(self, text: str) -> Invite:
        """Return what the text of an invite states. Raises ``InvalidToken`` as ``read`` does."""
        _, room, name, until_ms = self._verified(text, (_INVITE,))
        if not (_VISITOR.fullmatch(name) and _NUMBER.fullmatch(until_ms)):
            raise InvalidToken("malformed")
        return Invite(room, name, int(until_ms))

    def _is_signed(self, kind: str, key: str, stated: str, signature: str) -> bool:
        """Whether this is our signature, spelled as we spell it."""
        signer = self._signers.get((kind, key))
        # Re-signing and comparing texts, instead of decoding theirs, is what rules out other spellings.
        return signer is not None and hmac.compare_digest(signer.get_signature(stated), signature.encode())

    def _verified(self, text: str, kinds: Sequence[str]) -> list[str]:
        """Return the kind, and what stands between the id of the key and the signature."""
        if len(text) > TOKEN_BYTES_MAX:
            raise InvalidToken("oversized")
        stated, _, signature = text.rpartition(".")
        fields = stated.split(".")
        if fields[0] not in kinds:
            raise InvalidToken("unknown-kind")
        if len(fields) != _FIELDS[fields[0]] or fields[1] != _VERSION:
            raise InvalidToken("malformed")
        if (fields[0], fields[2]) not in self._signers:
            raise InvalidToken("unknown-key")
        if not (text.isascii() and self._is_signed(fields[0], fields[2], stated, signature)):
            raise InvalidToken("forged")
        return [fields[0], *fields[3:]]

    def _sign(self, kind: str, *fields: str | int) -> str:
        stated = ".".join((kind, _VERSION, self._newest, *map(str, fields)))
        return self._signers[kind, self._newest].seal(stated)
