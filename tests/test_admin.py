"""The admin listener: who may speak, what may be said, what is answered, and that nothing else ever goes out."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import signal
import socket
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from operators import COUNTED, TOKEN, arrive, client, let_in, listening, served, settings
from prometheus_client.parser import text_string_to_metric_families
from rooms import room

from waitroom.admin import api, server
from waitroom.admin import metrics as metrics_module
from waitroom.admin.facts import GateReason, gate_reason
from waitroom.admin.server import AdminServer
from waitroom.admin.token import load_token
from waitroom.clock import SystemClock
from waitroom.errors import StartError
from waitroom.model import RoomState
from waitroom.store.memory import MemoryStore
from waitroom.store.remote import RemoteStore
from waitroom.store.serving import StoreServer

ROOT = Path(__file__).parent.parent
PATHS = [
    ("GET", "/"),
    ("GET", "/api/rooms"),
    ("GET", "/api/rooms/launch"),
    ("GET", "/api/rooms/launch/log"),
    ("POST", "/api/rooms/launch"),
    ("POST", "/api/rooms/launch/reset"),
    ("POST", "/api/rooms/launch/clear"),
    ("GET", "/metrics"),
    ("GET", "/nowhere"),
]


@pytest.fixture
def stated(tmp_path):
    """Two rooms, and the token that everybody here knows."""
    return settings(tmp_path)


@pytest.fixture
def store(stated):
    """The rooms' record."""
    return MemoryStore(stated.rooms, SystemClock())


@pytest.fixture
async def house(stated, store):
    """Where the listener is."""
    async with served(stated, store) as (_, url):
        yield url


@pytest.fixture
async def operator(house):
    """An operator with the token."""
    async with client(house) as it:
        yield it


def wrong(answer, status, error):
    """Assert that an answer refuses in our own form, and return its sentence."""
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    return answer.json()["message"]


def metrics(text):
    """Read a page of metrics back: ``{name: {labels: value}}``, without labels the key is empty."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {}), f"{sample.name} stands twice"
            found[sample.name][labels] = sample.value
    return found


def of(room, **more):
    """Return the labels of a room's metric."""
    return tuple(sorted({"room": room, **more}.items()))


# Who may speak.


async def test_without_the_token_nothing_is_told_and_nothing_is_done(house, store):
    """No token, half a token, another scheme: 401 on every path there is, and on those that there are not."""
    for authorization in ("", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN):
        async with client(house, Authorization=authorization) as stranger:
            for method, path in PATHS:
                answer = await stranger.request(method, path, json={"closed": True})
                wrong(answer, 401, "token")
                assert answer.headers["www-authenticate"] == "Bearer"
    assert (await store.status("launch")).log == ()


async def test_a_token_that_is_no_ascii_is_a_wrong_one(house):
    """Whatever bytes come, the answer is 401."""
    async with client(house) as stranger:
        wrong(await stranger.get("/", headers={"Authorization": "Bearer schlüssel".encode()}), 401, "token")


async def test_who_is_turned_away_is_logged_with_the_address_and_without_what_was_sent(house, caplog):
    """A line for each kind of trouble; the log never holds what somebody tried."""
    async with client(house, Authorization="Bearer nearly-right") as stranger:
        await stranger.get("/api/rooms")
    (line,) = [record for record in caplog.records if getattr(record, "reason", "").startswith("admin-")]
    assert (line.reason, line.client, line.levelname) == ("admin-token", "127.0.0.1", "WARNING")
    assert "nearly-right" not in caplog.text


async def test_a_name_that_points_at_us_is_not_ours(operator):
    """A page in the operator's browser may let its own name point at loopback: what it asks for by that is refused."""
    for host in ("evil.example", "evil.example:9090", "", "127.0.0.1.evil.example", "localhost.evil", "[x]", "[", ":1"):
        wrong(await operator.get("/api/rooms", headers={"Host": host}), 421, "host")


async def test_addresses_and_localhost_are_ours(operator):
    """Nobody can let an address point elsewhere."""
    for host in ("127.0.0.1", "10.1.2.3:9090", "localhost", "LOCALHOST:1", "[::1]:9090", "[fe80::1]"):
        assert (await operator.get("/api/rooms", headers={"Host": host})).status_code == 200, host


