"""The interactive figures of the built pages, moved by mouse and keyboard; what they compute is compared with the package."""

from __future__ import annotations

import json

import pytest
import torch

from physgen.kernels import glauber, philox
from physgen.memories import hebbian, hopfield

SHAKE = 2**31  # the stream that picks the cells to flip


def data(root, name: str):
    return root.get_attribute(f"data-{name}")


def spins(bits: str) -> torch.Tensor:
    return torch.tensor([1 if b == "1" else -1 for b in bits], dtype=torch.int8)


def stored_patterns(params: dict) -> torch.Tensor:
    return torch.stack([spins(p) for p in params["patterns"][: params["stored"]]])


def start(params: dict) -> torch.Tensor:
    """The damaged first pattern: the round(noise · N) cells with the smallest words are flipped."""
    pattern = stored_patterns(params)[0].clone()
    cells = torch.arange(len(pattern))
    words = philox.philox(params["seed"], cells, 0, 0, SHAKE)[0]
    flip = sorted(cells.tolist(), key=lambda i: (int(words[i]), i))[: round(params["noise"] * len(pattern))]
    pattern[flip] *= -1
    return pattern


def assert_same_numbers(root, state: torch.Tensor, xi: torch.Tensor, couplings: torch.Tensor) -> None:
    assert torch.equal(spins(data(root, "state")), state)
    energy = float(hebbian.energy(state, couplings)) / len(state)
    assert float(data(root, "energy")) == pytest.approx(energy, abs=1e-12)
    assert json.loads(data(root, "overlaps")) == pytest.approx(
        hebbian.overlaps(state, xi).tolist(), abs=1e-12
    )


def test_recall_follows_the_trajectory_of_the_package_spin_by_spin(figure):
    page, found, root, params = figure("memories", "hebbian", "recall")
    xi, state = stored_patterns(params), start(params)
    couplings = hebbian.hebb_couplings(xi)
    assert_same_numbers(root, state, xi, couplings)
    found.get_by_role("button", name="Run").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("(root) => Number(root.dataset.step) > 300", arg=root.element_handle())
    found.get_by_role("button", name="Pause").or_(found.get_by_role("button", name="Run")).first.click()
    updates = int(data(root, "step"))
    whole = (xi.int().T @ xi.int()).fill_diagonal_(0)
    now = glauber.sequential(
        state[None], whole, None, 0.0, updates=updates, seed=params["seed"], scale=float(len(state))
    )
    assert_same_numbers(root, now[0], xi, couplings)


def test_recall_at_temperature_draws_the_same_numbers(figure):
    page, found, root, params = figure("memories", "hebbian", "recall")
    xi, state = stored_patterns(params), start(params)
    heat = found.get_by_role("slider", name="temperature")
    heat.focus()
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    assert float(heat.input_value()) == pytest.approx(0.4)
    for _ in range(25):
        found.get_by_role("button", name="Step").click()
    page.wait_for_function("(root) => root.dataset.step === '25'", arg=root.element_handle())
    whole = (xi.int().T @ xi.int()).fill_diagonal_(0)
    now = glauber.sequential(
        state[None], whole, None, 0.4, updates=25, seed=params["seed"], scale=float(len(state))
    )
    assert_same_numbers(root, now[0], xi, hebbian.hebb_couplings(xi))


def test_recall_by_mouse_a_click_flips_a_cell_and_reset_undoes_it(figure):
    page, found, root, params = figure("memories", "hebbian", "recall")
    xi, state = stored_patterns(params), start(params)
    flipped = state.clone()
    flipped[210] *= -1
    for act, expected in (
        (found.get_by_role("gridcell").nth(210), flipped),
        (found.get_by_role("button", name="Reset"), state),
    ):
        before = data(root, "state")
        act.click()
        page.wait_for_function(
            "([root, old]) => root.dataset.state !== old", arg=[root.element_handle(), before]
        )
        assert_same_numbers(root, expected, xi, hebbian.hebb_couplings(xi))


