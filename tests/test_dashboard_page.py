"""The dashboard in a real browser: what it shows, what it says, and what it does when the house is away."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from browser import watched
from operators import TOKEN, House, arrive, let_in
from rooms import room

from waitroom.admin import api, events, history, server
from waitroom.errors import StoreAway
from waitroom.model import RoomEvent

HOSTILE = "<img src=x onerror=alert(1)>'\"&"
MANY = [room(name=f"room-{index:02}") for index in range(20)]
EVENT = RoomEvent("noon", 1_900_000_000_000, 1_900_003_600_000, 1_899_998_200_000)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A house of twenty rooms; a file of tests speaks to one, each to a room of its own."""
    with House(tmp_path_factory.mktemp("desk"), *MANY[:-1], replace(MANY[-1], events=(EVENT,))) as it:
        yield it


def log_in(page, house, where="/", who="Ada"):
    """Send the form as a person does."""
    page.goto(house.url)
    page.complaints.clear()  # the form comes as a 401, which the browser remarks on
    page.fill("[name=who]", who)
    page.fill("[name=token]", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#log")
    if where != "/":
        page.goto(house.url + where)


def is_live(page):
    """Wait until the page says that it is live."""
    page.wait_for_selector("#sign[data-sign=live]")


def comes(page, expression):
    """Wait until an expression is true. Playwright's own way would evaluate text, which the page's policy forbids."""
    until = time.monotonic() + 10
    while not page.evaluate(expression):
        assert time.monotonic() < until, expression
        page.wait_for_timeout(50)


def test_the_figures_move_without_a_reload_and_nothing_else_does(page, house):
    """Twenty rooms; the counts of one grow from 0 to thousands, and no part of the page moves for it."""
    log_in(page, house)
    is_live(page)
    page.evaluate(
        """() => { window.moved = 0; window.kept = true;
        new PerformanceObserver(list => list.getEntries().forEach(one => window.moved += one.value))
          .observe({type: "layout-shift", buffered: false}); }"""
    )
    house.do(arrive(house.store, 1204, "room-00"))
    page.wait_for_selector("[data-room=room-00] [data-shown=in_line]:text-is('1,204')")
    page.wait_for_timeout(300)
    assert page.evaluate("[window.kept, window.moved]") == [True, 0]
    assert page.locator("#rooms > li").count() == 20
    assert page.complaints == []


def test_a_room_in_trouble_comes_first_and_is_named_on_every_page(page, house):
    """Whoever looks sees it at the top, also while they look at another room."""
    log_in(page, house)
    is_live(page)
    house.do(arrive(house.store, 3, "room-13"))
    house.do(house.store.operate("room-13", {"queue_all": True}, "test"))
    page.wait_for_selector("#trouble a:text-is('room-13')")
    comes(
        page,
        "[...document.querySelectorAll('#rooms > [data-room]')].findIndex(one => one.dataset.room === 'room-13') < 2",
    )
    page.goto(house.url + "/rooms/room-01")
    page.wait_for_selector("#trouble a:text-is('room-13')")
    house.do(house.store.operate("room-13", {"clear": True}, "test"))


def test_rows_stay_where_they_are_while_somebody_is_at_them(page, house):
    """No link moves away from under a finger; the row goes up when the focus has left."""
    log_in(page, house)
    is_live(page)
    place = "[...document.querySelectorAll('#rooms > [data-room]')].findIndex(one => one.dataset.room === 'room-16')"
    before = page.evaluate(place)
    page.focus("[data-room=room-18] a")
    house.do(arrive(house.store, 3, "room-16"))
    house.do(house.store.operate("room-16", {"queue_all": True}, "test"))
    page.wait_for_selector("#trouble a:text-is('room-16')")
    page.wait_for_timeout(1_200)
    assert page.evaluate(place) == before
    page.focus("#main")
    comes(page, f"{place} < {before}")
    house.do(house.store.operate("room-16", {"clear": True}, "test"))


def test_a_verb_says_to_how_many_it_does_what_and_is_said_only_then(page, house):
    """Leaving the dialog does nothing; going on does it, says so, and the log has it under the operator's name."""
    house.do(arrive(house.store, 1204, "room-02"))
    log_in(page, house, "/rooms/room-02")
    is_live(page)
    page.click("[data-verb=hold]")
    assert page.inner_text("#consequence").startswith("1,204 people wait: places are kept, and nobody goes in")
    page.keyboard.press("Escape")
    assert house.do(house.store.status("room-02")).log == ()
    page.click("[data-verb=hold]")
    page.click("#go")
    page.wait_for_selector("#result:text-is('Hold: done. room-02 is held.')")
    page.wait_for_selector("#log li:has-text('Ada'):has-text('queue_all = True')")
    assert page.evaluate("document.activeElement.dataset.verb") == "hold"
    page.click("[data-verb=rate]")
    page.fill("#value", "100")
    assert "At 100 a minute it takes at least 13 minutes" in page.inner_text("#consequence")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-shown=pace]:text-is('0 of 100')")
    assert page.complaints == []


