"""The signing keys: from the environment, or from a file that is made at the first start.

A key made anew at each start would throw everybody out of line at a restart, so it is kept (``secretfile.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from waitroom import secretfile
from waitroom.core.tokens import SECRET_CHARS_MIN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENVIRONMENT = "WAITROOM_SECRET_KEYS"
KIND = "signing key"
REMARK = "Waitroom's signing keys, newest last. Whoever has them can make passes."


def load(path: Path, environ: Mapping[str, str], *, make: bool = True) -> tuple[str, ...]:
    """Return the keys, newest last, making the file at ``path`` when there is none and the environment names none.

    Without ``make`` a missing file is an error: once places have been given, a new key would throw everybody out.
    Raises ``StartError`` when the keys cannot be had or are too short to be safe.
    """
    if stated := environ.get(ENVIRONMENT, "").strip():
        keys = tuple(key.strip() for key in stated.split(",") if key.strip())
        return secretfile.checked(keys, ENVIRONMENT, KIND, SECRET_CHARS_MIN)
    return secretfile.load(path, KIND, REMARK, SECRET_CHARS_MIN, make=make)
