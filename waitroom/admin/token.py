"""The token of the admin listener: one secret in a file of its own, made at the first start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waitroom import secretfile

if TYPE_CHECKING:
    from pathlib import Path

TOKEN_CHARS_MIN = 32


def load_token(path: Path, *, make: bool = True) -> str:
    """Return the token in the file at ``path``, the last where it holds several; made when there is no file.

    Raises ``StartError`` when it cannot be had, or is too short to be safe.
    """
    remark = "The token of Waitroom's admin listener. Whoever has it is an operator."
    return secretfile.load(path, "admin token", remark, TOKEN_CHARS_MIN, make=make)[-1]
