"""Write requirements.lock (all packages) and environment.yml (the direct ones) from what is installed in .venv."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from paths import ROOT

LOCK, ENVIRONMENT, PROJECT = ROOT / "requirements.lock", ROOT / "environment.yml", ROOT / "pyproject.toml"
HEAD = (
    "# Exact versions that every command of the project installs (Python 3.11 to 3.13). Made by: make lock\n"
)


def direct() -> list[Requirement]:
    """What pyproject.toml asks for, extras included."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    return [Requirement(r) for r in project["dependencies"] + extras]


def locked() -> dict[str, str]:
    """Version of each package in the lock, by canonical name."""
    lines = [line.split(";")[0].strip() for line in LOCK.read_text().splitlines() if "==" in line]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def environment() -> str:
    """The conda file: Python from conda, the direct dependencies from pip in the versions of the lock."""
    versions = locked()
    pins = sorted({f"{canonicalize_name(r.name)}=={versions[canonicalize_name(r.name)]}" for r in direct()})
    lines = [
        "name: physgen",
        "channels: [conda-forge]",
        "dependencies:",
        "  - python>=3.11,<3.14",
        "  - pip",
        "  - pip:",
    ]
    return "# Made by: make lock\n" + "\n".join(lines + [f"      - {pin}" for pin in [*pins, "-e ."]]) + "\n"


def main() -> None:
    freeze = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--exclude-editable"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    linux_only = {r.name for r in direct() if r.marker and "linux" in str(r.marker)}
    lines = []
    for line in sorted(freeze.splitlines(), key=str.lower):
        name, _, version = line.partition("==")
        # A local build tag such as +cpu names one machine's choice; the lock names the release.
        version = re.sub(r"\+.*", "", version)
        lines.append(f"{name}=={version}" + ('; sys_platform == "linux"' if name in linux_only else ""))
    LOCK.write_text(HEAD + "\n".join(lines) + "\n")
    ENVIRONMENT.write_text(environment())


if __name__ == "__main__":
    main()
