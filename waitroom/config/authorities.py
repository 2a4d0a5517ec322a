"""The certificates of a ``ca_file``: read with the configuration, and carried in the settings from then on.

So every worker trusts what was checked, also one that is started later, whatever becomes of the file; what stands there
by then is taken at a reload. Whatever else the file holds, a key or words for people, is left out. What is wrong is
raised as ``ValueError``, whose text says what would be right.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

from waitroom.config.values import shown

if TYPE_CHECKING:
    from pathlib import Path

FILE_BYTES_MAX = 1024 * 1024
"""All authorities that browsers know are a quarter of this."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")


def read(written: str, folder: Path) -> str:
    """Return the certificates, in PEM form, of the file that is called so in ``folder``."""
    path, name = folder / written, shown(written)
    remedy = "name a file of certificates in PEM form that this user may read"
    try:
        if not path.exists():
            raise ValueError(f"{name} does not exist; {remedy}")
        if not path.is_file():  # reading a pipe would wait for its writer
            raise ValueError(f"{name} is no file; {remedy}")
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror}); {remedy}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"{name} is larger than {FILE_BYTES_MAX // 1024}KiB; {remedy}")
    found = [block.decode("latin-1") for block in _CERTIFICATE.findall(content)]
    if not found:
        raise ValueError(
            f"{name} has no certificate in PEM form in it; it begins with -----BEGIN CERTIFICATE-----, and "
            "`openssl x509 -inform der` turns the other form into it"
        )
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for count, certificate in enumerate(found, 1):
        try:
            trusting.load_verify_locations(cadata=certificate)
        except (ssl.SSLError, ValueError):
            raise ValueError(f"{name} has a broken certificate, number {count} in it; copy it anew") from None
    return "\n".join(found) + "\n"
