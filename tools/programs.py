"""Get what the tests need that is no Python package, where it is missing: Chromium, and Prometheus' ``promtool``.

Chromium is installed by the system's package manager, which takes root. Of Prometheus one program is wanted and no
service that starts by itself: its package is only unpacked, into the virtual environment. Where either cannot be had,
those tests are reported as skipped by name, and under ``CI=true`` they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def apt(*arguments: str, cwd: str | None = None) -> bool:
    """Run apt-get without a word, and return whether it went well."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-qq", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.run(command, check=False, env=environment, cwd=cwd, **quiet).returncode == 0


def get_promtool(target: Path) -> bool:
    """Unpack ``promtool`` to ``target``, and return whether it is there."""
    with tempfile.TemporaryDirectory() as scratch:
        if apt("download", "prometheus", cwd=scratch):
            for package in Path(scratch).glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", package, scratch], check=False)
        found = Path(scratch, "usr/bin/promtool")
        if found.exists():
            shutil.copy(found, target)
        return target.exists()


def main() -> int:
    """Get what is missing if that is possible. Return 0 in any case: the tests say what they miss."""
    promtool = Path(sys.argv[1], "promtool")
    no_browser, no_promtool = not any(map(shutil.which, BROWSERS)), not (shutil.which("promtool") or promtool.exists())
    has_apt, is_root = shutil.which("apt-get") is not None, os.geteuid() == 0
    if has_apt and is_root and (no_browser or no_promtool):
        apt("update")
    if no_browser:
        sys.stderr.write("getting Chromium, for the tests of the pages ...\n")
        if not (has_apt and is_root and apt("install", "-y", "--no-install-recommends", "chromium")):
            sys.stderr.write("it cannot be installed: those tests will be skipped.\n")
    if no_promtool:
        sys.stderr.write("getting promtool, for the tests of the alarms ...\n")
        if not (has_apt and get_promtool(promtool)):
            sys.stderr.write("it cannot be had: those tests will be skipped.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
