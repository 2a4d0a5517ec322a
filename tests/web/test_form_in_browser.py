"""Another site's form and another origin's call, made by a real browser, through a whole house.

The other site is ``localhost``, the shop's is ``127.0.0.1``: to a browser these are two, and a cookie that is
``SameSite=Lax``, as ours is without https, does not come along from the one to the other.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from browser import watched
from house import RecordingOrigin, running, until

from waitroom.core import forms
from waitroom.web.pages import FormView, Pages

PAGES = Pages(Path(__file__).parents[2] / "templates")

FIELDS = {
    "plain": [("order", "12"), ("result", "paid in full")],
    "Korean": [("이름", "결제 완료"), ("상품", "한정판")],
    "many of one name, in order": [("a", "1"), ("b", "2"), ("a", "3"), ("a", ""), ("b", "2")],
    "signs": [("a+b", "c+d %2B &amp; = ?#/~'\"<>"), ("&=", "&=")],
    "lines": [("text", "one\r\ntwo\r\n\r\n")],
    "names that scripts use": [
        (name, "x") for name in ("submit", "action", "id", "dataset", "isindex", "addEventListener")
    ],
    "markup": [("</form><script>document.title='x'</script>", "</script>\"><img src=x onerror=document.title='x'>")],
    "control characters": [("\x01\t\x0b\x0c\x1f\x7f", " \t ")],
    "nothing": [],
}


@pytest.fixture(scope="module")
def shop():
    """The shop behind the house."""
    recording = RecordingOrigin()
    recording.start()
    yield recording
    recording.stop()


@pytest.fixture(scope="module")
def pay():
    """The other site; it shows what a test has it show."""
    recording = RecordingOrigin()
    recording.start()
    yield recording
    recording.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory, shop, pay):
    """A room through whose line everyone passes, which pages of the other site may call."""
    room = {
        "always_queue": True,
        "total_active_users": 100,
        "cors": {"allowed_origins": [f"http://localhost:{pay.port}"]},
    }
    with running(tmp_path_factory.mktemp("browser"), shop, room) as started:
        yield started


@pytest.fixture
def door(house, shop, pay):
    """The house, the shop behind it, and the other site."""
    return house, shop, pay


def shows(origin, html, *, headers="", charset="utf-8"):
    """Let an origin answer with this page from now on."""
    body = html.encode(charset)
    kind = f"Content-Type: text/html; charset={charset}\r\n"
    head = f"HTTP/1.1 200 OK\r\n{kind}{headers}Content-Length: {len(body)}\r\n\r\n"
    origin.answer = head.encode() + body


def form_to(url, fields):
    """Return a page that sends these fields by itself, as payment pages do."""
    said = json.dumps(fields).replace("</", "<\\/")
    return (
        f"<!doctype html><link rel=icon href='data:,'><form id=f method=post action={json.dumps(url)}></form><script>"
        f"for (const [name, value] of {said}) {{ const field = document.createElement('input');"
        "Object.assign(field, {type: 'hidden', name, value}); document.getElementById('f').append(field); }"
        "HTMLFormElement.prototype.submit.call(document.getElementById('f'))</script>"
    )


def posts(origin):
    """Return what was posted to an origin."""
    return [seen for seen in origin.seen if seen.method == "POST"]


def orders(origin):
    """Return how the scripts' order was called at an origin; what a browser fetches by itself is no call of theirs."""
    return [seen.method for seen in origin.seen if seen.target == "/event/order"]


def let_in(page, house):
    """Walk through the line."""
    shop_shown = "document.body && document.body.innerText === 'shop'"

    def is_in():
        page.goto(f"{house.url}/event/")
        return page.evaluate(shop_shown)

    until(is_in)


def complaints(page):
    """Return what a page complained about; that a form was answered 429 is no complaint of the page's."""
    return [text for text in page.complaints if "status of 429" not in text]


@pytest.fixture(autouse=True)
def _plain_shop(shop):
    shows(shop, "shop")
    yield
    shows(shop, "shop")


def sent(page, pay, shop, url, fields):
    """Let the other site's page send a form there; return what reached the shop, once its answer is shown."""
    shows(pay, form_to(url, fields), charset=fields.charset)
    shop.seen.clear()
    page.goto(f"http://localhost:{pay.port}/")
    page.wait_for_url(url)
    page.wait_for_function("document.body && document.body.innerText === 'shop'")
    (seen,) = posts(shop)
    return seen


