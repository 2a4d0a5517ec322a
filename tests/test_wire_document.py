"""The document about the wire claims nothing that no test holds."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROMISED, MEASURED = (ROOT / "docs" / "WIRE.md").read_text("utf-8").split("## Measured with other people's suites")
HEADING = re.compile(r"\| (feature|what|limit|what it does|attack|suite|case) \|")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
COMMAND = re.compile(r"`python (bench/\w+\.py)(?: (\w+))?`")


def rows(text):
    """The rows of every table, without their headings."""
    return [line for line in text.splitlines() if line.startswith("| ") and not HEADING.match(line)]


@pytest.mark.parametrize("row", rows(PROMISED), ids=lambda row: row.split("|")[1].strip()[:50])
def test_every_row_is_backed_by_a_test_that_exists(row):
    """A row of docs/WIRE.md names a test, and it stands in the file that it names."""
    found = NAMED.search(row)
    assert found is not None, "the row names no test"
    tree = ast.parse((ROOT / found[1]).read_text("utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert found[2] in defined


@pytest.mark.parametrize("row", rows(MEASURED), ids=lambda row: row.split("|")[1].strip()[:50])
def test_every_measurement_names_the_command_that_repeats_it(row):
    """What was measured with somebody else's suite can be measured again: the row names a script, and its option."""
    found = COMMAND.search(row)
    assert found is not None, "the row names no command"
    script = (ROOT / found[1]).read_text("utf-8")
    assert found[2] is None or f'"{found[2]}"' in script
