"""What an origin says to us: understood exactly, or named and left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitroom.core.commands import EXTEND_MS_MAX, NOTHING, SHOWN_CHARS_MAX, Commands, read

COMMAND, CLOUDFLARE, STOCK = b"waitroom-command", b"cf-waiting-room-command", b"waitroom-stock"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (COMMAND, b"revoke", Commands(revoke=True)),
        (COMMAND, b" Revoke ", Commands(revoke=True)),
        (CLOUDFLARE, b"revoke", Commands(revoke=True)),
        (COMMAND, b"extend=90s", Commands(extend_ms=90_000)),
        (COMMAND, b"extend=500ms", Commands(extend_ms=500)),
        (COMMAND, b"extend=5m", Commands(extend_ms=300_000)),
        (COMMAND, b"extend=1h", Commands(extend_ms=3_600_000)),
        (COMMAND, b"extend=999999999h", Commands(extend_ms=EXTEND_MS_MAX)),
        (COMMAND, b"sold-out", Commands(ended="sold-out")),
        (COMMAND, b"close", Commands(ended="close")),
        (COMMAND, b"revoke, sold-out", Commands(revoke=True, ended="sold-out")),
        (STOCK, b"0", Commands(stock=(0, None))),
        (STOCK, b"17;v=3", Commands(stock=(17, 3))),
        (STOCK, b" 17 ; v=3", Commands(stock=(17, 3))),
    ],
)
def test_what_is_said_is_done(name, value, said):
    """Each command of the contract, in the spellings that HTTP allows."""
    assert read([(name, value)]) == said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (COMMAND, b"explode"),
        (COMMAND, b""),
        (COMMAND, b"extend=5"),
        (COMMAND, b"extend=-5s"),
        (COMMAND, b"extend=1d"),
        (CLOUDFLARE, b"close"),
        (CLOUDFLARE, b"extend=5m"),
        (STOCK, b"-1"),
        (STOCK, b"many"),
        (STOCK, b"1;v="),
        (STOCK, b"1234567890"),
    ],
)
def test_what_is_not_understood_is_named_and_changes_nothing(name, value):
    """An origin's typing error must not end a line; the log says what it was."""
    said = read([(name, value)])
    assert said == Commands(unknown=said.unknown)
    assert len(said.unknown) == 1


def test_the_last_word_on_the_stock_counts():
    """Several headers of one answer are read in order."""
    assert read([(STOCK, b"5;v=1"), (STOCK, b"4;v=2"), (COMMAND, b"revoke")]) == Commands(revoke=True, stock=(4, 2))


@given(st.lists(st.tuples(st.sampled_from([COMMAND, CLOUDFLARE, STOCK]), st.binary(max_size=200))))
def test_whatever_is_said_never_raises_and_never_spoils_a_log(said):
    """Anything may stand in an answer; what is shown of it is short and printable."""
    found = read(said)
    assert all(word.isprintable() and len(word) < SHOWN_CHARS_MAX + 40 for word in found.unknown)


def test_nothing_said_is_nothing_done():
    """Most answers say nothing."""
    assert read([]) == NOTHING
