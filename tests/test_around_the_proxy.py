"""Going around the proxy gains nothing: a running house, shops that verify, and visitors who know the shop's address.

The shops are real servers: an ASGI application under uvicorn and a WSGI one under wsgiref, each behind the middleware
of ``waitroom/origin.py``, with the key that ``waitroom keys assertion`` printed.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx
import pytest
import uvicorn
from house import DOCUMENT, House, RecordingOrigin, Visitor, running

from waitroom.core.tokens import key_id
from waitroom.origin import (
    AsgiAssertionMiddleware,
    InvalidAssertion,
    WsgiAssertionMiddleware,
    verify_assertion,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "Waitroom-Assertion"


def command(house: House, *arguments: str) -> str:
    """Run a ``waitroom keys`` command for a house, and return what it printed."""
    line = [sys.executable, "-m", "waitroom.cli", "keys", *arguments, "--config", str(house.config)]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout


def key_of(house: House) -> str:
    """Return the key that the shop gets: alone on the last line."""
    return command(house, "assertion").splitlines()[-1]


def key_beforehand(folder: Path) -> str:
    """Return the key of a house that is still to be started: its shop needs it first."""
    return key_of(House(folder, SimpleNamespace(port=1), {}, {}))


@pytest.fixture
def origin() -> Iterator[RecordingOrigin]:
    """An origin that remembers every request."""
    recording = RecordingOrigin()
    recording.start()
    yield recording
    recording.stop()


# --- what the shop gets ---------------------------------------------------------------------------------------------


def test_every_request_with_a_pass_carries_its_own_assertion(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Method, host and target as the shop got them, byte for byte, and the visitor the other headers speak of."""
    with running(tmp_path, origin) as house:
        visitor, key = Visitor(house), key_of(house)
        visitor.event()
        visitor.get("/event/a%2Fb//c;d?x=%20&y=1;2", headers={"Host": "Shop.Example:81"})
        visitor.post("/event/order?unit=1", content=b"body")
        visitor.head("/event/?")
        visitor.get("/event/socket", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        with socket.create_connection(("127.0.0.1", house.port)) as raw:
            cookie = f"waitroom_launch={visitor.token()}"
            target = f"http://127.0.0.1:{house.port}/event/absolute"
            raw.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{house.port}\r\nCookie: {cookie}\r\n\r\n".encode())
            raw.recv(1024)
        assert len(origin.seen) == 6
        for seen in origin.seen:
            request = {"method": seen.method, "host": seen.header("Host"), "target": seen.target}
            stated = verify_assertion(seen.header(NAME), key, **request)
            assert stated.room == seen.header("Waitroom-Room") == "launch"
            assert str(stated.number) == seen.header("Waitroom-Number") == "1"
            assert stated.visitor == seen.header("Waitroom-Visitor")
            assert str(stated.admitted_at_ms) == seen.header("Waitroom-Admitted-At")
            for other in origin.seen:
                if other is not seen:
                    with pytest.raises(InvalidAssertion, match="other-"):
                        verify_assertion(other.header(NAME), key, **request)
        assert origin.seen[-1].target == "/event/absolute"


def test_no_assertion_comes_from_outside(tmp_path: Path, origin: RecordingOrigin) -> None:
    """With a pass the shop gets ours and no other; without one, none, however it is spelled."""
    forged = {NAME: "1;forged", "waitroom_assertion": "1;forged", "WAITROOM.Assertion": "1;forged"}
    with running(tmp_path, origin, {"bypass": [{"path": "/event/assets/"}]}) as house:
        visitor = Visitor(house, **forged)
        visitor.event()
        visitor.get("/ordinary")
        visitor.get("/event/assets/a.css")
        told = [[value for name, value in seen.headers if "assertion" in name.lower()] for seen in origin.seen]
        assert [len(values) for values in told] == [1, 0, 0]
        assert verify_assertion(told[0][0], key_of(house)).number == 1


def test_the_browser_never_sees_one(tmp_path: Path, origin: RecordingOrigin) -> None:
    """What a careless shop sends back of it stays with us: nobody outside has one to replay."""
    origin.answer = origin.answer.replace(b"Content-Type", b"Waitroom-Assertion: 1;echoed\r\nContent-Type")
    with running(tmp_path, origin) as house:
        assert NAME not in Visitor(house).event().headers


def test_a_new_key_loses_no_place_and_signs_from_the_next_start(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Who waits and who is inside goes on with what the old key signed; the shop knows both keys beforehand."""
    with running(tmp_path, origin, {"total_active_users": 1}) as house:
        inside, waiting = Visitor(house), Visitor(house)
        assert inside.is_in()
        assert waiting.event().headers["waitroom-state"] == "waiting"
        assert waiting.me()["number"] == 2
        old, new = (line.split()[0] for line in (command(house, "list").splitlines()[1], command(house, "new")))
        keys = command(house, "assertion").split()
        assert [key[:8] for key in keys] == [old, new]
        house.stop()
        house.start()
        assert inside.is_in(), "a pass of the old key is worth nothing"
        assert waiting.me()["number"] == 2, "the place was lost"
        assert new in waiting.token(), "a ticket of the old key is signed anew"
        later = Visitor(house)
        later.event()
        assert new in later.token()
        assert verify_assertion(origin.seen[-1].header(NAME), keys, target="/event/").number == 1
        assert [seen.header(NAME).split(";")[1] for seen in origin.seen] == [old, new]
        secrets = (tmp_path / "var" / "keys").read_text().split()
        assert {key_id(secret) for secret in secrets} >= {old, new}
        assert not [secret for secret in secrets if len(secret) > 60 and secret in house.log.read_text()]


# --- shops that verify ----------------------------------------------------------------------------------------------


async def asgi_shop(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the number of whoever came."""
    body = f"shop {scope['state']['waitroom'].number}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def wsgi_shop(environ: Any, start_response: Any) -> list[bytes]:
    """Answer with the number of whoever came."""
    body = f"shop {environ['waitroom.statement'].number}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@contextmanager
def under_uvicorn(keys: list[str], seen: list[dict[str, Any]]) -> Iterator[int]:
    """Run the ASGI shop; give its port. ``seen`` gets the headers that came, before anything was judged."""
    guarded = AsgiAssertionMiddleware(asgi_shop, keys)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await guarded(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, ws="none"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(10)


class Quiet(WSGIRequestHandler):
    """Writes no access log."""

    def log_message(self, *_: Any) -> None:
        """Keep still."""


@contextmanager
def under_wsgiref(keys: list[str], seen: list[dict[str, Any]]) -> Iterator[int]:
    """Run the WSGI shop; give its port. ``seen`` as above."""
    guarded = WsgiAssertionMiddleware(wsgi_shop, keys)

    def app(environ: Any, start_response: Any) -> Any:
        ours = {name.removeprefix("HTTP_").replace("_", "-").lower(): value for name, value in environ.items()}
        seen.append(ours)
        return guarded(environ, start_response)

    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("shop", [under_uvicorn, under_wsgiref])
def test_going_around_the_proxy_gains_nothing(tmp_path: Path, shop: Any) -> None:
    """Through the proxy a visitor gets in; past it nobody does, whatever assertion they got hold of."""
    seen: list[dict[str, Any]] = []
    with shop([key_beforehand(tmp_path)], seen) as port, running(tmp_path, SimpleNamespace(port=port)) as house:
        visitor = Visitor(house)
        assert visitor.event().text == "shop 1"
        assert visitor.get("/event/%EA%B0%80?x=%2F&y").text == "shop 1"
        assert visitor.get("/event/?").text == "shop 1"

        assertion, host = seen[0]["waitroom-assertion"], f"127.0.0.1:{house.port}"
        fields = assertion.split(";")
        fields[3] = "2"

        def around(path: str = "/event/", method: str = "GET", **headers: str) -> int:
            spoofed = {"Host": host, "Waitroom-Number": "1", "Waitroom-Visitor": "me", **DOCUMENT}
            with httpx.Client(trust_env=False) as client:
                return client.request(method, f"http://127.0.0.1:{port}{path}", headers=spoofed | headers).status_code

        assert around(**{NAME: assertion}) == 200, "the same request within its minute is the same request"
        assert around() == 403
        assert around(**{NAME: ";".join(fields)}) == 403
        assert around(**{NAME: assertion[:-1]}) == 403
        assert around(**{NAME: f"{assertion},{assertion}"}) == 403
        assert around(**{NAME: assertion, "waitroom_assertion": assertion}) == 403
        assert around(**{NAME: assertion, "Host": "other.example"}) == 403
        assert around("/event/order", **{NAME: assertion}) == 403
        assert around("/event/?x", **{NAME: assertion}) == 403
        assert around("/event/%65", **{NAME: assertion}) == 403
        assert around(method="POST", **{NAME: assertion}) == 403
        assert around(method="HEAD", **{NAME: assertion}) == 403
        assert around("/", **{NAME: assertion}) == 403
        assert around(Cookie=f"waitroom_launch={visitor.token()}", **{"Waitroom-Pass": visitor.token()}) == 403


@pytest.mark.parametrize("shop", [under_uvicorn, under_wsgiref])
def test_a_key_that_is_no_longer_known_opens_nothing(tmp_path: Path, shop: Any) -> None:
    """A shop that was given the new key alone refuses what the proxy still signs with the old one."""
    with (
        shop(["00000000" + key_beforehand(tmp_path)[8:]], []) as port,
        running(tmp_path, SimpleNamespace(port=port)) as house,
    ):
        answer = Visitor(house).event()
        assert (answer.status_code, "unknown-key" in answer.text) == (403, True)
