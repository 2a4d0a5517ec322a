"""What every page of ours promises, read from its bytes alone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitroom.errors import StartError
from waitroom.model import VisitorState
from waitroom.web import samples
from waitroom.web.pages import (
    ClosedView,
    ErrorView,
    FormView,
    FullView,
    Notice,
    NoticeView,
    Pages,
    WaitingView,
    _ahead,
    _clock,
    _time,
    _wait,
    local_url,
    problem,
)

TEMPLATES = Path(__file__).parents[2] / "templates"
PAGES = Pages(TEMPLATES)

LINE = WaitingView(
    room="launch",
    state=VisitorState.WAITING,
    number=1204,
    ahead=312,
    wait_s=(240, 420),
    refresh_s=12,
    page_url="/event/?a=1&b=2",
    me_url="/.waitroom/launch/me",
    leave_url="/.waitroom/launch/leave",
    message="Size 270 is sold out.",
)

EVERY_PAGE = {
    **{f"waiting-{state}": PAGES.waiting(replace(LINE, state=state)) for state in VisitorState},
    "waiting-form": PAGES.waiting(replace(LINE, form_note=True, leave_url=None, message=None, ahead=None, wait_s=None)),
    "waiting-undrawn": PAGES.waiting(
        replace(LINE, state=VisitorState.PREQUEUE, undrawn=True, ahead=None, wait_s=None, opens_s=86_000)
    ),
    "waiting-random": PAGES.waiting(replace(LINE, ahead=None, at_random=True)),
    "waiting-drawn": PAGES.waiting(replace(LINE, place=300_000)),
    "invite": PAGES.invite("/.waitroom/launch/invite?code=i.1"),
    "full": PAGES.full(FullView("/event/", 30, "We are sorry.")),
    "rejected": PAGES.closed(ClosedView("/event/")),
    "closed": PAGES.closed(ClosedView("/event/", "closed")),
    "error": PAGES.error(ErrorView("/event/", 20, place_kept=True)),
    "error-once": PAGES.error(ErrorView("/event/", None)),
    "form": PAGES.form(FormView("/event/?a=1&b=2", "/.waitroom/launch/form?a&b", [("a", "1"), ("b", "")])),
    **{f"notice-{kind}": PAGES.notice(NoticeView(kind, "/event/", 10)) for kind in Notice},
}


class Reader(HTMLParser):
    """The elements of a page in order, with their attributes and the text directly inside."""

    def __init__(self, page):
        super().__init__()
        self.elements = []
        self._text = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag, attrs):
        """Begin an element."""
        self._text = []
        self.elements.append((tag, dict(attrs), self._text))

    def handle_endtag(self, tag):
        """Text that follows belongs to no element."""
        self._text = []

    def handle_data(self, data):
        """Add text to the element just begun."""
        self._text.append(data)

    def all(self, tag):
        """Return attributes and text of every element of this name."""
        return [(attrs, "".join(text)) for name, attrs, text in self.elements if name == tag]

    def one(self, name):
        """Return attributes and text of the element with this id."""
        (found,) = [(attrs, "".join(text)) for _, attrs, text in self.elements if attrs.get("id") == name]
        return found


def shape(page):
    """Return the page's elements with the names of their attributes: what markup there is, whatever it says."""
    return [(tag, sorted(attrs)) for tag, attrs, _ in Reader(page).elements]


