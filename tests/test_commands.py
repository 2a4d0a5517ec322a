"""``waitroom status`` and ``waitroom room``: what an operator types, reads, and is asked."""

from __future__ import annotations

import getpass
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from house import free_port
from operators import House, arrive, let_in

from waitroom.cli import main
from waitroom.commands import operating


@pytest.fixture
def house(tmp_path):
    """A listener with two rooms."""
    with House(tmp_path) as it:
        yield it


@pytest.fixture
def run(house, capsys):
    """Run a command against it; give its exit code, what it printed, and what it complained of."""

    def run(*words, where=None):
        where = ("--admin", house.url, "--token-file", str(house.settings.admin.token_file)) if where is None else where
        code = main([*words, *where])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def said(house):
    """Return what has been said to a room."""
    return lambda name="launch": house.do(house.store.status(name)).facts["said"]


def config(tmp_path, **changes):
    """Write a configuration file; return its path."""
    path = tmp_path / "waitroom.yaml"
    path.write_text(yaml.safe_dump({"listen": "127.0.0.1:1", "store": "memory:", **changes}))
    return path


# What is typed, and what becomes of it.


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["hold"], {"queue_all": True}),
        (["close"], {"closed": True}),
        (["passthrough", "--yes"], {"queueing_method": "passthrough"}),
        (["suspend", "--yes"], {"suspended": True}),
        (["sold-out"], {"final": True}),
        (["rate", "120"], {"new_users_per_minute": 120}),
        (["active", "7"], {"total_active_users": 7}),
        (["message", "Payment is slow; 자리는 안전합니다."], {"message": "Payment is slow; 자리는 안전합니다."}),
    ],
)
def test_a_verb_says_its_setting_and_clear_takes_it_back(run, said, words, what):
    """Each verb does one thing to the room it names, tells how the room is then, and is undone by ``clear``."""
    code, out, err = run("room", "launch", *words)
    assert (code, err, said(), said("sale")) == (0, "", what, {})
    assert out.splitlines()[1].startswith("launch")
    assert run("room", "launch", "clear")[0] == 0
    assert said() == {}


def test_a_stock_is_said_in_the_shops_place_and_taken_back(house, run, said):
    """Sold out for now, by an operator's word; ``clear`` does not speak for the shop, ``auto`` takes the word back."""
    assert run("room", "launch", "stock", "0")[0] == 0
    assert json.loads(run("status", "launch", "--json")[1])["state"] == "sold_out"
    run("room", "launch", "clear")
    assert said() == {"stock": 0}
    run("room", "launch", "stock", "auto")
    assert said() == {}
    code, _, err = run("room", "launch", "stock", "-1")
    assert (code, "stock" in err) != (0, True)


def test_open_takes_back_whatever_shut_the_room(house, run, said):
    """Held, closed, sold out for good, suspended, passthrough: after it the line goes on, and other words stay."""
    shut = {"queue_all": True, "closed": True, "final": True, "suspended": True, "queueing_method": "passthrough"}
    house.do(house.store.operate("launch", {**shut, "message": "soon"}, "test"))
    _, out, _ = run("room", "launch", "open", "--json")
    assert json.loads(out)["state"] == "queueing"
    assert said() == {"queue_all": False, "suspended": False, "message": "soon"}


def test_a_verb_that_does_not_show_is_said_not_to(house, run, said):
    """Holding a room that lets everyone through holds nobody: who typed it must not believe that it does."""
    for verb in ("hold", "close"):
        for way in ({"suspended": True}, {"queueing_method": "passthrough"}):
            house.do(house.store.operate("launch", {"clear": True, **way}, "test"))
            code, out, err = run("room", "launch", verb)
            assert (code, out.splitlines()[1].split()[1]) == (1, "passthrough")
            assert "still lets everyone in" in err
    assert said()["closed"], "what was said holds as soon as it can"
    house.do(house.store.operate("launch", {"clear": True, "stock": 0}, "test"))
    assert "a stock of 0" in run("room", "launch", "open")[2]


def test_auto_and_an_empty_text_go_back_to_the_configuration(run, said):
    """What was set is taken back, and nothing else is."""
    for words in (["rate", "5"], ["active", "5"], ["message", "hello"], ["hold"]):
        run("room", "launch", *words)
    for words in (["rate", "auto"], ["active", "auto"], ["message", ""]):
        run("room", "launch", *words)
    assert said() == {"queue_all": True}


def test_the_log_names_the_operator(house, run):
    """It is the user of the system who typed it; ``status`` of the room shows the last words."""
    run("room", "launch", "hold")
    (line,) = house.do(house.store.status("launch")).log
    assert (line["who"], line["did"]) == (getpass.getuser(), "queue_all = True")
    _, out, _ = run("status", "launch")
    assert out.splitlines()[-1].endswith(f"{getpass.getuser()}: queue_all = True")


def test_a_user_without_a_name_is_a_number(house, run, monkeypatch):
    """In a container there may be no name for who runs it."""
    monkeypatch.setattr(getpass, "getuser", lambda: {}["nobody"])
    run("room", "launch", "hold")
    assert house.do(house.store.status("launch")).log[0]["who"] == f"user {os.getuid()}"


