"""Where the files stand that travel with the code: pages, settings, the demo's shop.

An installed wheel carries them inside the package, under ``_data``; a source tree has them beside the package. The
wheel's place is asked first, because beside an installed package stand strangers' folders that may have the same names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from waitroom.errors import StartError

_PACKAGE = Path(__file__).resolve().parent

Resource = Literal["templates", "config", "examples/shop"]


def find(name: Resource) -> Path:
    """Return the absolute path of the folder ``name``.

    Raises :class:`~waitroom.errors.StartError` when this installation lacks it.
    """
    for folder in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise StartError(f"the folder {name} is missing from this installation; install the package again")
