"""Sphinx extension: in a docstring ``|x|`` is an absolute value, not a reST substitution."""

from __future__ import annotations

import re

BARS = re.compile(r"``.*?``|(\|)")


def escape_bars(app, what, name, obj, options, lines):
    lines[:] = [BARS.sub(lambda m: r"\|" if m[1] else m[0], line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", escape_bars)
    return {"parallel_read_safe": True}