def source(text):
    """Return how a policy names this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.fixture(params=EVERY_PAGE)
def page(request):
    """Return each page in turn."""
    return EVERY_PAGE[request.param]


def test_every_page_is_small(page):
    """A page weighs at most 12 kB with its style and script: it is sent to a whole crowd in the same second."""
    assert len(page) <= 12_000


@pytest.mark.parametrize("language", sorted(PAGES.languages))
def test_every_page_is_small_in_every_language(language):
    """No language makes a page heavier than that, and each page says which it is."""
    for name, page in samples.every(PAGES, "launch", language).items():
        assert len(page) <= 12_000, name
        assert f'<html lang="{language}">'.encode() in page, name


def test_every_page_has_what_assistive_software_needs(page):
    """A page names its language and title, has one main landmark and one first heading, and may be zoomed."""
    reader = Reader(page)
    assert reader.all("html")[0][0] == {"lang": "en"}
    assert reader.all("title")[0][1].strip()
    assert len(reader.all("main")) == 1
    assert len(reader.all("h1")) == 1
    viewport = next(attrs["content"] for attrs, _ in reader.all("meta") if attrs.get("name") == "viewport")
    assert viewport == "width=device-width, initial-scale=1"


def test_the_policy_names_all_that_runs_and_no_more(page):
    """Each style and script of a page stands in the policy by its hash; nothing inline runs besides."""
    policy = (PAGES.form_csp if page is EVERY_PAGE["form"] else PAGES.csp).decode()
    reader = Reader(page)
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; ")
    for _, text in reader.all("style"):
        assert f"style-src {source(text)};" in policy
    scripts = [(attrs, text) for attrs, text in reader.all("script") if attrs.get("type") != "application/json"]
    assert scripts or page is EVERY_PAGE["invite"]
    for attrs, text in scripts:
        assert attrs == {}
        assert source(text) in policy.partition("script-src ")[2].partition(";")[0]
    for tag, attrs, _ in reader.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], tag


def test_nothing_is_loaded_from_anywhere(page):
    """A page refers to nothing beyond itself and paths of this host."""
    for tag, attrs, _ in Reader(page).elements:
        addresses = [attrs[name] for name in ("src", "href", "action", "data-me", "data-url") if name in attrs]
        assert all(re.match(r"/[^/]|data:,$", address) for address in addresses), tag


def test_a_waiting_page_tells_what_it_knows():
    """The page says how many are ahead, the visitor's own number, a range for the wait, and when it looks again."""
    reader = Reader(PAGES.waiting(replace(LINE, number=120_400, ahead=31_200)))
    assert reader.one("ahead")[1] == "31,200"
    assert reader.one("caption")[1] == "people ahead of you"
    assert reader.one("wait")[1] == "about 4 to 7 minutes"
    assert reader.one("next")[1] == "Looks again by itself in about 12 seconds."
    assert reader.one("message") == ({"class": "note", "id": "message"}, "Size 270 is sold out.")
    assert reader.one("page")[0]["data-number"] == "120400"
    assert "120,400" in [text for _, text in reader.all("dd")]


@pytest.mark.parametrize(
    ("wait_s", "words"),
    [
        (None, "not known yet"),
        ((0, 0), "a minute or less"),
        ((0, 60), "a minute or less"),
        ((30, 61), "up to 2 minutes"),
        ((60, 61), "about 1 to 2 minutes"),
        ((120, 120), "about 2 minutes"),
        ((240, 420), "about 4 to 7 minutes"),
        ((1800, 5400), "about 30 to 90 minutes"),
        ((1800, 5401), "up to 2 hours"),
        ((7200, 7200), "about 2 hours"),
        ((7300, 14_000), "about 2 to 4 hours"),
    ],
)
def test_the_wait_is_a_range_that_holds_what_it_was_given(wait_s, words):
    """The words round the shortest wait down and the longest up, so they never promise more than was known."""
    assert Reader(PAGES.waiting(replace(LINE, wait_s=wait_s))).one("wait")[1] == words


def test_before_the_start_the_page_says_how_long_it_is_to_it():
    """Also without script, which refreshes itself; the script counts on from the same number."""
    reader = Reader(PAGES.waiting(replace(LINE, state=VisitorState.PREQUEUE, wait_s=None, opens_s=3_754)))
    assert reader.one("wait")[1] == "opens in 01:02:34"
    assert reader.one("page")[0]["data-opens"] == "3754"


