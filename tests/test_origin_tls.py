"""https origins as an operator has them: from the file's ``origin_tls`` to the log, through a whole house."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from certificates import Certificate, make, serving
from house import DOCUMENT, RecordingOrigin, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from house import House


@pytest.fixture(scope="module")
def authority() -> Certificate:
    """Return who vouches for the shop."""
    return make("our CA", authority=True)


@pytest.fixture
def shop(authority: Certificate) -> Iterator[RecordingOrigin]:
    """Give a shop that speaks TLS as shop.internal."""
    recording = RecordingOrigin(tls=serving("shop.internal", authority))
    recording.start()
    yield recording
    recording.stop()


def known_by(ca_file: str) -> dict[str, str]:
    """Return by what the shop is known."""
    return {"ca_file": ca_file, "server_name": "shop.internal"}


def seen_by_visitor(house: House, path: str = "/") -> tuple[int, str]:
    """Return status and text of a page."""
    answer = httpx.get(house.url + path, headers=DOCUMENT, trust_env=False, timeout=10)
    return answer.status_code, answer.text


def test_rooms_that_know_one_origin_by_other_things_share_no_connection(
    tmp_path: Path, shop: RecordingOrigin, authority: Certificate
) -> None:
    """A connection that is kept for who trusts the shop is not used for a room, or a site, that does not.

    Its operator reads why, and its visitor is told nothing of it.
    """
    (tmp_path / "ours.pem").write_text(authority.pem)
    (tmp_path / "another.pem").write_text(make("our CA", authority=True).pem)
    rooms: list[dict[str, Any]] = [
        {"name": "good", "match": [{"path": "/good/"}], "origin_tls": known_by("ours.pem")},
        {"name": "bad", "match": [{"path": "/bad/"}], "origin_tls": known_by("another.pem")},
        {"name": "none", "match": [{"path": "/none/"}]},
    ]
    for room in rooms:
        room["origin"] = f"https://127.0.0.1:{shop.port}"
    with running(tmp_path, shop, origin_tls=known_by("ours.pem"), rooms=rooms) as house:
        assert seen_by_visitor(house) == (200, "shop")
        assert seen_by_visitor(house, "/good/") == (200, "shop")
        assert shop.connections == 1
        for name in ("bad", "none"):
            status, text = seen_by_visitor(house, f"/{name}/")
            assert status == 502
            for detail in ("127.0.0.1", "TLS", "certificate", "shop.internal"):
                assert detail not in text
            (line,) = (line for line in house.logged("origin-tls") if line["room"] == name)
            assert "name who signed it in `origin_tls.ca_file`" in line["why"]
            assert line["origin"] == f"127.0.0.1:{shop.port}"
        assert [seen.target for seen in shop.seen] == ["/", "/good/"]


def test_authorities_are_read_at_a_start_and_at_a_reload(
    tmp_path: Path, shop: RecordingOrigin, authority: Certificate
) -> None:
    """A worker that is started anew trusts what was checked; a reload takes what the file holds, or is refused."""
    file = tmp_path / "ca.pem"
    file.write_text(authority.pem)
    with running(tmp_path, shop, origin_tls=known_by("ca.pem")) as house:
        file.write_text("nothing")
        before = house.worker_pid()
        os.kill(before, signal.SIGKILL)
        until(lambda: house.worker_pids() not in ([], [before]))
        house.wait_ready()
        assert seen_by_visitor(house) == (200, "shop")

        house.process.send_signal(signal.SIGHUP)
        until(lambda: "reload refused" in house.log.read_text())
        assert "origin_tls.ca_file: `ca.pem` has no certificate in PEM form in it" in house.log.read_text()
        assert seen_by_visitor(house) == (200, "shop")

        file.write_text(make("our CA", authority=True).pem)
        house.process.send_signal(signal.SIGHUP)
        until(lambda: '"reloaded' in house.log.read_text())
        assert seen_by_visitor(house)[0] == 502


def test_check_looks_into_the_file_of_authorities(tmp_path: Path) -> None:
    """``waitroom check`` says what is wrong with it, and contacts nobody."""
    config = tmp_path / "waitroom.yaml"
    config.write_text(yaml.safe_dump({"origin": "https://shop.invalid", "origin_tls": {"ca_file": "ca.pem"}}))

    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "waitroom.cli", "check", str(config)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    found = check()
    assert found.returncode == 1
    assert "origin_tls.ca_file: `ca.pem` does not exist" in found.stdout + found.stderr
    (tmp_path / "ca.pem").write_text(make("our CA", authority=True).pem)
    assert check().returncode == 0