def test_recall_with_more_patterns_and_the_projector_has_the_package_s_energy(figure):
    page, found, root, params = figure("memories", "hebbian", "recall")
    found.get_by_role("slider", name="stored").focus()
    page.keyboard.press("End")
    found.get_by_role("radio", name="projector").check()
    page.wait_for_function("(root) => root.dataset.couplings === 'projector'", arg=root.element_handle())
    xi = torch.stack([spins(p) for p in params["patterns"]])
    assert int(data(root, "stored")) == len(xi)
    state = spins(data(root, "state"))
    energy = float(hebbian.energy(state, hebbian.projector_couplings(xi))) / len(state)
    assert float(data(root, "energy")) == pytest.approx(energy, abs=1e-9)


def assert_theory(root) -> None:
    alpha, temperature = float(data(root, "alpha")), float(data(root, "temperature"))
    branch = "retrieval" if temperature < hopfield.retrieval_spinodal(alpha) else "spin_glass"
    theory = hopfield.replica_symmetric(alpha, temperature, branch=branch)
    assert float(data(root, "m")) == pytest.approx(theory.m, abs=1e-4)
    assert float(data(root, "q")) == pytest.approx(theory.q, abs=1e-4)


def test_phase_diagram_is_moved_by_keyboard_and_solves_the_equations_of_the_package(figure):
    page, found, root, params = figure("memories", "hopfield", "phase_diagram")
    assert (float(data(root, "alpha")), float(data(root, "temperature"))) == (
        params["alpha"],
        params["temperature"],
    )
    assert_theory(root)
    found.get_by_role("slider", name="point in the plane").focus()
    for key in ("Shift+ArrowLeft", "Shift+ArrowUp", "ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_function("(root) => root.dataset.temperature === '0.41'", arg=root.element_handle())
    assert float(data(root, "alpha")) == pytest.approx(params["alpha"] - 0.009)
    assert_theory(root)


def test_phase_diagram_is_dragged_by_mouse_and_the_live_network_agrees_with_the_theory(figure):
    page, found, root, params = figure("memories", "hopfield", "phase_diagram")
    box = found.get_by_role("slider", name="point in the plane").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 50, y + 40, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "([root, old]) => root.dataset.alpha !== old", arg=[root.element_handle(), str(params["alpha"])]
    )
    assert (
        float(data(root, "alpha")) < params["alpha"]
        and float(data(root, "temperature")) < params["temperature"]
    )
    assert_theory(root)
    page.wait_for_function(
        "([root, n]) => Number(root.dataset.sweeps) >= n", arg=[root.element_handle(), params["sweeps"]]
    )
    # 400 spins deep in the retrieval phase: the overlap fluctuates by less than √((1−q)/N) ≈ 0.01 a sweep.
    assert float(data(root, "live-m")) == pytest.approx(float(data(root, "m")), abs=0.05)


@pytest.mark.parametrize("chapter", ["hebbian", "hopfield"])
def test_sliders_move_the_curves_by_keyboard(figure, chapter):
    page, found, root, params = figure("memories", chapter, "plot")
    first = params["sliders"][0]
    before, drawn = data(root, "frame"), found.locator("svg").first.inner_html()
    found.get_by_role("slider").first.focus()
    page.keyboard.press("End")
    page.wait_for_function("([root, old]) => root.dataset.frame !== old", arg=[root.element_handle(), before])
    assert json.loads(data(root, "values")) == [first["texts"][-1]]
    assert found.locator("svg").first.inner_html() != drawn


def test_a_narrow_dark_screen_shows_the_explorables_within_its_width(figure):
    for chapter, module in (("hebbian", "recall"), ("hopfield", "phase_diagram")):
        *_, root, _params = figure("memories", chapter, module, theme="dark", width=400)
        box = root.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 400
