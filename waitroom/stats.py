"""Counters, as every process keeps them and as they are added up.

What a process counts is one flat mapping of names to numbers, which JSON carries as it is. The name says all the rest:

* one that ends in ``_total`` only grows. The sum over all processes, those that have ended too, is what is shown;
* one that ends in ``_seconds`` is a measure of how bad it is. The worst of those that live is shown;
* any other is a level, and the sum over those that live is shown.

What a number is about stands behind the name in braces, as Prometheus writes it: ``refused_total{reason="host"}``.
Names have no ``waitroom_`` before them; the page of metrics puts it there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Words = TypeVar("Words", bound="str | tuple[str, ...]")

_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)",?')
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def key(name: str, **labels: str) -> str:
    """Return the key of a number: its name, and what it is about."""
    if not labels:
        return name
    written = (f'{label}="{value.translate(_ESCAPES)}"' for label, value in labels.items())
    return f"{name}{{{','.join(written)}}}"


def split(key: str) -> tuple[str, dict[str, str]]:
    """Return the name and the labels of a key."""
    name, _, labels = key.partition("{")
    return name, {label: re.sub(r"\\.", _plain, value) for label, value in _LABEL.findall(labels)}


def by(name: str, counts: Mapping[Words, float], *labels: str) -> dict[str, float]:
    """Return counts that are kept by one word, or by a tuple of words, under keys with these labels."""
    words: Iterable[tuple[tuple[str, ...], float]] = (
        (word if isinstance(word, tuple) else (word,), count) for word, count in counts.items()
    )
    return {key(name, **dict(zip(labels, word, strict=True))): count for word, count in words}


def is_total(key: str) -> bool:
    """Whether a number only grows, and so outlives the process that counted it."""
    return key.partition("{")[0].endswith("_total")


def totals(stats: Mapping[str, float]) -> dict[str, float]:
    """Return what stays to be counted of a process that has ended."""
    return {key: number for key, number in stats.items() if is_total(key)}


def add(sums: dict[str, float], more: Mapping[str, float]) -> None:
    """Add what one more process counts to ``sums``."""
    for key, number in more.items():
        if key.partition("{")[0].endswith("_seconds"):
            sums[key] = max(sums.get(key, number), number)
        else:
            sums[key] = sums.get(key, 0) + number


def _plain(escaped: re.Match[str]) -> str:
    return _ESCAPED.get(escaped[0], escaped[0])
