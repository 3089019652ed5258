"""Sphinx extension for the package reference: ``|x|`` is an absolute value, and the fields of a tuple speak for themselves."""

from __future__ import annotations

import re

BARS = re.compile(r"``.*?``|(\|)")


def escape_bars(app, what, name, obj, options, lines):
    lines[:] = [BARS.sub(lambda m: r"\|" if m[1] else m[0], line) for line in lines]


def skip_fields(app, what, name, obj, skip, options):
    """Leave out the fields of a NamedTuple, whose docstring is only their number."""
    return True if (getattr(obj, "__doc__", "") or "").startswith("Alias for field number") else None


def setup(app):
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", escape_bars)
    return {"parallel_read_safe": True}
