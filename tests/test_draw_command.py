"""``waitroom draw``: what is published of a draw, and that nothing in it can be changed without being found."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json

import pytest
from house import free_port
from operators import TOKEN, House

from waitroom.cli import main
from waitroom.commands import drawing
from waitroom.core import draw
from waitroom.core.draw import JoinList
from waitroom.errors import CommandError

SEED = b"s" * 32


def stated(count=30, lost=0):
    """Return a draw as the admin listener states it."""
    found = JoinList.begin("launch", "noon", 2, SEED)
    for number in range(1, lost + 1):
        found.write(number, draw.ticket_hash("launch", 2, number, f"{number:016x}"))
    if lost:
        found = JoinList.restore(found.record(), None)
    for number in [*range(lost + 1, count - 4), *range(1_000_000, 1_000_005)]:
        found.write(number, draw.ticket_hash("launch", 2, number, f"{number:016x}"))
    found.closed = True
    shown = found.shown()
    order = draw.dealt(SEED, found.digest, tuple(found.series))
    return {
        "room": "launch",
        "draw": {name: getattr(shown, name) for name in shown.__slots__},
        "tickets": base64.b64encode(found.tickets).decode(),
        "lost": found.lost,
        "lost_digest": found.lost_digest.hex(),
        "ranks": base64.b64encode(order.ranks.tobytes()).decode(),
    }


@pytest.fixture
def file():
    """What was published of a draw among thirty."""
    return drawing.published(stated())


def wrong(file, **more):
    """Return what is found to be wrong, in one text."""
    return "\n".join(drawing.verify(file, **more).wrong)


def test_what_was_published_is_right(file):
    """Each number once, each place once, and everything follows from what stands in the file."""
    verdict = drawing.verify(file)
    assert (verdict.room, verdict.event, verdict.places, verdict.wrong) == ("launch", "noon", 30, [])
    assert sorted(place for *_, place in file["joins"]) == list(range(1, 31))
    assert [number for number, *_ in file["joins"]] == [*range(1, 26), *range(1_000_000, 1_000_005)]
    assert file["joins"][3][1] == draw.ticket_hash("launch", 2, 4, f"{4:016x}").hex()


def swapped(file):
    """Exchange two places."""
    first, second = file["joins"][4], file["joins"][9]
    first[2], second[2] = second[2], first[2]


def moved(file):
    """Give one a place that is none."""
    file["joins"][4][2] = 31


def added(file):
    """Add a joiner at the end."""
    file["joins"].append([1_000_005, "00" * 16, 31])


def added_between(file):
    """Add a joiner in between."""
    file["joins"].insert(25, [26, "00" * 16, 31])


def removed(file):
    """Take a joiner out."""
    del file["joins"][4]


def replaced(file):
    """Put another's ticket in."""
    file["joins"][4][1] = "00" * 16


def renumbered(file):
    """Give a joiner another number."""
    file["joins"][29][0] = 1_000_009


def reordered(file):
    """Turn the list around."""
    file["joins"].reverse()


def no_ticket(file):
    """Leave a ticket out."""
    file["joins"][4][1] = None


def reseeded(file):
    """State another seed."""
    file["seed"] = "11" * 32


def other_digest(file):
    """State another digest."""
    file["digest"] = "11" * 32


def other_commitment(file):
    """State another commitment."""
    file["commitment"] = "11" * 32


def other_event(file):
    """Say that it was of another event."""
    file["event"] = "evening"


def other_room(file):
    """Say that it was of another room."""
    file["room"] = "sale"


def other_generation(file):
    """Say that it was of another generation."""
    file["generation"] = 3


def said_lost(file):
    """Say that some tickets were lost."""
    file["lost"] = {"count": 5, "digest": "11" * 32}


