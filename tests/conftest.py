"""The commands in tools/ are imported by their tests as the modules that they are."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))


@pytest.fixture
def emitted(monkeypatch):
    """What a cell would show: a list of (data, record), filled as `emit` is called."""
    from IPython.core.interactiveshell import InteractiveShell

    outputs = []
    monkeypatch.setattr(InteractiveShell, "initialized", lambda: True)
    monkeypatch.setattr(
        "IPython.display.publish_display_data",
        lambda data, metadata: outputs.append((data, metadata["physgen"])),
    )
    return outputs