def test_a_refused_word_is_shown_where_it_was_typed_and_nothing_is_done(page, house):
    """The sentence of the answer; the dialog stays for another try."""
    log_in(page, house, "/rooms/room-03")
    is_live(page)
    page.click("[data-verb=rate]")
    page.fill("#value", "0")
    page.click("#go")
    page.wait_for_selector("#refusal:has-text('write 1 to')")
    page.fill("#value", "1.5")
    page.click("#go")
    page.wait_for_selector("#refusal:has-text('Write a whole number.')")
    assert house.do(house.store.status("room-03")).log == ()


def test_a_reset_asks_for_the_rooms_name(page, house):
    """What cannot be taken back is not done by a slip of the hand."""
    house.do(arrive(house.store, 5, "room-04"))
    log_in(page, house, "/rooms/room-04")
    is_live(page)
    page.click("[data-verb=reset]")
    assert "5 people wait: they lose their place." in page.inner_text("#consequence")
    page.keyboard.press("Enter")
    assert page.is_disabled("#go")
    page.fill("#name", "room-04")
    page.keyboard.press("Enter")
    page.wait_for_selector("#result:has-text('Reset: done')")
    assert house.do(house.store.status("room-04")).facts["generation"] == 2


def test_what_others_wrote_is_text(page, house):
    """Messages, names and log lines hold markup; none of it becomes an element, sent with the page or told later."""
    house.do(house.store.operate("room-05", {"message": HOSTILE}, HOSTILE))
    log_in(page, house, "/rooms/room-05")
    is_live(page)
    house.do(house.store.operate("room-05", {"message": f"{HOSTILE}2"}, HOSTILE))
    comes(page, "document.querySelectorAll('#log li').length === 2")
    page.wait_for_selector("[data-shown=message]:has-text('2')")
    assert page.inner_text("[data-shown=message]") == f"{HOSTILE}2"
    assert page.locator("#log img, dd img").count() == 0
    assert page.complaints == []


def test_without_script_the_numbers_are_there(chromium, house):
    """The page as it is sent has every figure, the table of the hour, the event's times and a way on."""
    house.do(arrive(house.store, 7, "room-19"))
    context = chromium.new_context(java_script_enabled=False)
    page = watched(context)
    log_in(page, house)
    assert page.inner_text("[data-room=room-19] [data-shown=in_line]") == "7"
    page.goto(house.url + "/rooms/room-19")
    assert page.inner_text("[data-shown=in_line]") == "7"
    assert page.inner_text("[data-shown=estimate]") == "not measured yet"
    assert "2030-03-17 17:46:40 UTC" in page.inner_text(".events")
    assert page.locator("#minutes tbody tr").count() == 59
    assert "Script is off" in page.inner_text("main")
    context.close()


def test_the_charts_show_what_was_joined_and_say_it_in_words(page, house, monkeypatch):
    """Lines for eyes, a sentence and a table for everybody else."""
    for module, name, value in ((history, "STEP_S", 0.5), (api, "STEP_S", 0.5), (events, "EVERY_S", 0.1)):
        monkeypatch.setattr(module, name, value)
    log_in(page, house, "/rooms/room-06")
    house.do(arrive(house.store, 40, "room-06"))
    house.do(let_in(house.store, "room-06"))
    comes(page, "document.querySelector('#line-chart-text').textContent.match(/in line: at most [0-9]+, now 39/)")
    comes(page, "document.querySelector('[data-chart^=waiting] path.one').getAttribute('d').includes('L')")
    alone = "line([null, 1, null, 2, 3], index => index, value => value)"
    assert page.evaluate(alone) == "M1.0 1.0h2M3.0 2.0L4.0 3.0", "a step between two gaps is seen too"
    page.click("#minutes summary")
    page.wait_for_selector("#minutes tbody tr:first-child td:nth-of-type(3):text-is('39')")


