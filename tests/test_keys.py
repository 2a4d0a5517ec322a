"""The signing keys: made once, kept for good, readable by one, refused when not safe, and changed without harm.

The commands are run as an operator runs them, and nothing they say may ever hold a key.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from waitroom import keys
from waitroom.cli import main
from waitroom.core.assertion import assertion_key
from waitroom.core.tokens import Keyring, key_id
from waitroom.errors import InvalidToken, KeyRefused, StartError
from waitroom.model import Pass, Ticket

GOOD = "0123456789abcdef" * 2
NOW_S = 1_764_586_800.0
HOUR_S = 3600.0


def test_the_first_start_makes_a_key_and_every_later_one_finds_it(tmp_path):
    """A restart throws nobody out of line: the file is made with its folder, whole, for its owner only."""
    path = tmp_path / "var" / "keys"
    made = keys.load(path, {})
    assert len(made[0]) >= 64
    assert keys.load(path, {}) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["keys"], "something was left beside the file"


def test_who_makes_the_key_second_takes_the_first_ones(tmp_path, monkeypatch):
    """Two that start at once agree: a file that appeared meanwhile is not replaced."""
    path = tmp_path / "keys"
    link = os.link

    def quicker(beside, to):
        path.write_text(f"{GOOD}\n")
        link(beside, to)

    monkeypatch.setattr(os, "link", quicker)
    assert keys.load(path, {}) == (GOOD,)
    assert [file.name for file in tmp_path.iterdir()] == ["keys"]


def test_the_environment_comes_first(tmp_path):
    """Keys of the environment are taken, newest last, and no file is made."""
    stated = {keys.ENVIRONMENT: f" {GOOD}a, {GOOD}b ,"}
    assert keys.load(tmp_path / "keys", stated) == (f"{GOOD}a", f"{GOOD}b")
    assert not list(tmp_path.iterdir())


def test_remarks_and_empty_lines_are_no_keys(tmp_path):
    """The file is a person's to read."""
    path = tmp_path / "keys"
    path.write_text(f"# newest last\n\n{GOOD}a\n  {GOOD}b  \n")
    assert keys.load(path, {}) == (f"{GOOD}a", f"{GOOD}b")


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", f"{GOOD}\nshort\n", "schlüssel" * 9])
def test_what_is_no_safe_key_is_refused(tmp_path, text):
    """An empty file, a short key, another encoding: said with the file's name, and nothing is signed."""
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(StartError, match=str(path)):
        keys.load(path, {})


def test_a_short_key_of_the_environment_is_refused_without_being_told(tmp_path):
    """The message names the variable, never the key."""
    with pytest.raises(StartError, match=keys.ENVIRONMENT) as refused:
        keys.load(tmp_path / "keys", {keys.ENVIRONMENT: "hunter2"})
    assert "hunter2" not in str(refused.value)


def test_a_place_where_no_file_can_stand_is_said(tmp_path, monkeypatch):
    """A file where the folder should be, a folder where the file should be, no links: words, and no key left about."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "keys", tmp_path / "folder"):
        with pytest.raises(StartError, match=path.name):
            keys.load(path, {})

    def refuses(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuses)
    with pytest.raises(StartError, match="no links here"):
        keys.load(tmp_path / "folder" / "keys", {})
    assert not list((tmp_path / "folder").iterdir()), "a key that nobody uses was left behind"


# --- adding one -----------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    """A file with one key, made as the first start makes it."""
    path = tmp_path / "var" / "keys"
    keys.load(path, {})
    return path


def only_the_file(path):
    """Tell that nothing is left beside the file, and that it is its owner's alone."""
    return list(path.parent.iterdir()) == [path] and path.stat().st_mode & 0o777 == 0o600


def test_a_new_key_comes_last_and_the_others_stay(path):
    """It is put after those that are there, with a remark that says when; the file is whole and for its owner only."""
    (old,) = keys.load(path, {})
    before = path.read_text()
    made = keys.new(path, {}, NOW_S)
    assert keys.load(path, {}) == (old, made.secret)
    assert path.read_text() == f"{before}# {key_id(made.secret)}, made 2025-12-01T11:00:00Z\n{made.secret}\n"
    assert only_the_file(path)


def test_a_rotation_loses_no_place(path):
    """Tickets and passes of the old key are read as before, new ones name the new key, until the old one is retired."""
    ticket = Ticket("launch", 1, 7, "0123456789abcdef", 1)
    entry_pass = Pass("launch", 1, 8, "0123456789abcdef", 1, 2)
    before = Keyring(keys.load(path, {}))
    old = before.sign_ticket(ticket), before.sign_pass(entry_pass)
    made = keys.new(path, {}, NOW_S)
    after = Keyring(keys.load(path, {}))
    assert [after.read(text) for text in old] == [ticket, entry_pass]
    assert made.id in after.sign_ticket(ticket)
    assert made.id in after.sign_pass(entry_pass)
    keys.retire(path, {}, keys.listed(path, {})[0].id, now_s=NOW_S, keep_s=0, sure=True)
    last = Keyring(keys.load(path, {}))
    assert last.read(after.sign_ticket(ticket)) == ticket
    with pytest.raises(InvalidToken, match="unknown-key"):
        last.read(old[0])


