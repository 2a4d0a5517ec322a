"""The operators' dashboard: who logs in, what a session may do, and that no other page can use it."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from operators import TOKEN, served, settings

from waitroom.admin import api, events
from waitroom.admin.sessions import COOKIE, LASTS_S, SECURE_COOKIE, SESSIONS_MAX, Sessions
from waitroom.clock import SystemClock
from waitroom.store.memory import MemoryStore

HTML = {"Accept": "text/html"}


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
    """The server, and where it is."""
    async with served(stated, store) as it:
        yield it


@pytest.fixture
async def browser(house):
    """Somebody without the token in a header, as a browser is."""
    async with httpx.AsyncClient(base_url=house[1], trust_env=False, timeout=10) as it:
        yield it


@pytest.fixture
def quick(monkeypatch):
    """Wrong tokens wait for a moment only."""
    monkeypatch.setattr(api, "GUESS_S", 0.05)


async def log_in(browser, token=TOKEN, who="Ada", **headers):
    """Send the form."""
    return await browser.post("/login", data={"token": token, "who": who}, headers=headers)


async def ours(browser):
    """Return the headers that the session's own page sends with what it says."""
    session = (await browser.get("/api/session")).json()
    return {"Origin": str(browser.base_url).rstrip("/"), "Waitroom-Csrf": session["csrf"]}


async def test_a_browser_is_shown_the_form_and_nothing_of_the_rooms(browser):
    """Without a session the page is a form, which no other page may frame."""
    answer = await browser.get("/", headers=HTML)
    assert answer.status_code == 401
    assert 'name="token"' in answer.text
    assert "launch" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert answer.headers["referrer-policy"] == "same-origin"


async def test_the_right_token_opens_a_session_that_scripts_and_other_sites_do_not_get(browser):
    """The cookie is random, HttpOnly, SameSite=Strict, and ends after twelve hours; it is not the token."""
    answer = await log_in(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", f"Max-Age={12 * 3600}", "Path=/"):
        assert part in cookie, cookie
    assert TOKEN not in cookie
    assert (await browser.get("/api/rooms")).status_code == 200


async def test_over_https_the_cookie_is_of_this_host_alone_and_never_sent_in_clear(browser):
    """Where the browser says that it speaks https, the cookie is Secure and bears __Host-."""
    origin = str(browser.base_url).rstrip("/").replace("http:", "https:")
    cookie = (await log_in(browser, Origin=origin)).headers["set-cookie"]
    assert cookie.startswith(f"{SECURE_COOKIE}=")
    assert "Secure" in cookie


async def test_a_wrong_token_opens_nothing_and_is_not_repeated(browser, quick, caplog):
    """The form comes again; neither it nor the log holds what was sent."""
    answer = await log_in(browser, token="nearly<right>")
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert "nearly" not in answer.text + caplog.text
    assert [line.client for line in caplog.records if getattr(line, "reason", "") == "admin-login"] == ["127.0.0.1"]


async def test_a_flood_of_guesses_is_slowed_and_does_not_lock_the_operator_out(browser, monkeypatch):
    """While as many guesses wait as may, the next is refused at once, and the right token still opens."""
    monkeypatch.setattr(api, "GUESS_S", 3.0)
    many = api.GUESSES_MAX
    guesses = [asyncio.create_task(log_in(browser, token="wrong")) for _ in range(many + 4)]
    waiting = set(guesses)
    while len(waiting) > many:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result().status_code for task in done} == {429}
    assert (await log_in(browser)).status_code == 303
    assert not any(task.done() for task in waiting), "the right token waits behind the guesses"
    assert {(await task).status_code for task in waiting} == {401}


async def test_a_form_of_too_many_fields_is_refused(browser):
    """No login has so many."""
    answer = await browser.post("/login", content="&".join(f"a{i}=1" for i in range(50)))
    assert (answer.status_code, answer.json()["error"]) == (400, "body")


