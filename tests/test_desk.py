"""What stands behind the dashboard: the hour that is remembered, the one look for all, and the words."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from operators import TOKEN, arrive, client, served, settings

from waitroom.admin import api, events, pages
from waitroom.admin.events import Events, Look
from waitroom.admin.facts import GateReason, scored, view
from waitroom.admin.history import STEP_S, STEPS, History
from waitroom.admin.pages import detail, overview
from waitroom.admin.verbs import VERBS
from waitroom.admin.words import REASONS, STATES, Level, consequences, duration, shown, trouble
from waitroom.clock import SystemClock
from waitroom.errors import StoreAway
from waitroom.model import RoomState
from waitroom.ports import Status
from waitroom.store.memory import MemoryStore

TEMPLATES = Path(__file__).parent.parent / "templates" / "dashboard"


@pytest.fixture
def stated(tmp_path):
    """Two rooms, and the token that everybody here knows."""
    return settings(tmp_path)


@pytest.fixture
def store(stated):
    """The rooms' record."""
    return MemoryStore(stated.rooms, SystemClock())


def facts(**more):
    """Return the facts of a room in which nothing happened yet."""
    return {"joined_total": 0, "admitted_total": 0, "waiting": 0, "inside": 0, **more}


def history():
    """Return a history, and the hand of its clock in steps."""
    now = [0.0]
    return History(lambda: now[0] * STEP_S), now


# The hour.


def test_a_step_holds_what_happened_in_it():
    """The difference of two totals belongs to the step in which it was seen; what waits is as it was at the end."""
    it, now = history()
    for step, joined, waiting in ((0, 100, 3), (0.6, 110, 5), (1, 112, 7), (1.9, 115, 4), (2, 115, 4)):
        now[0] = step
        it.note([("launch", facts(joined_total=joined, waiting=waiting))])
    of = it.of("launch")
    assert (of["joined"][-2:], of["waiting"][-2:], len(of["joined"])) == ([10, 5], [5, 4], STEPS - 1)
    assert set(of["joined"][:-2]) == {None}


def test_a_step_that_nobody_saw_does_not_hold_what_was_an_hour_before():
    """The rings go round: a gap in them is a gap, also in the second hour."""
    it, now = history()
    for step in (*range(STEPS + 10), STEPS + 20):
        now[0] = step
        it.note([("launch", facts(joined_total=3 * step, waiting=7))])
    now[0] += 1
    of = it.of("launch")
    assert of["waiting"][-12:] == [7] + [None] * 10 + [7]
    assert of["joined"][-12:] == [3] + [None] * 11


def test_what_nobody_saw_is_unknown_and_no_burst():
    """While the record is away nothing is known, and what happened meanwhile is counted into no step afterwards."""
    it, now = history()
    for step, joined in ((0, 0), (0.5, 10), (4, 500), (4.5, 503), (5, 503)):
        now[0] = step
        it.note([("launch", facts(joined_total=joined))])
    assert it.of("launch")["joined"][-5:] == [10, None, None, None, 3]


def test_a_record_that_was_lost_makes_no_step_negative():
    """A total that fell is another record's."""
    it, now = history()
    for step, joined in ((0, 900), (0.5, 2), (0.9, 5), (1, 1), (2, 1)):
        now[0] = step
        it.note([("launch", facts(joined_total=joined))])
    assert it.of("launch")["joined"][-2:] == [3, 0]


def test_the_hour_is_bounded_and_forgets_what_is_older_and_rooms_that_are_gone():
    """Whatever happens, a room costs four rings; after a long silence nothing of before it is shown."""
    it, now = history()
    for step in range(3 * STEPS):
        now[0] = step
        it.note([("launch", facts(joined_total=step, waiting=1))])
    assert it.of("launch")["joined"] == [1] * (STEPS - 1)
    assert [len(ring) for ring in it._trails["launch"].rings.values()] == [STEPS] * 4
    assert {minute["joined"] for minute in it.minutes("launch")} == {12}
    now[0] += STEPS + 5
    assert set(it.of("launch")["waiting"]) == {None}
    it.note([("sale", facts())])
    assert list(it._trails) == ["sale"]
    assert {minute["joined"] for minute in it.minutes("nobody")} == {None}


async def test_the_last_hour_is_stated(stated, store):
    """As JSON, with the length of a step; null where nothing is known."""
    async with served(stated, store) as (_, url), client(url) as operator:
        hour = (await operator.get("/api/rooms/launch/history")).json()
        assert (hour["room"], hour["step_s"], len(hour["inside"])) == ("launch", STEP_S, STEPS - 1)
        assert (await operator.get("/api/rooms/nobody/history")).status_code == 404


# One look for all.


class Counted(MemoryStore):
    """A store that counts how often it is asked for a room."""

    asked = 0

    async def status(self, room):
        """Count, and answer."""
        self.asked += 1
        return await super().status(room)


async def take(it, count, told=0):
    """Return the first events that a listener is told."""
    found = []
    async for event in it.tell(lambda: True, told):
        found.append(event)
        if len(found) == count:
            break
    return found


