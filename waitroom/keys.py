"""The signing keys: from the environment, or from a file that is made at the first start.

A key made anew at each start would throw everybody out of line at a restart, so it is kept (``secretfile.py``). One
kind of remark in the file is read: the one that says when a key was made, by the id under which tokens and people know
it. The newest key signs, and every one in the file still verifies; so a rotation is a line added now and a line removed
when nobody carries its signatures any more.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from waitroom.core.tokens import key_id
from waitroom.errors import KeyRefused, StartError
from waitroom.secretfile import SecretFile, fresh, judged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENVIRONMENT = "WAITROOM_SECRET_KEYS"
KIND = "signing key"

_HEADING = "# Waitroom's signing keys, newest last. Whoever has them can make passes.\n"
_MADE = re.compile(r"# ([0-9a-f]{8}), made ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)")
_HOUR_S = 3600
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Key:
    """One signing key. Times are seconds since 1970, None where nobody noted them.

    ``replaced_s`` is when a newer one was made; None also for the newest.
    """

    secret: str = field(repr=False)
    id: str
    made_s: float | None = None
    replaced_s: float | None = None


def load(path: Path, environ: Mapping[str, str], *, make: bool = True) -> tuple[str, ...]:
    """Return the keys, newest last, making the file at ``path`` when there is none and the environment names none.

    Without ``make`` a missing file is an error: once places have been given, a new key would throw everybody out.
    Raises ``StartError`` when the keys cannot be had or are too short to be safe.
    """
    if (stated := _stated(environ)) is not None:
        return stated
    file = SecretFile(path, KIND)
    text = file.read()
    if text is not None:
        return file.secrets_in(text)
    if not make:
        raise StartError(f"{path}: there are no signing keys; a restart makes new ones")
    return (_make(file, time.time()),)


def listed(path: Path, environ: Mapping[str, str]) -> tuple[Key, ...]:
    """Return the keys and what is known of them, newest last. Makes none, so there may be none.

    Raises ``StartError`` as ``load`` does.
    """
    if (stated := _stated(environ)) is not None:
        return _keys(stated, "")
    file = SecretFile(path, KIND)
    text = file.read()
    return () if text is None else _keys(file.secrets_in(text), text)


def new(path: Path, environ: Mapping[str, str], now_s: float) -> Key:
    """Make a key, put it into the file as the newest, and return it.

    Raises ``KeyRefused`` when the keys come from the environment, and ``StartError`` when the file cannot be changed.
    """
    if from_environment(environ):
        raise KeyRefused(
            f"the keys come from the environment, where this command cannot put one: write a comma and a new key (as "
            f"`openssl rand -hex 32` prints one) at the end of {ENVIRONMENT}, on every host, and restart"
        )
    with SecretFile(path, KIND).locked() as file:
        text = file.read()
        if text is None:
            secret = _make(file, now_s)
        else:
            file.secrets_in(text)
            end = "" if text.endswith("\n") else "\n"
            secret = fresh()
            file.put(f"{text}{end}{_lines(secret, now_s)}")
    return Key(secret, key_id(secret), now_s)


def retire(path: Path, environ: Mapping[str, str], which: str, *, now_s: float, keep_s: float, sure: bool) -> Key:
    """Take the key with the id ``which`` out of the file, and return it.

    ``keep_s`` is how long what it signed may still be carried. Raises ``KeyRefused`` when the keys come from the
    environment, when there is no such key, when it is the one that signs, and, unless ``sure``, when somebody may still
    carry what it signed. Raises ``StartError`` when the file cannot be changed.
    """
    if from_environment(environ):
        raise KeyRefused(
            "the keys come from the environment, where this command cannot remove one: take it out of "
            f"{ENVIRONMENT} on every host, and restart"
        )
    with SecretFile(path, KIND).locked() as file:
        text = file.read()
        keys = () if text is None else _keys(file.secrets_in(text), text)
        key = next((key for key in keys if key.id == which), None)
        if text is None or key is None:
            there = ", ".join(key.id for key in keys) or "none"
            raise KeyRefused(f"{path}: there is no key {which[:40]!r}; there is {there}")
        if which == keys[-1].id:
            only = "it is the only one" if len(keys) == 1 else "it is the newest, which signs"
            raise KeyRefused(f"{which} cannot be retired: {only}; `waitroom keys new` first makes another")
        if not sure and (too_soon := _too_soon(key, now_s, keep_s)):
            raise KeyRefused(too_soon)
        file.put("".join(line for line in text.splitlines(keepends=True) if not _is_of(line.strip(), which)))
    return key


def from_environment(environ: Mapping[str, str]) -> bool:
    """Tell whether the keys come from the environment; the file then counts for nothing."""
    return _stated(environ) is not None


def shown_time(seconds: float) -> str:
    """Return a time as the file and the commands write it: UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIME)


# -- what a file says -----------------------------------------------------------------------------------------------


def _stated(environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the keys of the environment, or None when it names none."""
    if not (stated := environ.get(ENVIRONMENT, "").strip()):
        return None
    return judged(tuple(key.strip() for key in stated.split(",") if key.strip()), ENVIRONMENT, KIND)


def _make(file: SecretFile, now_s: float) -> str:
    """Make the file with one key, and return the newest key in it: somebody else may have been quicker."""
    secret = fresh()
    return secret if file.make(_HEADING + _lines(secret, now_s)) else load(file.path, {})[-1]


def _keys(secret_keys: tuple[str, ...], text: str) -> tuple[Key, ...]:
    """Return the keys with their times, as far as the remarks in ``text`` tell."""
    made = {found[1]: _seconds(found[2]) for line in text.splitlines() if (found := _MADE.fullmatch(line.strip()))}
    keys: list[Key] = []
    replaced_s: float | None = None
    for secret in reversed(secret_keys):
        key = Key(secret, key_id(secret), made.get(key_id(secret)), replaced_s)
        keys.append(key)
        # A key whose own time is unknown was made, at the latest, when the next one was.
        replaced_s = replaced_s if key.made_s is None else key.made_s
    return tuple(reversed(keys))


def _seconds(text: str) -> float | None:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _is_of(line: str, which: str) -> bool:
    """Tell whether a line is a key or the remark about it."""
    if line.startswith("#"):
        found = _MADE.fullmatch(line)
        return found is not None and found[1] == which
    return bool(line) and key_id(line) == which


def _lines(secret: str, now_s: float) -> str:
    return f"# {key_id(secret)}, made {shown_time(now_s)}\n{secret}\n"


def _too_soon(key: Key, now_s: float, keep_s: float) -> str:
    """Return why a key that no longer signs is still needed; an empty text when it is not."""
    lost = "who still waits or is inside with what it signed would lose their place; with --yes they do"
    if key.replaced_s is None:
        return f"{key.id} cannot be retired unasked: nobody noted when another began to sign; {lost}"
    left_s = key.replaced_s + keep_s - now_s
    if left_s <= 0:
        return ""
    return (
        f"{key.id} cannot be retired yet: it signed until {shown_time(key.replaced_s)}, and what it signed is carried "
        f"for up to {_span(keep_s)}, so for another {_span(left_s)}; {lost}"
    )


def _span(seconds: float) -> str:
    """Return a duration as one says it, never too short: in whole minutes from an hour on."""
    whole = math.ceil(seconds) if seconds < _HOUR_S else math.ceil(seconds / 60) * 60
    parts = [(whole // _HOUR_S, "h"), (whole % _HOUR_S // 60, "m"), (whole % 60, "s")]
    return " ".join(f"{count}{unit}" for count, unit in parts if count)
