"""An event in a running house: two workers and a keeper, over real sockets and by the clock on the wall."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta

import yaml
from house import Visitor, free_port, running, until

from waitroom.cli import main


def at(seconds):
    """Return the moment so many seconds from now as a configuration states it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def test_a_line_opens_and_ends_by_itself(tmp_path, origin, capsys):
    """Gathered before, let in from the start on and no earlier, over killed processes; closed at the end."""
    event = {"name": "noon", "prequeue_start_time": at(-1), "start_time": at(7), "end_time": at(3_600)}
    admin = {"listen": f"127.0.0.1:{free_port()}", "token_file": "var/admin-token"}
    with running(tmp_path, origin, {"events": [event]}, admin=admin, workers=2, store="sqlite:///record.db") as house:

        def operate(*words):
            assert main([*words, "--config", str(house.config)]) == 0
            return capsys.readouterr().out

        first = Visitor(house)
        page = first.event()
        told = first.me()
        opens_s = told["opens_at"] / 1000
        assert page.headers["waitroom-state"] == told["state"] == "prequeue"
        assert abs(opens_s - datetime.fromisoformat(event["start_time"]).timestamp()) < 0.01
        assert "opens in 00:00:0" in page.text
        assert json.loads(first.get("/.waitroom/launch/now").text)["opens_at"] == told["opens_at"]
        assert "prequeue, opens in 0:00:0" in operate("status", "launch")
        os.kill(house.keeper_pid(), signal.SIGKILL)
        os.kill(house.worker_pids()[0], signal.SIGKILL)
        before, first = first, Visitor(house)  # the connection there was may have ended with the worker
        first.cookies = before.cookies
        refused = 0
        while not first.is_in():
            refused += 1
            assert time.time() < opens_s + 20
            time.sleep(0.05)
        assert time.time() >= opens_s
        assert refused > 1
        stated = yaml.safe_load(house.config.read_text())
        stated["rooms"][0]["events"][0]["end_time"] = at(0)
        house.config.write_text(yaml.safe_dump(stated))
        house.process.send_signal(signal.SIGHUP)
        late = Visitor(house)
        until(lambda: late.me()["state"] == "none" and "closed" in operate("status", "launch"))
        assert late.event().headers["waitroom-state"] == "closed"
        assert first.is_in(), "whoever is inside stays inside"
        assert "event noon: the line ends" in operate("status", "launch")
        assert main(["room", "launch", "open", "--config", str(house.config)]) == 1
        assert "its event has ended" in capsys.readouterr().err


def test_an_order_is_drawn_alike_for_everybody_whatever_dies(tmp_path, origin, capsys):
    """P12 in a running house: the keeper and a worker die before the start and just after; the promise made is kept."""
    event = {"name": "noon", "prequeue_start_time": at(-1), "start_time": at(6), "end_time": at(3_600)}
    events = [event | {"shuffle_at_event_start": True}]
    admin = {"listen": f"127.0.0.1:{free_port()}", "token_file": "var/admin-token"}
    with running(tmp_path, origin, {"events": events}, admin=admin, workers=2, store="sqlite:///record.db") as house:
        visitors = [Visitor(house) for _ in range(12)]
        told = [visitor.event() and visitor.me() for visitor in visitors]
        assert {(one["state"], one["ahead"], one["place"]) for one in told} == {("prequeue", None, None)}
        assert "in order by lot" in visitors[0].event().text
        [before] = visitors[0].draws()
        assert (before["state"], before["seed"]) == ("gathering", None)
        for folder in (house.folder, house.folder / "var"):
            for path in [*folder.glob("record.db*"), *folder.glob("keys*")]:
                assert not path.stat().st_mode & 0o077, f"{path} holds the seed, and others may read it"
        os.kill(house.keeper_pid(), signal.SIGKILL)
        os.kill(house.worker_pids()[0], signal.SIGKILL)
        visitors = [visitor.again() for visitor in visitors]
        until(lambda: visitors[0].draws()[0]["seed"], "the list is closed", 15)
        os.kill(house.keeper_pid(), signal.SIGKILL)
        until(lambda: all(visitor.me()["place"] for visitor in visitors), "every worker knows of the order", 15)
        [after] = visitors[0].draws()
        assert (after["commitment"], after["count"]) == (before["commitment"], 12)
        told = [visitor.me() for visitor in visitors]
        assert sorted(one["place"] for one in told) == list(range(1, 13))
        assert [one["place"] for one in told] != list(range(1, 13))
        late = Visitor(house)
        late.event()
        assert (late.me()["number"], late.me()["place"], late.me()["receipt"]) == (13, None, None)
        in_order = sorted(zip([one["place"] for one in told], visitors, strict=True), key=lambda pair: pair[0])
        until(lambda: [visitor.is_in() for _, visitor in in_order[:2]] == [True, True], "the first go in", 15)
        assert not any(visitor.is_in() for _, visitor in in_order[2:])
        assert re.search(r'id="number">\d+, drawn as 12<', in_order[-1][1].event().text)
        published = tmp_path / "noon.json"
        where = ["--config", str(house.config)]
        assert main(["draw", "publish", "launch", "--output", str(published), *where]) == 0
        for one in told:
            receipt = one["receipt"]
            capsys.readouterr()
            words = ["draw", "verify", str(published), "--commitment", before["commitment"], "--json"]
            assert main([*words, "--ticket", receipt["ticket"]]) == 0
            assert json.loads(capsys.readouterr().out)["place"] == one["place"]
        assert json.loads(published.read_text())["joins"][told[4]["receipt"]["position"] - 1][0] == told[4]["number"]


def test_a_refused_file_opens_no_line(tmp_path, origin):
    """P12: templates that no worker can start with are refused before the keeper hears of a file without the event."""
    event = {"name": "noon", "prequeue_start_time": at(-1), "start_time": at(600), "end_time": at(3_600)}
    with running(tmp_path, origin, {"events": [event | {"shuffle_at_event_start": True}]}) as house:
        visitor = Visitor(house)
        visitor.event()
        until(lambda: visitor.draws()[0]["count"] == 1)
        stated = yaml.safe_load(house.config.read_text())
        (tmp_path / "pages").mkdir()
        (tmp_path / "pages" / "waiting.html").write_text("{% broken %}")
        stated["rooms"][0] |= {"events": [], "templates": str(tmp_path / "pages")}
        house.config.write_text(yaml.safe_dump(stated))
        house.process.send_signal(signal.SIGHUP)
        until(lambda: any("reload refused" in line["message"] for line in house.logged("reload")))
        time.sleep(0.6)  # some ticks
        [drawn] = visitor.draws()
        assert (drawn["state"], drawn["seed"], visitor.me()["state"]) == ("gathering", None, "prequeue")