async def test_the_name_in_the_configuration_is_ours(tmp_path, store):
    """Who lets the listener have a name reaches it by that."""
    async with served(settings(tmp_path, host="Admin.internal"), store) as (_, url), client(url) as operator:
        assert (await operator.get("/", headers={"Host": "admin.INTERNAL:9090"})).status_code == 200
        wrong(await operator.get("/", headers={"Host": "other.internal"}), 421, "host")


async def test_pages_of_others_may_not_speak(operator):
    """With the token too: a browser that has it must not be lent to somebody else's page."""
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1"):
        answer = await operator.post("/api/rooms/launch", json={"closed": True}, headers={"Origin": origin})
        wrong(answer, 403, "origin")
    own = str(operator.base_url).rstrip("/")
    assert (await operator.get("/api/rooms", headers={"Origin": own})).status_code == 200


async def test_every_answer_is_of_today_and_says_nothing_of_the_server(operator):
    """No cache keeps it, no browser guesses at it, no other site reads it, and nobody learns what runs here."""
    ways = ({}, {"Authorization": "none"}, {"Origin": "null"}, {"Host": "evil.example"})
    for (method, path), headers in itertools.product(PATHS, ways):
        answer = await operator.request(method, path, headers=headers)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control-")]


# What is stated.


async def test_every_room_is_stated(operator, store):
    """The list has what the single room has, and that is what the store states, with what binds."""
    await arrive(store, 3)
    rooms = (await operator.get("/api/rooms")).json()["rooms"]
    assert [one["room"] for one in rooms] == ["launch", "sale"]
    assert rooms[0]["issued"] == 3
    one = (await operator.get("/api/rooms/launch")).json()
    facts = dict((await store.status("launch")).facts)
    assert {name: one[name] for name in facts if name != "at_ms"} == {k: v for k, v in facts.items() if k != "at_ms"}
    assert one["gate_reason"] in list(GateReason)


async def test_the_home_page_has_no_way_out(operator):
    """It names what is here, and links nowhere."""
    page = await operator.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "/api/rooms/ROOM/reset" in page.text
    assert not any(word in page.text for word in ("href", "src=", "http:", "https:"))


async def test_what_is_not_there_is_said_in_our_own_form(operator):
    """Unknown rooms, paths and methods, and a slash too many: JSON, and the rooms that there are."""
    for method, path in (("GET", "/api/rooms/nobody"), ("POST", "/api/rooms/nobody"), ("POST", "/api/rooms/x/clear")):
        assert "launch, sale" in wrong(await operator.request(method, path), 404, "room")
    wrong(await operator.get("/api/rooms/"), 404, "path")
    wrong(await operator.get("/api/rooms/launch/../../etc/passwd"), 404, "path")
    answer = await operator.delete("/api/rooms/launch")
    wrong(answer, 405, "path")
    assert "POST" in answer.headers["allow"]


# What may be said.


CAN_BE_SAID = [
    ({"queue_all": True}, "state", "held"),
    ({"closed": True}, "state", "closed"),
    ({"final": True}, "state", "sold_out"),
    ({"stock": 0}, "state", "sold_out"),
    ({"suspended": True}, "state", "passthrough"),
    ({"queueing_method": "passthrough"}, "state", "passthrough"),
    ({"new_users_per_minute": 7}, "new_users_per_minute", 7),
    ({"total_active_users": 9}, "total_active_users", 9),
    ({"message": "Payment is slow; your place is safe."}, "message", "Payment is slow; your place is safe."),
    ({"stock": 12}, "stock", 12),
    ({"queue_all": False}, "state", "queueing"),
]


async def test_a_setting_is_said_and_taken_back(operator):
    """Each key does what it says at once, stands among what was said, and null goes back to the configuration."""
    before = (await operator.get("/api/rooms/launch")).json()
    for said, name, value in CAN_BE_SAID:
        then = (await operator.post("/api/rooms/launch", json=said)).json()
        assert then[name] == value
        assert then["said"] == said
        after = (await operator.post("/api/rooms/launch", json=dict.fromkeys(said))).json()
        assert (after[name], after["said"]) == (before[name], {})


async def test_what_is_said_to_one_room_is_said_to_no_other(operator):
    """A verb names its room."""
    await operator.post("/api/rooms/launch", json={"closed": True, "message": "over"})
    sale = (await operator.get("/api/rooms/sale")).json()
    assert (sale["state"], sale["said"]) == ("queueing", {})


