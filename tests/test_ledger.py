"""The ledger's files: what is written, what happens when they cannot be, and that no change of them goes unseen."""

from __future__ import annotations

import errno
import json
import os
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waitroom.cli import main
from waitroom.errors import StartError
from waitroom.ledger import files, lines, writing
from waitroom.ledger.files import Head
from waitroom.ledger.judging import SAID_MAX, judge
from waitroom.ledger.writing import LedgerWriter, Pen
from waitroom.model import LedgerFiles
from waitroom.ports import Entry
from waitroom.testing import FakeClock

KEY, OTHER = "k" * 32, "o" * 32
NOON_S = 1_800_014_400.0
"""A noon: half a day from the next file."""
VISITOR = "74f409cb300ee016"


class Kept:
    """A ledger in a folder, and the phrases in which these tests speak of it."""

    def __init__(self, tmp_path, rotate_bytes=64 * 1024**2, keep_s=90 * 86_400.0):
        self.folder = tmp_path / "var/ledger"
        self.note = tmp_path / "keys.ledger"
        self.files = LedgerFiles(self.folder, rotate_bytes, keep_s)
        self.clock = FakeClock(wall_s=NOON_S)
        self.secret = KEY

    def pen(self):
        """Open it."""
        pen = Pen(self.files, self.secret, self.note, self.clock)
        pen.open()
        return pen

    def written(self, count=6):
        """Write a file with so many admissions, and close it."""
        pen = self.pen()
        pen.put([("limits", {"room": "launch", "new_users_per_minute": 1_000}, "")])
        pen.put([admitted(number) for number in range(1, count + 1)])
        pen.close()
        return self

    def paths(self):
        """Return its files."""
        return files.listed(self.folder)

    def lines(self, at=-1):
        """Return the lines of a file."""
        return self.paths()[at].read_bytes().splitlines(keepends=True)

    def facts(self, at=-1):
        """Return what the lines of a file state."""
        return [json.loads(line) for line in self.lines(at)]

    def put(self, found, at=-1):
        """Put other lines in place of a file's."""
        self.paths()[at].write_bytes(b"".join(found))

    def verdict(self, secrets=(KEY,), *anchors):
        """Judge it."""
        return judge(self.paths(), secrets, anchors)

    def wrong(self, secrets=(KEY,), *anchors):
        """Return what is wrong with it, in one text."""
        return "\n".join(self.verdict(secrets, *anchors).wrong)


def admitted(number, nth=None, at_ms=None, **more):
    """Return what the line of an admission is made of."""
    facts = {"at_ms": at_ms or 1_000_000 + number, "room": "launch", "generation": 1, "number": number}
    return "admitted", {**facts, "nth": nth or number, "by": "claim", **more}, VISITOR


def entry(number):
    """Return the same as the stores tell it."""
    kind, facts, visitor = admitted(number)
    return Entry(kind, facts.pop("at_ms"), facts.pop("room"), facts, visitor)


@pytest.fixture
def kept(tmp_path):
    """A ledger of one file, whole and closed."""
    return Kept(tmp_path).written()


def forged(line, secret=OTHER, **changed):
    """Return a line as somebody would write it who does not have the key."""
    facts = {**json.loads(line), **changed}
    prev, _ = facts.pop("prev"), facts.pop("seal")
    return lines.write(facts, prev, lines.FileKeys.derive(secret, "")) + b"\n"


def chained(found, keys=None):
    """Return lines whose chain is made anew, as anybody can; the seals fit only whoever has the ``keys``."""
    prev, made = lines.BEGINNING, []
    for line in found:
        facts = json.loads(line)
        seal = facts.pop("seal")
        facts.pop("prev")
        another = lines.write(facts, prev, keys or lines.FileKeys.derive(OTHER, ""))
        if keys is None:
            another = another[: -len(seal) - 2] + seal.encode() + b'"}'
        prev = lines.digest(another)
        made.append(another + b"\n")
    return made


# -- what is written ---------------------------------------------------------------------------------------------------


