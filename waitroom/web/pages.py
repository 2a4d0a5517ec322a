"""What a shopper sees while not being served, as ready bytes.

A view says everything a page shows, already decided; a template in ``templates/`` puts it into words. The waiting page
is sent in floods and differs between visitors only in a few numbers and an address, so a template is rendered once for
each *face* (what changes its words) with marks where those values go, and the result is cut at the marks. A *sheet* has
all of them put in that many have in common, so a visitor costs one join of bytes: some 2 microseconds where rendering
takes 150.

Safety rests on three rules. A template is cut before any visitor's value is near it, at marks that are random for each
process. Every value is a number, or is escaped as it is put in. Every address is made one of this host by
``local_url``.

The words are said in the visitor's language, which is one of the things that make a face (``web/catalogs.py``).

Style and scripts are constants, named by their hashes in ``csp``: markup that got in would still run nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import jinja2
import rcssmin
import rjsmin
from markupsafe import Markup, escape

from waitroom.errors import StartError
from waitroom.model import Refresh, VisitorState
from waitroom.web import catalogs
from waitroom.web.shorten import shortened, shortened_style

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_FACES_MAX = 512
"""Layouts kept, some 10 kB each. One room has about 30 in use in a language; what no longer fits is rendered again."""

_SHEETS_MAX = 512
"""Sheets kept, some 2 kB each: one for every state and interval that people are told."""

_HOURS_FROM_S = 5400
"""Beyond an hour and a half minutes pretend to know more than anyone does."""

_MINUTES_FROM_S = 120

_TEMPLATES = ("waiting", "full", "closed", "error", "notice", "form", "invite")

_PRINTABLE = "".join(map(chr, range(ord("!"), ord("~") + 1)))

_LOCAL = re.compile(r"/(?![/\\])[!-~]*")

_INPUT = '<input type="hidden" name="{}" value="{}">'

_MARKS = (
    "number",
    "place",
    "ahead",
    "low",
    "high",
    "time",
    "refresh_s",
    "message",
    "page_url",
    "claim_by",
    "opens",
    "raw_number",
    "raw_ahead",
    "raw_wait",
    "trail",
    "inputs",
)


_OWN = ("number", "ahead", "low", "high", "raw_number", "raw_ahead", "raw_wait", "page_url")
"""The marks where a waiting visitor's own values go, in the order in which ``Sheet.page`` has them."""


class Notice(StrEnum):
    """What a notice is about."""

    FORM = "form"
    """A form of another site's page was not sent on, and cannot be."""

    BUSY = "busy"
    """Too many joins from one client: no place was made; the page tries again."""

    LEFT = "left"
    """The visitor gave up the place."""

    SPENT = "spent"
    """An invitation that is not good: used, over, or none of ours."""

    NOBODY = "nobody"
    """Places belong to accounts, and nobody is signed in."""

    AWAY = "away"
    """No place can be given at the moment, because it could not be kept; the page tries again."""


@dataclass(frozen=True, slots=True)
class WaitingView:
    """One visitor's place in line.

    ``ahead`` is None while nobody can tell; ``wait_s`` is the shortest and longest wait to be expected. The page asks
    again after ``refresh_s`` and up to ``jitter`` of it more. ``page_url`` is the path and query to go to at the turn,
    ``me_url`` the path to ask, ``leave_url`` the path a form is posted to (None: no such button). ``claim_by`` is in
    milliseconds of store time. ``form_note`` says that the visitor's form was not sent. ``opens_s`` is in how many
    seconds the line opens, while people gather. ``place`` is the drawn one; ``undrawn``: it is still to be drawn;
    ``at_random``: people are called in no order.
    """

    room: str
    state: VisitorState
    number: int
    ahead: int | None
    wait_s: tuple[int, int] | None
    refresh_s: int
    page_url: str
    me_url: str
    leave_url: str | None = None
    message: str | None = None
    claim_by: int | None = None
    form_note: bool = False
    jitter: float = Refresh().jitter
    opens_s: int | None = None
    place: int | None = None
    undrawn: bool = False
    at_random: bool = False


@dataclass(frozen=True, slots=True)
class FullView:
    """The line takes nobody more; the page tries ``page_url`` again after ``retry_s``."""

    page_url: str
    retry_s: int
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ClosedView:
    """Nobody is let in: the room is closed, or lets nobody wait (``rejected``). Not tried again by itself."""

    page_url: str
    state: str = VisitorState.REJECTED
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorView:
    """The shop does not answer. ``retry_s`` None: not tried again by itself, as what was sent is not safe to repeat."""

    page_url: str
    retry_s: int | None
    place_kept: bool = False


@dataclass(frozen=True, slots=True)
class NoticeView:
    """A few words and a way on. ``retry_s`` is None where the page waits for the visitor."""

    kind: Notice
    page_url: str
    retry_s: int | None = None