def test_the_first_key_may_be_made_by_hand(tmp_path):
    """Before the first start ``new`` makes the file, and the first start finds it."""
    path = tmp_path / "var" / "keys"
    made = keys.new(path, {}, NOW_S)
    assert keys.load(path, {}) == (made.secret,)
    assert keys.listed(path, {})[0].made_s == NOW_S
    assert only_the_file(path)


def test_a_file_that_a_person_wrote_stays_as_it_was(path):
    """Remarks, order and a missing line's end at the end: nothing is touched but what is added."""
    path.write_text(f"# ours\n\n{GOOD}a # no remark\n{GOOD}b")
    made = keys.new(path, {}, NOW_S)
    assert path.read_text().startswith(f"# ours\n\n{GOOD}a # no remark\n{GOOD}b\n# ")
    assert keys.load(path, {}) == (f"{GOOD}a # no remark", f"{GOOD}b", made.secret)


def test_a_link_stays_a_link(path, tmp_path):
    """Where the file is a link, the file that it names gets the key."""
    link = tmp_path / "link"
    link.symlink_to(path)
    made = keys.new(link, {}, NOW_S)
    assert link.is_symlink()
    assert keys.load(path, {})[-1] == made.secret


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_file_stays_its_owners(path):
    """An administrator who adds a key does not lock out the user whom the proxy runs as."""
    os.chown(path, 65534, -1)
    keys.new(path, {}, NOW_S)
    assert path.stat().st_uid == 65534
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_change_happens_whole_or_not_at_all(path, monkeypatch):
    """When the disk or the folder refuses, the file is as it was and nothing lies beside it; the words name it."""
    before = path.read_text()

    def refuses(*_):
        raise OSError("the disk is full")

    for where, name in ((os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as broken:
            broken.setattr(where, name, refuses)
            with pytest.raises(StartError, match=f"{path}.*the disk is full"):
                keys.new(path, {}, NOW_S)
        assert path.read_text() == before
        assert only_the_file(path)


def test_the_file_is_never_seen_half_written(path, monkeypatch):
    """It is safely on disk, under another name, before it takes the place of the old one."""
    steps = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("fsync"), fsync(file)))
    monkeypatch.setattr(Path, "replace", lambda beside, to: (steps.append("replace"), replace(beside, to)))
    keys.new(path, {}, NOW_S)
    assert steps == ["fsync", "replace", "fsync"]


def test_those_who_change_it_at_once_take_turns(path):
    """Ten keys added at the same moment are ten keys in the file."""
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: keys.new(path, {}, NOW_S).secret, range(10)))
    assert set(keys.load(path, {})[1:]) == set(made)
    assert len(made) == len(keys.load(path, {})) - 1


def test_keys_that_are_not_safe_are_not_added_to(path):
    """A file that would not be started with is not made to look cared for."""
    path.write_text("short\n")
    with pytest.raises(StartError, match="fewer than"):
        keys.new(path, {}, NOW_S)
    with pytest.raises(StartError, match="fewer than"):
        keys.retire(path, {}, key_id("short"), now_s=NOW_S, keep_s=0, sure=True)
    assert path.read_text() == "short\n"


def test_keys_of_the_environment_are_changed_there(tmp_path):
    """Nothing is written that would count for nothing; the words say what to do instead, and show no key."""
    path, environ = tmp_path / "keys", {keys.ENVIRONMENT: f"{GOOD}a,{GOOD}b"}
    with pytest.raises(KeyRefused, match=f"{keys.ENVIRONMENT}, on every host, and restart") as refused:
        keys.new(path, environ, NOW_S)
    with pytest.raises(KeyRefused, match=f"take it out of {keys.ENVIRONMENT}") as refused_too:
        keys.retire(path, environ, key_id(f"{GOOD}a"), now_s=NOW_S, keep_s=0, sure=True)
    assert GOOD not in f"{refused.value}{refused_too.value}"
    assert not list(tmp_path.iterdir())


