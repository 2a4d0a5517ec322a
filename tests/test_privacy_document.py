"""docs/PRIVACY.md says of what is kept all that there is, and no more."""

from __future__ import annotations

import re
from pathlib import Path

from waitroom import logs
from waitroom.admin.sessions import LASTS_S
from waitroom.commands import auditing
from waitroom.config.shapes import FileShape
from waitroom.store.sqlitefile import LISTS, SCHEMA
from waitroom.web import answers, desk, joinlimit

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/PRIVACY.md").read_text()


def part(title):
    """Return what stands under a heading."""
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_table_of_the_record_is_named():
    """A table that is added must say what it holds of a visitor, and until when."""
    tables = set(re.findall(r"CREATE TABLE (\w+)", SCHEMA + LISTS))
    assert set(re.findall(r"^\| `(\w+)` \|", part("In the record"), re.MULTILINE)) == tables


def test_no_table_has_a_column_for_what_the_document_says_is_not_kept():
    """Neither address nor agent nor target."""
    columns = set(re.findall(r"\b([a-z_]+) (?:TEXT|INTEGER|BLOB)", SCHEMA + LISTS))
    assert not columns & {"client", "address", "peer", "agent", "user_agent", "target", "path", "host"}


def test_every_kind_of_line_of_the_ledger_is_named():
    """A kind that is added must say what it holds of a visitor; and the period is the setting's."""
    rows = re.findall(r"^\| (`[^|]+`) \|", part("In the ledger"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(auditing.KINDS)
    assert "(90 days)" in part("In the ledger")
    assert FileShape().ledger.keep == 90 * 86_400


def test_every_field_of_the_log_that_tells_of_a_visitor_is_named():
    """A log line has no other fields than these, and those of them that are a visitor's stand in the document."""
    of_others = {"reason", "room", "origin", "why", "count"}
    assert {f"`{name}`" for name in set(logs.FIELDS) - of_others} <= set(re.findall(r"`\w+`", part("In the log")))


def test_every_key_of_the_pages_storage_is_the_documents():
    """Only the two scripts that the document names keep anything in a browser."""
    keepers = {path.name for path in (ROOT / "templates").glob("*.js") if "Storage" in path.read_text()}
    assert keepers == {"waiting.js", "form.js"}
    for path in (ROOT / "templates").glob("**/*.js"):
        assert "localStorage" not in path.read_text()
        assert "indexedDB" not in path.read_text()


def test_the_figures_are_those_of_the_code():
    """Each bound that the document states."""
    assert answers.TICKET_COOKIE_S == 7 * 86_400
    assert f"the {joinlimit.CLIENTS_MAX:,} last heard" in TEXT
    assert f"{desk.SPEAKERS_MAX:,} of them" in TEXT
    assert LASTS_S == 12 * 3600
