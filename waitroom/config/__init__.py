"""Text and environment become settings, or every mistake at once.

``reading`` turns bounded YAML into plain values and remembers the line of each key; ``judging`` holds them against
``shapes`` and puts what is wrong in sentences; ``translating`` turns a file without mistakes into the nouns of
``model``; ``advice`` says what is allowed and yet worth a word. How single values are written stands in
``values`` and ``rules``, what a file of certificates must hold in ``authorities``. Imports among these point one way,
from here down to ``values``.

Whatever the bytes are, the outcome is ``Settings`` or ``ConfigError``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from waitroom.config import reading, shapes, translating, values
from waitroom.config.advice import warnings
from waitroom.config.judging import judge
from waitroom.config.shapes import NOT_BUILT, SHAPES, schema
from waitroom.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from waitroom.model import Address, Settings

__all__ = ["NOT_BUILT", "SHAPES", "load", "override", "schema", "warnings"]


def load(path: Path, environ: Mapping[str, str] = {}) -> Settings:
    """Return the settings that the file at ``path`` states.

    Raises :class:`~waitroom.errors.ConfigError` with every mistake, sorted by line; nothing else, whatever the file
    holds. ``environ`` is only checked here: the keys themselves are read where they are used.
    """
    text = reading.read(path)
    mistakes = _of_environment(environ)
    folder = path.absolute().parent
    shape = judge(text, folder)
    mistakes += text.found.values()
    if shape is None or mistakes:
        raise ConfigError(sorted(dict.fromkeys(mistakes), key=lambda mistake: mistake.line))
    return translating.settings(shape, folder)


def _of_environment(environ: Mapping[str, str]) -> list[Mistake]:
    name = "WAITROOM_SECRET_KEYS"
    if all(key.strip() for key in environ.get(name, "a key").split(",")):
        return []
    # Taking the file instead, silently, would give out signatures that the other hosts refuse.
    return [Mistake("environment", 1, name, "holds an empty key; write keys between commas, or unset it")]


def override(settings: Settings, *, listen: str | None = None, workers: int | None = None) -> Settings:
    """Return ``settings`` with what the command line says instead, judged by the file's own rules and beside the file.

    Raises :class:`~waitroom.errors.ConfigError` naming the option.
    """
    options: list[tuple[str, object, Callable[[Any], object]]] = [
        ("listen", listen, lambda given: _listening(given, settings)),
        ("workers", workers, lambda given: shapes.worker_count(given, settings.store)),
    ]
    changed: dict[str, Any] = {}
    mistakes = []
    for name, given, judged in options:
        try:
            changed |= {} if given is None else {name: judged(given)}
        except ValueError as error:
            mistakes.append(Mistake("command line", 1, f"--{name}", str(error)))
    if mistakes:
        raise ConfigError(mistakes)
    return replace(settings, **changed)


def _listening(given: str, settings: Settings) -> Address:
    address = values.listening(given)
    for origin in settings.origins():
        if shapes.is_ours(origin, address):
            raise ValueError(f"`{address}` is the address of an origin; listen elsewhere")
    if shapes.share_port(address, settings.admin.listen):
        raise ValueError(f"`{address}` has the port of `admin.listen`; write another")
    return address