def test_no_folder_to_keep_them_in_is_said(tmp_path):
    """A file where the folder should be: words with its name."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="file/keys"):
        keys.new(tmp_path / "file" / "keys", {}, NOW_S)


# --- listing --------------------------------------------------------------------------------------------------------


def test_a_list_says_when_each_was_made_and_replaced(path):
    """From the remarks; what nobody noted is unknown, but no later than the next key that was noted."""
    path.write_text(f"{GOOD}a\n{GOOD}b\n")
    third, fourth = (keys.new(path, {}, NOW_S + hours * HOUR_S) for hours in (0, 1))
    a, b, c, d = keys.listed(path, {})
    assert [key.made_s for key in (a, b, c, d)] == [None, None, NOW_S, NOW_S + HOUR_S]
    assert [key.replaced_s for key in (a, b, c, d)] == [NOW_S, NOW_S, NOW_S + HOUR_S, None]
    assert (c.id, d.secret) == (third.id, fourth.secret)
    assert GOOD not in repr(a)


@pytest.mark.parametrize("remark", ["# {}, made 2025-13-01T00:00:00Z", "# {} made yesterday", "#{}, made x"])
def test_a_remark_that_says_nothing_is_only_a_remark(path, remark):
    """A date that no calendar has, or other words: the time is unknown, and the file is as good as before."""
    path.write_text(f"{remark.format(key_id(GOOD))}\n{GOOD}\n")
    assert [key.made_s for key in keys.listed(path, {})] == [None]


def test_a_list_makes_nothing(tmp_path):
    """Who only looks does not make a key, and so not under the wrong user."""
    assert keys.listed(tmp_path / "var" / "keys", {}) == ()
    assert not list(tmp_path.iterdir())


# --- retiring one ---------------------------------------------------------------------------------------------------


def retire(path, which, *, after_s=0.0, sure=False):
    """Retire a key some time after ``NOW_S``, in a room that keeps tickets for two hours."""
    return keys.retire(path, {}, which, now_s=NOW_S + after_s, keep_s=2 * HOUR_S, sure=sure)


def refused(path, which, **more):
    """Return why a key is not retired; the file is as it was."""
    before = path.read_text()
    with pytest.raises(KeyRefused) as caught:
        retire(path, which, **more)
    assert path.read_text() == before
    return str(caught.value)


def test_a_key_is_retired_when_nobody_carries_what_it_signed(path):
    """Two hours after it was replaced it goes, with its remark, and nothing else does."""
    old, new = keys.listed(path, {})[0], keys.new(path, {}, NOW_S)
    assert retire(path, old.id, after_s=2 * HOUR_S) == keys.Key(old.secret, old.id, old.made_s, NOW_S)
    assert keys.load(path, {}) == (new.secret,)
    assert old.id not in path.read_text()
    assert new.id in path.read_text()
    assert only_the_file(path)


def test_it_is_kept_while_somebody_may(path):
    """Until then it is refused, with how long still and what would be lost; who insists is obeyed."""
    old = keys.listed(path, {})[0]
    keys.new(path, {}, NOW_S)
    words = refused(path, old.id, after_s=600)
    assert "signed until 2025-12-01T11:00:00Z" in words
    assert "for another 1h 50m" in words
    assert "would lose their place; with --yes they do" in words
    assert "for another 1s;" in refused(path, old.id, after_s=2 * HOUR_S - 0.2)
    assert "for another 2m 5s;" in refused(path, old.id, after_s=2 * HOUR_S - 125)
    assert retire(path, old.id, after_s=600, sure=True).id == old.id
    assert len(keys.load(path, {})) == 1


def test_an_unknown_time_is_no_long_time(path):
    """Where nobody noted when a key was replaced, it may have been just now."""
    path.write_text(f"{GOOD}a\n{GOOD}b\n")
    assert "nobody noted when" in refused(path, key_id(f"{GOOD}a"), after_s=1e9)
    retire(path, key_id(f"{GOOD}a"), sure=True)
    assert keys.load(path, {}) == (f"{GOOD}b",)


def test_the_key_that_signs_is_not_retired(path):
    """Neither the only one nor the newest goes, however sure one is."""
    only = keys.listed(path, {})[0].id
    assert "it is the only one" in refused(path, only, sure=True)
    newest = keys.new(path, {}, NOW_S).id
    assert "it is the newest, which signs" in refused(path, newest, sure=True)


def test_an_id_that_is_none_is_said_with_those_that_are(path):
    """A slip of the finger is met with the ids there are; without a file there are none."""
    assert keys.listed(path, {})[0].id in refused(path, "00000000")
    path.unlink()
    with pytest.raises(KeyRefused, match="there is none"):
        retire(path, "00000000")


# --- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Return a function that runs ``waitroom keys`` on a configuration, and gives exit code, stdout and stderr."""
    monkeypatch.delenv(keys.ENVIRONMENT, raising=False)
    config = tmp_path / "waitroom.yaml"
    rooms = "[{name: a, match: [{path: /a/}], ticket_keep: 30m, session_duration: 3h}]"
    config.write_text(f"secret_keys_file: keys\nrooms: {rooms}\n")

    def command(*arguments):
        code = main(["keys", *arguments, "--config", str(config)])
        out, err = capsys.readouterr()
        file = tmp_path / "keys"
        secrets = keys.load(file, {}) if file.exists() else ()
        assert not [secret for secret in secrets if secret in out + err], "a key was shown"
        return code, out, err

    return command