@dataclass(frozen=True, slots=True)
class FormView:
    """A form that another site's page sent, to be sent once more from here.

    ``fields`` are names and values as they stand in a page of windows-1252, ``page_url`` is where they go, and
    ``trail`` is the page's own address while it sends them.
    """

    page_url: str
    trail: str
    fields: Sequence[tuple[str, str]]


class _Face(NamedTuple):
    """What changes the words of a page, apart from the values put in: the key of a layout.

    A tuple because one is made for every page, in a third of the time.
    """

    language: str
    room: str = ""
    state: str = ""
    ahead: str = ""
    wait: str = ""
    time: str = ""
    message: bool = False
    form_note: bool = False
    retry: bool = False
    place_kept: bool = False
    jitter: float = Refresh().jitter
    me_url: str = ""
    leave_url: str | None = None
    drawn: bool = False
    undrawn: bool = False
    at_random: bool = False


_Said = tuple[str, int, str, int | None, int | None, int | None]
"""What a sheet puts in: time, refresh_s, message, claim_by, opens_s, place."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """A page cut at its marks: the bytes around them, and which value goes into each cut."""

    around: tuple[bytes, ...]
    marks: tuple[str, ...]

    def fill(self, values: Mapping[str, object]) -> bytes:
        """Return the page with every value in its place, escaped."""
        return b"".join(self.parts(values))

    def parts(self, values: Mapping[str, object]) -> list[bytes]:
        """Return the page in parts: the bytes around the marks, and at each the value, escaped.

        The values are escaped together, a line each: a call for each would cost more than all the rest. A value of two
        lines is a mistake of the caller's: ``ValueError``.
        """
        parts = [b""] * (2 * len(self.marks) + 1)
        parts[::2] = self.around
        if self.marks:
            lines = "\n".join([str(values[mark]) for mark in self.marks])
            parts[1::2] = escape(lines).encode(errors="replace").split(b"\n")
        return parts


class Sheet:
    """The waiting page of all who are told the same, but for their number, the people ahead, the wait, and the address.

    ``Pages.sheet`` makes it. Numbers need no escaping, and an address is escaped as it is put in; the rest was escaped
    when it was made. The bytes around them are those of the layout, so a sheet is a few pointers.
    """

    __slots__ = ("_kinds", "_lay_out", "_opens", "_values")

    def __init__(
        self, lay_out: Callable[[str, str], _Layout], values: Mapping[str, object], opens_s: int | None
    ) -> None:
        self._lay_out = lay_out
        self._values = values
        self._opens = None if opens_s is None else _clock(opens_s)
        self._kinds: dict[tuple[str, str], tuple[list[bytes], list[tuple[int, int]]]] = {}

    def page(self, number: int, ahead: int | None, wait_s: tuple[int, int] | None, page_url: str) -> bytes:
        """Return one visitor's page."""
        wait, low, high = _wait(wait_s) if self._opens is None else ("opens", 0, self._opens)
        kind = (_ahead(ahead), wait)
        found = self._kinds.get(kind)
        if found is None:
            layout = self._lay_out(*kind)
            slots = [(2 * at + 1, _OWN.index(mark)) for at, mark in enumerate(layout.marks) if mark in _OWN]
            found = self._kinds[kind] = (layout.parts(self._values), slots)
        own = (
            f"{number:,}".encode(),
            b"" if ahead is None else f"{ahead:,}".encode(),
            b"%d" % low,
            high.encode() if isinstance(high, str) else b"%d" % high,
            b"%d" % number,
            b"" if ahead is None else b"%d" % ahead,
            b"" if wait_s is None else b"%d %d" % wait_s,
            escape(local_url(page_url)).encode(),
        )
        parts, slots = found
        for at, index in slots:  # all that differs is put in anew, so nothing of the visitor before is left
            parts[at] = own[index]
        return b"".join(parts)