@pytest.mark.parametrize(
    ("refresh_s", "words"), [(1, "1 second"), (2, "2 seconds"), (119, "119 seconds"), (150, "3 minutes")]
)
def test_the_page_says_when_it_looks_again(refresh_s, words):
    """The time of the next look is told in seconds, and from two minutes on in minutes."""
    page = PAGES.waiting(replace(LINE, refresh_s=refresh_s))
    assert Reader(page).one("next")[1] == f"Looks again by itself in about {words}."


def test_without_script_the_page_comes_back_by_itself():
    """Inside noscript stands a refresh with the told seconds; it stays on the address it has."""
    assert b'<noscript><meta http-equiv="refresh" content="12"></noscript>' in PAGES.waiting(LINE)


def test_a_form_that_was_not_sent_is_not_repeated_by_the_refresh():
    """After a form the page says it must be sent again, and its refresh goes to the given address instead."""
    page = PAGES.waiting(replace(LINE, form_note=True))
    assert b'<noscript><meta http-equiv="refresh" content="12;url=/event/?a=1&amp;b=2"></noscript>' in page
    assert b"Your form was not sent" in page
    assert b"Your form was not sent" not in PAGES.waiting(LINE)


def test_the_turn_has_a_button():
    """At the turn a visible link leads in; before it the same link stands hidden, as the script's way in."""
    assert Reader(PAGES.waiting(LINE)).one("enter")[0].keys() >= {"hidden"}
    called = Reader(PAGES.waiting(replace(LINE, state=VisitorState.CALLED)))
    assert called.one("enter") == ({"class": "button", "id": "enter", "href": "/event/?a=1&b=2"}, "Enter now")


def test_an_empty_message_leaves_no_empty_box():
    """A message of nothing but space is none."""
    assert "hidden" in Reader(PAGES.waiting(replace(LINE, message=" \n"))).one("message")[0]
    assert PAGES.full(FullView("/event/", 30, " ")) == PAGES.full(FullView("/event/", 30))


def test_leaving_takes_two_steps_and_is_offered_only_with_an_address():
    """A place is given up by a form inside a fold, so that no slip of a finger loses it."""
    tags = [tag for tag, _, _ in Reader(PAGES.waiting(LINE)).elements]
    assert tags.index("details") < tags.index("form") < len(tags) - 1 - tags[::-1].index("button")
    assert b"<form" not in PAGES.waiting(replace(LINE, leave_url=None))


def test_one_visitors_values_are_not_in_anothers_page():
    """Pages that share a layout share no value."""
    first = PAGES.waiting(replace(LINE, number=777_001, page_url="/event/?first", message="for one"))
    second = PAGES.waiting(replace(LINE, number=2, page_url="/event/", message="for two"))
    assert b"777,001" in first
    assert not [secret for secret in (b"777,001", b"777001", b"?first", b"for one") if secret in second]


NASTY = [
    '"><script>alert(1)</script>',
    "'\"><img src=x onerror=alert(1)>",
    "</script></noscript><b>",
    "\ue000number\ue001",
    "{{ fill.page_url }} {low}",
    "line\nbreak\x00\u2028",
    "half a character: \ud800",
]


@pytest.mark.parametrize("nasty", NASTY)
def test_values_never_become_markup(nasty):
    """An operator's message and a visitor's address change no element and no attribute of any page."""
    plain = [
        PAGES.waiting(replace(LINE, form_note=True)),
        PAGES.full(FullView("/event/", 30, "x")),
        PAGES.error(ErrorView("/event/", 30)),
    ]
    hostile = [
        PAGES.waiting(replace(LINE, form_note=True, page_url=f"/event/?{nasty}", message=nasty)),
        PAGES.full(FullView(f"/event/?{nasty}", 30, nasty)),
        PAGES.error(ErrorView(f"/event/?{nasty}", 30)),
    ]
    assert [shape(page) for page in hostile] == [shape(page) for page in plain]
    assert Reader(hostile[0]).one("message")[1] == " ".join(nasty.split()).replace("\ud800", "?")


