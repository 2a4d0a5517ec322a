"""Short names for what is local to a script or a style: a quarter of a script are names that only its author reads.

A page goes to a whole crowd in one second, and has to say much in few bytes. ``rjsmin`` takes away comments and spaces
and leaves names alone. Here every name that a script declares becomes a letter or two, the same wherever it stands, so
no scopes need be known. Properties, strings, and what is not declared in it keep their names.

It reads the style that our scripts are written in (``const``, ``let``, arrow functions, strings in double quotes), not
JavaScript: a script in which it meets anything else stays as it is. A script in that style must not call a name of its
own like a global one that it uses.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from string import ascii_letters
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART = re.compile(
    r""""(?:[^"\\\n]|\\.)*"  # a string
    | (?<=[(,=:!&|?{};])/(?:[^/\\\n]|\\.)+/[a-z]*  # a regular expression
    | [A-Za-z_$][\w$]*  # a name, or a word of the language
    | => | \.\.\. | .""",
    re.DOTALL | re.VERBOSE,
)

_UNREAD = frozenset(("`", "'", "function", "class", "var", "switch", "import", "this"))

_BEFORE_OBJECT = frozenset(("(", ",", "=", ":", "[", "?", "return"))
"""After these a brace opens an object; after anything else, a block."""

_OPENING = frozenset("([{")
_CLOSING = frozenset(")]}")
_TWO_LETTERS = frozenset(("do", "if", "in"))
"""The words of the language that a short name could be."""


def shortened(code: str) -> str:
    """Return a minified script with its own names made short; as it was, where it is not understood."""
    parts = _PART.findall(code)
    if not _UNREAD.isdisjoint(parts):
        return code
    own = frozenset(_declared(parts))
    places = [at for at, name in enumerate(parts) if name in own and parts[at - 1] != "."]
    taken = (frozenset(parts) - own) | _TWO_LETTERS
    letters = ("".join(some) for length in (1, 2) for some in product(ascii_letters, repeat=length))
    free = (short for short in letters if short not in taken)
    short = {name: next(free) for name, _ in Counter(parts[at] for at in places).most_common()}
    objects = _in_objects(parts)
    written = list(parts)
    for at in places:
        name, entry = parts[at], at in objects and parts[at - 1] in ("{", ",")
        if not (entry and parts[at + 1] == ":"):
            written[at] = f"{name}:{short[name]}" if entry and parts[at + 1] in (",", "}") else short[name]
    return "".join(written)


def shortened_style(style: str) -> str:
    """Return a style sheet with the names of its variables made short."""
    names = dict.fromkeys(re.findall(r"(?<![\w-])--[a-z]+", style))
    short = dict(zip(names, (f"--{letter}" for letter in ascii_letters), strict=False))
    return re.sub(r"(?<![\w-])--[a-z]+", lambda match: short.get(match[0], match[0]), style)


def _declared(parts: list[str]) -> Iterator[str]:
    """Give the names that a script declares: by ``const`` and ``let``, and as what a function is called with."""
    for at, part in enumerate(parts):
        if part in ("const", "let"):
            yield from _declarators(parts, at)
        elif part == "=>" and parts[at - 1] != ")":
            yield parts[at - 1]
        elif part == "=>":
            start = at - 1 - parts[at - 1 :: -1].index("(")
            for before, name in zip(parts[start:at], parts[start + 1 : at], strict=False):
                if before in ("(", ",", "...") and _is_name(name):
                    yield name


def _declarators(parts: list[str], at: int) -> Iterator[str]:
    """Give what one ``const`` or ``let`` declares, up to its semicolon, the word ``of``, or the end of the block."""
    depth, declares, before = 0, True, ","
    for part in parts[at + 1 :]:
        if depth < 0 or (not depth and part in (";", "of")):
            return
        if part == " ":
            continue
        # A declarator is a name, or names in brackets; then comes what it is worth.
        declares = before == "," if not depth else declares
        if declares and before in (",", "[") and _is_name(part):
            yield part
        depth += (part in _OPENING) - (part in _CLOSING)
        before = part


def _in_objects(parts: list[str]) -> frozenset[int]:
    """Return where the parts stand that are in an object, and in no bracket within it."""
    found, opened = [], [False]
    for at, part in enumerate(parts):
        if part in _CLOSING:
            opened.pop()
        if opened[-1]:
            found.append(at)
        if part in _OPENING:
            opened.append(part == "{" and parts[at - 1] in _BEFORE_OBJECT)
    return frozenset(found)


def _is_name(part: str) -> bool:
    return re.fullmatch(r"[A-Za-z_$][\w$]*", part) is not None
