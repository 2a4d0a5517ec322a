"""The token of the admin listener: one secret in a file of its own, made at the first start.

The file is made without a remark in it, so that what can read a token from a file, as Prometheus can, reads this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from waitroom.errors import StartError
from waitroom.secretfile import SecretFile, fresh

if TYPE_CHECKING:
    from pathlib import Path


def load_token(path: Path, *, make: bool = True) -> str:
    """Return the token in the file at ``path``, the last where it holds several; made when there is no file.

    Raises ``StartError`` when it cannot be had or is too short to be safe; without ``make``, also when there is none.
    """
    file = SecretFile(path, "admin token")
    text = file.read()
    if text is None:
        if not make:
            raise StartError(f"{path}: there is no admin token; the start of `waitroom serve` makes it")
        token = fresh()
        return token if file.make(f"{token}\n") else load_token(path, make=False)
    return file.secrets_in(text)[-1]