def test_what_was_written_is_right(kept):
    """A whole ledger: nothing is wrong and nothing is to be said, and it states what happened."""
    verdict = kept.verdict()
    assert (verdict.wrong, verdict.notes, verdict.files, verdict.lines) == ([], [], 1, 9)
    assert verdict.kinds == {"opened": 1, "limits": 1, "admitted": 6, "closed": 1}
    assert (verdict.rooms["launch"].admitted, verdict.rooms["launch"].most_in_a_minute) == (6, 6)
    assert verdict.head == files.tail(kept.paths()[0]).head == Head(9, lines.digest(kept.lines()[-1].rstrip()))


def test_it_is_for_its_owner_only(kept):
    """Nobody else on the machine reads who was let in."""
    assert oct(kept.folder.stat().st_mode & 0o777) == "0o700"
    assert [oct(path.stat().st_mode & 0o777) for path in (*kept.paths(), kept.note)] == ["0o600", "0o600"]


def test_a_visitor_has_another_name_in_each_file(kept):
    """The id stands nowhere, one file has one name for it, and no two files the same."""
    pen = kept.pen()
    pen.put([admitted(7), admitted(8)])
    pen.close()
    names = [{facts["visitor"] for facts in kept.facts(at) if facts["kind"] == "admitted"} for at in (0, 1)]
    assert [len(found) for found in names] == [1, 1]
    assert names[0] != names[1]
    assert VISITOR.encode() not in b"".join(kept.lines(0) + kept.lines(1))
    nonce = kept.facts(1)[0]["nonce"]
    assert names[1] == {lines.FileKeys.derive(KEY, nonce).pseudonym(VISITOR)}
    assert names[1] != {lines.FileKeys.derive(OTHER, nonce).pseudonym(VISITOR)}


def test_each_file_goes_on_from_the_one_before(tmp_path):
    """By size, by day and by key another file is begun, and the chain goes through all of them."""
    kept = Kept(tmp_path, rotate_bytes=3_000)
    pen = kept.pen()
    for number in range(1, 21):
        pen.put([admitted(number)])
    by_size = len(kept.paths())
    assert by_size > 2
    kept.clock.advance(86_400)
    pen.put([admitted(21, at_ms=2_000_000)])
    pen.rekey(OTHER)
    pen.rekey(OTHER)
    pen.put([admitted(22, at_ms=2_000_001)])
    pen.close()
    reasons = [kept.facts(at)[0]["reason"] for at in range(len(kept.paths()))]
    assert reasons == ["start", *["size"] * (by_size - 1), "day", "key"]
    assert kept.verdict((KEY, OTHER)).wrong == kept.verdict((KEY, OTHER)).notes == []
    assert kept.verdict((KEY, OTHER)).rooms["launch"].admitted == 22


def test_what_was_kept_long_enough_goes_and_is_named(tmp_path):
    """The rest of the chain says that it went, and is right without it; without its word something is missing."""
    kept = Kept(tmp_path, keep_s=86_400).written()
    torn = kept.paths()[0].with_name(kept.paths()[0].name + files.TORN)
    torn.write_bytes(b"x")
    os.utime(kept.paths()[0], (NOON_S, NOON_S))
    kept.clock.advance(86_399)
    kept.pen().close()
    assert len(kept.paths()) == 2
    os.utime(kept.paths()[1], (kept.clock.wall_s(), kept.clock.wall_s()))
    kept.clock.advance(2)
    kept.pen().close()
    assert [path.name for path in kept.paths()] == ["ledger-000002.jsonl", "ledger-000003.jsonl"]
    assert not torn.exists()
    assert kept.wrong() == ""
    assert kept.verdict().first.seq == 10
    kept.paths()[0].unlink()
    assert kept.wrong() == "what was before line 12 is missing, and no line says that it was dropped"


# -- tampering ---------------------------------------------------------------------------------------------------------

