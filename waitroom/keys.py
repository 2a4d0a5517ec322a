"""The signing keys: from the environment, or from a file that is made at the first start.

A key made anew at each start would throw everybody out of line at a restart, so it is kept. The file holds one key a
line, newest last, readable by its owner only; lines that begin with ``#`` are remarks.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from waitroom.core.tokens import SECRET_CHARS_MIN
from waitroom.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENVIRONMENT = "WAITROOM_SECRET_KEYS"
KEY_BYTES = 32


def load(path: Path, environ: Mapping[str, str], *, make: bool = True) -> tuple[str, ...]:
    """Return the keys, newest last, making the file at ``path`` when there is none and the environment names none.

    Without ``make`` a missing file is an error: once places have been given, a new key would throw everybody out.
    Raises ``StartError`` when the keys cannot be had or are too short to be safe.
    """
    if stated := environ.get(ENVIRONMENT, "").strip():
        keys = tuple(key.strip() for key in stated.split(",") if key.strip())
        return _checked(keys, ENVIRONMENT)
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError as error:
        if not make:
            raise StartError(f"{path}: there are no signing keys; a restart makes new ones") from error
        return (_make(path),)
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"{path}: the signing keys cannot be read: {error}") from error
    lines = (line.strip() for line in text.splitlines())
    return _checked(tuple(line for line in lines if line and not line.startswith("#")), str(path))


def _checked(keys: tuple[str, ...], where: str) -> tuple[str, ...]:
    if not keys:
        raise StartError(f"{where}: no signing key in it; delete the file to have one made")
    if any(len(key) < SECRET_CHARS_MIN for key in keys):
        raise StartError(f"{where}: a signing key has fewer than {SECRET_CHARS_MIN} characters; use a long random one")
    return keys


def _make(path: Path) -> str:
    key = secrets.token_hex(KEY_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made whole under another name, so that a crash leaves no half a key; linked, so that no other is replaced.
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"# Waitroom's signing keys, newest last. Whoever has them can make passes.\n{key}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)
        finally:
            beside.unlink()
    except FileExistsError:
        return load(path, {})[-1]
    except OSError as error:
        raise StartError(f"{path}: the signing keys cannot be kept there: {error}") from error
    return key
