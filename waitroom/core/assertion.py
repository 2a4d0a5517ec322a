"""What the origin is shown so that going around us gains nothing: a signed statement about one request.

An assertion is ``version;key-id;room;number;visitor;admitted;made;method;host;target;signature``. Times are
milliseconds since 1970: ``admitted`` by the store's clock, ``made`` by the wall clock, for the origin judges it by its
own. ``target`` is the SHA-256 of the request target as it goes out, so a header's length does not hang on a visitor's
URL, which may be longer than what origins take for a header. ``method`` and ``host`` (in lower case) stand as they are,
every byte that could be mistaken for something else as ``%XX``; so no field can hold the delimiter.

The origin gets a key that is derived from a signing key for this purpose only. With it one can verify assertions, and
make them, which lets the origin deceive nobody but itself; tickets and passes one cannot. The key begins with the id of
the signing key it came from, the same that stands in tokens: whoever rotates keys meets one name for each.

This is the signing half; ``waitroom/origin.py`` is the other, on its own because it is the origin's to install or copy.
``docs/ORIGIN.md`` has a worked example that ``tests/test_origin.py`` holds against both.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from waitroom.core.tokens import key_id

if TYPE_CHECKING:
    from waitroom.model import Pass

_VERSION = b"1"
_PURPOSE = b"waitroom.assertion.1"
_UNESCAPED = "-._~:[]"


def assertion_key(secret: str) -> str:
    """Return the key that the origin gets: the id of ``secret``, a dot, and 64 hexadecimal digits.

    It tells nothing about ``secret``, and neither verifies nor makes a ticket or a pass.
    """
    return f"{key_id(secret)}.{hmac.digest(secret.encode(), _PURPOSE, 'sha256').hex()}"


class AssertionSigner:
    """Signs with the key derived from ``secret``. What can be worked out once is not worked out for each request."""

    def __init__(self, secret: str) -> None:
        self._key = assertion_key(secret).encode()
        self._opening = b"%b;%b" % (_VERSION, key_id(secret).encode())

    def sign(self, entry_pass: Pass, method: bytes, host: bytes, target: bytes, made_ms: int) -> bytes:
        """Return the assertion that this request carries this pass, as the value of a header.

        ``method``, ``host`` and ``target`` are those of the request that goes to the origin; any bytes will do.
        """
        stated = b"%b;%b;%d;%b;%d;%d;%b;%b" % (
            self._opening,
            entry_pass.room.encode(),
            entry_pass.number,
            entry_pass.visitor.encode(),
            entry_pass.admitted_ms,
            made_ms,
            _method_and_host(method, host),
            hashlib.sha256(target).hexdigest().encode(),
        )
        return b"%b;%b" % (stated, hmac.digest(self._key, stated, "sha256").hex().encode())


@lru_cache(maxsize=256)  # a shop has a few names and fewer methods; whoever asks by other ones pays for the escaping
def _method_and_host(method: bytes, host: bytes) -> bytes:
    return b"%b;%b" % (_escaped(method), _escaped(host.lower()))


def _escaped(value: bytes) -> bytes:
    return quote_from_bytes(value, safe=_UNESCAPED).encode()