TAMPERED = {
    "altered": (
        lambda found: [*found[:4], found[4].replace(b'"number":3', b'"number":9'), *found[5:]],
        "ledger-000001.jsonl, line 5 (seq 5) was altered: its seal does not fit",
    ),
    "altered to nonsense": (
        lambda found: [*found[:4], b"{}\n", *found[5:]],
        "ledger-000001.jsonl, line 5 was altered: it is no line of a ledger",
    ),
    "its number altered": (
        lambda found: [*found[:4], found[4].replace(b'"seq":5', b'"seq":9000'), *found[5:]],
        "ledger-000001.jsonl, line 5 (seq 9000) was altered: its seal does not fit",
    ),
    "taken out": (
        lambda found: [*found[:4], *found[6:]],
        "lines 5 to 6 are missing before ledger-000001.jsonl, line 5 (seq 7)",
    ),
    "taken out, and another altered": (
        lambda found: [*found[:4], found[4].replace(b"claim", b"chaim"), *found[6:]],
        "lines 6 to 6 are missing before ledger-000001.jsonl, line 6 (seq 7)",
    ),
    "moved": (
        lambda found: [*found[:4], found[5], found[4], *found[6:]],
        "ledger-000001.jsonl, line 6 (seq 5) is out of order: it stands behind seq 6",
    ),
    "said again": (
        lambda found: [*found[:5], found[4], *found[5:]],
        "ledger-000001.jsonl, line 6 (seq 5) is out of order: it stands behind seq 5",
    ),
    "put in": (
        lambda found: [*found[:5], forged(found[4], seq=6, number=99), *found[5:]],
        "ledger-000001.jsonl, line 6 (seq 6) was altered: its seal does not fit",
    ),
    "torn in the middle": (
        lambda found: [*found[:4], found[4][:50], *found[5:]],
        "ledger-000001.jsonl, line 5 was altered: it is no line of a ledger",
    ),
    "its beginning taken": (
        lambda found: found[2:],
        "ledger-000001.jsonl, line 1 (seq 3) is no beginning of a file",
    ),
    "emptied": (lambda found: found[:0], "ledger-000001.jsonl is empty"),
    "all of it by another key": (
        lambda found: [forged(line) for line in found],
        "ledger-000001.jsonl, line 1 (seq 1) was altered: its seal does not fit",
    ),
    "its chain made anew": (
        lambda found: chained([*found[:4], found[4].replace(b'"number":3', b'"number":9'), *found[5:]]),
        "ledger-000001.jsonl, line 6 (seq 6) was altered: its seal does not fit",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_no_change_of_a_file_goes_unseen(kept, how):
    """Whatever was done to it is found, and said of the very line."""
    change, said = TAMPERED[how]
    kept.put(change(kept.lines()))
    assert said in kept.wrong()


WHOLE = []
"""The lines of one ledger, and its head: written once for all changes that are tried."""


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 10**6), change=st.sampled_from(["flip", "cut", "put in"]), byte=st.integers(1, 255))
def test_no_byte_can_be_changed_unseen(tmp_path_factory, at, change, byte):
    """Any byte, anywhere, turned into any other, taken out or put in; with the head known nothing passes."""
    kept = Kept(tmp_path_factory.mktemp("ledger"))
    if not WHOLE:
        WHOLE.extend((b"".join(kept.written(3).lines()), kept.verdict().head))
    whole, head = WHOLE
    at %= len(whole)
    kept.folder.mkdir(parents=True, exist_ok=True)
    path = kept.folder / files.name(1)
    tampered = {
        "flip": whole[:at] + bytes([whole[at] ^ byte]) + whole[at + 1 :],
        "cut": whole[:at] + whole[at + 1 :],
        "put in": whole[:at] + bytes([byte]) + whole[at:],
    }[change]
    if tampered != whole:  # of two equal neighbours either can be taken
        path.write_bytes(tampered)
        assert kept.wrong((KEY,), head) != ""


def test_lines_are_shown_as_they_stand(kept, capsys):
    """All, or those of a room, a number, a kind, from a time on; one that is no line is left out, and that is said."""

    def shown(*words):
        assert main(["ledger", "show", str(kept.folder), *words]) == 0
        return capsys.readouterr().out.splitlines()

    assert len(shown()) == 9
    [line] = shown("--number", "3")
    assert line.startswith(
        '5 2027-01-15T12:00:00.000Z admitted at_ms=1000003 room="launch" generation=1 number=3 nth=3'
    )
    assert [line.split()[2] for line in shown("--kind", "limits")] == ["limits"]
    assert len(shown("--room", "launch")) == 7
    assert shown("--room", "other") == []
    assert len(shown("--since", "2027-01-15T21:00:00+09:00")) == 9
    assert shown("--since", "2027-01-15T12:00:00.001Z") == []
    [line] = shown("--number", "3", "--json")
    assert json.loads(line)["visitor"] == json.loads(kept.lines()[4])["visitor"]
    kept.put([*kept.lines(), b"nonsense\n"])
    assert main(["ledger", "show", str(kept.folder)]) == 0
    assert "a line that is none of a ledger is left out" in capsys.readouterr().err


