"""`make test`: run what changed, build the site, then prove code, notebooks and pages in one pytest run."""

from __future__ import annotations

import subprocess
import sys

import browser
import notebooks
import site_pages
from paths import ROOT, quiet_environment

if not notebooks.run(notebooks.chapters()):
    sys.exit(1)
site_pages.build()
environment = {**quiet_environment(), "PHYSGEN_BROWSER": browser.obtain()}
command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope", "tests", "book"]
command += ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=600", *sys.argv[1:]]
sys.exit(subprocess.run(command, cwd=ROOT, env=environment).returncode)
