"""``waitroom invite``: links by which people join the line of the invited, each once.

An invite is a signed statement, as a ticket is: nothing is asked of the running house, and nothing stands in its record
until it is used. So anybody with the signing keys can invite, and nobody else.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import time
from pathlib import Path
from urllib.parse import urlsplit

from waitroom import config, keys
from waitroom.config.values import duration
from waitroom.core.tokens import Keyring
from waitroom.errors import CommandError
from waitroom.model import Invite

ID_BYTES = 8
COUNT_MAX = 100_000

EPILOG = """\
examples:
  waitroom invite launch --config waitroom.yaml --url https://shop.example
  waitroom invite launch --config waitroom.yaml --url https://shop.example --count 50 --expires 24h

Each link is for one person and works once: whoever opens it first and presses the button has it. With a place in line
already, that one is kept. The invited are called at up to `priority.share` of the calls, in the order in which they
used their links, and besides at their turn in the line. Retiring the signing key ends the links that it signed.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "invite",
        help="make links by which people join the line of the invited",
        description="Print links for a room with `priority`, one a line.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("room", metavar="ROOM", help="the room's name")
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the configuration, YAML")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="how many (default 1)")
    parser.add_argument("--expires", default="2h", metavar="TIME", help="for how long they are good (default 2h)")
    parser.add_argument("--url", metavar="URL", help="where the shop is reached (default: http:// and `listen`)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_invite)


def _invite(options: argparse.Namespace) -> int:
    settings = config.load(options.config, os.environ)
    room = next((room for room in settings.rooms if room.name == options.room), None)
    if room is None:
        known = ", ".join(room.name for room in settings.rooms) or "none"
        raise CommandError(f"there is no room {options.room}; there are: {known}")
    if room.priority is None:
        raise CommandError(f"{room.name} has no line for the invited; write priority: {{share: 0.2}} in it, and reload")
    if not 1 <= options.count <= COUNT_MAX:
        raise CommandError(f"--count {options.count}: write 1 to {COUNT_MAX}")
    try:
        expires_s = duration(options.expires)
    except ValueError as error:
        raise CommandError(f"--expires: {error}") from None
    base = _base(options.url or f"http://{settings.listen}")
    keyring = Keyring(keys.load(settings.secret_keys_file, os.environ, make=False))
    until_ms = int((time.time() + expires_s) * 1000)
    links = []
    for _ in range(options.count):
        text = keyring.sign_invite(Invite(room.name, secrets.token_hex(ID_BYTES), until_ms))
        links.append(f"{base}/.waitroom/{room.name}/invite?code={text}")
    if options.json:
        print(json.dumps({"room": room.name, "until_ms": until_ms, "links": links}))
    else:
        print("\n".join(links))
    return 0


def _base(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise CommandError(f"--url {url}: is no address; write https://shop.example")
    if parts.path not in ("", "/"):
        raise CommandError(f"--url {url}: has a path; links begin at the host, so write https://{parts.netloc}")
    return url.rstrip("/")
