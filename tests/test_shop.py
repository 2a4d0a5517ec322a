"""The example shop, started as a user starts it and driven over real sockets.

What the demo's checker believes rests on this program: that it sells what it has and not one more, and that its log
tells every request as it was. So nothing is imported from it; each test starts the script and asks it from outside.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "shop"
JSON = {"accept": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


class Shop:
    """One running shop; ``url`` is where it listens."""

    def __init__(self, place: Path, *arguments: str, script: Path = FOLDER / "shop.py") -> None:
        self.log = place / "shop.log"
        self.database = place / "shop.db"
        files = ("--database", self.database, "--log", self.log)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", script, "--listen", "127.0.0.1:0", *files, *arguments],
            cwd=place,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.url = self.line.removeprefix("listening on ").strip()

    def lines(self) -> list[dict[str, Any]]:
        """Return the log as it stands now."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def stop(self) -> tuple[int, str, str]:
        """End it with SIGTERM; return exit code, the rest of stdout, and stderr."""
        self.process.send_signal(signal.SIGTERM)
        try:
            out, err = self.process.communicate(timeout=15)
        finally:
            self.process.kill()  # does nothing to one that has ended, and leaves none behind that has not
        return self.process.returncode, out, err


@contextmanager
def running(place: Path, *arguments: str, script: Path = FOLDER / "shop.py") -> Iterator[Shop]:
    """Start a shop that must end cleanly, without a word on stderr."""
    shop = Shop(place, *arguments, script=script)
    try:
        yield shop
    finally:
        ended = shop.stop()
    assert ended == (0, "", "")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Return a shop whose stock no test of this module uses up."""
    with running(tmp_path_factory.mktemp("shop"), "--stock", "1000") as started:
        yield started


@pytest.fixture
def client(shop: Shop) -> Iterator[httpx.Client]:
    """Return a browser of one visitor, which follows nothing by itself."""
    with httpx.Client(base_url=shop.url) as browser:
        yield browser


def units_left(database: Path) -> int:
    """Return what the stock table says."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT units_left FROM stock").fetchone()[0]


async def order_all(url: str, visitors: list[str]) -> list[httpx.Response]:
    """Order once for each of ``visitors``, all at the same time, each on a connection of its own."""
    limits = httpx.Limits(max_connections=len(visitors))
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30) as crowd:
        return await asyncio.gather(
            *(crowd.post("/event/order", headers=JSON | {"waitroom-visitor": visitor}) for visitor in visitors)
        )


def test_it_says_where_it_listens_and_ends_cleanly(tmp_path):
    """One line tells the real port, SIGTERM ends with exit code 0, and stderr stays empty."""
    with running(tmp_path) as shop:
        assert re.fullmatch(r"listening on http://127\.0\.0\.1:[1-9]\d*\n", shop.line)
        assert httpx.get(f"{shop.url}/health").json() == {"status": "ok"}


def test_it_runs_from_a_copied_folder(tmp_path):
    """A copy of the folder, somewhere else and started from somewhere else, is the same shop."""
    copy = tmp_path / "wheel" / "_data"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with running(tmp_path, script=copy / "shop.py") as shop:
        assert "Kestrel" in httpx.get(f"{shop.url}/event/").text


async def test_two_hundred_orders_for_fifty_units_sell_exactly_fifty(tmp_path):
    """Fifty of two hundred at once get a unit, the rest learn that it is sold out, and asking again changes nothing."""
    visitors = [f"visitor-{i}" for i in range(200)]
    with running(tmp_path, "--stock", "50") as shop:
        first = await order_all(shop.url, visitors)
        assert sorted({answer.status_code for answer in first}) == [201, 409]
        sold = {who: answer.json() for who, answer in zip(visitors, first, strict=True) if answer.status_code == 201}
        assert len(sold) == 50
        assert sorted(order["number"] for order in sold.values()) == list(range(1, 51))
        assert units_left(shop.database) == 0

        again = await order_all(shop.url, visitors)
        assert {who: a.json() for who, a in zip(visitors, again, strict=True) if a.status_code == 201} == sold
        assert units_left(shop.database) == 0

        lines = shop.lines()
        assert len(lines) == 400
        assert sorted(line["visitor"] for line in lines) == sorted(visitors * 2)
        taken = {line["visitor"]: line["order"] for line in lines if line["sold"]}
        assert taken == {who: order["order"] for who, order in sold.items()}
        assert sum(line["sold"] for line in lines) == 50
        for line in lines:
            assert line["status"] == (201 if line["visitor"] in sold else 409)
            assert line["order"] == (sold[line["visitor"]]["order"] if line["visitor"] in sold else None)


