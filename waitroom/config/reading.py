"""Bytes become plain values, each with its line, and mistakes are gathered.

The file is bounded before it is parsed, and its depth and unfolding while it is: it may be another file, named by
accident, or written to hurt. YAML's plain forms only (``no`` is a word, ``1:30`` is no number), so that nothing means
more than it shows; nodes are composed by PyYAML and nothing is constructed. A ``Text`` then carries the values through
judging, and keeps one mistake a key. Where nothing further can be read, that is the one mistake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Never

import yaml

from waitroom.config.values import shown
from waitroom.errors import ConfigError, Mistake

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Key = tuple[str | int, ...]
"""The way to a value: ``("rooms", 0, "name")``."""

FILE_BYTES_MAX = 256 * 1024
"""Some hundred rooms fit; a file beyond it is another file, named by accident."""

DEPTH_MAX = 16
"""The deepest setting stands six deep. PyYAML composes by recursion, so that depth must end before Python's stack."""

VALUES_MAX = 20_000
"""Values a file may unfold into: aliases of aliases grow exponentially."""


@dataclass(slots=True)
class Text:
    """One file while it is judged: its values, their lines, and what was found wrong so far."""

    file: str
    values: Any = None
    lines: dict[Key, int] = field(default_factory=dict)
    found: dict[tuple[Key, int], Mistake] = field(default_factory=dict)
    spare: int = VALUES_MAX

    def line(self, key: Key) -> int:
        """Return the line of ``key``, or of the nearest mapping around it that the file has."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def wrong(self, key: Key, message: str, *, line: int = 0) -> None:
        """Note a mistake. One a key: what follows from the first helps nobody.

        ``line`` is for what stands there beside the value at ``key``, such as a second one.
        """
        self.found.setdefault((key, line), Mistake(self.file, line or self.line(key), key_text(key), message))

    def stop(self, key: str, message: str, *, line: int = 1) -> Never:
        """Give up: nothing further can be read."""
        raise ConfigError([Mistake(self.file, line, key, message)])


def key_text(key: Key) -> str:
    """Return the way as a mistake prints it: ``rooms[0].name``."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (shown(part)[1:-1] or '""')
    return text


def read(path: Path) -> Text:
    """Return the file's values with their lines; raises :class:`~waitroom.errors.ConfigError` when there are none."""
    text = Text(str(path))
    node = _node_of(_bytes_of(path, text), text)
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _NULL):
        text.stop("file", "is empty; start from a copy of config/waitroom.yaml")
    if not isinstance(node, yaml.MappingNode):
        text.stop("file", "is no mapping at its top; write settings such as `listen: 127.0.0.1:8080`")
    text.values = _value_of(node, (), text)
    return text


_STR, _SEQ, _MAP, _NULL, _BOOL, _INT, _FLOAT = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map", "null", "bool", "int", "float")
)
# How each is written and what it becomes. More digits stay text, which every numeric setting refuses: turning text
# into a long number is slow.
_PLAIN: Mapping[str, tuple[re.Pattern[str], Callable[[str], object]]] = {
    _NULL: (re.compile(r"(?:~|null|)\Z"), lambda _: None),
    _BOOL: (re.compile(r"(?:true|false)\Z"), "true".__eq__),
    _INT: (re.compile(r"[-+]?[0-9]{1,30}\Z"), int),
    _FLOAT: (re.compile(r"[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,3})?\Z"), float),
}
_NAMED = re.compile(r"\b(alias|anchor|tag handle) '.*", re.DOTALL)
_TAGS = {yaml.MappingNode: {_MAP}, yaml.SequenceNode: {_SEQ}, yaml.ScalarNode: {_STR, *_PLAIN}}


class _Loader(yaml.SafeLoader):
    """Composes nodes and constructs nothing; YAML's plain forms only."""

    # By first character, None for any.
    yaml_implicit_resolvers: dict[Any, Any] = {None: [(tag, form) for tag, (form, _) in _PLAIN.items()]}  # noqa: RUF012 - the base class's own


