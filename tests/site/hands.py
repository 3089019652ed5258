"""What a reader does to an interactive figure, and the numbers that it then shows."""

from __future__ import annotations

import json


def number(root, name: str) -> float:
    return float(root.get_attribute(f"data-{name}"))


def values(root, name: str):
    return json.loads(root.get_attribute(f"data-{name}"))


def wait(page, root, name: str, before) -> None:
    """Until the figure shows something else under this name."""
    page.wait_for_function(
        "([root, name, old]) => root.getAttribute(`data-${name}`) !== old",
        arg=[root.element_handle(), name, before],
    )


def after(page, root, action, changes: str) -> None:
    """Do it, and wait until the figure has followed."""
    before = root.get_attribute(f"data-{changes}")
    action()
    wait(page, root, changes, before)


def press(page, found, root, name: str, key: str, changes: str) -> None:
    """A key on a slider."""
    found.get_by_role("slider", name=name).focus()
    after(page, root, lambda: page.keyboard.press(key), changes)


def click(page, found, root, name: str, changes: str) -> None:
    after(page, root, found.get_by_role("button", name=name, exact=True).click, changes)


def drag(page, start: tuple, end: tuple) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()