TAMPERED = {
    swapped: "has place",
    moved: "the file states 31",
    added: "the list has the digest",
    added_between: "the list has the digest",
    removed: "the list has the digest",
    replaced: "the list has the digest",
    renumbered: "the list has the digest",
    reordered: "do not rise",
    no_ticket: "1 entries have no ticket, the first is number 5",
    reseeded: "the seed hashes to",
    other_digest: "the list has the digest",
    other_commitment: "states the commitment 1111",
    other_event: "the list has the digest",
    other_room: "the list has the digest",
    other_generation: "the list has the digest",
    said_lost: "lost with a record",
}


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda tamper: tamper.__name__)
def test_whatever_is_changed_is_found(file, tamper):
    """P12: a place swapped, a joiner added, removed, exchanged, another seed, digest or event."""
    changed = copy.deepcopy(file)
    tamper(changed)
    assert changed != file
    assert TAMPERED[tamper] in wrong(changed)


def test_a_draw_forged_as_a_whole_is_found_by_the_commitment_that_was_noted(file):
    """With another seed and everything worked out anew the file is right in itself: the earlier commitment is not."""
    other = JoinList.begin("launch", "noon", 2, b"t" * 32)
    for number, ticket, _ in file["joins"]:
        other.write(number, bytes.fromhex(ticket))
    ranks = draw.dealt(other.seed, other.digest, tuple(other.series)).ranks
    forged = file | {
        "seed": other.seed.hex(),
        "commitment": hashlib.sha256(other.seed).hexdigest(),
        "digest": other.digest.hex(),
        "joins": [[number, ticket, rank + 1] for (number, ticket, _), rank in zip(file["joins"], ranks, strict=True)],
    }
    assert wrong(forged) == ""
    assert wrong(file, commitment=f" {file['commitment'].upper()}\n") == ""
    assert "not the one you noted" in wrong(forged, commitment=file["commitment"])


def test_a_receipt_is_found_on_the_list_or_not(file):
    """Its holder learns the place; a ticket that is on no list is said to be missing."""
    _, ticket, place = file["joins"][7]
    assert drawing.verify(file, ticket=ticket.upper()).place == place
    assert "no entry has the ticket" in wrong(file, ticket="00" * 16)


def test_what_a_lost_record_took_is_said_and_the_rest_is_checked():
    """Places follow from the digest still; that nobody can check who they are is no proof, and so no success."""
    file = drawing.published(stated(lost=10))
    [said] = drawing.verify(file).wrong
    assert "first 10 entries" in said
    swapped(file)
    assert len(drawing.verify(file).wrong) == 3
    assert [ticket for _, ticket, _ in file["joins"][:10]] == [None] * 10
    assert file["joins"][10][1] is not None


def test_many_wrong_places_are_counted(file):
    """The first few are named."""
    for join in file["joins"]:
        join[2] = 31
    *named, rest = drawing.verify(file).wrong
    assert len(named) == drawing.SAID_MAX
    assert rest == "so are 25 more places of 30"


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"joins": None},
        {"joins": [[1, "00" * 16]]},
        {"joins": [["1", "00" * 16, 1]]},
        {"joins": [[True, "00" * 16, 1]]},
        {"joins": [[-1, "00" * 16, 1]]},
        {"joins": [[2**70, "00" * 16, 1]]},
        {"joins": [[1, "zz" * 16, 1]]},
        {"joins": [[1, "00" * 15, 1]]},
        {"joins": [[1, 5, 1]]},
        {"lost": 5},
        {"lost": {"count": 31, "digest": "00" * 32}},
        {"lost": {"count": 3, "digest": ""}},
        {"seed": None},
        {"seed": "00"},
        {"digest": 7},
        {"room": ""},
        {"room": "x" * 81},
        {"event": "a\x1b[31mb"},
        {"generation": 1.5},
    ],
    ids=str,
)
def test_what_is_no_published_draw_is_said_in_a_line(file, change):
    """Whatever stands in a file that somebody else made: one sentence, and no traceback."""
    with pytest.raises(CommandError) as caught:
        drawing.verify(file | change)
    assert "\n" not in str(caught.value)
    for other in (None, [], "x", {}):
        with pytest.raises(CommandError, match="no published draw"):
            drawing.verify(other)


