"""Install Chromium for the tests of the pages, where it is missing and the system's package manager may be used.

Where it may not, those tests are reported as skipped by name, and under ``CI=true`` they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def main() -> int:
    """Install it if that is possible. Return 0 in any case: the tests say what is missing."""
    if shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome"):
        return 0
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        sys.stderr.write("Chromium is missing: the tests of the pages in a browser will be skipped.\n")
        return 0
    sys.stderr.write("installing Chromium for the tests of the pages ...\n")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "chromium"]):
        subprocess.run([apt, *arguments], check=False, env=environment, stdout=subprocess.DEVNULL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