def test_a_change_is_said_once(kept):
    """What does not fit because of it is no second thing that is wrong."""
    for how in ("altered", "altered to nonsense", "its number altered", "put in", "taken out"):
        before = kept.lines()
        kept.put(TAMPERED[how][0](before))
        about_lines = [said for said in kept.verdict().wrong if "admission" not in said]
        assert about_lines == [TAMPERED[how][1]], how
        kept.put(before)


def test_without_keys_the_chain_alone_is_judged(kept):
    """Somebody without keys sees what does not fit together; and nothing in a chain that somebody made anew."""
    before = kept.lines()
    kept.put(TAMPERED["altered"][0](before))
    assert "line 6 (seq 6) names another line before it than stands there" in kept.wrong(None)
    kept.put(TAMPERED["its chain made anew"][0](before))
    assert kept.wrong(None) == ""


def test_a_file_by_a_key_that_is_not_yours_proves_nothing(tmp_path):
    """A ledger that somebody wrote with a key of their own is recognised, however well it fits together."""
    kept = Kept(tmp_path)
    kept.secret = OTHER
    kept.written()
    assert re.fullmatch(
        "ledger-000001.jsonl is sealed by the key [0-9a-f]{8}, which is none of yours, and no later line by one of "
        "yours vouches for it",
        kept.wrong(),
    )
    assert kept.wrong(None) == ""


def test_what_a_retired_key_sealed_is_vouched_for_by_what_follows(tmp_path):
    """The line of a key at hand names, through all between, each line before it; so a change is found there too."""
    kept = Kept(tmp_path)
    kept.secret = OTHER
    kept.written()
    kept.secret = KEY
    kept.pen().close()
    verdict = kept.verdict()
    assert verdict.wrong == []
    assert "is retired; what follows vouches for it" in verdict.notes[0]
    before = kept.lines(0)
    kept.put(chained([line.replace(b'"number":3', b'"number":9') for line in before]), 0)
    assert "names another line before it than stands there" in kept.wrong()
    assert "vouches" not in "".join(kept.verdict().notes)
    assert "no later line by one of yours vouches for it" in kept.wrong()


def test_a_file_that_does_not_say_by_which_key_it_is_sealed_is_none(tmp_path):
    """Whoever has no key may leave out the line that names it, or write one of their own between two others."""
    kept = Kept(tmp_path).written()
    kept.pen().close()
    head = files.tail(kept.paths()[0]).head
    line = forged(kept.lines(0)[3], seq=head.seq + 1)
    facts = {**json.loads(line), "prev": head.digest}
    facts.pop("seal")
    kept.put([lines.write(facts, head.digest, lines.FileKeys.derive(OTHER, "")) + b"\n"])
    assert kept.wrong().startswith("ledger-000002.jsonl, line 1 (seq 10) is no beginning of a file")
    kept.paths()[1].unlink()
    opened = forged(kept.lines()[0], seq=head.seq + 1, key="00000000")
    facts = {**json.loads(opened), "prev": head.digest}
    facts.pop("seal")
    opened = lines.write(facts, head.digest, lines.FileKeys.derive(OTHER, "")) + b"\n"
    kept.put([*kept.lines(), opened])
    assert "line 10 (seq 10) begins a file in the middle of one" in kept.wrong()
    assert "is sealed by the key 00000000, which is none of yours" in kept.wrong()


def test_an_end_that_was_cut_off_shows_by_an_anchor(kept):
    """And only by one: what is left is right in itself."""
    anchor = kept.verdict().head
    kept.put(kept.lines()[:6])
    assert kept.wrong() == ""
    assert "the anchor knows line 9, and 3 lines up to it are missing" in kept.wrong((KEY,), anchor)


