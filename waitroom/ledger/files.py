"""Where the ledger's lines stand: files in a folder, numbered in the order they were begun, for their owner only.

Only the last file is ever written to, and only at its end. What an end of the process, or of the machine, left of a
line is set aside, which is the only thing that is ever taken out of a file. The *head note* beside the signing keys
knows the last line that is surely on the disk: a file that ends before it was cut.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from waitroom.errors import StartError
from waitroom.ledger import lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TORN = ".torn"
_NAME = re.compile(r"ledger-([0-9]{6,9})\.jsonl")
_READ_BYTES = 1024 * 1024
_HEAD_BYTES = 96


class Head(NamedTuple):
    """One line, by its number and its digest: who knows it can tell whether anything up to it was changed."""

    seq: int = 0
    digest: str = lines.BEGINNING

    def __str__(self) -> str:
        """Return it as commands take it."""
        return f"{self.seq}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Tail:
    """How a file ends. ``head`` is its last whole line; ``size`` is where that ends, and what follows is ``torn``.

    ``closed``: the last line says that nothing follows.
    """

    head: Head
    size: int
    torn: int
    closed: bool


def head_path(secret_keys_file: Path) -> Path:
    """Return where the head is noted: beside the signing keys, and not beside what it vouches for."""
    return secret_keys_file.with_name(secret_keys_file.name + ".ledger")


def name(index: int) -> str:
    """Return the name of a file."""
    return f"ledger-{index:06d}.jsonl"


def index(path: Path) -> int:
    """Return the number in a file's name; 0 for one that is none of ours."""
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else 0


def make_folder(folder: Path) -> None:
    """Make the folder, for its owner only, if there is none. Raises ``StartError`` where nothing could be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StartError(f"ledger: {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StartError(f"ledger: {folder} cannot be written to; let it be yours, or name another in `ledger.folder`")


def listed(folder: Path) -> list[Path]:
    """Return the files in their order. Raises ``OSError`` where the folder cannot be read."""
    return sorted((path for path in folder.iterdir() if index(path)), key=index)


def each_line(path: Path) -> Iterator[bytes]:
    """Give the lines of a file with their ends; the last may have none. A line too long to be one comes in pieces."""
    with path.open("rb") as file:
        while line := file.readline(lines.LINE_BYTES_MAX + 2):
            yield line


def tail(path: Path) -> Tail:
    """Return how a file ends. It is read from its end, and whole only where the last line says nothing."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        data, at = b"", size
        while at and data.count(b"\n") < 2:  # noqa: PLR2004 - the end of the last whole line, and of the one before
            step = min(at, _READ_BYTES)
            at -= step
            file.seek(at)
            data = file.read(step) + data
    whole, _, torn = data.rpartition(b"\n")
    end = size - len(torn)
    if not end:
        return Tail(Head(), 0, size, closed=False)
    last = whole.rpartition(b"\n")[2]
    read = lines.read(last)
    seq = _counted(path) if read is None else read.seq
    return Tail(Head(seq, lines.digest(last)), end, len(torn), closed=read is not None and read.kind == "closed")


def _counted(path: Path) -> int:
    """Return the number of the last whole line of a file by counting on from the last one that states its own."""
    seq = 0
    for line in each_line(path):
        read = lines.read(line.rstrip(b"\n"))
        seq = read.seq if read else seq + line.endswith(b"\n")
    return seq


class HeadNote:
    """The small file that knows the last line that is surely on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Head | None:
        """Return the line; None where there is no note, or one that says nothing. Raises ``OSError``."""
        try:
            seq, _, digest = self._path.read_text(encoding="ascii", errors="replace").strip().partition(":")
        except FileNotFoundError:
            return None
        return Head(int(seq), digest) if seq.isdecimal() and re.fullmatch("[0-9a-f]{64}", digest) else None

    def write(self, head: Head) -> None:
        """Write it; in place and in one piece, so that it costs next to nothing. Raises ``OSError``."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(file, f"{head}".ljust(_HEAD_BYTES - 1).encode() + b"\n", 0)
        finally:
            os.close(file)
