"""`make test`: run what changed, build the site, then prove code, notebooks and pages in one pytest run."""

from __future__ import annotations

import subprocess
import sys

import browser
import notebooks
import site_pages
from paths import ROOT, quiet_environment

if notebooks.run(notebooks.chapters()):
    sys.exit(1)
site_pages.build()
# The notebooks run under a kernel of two threads here and of one for the site: their outputs must not know.
environment = {
    **quiet_environment(),
    "PHYSGEN_BROWSER": browser.obtain(),
    "JUPYTER_PATH": str(ROOT / "tests" / "notebooks" / "jupyter"),
}
command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope", "tests", "book"]
command += ["--nbval", "--nbval-kernel-name=two_threads", "--nbval-cell-timeout=600", *sys.argv[1:]]
sys.exit(subprocess.run(command, cwd=ROOT, env=environment).returncode)