@pytest.mark.parametrize("missing", ["Origin", "Waitroom-Csrf"])
async def test_nothing_is_said_by_the_cookie_alone(browser, store, missing):
    """The browser sends the cookie by itself; so the page's origin and the session's secret are asked for too."""
    await log_in(browser)
    headers = await ours(browser)
    del headers[missing]
    for path in ("/api/rooms/launch", "/api/rooms/launch/reset", "/api/rooms/launch/clear", "/logout"):
        answer = await browser.post(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (403, "csrf")
    assert (await store.status("launch")).log == ()


async def test_a_page_of_another_site_can_neither_log_in_nor_speak(browser):
    """Its Origin gives it away, also where it shares our address and only the port differs."""
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null"):
        assert (await log_in(browser, Origin=origin)).status_code == 403
    await log_in(browser)
    headers = await ours(browser) | {"Origin": "http://127.0.0.1:1"}
    assert (await browser.post("/api/rooms/launch", json={"closed": True}, headers=headers)).status_code == 403


async def test_a_name_that_points_here_gets_no_form(browser):
    """A rebound name is refused before anything else, also at the login."""
    assert (await browser.get("/", headers={**HTML, "Host": "evil.example"})).status_code == 421
    assert (await log_in(browser, Host="evil.example")).status_code == 421


async def test_what_a_session_says_is_logged_under_the_name_given_at_the_login(browser, store):
    """The log says who; a name that no log can hold is none."""
    for who, logged in (("Ada", "Ada"), ("a\nb", "dashboard"), ("", "dashboard"), ("x" * 65, "dashboard")):
        await log_in(browser, who=who)
        answer = await browser.post("/api/rooms/launch", json={"queue_all": True}, headers=await ours(browser))
        assert answer.status_code == 200
        assert (await store.status("launch")).log[-1]["who"] == logged


async def test_a_logout_ends_the_session_and_not_only_the_cookie(browser):
    """Who kept the cookie has nothing."""
    await log_in(browser)
    kept = browser.cookies[COOKIE]
    assert (await browser.post("/logout", headers=await ours(browser))).status_code == 200
    assert (await browser.get("/api/rooms", headers={"Cookie": f"{COOKIE}={kept}"})).status_code == 401


async def test_another_token_ends_the_sessions_that_the_old_one_opened(browser, house, stated):
    """Who changes the token has thrown everybody out."""
    await log_in(browser)
    stated.admin.token_file.write_text("fedcba9876543210" * 2 + "\n")
    house[0].configure(stated)
    assert (await browser.get("/api/rooms")).status_code == 401


async def test_the_token_itself_has_no_session(browser):
    """A program brings the token with every request."""
    answer = await browser.get("/api/session", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.json()["error"]) == (404, "session")


def test_a_session_ends_after_twelve_hours():
    """Whoever has the cookie."""
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    cookie = f"{COOKIE}={sessions.open('token', 'Ada').name}"
    now[0] = LASTS_S - 1
    assert sessions.find(cookie, "token")
    now[0] = LASTS_S
    assert sessions.find(cookie, "token") is None


def test_sessions_are_bounded_and_the_oldest_ends():
    """Logins without end take no memory without end."""
    sessions = Sessions()
    cookies = [f"{COOKIE}={sessions.open('token', 'Ada').name}" for _ in range(SESSIONS_MAX + 1)]
    assert sessions.find(cookies[0], "token") is None
    assert all(sessions.find(cookie, "token") for cookie in cookies[1:])


@pytest.mark.parametrize("cookies", ["", "a", f"{COOKIE}=", f"{COOKIE}=x; a=b", f'{COOKIE}="', ";;=;", "[x]=1"])
def test_a_cookie_that_is_none_of_ours_opens_nothing(cookies):
    """Whatever stands in it."""
    assert Sessions().find(cookies, "token") is None


async def told(browser, count, **headers):
    """Return the first ``count`` events, as (kind, id, data)."""
    found = []
    async with browser.stream("GET", "/api/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields = {}
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            found.append((fields["event"], fields["id"], json.loads(fields["data"])))
            if len(found) == count:
                return found
    return found


async def test_a_listener_is_told_every_room_and_what_was_said(browser, store):
    """The log's lines come first, each once; who comes back with the last id is not told them again."""
    await store.operate("launch", {"queue_all": True}, "Ada")
    await log_in(browser)
    log, rooms, again = await told(browser, 3)
    assert (log[0], log[2]["room"], log[2]["who"]) == ("log", "launch", "Ada")
    assert (rooms[0], [room["room"] for room in rooms[2]["rooms"]]) == ("rooms", ["launch", "sale"])
    assert (again[0], again[1]) == ("rooms", log[1])
    assert (await told(browser, 1, **{"Last-Event-ID": log[1]}))[0][0] == "rooms"
    assert (await told(browser, 1, **{"Last-Event-ID": "9" * 5000}))[0][0] == "log"


async def test_listeners_are_bounded(browser, monkeypatch):
    """One more than may listen is refused in our own form."""
    monkeypatch.setattr(api, "LISTENERS_MAX", 1)
    monkeypatch.setattr(events, "LISTENERS_MAX", 1)
    await log_in(browser)
    async with asyncio.timeout(20), browser.stream("GET", "/api/events") as first:
        assert first.status_code == 200
        await anext(first.aiter_lines())
        async with browser.stream("GET", "/api/events") as second:
            assert second.status_code == 503


async def test_another_token_and_a_stop_end_what_is_listened_to(browser, house, stated):
    """A listener that was let in by the old token is told nothing more; a stop does not wait for listeners."""
    await log_in(browser)
    listening = asyncio.create_task(told(browser, 1000))
    await told(browser, 1)
    stated.admin.token_file.write_text("fedcba9876543210" * 2 + "\n")
    house[0].configure(stated)
    assert await asyncio.wait_for(listening, 20)
    await log_in(browser, token="fedcba9876543210" * 2)
    listening = asyncio.create_task(told(browser, 1000))
    await told(browser, 1)
    await asyncio.wait_for(house[0].stop(), 20)
    assert await asyncio.wait_for(listening, 20)
