"""What stands in deploy/ for Prometheus and Grafana, judged by Prometheus' own engine and by our own page of metrics.

Each alarm is given a story in which it must sound and one, as near as can be, in which it must not. A query of the
dashboard is read by the same engine, and may name only metrics, labels and values that the house states.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from waitroom.admin import metrics
from waitroom.admin.facts import GateReason
from waitroom.model import RoomState

ROOT = Path(__file__).parent.parent
RULES = ROOT / "deploy/prometheus/waitroom.rules.yaml"
DASHBOARD = ROOT / "deploy/grafana/waitroom.json"

ALARMS = {rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}

# For each alarm two stories of minutes: the series, the minute that is looked at, and whether it sounds.
STORIES = [
    ("WaitroomGone", {'up{job="waitroom"}': "0x5"}, 2, True),
    ("WaitroomGone", {'up{job="other"}': "1x5"}, 2, True),
    ("WaitroomGone", {'up{job="waitroom"}': "0 1 0 1"}, 3, False),
    ("WaitroomRecordAway", {"waitroom_up": "1 0x5"}, 3, True),
    ("WaitroomRecordAway", {"waitroom_up": "1 0 1 1"}, 3, False),
    ("WaitroomPromiseBroken", {'waitroom_overtakings_total{room="a"}': "0 1"}, 1, True),
    ("WaitroomPromiseBroken", {'waitroom_cap_exceeded_total{room="a"}': "0 2"}, 1, True),
    ("WaitroomPromiseBroken", {'waitroom_overtakings_total{room="a"}': "0 0"}, 1, False),
    ("WaitroomNothingMoves", {"waiting": "9x9", "called": "7x9", "pause": "0x9", "rests": "0x9"}, 8, True),
    ("WaitroomNothingMoves", {"waiting": "9x9", "called": "0+1x9", "pause": "0x9", "rests": "0x9"}, 8, False),
    ("WaitroomNothingMoves", {"waiting": "9x9", "called": "7x9", "pause": "0x6 1x2", "rests": "0x9"}, 8, False),
    ("WaitroomNothingMoves", {"waiting": "9x9", "called": "7x9", "pause": "0x9", "rests": "60-20x9"}, 6, False),
    ("WaitroomNothingMoves", {"waiting": "9x5 0 9x3", "called": "7x9", "pause": "0x9", "rests": "0x9"}, 8, False),
    ("WaitroomNobodyComes", {"called": "0+9x9", "admitted": "3x9"}, 8, True),
    ("WaitroomNobodyComes", {"called": "0+9x9", "admitted": "3x7 4"}, 8, False),
    ("WaitroomNobodyComes", {"called": "0+1x9", "admitted": "3x9"}, 8, False),
    ("WaitroomOriginRefuses", {"noted origin-refused": "_x5 9x2"}, 7, True),
    ("WaitroomOriginRefuses", {"noted origin-refused": "100+3x9"}, 8, True),
    ("WaitroomOriginRefuses", {"noted origin-refused": "900x9"}, 8, False),
    ("WaitroomOriginRefuses", {"noted origin-sold-out": "0+9x9"}, 8, False),
    ("WaitroomOriginRefuses", {"noted bypass": "0+9x9"}, 8, False),
    ("WaitroomProcessesDie", {"deaths worker": "0 1 2 3 4"}, 4, True),
    ("WaitroomProcessesDie", {"deaths worker": "0 1 1 1 2"}, 4, False),
    ("WaitroomRecordLost", {"rests": "0 30"}, 1, True),
    ("WaitroomRecordLost", {"rests": "0 0"}, 1, False),
    ("WaitroomForgottenHold", {"waiting": "9x30", "held": "1x30"}, 20, True),
    ("WaitroomForgottenHold", {"waiting": "9x30", "held": "1x10 0x20"}, 20, False),
    ("WaitroomForgottenHold", {"waiting": "0x30", "held": "1x30"}, 20, False),
    ("WaitroomLoopLag", {"waitroom_loop_lag_seconds": "0.4x9"}, 8, True),
    ("WaitroomLoopLag", {"waitroom_loop_lag_seconds": "0.4 0.01x9"}, 8, False),
    ("WaitroomLedgerNotWritten", {"waitroom_ledger_waiting": "0 5x9"}, 8, True),
    ("WaitroomLedgerNotWritten", {"waitroom_ledger_waiting": "5 5 5 5 0 5 5 5 5"}, 8, False),
    ("WaitroomLedgerNotWritten", {"waitroom_ledger_lost_total": "0 7 7"}, 2, True),
    ("WaitroomLedgerNotWritten", {"waitroom_ledger_lost_total": "7x9"}, 8, False),
    ("WaitroomReloadRefused", {"reloads refused": "0 1 1"}, 2, True),
    ("WaitroomReloadRefused", {"reloads done": "0 1 1"}, 2, False),
]

SERIES = {
    "waiting": 'waitroom_waiting{room="a"}',
    "called": 'waitroom_called_total{room="a"}',
    "admitted": 'waitroom_admitted_total{room="a"}',
    "rests": 'waitroom_rests_seconds{room="a"}',
    "pause": 'waitroom_gate_reason{room="a",reason="operator_pause"}',
    "held": 'waitroom_room_state{room="a",state="held"}',
    "noted": 'waitroom_noted_total{room="a",reason="%s"}',
    "deaths": 'waitroom_child_deaths_total{role="%s"}',
    "reloads": 'waitroom_reloads_total{outcome="%s"}',
}


@pytest.fixture(scope="module")
def promtool():
    """Return what runs Prometheus' engine. Where there is none the tests are skipped by name, and in CI they fail."""
    ours = Path(sys.executable).parent
    if (found := shutil.which("promtool") or shutil.which("promtool", path=ours)) is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("promtool is not installed")

    def run(*arguments):
        done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def series(word):
    """Return the name of a series by its short word in the stories."""
    name, _, label = word.partition(" ")
    return SERIES[name] % label if label else SERIES.get(word, word)


