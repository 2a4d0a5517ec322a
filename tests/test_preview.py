"""``waitroom preview``: what it shows is what the proxy sends, and it says what is wrong with a template."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from house import free_port, until

from waitroom.cli import main
from waitroom.commands.preview import application
from waitroom.web import samples
from waitroom.web.pages import Pages

TEMPLATES = Path(__file__).parents[1] / "templates"
CONFIG = """
rooms:
  - {name: sale, match: [{path: /sale/}], admission: fixed, languages: [ja], templates: own}
  - {name: launch, match: [{path: /event/}], admission: fixed}
"""


@pytest.fixture
def config(tmp_path):
    """Return a configuration with two rooms, one of which has a template of its own."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/full.html").write_text('{% extends "ours/full.html" %}{% block title %}OWN{% endblock %}')
    file = tmp_path / "waitroom.yaml"
    file.write_text(CONFIG)
    return file


def client(app):
    """Return a browser for an application that no server serves."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://preview")


async def test_every_page_is_shown_as_it_is_sent():
    """Every page in every language, byte for byte, under the policy it is sent with; the overview names them all."""
    looking = client(application("launch", None, None))
    overview = (await looking.get("/")).text
    pages = Pages(TEMPLATES)
    for language in sorted(pages.languages):
        for name, page in samples.every(pages, "launch", language).items():
            assert f'src="/{language}/{name}"' in overview
            answer = await looking.get(f"/{language}/{name}")
            assert answer.content == page, name
            policy = pages.form_csp if name in ("form-again", "invite") else pages.csp
            assert answer.headers["content-security-policy"] == policy.decode()
    assert (await looking.get("/en/none")).status_code == 404
    assert (await looking.get(samples.PAGE_URL)).status_code == 200


async def test_a_mistake_made_while_looking_is_said_on_the_page(tmp_path):
    """Who edits a template reads what is wrong with it where the page was, and goes on."""
    (tmp_path / "full.html").write_text('{% extends "ours/full.html" %}')
    looking = client(application("launch", ("en",), tmp_path))
    assert (await looking.get("/en/full")).status_code == 200
    (tmp_path / "full.html").write_text("{% if %}")
    answer = await looking.get("/en/full")
    assert answer.status_code == 500
    assert "full.html, line 1" in answer.text
    (tmp_path / "full.html").write_text("{{ view.none }}")
    assert "the page full cannot be made" in (await looking.get("/")).text


def test_the_command_serves_the_room_of_a_configuration(config):
    """The first room unless one is named, with its languages and templates, until it is told to end."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "waitroom.cli",
        "preview",
        "--config",
        str(config),
        "--listen",
        f"127.0.0.1:{port}",
    ]
    with subprocess.Popen([*command, "--room", "sale"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert f"every page of sale: http://127.0.0.1:{port}/" in process.stdout.readline()

            def shown():
                try:
                    return httpx.get(f"http://127.0.0.1:{port}/ja/full", trust_env=False).text
                except httpx.TransportError:
                    return ""

            until(lambda: "<title>OWN</title>" in shown())
            assert httpx.get(f"http://127.0.0.1:{port}/ko/full", trust_env=False).status_code == 404
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--room", "none"], "has no room none; it has sale, launch"),
        (["--listen", "nonsense"], "--listen: "),
        (["--room", "launch", "--listen", "203.0.113.1:80"], "cannot listen on 203.0.113.1:80"),
    ],
)
def test_what_cannot_be_previewed_is_said(config, capsys, arguments, said):
    """In a sentence, with exit code 1."""
    assert main(["preview", "--config", str(config), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_check_says_what_is_wrong_with_templates(config, capsys):
    """A mistake in a room's templates is found before the house starts, and a doubt is a warning."""
    assert main(["check", str(config)]) == 0
    assert capsys.readouterr().out == "OK\n"
    own = config.parent / "own/waiting.html"
    own.write_text("{{ fill.page_url }}")
    assert main(["check", str(config)]) == 0
    assert "warning: rooms.sale: templates: waiting does not come back without script" in capsys.readouterr().err
    own.write_text("{{ nothing.at_all }}")
    assert main(["check", str(config)]) == 1
    assert "rooms.sale: templates in" in capsys.readouterr().err
