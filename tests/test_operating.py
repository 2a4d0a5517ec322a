"""An operator at a running house: two workers, a keeper and a record on disk, spoken to by the commands alone."""

from __future__ import annotations

import json
import os
import signal
import time

import httpx
import pytest
import yaml
from house import Visitor, free_port, running, until
from prometheus_client.parser import text_string_to_metric_families

from waitroom.cli import main


@pytest.fixture
def house(tmp_path, origin):
    """A room for one, where everyone else waits."""
    admin = {"listen": f"127.0.0.1:{free_port()}", "token_file": "var/admin-token"}
    room = {"always_queue": True, "total_active_users": 1}
    with running(tmp_path, origin, room, admin=admin, workers=2, store="sqlite:///record.db") as it:
        yield it


@pytest.fixture
def operate(house, capsys):
    """Type a command; give the room, or all of them, as it says they are then."""

    def operate(*words):
        assert main([*words, "--json", "--config", str(house.config)]) == 0
        return json.loads(capsys.readouterr().out)

    return operate


def metrics(house):
    """Return the page of metrics, by names and labels."""
    stated = yaml.safe_load(house.config.read_text())["admin"]
    token = (house.folder / stated["token_file"]).read_text().strip()
    page = httpx.get(
        f"http://{stated['listen']}/metrics", headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=10
    )
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }


def test_what_an_operator_says_reaches_everyone_and_outlives_everything(house, operate, capsys):
    """Held, nobody goes in, whichever worker is asked; also after the keeper's death, a reload and a restart."""
    inside, waiting = Visitor(house), Visitor(house)
    until(inside.is_in)
    assert waiting.event().text != "shop"
    operate("room", "launch", "message", "Back at noon.")
    assert operate("room", "launch", "hold")["state"] == "held"
    until(lambda: waiting.me()["message"] == "Back at noon.")
    os.kill(house.keeper_pid(), signal.SIGKILL)
    until(lambda: main(["status", "--config", str(house.config)]) == 0)
    capsys.readouterr()
    house.process.send_signal(signal.SIGHUP)
    until(lambda: metrics(house).get(("waitroom_reloads_total", "done")) == 1)
    assert house.stop() == 0
    house.start()
    said = operate("status", "launch")
    assert (said["state"], said["said"]) == ("held", {"queue_all": True, "message": "Back at noon."})
    assert (said["issued"], said["inside"]) == (2, 1)
    assert inside.is_in(), "whoever is inside stays inside"
    inside.post("/.waitroom/launch/leave")
    assert operate("status", "launch")["inside"] == 0
    time.sleep(1)  # for four ticks nobody is called although a slot is free
    assert operate("status", "launch")["called"] == 0
    assert not waiting.is_in()
    operate("room", "launch", "open")
    until(waiting.is_in)


def test_the_metrics_are_of_all_processes_and_never_fall(house):
    """Requests of both workers, those that died too; who serves, who died, and that nothing is wrong."""

    def asked():
        return metrics(house)["waitroom_requests_total",]

    before = metrics(house)
    with Visitor(house, Cookie="waitroom_launch=forged") as forger:
        forger.event()
    for _ in range(20):
        with Visitor(house) as visitor:
            visitor.event()
    until(lambda: asked() >= before["waitroom_requests_total",] + 21)
    seen = metrics(house)
    assert seen["waitroom_joined_total", "launch"] == 21
    assert seen["waitroom_up",] == 1
    assert (seen["waitroom_children", "worker"], seen["waitroom_children", "keeper"]) == (2, 1)
    assert 0 <= seen["waitroom_loop_lag_seconds",] < 10
    assert seen["waitroom_overtakings_total", "launch"] == seen["waitroom_cap_exceeded_total", "launch"] == 0
    assert seen["waitroom_noted_total", "launch", "token-unknown-kind"] == 1
    count = asked()
    os.kill(house.worker_pids()[0], signal.SIGKILL)
    until(lambda: metrics(house).get(("waitroom_child_deaths_total", "worker")) == 1)
    until(lambda: metrics(house)["waitroom_children", "worker"] == 2)
    assert asked() >= count


def test_a_reload_brings_rooms_and_refuses_another_listener(house, operate):
    """A new room is there for operators; a changed ``admin.listen`` needs a restart, and says so."""
    stated = yaml.safe_load(house.config.read_text())
    stated["rooms"].append({**stated["rooms"][0], "name": "sale", "match": [{"path": "/sale/"}]})
    house.config.write_text(yaml.safe_dump(stated))
    house.process.send_signal(signal.SIGHUP)
    until(lambda: [one["room"] for one in operate("status")["rooms"]] == ["launch", "sale"])
    assert operate("room", "sale", "close")["state"] == "closed"
    listen = stated["admin"]["listen"]
    moved = {**stated, "admin": {**stated["admin"], "listen": f"127.0.0.1:{free_port()}"}}
    house.config.write_text(yaml.safe_dump(moved))
    house.process.send_signal(signal.SIGHUP)
    until(lambda: [line for line in house.logged("reload") if "`admin.listen` changed" in line["message"]])
    house.config.write_text(yaml.safe_dump(stated))
    assert operate("status", "sale", "--admin", f"http://{listen}")["state"] == "closed"


def test_a_token_that_is_no_good_is_said_at_the_start(house, tmp_path):
    """One sentence and exit code 1: an operator's mistake is theirs to mend before anything runs."""
    assert house.stop() == 0
    (tmp_path / "var" / "admin-token").write_text("short\n")
    code = main(["serve", "--config", str(house.config)])
    assert code == 1
