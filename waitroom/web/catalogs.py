"""The languages that the pages speak: the templates' own words, English, and a gettext catalogue for each other.

A catalogue stands where gettext's tools look for it, ``locale/LANGUAGE/LC_MESSAGES/waitroom.po``, in the folder of the
templates, and in an operator's own beside their templates: what both have, the operator's says. It is read as it is
written, so nothing need be compiled. A sentence that a catalogue lacks is said in English.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from babel.messages.pofile import PoFileError, read_po

from waitroom.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SOURCE = "en"

DOMAIN = "waitroom"


def find(folders: Sequence[Path]) -> dict[str, Callable[[str], str]]:
    """Return for each language what says a sentence of the templates in it; later folders are said over earlier.

    Raises ``StartError`` when a catalogue cannot be read.
    """
    words: dict[str, dict[str, str]] = {SOURCE: {}}
    for folder in folders:
        for path in sorted(folder.glob(f"locale/*/LC_MESSAGES/{DOMAIN}.po")):
            words.setdefault(path.parent.parent.name.replace("_", "-"), {}).update(_read(path))
    return {language: _speaker(said) for language, said in words.items()}


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            catalog = read_po(file, abort_invalid=True)
    except (OSError, ValueError, PoFileError) as error:
        raise StartError(f"the catalogue {path} cannot be read: {error}") from error
    return {
        str(message.id): str(message.string)
        for message in catalog
        if message.id and message.string and not message.fuzzy and isinstance(message.id, str)
    }


def _speaker(words: dict[str, str]) -> Callable[[str], str]:
    return lambda sentence: words.get(sentence, sentence)
