"""Find a Chromium for the tests of the site, or obtain one: PATH, Playwright's own download, the system's package manager."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# No sandbox as root; no talk to the outside from the browser's own services.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def find() -> str | None:
    """Path of a browser that is here already, or None."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        path = p.chromium.executable_path
    return path if Path(path).exists() else None


def obtain() -> str:
    """Path of a browser; ends the command with the line to type if none can be had."""
    if path := find():
        return path
    print("No browser on PATH: trying Playwright's download", flush=True)
    if attempt([sys.executable, "-m", "playwright", "install", "chromium"]) and (path := find()):
        return path
    allowed = (hasattr(os, "geteuid") and os.geteuid() == 0) or os.environ.get("CI") == "true"
    if allowed and shutil.which("apt-get"):
        print("Trying the system's package manager", flush=True)
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        attempt([*sudo, "apt-get", "update", "-qq"])
        attempt(
            [
                *sudo,
                "apt-get",
                "install",
                "-y",
                "-qq",
                "--no-install-recommends",
                "chromium",
                "fonts-dejavu-core",
            ]
        )
        if path := find():
            return path
    sys.exit(
        "The tests of the site need Chromium. Install it, for example with: sudo apt-get install chromium, or brew install --cask chromium"
    )


def attempt(command: list[str]) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return (
            subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, timeout=600
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    print(obtain())