async def test_clear_takes_back_everything(operator):
    """After it the room is as configured."""
    await operator.post("/api/rooms/launch", json={"closed": True, "message": "over", "total_active_users": 3})
    cleared = (await operator.post("/api/rooms/launch/clear")).json()
    assert (cleared["state"], cleared["said"], cleared["total_active_users"]) == ("queueing", {}, 20)


async def test_reset_begins_a_generation_and_may_keep_those_inside(operator, store):
    """Places end; passes too, unless they are kept, and then they count as inside until they run out."""
    await arrive(store, 3)
    await let_in(store)
    assert (await operator.get("/api/rooms/launch")).json()["inside"] == 1
    kept = (await operator.post("/api/rooms/launch/reset", json={"keep_inside": True})).json()
    assert (kept["generation"], kept["issued"], kept["waiting"], kept["inside"]) == (2, 0, 0, 1)
    again = (await operator.post("/api/rooms/launch/reset")).json()
    assert (again["generation"], again["inside"]) == (3, 0)
    did = [one["did"] for one in (await operator.get("/api/rooms/launch/log")).json()["log"]]
    assert did == ["reset, keeping those inside", "reset"]


async def test_the_log_says_who_and_when(operator, caplog):
    """The room's own log, and ours: the operator's word for themselves; what is unreadable or too long is the API."""
    caplog.set_level(logging.INFO)
    names = ["ana", "민수".encode(), "", "x" * 65, b"tab\there", b"\xff\xfe"]
    for count, name in enumerate(names, 1):
        await operator.post("/api/rooms/launch", json={"stock": count}, headers={"Waitroom-Operator": name})
    log = (await operator.get("/api/rooms/launch/log")).json()
    assert [one["who"] for one in log["log"]] == ["ana", "민수", "api", "api", "api", "\ufffd\ufffd"]
    assert log["log"][0]["did"] == "stock = 1"
    assert "ana said: stock = 1" in caplog.messages
    assert abs(log["log"][0]["at_ms"] - SystemClock().wall_s() * 1000) < 60_000


CANNOT_BE_SAID = [
    ({"colour": "red"}, "colour"),
    ({"queue_all": "yes"}, "queue_all"),
    ({"new_users_per_minute": 0}, "new_users_per_minute"),
    ({"new_users_per_minute": 1.5}, "new_users_per_minute"),
    ({"queueing_method": "lottery" * 500}, "queueing_method"),
    ({"message": "two\nlines"}, "message"),
    ({"message": {"ko": "안녕"}}, "one value"),
    ({"stock": [1]}, "one value"),
    ({"admission": "measured"}, "not built"),
    ({"reset": True}, "/api/rooms/launch/reset"),
    ({"clear": True}, "/api/rooms/launch/clear"),
    ({}, "nothing"),
]


async def test_what_cannot_be_said_is_refused_whole_and_in_a_sentence(operator):
    """The key and what would be right; a right key beside a wrong one is not done either."""
    for said, word in CANNOT_BE_SAID:
        sentence = wrong(await operator.post("/api/rooms/launch", json=said), 422, "said")
        assert word in sentence
        assert len(sentence) <= api.SENTENCE_CHARS_MAX
        if said:
            wrong(await operator.post("/api/rooms/launch", json={"closed": True, **said}), 422, "said")
        now = (await operator.get("/api/rooms/launch")).json()
        assert (now["said"], now["state"]) == ({}, "queueing")


async def test_the_verbs_take_no_keys_but_their_own(operator):
    """A misspelled ``keep_inside`` must not throw people out."""
    for path, said in (("reset", {"keep": True}), ("reset", {"keep_inside": 1}), ("clear", {"stock": 1})):
        assert next(iter(said)) in wrong(await operator.post(f"/api/rooms/launch/{path}", json=said), 422, "said")
    assert (await operator.get("/api/rooms/launch")).json()["generation"] == 1


async def test_a_body_that_is_no_object_is_refused(operator):
    """Arrays, broken text, nesting that would overflow a stack, numbers that would stop the loop: 400."""
    nested, endless = b"[" * 60_000, b'{"stock": ' + b"1" * 5_000 + b"}"
    for body in (b"[]", b"1", b"null", b"{", b"\xff", b"{'a': 1}", nested, endless):
        for path in ("", "/reset", "/clear"):
            wrong(await operator.post(f"/api/rooms/launch{path}", content=body), 400, "body")


