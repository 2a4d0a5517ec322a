"""The dashboard as it is sent: the rooms, one room, and the form to log in by.

Every page is whole without script, as of the moment it was asked for; the script then keeps it so. Style and script are
two files of ours under names that change with what is in them, and nothing else may be loaded or run, so that markup
that got in would do nothing. ``require-trusted-types-for`` also keeps our own script from making markup out of text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import jinja2
from markupsafe import Markup
from starlette.responses import Response

from waitroom import resources
from waitroom.admin.answers import HEADERS
from waitroom.admin.facts import view
from waitroom.admin.verbs import STILL, VERBS
from waitroom.admin.words import Level, consequences, shown, trouble
from waitroom.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from waitroom.admin.events import Look
    from waitroom.admin.sessions import Session
    from waitroom.model import RoomEvent

LOG_LINES_MAX: Final = 100
"""Of what was said, so much stands on a page."""

ASSETS: Final = {"dashboard.css": "text/css", "dashboard.js": "text/javascript"}

BUTTONS: Final[Sequence[tuple[str, Sequence[tuple[str, str]]]]] = (
    ("The line", (("hold", "Hold"), ("open", "Open"), ("message", "Message"))),
    ("The pace", (("rate", "People a minute"), ("active", "People inside"))),
    ("The end", (("stock", "Stock"), ("sold-out", "Sold out for good"), ("close", "Close"))),
    (
        "With care",
        (
            ("clear", "Back to configuration"),
            ("passthrough", "Let everyone in"),
            ("suspend", "Suspend the room"),
            ("reset", "Reset"),
        ),
    ),
)

_PAGE: Final = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; img-src data:; "


class Pages:
    """Makes the pages. Raises ``StartError`` when a template is missing or does not compile."""

    def __init__(self) -> None:
        folder = resources.find("templates") / "dashboard"
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["clock"] = clock
        try:
            files = {name: (folder / name).read_bytes() for name in ASSETS}
            self._templates = {name: environment.get_template(f"{name}.html") for name in ("login", "rooms", "room")}
        except (OSError, jinja2.TemplateError) as error:
            raise StartError(f"templates in {folder} cannot be used: {error}") from error
        self._assets = {_named(name, content): (content, ASSETS[name]) for name, content in files.items()}
        style = files["dashboard.css"].decode()
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        environment.globals.update(
            style=Markup(style),  # noqa: S704 - a file of ours, which the hash names byte by byte
            **{name.partition(".")[2]: f"/assets/{_named(name, content)}" for name, content in files.items()},
        )
        # A page with a form needs more of a referrer than none, or a browser sends the form with ``Origin: null``.
        self._login_headers = _headers(f"{_PAGE}style-src 'sha256-{digest}'")
        self._headers = _headers(
            f"{_PAGE}style-src 'self'; script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'"
        )

    def login(self, status: int, note: str = "") -> Response:
        """Return the form to log in by, with a sentence above it. ``note`` is ours, never what was sent."""
        content = self._templates["login"].render(note=note)
        return Response(content, status, headers=self._login_headers, media_type="text/html")

    def asset(self, name: str) -> Response | None:
        """Return a file of ours, which never changes under its name."""
        if name not in self._assets:
            return None
        content, kind = self._assets[name]
        headers = {**HEADERS, "Cache-Control": "private, max-age=31536000, immutable"}
        return Response(content, headers=headers, media_type=kind)

    def rooms(self, session: Session, look: Look, *, answered: bool) -> Response:
        """Return the overview. Not ``answered``: the look is of a while ago."""
        return self._page("rooms", session, look, look.lines, answered=answered, page="", told=overview(look)[1])

    def room(
        self,
        session: Session,
        look: Look,
        *,
        answered: bool,
        name: str,
        events: Sequence[RoomEvent],
        minutes: Sequence[Mapping[str, int | None]],
    ) -> Response:
        """Return one room's page, with its events and its last hour."""
        return self._page(
            "room",
            session,
            look,
            [line for line in look.lines if line["room"] == name],
            answered=answered,
            page=name,
            told=detail(look, name)[1],
            events=events,
            minutes=minutes,
            groups=[(title, [_button(verb, label) for verb, label in group]) for title, group in BUTTONS],
        )

    def _page(
        self,
        template: str,
        session: Session,
        look: Look,
        lines: Sequence[Mapping[str, Any]],
        *,
        answered: bool,
        page: str,
        **more: Any,
    ) -> Response:
        log = lines[: -LOG_LINES_MAX - 1 : -1]
        listen = f"/api/events?page={page}&since={look.upto}"
        content = self._templates[template].render(
            session=session, answered=answered, page=page, listen=listen, log=log, log_lines_max=LOG_LINES_MAX, **more
        )
        status, headers = (200, {}) if answered else (503, {"Retry-After": "1"})
        return Response(content, status, headers={**self._headers, **headers}, media_type="text/html")


def overview(look: Look) -> tuple[str, dict[str, Any]]:
    """Return the event that shows all rooms: their texts, what is wrong, and who needs an operator first."""
    rooms = [view(status) for status in look.rooms or ()]
    return "page", {
        "order": [room["room"] for room in sorted(rooms, key=lambda room: -trouble(room)[0])],
        "rooms": {room["room"]: shown(room) for room in rooms},
        "trouble": _in_trouble(rooms),
    }


def detail(look: Look, name: str) -> tuple[str, dict[str, Any]]:
    """Return the event that shows one room, what each verb would do to it, and what is wrong with others."""
    rooms = [view(status) for status in look.rooms or ()]
    room = next((room for room in rooms if room["room"] == name), None)
    if room is None:
        return "page", {"rooms": {}, "trouble": _in_trouble(rooms), "consequences": {}, "waiting": 0}
    return "page", {
        "rooms": {name: shown(room)},
        "trouble": _in_trouble(rooms),
        "consequences": consequences(room),
        "waiting": room["waiting"] + room["called"],
    }


def clock(at_ms: int) -> str:
    """Return an instant as a machine reads it; the script says it in the reader's own time."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _in_trouble(rooms: Sequence[Mapping[str, Any]]) -> list[str]:
    return [room["room"] for level in (Level.ALARM, Level.WATCH) for room in rooms if trouble(room)[0] is level]


def _button(name: str, label: str) -> dict[str, Any]:
    verb = VERBS[name]
    return {
        "name": name,
        "label": label,
        "says": json.dumps(dict(verb.says)),
        "setting": verb.setting,
        "path": f"/{name}" if verb.own else "",
        "asks": verb.asks,
        "still": json.dumps({state: STILL[state] for state in verb.not_in}),
    }


def _headers(policy: str) -> dict[str, str]:
    return {**HEADERS, "Content-Security-Policy": policy, "Referrer-Policy": "same-origin"}


def _named(name: str, content: bytes) -> str:
    stem, _, kind = name.partition(".")
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}.{kind}"
