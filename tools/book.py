"""`make book`: execute the notebooks that changed, then build the site. ONLY=part/chapter runs just that notebook."""

from __future__ import annotations

import os
import sys

import notebooks
import site_pages

names = notebooks.check_names(os.environ.get("ONLY", "").split())
if notebooks.run(names):
    sys.exit(1)
if names == notebooks.chapters():
    site_pages.build()
    print(site_pages.open_hint())