async def test_sixteen_listeners_cost_the_store_what_one_does(stated, monkeypatch):
    """They are told the same look; the store is asked once for it."""
    monkeypatch.setattr(events, "EVERY_S", 0.05)
    store = Counted(stated.rooms, SystemClock())

    async def statuses():
        return [await store.status("launch")]

    it = Events(statuses, History())
    for _ in range(events.LISTENERS_MAX):
        assert it.take_seat()
    it.start()
    await asyncio.gather(*(take(it, 10) for _ in range(events.LISTENERS_MAX)))
    await it.end()
    assert store.asked < 20


async def test_nobody_is_told_a_look_from_before_he_came(stated, store):
    """What was said before a listener came is in the first thing he is told."""
    entered, go_on = asyncio.Event(), asyncio.Semaphore(0)

    async def statuses():
        found = [await store.status("launch")]
        entered.set()
        await go_on.acquire()
        return found

    it = Events(statuses, History())
    it.start()
    await entered.wait()
    await store.operate("launch", {"queue_all": True}, "Ada")
    await asyncio.sleep(0.01)
    listening = asyncio.create_task(take(it, 1))
    await asyncio.sleep(0)
    go_on.release()  # the look that had begun
    await asyncio.sleep(0.01)
    go_on.release()
    assert "queue_all" in (await asyncio.wait_for(listening, 20))[0]
    await it.end()


async def test_a_seat_is_taken_with_the_connection_and_given_back_with_it(stated, store, monkeypatch):
    """Seventeen who come at once are sixteen who listen; when they have left, as many may come."""
    monkeypatch.setattr(api, "LISTENERS_MAX", 2)
    monkeypatch.setattr(events, "LISTENERS_MAX", 2)
    async with served(stated, store) as (it, url), client(url) as operator:

        async def listen():
            async with operator.stream("GET", "/api/events") as answer:
                await asyncio.sleep(0.3)
                return answer.status_code

        for _ in range(2):
            assert sorted(await asyncio.gather(*(listen() for _ in range(5)))) == [200, 200, 503, 503, 503]
            async with asyncio.timeout(20):
                while it._events._listeners:  # noqa: ASYNC110 - no event says it
                    await asyncio.sleep(0.01)


async def test_without_the_record_a_listener_is_told_so_and_a_fault_ends_nothing(store, caplog):
    """``away`` instead of the rooms, and the rooms again when it answers; a fault of ours is logged."""
    answers = [StoreAway("gone"), RuntimeError("1234")]

    async def statuses():
        if answers:
            raise answers.pop(0)
        return [await store.status("launch")]

    it = Events(statuses, History())
    it.start()
    assert it.take_seat()
    told = [event.partition("\n")[0] for event in await take(it, 3)]
    assert told[0] == "event: away"
    assert told[-1] == "event: rooms"
    assert "1234" in caplog.text
    assert "gone" not in caplog.text, "a record that is away is no fault"
    await it.end()