async def test_one_visitor_ordering_many_times_at_once_gets_one_unit(tmp_path):
    """Thirty orders of one visitor at the same time are one order and take one unit."""
    with running(tmp_path, "--stock", "50") as shop:
        answers = await order_all(shop.url, ["the same"] * 30)
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["order"] for answer in answers}) == 1
        assert units_left(shop.database) == 49
        assert sum(line["sold"] for line in shop.lines()) == 1


def test_the_tables_themselves_refuse_a_unit_too_many(shop):
    """Even a program that forgets the condition cannot bring the stock below zero or give a visitor two orders."""
    with closing(sqlite3.connect(shop.database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            connection.execute("UPDATE stock SET units_left = units_left - 1000000")
        row = "INSERT INTO orders (id, visitor, product, price_won, placed_at) VALUES (?, 'one', 1, 1, 0.0)"
        connection.execute(row, ("a",))
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            connection.execute(row, ("b",))
        connection.execute("ROLLBACK")


def test_a_restart_keeps_orders_stock_and_carts(tmp_path):
    """After a restart the order stands, the stock is what it was whatever ``--stock`` says, and the cart is full."""
    with running(tmp_path, "--stock", "5") as shop, httpx.Client(base_url=shop.url) as browser:
        browser.post("/event/cart")
        cookies = dict(browser.cookies)
        order = httpx.post(f"{shop.url}/event/order", headers=JSON | {"waitroom-visitor": "v"}).json()
    again = Shop(tmp_path, "--stock", "80")
    try:
        assert httpx.get(f"{again.url}/stock").json() == {"total": 5, "left": 4, "sold_out": False}
        assert "Order now" in httpx.get(f"{again.url}/event/cart", cookies=cookies).text
        answer = httpx.post(f"{again.url}/event/order", headers=JSON | {"waitroom-visitor": "v"})
        assert answer.json() == order
        assert [line["sold"] for line in again.lines() if line["path"] == "/event/order"] == [True, False]
    finally:
        code, _, err = again.stop()
    assert code == 0
    assert err == "shop: the database has 4 of 5 units; --stock 80 is for a new one\n"


def test_an_answered_order_survives_a_kill(tmp_path):
    """Whoever was told of an order has it, and its line in the log, even if the shop was killed in the same moment."""
    shop = Shop(tmp_path, "--stock", "5")
    order = httpx.post(f"{shop.url}/event/order", headers=JSON | {"waitroom-visitor": "v"}).json()
    shop.process.kill()
    shop.process.communicate()
    assert [line["order"] for line in shop.lines()] == [order["order"]]
    with running(tmp_path, "--stock", "5") as again:
        answer = httpx.post(f"{again.url}/event/order", headers=JSON | {"waitroom-visitor": "v"})
        assert answer.json() == order
        assert units_left(again.database) == 4


def test_a_shopper_with_a_browser_comes_from_the_launch_page_to_an_order(client):
    """Launch page, cart, order, confirmation: each step leads to the next, and each tells the proxy the stock."""
    launch = client.get("/event/")
    assert launch.status_code == 200
    assert "Put in cart" in launch.text
    before = int(launch.headers["waitroom-stock"])
    assert "Your cart is empty" in client.get("/event/cart").text

    put = client.post("/event/cart", data={"item": "1", "quantity": "1"})
    assert (put.status_code, put.headers["location"]) == (303, "/event/cart")
    assert int(put.headers["waitroom-stock"]) == before
    assert "Order now" in client.get("/event/cart").text

    ordered = client.post("/event/order", data={"item": "1", "quantity": "1"})
    assert ordered.status_code == 303
    assert re.fullmatch(r"/event/order/[\w-]{16}", ordered.headers["location"])
    assert int(ordered.headers["waitroom-stock"]) == before - 1

    confirmation = client.get(ordered.headers["location"])
    assert "is yours" in confirmation.text
    assert int(confirmation.headers["waitroom-stock"]) == before - 1
    assert confirmation.headers["cache-control"] == "private, no-store"
    number = client.get(ordered.headers["location"], headers=JSON).json()["number"]
    assert f"{number} of 1000" in confirmation.text

    assert "See your order" in client.get("/event/").text
    assert client.post("/event/order").headers["location"] == ordered.headers["location"]


def test_sold_out_is_said_on_every_page(tmp_path):
    """With nothing left, orders and carts answer 409 to people and programs, and every page says why."""
    with running(tmp_path, "--stock", "0") as shop, httpx.Client(base_url=shop.url) as browser:
        order = browser.post("/event/order")
        assert order.status_code == 409
        assert "Sold out" in order.text
        assert order.headers["waitroom-stock"] == "0"
        assert "set-cookie" not in order.headers
        assert browser.post("/event/order", headers=JSON).json()["error"] == "sold_out"
        assert browser.post("/event/cart").status_code == 409
        assert "Every unit has been ordered" in browser.get("/event/").text
        assert "<span data-sold-out>" in browser.get("/").text
        assert browser.get("/stock").json() == {"total": 0, "left": 0, "sold_out": True}


def test_a_closed_event_sells_nothing(tmp_path):
    """Before the opening the launch page says so, carts and orders are refused, and ordinary pages are as always."""
    with running(tmp_path, "--closed", "--stock", "5") as shop, httpx.Client(base_url=shop.url) as browser:
        assert "not opened yet" in browser.get("/event/").text
        for path in ("/event/cart", "/event/order"):
            answer = browser.post(path, headers=JSON)
            assert (answer.status_code, answer.json()["error"]) == (403, "closed")
        assert browser.get("/products").status_code == 200
        assert units_left(shop.database) == 5


def test_a_visitor_is_known_by_the_proxys_name_first_and_neither_name_can_pose_as_the_other(client, shop):
    """The proxy's name holds without cookies; a header that spells a session's name is another visitor."""
    named = JSON | {"waitroom-visitor": "same-visitor"}
    first = client.post("/event/order", headers=named).json()
    client.cookies.clear()
    assert client.post("/event/order", headers=named).json() == first

    client.cookies.clear()
    by_cookie = client.post("/event/order", headers=JSON).json()
    with closing(sqlite3.connect(shop.database)) as connection:
        row = connection.execute("SELECT visitor FROM orders WHERE id = ?", (by_cookie["order"],)).fetchone()
    assert row[0].startswith("session:")
    forged = client.post("/event/order", headers=JSON | {"waitroom-visitor": row[0]}).json()
    assert forged["order"] != by_cookie["order"]


@pytest.mark.parametrize("text", ["x", "a.b", "W10.W10", "." * 300, "x" * 5000, '"\\377"', "é"])
def test_a_cookie_we_did_not_sign_is_no_cookie(client, text):
    """A forged or broken session is an empty cart and a new visitor, never an error."""
    cookie = b"shop_session=" + text.encode()
    assert "Your cart is empty" in client.get("/event/cart", headers=[(b"cookie", cookie)]).text


def test_an_altered_cookie_is_no_cookie(client):
    """One changed character in the signature, or a payload of one's own under it, and the session is gone."""
    client.post("/event/cart")
    text = client.cookies["shop_session"]
    assert "Order now" in client.get("/event/cart").text
    payload, signature = text.rsplit(".", 1)
    swapped = "A" if signature[5] != "A" else "B"
    client.cookies.clear()
    for forged in (f"{payload}.{signature[:5]}{swapped}{signature[6:]}", f"WyJtaW5lIix0cnVlXQ.{signature}"):
        page = client.get("/event/cart", headers={"cookie": f"shop_session={forged}"})
        assert "Your cart is empty" in page.text


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 201),
        ("application/json, text/plain, */*", 201),
        ("text/html;q=0.5, application/json", 201),
        ("application/*", 201),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 303),
        ("*/*", 303),
        ("", 303),
        ("application/json;q=0.2, text/html", 303),
        ("application/json;q=0", 303),
        ("application/json;q=nan", 303),
        ("application/json;q=1e999", 303),
        ("application/json," * 200, 303),
    ],
)
def test_json_is_for_those_who_prefer_it(client, accept, status):
    """The order's answer is JSON exactly when ``Accept`` prefers it."""
    answer = client.post("/event/order", headers={"accept": accept, "waitroom-visitor": "one of many tongues"})
    assert answer.status_code == status


