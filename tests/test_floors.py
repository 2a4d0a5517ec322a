"""The floors of the house: imports point down, and the core touches nothing outside itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "waitroom"

FLOORS = {
    "model": 0,
    "errors": 0,
    "origin": 0,
    "resources": 0,
    "core": 1,
    "config": 1,
    "ports": 1,
    "stats": 1,
    "store": 2,
    "ledger": 2,
    "upstream": 2,
    "clock": 2,
    "logs": 2,
    "crashing": 0,
    "keys": 2,
    "secretfile": 2,
    "service": 3,
    "ticker": 3,
    "web": 4,
    "channel": 5,
    "sockets": 5,
    "child": 5,
    "supervisor": 5,
    "tether": 5,
    "keeper": 5,
    "worker": 5,
    "build": 5,
    "admin": 5,
    "commands": 5,
    "cli": 5,
    "testing": 5,
    "demo": 5,
    "crowd": 5,
    "checker": 5,
}
"""Which floor a module or package of ``waitroom`` stands on."""

EDGES = ("store", "ledger", "upstream")
PURE = {
    "binascii",
    "__future__",
    "dataclasses",
    "typing",
    "collections",
    "enum",
    "re",
    "math",
    "bisect",
    "heapq",
    "array",
    "struct",
} | {
    "binascii",
    "hashlib",
    "hmac",
    "itsdangerous",
    "ipaddress",
    "unicodedata",
    "urllib",
    "functools",
    "itertools",
}
"""What ``core/`` may import from outside: nothing here does IO, reads a clock or draws by chance."""


def modules() -> list[Path]:
    """Every source file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its floor"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(name: str) -> str | None:
    """Return the part of the house that an import names, or None for one from outside."""
    pieces = name.split(".")
    if pieces[0] != "waitroom":
        return None
    return pieces[1] if len(pieces) > 1 and pieces[1] in FLOORS else "waitroom"


def own_part(path: Path) -> str:
    """Return the part of the house that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    """A file imports from its own floor, or from one below; never from above, and no edge from another edge."""
    mine = own_part(path)
    if mine == "__init__":
        assert not {name for name in imports(path) if part(name)}
        return
    for name in imports(path):
        other = part(name)
        if other is None or other == mine:
            continue
        assert other in FLOORS, f"{path.name} imports {name}, which has no floor"
        assert FLOORS[other] <= FLOORS[mine], f"{mine} imports {name}"
        assert not (mine in EDGES and other in EDGES), f"{mine} knows the other edge, {other}"


def test_parts_of_one_floor_go_one_way() -> None:
    """No part imports, through any others, itself: on one floor too there is a first and a last."""
    beneath = {
        mine: {other for path in modules() if own_part(path) == mine for other in map(part, imports(path)) if other}
        for mine in FLOORS
    }
    for mine in FLOORS:
        reached, ahead = set[str](), beneath[mine] - {mine}
        while ahead:
            reached |= ahead
            ahead = set[str]().union(*(beneath.get(other, set()) for other in ahead)) - reached
        assert mine not in reached, f"{mine} imports itself through {sorted(reached)}"


def test_floors_three_and_four_know_the_edges_only_through_ports() -> None:
    """The service and the ticker import no store and no upstream; the web knows the origin's client, and no store."""
    for path in modules():
        parts = {part(name) for name in imports(path)}
        if own_part(path) in ("service", "ticker"):
            assert not parts & set(EDGES), path
        if own_part(path) == "web":
            assert "store" not in parts, path


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=lambda path: path.name)
def test_the_core_is_pure(path: Path) -> None:
    """``core/`` imports nothing that could do IO, read a clock, draw by chance or log."""
    outside = {name.split(".")[0] for name in imports(path) if part(name) is None}
    assert outside <= PURE, outside - PURE


def test_every_part_has_a_floor() -> None:
    """A new module gets its floor here, so that its direction is a decision."""
    parts = {own_part(path) for path in modules()} - {"__init__", "_data"}
    assert parts <= FLOORS.keys(), parts - FLOORS.keys()


def test_the_origins_file_stands_alone() -> None:
    """``waitroom/origin.py`` can be copied into a shop: it imports the standard library and nothing else."""
    roots = {name.split(".")[0] for name in imports(PACKAGE / "origin.py")}
    assert roots <= sys.stdlib_module_names, roots - sys.stdlib_module_names
