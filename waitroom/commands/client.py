"""The way to the admin listener: where it is, what opens it, and its refusals as sentences."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from waitroom import config
from waitroom.admin.token import load_token
from waitroom.errors import CommandError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from waitroom.model import Admin

PATIENCE_S = 10.0
"""The store's own patience and that of a busy machine; who waits longer looks at the log."""


class AdminClient:
    """An operator at the admin listener. Every call raises ``CommandError`` with a sentence when it cannot be done."""

    def __init__(self, url: str, token_file: Path) -> None:
        self._url = url
        self._token_file = token_file
        token = load_token(token_file, make=False)
        headers = {b"Authorization": b"Bearer " + token.encode(), b"Waitroom-Operator": _user().encode()}
        # What the environment says of proxies is for the world outside: the token is not sent there.
        self._http = httpx.Client(base_url=_judged(url), headers=headers, timeout=PATIENCE_S, trust_env=False)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the connection."""
        self._http.close()

    def rooms(self) -> list[dict[str, Any]]:
        """Return every room."""
        rooms: list[dict[str, Any]] = self._ask("GET", "/api/rooms")["rooms"]
        return rooms

    def room(self, name: str) -> dict[str, Any]:
        """Return one room."""
        return self._ask("GET", _path(name))

    def log(self, name: str) -> list[dict[str, Any]]:
        """Return what was said to a room, the oldest first."""
        log: list[dict[str, Any]] = self._ask("GET", f"{_path(name)}/log")["log"]
        return log

    def history(self, name: str) -> dict[str, Any]:
        """Return a room's last hour, in steps of five seconds."""
        return self._ask("GET", f"{_path(name)}/history")

    def be_patient_for(self, seconds: float) -> None:
        """Wait for an answer for so long from now on."""
        self._http.timeout = httpx.Timeout(seconds)

    def drawn(self, name: str) -> dict[str, Any]:
        """Return the draw of a room's event, as ``commands/drawing.py`` publishes it."""
        return self._ask("GET", f"{_path(name)}/draw")

    def say(self, name: str, said: Mapping[str, Any], verb: str = "") -> dict[str, Any]:
        """Say settings over a room's configuration, or do ``reset`` or ``clear``. Return the room as it is then."""
        return self._ask("POST", f"{_path(name)}/{verb}" if verb else _path(name), said)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.ConnectError:
            raise CommandError(f"nothing answers at {self._url}; is `waitroom serve` running?") from None
        except httpx.TransportError as error:
            raise CommandError(f"{self._url} does not answer: {error or type(error).__name__}") from None
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise CommandError(f"{self._token_file}: this is not the token of what listens at {self._url}")
        try:
            stated = answer.json()
            message = None if answer.is_success else stated["message"]
        except (ValueError, LookupError, TypeError):
            raise CommandError(f"what answers at {self._url} is no admin listener of ours") from None
        if message is not None:
            raise CommandError(message)
        found: dict[str, Any] = stated
        return found


def find(admin: str | None, token_file: Path | None, file: Path | None) -> AdminClient:
    """Return a client of the listener at the URL ``admin``, or of the one that the configuration states.

    ``file`` None is the one named in the environment, or ``config/waitroom.yaml``. Raises ``WaitroomError``.
    """
    if admin is not None and token_file is not None:
        return AdminClient(admin, token_file)
    stated = _stated(file or Path(os.environ.get("WAITROOM_CONFIG") or "config/waitroom.yaml"))
    if admin is None and not stated.listen.port:
        raise CommandError("admin.listen leaves the port to the system, which the log names; say it: --admin URL")
    return AdminClient(admin or f"http://{stated.listen}", token_file or stated.token_file)


def _judged(url: str) -> httpx.URL:
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        found = httpx.URL()
    if found.scheme not in ("http", "https") or not found.host:
        raise CommandError(f"--admin {url}: is no address; write http://127.0.0.1:9090")
    return found


def _stated(file: Path) -> Admin:
    try:
        return config.load(file, os.environ).admin
    except ConfigError as error:
        # An operator in a hurry may have a file that is half edited; what runs is reached all the same.
        more = f" (and {len(error.mistakes) - 1} more)" if len(error.mistakes) > 1 else ""
        hint = "where to ask can be said by --admin URL and --token-file FILE"
        raise CommandError(f"{error.mistakes[0]}{more}; {hint}") from None


def _user() -> str:
    """Return who we are to the system, for the room's log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return f"user {os.getuid()}"


def _path(room: str) -> str:
    return f"/api/rooms/{quote(room, safe='')}"
