"""The dashboard in a real Chromium: what an operator sees, does and is told, with script and without."""

from __future__ import annotations

import re
import time

import pytest
from browser import chromium, watched  # noqa: F401 - a fixture
from operators import TOKEN, House, arrive, let_in

from waitroom.admin.history import STEP_S

PHONE = {"width": 360, "height": 740}


@pytest.fixture
def house(tmp_path):
    """A listener with two rooms: nine came to one, and one of them is inside."""
    with House(tmp_path) as it:
        it.do(arrive(it.store, 9))
        it.do(let_in(it.store))
        yield it


@pytest.fixture
def open_page(chromium, house):  # noqa: F811 - the fixture
    """Return a function that opens the dashboard as an operator who logged in, in a browser of its own."""
    contexts = []

    def opened(path="/", **differs):
        contexts.append(chromium.new_context(base_url=house.url, **differs))
        page = watched(contexts[-1])
        page.goto("/")
        page.get_by_label("Your name").fill("Ada")
        page.get_by_label("Admin token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        page.goto(path)
        page.complaints.clear()  # the form's own 401 is one
        return page

    yield opened
    for context in contexts:
        context.close()


def wait_for(page, selector, text):
    """Wait until an element reads so."""
    page.wait_for_function("([s, t]) => document.querySelector(s)?.textContent.includes(t)", arg=[selector, text])


def test_the_overview_is_live(open_page, house):
    """The figures stand there at once, the sign says live, and what changes is shown without loading anything."""
    page = open_page()
    launch = page.locator('[data-room="launch"]')
    assert launch.locator('[data-shown="in_line"]').text_content() == "8"
    wait_for(page, "#sign-text", "Live")
    house.do(arrive(house.store, 5, "sale"))
    wait_for(page, '[data-room="sale"] [data-shown="in_line"]', "5")
    house.do(house.store.operate("launch", {"queue_all": True}, "Bob"))
    wait_for(page, '[data-room="launch"] [data-shown="state"]', "held")
    wait_for(page, "#log", "Bob")
    wait_for(page, "#trouble", "launch")
    assert page.complaints == []


def test_a_verb_says_whom_it_touches_before_it_is_done(open_page, house):
    """Hold asks with the number of people, does nothing when left, holds when confirmed, and says so."""
    page = open_page("/rooms/launch")
    page.get_by_role("button", name="Hold").click()
    dialog = page.get_by_role("dialog")
    wait_for(page, "#consequence", "8 people wait")
    dialog.get_by_role("button", name="Leave it").click()
    assert house.do(house.store.status("launch")).facts["state"] == "queueing"
    page.get_by_role("button", name="Hold").click()
    dialog.get_by_role("button", name="Hold").click()
    wait_for(page, "#result", "Hold: done. launch is held.")
    status = house.do(house.store.status("launch"))
    assert (status.facts["state"], status.log[-1]["who"]) == ("held", "Ada")
    assert page.complaints == []


def test_a_number_is_typed_and_a_wrong_one_is_said(open_page, house):
    """What is typed is said over the configuration; what is no number stays in the dialog, with why."""
    page = open_page("/rooms/launch")
    page.get_by_role("button", name="People a minute").click()
    page.locator("#value").fill("1.5")
    page.locator("#go").click()
    wait_for(page, "#refusal", "Write a whole number")
    page.locator("#value").fill("4")
    wait_for(page, "#consequence", "at least 2 minutes")
    page.locator("#go").click()
    wait_for(page, "#result", "done")
    assert house.do(house.store.status("launch")).facts["new_users_per_minute"] == 4
    page.get_by_role("button", name="Stock").click()
    page.locator("#value").fill("-3")
    page.locator("#go").click()
    wait_for(page, "#refusal", "Not done: ")


def test_a_reset_asks_for_the_name_of_the_room(open_page, house):
    """Nobody forgets a line by a slip: the button works once the room's name is written."""
    page = open_page("/rooms/launch")
    page.get_by_role("button", name="Reset").click()
    wait_for(page, "#consequence", "8 people wait: they lose their place")
    assert page.locator("#go").is_disabled()
    page.locator("#name").fill("launch")
    page.locator("#go").click()
    wait_for(page, "#result", "Reset: done")
    assert house.do(house.store.status("launch")).facts["waiting"] == 0


def test_the_keyboard_is_enough(open_page, house):
    """Tab reaches a verb, Enter opens it, Escape leaves it, and the focus is where it was."""
    page = open_page("/rooms/launch")
    wait_for(page, "#sign-text", "Live")
    button = page.get_by_role("button", name="Hold")
    for _ in range(30):
        page.keyboard.press("Tab")
        if button.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    assert button.evaluate("element => element === document.activeElement")
    assert house.do(house.store.status("launch")).facts["state"] == "queueing"


def test_a_lost_connection_is_seen(open_page, house):
    """The sign stops saying live, says how old the figures are, and comes back by itself."""
    page = open_page()
    wait_for(page, "#sign-text", "Live")
    page.context.set_offline(True)
    page.evaluate("source.close()")
    page.wait_for_selector('#sign[data-sign="stale"]')
    assert re.search(r"\d+ s", page.locator("#sign-text").text_content())
    page.context.set_offline(False)
    page.evaluate("listen()")
    wait_for(page, "#sign-text", "Live")


def test_the_last_hour_is_drawn_and_told(open_page, house):
    """The charts have lines once a step is over, and say in words what they show; the table has the numbers."""
    page = open_page("/rooms/launch")
    give_up = time.monotonic() + 4 * STEP_S
    while "at most" not in page.locator("#line-chart-text").text_content() and time.monotonic() < give_up:
        page.wait_for_timeout(200)
    assert "in line: at most 8, now 8. inside: at most 1, now 1." in page.locator("#line-chart-text").text_content()
    assert page.locator("figure svg path.one").first.get_attribute("d")
    page.get_by_text("The same as a table").click()
    wait_for(page, "#minutes tbody tr:first-child td:nth-child(4)", "8")


def test_without_script_the_figures_are_there(open_page):
    """The page as it is sent has everything but what it could not do, and says that it is not live."""
    page = open_page("/rooms/launch", java_script_enabled=False)
    assert page.locator('[data-shown="in_line"]').text_content() == "8"
    assert "Script is off" in page.content()
    assert page.get_by_role("button", name="Hold").is_disabled()


@pytest.mark.parametrize("path", ["/", "/rooms/launch"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it(open_page, path, scheme):
    """Nothing is wider than a phone or too small to press, and text stands out from its ground, by day and night."""
    page = open_page(path, viewport=PHONE, color_scheme=scheme)
    wait_for(page, "#sign-text", "Live")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, input, h2 a")].filter((element) => {
            const box = element.getBoundingClientRect();
            return box.width && (box.height < 20 || box.width < 20);
        }).map((element) => element.outerHTML)"""
    )
    assert small == []
    assert page.evaluate(CONTRAST) == []


def test_hostile_words_stay_words(open_page, house):
    """A message and an operator's name with markup in them are shown as text, in the page and by the script."""
    nasty = "<img src=x onerror=alert(1)>&amp;</script><b>"
    house.do(house.store.operate("launch", {"message": nasty}, nasty))
    page = open_page("/rooms/launch")
    assert page.locator('[data-shown="message"]').text_content() == nasty
    house.do(house.store.operate("launch", {"message": f"{nasty}2"}, nasty))
    wait_for(page, '[data-shown="message"]', f"{nasty}2")
    assert page.locator("#log li b").first.text_content() == nasty
    assert page.locator("#main img").count() == 0
    assert page.complaints == []


CONTRAST = """() => {
  const light = (rgb) => rgb.map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = parts(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("main *, header *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length || element.closest("svg, .unseen, :disabled")) continue;
    const one = light(parts(getComputedStyle(element).color).slice(0, 3)), other = light(ground(element));
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${element.outerHTML.slice(0, 80)}`);
  }
  return faint;
}"""
