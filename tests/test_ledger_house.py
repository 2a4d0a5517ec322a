"""The ledger of a whole house: whoever is killed, whatever becomes of its folder; and the commands that read it."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from house import RecordingOrigin, Visitor, processes, running, until

from waitroom import keys
from waitroom.cli import main

STANDBY = {"total_active_users": 1_000, "always_queue": False, "bypass": [{"path": "/event/a/"}]}
STORE = {"store": "sqlite:///record.db"}


@pytest.fixture
def origin():
    """A running origin."""
    origin = RecordingOrigin()
    origin.start()
    yield origin
    origin.stop()


def ledger(*words, house, capsys):
    """Run ``waitroom ledger … --json``; return the exit code, and what it printed, line by line."""
    capsys.readouterr()
    code = main(["ledger", *map(str, words), "--config", str(house.config), "--json"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def folder(house):
    """Return where the ledger is."""
    return house.folder / "var/ledger"


def kinds(house):
    """Return the kinds of all lines that stand in the ledger."""
    lines = [line for path in sorted(folder(house).glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line)["kind"] for line in lines if line.endswith("}")]


def test_a_house_writes_down_who_was_let_in_who_went_around_and_what_was_done(tmp_path, origin, capsys):
    """From the first start to a clean end: what the shop saw, what the operator said, no more and no less."""
    with running(tmp_path, origin, {**STANDBY, "total_active_users": 2}, **STORE) as house:
        visitors = [Visitor(house) for _ in range(4)]
        assert [one.is_in() for one in visitors] == [True, True, False, False]
        for _ in range(7):
            visitors[2].get("/event/a/x.css")
        visitors[0].post("/.waitroom/launch/leave")
        until(visitors[2].is_in)
        token = (house.folder / "var/admin-token").read_text().split()[-1]
        [port] = re.findall(r"operators are served on [0-9.]+:([0-9]+)", house.log.read_text())
        assert (
            visitors[3]
            .post(
                f"http://127.0.0.1:{port}/api/rooms/launch",
                json={"queue_all": True},
                headers={"Authorization": f"Bearer {token}", "Waitroom-Operator": "kim"},
            )
            .is_success
        )
        code, [verdict] = ledger("verify", house=house, capsys=capsys)
        assert (code, verdict["wrong"]) == (0, []), "it can be judged while it is written"
    assert house.process.returncode == 0
    code, [verdict] = ledger("verify", house=house, capsys=capsys)
    assert (code, verdict["wrong"], verdict["notes"]) == (0, [], [])
    assert verdict["rooms"]["launch"] == {"admitted": 3, "bypassed": 7, "acted": 1, "most_in_a_minute": 3}
    seen = {(one.header("Waitroom-Number"), one.header("Waitroom-Visitor")) for one in origin.seen} - {(None, None)}
    assert len(seen) == 3
    for number, visitor in seen:
        _, [line] = ledger("show", "--visitor", visitor, house=house, capsys=capsys)
        assert (line["kind"], line["number"], "prev" in line) == ("admitted", int(number), False)
    _, [acted] = ledger("show", "--kind", "acted", house=house, capsys=capsys)
    assert (acted["who"], acted["did"]) == ("kim", "queue_all = True")
    _, around = ledger("show", "--kind", "bypassed", "--room", "launch", house=house, capsys=capsys)
    assert {(one["reason"], one["rule"]) for one in around} == {("bypass", "*/event/a/")}
    assert sum(one["count"] for one in around) == 7
    text = b"".join(path.read_bytes() for path in folder(house).iterdir()).decode()
    for _, visitor in seen:
        assert visitor not in text
    for secret in (*keys.load(house.folder / "var/keys", {}), *(one.token() for one in visitors[1:3]), "127.0.0.1"):
        assert secret not in text


def keepers(house):
    """Return the process ids of the keepers."""
    return [pid for pid, role in processes(house.process.pid) if role == "keeper"]


def test_whoever_is_killed_the_ledger_is_right_and_knows_what_it_lacks(tmp_path, origin, capsys):
    """`kill -9` of the keeper, again and again while people come in, and once of the whole house."""
    with running(tmp_path, origin, STANDBY, **STORE, workers=2) as house:
        came = 0
        for round_ in range(6):
            for _ in range(15):
                came += Visitor(house).is_in()
            if round_ == 3:
                house.stop(signal.SIGKILL)
                house.start()
            else:
                keeper = house.keeper_pid()
                os.kill(keeper, signal.SIGKILL)
                until(lambda keeper=keeper: keeper not in keepers(house))
                until(Visitor(house).is_in)
                came += 1
    code, [verdict] = ledger("verify", house=house, capsys=capsys)
    assert (code, verdict["wrong"]) == (0, []), verdict["wrong"]
    written = verdict["rooms"]["launch"]["admitted"]
    lacking = [int(note.split()[0]) for note in verdict["notes"] if "are not in the ledger" in note]
    assert written + sum(lacking) == came
    assert written > came / 2
    _, opened = ledger("show", "--kind", "opened", house=house, capsys=capsys)
    assert len(opened) == 7
    assert [line["clean"] for line in opened] == [True, *[False] * 6]


def test_a_ledger_that_cannot_be_written_keeps_nobody_out(tmp_path, origin, capsys):
    """Its folder gone, and a file where it was: people go in as before, and the gap is stated when it is back."""
    with running(tmp_path, origin, STANDBY, **STORE) as house:
        assert Visitor(house).is_in()
        until(lambda: "admitted" in kinds(house))
        aside = folder(house).rename(house.folder / "var/aside")
        folder(house).write_text("not a folder")
        for _ in range(5):
            assert Visitor(house).is_in()
        until(lambda: house.logged("ledger-unwritable"))
        assert Visitor(house).is_in()
        folder(house).unlink()
        aside.rename(folder(house))
        until(lambda: house.logged("ledger-back"))
        assert Visitor(house).is_in()
    code, [verdict] = ledger("verify", house=house, capsys=capsys)
    assert (code, verdict["wrong"]) == (0, [])
    assert verdict["rooms"]["launch"]["admitted"] == 8
    assert verdict["kinds"]["gap"] == 1
    assert not house.logged("bug")


def test_what_is_changed_in_a_houses_ledger_is_found_by_the_command(tmp_path, origin, capsys):
    """Altered, taken out, cut off at the end: exit 1, and a sentence that names the line."""
    with running(tmp_path, origin, STANDBY, **STORE) as house:
        assert all(Visitor(house).is_in() for _ in range(5))
    [path] = folder(house).iterdir()
    whole = path.read_bytes().splitlines(keepends=True)
    assert ledger("verify", house=house, capsys=capsys)[0] == 0
    for found, said in (
        ([*whole[:3], whole[3].replace(b'"join"', b'"fine"'), *whole[4:]], "line 4 (seq 4) was altered"),
        ([*whole[:3], *whole[4:]], "lines 4 to 4 are missing before"),
        (whole[:5], f"the end was cut off: the anchor knows line {len(whole)}"),
    ):
        path.write_bytes(b"".join(found))
        code, [verdict] = ledger("verify", house=house, capsys=capsys)
        assert code == 1
        assert said in verdict["wrong"][0]
        assert main(["ledger", "verify", "--config", str(house.config)]) == 1
        assert said in capsys.readouterr().out
    path.write_bytes(b"".join(whole))
    code, [head] = ledger("head", house=house, capsys=capsys)
    assert main(["ledger", "head", str(path)]) == 0
    anchor = capsys.readouterr().out.strip()
    assert anchor == f"{head['seq']}:{head['digest']}" == f"{len(whole)}:{head['digest']}"
    assert any(anchor in line for line in house.log.read_text().splitlines())
    path.write_bytes(b"".join(whole[:-1]))
    assert main(["ledger", "verify", str(folder(house)), "--without-keys"]) == 0
    assert main(["ledger", "verify", str(folder(house)), "--without-keys", "--anchor", anchor]) == 1


def test_a_rotation_of_the_keys_begins_another_file_and_loses_nothing(tmp_path, origin, capsys):
    """A reload with a new key, then without the old one: the ledger is right all the time."""
    with running(tmp_path, origin, STANDBY, **STORE) as house:
        assert Visitor(house).is_in()
        assert main(["keys", "new", "--config", str(house.config)]) == 0
        house.process.send_signal(signal.SIGHUP)
        until(lambda: "reloaded" in house.log.read_text())
        assert Visitor(house).is_in()
        until(lambda: kinds(house).count("admitted") == 2)
        house.config.write_text(house.config.read_text() + "ledger: {keep: 1h}\n")
        house.process.send_signal(signal.SIGHUP)
        until(lambda: any("`ledger` changed" in line["message"] for line in house.logged("reload")))
    old = keys.load(house.folder / "var/keys", {})[0]
    code, [verdict] = ledger("verify", house=house, capsys=capsys)
    assert (code, verdict["wrong"], verdict["files"]) == (0, [], 2)
    assert main(["keys", "retire", keys.key_id(old), "--yes", "--config", str(house.config)]) == 0
    code, [verdict] = ledger("verify", house=house, capsys=capsys)
    assert (code, verdict["wrong"]) == (0, [])
    assert "is retired; what follows vouches for it" in verdict["notes"][0]


def test_no_ledger_is_written_where_none_is_wanted(tmp_path, origin, capsys):
    """Neither file nor folder, and the command says why."""
    with running(tmp_path, origin, STANDBY, **STORE, ledger=None) as house:
        assert Visitor(house).is_in()
    assert not (house.folder / "var/ledger").exists()
    assert main(["ledger", "verify", "--config", str(house.config)]) == 1
    assert "the configuration keeps no ledger" in capsys.readouterr().err


def test_a_house_does_not_start_where_its_ledger_cannot_be(tmp_path, capsys):
    """One sentence, exit 1: nobody waits yet, and the operator can mend it."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var/ledger").write_text("")
    (tmp_path / "waitroom.yaml").write_text("workers: 1\n")
    assert main(["serve", "--config", str(tmp_path / "waitroom.yaml")]) == 1
    assert "var/ledger cannot be made: File exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verify", "--anchor", "12"], "--anchor 12: is no anchor; write SEQ:DIGEST"),
        (["verify", "--anchor", "0:" + "a" * 64], "is no anchor"),
        (["verify", "--anchor", "5:abc"], "is no anchor"),
        (["show", "--since", "noon"], "--since noon: is no time with its offset"),
        (["show", "--since", "2026-12-01T12:00:00"], "is no time with its offset"),
        (["verify", "nowhere", "--without-keys"], "nowhere: cannot be read: No such file or directory"),
        (["head", "."], ".: there is no file of a ledger in it"),
        (["verify"], "config/waitroom.yaml"),
    ],
)
def test_a_wrong_word_is_answered_in_one_sentence(words, said, tmp_path, monkeypatch, capsys):
    """Exit 1, no traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAITROOM_CONFIG", raising=False)
    (tmp_path / "waitroom.yaml").write_text("workers: 1\n")
    (tmp_path / "var").mkdir()
    (tmp_path / "var/keys").write_text("k" * 32)
    if words != ["verify"]:
        words = [*words, "--config", "waitroom.yaml"]
    assert main(["ledger", *words]) == 1
    assert said in capsys.readouterr().err