class Fields(list):
    """The fields of a form, and the encoding of the page that they are on."""

    charset = "utf-8"


@pytest.mark.parametrize("what", FIELDS)
@pytest.mark.parametrize("charset", ["utf-8", "euc-kr"])
def test_the_shop_gets_the_very_form_that_was_sent(page, door, what, charset):
    """What a browser sends straight to a shop it sends by our page, byte for byte, in any encoding; and our cookie."""
    house, shop, pay = door
    let_in(page, house)
    fields = Fields(FIELDS[what])
    fields.charset = charset
    straight = sent(page, pay, shop, f"http://127.0.0.1:{shop.port}/event/paid?x=%2F", fields)
    seen = sent(page, pay, shop, f"{house.url}/event/paid?x=%2F", fields)
    assert (seen.target, seen.body) == (straight.target, straight.body)
    for name in ("Content-Type", "Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Referer", "Cookie"):
        assert seen.header(name) == straight.header(name), name
    assert seen.header("Waitroom-Number")
    assert complaints(page) == []


def test_every_byte_but_the_known_few_comes_through(page, house, shop, pay):
    """From 1 to 255, in a name and in a value, as a page of windows-1252 sends them."""
    let_in(page, house)
    fields = forms.read(b"&".join(b"n%%%02Xn=%%%02X" % (byte, byte) for byte in range(1, 256) if byte not in (10, 13)))
    shows(pay, form_to(f"{house.url}/event/paid", fields).replace("<form", "<form accept-charset=windows-1252"))
    shop.seen.clear()
    page.goto(f"http://localhost:{pay.port}/")
    until(lambda: posts(shop))
    sent = [(f"n{chr(byte)}n", chr(byte)) for byte in range(1, 256) if byte not in (10, 13)]

    def escaped(text):
        return quote(text, safe="*-._ ", encoding="latin-1").replace("~", "%7E").replace(" ", "+")

    assert posts(shop)[0].body.decode() == "&".join(f"{escaped(name)}={escaped(value)}" for name, value in sent)


def test_the_repeat_brings_no_cookie_that_the_form_did_not(page, house, shop, pay):
    """A shop's Lax cookie stays behind as it would have without us: our page is no way around it."""
    let_in(page, house)
    page.context.add_cookies([{"name": "session", "value": "1", "url": house.url, "sameSite": "Lax"}])
    shop.seen.clear()
    page.goto(f"{house.url}/event/")
    assert "session=1" in next(seen for seen in shop.seen if seen.target == "/event/").header("Cookie")
    shows(pay, form_to(f"{house.url}/event/paid", [("a", "b")]))
    shop.seen.clear()
    page.goto(f"http://localhost:{pay.port}/")
    until(lambda: posts(shop))
    assert posts(shop)[0].header("Cookie") is None
    assert posts(shop)[0].header("Origin") == f"http://localhost:{pay.port}"


def test_without_script_a_button_sends_it(chromium, house, shop, pay):
    """Nothing is sent until it is pressed; then the same form is, once."""
    context = chromium.new_context()
    page = watched(context)
    let_in(page, house)
    quiet = chromium.new_context(java_script_enabled=False, storage_state=context.storage_state())
    plain = watched(quiet)
    shows(
        pay, f"<form method=post action='{house.url}/event/paid'><input name=a value='한 글'><button>go</button></form>"
    )
    shop.seen.clear()
    plain.goto(f"http://localhost:{pay.port}/")
    plain.click("button")
    assert plain.inner_text("h1") == "One moment, please"
    assert posts(shop) == []
    plain.click("#send")
    assert plain.inner_text("body") == "shop"
    assert [seen.body for seen in posts(shop)] == [b"a=%ED%95%9C+%EA%B8%80"]
    context.close()
    quiet.close()


def test_the_shop_may_lead_on_to_another_host(page, house, shop, pay):
    """What a shop does with a payment's return is its own affair: our page's policy does not reach so far."""
    let_in(page, house)
    shop.answer = (
        f"HTTP/1.1 303 See Other\r\nLocation: http://localhost:{pay.port}/thanks\r\nContent-Length: 0\r\n\r\n".encode()
    )
    shows(pay, form_to(f"{house.url}/event/paid", [("a", "b")]))
    pay.seen.clear()
    page.goto(f"http://localhost:{pay.port}/")
    until(lambda: "/thanks" in pay.paths("GET"))