def _bytes_of(path: Path, text: Text) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        text.stop("file", "does not exist; check the path, or start from a copy of config/waitroom.yaml")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a path"
        text.stop("file", f"cannot be read ({reason}); name a file that this user may read")
    if len(content) > FILE_BYTES_MAX:
        text.stop("file", f"is larger than {FILE_BYTES_MAX // 1024}KiB; name a configuration file")
    return content


def _node_of(content: bytes, text: Text) -> yaml.Node | None:
    try:
        characters = content.decode("utf-8")
    except UnicodeDecodeError as error:
        text.stop("file", "is not UTF-8; save it as UTF-8 text", line=content.count(b"\n", 0, error.start) + 1)
    try:
        depth = 0
        for event in yaml.parse(characters, _Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_MAX:
                line = event.start_mark.line + 1 if event.start_mark else 1
                text.stop("yaml", f"more than {DEPTH_MAX} levels deep; no setting stands there", line=line)
        return _Loader(characters).get_single_node()
    except yaml.reader.ReaderError as error:
        line = characters.count("\n", 0, error.position) + 1
        odd = f"U+{ord(characters[error.position]):04X}"
        text.stop("yaml", f"has the character {odd}; remove it, or save the file as plain text", line=line)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # What YAML takes for the name of an alias or a tag may be a secret that wants quotes.
        said = _NAMED.sub(r"\1", error.problem or error.context or "broken YAML")
        problem = shown(said)[1:-1]
        advice = "indent with spaces, put a space after each colon, quote text with punctuation"
        text.stop("yaml", f"{problem}; {advice}", line=mark.line + 1 if mark else 1)
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML lets what its escapes and directives hold fail in Python's own words.
        text.stop("yaml", "cannot be read as YAML; look for odd escapes such as \\U, or % at the start of a line")


def _value_of(node: yaml.Node, key: Key, text: Text) -> Any:
    """Return the plain value of ``node``, noting lines and what YAML allows but we do not."""
    text.spare -= 1
    line = node.start_mark.line + 1
    if text.spare < 0:
        text.stop("yaml", f"unfolds into more than {VALUES_MAX} values; use fewer aliases", line=line)
    if len(key) > DEPTH_MAX:
        text.stop("yaml", f"an alias leads more than {DEPTH_MAX} levels deep; write the value out", line=line)
    text.lines.setdefault(key, line)
    if node.tag not in _TAGS[type(node)]:
        tag = "a YAML tag" if _is_secret(key) else f"the YAML tag {shown(node.tag)}"
        text.wrong(key, f"has {tag}; write it without !")
    if isinstance(node, yaml.MappingNode):
        return _mapping_of(node, key, text)
    if isinstance(node, yaml.SequenceNode):
        return [_value_of(item, (*key, index), text) for index, item in enumerate(node.value)]
    if not node.value.isprintable():
        given = "this" if _is_secret(key) else shown(node.value)
        text.wrong(key, f"{given} has a character that does not print; write plain text on one line")
    form, become = _PLAIN.get(node.tag, (None, str))
    return become(node.value) if form and form.match(node.value) else node.value


def _is_secret(key: Key) -> bool:
    """Tell whether the value of a bypass's header stands there, which no mistake may quote."""
    return key[-2:-1] == ("header",)


def _mapping_of(node: yaml.MappingNode, key: Key, text: Text) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name_node, value_node in node.value:
        line = name_node.start_mark.line + 1
        name = name_node.value if isinstance(name_node, yaml.ScalarNode) else ""
        here = (*key, name)
        if not isinstance(name_node, yaml.ScalarNode) or name_node.tag != _STR or not name.isprintable():
            what = shown(name) if name else "a list, a mapping or nothing"
            text.wrong(here, f"{what} stands as a key; write a word, in quotes if need be", line=line)
        elif name in values:
            text.wrong(here, f"stands twice, first in line {text.lines[here]}; keep one", line=line)
        else:
            text.lines[here] = line
            values[name] = _value_of(value_node, here, text)
    return values