def test_the_sign_says_when_the_figures_are_old_and_when_they_live_again(page, house, monkeypatch):
    """No answer any more: the page says for how long; an answer again: it is live without a reload."""
    log_in(page, house)
    is_live(page)
    page.evaluate("window.kept = true")
    page.context.set_offline(True)
    page.route("**/api/**", lambda route: route.abort())
    page.evaluate("source.close(); listen()")
    page.wait_for_selector("#sign[data-sign=stale]")
    assert page.inner_text("#announce") == "Connection lost: the figures are old"
    page.unroute("**/api/**")
    page.context.set_offline(False)
    is_live(page)
    assert page.evaluate("window.kept")
    assert page.inner_text("#announce") == "Live again"
    monkeypatch.setattr(events, "EVERY_S", 60)  # the connection stands, and nothing comes over it
    page.wait_for_selector("#sign-text:has-text('Stale for')")


def test_figures_grow_older_while_the_page_tries_again(page, house, monkeypatch):
    """A connection over which nothing comes is given up and made anew; what is shown is no younger for that."""
    page.clock.install()
    log_in(page, house)
    is_live(page)
    monkeypatch.setattr(events, "EVERY_S", 60)
    page.wait_for_timeout(1_200)  # the look that was already waited for
    page.route("**/api/events**", lambda _: None)  # no answer, and no refusal either
    page.clock.fast_forward(20_000)
    page.wait_for_selector("#sign-text:has-text('Reconnecting')")
    page.wait_for_timeout(1_200)
    assert int(page.inner_text("#sign-text").split()[1]) >= 20
    page.unroute("**/api/events**")
    page.clock.fast_forward(15_000)
    is_live(page)


def test_figures_are_as_old_as_the_machine_slept(page, house, monkeypatch):
    """One of the browser's clocks may stand still meanwhile."""
    log_in(page, house)
    is_live(page)
    monkeypatch.setattr(events, "EVERY_S", 60)
    page.wait_for_timeout(1_200)  # the look that was already waited for
    page.route("**/api/events**", lambda _: None)
    page.evaluate("() => { const before = Date.now; Date.now = () => before() + 3_600_000; }")
    comes(page, "/^(Stale for|Reconnecting,) 36\\d\\d s/.test(document.querySelector('#sign-text').textContent)")


def test_a_record_that_is_away_is_said_and_the_last_figures_stay(page, house, monkeypatch):
    """The house answers and knows nothing new; when the record is back the page is live by itself."""
    house.do(arrive(house.store, 5, "room-15"))
    log_in(page, house)
    is_live(page)

    async def away(_):
        raise StoreAway("gone")

    monkeypatch.setattr(house.store, "status", away)
    page.wait_for_selector("#sign[data-sign=away]")
    assert page.inner_text("#sign-text").startswith("No record for ")
    assert page.inner_text("[data-room=room-15] [data-shown=in_line]") == "5"
    page.reload()
    page.wait_for_selector("#sign[data-sign=away]")
    assert page.is_visible("#away")
    monkeypatch.undo()
    is_live(page)
    assert page.is_hidden("#away")


def test_a_page_behind_others_holds_no_connection(page, house):
    """A browser has six for a host: a page that nobody looks at takes none, and is live when it is looked at again."""
    until = time.monotonic() + 20
    while house.listeners() and time.monotonic() < until:
        time.sleep(0.05)
    log_in(page, house)
    is_live(page)
    assert house.listeners() == 1
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    while house.listeners() and time.monotonic() < until:
        time.sleep(0.05)
    assert house.listeners() == 0
    house.do(arrive(house.store, 11, "room-14"))
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_selector("[data-room=room-14] [data-shown=in_line]:text-is('11')")
    is_live(page)


