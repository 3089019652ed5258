"""How a cell speaks to two readers: the page shows `data`, and the site builder reads `record` in the output's metadata.

What is in `data` must be the same on every machine, for nbval compares it; the metadata may differ.
"""

from __future__ import annotations

__all__ = ["emit"]


def emit(data: dict[str, str], record: dict) -> None:
    """Show a mimebundle with `record` as its metadata `physgen`; outside IPython print its plain text."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.display import publish_display_data

    if InteractiveShell.initialized():
        publish_display_data(data, metadata={"physgen": record})
    else:
        print(data["text/plain"])