def test_lines_of_one_millisecond_are_all_told_and_one_that_others_may_come_before_waits():
    """The numbers tell them apart; a line as young as the look at another room is told with the next look."""

    def status(room, at_ms, *numbers):
        log = [{"at_ms": number // 10, "seq": number, "who": "", "did": ""} for number in numbers]
        return Status(room, {"at_ms": at_ms}, log)

    first = Look(1, [status("a", 101), status("b", 103, 1001, 1002, 1021)])
    assert ([line["seq"] for line in first.lines], first.upto) == ([1001, 1002], 1002)
    then = Look(2, [status("a", 105, 1011), status("b", 105, 1001, 1002, 1021)], first.upto)
    assert [line["seq"] for line in then.lines] == [1001, 1002, 1011, 1021]
    assert Look(3, None, then.upto).upto == 1021, "who comes back after it is told nothing twice"


async def test_numbers_of_lines_grow_over_all_rooms_and_go_on_with_time(store):
    """In one millisecond too; and never below it, so that a lost record does not begin before what was told."""
    for count in range(50):
        await store.operate(("launch", "sale")[count % 2], {"stock": count + 1}, "Ada")
    lines = [*(await store.status("launch")).log, *(await store.status("sale")).log]
    numbers = sorted(line["seq"] for line in lines)
    assert len(set(numbers)) == 50
    assert all(line["seq"] >= line["at_ms"] for line in lines)
    by_number = sorted(lines, key=lambda line: line["seq"])
    assert [line["did"] for line in by_number] == [f"stock = {count + 1}" for count in range(50)]


# The words.


async def known(store):
    """Return a room as the API states it, led and with people in it."""
    return {**view(scored(await store.status("launch"), {})), "leader": "0", "inside": 63, "waiting": 1200, "called": 4}


async def test_every_verb_says_what_it_does_to_how_many(store):
    """None is without a sentence, and each has the count of those it touches."""
    said = consequences(await known(store))
    assert said.keys() == VERBS.keys()
    for name, sentence in said.items():
        assert ("63" if name == "active" else "1,204 people wait") in sentence, name
        assert sentence[0].isupper() or sentence[0].isdigit()
    alone = consequences({**await known(store), "waiting": 1, "called": 0, "inside": 1})
    assert alone["reset"].startswith("1 person waits: they lose their place. 1 person is inside and loses the pass")
    assert consequences({**await known(store), "waiting": 0, "called": 0})["hold"].startswith("Nobody waits")


async def test_what_needs_an_operator(store):
    """A broken promise, a lost record and a line that nobody leads before anything else; then a line that stands."""
    calm = {**await known(store), "admitted_last_minute": 3}
    for more, level in (
        ({}, Level.CALM),
        ({"overtakings_total": 1}, Level.ALARM),
        ({"cap_exceeded_total": 1}, Level.ALARM),
        ({"rests_s": 2.5}, Level.ALARM),
        ({"leader": None}, Level.ALARM),
        ({"leader": None, "waiting": 0}, Level.CALM),
        ({"state": "held"}, Level.WATCH),
        ({"state": "held", "waiting": 0}, Level.CALM),
        ({"state": "passthrough"}, Level.WATCH),
        ({"admitted_last_minute": 0, "called": 0}, Level.WATCH),
    ):
        assert trouble({**calm, **more})[0] is level, more


def test_every_state_and_reason_has_words():
    """Whatever a room is in, the page says it."""
    assert STATES.keys() == set(RoomState)
    assert REASONS.keys() == set(GateReason)


def test_a_time_to_come_is_said_in_its_own_units():
    """Seconds, minutes with seconds, hours with minutes."""
    assert [duration(time_s) for time_s in (0, 59, 61, 3700)] == ["1 s", "59 s", "1 min 01 s", "1 h 01 min"]


async def test_estimates_are_said_once_they_are_judged_and_never_as_better_than_they_are(store):
    """Less than all is not 100 %."""
    room = await known(store)
    scores = (None, 0, 0.5, 0.9999, 1.0)
    texts = [shown({**room, "estimate_score": score})["estimate"] for score in scores]
    assert texts == ["not measured yet", "0% held", "50% held", "99% held", "100% held"]


async def test_every_place_of_the_page_has_its_text_and_every_text_its_place(store):
    """What the script fills in is what the server says, by the same names."""
    texts = shown(await known(store))
    markup = "".join((TEMPLATES / name).read_text() for name in ("rooms.html", "room.html"))
    places = set(re.findall(r'data-shown="(\w+)"', markup)) | set(re.findall(r'figure\("[^"]*", "(\w+)"\)', markup))
    assert places == texts.keys()
    look = Look(1, [scored(await store.status(name), {}) for name in ("launch", "sale")])
    json.dumps([overview(look), detail(look, "launch")])
    assert detail(look, "gone")[1]["rooms"] == {}


def test_the_dashboard_says_what_the_command_line_says():
    """One table: every verb of the command line has its button."""
    assert sorted(name for _, group in pages.BUTTONS for name, _ in group) == sorted(VERBS)


# The pages.


async def test_a_page_runs_and_loads_only_our_own_two_files(stated, store):
    """The policy names nothing else, no markup is made by script, and the files keep their names' promise."""
    async with served(stated, store) as (_, url), client(url) as browser:
        del browser.headers["Authorization"]
        form = await browser.get("/rooms/launch", headers={"Accept": "text/html"})
        assert (form.status_code, "launch" in form.text) == (401, False)
        assert "script-src" not in form.headers["content-security-policy"]
        await browser.post("/login", data={"token": TOKEN, "who": "<b>"})
        await arrive(store, 3)
        for path in ("/", "/rooms/launch"):
            page = await browser.get(path)
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "require-trusted-types-for 'script'" in policy
            assert "<b>&lt;" not in page.text
            assert "&lt;b&gt;" in page.text
            assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|https?:", page.text)
            files = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text)
            assert len(files) == 2
        for file in files:
            answer = await browser.get(file)
            assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True)
        assert (await browser.get("/assets/dashboard-0.js")).status_code == 404
        assert (await browser.get("/rooms/nobody")).status_code == 404
        assert (await browser.get("/api/events?page=nobody")).status_code == 404


class Coming(MemoryStore):
    """A store that can go away."""

    away = False

    async def status(self, room):
        """Answer, unless it is away."""
        if self.away:
            raise StoreAway("gone")
        return await super().status(room)


async def test_without_the_record_the_page_shows_what_was_last_seen_and_says_so(stated):
    """503, and still the figures: at noon an old number is better than none, if it is called old."""
    store = Coming(stated.rooms, SystemClock())
    async with served(stated, store) as (it, url), client(url) as browser:
        del browser.headers["Authorization"]
        await browser.post("/login", data={"token": TOKEN})
        await arrive(store, 1204)
        it._events.look_now()
        await asyncio.sleep(0.1)
        store.away = True
        for path in ("/", "/rooms/launch"):
            page = await browser.get(path)
            assert (page.status_code, page.headers["retry-after"]) == (503, "1")
            assert "The record does not answer" in page.text
            assert "1,204" in page.text
