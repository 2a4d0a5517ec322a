"""The document about the wire claims nothing that no test holds."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [
    line
    for line in (ROOT / "docs" / "WIRE.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not re.match(r"\| (feature|what|limit|what it does|attack) \|", line)
]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:50])
def test_every_row_is_backed_by_a_test_that_exists(row):
    """A row of docs/WIRE.md names a test, and it stands in the file that it names."""
    found = NAMED.search(row)
    assert found is not None, "the row names no test"
    tree = ast.parse((ROOT / found[1]).read_text("utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert found[2] in defined