async def test_a_body_is_bounded(operator):
    """64 KiB are enough for a line; whether the length is stated or not, no more is read."""

    async def endless():
        for _ in range(1_000):
            yield b" " * 1_024

    for content in (b" " * (api.BODY_BYTES_MAX + 1), endless()):
        wrong(await operator.post("/api/rooms/launch", content=content), 413, "body")


# What goes wrong.


async def speak(url, *pieces):
    """Send bytes as they are; return what comes back until the other end closes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


POST = (
    f"POST /api/rooms/launch HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n"
)


async def test_who_dawdles_is_not_waited_for(house, monkeypatch, operator):
    """A head or a body that does not come ends the connection; others are served meanwhile."""
    monkeypatch.setattr(server, "HEAD_WITHIN_S", 0.3)
    monkeypatch.setattr(api, "BODY_WITHIN_S", 0.3)
    nothing, half, body, _ = await asyncio.gather(
        speak(house), speak(house, b"GET / HT"), speak(house, POST.encode(), b'{"'), operator.get("/")
    )
    assert (nothing, half) == (b"", b"")
    assert body.startswith(b"HTTP/1.1 408 ")


async def test_an_endless_head_is_not_read(house):
    """The line and the headers of a request are bounded before anybody is asked for a token."""
    answer = await speak(house, b"GET / HTTP/1.1\r\nHost: x\r\n", *[b"X-Pad: %s\r\n" % (b"x" * 4_000)] * 20)
    assert not answer or b" 400 " in answer


async def test_who_leaves_in_the_middle_is_no_fault_of_ours(house, operator, caplog):
    """A body that breaks off is no line with a traceback."""
    host, port = house.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(POST.encode() + b"{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await operator.get("/")).status_code == 200
    assert not [record for record in caplog.records if record.exc_info]


async def test_without_the_record_every_call_says_so_and_the_metrics_go_on(stated):
    """The keeper is being replaced: 503 with a time to come back, and Prometheus still sees the processes."""
    away = RemoteStore(b"\0nobody-is-here", patience_s=0.1)
    async with served(stated, away) as (_, url), client(url) as operator:
        for method, path in PATHS[1:-2]:
            answer = await operator.request(
                method, path, json={} if path.endswith(("reset", "clear")) else {"stock": 1}
            )
            assert "ask again" in wrong(answer, 503, "store-away")
            assert answer.headers["retry-after"] == "1"
        seen = metrics((await operator.get("/metrics")).text)
        assert seen["waitroom_up"] == {(): 0}
        assert seen["waitroom_requests_total"] == {(): 7}
        assert "waitroom_waiting" not in seen
        assert (await operator.get("/")).status_code == 200


async def test_over_a_socket_all_is_the_same(stated, store):
    """The store that the supervisor has is a client of the keeper's: verbs, refusals and facts come through it."""
    keeping = listening(socket.AF_UNIX, "")
    keeper = StoreServer(store, keeping)
    await keeper.start()
    remote = RemoteStore(keeping.getsockname())
    try:
        async with served(stated, remote) as (_, url), client(url) as operator:
            then = await operator.post("/api/rooms/launch", json={"queue_all": True, "message": "한 줄"})
            assert then.json()["said"] == {"queue_all": True, "message": "한 줄"}
            assert "colour" in wrong(await operator.post("/api/rooms/launch", json={"colour": 1}), 422, "said")
            assert metrics((await operator.get("/metrics")).text)["waitroom_up"] == {(): 1}
    finally:
        await remote.close()
        await keeper.close()
        keeping.close()


class Broken(MemoryStore):
    """A store with a fault."""

    async def status(self, room):
        """Fail in words that are nobody's."""
        raise RuntimeError("the combination is 1234")


async def test_a_fault_of_ours_tells_nobody_anything(stated, caplog):
    """500, a sentence, and no word of what broke; that is in the log."""
    async with served(stated, Broken(stated.rooms, SystemClock())) as (_, url), client(url) as operator:
        for path in ("/api/rooms", "/metrics"):
            answer = await operator.get(path)
            wrong(answer, 500, "bug")
            assert "1234" not in answer.text + str(answer.headers)
            assert answer.headers["cache-control"] == "no-store"
    assert "1234" in caplog.text