def test_what_whoever_has_the_keys_wrote_anew_shows_by_an_anchor(kept):
    """Seals and chain are right; but the line that somebody noted is another."""
    anchor = kept.verdict().head
    keys = lines.FileKeys.derive(KEY, kept.facts()[0]["nonce"])
    kept.put(chained([line.replace(b'"number":3', b'"number":9') for line in kept.lines()], keys))
    assert kept.wrong() == ""
    said = "line 9 (seq 9) is not the line that the anchor knows: the ledger was written anew"
    assert kept.wrong((KEY,), anchor).endswith(said)
    assert kept.wrong((KEY,), Head(9, anchor.digest[:16])).endswith(said)
    assert kept.wrong((KEY,), Head(9, kept.verdict().head.digest[:16])) == ""


def test_an_anchor_that_is_older_than_what_is_kept_says_nothing(tmp_path):
    """It is told, and is nothing wrong."""
    kept = Kept(tmp_path, keep_s=86_400).written()
    kept.pen().close()
    os.utime(kept.paths()[0], (0, 0))
    kept.pen().close()
    verdict = kept.verdict((KEY,), Head(3, "0" * 64))
    assert verdict.wrong == []
    assert verdict.notes == ["the anchor's line 3 is older than what is kept, and says nothing of it"]


def test_a_file_from_the_middle_is_missed(tmp_path):
    """Files are one chain: none can be taken out between two others."""
    kept = Kept(tmp_path).written()
    kept.pen().close()
    kept.pen().close()
    kept.paths()[1].unlink()
    assert kept.wrong() == "lines 10 to 11 are missing before ledger-000003.jsonl, line 1 (seq 12)"


def test_of_much_that_is_wrong_the_first_is_said_and_the_rest_counted(tmp_path):
    """An answer that a person reads."""
    kept = Kept(tmp_path).written(SAID_MAX + 20)
    kept.put([line.replace(b"claim", b"chaim") for line in kept.lines()])
    verdict = kept.verdict()
    assert (len(verdict.wrong), verdict.unsaid) == (SAID_MAX, 20)


# -- what the lines say together ---------------------------------------------------------------------------------------


def said(tmp_path, *entries):
    """Return the verdict on a ledger with these lines; None closes it and opens it again."""
    kept = Kept(tmp_path)
    pen = kept.pen()
    for one in entries:
        if one is None:
            pen.close()
            pen = kept.pen()
        else:
            pen.put([one])
    pen.close()
    return kept.verdict()


def limit(most):
    """Return what the line of a limit is made of."""
    return "limits", {"room": "launch", "new_users_per_minute": most}, ""


def test_a_minute_with_more_than_its_limit_is_found(tmp_path):
    """By the limit in force at each admission; a minute is any sixty seconds."""
    spread = [admitted(nth, at_ms=1_000_000 + 20_000 * nth) for nth in range(1, 10)]
    assert said(tmp_path / "a", limit(3), *spread).wrong == []
    over = [*spread, admitted(10, at_ms=1_180_001)]
    [wrong] = said(tmp_path / "b", limit(3), *over).wrong
    assert wrong.startswith(
        "launch let in 4 within a minute, and the limit was 3: first at ledger-000001.jsonl, line 12"
    )
    assert said(tmp_path / "c", limit(3), *spread, limit(4), over[-1]).wrong == []


def test_nobody_is_let_in_twice(tmp_path):
    """A number is let in once; after a start it may be again, for the record may have been lost."""
    [wrong] = said(tmp_path / "a", admitted(1), admitted(1, nth=2)).wrong
    assert wrong == "ledger-000001.jsonl, line 3 (seq 3) lets number 1 of launch in a second time"
    assert said(tmp_path / "b", admitted(1), admitted(1, nth=2, generation=2)).wrong == []
    assert said(tmp_path / "c", admitted(1), None, admitted(1, nth=2)).wrong == []