def chunks(count: int) -> Iterator[bytes]:
    """Yield a body that does not say its length."""
    for _ in range(count):
        yield b"x" * 1024


@pytest.mark.parametrize(
    ("request_line", "options", "status"),
    [
        ("GET /nothing", {}, 404),
        ("GET /products/0", {}, 404),
        ("GET /products/5", {}, 404),
        ("GET /products/-1", {}, 404),
        ("GET /products/1x", {}, 404),
        ("GET /products/%D9%A1", {}, 404),
        ("GET /products/" + "9" * 400, {}, 404),
        ("GET /products/1%00", {}, 404),
        ("GET /products/1'%20OR%201=1", {}, 404),
        ("GET /products/", {}, 404),
        ("GET /static/shop.css", {}, 404),
        ("GET /static/..%2Fshop.py", {}, 404),
        ("GET /static/%00", {}, 404),
        ("GET /event/order/unknown", {}, 404),
        ("GET /event/order/" + "A" * 16, {}, 404),
        ("GET /event/order/%FF%FE", {}, 404),
        ("GET //event/", {}, 404),
        ("GET /Event/", {}, 404),
        ("POST /", {}, 405),
        ("DELETE /event/cart", {}, 405),
        ("GET /event/order", {}, 405),
        ("OPTIONS /event/order", {}, 405),
        ("POST /event/order", {"headers": {"waitroom-visitor": "v" * 201}}, 400),
        ("POST /event/order", {"headers": {"sec-fetch-site": "cross-site"}}, 403),
        ("POST /event/order", {"content": b"x" * 16_385, "headers": FORM}, 413),
        ("POST /event/order", {"content": b"x" * 300_000, "headers": FORM}, 413),
        ("POST /event/cart", {"content": chunks(17), "headers": FORM}, 413),
        ("POST /event/order", {"content": b"quantity=1"}, 415),
        ("POST /event/order", {"files": {"item": b"1"}}, 415),
        ("POST /event/cart", {"content": b"item", "headers": FORM}, 400),
        ("POST /event/cart", {"content": b"item=%FF", "headers": FORM}, 400),
        ("POST /event/cart", {"content": b"item=\xff", "headers": FORM}, 400),
        ("POST /event/cart", {"content": b"&".join([b"a=1"] * 9), "headers": FORM}, 400),
        ("POST /event/order", {"data": {"quantity": "2"}}, 400),
        ("POST /event/order", {"data": {"quantity": "-1"}}, 400),
        ("POST /event/order", {"data": {"quantity": ["1", "2"]}}, 400),
        ("POST /event/order", {"data": {"item": "2"}}, 400),
        ("POST /event/order", {"data": {"item": ""}}, 400),
        ("POST /event/order", {"json": {"quantity": 2}}, 400),
        ("POST /event/order", {"json": {"quantity": True}}, 400),
        ("POST /event/order", {"json": {"quantity": {"$gt": 0}}}, 400),
        ("POST /event/order", {"json": [["quantity", "1"]]}, 400),
        ("POST /event/order", {"json": 1}, 400),
        ("POST /event/order", {"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ("POST /event/order", {"content": b"[" * 16_000, "headers": {"content-type": "application/json"}}, 400),
        (
            "POST /event/order",
            {"content": b'{"item":' * 2_000, "headers": {"content-type": "application/json"}},
            400,
        ),
    ],
)
def test_what_is_wrong_is_refused_in_words(client, shop, request_line, options, status):
    """Hostile and mistaken requests get their status, a page that says what is wrong, and nothing is sold by them."""
    method, _, path = request_line.partition(" ")
    before = units_left(shop.database)
    answer = client.request(method, shop.url + path, **options)
    assert answer.status_code == status
    assert "<h1>" in answer.text
    assert "Traceback" not in answer.text
    assert "set-cookie" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    if status == 405:
        assert answer.headers["allow"]
    assert units_left(shop.database) == before
    line = shop.lines()[-1]
    assert (line["method"], line["status"]) == (method, status)
    assert not line["sold"]
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"data": {"item": "1", "quantity": "1", "colour": "green"}},
        {"json": {"item": 1, "quantity": 1}},
        {"json": {}},
    ],
)
def test_a_wish_may_be_a_form_or_json_or_nothing(client, options):
    """The event sells one unit of one thing, so an order may say so in any of three ways."""
    answer = client.post("/event/order", headers={"waitroom-visitor": "agreeable"}, **options)
    assert answer.status_code == 303


