"""A form that another site's page sent, and that is to be sent once more from the room's own host.

A payment page returns its visitor by such a form, and a cookie that is ``SameSite=Lax`` does not come along, so we see
nobody we know. A page of ours that sends the same form again is of the same site, and brings the cookie.

*The same form* is meant byte for byte. A browser that sends a form escapes the bytes of its fields, in whatever
encoding its page has; here they are unescaped, and each byte is written into the page as the character that it is in
windows-1252, which has one for every byte. The page's form states that encoding, so the browser makes the same bytes of
them. What HTML cannot carry so is not attempted: it would arrive as something else.

The shop must not take the repeat for its own. Anybody's page can have ours post here, which would be a way around
``SameSite`` and around every check of where a request comes from. So our page leaves a *trail*: it states in its own
address, which becomes the ``Referer``, who sent the form first and which cookies came with it, and ``as_first_sent``
makes the repeat into what came first. What it gained is our cookie alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes, urlencode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Headers = list[tuple[bytes, bytes]]

FORM_BYTES_MAX = 64 * 1024
"""The longest form that is sent again; returns from payment pages have one or two thousand bytes."""

FIELDS_MAX = 1_000
"""The most fields of it, as each weighs more in a page than in a form. PHP and Django take as many by default."""

TRAIL_CHARS_MAX = 3_000
"""The longest trail. Browsers cut a ``Referer`` beyond 4,096 characters back to the bare origin."""

_BROKEN = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
"""HTML has no NUL, and a form makes every line end CR LF."""

_VISIBLE = re.compile(rb"[!-~]{1,500}")

_CHARACTERS = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256))
"""Windows-1252 as browsers have it: the five bytes that are not assigned are the control characters of their number."""


def can_be_read(fields: Mapping[bytes, bytes]) -> bool:
    """Tell whether the headers promise a plain form, which a page can send again.

    A charset beside the type, a coding, an expectation: no browser sends these with a form, and none would again.
    """
    kind = fields.get(b"content-type", b"").strip().lower()
    plain = b"content-encoding" not in fields and b"expect" not in fields
    return plain and kind == b"application/x-www-form-urlencoded"


def read(body: bytes) -> list[tuple[str, str]] | None:
    """Return the names and values of a form, a character for each byte, in order; None if no page can send it again."""
    pieces = [piece for piece in body.split(b"&") if piece]
    if len(pieces) > FIELDS_MAX:
        return None
    fields = [(_unescaped(name), _unescaped(value)) for name, _, value in (piece.partition(b"=") for piece in pieces)]
    if any(not name or name.lower() == b"_charset_" for name, _ in fields):
        return None  # a field without a name is not sent, and that name is filled in by the browser
    if _BROKEN.search(b"&".join([text for field in fields for text in field])):
        return None
    return [(_characters(name), _characters(value)) for name, value in fields]


def trail(room: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the address by which the page that sends a form again says where it came from; its path is ours.

    Of more cookies than there is room for, the last are left out, and will not reach the shop.
    """
    said: list[tuple[bytes, bytes]] = []
    cookies: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        plain = name.lower()
        if plain in {b"origin", b"referer"} and _VISIBLE.fullmatch(value):
            said.append((plain, value))
        elif plain == b"cookie":
            cookies += [(b"cookie", piece.partition(b"=")[0].strip()) for piece in value.split(b";")]
    address = f"{_path(room)}?{urlencode(said, quote_via=quote)}"
    for cookie in dict.fromkeys(cookies):
        longer = f"{address}&{urlencode([cookie], quote_via=quote)}"
        if len(longer) > TRAIL_CHARS_MAX:
            break
        address = longer
    return address


def as_first_sent(room: str, headers: Headers, came_from: bytes | None) -> Headers | None:
    """Return the headers of a repeat as they were when another site sent the form; None for what is no repeat.

    ``came_from`` is the path and query of the page of this host that sent the request. What it states, a client may
    have made up, as it may make up any header; it is given on only where it can stand in one.
    """
    path, found, query = (came_from or b"").partition(b"?")
    if not found or path != _path(room).encode():
        return None
    said: dict[bytes, bytes] = {}
    cookies: set[bytes] = set()
    for piece in query.split(b"&"):
        name, _, value = piece.partition(b"=")
        value = unquote_to_bytes(value)
        if name == b"cookie":
            cookies.add(value)
        elif _VISIBLE.fullmatch(value):
            said[name] = value
    first: Headers = []
    for name, value in headers:
        plain = name.lower()
        if plain in {b"origin", b"referer"}:
            if plain in said:
                first.append((name, said[plain]))
        elif plain == b"sec-fetch-site":
            first.append((name, b"cross-site"))
        elif plain == b"cookie":
            kept = [piece for piece in value.split(b";") if piece.partition(b"=")[0].strip() in cookies]
            if kept:
                first.append((name, b";".join(kept).strip()))
        else:
            first.append((name, value))
    return first


def _path(room: str) -> str:
    return f"/.waitroom/{room}/form"


def _unescaped(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _characters(text: bytes) -> str:
    return text.decode("latin-1").translate(_CHARACTERS)