class Pages:
    """The pages of a folder of templates, compiled once. Safe to share; every method returns a whole document.

    ``own_dir`` is an operator's folder, whose files stand in for those of the same name; as ``ours/NAME`` the replaced
    ones can still be extended. ``languages`` are those that the pages can speak. ``csp`` is the value of the
    ``Content-Security-Policy`` all of them are to be sent with, but for the form's and the invite's, which have
    ``form_csp``.
    """

    def __init__(self, templates_dir: Path, own_dir: Path | None = None) -> None:
        """Raise ``StartError`` when a template or a catalogue is missing, or cannot be used."""
        folders = [templates_dir] if own_dir is None else [own_dir, templates_dir]
        ours = jinja2.FileSystemLoader(templates_dir)
        environment = jinja2.Environment(
            loader=jinja2.ChoiceLoader([jinja2.FileSystemLoader(folders), jinja2.PrefixLoader({"ours": ours})]),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        # Not ASCII alone: a character of Korean would take six bytes instead of three.
        environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
        try:
            self._templates = {name: environment.get_template(f"{name}.html") for name in _TEMPLATES}
            style = shortened_style(rcssmin.cssmin(_text(folders, "page.css")))
            waiting, retry, form = (_script(folders, f"{name}.js") for name in ("waiting", "retry", "form"))
        except (OSError, UnicodeDecodeError, jinja2.TemplateError) as error:
            raise StartError(f"templates in {folders[0]} cannot be used: {_where(error)}") from error
        self._say = catalogs.find(folders[::-1])
        self.languages = frozenset(self._say)
        # Markup, as escaping would break the code, and constant, as the hashes below name these very bytes.
        scripts = {"waiting_script": waiting, "retry_script": retry, "form_script": form}
        environment.globals.update({name: Markup(code) for name, code in {"style": style, **scripts}.items()})  # noqa: S704  files of ours, no input
        # A shop's own templates may show its own pictures and letters, from its own host.
        shown = "img-src data:" if own_dir is None else "img-src 'self' data:; font-src 'self'"
        self.csp = (
            f"default-src 'none'; style-src {_source(style)}; script-src {_source(waiting)} {_source(retry)}; "
            f"{shown}; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
        ).encode()
        # No form-action: Chromium holds it against the shop's answer too, and shops redirect a payment's return, or
        # their own front page, to other hosts and to apps. Where the form goes stands in the page, as an
        # address of this host.
        self.form_csp = (
            f"default-src 'none'; style-src {_source(style)}; script-src {_source(form)}; {shown}; "
            "base-uri 'none'; frame-ancestors 'self'"
        ).encode()
        token = secrets.token_hex(16)
        self._fill = {name: f"\ue000{token}{name}\ue001" for name in _MARKS}
        self._mark = re.compile(f"\ue000{token}([a-z_]+)\ue001")
        self._inputs = token.encode()
        self._layout = lru_cache(_FACES_MAX)(self._lay_out)
        self._sheet = lru_cache(_SHEETS_MAX)(self._make_sheet)

    def waiting(self, view: WaitingView, language: str = catalogs.SOURCE) -> bytes:
        """Return the waiting page."""
        return self.sheet(view, language).page(view.number, view.ahead, view.wait_s, view.page_url)

    def sheet(self, view: WaitingView, language: str = catalogs.SOURCE) -> Sheet:
        """Return the page of all who are told what ``view`` says, whatever is their own of it."""
        message = _one_line(view.message)
        unit, time = _time(view.refresh_s)
        face = _Face(
            language,
            room=view.room,
            state=view.state,
            time=unit,
            message=bool(message),
            form_note=view.form_note,
            jitter=view.jitter,
            me_url=view.me_url,
            leave_url=view.leave_url,
            drawn=view.place is not None,
            undrawn=view.undrawn,
            at_random=view.at_random,
        )
        return self._sheet(face, (time, view.refresh_s, message, view.claim_by, view.opens_s, view.place))

    def full(self, view: FullView, language: str = catalogs.SOURCE) -> bytes:
        """Return the page for those for whom there is no place in the line."""
        return self._plain("full", _Face(language), view.page_url, view.retry_s, view.message)

    def closed(self, view: ClosedView, language: str = catalogs.SOURCE) -> bytes:
        """Return the page for those who can neither enter nor wait."""
        return self._plain("closed", _Face(language, state=view.state), view.page_url, None, view.message)

    def error(self, view: ErrorView, language: str = catalogs.SOURCE) -> bytes:
        """Return the page that stands in for a shop that does not answer."""
        return self._plain("error", _Face(language, place_kept=view.place_kept), view.page_url, view.retry_s)

    def notice(self, view: NoticeView, language: str = catalogs.SOURCE) -> bytes:
        """Return a page of a few words."""
        return self._plain("notice", _Face(language, state=view.kind), view.page_url, view.retry_s)

    def invite(self, page_url: str, language: str = catalogs.SOURCE) -> bytes:
        """Return the page of an invitation: a button, because whoever looks at a link must not use it up."""
        return self._plain("invite", _Face(language), page_url, None)

    def form(self, view: FormView, language: str = catalogs.SOURCE) -> bytes:
        """Return the page that sends a form once more: by itself with script, by a button without."""
        values = {"page_url": local_url(view.page_url), "trail": view.trail, "inputs": self._inputs.decode()}
        inputs = "".join([_INPUT.format(escape(name), escape(value)) for name, value in view.fields])
        # The parser of a page makes every line end an LF; written as references they stay what they are.
        marked = inputs.replace("\r\n", "&#13;&#10;").encode()
        return self._layout("form", _Face(language)).fill(values).replace(self._inputs, marked, 1)

    def _plain(self, name: str, face: _Face, page_url: str, retry_s: int | None, message: str | None = None) -> bytes:
        unit, time = _time(retry_s or 0)
        line = _one_line(message)
        face = face._replace(time=unit, retry=retry_s is not None, message=bool(line))
        values = {"page_url": local_url(page_url), "refresh_s": retry_s or 0, "time": time, "message": line}
        return self._layout(name, face).fill(values)

    def _make_sheet(self, face: _Face, said: _Said) -> Sheet:
        time, refresh_s, message, claim_by, opens_s, place = said
        values = {
            **dict.fromkeys(_OWN, ""),  # which ``Sheet.page`` puts in
            "place": "" if place is None else f"{place:,}",
            "time": time,
            "refresh_s": refresh_s,
            "message": message,
            "claim_by": "" if claim_by is None else claim_by,
            "opens": "" if opens_s is None else opens_s,
        }

        def lay_out(ahead: str, wait: str) -> _Layout:
            return self._layout("waiting", face._replace(ahead=ahead, wait=wait))

        return Sheet(lay_out, values, opens_s)

    def _lay_out(self, name: str, face: _Face) -> _Layout:
        page = self._mark.split(self._templates[name].render(view=face, fill=self._fill, _=self._say[face.language]))
        return _Layout(tuple(text.encode() for text in page[::2]), tuple(page[1::2]))


def local_url(target: str) -> str:
    r"""Return a request's path and query as an address that cannot leave this host, whatever it holds.

    ``//other`` names another host to a browser, and so does ``/\other``; behind ``/.`` both are paths again, and the
    same ones. Control bytes, which browsers drop, and bytes beyond ASCII (as Latin-1) are percent-encoded. What does
    not begin with a slash is no path and becomes ``/``.
    """
    if _LOCAL.fullmatch(target):
        return target
    if not target.startswith("/"):
        return "/"
    path = quote(target, safe=_PRINTABLE, encoding="latin-1", errors="replace")
    return path if _LOCAL.fullmatch(path) else f"/.{path}"


def problem(
    status: int, title: str, detail: str, join_url: str | None = None, retry_after_s: int | None = None
) -> bytes:
    """Return the body of an ``application/problem+json`` answer (RFC 9457), for clients that read no pages.

    ``join_url`` is where to join the line; ``retry_after_s`` repeats the ``Retry-After`` header.
    """
    members = {"title": title, "status": status, "detail": detail, "join_url": join_url, "retry_after_s": retry_after_s}
    return json.dumps({name: value for name, value in members.items() if value is not None}).encode()


def _text(folders: Sequence[Path], name: str) -> str:
    """Return a style sheet or script: the one of the first folder that has it."""
    path = next((path for folder in folders if (path := folder / name).exists()), folders[-1] / name)
    return path.read_text("utf-8")


def _script(folders: Sequence[Path], name: str) -> str:
    """Return a script without what only its reader needs. An operator's own keeps its names."""
    code = rjsmin.jsmin(_text(folders, name))
    return code if any((folder / name).exists() for folder in folders[:-1]) else shortened(code)


def _where(error: Exception) -> str:
    """Return what is wrong with a template, and in which line where that is known."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"{error.name or 'a template'}, line {error.lineno}: {error.message}"
    return f"{error} is missing" if isinstance(error, jinja2.TemplateNotFound) else str(error)


def _one_line(message: str | None) -> str:
    return " ".join(message.split()) if message else ""


def _source(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def _ahead(ahead: int | None) -> str:
    """Return which sentence counts the people ahead. The script's ``paint`` has its twin."""
    return "unknown" if ahead is None else "one" if ahead == 1 else "many"


def _clock(time_s: int) -> str:
    """Return a time to count down, of less than a day. The script's ``left`` is its twin."""
    return f"{time_s // 3600:02}:{time_s // 60 % 60:02}:{time_s % 60:02}"


def _wait(wait_s: tuple[int, int] | None) -> tuple[str, int, int | str]:
    """Return which sentence tells the wait, and its two numbers. The script's ``waitIn`` is its twin."""
    if wait_s is None:
        return "unknown", 0, 0
    low_s, high_s = wait_s
    unit, size_s = ("minutes", 60) if high_s <= _HOURS_FROM_S else ("hours", 3600)
    low = low_s // size_s
    high = max(-(-high_s // size_s), low)
    if high <= 1:
        return "moment", 0, 0
    if low == 0:
        return f"{unit}_upto", low, high
    return (unit if low == high else f"{unit}_range"), low, high


def _time(time_s: int) -> tuple[str, str]:
    """Return which unit tells a short time, and its number. The script's ``timeIn`` is its twin."""
    if time_s >= _MINUTES_FROM_S:
        return "minutes", f"{(time_s + 30) // 60:,}"
    return ("second" if time_s <= 1 else "seconds"), str(max(1, time_s))
