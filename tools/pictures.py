"""Make the pictures of the documentation: of the dashboard, and of the waiting page.

The dashboard is of a house whose people and last hour are made up; the other waits, and is at its turn by hand. The
pages are the real ones, in a real browser; run by `make pictures`.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import ARGUMENTS, CHROMIUM  # noqa: E402 - the house and the browser are those of the tests
from devtools import LINE, PAGES  # noqa: E402
from operators import TOKEN, House  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402
from rooms import room  # noqa: E402

from waitroom.admin.history import STEP_S, STEPS, STEPS_A_MINUTE, History  # noqa: E402
from waitroom.core.queueing import Heard, JoinRequest  # noqa: E402
from waitroom.ports import Known, Lead, Noted  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

IMAGES = ROOT / "docs" / "images"
BYTES_MAX = 200_000
INSIDE, WAITING = 120, 1204


async def people(house: House) -> None:
    """Fill the rooms, and the hour behind them."""
    store, name = house.store, "launch"
    count = INSIDE + WAITING
    await store.join(name, Known(), [JoinRequest(f"{number}", 3600) for number in range(count)])
    here = [Heard(number, store.now_ms() + 3_600_000) for number in range(1, count + 1)]
    term = (await store.tick(name, Known(), Noted(heard=here), Lead("0"))).term
    called = (await store.tick(name, Known(), Noted(), Lead("0", term, budget=INSIDE))).called
    await store.claim(name, Known(), [(number, 60) for number in called])
    await store.operate(name, {"new_users_per_minute": 600}, "Ada")
    await store.operate(name, {"message": "Payment is slow; your place is safe."}, "Ada")
    await store.operate("returns", {"queue_all": True}, "Grace")
    await store.join("returns", Known(), [JoinRequest("0", 3600)])
    hour(house._server._events._history)


def hour(history: History) -> None:
    """Put an hour behind the house: a rush half an hour ago, and a line that shortens since."""
    begun_s, clock = time.monotonic() - STEPS * STEP_S, history._now_s
    joined, admitted, waiting = 0.0, 0.0, 0.0
    for step in range(STEPS):
        minute = step / STEPS_A_MINUTE - 30
        comes = 9 + 357 * math.exp(-abs(minute) / (0.6 if minute < 0 else 3)) + 5 * math.sin(step * 1.7)
        goes = min(waiting + comes, 46 + 4 * math.sin(step / 9))
        joined, admitted, waiting = joined + comes, admitted + goes, waiting + comes - goes
        inside = min(INSIDE, 20 + int(admitted / 8))
        facts = {"joined_total": int(joined), "admitted_total": int(admitted)}
        history._now_s = lambda step=step: begun_s + step * STEP_S
        history.note([("launch", facts | {"waiting": int(waiting), "inside": inside})])
    history._now_s = clock


def waiting(browser: Browser) -> None:
    """Take the waiting page on a phone: in line, and at the turn in the dark."""
    me = {"number": LINE.number, "wait_s": [240, 420], "refresh_s": 12}
    page = PAGES.waiting(replace(LINE, ahead=420, refresh_s=12)).decode()
    for name, scheme, said in (
        ("waiting.png", "light", {"state": "waiting", "ahead": 97}),
        ("turn.png", "dark", {"state": "called", "ahead": 0, "wait_s": [0, 0], "claim_by": 43_260_000}),
    ):
        shown = browser.new_page(viewport={"width": 412, "height": 860}, color_scheme=scheme, timezone_id="UTC")
        shown.clock.install(time=43_200)
        answer = json.dumps(me | said)
        shown.route("**/event/", lambda route: route.fulfill(body=page, content_type="text/html; charset=utf-8"))
        shown.route("**/.waitroom/**", lambda route, _, answer=answer: route.fulfill(body=answer))
        shown.goto("http://shop.test/event/")
        shown.set_checked("#mine", said["state"] == "called")
        shown.clock.run_for(12_000 * (1 + LINE.jitter))
        shown.locator("#ahead", has_text=str(said["ahead"])).wait_for(state="attached")
        shown.screenshot(path=IMAGES / name)
        shown.close()


def main() -> int:
    """Make the pictures. Return 0 when they stand."""
    rooms = [
        room(name=name, total_active_users=INSIDE, new_users_per_minute=2400, session_duration_s=3600)
        for name in ("launch", "returns")
    ]
    with tempfile.TemporaryDirectory() as folder, House(Path(folder), *rooms) as house, sync_playwright() as playwright:
        house.do(people(house))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1180, "height": 1260})
        page.goto(house.url)
        page.fill("[name=who]", "Ada")
        page.fill("[name=token]", TOKEN)
        page.keyboard.press("Enter")
        page.click("[data-room=launch] a")
        page.wait_for_selector("#sign[data-sign=live]")
        page.check("[value='720']")
        page.wait_for_selector("[data-chart] path.other")
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=IMAGES / "dashboard.png")
        waiting(browser)
        browser.close()
    for picture in IMAGES.glob("*.png"):
        assert picture.stat().st_size < BYTES_MAX, picture
    return 0


if __name__ == "__main__":
    sys.exit(main())
