"""An event in a running house: two workers and a keeper, over real sockets and by the clock on the wall."""

from __future__ import annotations

import json
import os
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
            assert time.time() < opens_s + 5
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