# -- as it is typed ----------------------------------------------------------------------------------------------------


def test_a_file_is_verified_with_exit_codes(file, tmp_path, capsys):
    """0 when all is right; 1 with every reason; what is not proved is said either way."""
    path = tmp_path / "noon.json"
    path.write_text(json.dumps(file))
    assert main(["draw", "verify", str(path)]) == 0
    out = capsys.readouterr().out
    assert "launch, event noon: 30 places" in out
    assert "Every place is right" in out
    assert all(what in out for what in drawing.NOT_PROVED)
    _, ticket, place = file["joins"][0]
    assert main(["draw", "verify", str(path), "--ticket", ticket, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["places"], said["place"], said["wrong"]) == (True, 30, place, [])
    assert said["not_proved"] == list(drawing.NOT_PROVED)
    reseeded(file)
    path.write_text(json.dumps(file))
    assert main(["draw", "verify", str(path)]) == 1
    out = capsys.readouterr().out
    assert "NOT the order of a fair draw" in out
    assert "the seed hashes to" in out
    assert main(["draw", "verify", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_a_file_may_come_on_stdin(file, monkeypatch, capsys):
    """`curl … | waitroom draw verify -`."""
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(file)))
    assert main(["draw", "verify", "-"]) == 0
    assert "30 places" in capsys.readouterr().out


@pytest.mark.parametrize(("content", "said"), [(b"{", "no JSON"), (b"[" * 100_000, "no JSON"), (b"\xff", "no JSON")])
def test_a_file_that_is_none_is_said(content, said, tmp_path, capsys):
    """Cut short, nested without end, not even text, or not there at all."""
    path = tmp_path / "noon.json"
    path.write_bytes(content)
    assert main(["draw", "verify", str(path)]) == 1
    assert said in capsys.readouterr().err
    assert main(["draw", "verify", str(tmp_path / "none")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_nothing_is_published_before_there_is_a_draw(tmp_path, capsys):
    """A room without one, or before its start, says so; so does a place that cannot be written."""
    with House(tmp_path) as house:
        where = ["--admin", house.url, "--token-file", str(tmp_path / "admin-token")]
        assert main(["draw", "publish", "launch", *where]) == 1
        assert "no draw to publish" in capsys.readouterr().err
        assert main(["draw", "publish", "nowhere", *where]) == 1
        assert "no room of this name" in capsys.readouterr().err


def test_what_is_published_can_be_verified(tmp_path, monkeypatch, capsys):
    """The command writes what the other reads, to a file or to the screen, one entry a line."""
    monkeypatch.setattr("waitroom.commands.client.AdminClient.drawn", lambda _, __: stated())
    (tmp_path / "token").write_text(TOKEN)
    where = ["--admin", f"http://127.0.0.1:{free_port()}", "--token-file", str(tmp_path / "token")]
    path = tmp_path / "noon.json"
    assert main(["draw", "publish", "launch", "--output", str(path), *where]) == 0
    assert "30 places of event noon" in capsys.readouterr().out
    assert main(["draw", "verify", str(path)]) == 0
    capsys.readouterr()
    assert main(["draw", "publish", "launch", *where]) == 0
    out = capsys.readouterr().out
    assert out == path.read_text()
    assert len(out.splitlines()) > 30
    assert main(["draw", "publish", "launch", "--json", "--output", str(path), *where]) == 0
    assert json.loads(capsys.readouterr().out) == {"room": "launch", "event": "noon", "places": 30}
    assert main(["draw", "publish", "launch", "--output", str(tmp_path), *where]) == 1
    assert "cannot be written" in capsys.readouterr().err
    monkeypatch.setattr("waitroom.commands.client.AdminClient.drawn", lambda _, __: {"room": "launch"})
    assert main(["draw", "publish", "launch", *where]) == 1
    assert "no admin listener of this version" in capsys.readouterr().err