# What cannot be taken back.


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self):
        """Be one."""
        return True


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (["reset"], "launch: 2 in line lose their place, and 1 inside their pass"),
        (["reset", "--keep-inside"], "launch: 2 in line lose their place; 1 inside stay until their pass runs out"),
        (["passthrough"], "launch: 2 in line, and everyone who comes, go in at once, past both caps"),
    ],
)
def test_what_cannot_be_taken_back_says_whom_it_touches_and_asks(house, run, monkeypatch, words, warning):
    """Without a terminal nothing is done; with one, only a yes does it; ``--yes`` does it at once."""
    house.do(arrive(house.store, 3))
    house.do(let_in(house.store))
    before = house.do(house.store.status("launch"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, out, err = run("room", "launch", *words)
    assert (code, out) == (1, "")
    assert err == f"waitroom: {warning}; nothing was done, because there is no terminal to ask on: say --yes\n"
    for answer in ("n\n", "\n", "", "yes please\n"):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        code, _, err = run("room", "launch", *words)
        assert (code, err) == (1, f"{warning}. Go on? [y/N] waitroom: nothing was done\n")
    assert house.do(house.store.status("launch")).log == before.log == ()
    monkeypatch.setattr(sys, "stdin", Terminal("Y\n"))
    assert run("room", "launch", *words)[0] == 0
    assert run("room", "launch", *words, "--yes")[::2] == (0, "")
    assert len(house.do(house.store.status("launch")).log) == 2


def test_keep_inside_keeps_those_inside(house, run):
    """They count until their pass runs out; without it they are gone."""
    house.do(arrive(house.store, 3))
    house.do(let_in(house.store))
    assert json.loads(run("room", "launch", "reset", "--keep-inside", "--yes", "--json")[1])["inside"] == 1
    assert json.loads(run("room", "launch", "reset", "--yes", "--json")[1])["inside"] == 0


# What is shown.


def test_the_table_says_it_at_a_glance(house, run):
    """State, who waits, who is inside of how many, the last minute, what binds, and what was said."""
    house.do(arrive(house.store, 1_204))
    house.do(let_in(house.store))
    run("room", "launch", "active", "1")
    code, out, _ = run("status")
    headings, launch, sale = out.splitlines()
    assert code == 0
    assert headings.split("  ")[0] == "ROOM"
    row = "launch queueing 1,203 1/1 0 1/6,000 operator_cap_active total_active_users=1"
    assert launch.split() == row.split()
    assert sale.split()[:3] == ["sale", "queueing", "0"]


def test_json_is_what_the_api_says(house, run):
    """For scripts: all rooms, or one."""
    assert [one["room"] for one in json.loads(run("status", "--json")[1])["rooms"]] == ["launch", "sale"]
    assert json.loads(run("status", "sale", "--json")[1])["room"] == "sale"


@pytest.mark.parametrize("words", [["status", "--watch"], ["status", "launch", "--watch", "--json"]])
def test_watch_goes_on_until_it_is_stopped(house, words):
    """Lines for a file, twice a second; Ctrl-C is its end and no mistake."""
    command = [sys.executable, "-m", "waitroom.cli", *words, "--admin", house.url]
    command += ["--token-file", str(house.settings.admin.token_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        began = time.monotonic()
        lines = [watching.stdout.readline() for _ in range(6)]
        took_s = time.monotonic() - began
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=10)
    assert (watching.returncode, err) == (0, "")
    assert took_s > operating.WATCH_S
    if "--json" in words:
        assert {json.loads(line)["room"] for line in lines} == {"launch"}
    else:
        assert [line.split()[0] for line in lines[:5]] == ["ROOM", "launch", "sale", "launch", "sale"]


@pytest.mark.parametrize("words", [["status", "--watch"], ["status", "--watch", "--json"]])
def test_watch_outlives_a_restart_in_lines(house, run, monkeypatch, words):
    """A house that is away for a moment is said to be, as an object where objects are asked for, and comes back."""
    rounds, left = iter(range(3)), iter([False, True, False, False])

    def pause(_):
        if next(rounds, None) is None:
            raise KeyboardInterrupt

    def rooms(client):
        if next(left):
            raise operating.CommandError("nothing answers")
        return asked(client)

    from waitroom.commands.client import AdminClient  # noqa: PLC0415 - as the command does

    asked = AdminClient.rooms
    monkeypatch.setattr(AdminClient, "rooms", rooms)
    monkeypatch.setattr(time, "sleep", pause)
    code, out, _ = run(*words)
    assert code == 0
    lines = out.splitlines()
    if "--json" in words:
        assert [list(json.loads(line)) for line in lines] == [["rooms"], ["error"], ["rooms"], ["rooms"]]
    else:
        assert [line.split()[0] for line in lines] == ["ROOM", "launch", "sale", "nothing", *["launch", "sale"] * 2]


def test_what_was_said_is_shown_so_that_its_end_is_seen(run):
    """Text stands in quotes."""
    run("room", "launch", "message", 'say "hi"')
    assert 'message="say \\"hi\\""' in run("status")[1]


# Where the house is.


def test_the_configuration_says_where_the_house_is(house, run, tmp_path, monkeypatch):
    """``--config`` before the verb or after it, or the environment, or the usual place."""
    port = int(house.url.rpartition(":")[2])
    path = config(tmp_path, admin={"listen": f"0.0.0.0:{port}", "token_file": "admin-token"})
    for words in (["--config", str(path), "launch", "hold"], ["launch", "hold", "--config", str(path)]):
        assert run("room", *words, where=())[0] == 0
    monkeypatch.setenv("WAITROOM_CONFIG", str(path))
    assert run("status", where=())[0] == 0
    monkeypatch.delenv("WAITROOM_CONFIG")
    (tmp_path / "config").mkdir()
    path.rename(tmp_path / "config" / "waitroom.yaml")
    (tmp_path / "admin-token").rename(tmp_path / "config" / "admin-token")
    monkeypatch.chdir(tmp_path)
    assert run("status", where=())[0] == 0


def test_half_of_where_may_come_from_the_configuration(house, run, tmp_path):
    """``--admin`` alone takes the token from the file, ``--token-file`` alone the address."""
    path = str(config(tmp_path, admin={"listen": "127.0.0.1:0", "token_file": "admin-token"}))
    assert run("status", where=("--config", path, "--admin", house.url))[0] == 0
    port = int(house.url.rpartition(":")[2])
    path = str(config(tmp_path, admin={"listen": f"127.0.0.1:{port}", "token_file": "other"}))
    token = str(house.settings.admin.token_file)
    assert run("status", where=("--config", path, "--token-file", token))[0] == 0


def mistake(outcome):
    """Assert that a command ended as a mistake, in one line, and return it."""
    code, out, err = outcome
    assert (code, out, err.count("\n"), "Traceback" in err) == (1, "", 1, False), outcome
    return err


def test_mistakes_are_one_sentence(house, run, tmp_path):
    """Nobody there, another token, another server, no such room, nothing to find it by: what is wrong, and no trace."""
    token = str(house.settings.admin.token_file)
    nobody = f"http://127.0.0.1:{free_port()}"
    assert "is `waitroom serve` running?" in mistake(run("status", where=("--admin", nobody, "--token-file", token)))
    other = tmp_path / "other"
    other.write_text("x" * 40)
    said = mistake(run("status", where=("--admin", house.url, "--token-file", str(other))))
    assert "is not the token" in said
    assert "xxx" not in said
    assert "there are: launch, sale" in mistake(run("status", "nobody"))
    assert "there are: launch, sale" in mistake(run("room", "some body?", "hold"))
    assert "write 1 to" in mistake(run("room", "launch", "rate", "0"))
    assert "one line" in mistake(run("room", "launch", "message", "two\nlines"))
    for url in ("127.0.0.1:9090", "http://", "ftp://127.0.0.1", "nonsense"):
        assert "http://127.0.0.1:9090" in mistake(run("status", where=("--admin", url, "--token-file", token))), url
    no_file = str(tmp_path / "none")
    assert "there is no admin token" in mistake(run("status", where=("--admin", house.url, "--token-file", no_file)))
    assert "say it: --admin URL" in mistake(
        run("status", where=("--config", str(config(tmp_path, admin={"listen": "127.0.0.1:0"}))))
    )
    assert "does not exist" in mistake(run("status", where=("--config", no_file)))
    broken = config(tmp_path, listen="nonsense", workers=0)
    assert "--admin URL" in mistake(run("status", where=("--config", str(broken))))


def test_a_stranger_on_the_port_is_said_to_be_one(run, tmp_path):
    """Something that answers, and is not ours, is not taken for a house without rooms."""
    code = (
        "import http.server, sys\n"
        "class H(http.server.SimpleHTTPRequestHandler):\n"
        "    log_message = lambda *_: None\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), H)\n"
        "print(server.server_port, flush=True)\n"
        "server.serve_forever()\n"
    )
    token = tmp_path / "token"
    token.write_text("x" * 40)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as stranger:
        try:
            url = f"http://127.0.0.1:{stranger.stdout.readline().strip()}"
            assert "no admin listener" in mistake(run("status", where=("--admin", url, "--token-file", str(token))))
            assert "no admin listener" in mistake(
                run("room", "launch", "hold", where=("--admin", url, "--token-file", str(token)))
            )
        finally:
            stranger.terminate()


@pytest.mark.parametrize("words", [["room", "launch"], ["room", "launch", "explode"], ["room", "launch", "rate", "x"]])
def test_usage_is_usage(words, capsys):
    """What is no command ends with 2."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: waitroom room" in capsys.readouterr().err


def test_every_command_explains_itself(capsys):
    """``--help`` says what a verb does to whom, not only what it is called."""
    for words in (["status"], ["room"], *(["room", "launch", verb] for verb in operating.VERBS)):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert "--json" in text
        assert len(text) > 400, words


def test_serving_does_not_load_the_commands_client():
    """What a proxy has no use for is not in its memory."""
    code = "import sys, waitroom.cli; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
