"""A file of secrets: made at the first start, kept for good, for its owner only.

One secret a line, newest last; lines that begin with ``#`` are remarks. A secret made anew at each start would lock out
whoever was let in by the last one.

The file is never edited in place: it is written whole under another name and renamed, so that whoever reads it, or
loses power, finds all of the old or all of the new. No message ever tells a secret.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from waitroom.core.tokens import SECRET_CHARS_MIN
from waitroom.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET_BYTES = 32


def fresh() -> str:
    """Return a new secret."""
    return secrets.token_hex(SECRET_BYTES)


def judged(found: tuple[str, ...], where: str, kind: str) -> tuple[str, ...]:
    """Return the secrets that were found somewhere. Raises ``StartError`` for none, and for one that is not safe."""
    if not found:
        raise StartError(f"{where}: no {kind} in it; delete the file to have one made")
    if any(len(secret) < SECRET_CHARS_MIN for secret in found):
        raise StartError(f"{where}: the {kind} has fewer than {SECRET_CHARS_MIN} characters; use a long random one")
    return found


@dataclass(frozen=True, slots=True)
class SecretFile:
    """The file at ``path``; ``kind`` is what one of its secrets is called in messages, such as ``signing key``.

    Every method raises ``StartError`` when the file cannot be read or kept.
    """

    path: Path
    kind: str

    def read(self) -> str | None:
        """Return what the file says, or None when there is no file."""
        try:
            return self.path.read_text(encoding="ascii")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"{self.path}: the {self.kind}s cannot be read: {error}") from error

    def secrets_in(self, text: str) -> tuple[str, ...]:
        """Return the secrets in what the file says, newest last."""
        lines = (line.strip() for line in text.splitlines())
        return judged(tuple(line for line in lines if line and not line.startswith("#")), str(self.path), self.kind)

    def make(self, text: str) -> bool:
        """Make the file with its folder. Return whether it was made: somebody else may have been quicker."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Made whole under another name, so that a crash leaves no half a file; linked, so that none is replaced.
            beside = _write_beside(self.path, text)
            try:
                os.link(beside, self.path)
            finally:
                beside.unlink()
        except FileExistsError:
            return False
        except OSError as error:
            raise self._cannot_keep(error) from error
        return True

    @contextlib.contextmanager
    def locked(self) -> Iterator[SecretFile]:
        """Give the file that the path leads to, while nobody else who locks it may replace it."""
        try:
            path = self.path.resolve()  # where the file is a link, what it names is replaced and not the link
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(path.parent, os.O_RDONLY)
        except OSError as error:
            raise self._cannot_keep(error) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield replace(self, path=path)
        finally:
            os.close(folder)

    def put(self, text: str) -> None:
        """Put ``text`` in place of what the file says, at once and for good; its owner keeps it."""
        try:
            owner = self.path.stat().st_uid
            beside = _write_beside(self.path, text, owner)
            try:
                beside.replace(self.path)
            except OSError:
                beside.unlink()
                raise
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._cannot_keep(error) from error

    def _cannot_keep(self, error: OSError) -> StartError:
        return StartError(f"{self.path}: the {self.kind}s cannot be kept there: {error}")


def _write_beside(path: Path, text: str, owner: int | None = None) -> Path:
    """Write a file for its owner only, safely on disk, under a name beside ``path``; return that."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            if owner not in (None, os.geteuid()):  # root made it: it must stay readable by whom the proxy runs as
                os.fchown(file.fileno(), owner, -1)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        beside.unlink()
        raise
    return beside