@given(message=st.text(min_size=1), target=st.text())
def test_no_text_becomes_markup(message, target):
    """Whatever the message and the address are, the page's elements stay the same and the address is local."""
    page = PAGES.waiting(replace(LINE, message=f"x{message}", page_url=target))
    assert shape(page) == shape(PAGES.waiting(LINE))
    assert Reader(page).one("enter")[0]["href"] == local_url(target)


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("/event/?a=1&b=%2F#", "/event/?a=1&b=%2F#"),
        ("//evil.example/x", "/.//evil.example/x"),
        ("/\\evil.example", "/./\\evil.example"),
        ("/\t/evil.example", "/%09/evil.example"),
        ("/caf\xe9 x", "/caf%E9%20x"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("\\\\evil.example", "/"),
        ("", "/"),
    ],
)
def test_an_address_cannot_leave_this_host(target, address):
    """What a browser would read as another host or scheme becomes a path of this one."""
    assert local_url(target) == address


@given(st.text(alphabet=st.characters(max_codepoint=255)).map("/{}".format))
def test_a_path_stays_the_path_it_was(target):
    """The address is on this host, in printable ASCII, made once and for all, and names the same bytes."""
    address = local_url(target)
    named = unquote_to_bytes(target.encode("latin-1"))
    assert urlsplit(urljoin("https://shop.example/event/", address)).netloc == "shop.example"
    assert not re.match(r"/[/\\]|[^/]", address)
    assert re.fullmatch(r"[!-~]+", address)
    assert local_url(address) == address
    assert unquote_to_bytes(address) in {named, b"/." + named}


def test_a_full_line_tries_again_with_and_without_script():
    """The page "full" carries when to try again, for its script and for browsers without one."""
    page = PAGES.full(FullView("/event/?x", 30))
    assert b'<noscript><meta http-equiv="refresh" content="30;url=/event/?x"></noscript>' in page
    assert Reader(page).one("page")[0]["data-retry"] == "30"
    assert Reader(page).one("next")[1] == "Tries again by itself in about 30 seconds."


@pytest.mark.parametrize("view", [ErrorView("/event/", None, place_kept=True), ErrorView("/event/", None)])
def test_what_is_not_safe_to_repeat_is_not_repeated(view):
    """An error page without a time to retry neither refreshes nor has its script do so."""
    page = PAGES.error(view)
    assert b"http-equiv" not in page
    assert Reader(page).one("page")[0]["data-retry"] == ""


def test_a_form_stands_in_its_page_as_it_was_sent():
    """Names and values in their order, each a hidden field, and nothing of them is markup."""
    fields = [("a", "1"), ("\"'><", "&amp;\x81\r\nx\r\n"), ("a", ""), ("\ue000inputs\ue001", "{{ fill.trail }}")]
    page = PAGES.form(FormView("/event/paid?a=1&b=2", "/.waitroom/launch/form?a&b", fields))
    reader = Reader(page)
    inputs = [attrs for attrs, _ in reader.all("input")]
    assert inputs == [{"type": "hidden", "name": name, "value": value} for name, value in fields]
    assert b"\r" not in page
    assert [attrs["action"] for attrs, _ in reader.all("form")] == ["/event/paid?a=1&b=2"]
    assert reader.one("page")[0]["data-trail"] == "/.waitroom/launch/form?a&b"
    assert reader.one("send")[1] == "Send it now"
    for nasty in NASTY:
        odd = PAGES.form(FormView(f"//evil.example/{nasty}".replace("\ud800", ""), "/", [("a", "1")]))
        assert shape(odd) == shape(PAGES.form(FormView("/", "/", [("a", "1")])))
        assert Reader(odd).all("form")[0][0]["action"].startswith("/.//evil.example/")