@pytest.mark.parametrize("headers", ["", "sandbox allow-forms allow-scripts"])
def test_it_never_sends_itself_round_and_round(page, pay, headers):
    """However often the page comes back, it sends itself once at most, and where it cannot note that, not at all."""
    policy = f"{PAGES.form_csp.decode()}{'; ' if headers else ''}{headers}"
    again = PAGES.form(FormView("/again", "/.waitroom/launch/form?", [("a", "b")])).decode()
    shows(pay, again, headers=f"Referrer-Policy: same-origin\r\nContent-Security-Policy: {policy}\r\n")
    pay.seen.clear()
    expected = 0 if headers else 1
    for _ in range(2):
        page.goto(f"http://localhost:{pay.port}/again")
        until(lambda: len(posts(pay)) == expected)
        page.wait_for_load_state("load")
        assert page.is_enabled("#send")
        assert len(posts(pay)) == expected
    page.click("#send")
    until(lambda: len(posts(pay)) == expected + 1)
    assert complaints(page) == []


def test_pressing_the_button_while_it_sends_sends_nothing_more(page, pay):
    """An order that is sent twice is two orders."""
    again = PAGES.form(FormView("/again", "/.waitroom/launch/form?", [("a", "b")])).decode()
    shows(pay, again, headers="Referrer-Policy: same-origin\r\n")
    pay.seen.clear()
    page.add_init_script(
        "if (!window.name) { window.name = 'seen'; setInterval(() => {"
        "const send = document.getElementById('send'); send.disabled = false; send.click(); }, 50) }"
    )
    pay.delay_s = 0.4
    page.goto(f"http://localhost:{pay.port}/again")
    page.wait_for_function("!document.getElementById('send').disabled && document.readyState === 'complete'")
    pay.delay_s = 0.0
    assert len(posts(pay)) == 1


@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_fits_its_window_and_says_what_it_does(chromium, pay, width):
    """On the smallest screens too, with a heading, a language, and a button that is reached by the keyboard."""
    context = chromium.new_context(java_script_enabled=False, viewport={"width": width, "height": 600})
    page = watched(context)
    fields = [("a" * 300, "b" * 900)] * 100
    shows(pay, PAGES.form(FormView("/again", "/.waitroom/launch/form?", fields)).decode())
    page.goto(f"http://localhost:{pay.port}/")
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.get_by_role("heading", level=1).inner_text() == "One moment, please"
    button = page.get_by_role("button", name="Send it now").bounding_box()
    assert button["x"] >= 0
    assert button["x"] + button["width"] <= width
    assert button["y"] + button["height"] <= 600
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(lambda: posts(pay))
    context.close()


CALL = """async ([url, token]) => {
  try {
    const headers = token ? {"Waitroom-Pass": token} : {};
    const answer = await fetch(url, {method: "PUT", credentials: "include", headers});
    return [answer.status, answer.headers.get("Retry-After"), await answer.text()];
  } catch (error) { return [error.name]; }
}"""


def test_a_page_of_a_listed_origin_calls_as_its_visitor(page, house, shop, pay):
    """Without a pass its script reads that it must wait, with one it reaches the shop; another's reads nothing."""
    shows(pay, "<link rel=icon href='data:,'>")
    allowed = f"http://localhost:{pay.port}"
    page.goto(allowed)
    shop.seen.clear()
    status, retry, text = page.evaluate(CALL, [f"{house.url}/event/order", None])
    assert (status, retry, json.loads(text)["status"]) == (429, "5", 429)
    assert orders(shop) == []
    let_in(page, house)
    token = next(one["value"] for one in page.context.cookies() if one["name"] == "waitroom_launch")
    words = f"Access-Control-Allow-Origin: {allowed}\r\nAccess-Control-Allow-Credentials: true\r\n"
    shows(shop, "done", headers=words)
    shop.seen.clear()
    page.goto(allowed)
    assert page.evaluate(CALL, [f"{house.url}/event/order", token]) == [200, None, "done"]
    assert orders(shop) == ["PUT"]
    page.goto(f"http://127.0.0.1:{pay.port}")
    assert page.evaluate(CALL, [f"{house.url}/event/order", token]) == ["TypeError"]
    assert orders(shop) == ["PUT"]