def test_the_log_tells_each_request_as_it_was(tmp_path):
    """A line stands in the file before its answer is read: method, raw path, status, the proxy's headers as sent."""
    proxied = {
        "waitroom-room": "launch",
        "waitroom-number": "17",
        "waitroom-visitor": "v17",
        "waitroom-admitted-at": "1764000000000",
    }
    with running(tmp_path) as shop:
        requests = [
            ("GET", "/", {}, 200),
            ("HEAD", "/products", {}, 200),
            ("GET", "/%65vent/", proxied, 200),
            ("GET", "/event?from=mail", {}, 308),
            ("POST", "/event/order", proxied, 303),
            ("POST", "/event/order", proxied, 303),
            ("GET", "/nowhere", {}, 404),
            ("PUT", "/stock", {}, 405),
        ]
        for count, (method, path, headers, status) in enumerate(requests, 1):
            assert httpx.request(method, shop.url + path, headers=headers).status_code == status
            lines = shop.lines()
            assert len(lines) == count
            line = lines[-1]
            assert (line["method"], line["path"], line["status"]) == (method, path.partition("?")[0], status)
            assert [line[key] for key in ("room", "number", "visitor", "admitted_at")] == [
                headers.get(name) for name in proxied
            ]
            assert isinstance(line["time"], float)
            assert line["duration_s"] >= 0
        assert [line["sold"] for line in lines] == [None, None, None, None, True, False, None, None]
        assert lines[4]["order"] == lines[5]["order"] is not None
        assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def test_a_database_held_by_another_program_delays_orders_only(tmp_path):
    """While another program holds the lock an order answers 503 and says when to return; reading goes on."""
    with running(tmp_path, "--busy-timeout", "20ms", "--stock", "5") as shop:
        with closing(sqlite3.connect(shop.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = httpx.post(f"{shop.url}/event/order", headers=JSON)
            assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
            assert answer.headers["retry-after"] == "2"
            assert httpx.get(f"{shop.url}/").status_code == 200
            other.execute("ROLLBACK")
        assert httpx.post(f"{shop.url}/event/order", headers=JSON).json()["number"] == 1
        assert [line["sold"] for line in shop.lines()] == [False, None, True]


def test_a_report_being_read_delays_no_order(tmp_path):
    """Another program may keep a view of the data open for as long as it likes; orders go on beside it."""
    with running(tmp_path, "--busy-timeout", "20ms", "--stock", "5") as shop:
        with closing(sqlite3.connect(shop.database, isolation_level=None)) as other:
            other.execute("BEGIN")
            assert other.execute("SELECT count(*) FROM orders").fetchone() == (0,)
            assert httpx.post(f"{shop.url}/event/order", headers=JSON).status_code == 201
            assert other.execute("SELECT count(*) FROM orders").fetchone() == (0,)
        assert units_left(shop.database) == 4


def test_a_delay_makes_pages_slower_but_not_health(tmp_path):
    """``--delay`` adds at least that much to each page; health and static files are not pages."""
    with running(tmp_path, "--delay", "30ms") as shop:
        for path in ("/", "/event/", "/health"):
            assert httpx.get(shop.url + path).status_code == 200
        slow, event, _ = shop.lines()
        assert slow["duration_s"] >= 0.03
        assert event["duration_s"] >= 0.03


def test_sigterm_lets_an_order_in_flight_finish(tmp_path):
    """Who was ordering when the shop was told to stop gets the order, and the exit code is still 0."""
    shop = Shop(tmp_path)
    address = httpx.URL(shop.url)
    place = (address.host, address.port)
    with socket.create_connection(place) as raw:
        raw.sendall(
            b"POST /event/order HTTP/1.1\r\nHost: shop\r\nAccept: application/json\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n\r\n"
        )
        assert raw.recv(1000).startswith(b"HTTP/1.1 100 ")  # the shop has begun to read the form
        shop.process.send_signal(signal.SIGTERM)
        while is_listening(place):
            pass
        raw.sendall(b"item=1")
        answer = b"".join(iter(lambda: raw.recv(10_000), b""))
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert shop.stop() == (0, "", "")
    assert [line["sold"] for line in shop.lines()] == [True]


def is_listening(place: tuple[str, int]) -> bool:
    """Say whether anybody accepts connections there."""
    try:
        socket.create_connection(place).close()
    except OSError:
        return False
    return True


def test_a_form_cut_short_sells_nothing_and_harms_nobody(tmp_path):
    """A visitor who leaves in the middle of sending leaves a line in the log and no order."""
    with running(tmp_path, "--stock", "5") as shop:
        address = httpx.URL(shop.url)
        with socket.create_connection((address.host, address.port)) as raw:
            raw.sendall(b"POST /event/order HTTP/1.1\r\nHost: shop\r\nContent-Length: 50\r\n\r\nitem=1")
        # The line of the next request cannot tell that the cut one has been noticed, so ask until it has.
        for _ in range(100):
            httpx.get(f"{shop.url}/health")
            cut = [line for line in shop.lines() if line["method"] == "POST"]
            if cut:
                break
        assert [(line["status"], line["sold"]) for line in cut] == [(499, False)]
        assert units_left(shop.database) == 5


def test_pages_need_nothing_from_elsewhere(client):
    """Every address on every page is the shop's own and answers, and nothing that may be hidden runs inline."""
    for page in ("/", "/products", "/products/1", "/products/2", "/event/", "/event/cart", "/nowhere"):
        answer = client.get(page)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not re.search(r"<style|style=|<script>|\son\w+=", answer.text)
        for address in re.findall(r'(?:src|href|action)="([^"#]+)"', answer.text):
            assert address.startswith("/")
            assert client.get(address).status_code in {200, 405}


def test_static_files_may_be_kept_for_ever(client):
    """A static file's address changes with its content, so a browser never asks for it twice."""
    sheet = re.search(r'href="(/static/shop\.[0-9a-f]{12}\.css)"', client.get("/").text)
    assert sheet is not None
    answer = client.get(sheet[1])
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--database", "not-a-database"], 1, "file is not a database"),
        (["--database", "missing/shop.db"], 1, "unable to open database file"),
        (["--log", "missing/shop.log"], 1, "cannot write the log missing/shop.log: No such file or directory"),
        (["--listen", "127.0.0.1:{taken}"], 1, "Address already in use"),
        (["--listen", "8000"], 2, "is not HOST:PORT"),
        (["--listen", "127.0.0.1:70000"], 2, "is not HOST:PORT"),
        (["--delay", "20"], 2, "is not a duration with its unit"),
        (["--stock", "-1"], 2, "is not a whole number"),
        (["--stock", "9999999999"], 2, "is not a whole number"),
    ],
)
def test_a_mistake_at_the_start_is_one_line(tmp_path, arguments, code, message):
    """A start that cannot work says why in words and never in a traceback."""
    (tmp_path / "not-a-database").write_text("this is a letter, not a database\n" * 50)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, FOLDER / "shop.py", "--listen", "127.0.0.1:0"]
            + [argument.format(taken=port) for argument in arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == code
    assert ended.stdout == ""
    assert message in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    if code == 1:
        assert len(ended.stderr.splitlines()) == 1


def test_a_database_of_a_later_version_is_left_alone(tmp_path):
    """A file that a newer shop wrote is refused, not guessed at."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("PRAGMA user_version = 2")
    shop = Shop(tmp_path)
    _, err = shop.process.communicate(timeout=15)
    assert (shop.line, shop.process.returncode) == ("", 1)
    assert "its format is 2, this program knows 1" in err