def test_the_page_of_a_form_lets_the_shop_lead_on():
    """Its policy names no place for forms: Chromium holds that against a redirect of the shop's answer too."""
    assert b"form-action" not in PAGES.form_csp
    assert b"form-action 'self'" in PAGES.csp


def test_an_error_page_speaks_of_a_place_only_to_who_has_one():
    """Only a visitor whose place is kept reads that it is."""
    assert b"Your place is kept" in PAGES.error(ErrorView("/event/", 20, place_kept=True))
    assert b"place" not in re.sub(rb"<(style|script)>.*?</\1>", b"", EVERY_PAGE["error-once"], flags=re.DOTALL)


def test_a_page_before_a_draw_says_that_coming_early_is_no_better():
    """P10: no people ahead, for nobody knows; the words travel with the page for its script, too."""
    page = EVERY_PAGE["waiting-undrawn"]
    assert Reader(page).one("lead")[1].startswith("Your place is kept. At the start all who are here are put in order")
    assert Reader(page).one("ahead")[1] == "\N{EN DASH}"
    assert page.count(b"in order by lot") == 2


def test_a_page_of_a_line_without_an_order_claims_none():
    """P10: nobody is ahead of anybody, there is no progress to show, and nothing is said of turns in order."""
    page = Reader(EVERY_PAGE["waiting-random"])
    assert page.one("lead")[1].startswith("People are let in at random, whoever came first.")
    assert page.one("caption")[1] == "nobody is ahead of you: people are let in at random"
    assert "hidden" in page.one("progress")[0]
    assert b"in order" not in EVERY_PAGE["waiting-random"]
    assert "hidden" not in Reader(EVERY_PAGE["waiting-waiting"]).one("progress")[0]


def test_a_drawn_place_is_shown_beside_the_number():
    """The number stays what it is; the place is what was drawn."""
    assert Reader(EVERY_PAGE["waiting-drawn"]).one("number")[1] == f"{LINE.number:,}, drawn as 300,000"
    assert Reader(EVERY_PAGE["waiting-waiting"]).one("number")[1] == f"{LINE.number:,}"


def test_an_unknown_reason_reads_as_closed():
    """A state that has no words yet gets those of a closed room."""
    assert PAGES.closed(ClosedView("/event/", "quarantine")) == EVERY_PAGE["closed"]


def luminance(colour):
    """Return the relative luminance of a colour, as WCAG 2.2 defines it."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [("ink", "card"), ("soft", "card"), ("accent", "card"), ("warn", "card"), ("on", "accent"), ("ink", "tint")],
)
def test_text_stands_out_from_its_ground(scheme, ink, ground):
    """Every text has a contrast of at least 4.5 to 1 with what it stands on, in both colour schemes."""
    roots = re.findall(r":root \{(.*?)\}", (TEMPLATES / "page.css").read_text("utf-8"))
    colours = dict(re.findall(r"--(\w+): (#\w+)", roots[scheme]))
    lighter, darker = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


@pytest.mark.parametrize("name", ["page.css", "waiting.js", "full.html"])
def test_a_folder_that_cannot_be_used_is_said_at_the_start(tmp_path, name):
    """A missing file is named when the pages are loaded, not when the first visitor needs it."""
    folder = shutil.copytree(TEMPLATES, tmp_path / "templates")
    (folder / name).unlink()
    with pytest.raises(StartError, match=re.escape(name)):
        Pages(folder)


def test_a_template_with_a_mistake_is_said_at_the_start(tmp_path):
    """A template that does not compile is refused when the pages are loaded."""
    folder = shutil.copytree(TEMPLATES, tmp_path / "templates")
    (folder / "error.html").write_text("{% if %}", "utf-8")
    with pytest.raises(StartError, match="cannot be used"):
        Pages(folder)


def test_a_problem_says_what_and_where_to_go():
    """A client that reads no pages gets status, title, detail, where to join and when to come back."""
    body = problem(429, "In line", "This address has a waiting room.", "/.waitroom/launch/join", 12)
    assert json.loads(body) == {
        "title": "In line",
        "status": 429,
        "detail": "This address has a waiting room.",
        "join_url": "/.waitroom/launch/join",
        "retry_after_s": 12,
    }
    assert json.loads(problem(503, "Paused", "Later.")) == {"title": "Paused", "status": 503, "detail": "Later."}


def test_what_the_script_looks_for_is_known():
    """Each element that the waiting page's script names is among those that `waitroom check` asks a template for."""
    script = (TEMPLATES / "waiting.js").read_text()
    named = set(re.findall(r"""(?:\$|write)\("(\w+)\"""", script))
    assert named == set(samples._WRITTEN)


