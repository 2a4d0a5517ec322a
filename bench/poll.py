"""What a waiting visitor's question costs: ``me``, against nginx returning as many bytes that never change.

The visitor stands in a line of ``--waiting`` people, so the answer is one signature check and one position.
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request

from peers import Servers, arguments, compare

SIZES = (100, 10_000)


def join(port: int) -> str:
    """Take a place and return its ticket."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/.waitroom/launch/join", method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
        ticket: str = json.load(answer)["ticket"]
    return ticket


def main() -> None:
    """Run the rounds for a short and a long line, and print both tables."""
    options = arguments(__doc__.splitlines()[0])
    for waiting in SIZES:
        with tempfile.TemporaryDirectory() as folder, Servers(folder, options.nginx) as servers:
            waitroom = servers.waitroom("waitroom me", 1)
            for count in range(waiting):
                ticket = join(waitroom.port)
                if count % 1000 == 0 and sys.stderr.isatty():
                    print(f"joining {count:,}/{waiting:,}", end="\r", file=sys.stderr)
            headers = {"Cookie": f"waitroom_launch={ticket}"}
            body = "x" * 150
            nginx = servers.nginx("nginx return 200", f'location / {{ return 200 "{body}"; }}')
            target = "/.waitroom/launch/me"
            compare(f"poll, {waiting:,} in line", {nginx: (target, headers), waitroom: (target, headers)}, options)


if __name__ == "__main__":
    main()
