"""A file of secrets: made at the first start, kept for good, for its owner only.

One secret a line, newest last; lines that begin with ``#`` are remarks. A secret made anew at each start would lock out
whoever was let in by the last one.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from waitroom.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

SECRET_BYTES = 32


def load(path: Path, kind: str, remark: str, chars_min: int, *, make: bool = True) -> tuple[str, ...]:
    """Return the secrets in the file at ``path``, newest last.

    When there is no file it is made, beginning with ``remark``; without ``make`` that is an error. ``kind`` is what the
    secrets are called in messages, such as ``signing key``. Raises ``StartError`` when they cannot be had, or are too
    short to be safe.
    """
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError as error:
        if not make:
            raise StartError(f"{path}: there is no {kind}; a start of `waitroom serve` makes one") from error
        return _make(path, kind, remark, chars_min)
    except UnicodeDecodeError as error:
        raise StartError(f"{path}: the {kind} cannot be read: {error}") from error
    except OSError as error:
        raise StartError(f"{path}: the {kind} cannot be read: {error.strerror}") from error
    lines = (line.strip() for line in text.splitlines())
    return checked(tuple(line for line in lines if line and not line.startswith("#")), str(path), kind, chars_min)


def checked(found: tuple[str, ...], where: str, kind: str, chars_min: int) -> tuple[str, ...]:
    """Return what was found, or raise ``StartError`` without telling a secret."""
    if not found:
        raise StartError(f"{where}: no {kind} in it; delete the file to have one made")
    if any(len(secret) < chars_min for secret in found):
        raise StartError(f"{where}: a {kind} has fewer than {chars_min} characters; use a long random one")
    return found


def _make(path: Path, kind: str, remark: str, chars_min: int) -> tuple[str, ...]:
    secret = secrets.token_hex(SECRET_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made whole under another name, so that a crash leaves no half a secret; linked, so that no other is replaced.
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"# {remark}\n{secret}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)
        finally:
            beside.unlink()
    except FileExistsError:
        return load(path, kind, remark, chars_min)
    except OSError as error:
        raise StartError(f"{path}: the {kind} cannot be kept there: {error}") from error
    return (secret,)
