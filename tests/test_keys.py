"""The signing keys: made once, kept for good, readable by one, and refused when they are not safe."""

from __future__ import annotations

import os

import pytest

from waitroom import keys
from waitroom.errors import StartError

GOOD = "0123456789abcdef" * 2


def test_the_first_start_makes_a_key_and_every_later_one_finds_it(tmp_path):
    """A restart throws nobody out of line: the file is made with its folder, whole, for its owner only."""
    path = tmp_path / "var" / "keys"
    made = keys.load(path, {})
    assert len(made[0]) >= 64
    assert keys.load(path, {}) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["keys"], "something was left beside the file"


def test_who_makes_the_key_second_takes_the_first_ones(tmp_path, monkeypatch):
    """Two that start at once agree: a file that appeared meanwhile is not replaced."""
    path = tmp_path / "keys"
    link = os.link

    def quicker(beside, to):
        path.write_text(f"{GOOD}\n")
        link(beside, to)

    monkeypatch.setattr(os, "link", quicker)
    assert keys.load(path, {}) == (GOOD,)
    assert [file.name for file in tmp_path.iterdir()] == ["keys"]


def test_the_environment_comes_first(tmp_path):
    """Keys of the environment are taken, newest last, and no file is made."""
    stated = {keys.ENVIRONMENT: f" {GOOD}a, {GOOD}b ,"}
    assert keys.load(tmp_path / "keys", stated) == (f"{GOOD}a", f"{GOOD}b")
    assert not list(tmp_path.iterdir())


def test_remarks_and_empty_lines_are_no_keys(tmp_path):
    """The file is a person's to read."""
    path = tmp_path / "keys"
    path.write_text(f"# newest last\n\n{GOOD}a\n  {GOOD}b  \n")
    assert keys.load(path, {}) == (f"{GOOD}a", f"{GOOD}b")


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", f"{GOOD}\nshort\n", "schlüssel" * 9])
def test_what_is_no_safe_key_is_refused(tmp_path, text):
    """An empty file, a short key, another encoding: said with the file's name, and nothing is signed."""
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(StartError, match=str(path)):
        keys.load(path, {})


def test_a_short_key_of_the_environment_is_refused_without_being_told(tmp_path):
    """The message names the variable, never the key."""
    with pytest.raises(StartError, match=keys.ENVIRONMENT) as refused:
        keys.load(tmp_path / "keys", {keys.ENVIRONMENT: "hunter2"})
    assert "hunter2" not in str(refused.value)


def test_a_place_where_no_file_can_stand_is_said(tmp_path, monkeypatch):
    """A file where the folder should be, a folder where the file should be, no links: words, and no key left about."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "keys", tmp_path / "folder"):
        with pytest.raises(StartError, match=path.name):
            keys.load(path, {})

    def refuses(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuses)
    with pytest.raises(StartError, match="no links here"):
        keys.load(tmp_path / "folder" / "keys", {})
    assert not list((tmp_path / "folder").iterdir()), "a key that nobody uses was left behind"