def test_an_admission_that_is_not_in_the_ledger_shows_in_the_rooms_own_count(tmp_path):
    """Where the ledger was not written it is only told; anywhere else it is wrong."""
    [wrong] = said(tmp_path / "a", admitted(1), admitted(5)).wrong
    assert wrong == "3 admissions of launch before ledger-000001.jsonl, line 3 (seq 3) are not in the ledger"
    [wrong] = said(tmp_path / "b", admitted(5), admitted(2)).wrong
    assert wrong == "ledger-000001.jsonl, line 3 (seq 3) is admission 2 of launch, after admission 5"
    adopts = {"room": "launch", "who": "waitroom", "did": "generation 2 adopted: the record had lost it"}
    said_by_kim = ("acted", {**adopts, "who": "kim"}, "")
    assert said(tmp_path / "d", admitted(1), said_by_kim, admitted(5)).wrong != []
    told = (None, ("gap", {"why": "full", "lost": {"admitted": 3}}, ""), ("acted", adopts, ""))
    for at, between in enumerate(told):
        verdict = said(tmp_path / f"c{at}", admitted(1), between, admitted(5), admitted(6))
        assert verdict.wrong == []
        assert "3 admissions of launch before" in verdict.notes[-1]


# -- when it cannot be written -----------------------------------------------------------------------------------------


def test_a_torn_line_is_set_aside_and_stated(kept):
    """What a killed process left of a line is cut off; every whole line stays as it was."""
    whole = kept.paths()[0].read_bytes()
    with kept.paths()[0].open("ab") as file:
        file.write(b'{"seq":10,"at"')
    before = kept.verdict()
    assert before.wrong == []
    assert before.notes == []
    kept.pen().close()
    assert kept.paths()[0].read_bytes() == whole
    assert kept.paths()[0].with_name("ledger-000001.jsonl.torn").read_bytes() == b'{"seq":10,"at"'
    [gap] = [facts for facts in kept.facts() if facts["kind"] == "gap"]
    assert (gap["torn_bytes"], gap["file"]) == (14, "ledger-000001.jsonl")
    verdict = kept.verdict()
    assert verdict.wrong == []
    assert "states a gap: torn_bytes 14" in verdict.notes[0]


@pytest.mark.parametrize("torn", [b"", b'{"seq":10,"at":"2026'])
def test_a_file_without_a_whole_line_is_begun_again(kept, torn):
    """Its process was killed in between: the chain goes on from the file before, and nobody is alarmed."""
    (kept.folder / files.name(2)).write_bytes(torn)
    kept.pen().close()
    assert [path.name for path in kept.paths()] == [files.name(1), files.name(2)]
    assert kept.facts()[0]["seq"] == 10
    assert kept.wrong() == ""
    assert [facts["torn_bytes"] for facts in kept.facts() if facts["kind"] == "gap"] == ([len(torn)] if torn else [])


def test_a_torn_end_of_a_file_that_is_written_is_told(kept):
    """It is what somebody sees who looks while it is written, or after a kill; nothing is wrong with it."""
    found = kept.lines()
    kept.put([*found[:-1], found[-1][:40]])
    verdict = kept.verdict()
    assert verdict.wrong == []
    assert "ledger-000001.jsonl, line 9 is torn: it has no end" in verdict.notes


def test_an_end_that_was_cut_off_while_nobody_wrote_is_noticed_at_the_start(kept, caplog):
    """The note beside the keys knows the last line: the chain goes on from that, and what is missing shows for good."""
    kept.put(kept.lines()[:6])
    kept.pen().close()
    assert "somebody changed it" in caplog.text
    assert "lines 7 to 9 are missing before ledger-000002.jsonl, line 1 (seq 10)" in kept.wrong()


def test_a_folder_that_was_emptied_is_noticed_at_the_start(kept):
    """The whole ledger deleted is not a new one."""
    kept.paths()[0].unlink()
    kept.pen().close()
    assert "what was before line 10 is missing" in kept.wrong()


def test_a_last_line_that_says_nothing_is_counted_on_from(kept):
    """Nobody takes a number for another line, whatever was made of the last."""
    found = kept.lines()
    kept.put([*found[:-1], b"nonsense\n"])
    kept.note.unlink()
    kept.pen().close()
    assert kept.facts()[0]["seq"] == 10
    assert "line 9 was altered: it is no line of a ledger" in kept.wrong()