def test_every_alarm_sounds_when_it_should_and_only_then(promtool, tmp_path):
    """Each story is played to Prometheus; exactly those alarms sound that are said to."""
    tests = []
    for alarm, story, minute, sounds in STORIES:
        rule = ALARMS[alarm]
        case = {
            "interval": "1m",
            "input_series": [{"series": series(word), "values": values} for word, values in story.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alarm}",alertstate="firing"}}) or vector(0)',
                    "eval_time": f"{minute}m",
                    "exp_samples": [{"labels": "{}", "value": int(sounds)}],
                }
            ],
        }
        assert rule["labels"]["severity"] in ("page", "look")
        tests.append(case)
    stories = tmp_path / "stories.yaml"
    stories.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    code, said = promtool("test", "rules", stories)
    assert code == 0, said


def test_no_alarm_is_without_its_two_stories():
    """Each is seen to sound and to be silent, and tells a reader what happened and what to do."""
    told = {(alarm, sounds) for alarm, _, _, sounds in STORIES}
    assert told == {(alarm, sounds) for alarm in ALARMS for sounds in (True, False)}
    for rule in ALARMS.values():
        assert rule["annotations"].keys() == {"summary", "description"}


def test_operations_names_every_alarm():
    """The table of docs/OPERATIONS.md has a row for each, and no other."""
    table = (ROOT / "docs/OPERATIONS.md").read_text().partition("Wake somebody for")[2]
    assert set(re.findall(r"^\| `(Waitroom\w+)` \|", table, re.MULTILINE)) == ALARMS.keys()


def queries():
    """Return the queries of the alarms and of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    shown = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(shown) > len(panels) / 2
    return [rule["expr"] for rule in ALARMS.values()] + shown


def test_what_is_asked_for_is_what_the_house_states():
    """No query names a metric that does not exist, a state or a reason that is none, or another label."""
    ours = {f"waitroom_{name}" for name, _ in metrics.ROOM.values()}
    ours |= {f"waitroom_{name}" for name in (*metrics.PROCESSES, "up", "build_info", "room_state", "gate_reason")}
    for query in queries():
        named = set(re.findall(r"\bwaitroom_\w+", query))
        assert named <= ours, query
        assert named or "up{" in query, query
        for name, selector in re.findall(r"\b(waitroom_\w+)\{([^}]*)\}", query):
            for label, value in re.findall(r'(\w+)[=!]~?"([^"]*)"', selector):
                allowed = {
                    "waitroom_room_state": ("state", *RoomState),
                    "waitroom_gate_reason": ("reason", *GateReason),
                }
                assert label in ("room", "reason", "state", "outcome", "role")
                if label == allowed.get(name, ("",))[0]:
                    assert value in allowed[name][1:], query


def test_the_dashboard_is_one_that_grafana_and_prometheus_read(promtool, tmp_path):
    """Each panel has a title, a place of its own and a unit; each query is one that the engine can read."""
    board = json.loads(DASHBOARD.read_text())
    assert {"title", "uid", "schemaVersion", "templating", "time", "panels"} <= board.keys()
    assert board["id"] is None, "an id is what a Grafana gives, not what a file has"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken = set()
    for panel in board["panels"]:
        assert panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"].get("unit"), panel["title"]
            assert panel["datasource"]["uid"] == "${source}", panel["title"]
    asked = [query.replace("$room", "a").replace("$__rate_interval", "5m") for query in queries()]
    rules = tmp_path / "asked.yaml"
    recorded = [{"record": f"asked:{index}", "expr": query} for index, query in enumerate(asked)]
    rules.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": recorded}]}))
    code, said = promtool("check", "rules", rules)
    assert code == 0, said
