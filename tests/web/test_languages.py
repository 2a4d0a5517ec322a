"""The languages of the pages, and templates of a shop's own."""

from __future__ import annotations

import io
import re
import shutil
import string
from dataclasses import replace
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from waitroom import build
from waitroom.errors import StartError
from waitroom.model import Address, Admin, PathRule, Room, Settings, StoreUrl
from waitroom.web import samples
from waitroom.web.pages import Pages

TEMPLATES = Path(__file__).parents[2] / "templates"
CATALOGS = {path.parts[-3]: path for path in TEMPLATES.glob("locale/*/LC_MESSAGES/waitroom.po")}
PAGES = Pages(TEMPLATES)


def sentences():
    """Return every sentence of the templates."""
    found = extract_from_dir(TEMPLATES, [("**.html", "jinja2")], {})
    return {message for _, _, message, _, _ in found}


def names(text):
    """Return the names in braces that a sentence is filled with."""
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


def settings(room, folder):
    """Return settings with one room."""
    return Settings(
        listen=Address("127.0.0.1", 8080),
        origin=Address("127.0.0.1", 8000),
        rooms=(room,),
        store=StoreUrl("memory", None),
        secret_keys_file=folder / "keys",
        admin=Admin(Address("127.0.0.1", 9090), folder / "token"),
    )


@pytest.fixture
def own(tmp_path):
    """Return a function that makes a folder of a shop's own templates."""

    def made(**files):
        folder = tmp_path / "own"
        for name, text in files.items():
            stem, _, kind = name.replace("__", "/").rpartition("_")
            path = folder / f"{stem}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return made


@pytest.mark.parametrize("language", sorted(CATALOGS))
def test_no_sentence_is_missing(language):
    """Every sentence is translated, with the same names to fill in, and no translation is left over."""
    catalog = read_po(io.BytesIO(CATALOGS[language].read_bytes()), abort_invalid=True)
    said = {message.id: message.string for message in catalog if message.id}
    assert said.keys() == sentences()
    for sentence, translation in said.items():
        assert translation.strip(), sentence
        assert names(translation) == names(sentence), sentence
        assert translation != sentence
    assert not [message.id for message in catalog if message.fuzzy and message.id]


def test_korean_english_and_japanese_are_spoken():
    """The three that the shops of the first event need."""
    assert PAGES.languages >= {"ko", "en", "ja"}


@pytest.mark.parametrize("language", sorted(CATALOGS))
def test_no_page_falls_back_to_english(language):
    """A page in another language has no sentence of the English one, in its text or in the words of its script."""
    english = {sentence for sentence in sentences() if "{" not in sentence and len(sentence) > 12}
    for name, page in samples.every(PAGES, "launch", language).items():
        text = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page.decode(), flags=re.DOTALL)
        assert not [sentence for sentence in english if sentence in text], name


def test_without_a_translation_the_page_speaks_english(own):
    """A catalogue that lacks a sentence, or has it marked as unsure, leaves it as the template has it."""
    po = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\nmsgid "Sold out"\nmsgstr "Ausverkauft"\n\n'
    po += '#, fuzzy\nmsgid "Try again"\nmsgstr "Versuch"\n'
    pages = Pages(TEMPLATES, own(locale__de__LC_MESSAGES__waitroom_po=po))
    page = samples.every(pages, "launch", "de")["ended-sold_out"].decode()
    assert '<html lang="de">' in page
    assert "Ausverkauft" in page
    assert ">Try again<" in page


def test_a_shop_s_words_go_before_ours(own):
    """A shop may say a sentence of ours its own way, and keeps all the others."""
    po = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\nmsgid "Sold out"\nmsgstr "다 팔렸어요 <b>"\n'
    page = samples.every(Pages(TEMPLATES, own(locale__ko__LC_MESSAGES__waitroom_po=po)), "launch", "ko")[
        "ended-sold_out"
    ]
    assert "다 팔렸어요 &lt;b&gt;" in page.decode()
    assert "모두 팔려" in page.decode()