def test_an_answer_that_comes_after_the_dialog_was_left_is_shown_all_the_same(page, house):
    """Whoever pressed Escape too late learns what became of it, and not in the dialog of another verb."""
    log_in(page, house, "/rooms/room-10")
    is_live(page)
    held = []

    def hold(route):
        held.append(route)

    page.route("**/api/rooms/room-10", hold)
    page.click("[data-verb=hold]")
    page.click("#go")
    page.keyboard.press("Escape")
    page.click("[data-verb=close]")
    held[0].abort()
    page.wait_for_selector("#result:has-text('Hold: No answer came.')")
    assert page.inner_text("#refusal") == ""
    page.click("#go")
    page.keyboard.press("Escape")
    page.click("[data-verb=open]")
    held[1].continue_()
    page.wait_for_selector("#result:has-text('Close: done.')")
    assert page.is_visible("#dialog")


def test_the_page_of_a_room_that_is_no_more_goes_to_the_rooms(page, house):
    """Also when it went while the page heard nothing."""
    log_in(page, house, "/rooms/room-11")
    is_live(page)
    gone = '{"error": "room", "message": ""}'
    page.route("**/api/rooms/room-11", lambda route: route.fulfill(status=404, body=gone))
    page.evaluate("source.close(); check(); 0")
    page.wait_for_selector("#rooms")


def test_a_session_that_ended_is_said(page, house):
    """A logout elsewhere ends this page too, and it says so."""
    log_in(page, house)
    is_live(page)
    page.context.clear_cookies()
    page.evaluate("source.close(); check()")
    page.wait_for_selector("#sign[data-sign=out]")


def test_everything_can_be_done_by_keys_alone(page, house):
    """From the address to a held room: links, buttons and the dialog are reached in order and show that they are."""
    log_in(page, house)
    is_live(page)
    page.focus("[data-room=room-08] a")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-verb=hold]:not([disabled])")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.verb") == "hold":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "cancel", "the safe way is the first"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#result:has-text('Hold: done')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_a_phone_in_any_light(chromium, house, scheme):
    """WCAG 2.2 AA as far as a program can tell: the form, the rooms, a room, its dialog; no scrolling sideways."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - beside the browser, which may be missing

    axe = Axe()
    context = chromium.new_context(viewport={"width": 320, "height": 640}, color_scheme=scheme, bypass_csp=True)
    page = watched(context)

    def judge():
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        found = axe.run(page, options={"runOnly": tags})
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page.goto(house.url)
    judge()
    house.do(house.store.operate("room-09", {"suspended": True, "message": "x" * 200}, "Ada"))
    log_in(page, house)
    is_live(page)
    judge()
    page.goto(house.url + "/rooms/room-09")
    is_live(page)
    page.click("#minutes summary")
    judge()
    page.click("[data-verb=reset]")
    judge()
    context.close()


def test_a_house_of_twenty_rooms_is_one_small_page(page, house):
    """What a phone loads on a bad line at noon is bounded."""
    log_in(page, house)
    assert len(page.content().encode()) < 40_000
    folder = Path(__file__).parent.parent / "templates" / "dashboard"
    assert sum((folder / name).stat().st_size for name in ("dashboard.css", "dashboard.js")) < 30_000


def test_a_reader_that_takes_nothing_is_cut_off(house, monkeypatch):
    """It holds a seat for a bounded time only, and no memory beyond the buffers."""
    import socket  # noqa: PLC0415 - here alone

    import httpx  # noqa: PLC0415 - here alone

    monkeypatch.setattr(server, "TAKE_WITHIN_S", 0.3)
    monkeypatch.setattr(events, "EVERY_S", 0.002)
    host, port = house.url.removeprefix("http://").split(":")
    until = time.monotonic() + 20
    while house.listeners() and time.monotonic() < until:
        time.sleep(0.05)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((host, int(port)))
        sock.sendall(f"GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".replace(
            "Host: x", f"Host: {host}").encode())  # fmt: skip
        while not house.listeners() and time.monotonic() < until:
            time.sleep(0.01)
        assert house.listeners() == 1, "pages of the tests before have left, and this one is there"
        while house.listeners() and time.monotonic() < until:
            time.sleep(0.05)
        assert house.listeners() == 0
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.get(house.url + "/api/rooms", headers=headers, trust_env=False).status_code == 200