# Being part of the supervisor.


async def test_it_takes_no_signals_and_says_little(stated, store, monkeypatch, caplog):
    """The process's signals stay the supervisor's; a request leaves no line."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with served(stated, store) as (_, url), client(url) as operator:
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        caplog.set_level(logging.INFO)
        caplog.clear()
        await operator.get("/api/rooms")
        assert not [record for record in caplog.records if record.name.startswith(("waitroom", "uvicorn"))]


async def test_a_stop_finishes_what_is_being_answered_and_takes_nothing_more(stated, store):
    """Keep-alive connections do not hold it up, and the socket is closed afterwards."""
    async with served(stated, store) as (it, url), client(url) as operator:
        await operator.get("/")
        async with asyncio.timeout(20):
            await it.stop()
        async with client(url) as late:
            with pytest.raises(httpx.ConnectError):
                await late.get("/")


async def test_a_reload_brings_other_rooms_and_another_token(stated, store):
    """Who has the new token sees the new rooms; the old one opens nothing."""
    other = "f" * 64
    async with served(stated, store) as (it, url), client(url) as operator:
        stated.admin.token_file.write_text(f"# changed\n{other}\n")
        it.configure(replace(stated, rooms=(room(name="sale"),)))
        wrong(await operator.get("/api/rooms"), 401, "token")
        rooms = await operator.get("/api/rooms", headers={"Authorization": f"Bearer {other}"})
        assert [one["room"] for one in rooms.json()["rooms"]] == ["sale"]
        wrong(await operator.get("/api/rooms/launch", headers={"Authorization": f"Bearer {other}"}), 404, "room")


async def test_a_reload_with_a_token_that_is_no_good_keeps_the_old_one(stated, store, caplog):
    """Nobody is locked out, and nobody is let in by an empty file."""
    async with served(stated, store) as (it, url), client(url) as operator:
        stated.admin.token_file.write_text("short\n")
        it.configure(stated)
        assert (await operator.get("/api/rooms")).status_code == 200
        wrong(await operator.get("/", headers={"Authorization": "Bearer short"}), 401, "token")
    assert "fewer than 32 characters; use a long random one; the old token stays" in caplog.text


# The token.


def test_the_first_start_makes_the_token_and_every_later_one_finds_it(tmp_path):
    """It is made with its folder, whole, for its owner only."""
    path = tmp_path / "var" / "admin-token"
    token = load_token(path)
    assert len(token) == 64
    assert load_token(path) == token == load_token(path, make=False)
    assert path.read_text() == f"{token}\n", "others read a token from it too, and take all of it"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["admin-token"]


def test_a_short_token_is_refused_and_none_is_made_for_who_only_asks(tmp_path, stated):
    """31 characters are too few to be safe, and a command line makes no token that no listener knows."""
    path = tmp_path / "token"
    with pytest.raises(StartError, match="there is no admin token"):
        load_token(path, make=False)
    assert not path.exists()
    path.write_text("x" * 31)
    with pytest.raises(StartError, match="fewer than 32"):
        load_token(path)
    stated.admin.token_file.write_text("x" * 31)
    with listening() as sock, pytest.raises(StartError, match="fewer than 32"):
        AdminServer(stated, sock, None, dict)


# Metrics.


async def test_the_metrics_state_the_rooms_and_the_processes(operator, store):
    """Every fact of both rooms, every counter of the processes, each once, in a form that Prometheus reads."""
    await arrive(store, 5)
    answer = await operator.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    seen = metrics(answer.text)
    assert seen["waitroom_up"] == {(): 1}
    assert [dict(labels).keys() for labels in seen["waitroom_build_info"]] == [{"version"}]
    assert seen["waitroom_issued"] == {of("launch"): 5, of("sale"): 0}
    assert seen["waitroom_joined_total"] == {of("launch"): 5, of("sale"): 0}
    for name in ("waiting", "inside", "called", "serving", "admitted_last_minute", "rests_seconds"):
        assert seen[f"waitroom_{name}"].keys() == {of("launch"), of("sale")}, name
    for name in ("called", "admitted", "overtakings", "cap_exceeded"):
        assert seen[f"waitroom_{name}_total"] == {of("launch"): 0, of("sale"): 0}, name
    assert seen["waitroom_cap_total_active_users"][of("sale")] == 20
    assert seen["waitroom_cap_new_users_per_minute"][of("sale")] == 6000
    assert "waitroom_stock" not in seen, "a stock that nobody stated"
    assert seen["waitroom_requests_total"] == {(): COUNTED["requests_total"]}
    assert seen["waitroom_refused_total"] == {(("reason", "host"),): 2}
    assert seen["waitroom_children"] == {(("role", "worker"),): 2}
    assert seen["waitroom_loop_lag_seconds"] == {(): 0.004}


async def test_a_room_has_one_state_and_one_reason(operator, store):
    """Whatever is said to it, exactly one of each is 1, and it is the right one."""
    for said, state, reason in (
        ({}, "queueing", "slack"),
        ({"queue_all": True}, "held", "operator_pause"),
        ({"closed": True}, "closed", "operator_pause"),
        ({"queueing_method": "passthrough"}, "passthrough", "slack"),
    ):
        await store.operate("launch", {"clear": True, **said}, "test")
        seen = metrics((await operator.get("/metrics")).text)
        for metric, label, choices, chosen in (
            ("waitroom_room_state", "state", RoomState, state),
            ("waitroom_gate_reason", "reason", GateReason, reason),
        ):
            stated = {choice: seen[metric][of("launch", **{label: choice})] for choice in choices}
            assert stated == {choice: float(choice == chosen) for choice in choices}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, "slack"),
        ({"inside": 15, "called": 5}, "operator_cap_active"),
        ({"inside": 15, "called": 4, "waiting": 1}, "operator_cap_new"),
        ({"admitted_last_minute": 60}, "operator_cap_new"),
        ({"admitted_last_minute": 60, "new_users_per_minute": None}, "slack"),
        ({"inside": 20, "total_active_users": None}, "slack"),
        ({"inside": 30, "state": "held"}, "operator_pause"),
        ({"state": "sold_out"}, "operator_pause"),
        ({"inside": 30, "state": "passthrough"}, "slack"),
        ({"rests_s": 3.5, "waiting": 9}, "no_telemetry"),
    ],
)
def test_what_binds(facts, reason):
    """A pause before anything else, then a lost record, full, the minute; else nothing."""
    usual = {"state": "queueing", "inside": 0, "called": 0, "waiting": 0, "rests_s": 0, "admitted_last_minute": 0}
    caps = {"total_active_users": 20, "new_users_per_minute": 60}
    assert gate_reason({**usual, **caps, **facts}) == reason


async def test_no_metric_is_left_unexplained(operator, store):
    """Each has a meaning on the page and a row in docs/OPERATIONS.md, which has no other rows."""
    await store.operate("launch", {"stock": 3}, "test")
    families = list(text_string_to_metric_families((await operator.get("/metrics")).text))
    assert all(family.documentation for family in families)
    table = (ROOT / "docs/OPERATIONS.md").read_text().partition("| `waitroom_…` |")[2].partition("\n\n")[0]
    rows = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert rows == {"up", "build_info", "room_state", "gate_reason", *metrics_module.PROCESSES} | {
        name for name, _ in metrics_module.ROOM.values()
    }
    assert {sample.name.removeprefix("waitroom_") for family in families for sample in family.samples} <= rows


async def test_json_is_json(operator):
    """No answer holds what only some parsers read."""

    def foreign(constant):
        pytest.fail(constant)

    for path in ("/api/rooms", "/api/rooms/launch/log"):
        json.loads((await operator.get(path)).text, parse_constant=foreign)


async def test_how_well_the_told_waits_held_is_stated(stated, store):
    """The share of all workers together; nothing before any wait was judged."""
    counted = {'estimates_judged_total{room="launch"}': 40, 'estimates_held_total{room="launch"}': 34}
    async with served(stated, store, counted) as (_, url), client(url) as operator:
        rooms = {room["room"]: room for room in (await operator.get("/api/rooms")).json()["rooms"]}
        assert (rooms["launch"]["estimate_score"], rooms["sale"]["estimate_score"]) == (0.85, None)
        assert (await operator.get("/api/rooms/launch")).json()["estimate_score"] == 0.85
        said = await operator.post("/api/rooms/launch", json={"queue_all": True})
        assert said.json()["estimate_score"] == 0.85
        assert metrics((await operator.get("/metrics")).text)["waitroom_estimates_held_total"] == {of("launch"): 34}