def test_a_catalogue_that_cannot_be_read_is_said_at_the_start(own):
    """A file in no known characters, by its name."""
    folder = own(locale__ko__LC_MESSAGES__waitroom_po="")
    (folder / "locale/ko/LC_MESSAGES/waitroom.po").write_bytes(b'msgid "\xff"\nmsgstr "x"\n')
    with pytest.raises(StartError, match=r"catalogue .*waitroom\.po cannot be read"):
        Pages(TEMPLATES, folder)


def test_a_shop_s_template_stands_in_for_ours_and_may_build_on_it(own):
    """Its file replaces the one of that name, can extend the replaced one, and the rest stays ours."""
    folder = own(
        waiting_html='{% extends "ours/waiting.html" %}{% block main %}'
        '<img src="/logo.png" alt="Shop">{{ super() }}{% endblock %}',
        page_css="body { color: red; }",
    )
    pages = Pages(TEMPLATES, folder)
    page = samples.every(pages, "launch", "en")["waiting"].decode()
    assert '<img src="/logo.png" alt="Shop">' in page
    assert 'id="heading"' in page
    assert "<style>body{color:red}</style>" in page
    assert "img-src 'self' data:; font-src 'self';" in pages.csp.decode()
    assert "img-src data:;" in PAGES.csp.decode()
    assert samples.doubts(pages, "launch", ["en"]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<p>{{ view.nmae }}</p>", "has no attribute 'nmae'"),
        ("\n\n{% if %}", "waiting.html, line 3: "),
        ('{% extends "none.html" %}', "TemplateNotFound: none.html"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ view.room.upper }}{% for x in 7 %}{% endfor %}", "not iterable"),
    ],
)
def test_a_mistake_in_a_shop_s_template_is_said_before_anybody_waits(own, tmp_path, text, message):
    """Each page is made once at the start, so that what only some state reaches fails then, and not at noon."""
    room = Room("launch", (PathRule("/event/"),), templates=own(waiting_html=text))
    with pytest.raises(StartError, match=re.escape(message)):
        build.pages_of(settings(room, tmp_path))


def test_a_folder_of_templates_that_is_missing_is_said(tmp_path):
    """A name mistyped would silently show ours."""
    room = Room("launch", (PathRule("/event/"),), templates=tmp_path / "nowhere")
    with pytest.raises(StartError, match=r"rooms\.launch: templates: there is no folder .*nowhere"):
        build.pages_of(settings(room, tmp_path))


def test_a_language_that_nobody_translated_is_said(tmp_path):
    """With those that there are."""
    room = Room("launch", (PathRule("/event/"),), languages=("en", "tlh"))
    with pytest.raises(StartError, match=r"rooms\.launch: languages: .*tlh; there are en, ja, ko"):
        build.pages_of(settings(room, tmp_path))
    assert list(build.pages_of(settings(replace(room, languages=("ja", "ko")), tmp_path))["launch"]) == ["ja", "ko"]


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (
            '<img src="https://cdn.example/a.png">{{ fill.page_url }}',
            "loads https://cdn.example/a.png, which its policy",
        ),
        ("<p>{{ view.state }}</p>", "has no way in without script"),
        ("<p>{{ fill.page_url }}</p>", "does not come back without script"),
        ("<main id=page><p id='lead'>", "has no element with the id heading, count, ahead,"),
        ("{{ fill.page_url }}" + "x" * 13_000, "bytes; a crowd fetches it at once"),
    ],
)
def test_what_is_doubtful_in_a_template_is_warned_of(own, tmp_path, text, doubt):
    """It is allowed, and `waitroom check` says what will not work."""
    room = Room("launch", (PathRule("/event/"),), templates=own(waiting_html=text))
    assert any(doubt in said for said in build.doubts_of_pages(settings(room, tmp_path)))


def test_our_own_pages_leave_no_doubt():
    """What is asked of others' templates is so of ours."""
    assert samples.doubts(PAGES, "launch", PAGES.languages) == []


def test_ours_are_found_under_their_names_alone(tmp_path):
    """A folder of one's own that has every file is used for every file."""
    folder = tmp_path / "copy"
    shutil.copytree(TEMPLATES, folder)
    blocks = "{% block title %}no{% endblock %}{% block main %}<main>no</main>{% endblock %}"
    (folder / "full.html").write_text('{% extends "base.html" %}' + blocks)
    assert b"<main>no</main>" in samples.every(Pages(TEMPLATES, folder), "launch", "ko")["full"]