class Rendering(Pages):
    """Pages that remember which face they laid out last."""

    def _lay_out(self, name, face):
        self.face = face
        return super()._lay_out(name, face)


def rendered(pages, view):
    """Return the waiting page as the template writes it, with this visitor's values before its eyes."""
    wait, low, high = _wait(view.wait_s) if view.opens_s is None else ("opens", 0, _clock(view.opens_s))
    values = {
        "number": f"{view.number:,}",
        "place": "" if view.place is None else f"{view.place:,}",
        "ahead": "" if view.ahead is None else f"{view.ahead:,}",
        "low": low,
        "high": high,
        "time": _time(view.refresh_s)[1],
        "refresh_s": view.refresh_s,
        "message": " ".join((view.message or "").split()),
        "page_url": local_url(view.page_url),
        "claim_by": view.claim_by or "",
        "opens": "" if view.opens_s is None else view.opens_s,
        "raw_number": view.number,
        "raw_ahead": "" if view.ahead is None else view.ahead,
        "raw_wait": "" if view.wait_s is None else f"{view.wait_s[0]} {view.wait_s[1]}",
    }
    assert pages.face.wait == wait
    say = pages._say[pages.face.language]
    return pages._templates["waiting"].render(view=pages.face, fill=values, _=say).encode()


@pytest.mark.parametrize("language", sorted(PAGES.languages))
@pytest.mark.parametrize("state", VisitorState)
def test_a_page_joined_from_parts_is_the_page_rendered_whole(state, language):
    """Byte for byte, in every state and language, whatever the values are: also one sheet for several visitors."""
    pages = Rendering(TEMPLATES)
    line = replace(
        LINE, state=state, page_url="/event/?a=<b>&c='\"\xe4{0}%", message='<i>It\'s</i> &amp; "all" gone\n\u00e4\ud55c'
    )
    views = [
        line,
        replace(line, ahead=1, wait_s=(0, 59), number=1_234_567, refresh_s=1, claim_by=1_700_000_000_000),
        replace(line, ahead=0, wait_s=(0, 7_000), message=None, form_note=True, leave_url=None, refresh_s=600),
        replace(line, ahead=None, wait_s=None, place=12_345, at_random=True),
        replace(line, ahead=None, wait_s=None, opens_s=754, undrawn=True),
        replace(line, ahead=9_999_999, wait_s=(40_000, 90_000)),
    ]
    for view in views:
        whole = pages.waiting(view, language)
        assert whole == rendered(pages, view)
        again = pages.sheet(view, language)
        assert again.page(view.number, view.ahead, view.wait_s, view.page_url) == whole
        other = replace(view, number=77, page_url="/event/<&>", ahead=view.ahead and view.ahead + 5)
        if _ahead(other.ahead) == _ahead(view.ahead):
            assert again.page(other.number, other.ahead, other.wait_s, other.page_url) == rendered(pages, other)


def test_one_sheet_is_for_all_addresses():
    """Whatever addresses visitors come to, they take no memory beyond the answer."""
    pages = Pages(TEMPLATES)
    for one in range(5):
        page = pages.waiting(replace(LINE, page_url=f"/event/?{one}"))
        assert f'href="/event/?{one}"'.encode() in page
    assert pages._sheet.cache_info().currsize == 1