def test_from_the_first_key_to_the_retirement_of_it(run, tmp_path):
    """The commands in the order in which an operator needs them, each saying what comes next."""
    assert run("list")[:2] == (
        0,
        f"{tmp_path}/keys does not exist yet; the first start makes it, and so does `waitroom keys new`\n",
    )
    assert json.loads(run("list", "--json")[1]) == {"source": f"{tmp_path}/keys", "keys": []}
    code, out, _ = run("new")
    first = out[:8]
    assert (code, "SIGHUP" in out) == (0, True)
    second = run("new")[1][:8]
    listed = json.loads(run("list", "--json")[1])["keys"]
    assert [(key["id"], key["signs"]) for key in listed] == [(first, False), (second, True)]
    assert listed[0]["replaced_at"] == listed[1]["made_at"]
    assert listed[1]["replaced_at"] is None
    lines = run("list")[1].splitlines()
    assert f"{first}  made {listed[0]['made_at']}  verifies; replaced {listed[1]['made_at']}" in lines[1]
    assert f"{second}  made {listed[1]['made_at']}  signs" in lines[2]
    code, out, err = run("retire", first)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "carried for up to 3h, so for another 3h;" in err, "the session outlasts the ticket in this room"
    code, out, _ = run("retire", first, "--yes")
    assert (code, "SIGHUP" in out) == (0, True)
    assert [key["id"] for key in json.loads(run("list", "--json")[1])["keys"]] == [second]


def test_a_list_of_unknown_times(run, tmp_path):
    """What nobody noted is said to be unknown, and is null to a program."""
    (tmp_path / "keys").write_text(f"{GOOD}a\n{GOOD}b\n")
    assert run("list")[1].count("at an unknown time") == 3
    assert [key["made_at"] for key in json.loads(run("list", "--json")[1])["keys"]] == [None, None]


def test_the_shops_key_stands_alone_on_the_last_line(run, tmp_path):
    """One line a key and nothing else on stdout, the newest last; before the first start it is made, as that would."""
    code, out, err = run("assertion")
    (first,) = keys.load(tmp_path / "keys", {})
    assert (code, out, err) == (0, f"{assertion_key(first)}\n", "")
    run("new")
    assert run("assertion")[1].split() == [assertion_key(key) for key in keys.load(tmp_path / "keys", {})]


def test_the_commands_know_of_the_environment(run, tmp_path, monkeypatch):
    """Keys of the environment are listed and derived from, and changed there."""
    monkeypatch.setenv(keys.ENVIRONMENT, f"{GOOD}a,{GOOD}b")
    assert json.loads(run("list", "--json")[1])["source"] == keys.ENVIRONMENT
    assert run("list")[1].startswith(f"{keys.ENVIRONMENT}\n  {key_id(f'{GOOD}a')}")
    assert run("assertion")[1].split()[-1] == assertion_key(f"{GOOD}b")
    for command in (("new",), ("retire", key_id(f"{GOOD}a"), "--yes")):
        code, out, err = run(*command)
        assert (code, out, keys.ENVIRONMENT in err, GOOD in err) == (1, "", True, False)
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("arguments", [[], ["retire", "--config", "x"], ["new"], ["fetch", "--config", "x"]])
def test_a_command_that_is_not_whole_is_usage(arguments, capsys):
    """Exit code 2 and a line on how to say it."""
    with pytest.raises(SystemExit) as ended:
        main(["keys", *arguments])
    assert ended.value.code == 2
    assert "usage: waitroom keys" in capsys.readouterr().err


def test_a_configuration_with_mistakes_is_a_mistake(tmp_path, capsys):
    """They are said as ``waitroom check`` says them."""
    (tmp_path / "waitroom.yaml").write_text("secret_key_file: keys\n")
    assert main(["keys", "list", "--config", str(tmp_path / "waitroom.yaml")]) == 1
    assert "secret_keys_file" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["new"], ["list"], ["retire"], ["assertion"]])
def test_every_command_explains_itself(command, capsys):
    """``--help`` says what happens to those who wait, or what the thing is for."""
    with pytest.raises(SystemExit):
        main(["keys", *command, "--help"])
    out = " ".join(capsys.readouterr().out.split())
    words = {
        "": "four steps",
        "new": "SIGHUP",
        "list": "which one signs",
        "retire": "still carries",
        "assertion": "ORIGIN",
    }
    assert words[" ".join(command)] in out