@pytest.fixture
def full(monkeypatch):
    """Return a switch: while it is on, the disk is full after half of what is to be written."""
    write, switch = os.write, []

    def half(file, data):
        if not switch:
            return write(file, data)
        write(file, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.os, "write", half)
    return switch


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path, full):
    """What could not be written whole is not there, and is written whole afterwards."""
    kept = Kept(tmp_path)
    pen = kept.pen()
    pen.put([admitted(1)])
    full.append(True)
    with pytest.raises(OSError, match="No space"):
        pen.put([admitted(2), admitted(3)])
    assert kept.verdict().wrong == []
    full.clear()
    pen.put([admitted(2), admitted(3)])
    pen.close()
    assert (kept.wrong(), kept.verdict().rooms["launch"].admitted) == ("", 3)


def until(condition):
    """Wait for the writer's thread."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


@pytest.fixture
def writer(tmp_path, monkeypatch):
    """A running writer that loses no time, and its ledger."""
    monkeypatch.setattr(writing, "AGAIN_S", 0.02)
    monkeypatch.setattr(writing, "GATHER_S", 0.0)
    monkeypatch.setattr(writing, "SYNC_S", 0.02)
    kept = Kept(tmp_path)
    kept.writer = LedgerWriter(kept.files, KEY, kept.note, kept.clock)
    kept.writer.start()
    yield kept
    kept.writer.close()


def test_what_is_handed_in_is_written_and_safe_in_a_moment(writer):
    """Without anybody waiting for it; the note beside the keys follows."""
    writer.writer.write([entry(1), entry(2)])
    until(lambda: writer.writer.stats()["ledger_lines_total"] == 2)
    until(lambda: files.HeadNote(writer.note).read() == files.tail(writer.paths()[0]).head)
    assert writer.writer.stats() == {
        "ledger_seq": 3,
        "ledger_waiting": 0,
        "ledger_lines_total": 2,
        "ledger_lost_total": 0,
    }
    writer.writer.close()
    assert [facts["kind"] for facts in writer.facts()] == ["opened", "admitted", "admitted", "closed"]


def test_entries_wait_for_a_disk_that_is_full_and_those_too_many_are_counted(writer, full, monkeypatch, caplog):
    """Nobody is kept out by it; what is lost is a metric, and stated where it happened."""
    monkeypatch.setattr(writing, "ENTRIES_MAX", 5)
    until(lambda: writer.writer.stats()["ledger_seq"] == 1)
    full.append(True)
    writer.writer.write([entry(1), entry(2), entry(3)])
    until(lambda: "No space left on device" in caplog.text)
    writer.writer.write([entry(number) for number in range(4, 8)])
    writer.writer.write([entry(8)])
    assert writer.writer.stats()["ledger_lost_total"] == 5
    full.clear()
    until(lambda: writer.writer.stats()["ledger_waiting"] == 0)
    until(lambda: "the ledger is written again" in caplog.text)
    writer.writer.write([entry(9)])
    writer.writer.close()
    found = [facts for facts in writer.facts() if facts["kind"] == "gap"]
    assert [(gap["why"], gap["lost"]) for gap in found] == [("No space left on device", {"admitted": 5})]
    verdict = writer.verdict()
    assert verdict.wrong == []
    assert "5 admissions of launch before" in verdict.notes[-1]
    assert len(re.findall("cannot be written", caplog.text)) == 1


@pytest.mark.parametrize("how", ["cut", "added to", "removed", "replaced", "the folder removed"])
def test_a_file_that_is_changed_while_it_is_written_is_left_and_found(writer, how, caplog):
    """While the process lives its memory is the last word: the next file names the line that should be there."""
    writer.writer.write([entry(1), entry(2), entry(3)])
    until(lambda: writer.writer.stats()["ledger_seq"] == 4)
    [path] = writer.paths()
    found = path.read_bytes()
    match how:
        case "cut":
            os.truncate(path, len(found) - len(found.splitlines(keepends=True)[-1]))
        case "added to":
            with path.open("ab") as file:
                file.write(found.splitlines(keepends=True)[-1])
        case "removed":
            path.unlink()
        case "replaced":
            path.with_name("other").write_bytes(found)
            path.with_name("other").replace(path)
            os.truncate(path, len(found) - 600)
        case _:
            path.unlink()
            path.parent.rmdir()
    writer.writer.write([entry(4)])
    until(lambda: writer.writer.stats()["ledger_lines_total"] == 4)
    writer.writer.close()
    assert "somebody else changed the ledger" in caplog.text
    assert writer.facts()[-3]["number"] == 4
    assert writer.wrong() != ""
    assert {facts["kind"] for facts in writer.facts()} >= {"gap", "admitted"}


def test_a_fault_of_ours_costs_what_came_with_it_and_nothing_more(writer, caplog):
    """What cannot be written for any other reason is lost and stated; the ledger goes on."""
    writer.writer.write([Entry("acted", 1, "launch", {"did": object()})])
    until(lambda: writer.writer.stats()["ledger_lost_total"] == 1)
    until(lambda: "the ledger is written again" in caplog.text)
    writer.writer.write([entry(1)])
    writer.writer.close()
    assert [facts["kind"] for facts in writer.facts()] == ["opened", "gap", "admitted", "closed"]
    assert (writer.facts()[1]["why"], writer.facts()[1]["lost"]) == ("a fault of ours", {"acted": 1})
    assert "not JSON serializable" in caplog.text


def test_only_one_writes_a_ledger(writer, caplog):
    """A second house that names the same folder changes nothing in it, says so, and takes over when it is free."""
    until(lambda: writer.writer.stats()["ledger_seq"] == 1)
    other = LedgerWriter(writer.files, OTHER, writer.note, writer.clock)
    other.start()
    other.write([entry(7)])
    until(lambda: "another Waitroom writes this ledger" in caplog.text)
    assert len(writer.paths()) == 1
    writer.writer.close()
    until(lambda: other.stats()["ledger_lines_total"] == 1)
    other.close()
    assert writer.verdict((KEY, OTHER)).wrong == []


def test_another_key_begins_another_file(writer):
    """Before the next line is written."""
    writer.writer.write([entry(1)])
    until(lambda: writer.writer.stats()["ledger_lines_total"] == 1)
    writer.writer.configure(OTHER)
    writer.writer.write([entry(2)])
    until(lambda: writer.writer.stats()["ledger_lines_total"] == 2)
    writer.writer.close()
    assert [writer.facts(at)[0]["key"] for at in (0, 1)] == [lines.key_id(KEY), lines.key_id(OTHER)]
    assert writer.wrong((KEY, OTHER)) == ""


def test_the_head_is_logged_and_a_day_ends_also_when_nobody_comes(writer, monkeypatch, caplog):
    """Who collects the log elsewhere has anchors; what is to be removed is, though nobody is let in any more."""
    caplog.set_level("INFO")
    monkeypatch.setattr(writing, "LOOK_S", 0.0)
    writer.writer.write([entry(1)])
    until(lambda: "ledger head 2:" in caplog.text)
    writer.clock.advance(86_400)
    writer.writer.configure(KEY)
    until(lambda: len(writer.paths()) == 2)
    writer.writer.close()
    heads = re.findall("ledger head ([0-9]+):([0-9a-f]{64})", caplog.text)
    assert writer.wrong((KEY,), *(Head(int(seq), digest) for seq, digest in heads)) == ""
    assert len(heads) >= 3


def test_a_start_is_refused_where_nothing_could_be_written(tmp_path):
    """It is the operator's to mend, and nobody waits yet."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"ledger: .*file/ledger cannot be made"):
        files.make_folder(tmp_path / "file/ledger")
    files.make_folder(tmp_path / "var/ledger")
    assert oct((tmp_path / "var/ledger").stat().st_mode & 0o777) == "0o700"


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"seq":1}', b"[" * 5_000, b'{"seq":"1","kind":"a","prev":"","seal":""}'],
)
def test_what_is_no_line_is_none(line):
    """Whatever stands there, nothing breaks."""
    padded = line + b',"seal":"' + b"0" * 64 + b'"}'
    assert lines.read(line) is lines.read(padded) is None
    for seq in ("true", "0", "-1", "1.5", '"1"', "null"):
        text = f'{{"seq":{seq},"at":"","kind":"","prev":"","seal":"{"0" * 64}"}}'
        assert lines.read(text.encode()) is None
    assert lines.read(lines.write({"seq": 1, "at": "", "kind": ""}, "", lines.FileKeys.derive(KEY, ""))) is not None
    long = {"seq": 1, "at": "", "kind": "", "long": "x" * lines.LINE_BYTES_MAX}
    assert lines.read(lines.write(long, "", lines.FileKeys.derive(KEY, ""))) is None
