"""The interactive figures of the chapters on diffusion and its exact solutions: their numbers against the package's."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hands import number, press, values

from physgen.exact import curie_weiss, speciation
from physgen.kernels import glauber, philox, reverse

DEFAULTS = {
    "reverse_diffusion": {
        "variance": 0.04,
        "t_max": 3,
        "eta": 1,
        "steps": 50,
        "particles": 400,
        "seed": 1,
        "weights": None,
    },
    "symmetry_breaking": {"norm": 4, "variance": 0.25, "t_max": 3, "clones": 60, "seed": 1},
    "curie_weiss": {"beta": 1.2, "field": 0, "d": 50, "seed": 1},
}
PLACES = {
    "reverse_diffusion": ("diffusion", "score"),
    "symmetry_breaking": ("exact", "speciation"),
    "curie_weiss": ("exact", "curie_weiss"),
}


@pytest.fixture
def explorable(figure):
    """Call `explorable(module)` for (page, figure, its drawn root, all its parameters)."""

    def make(module: str, **kind):
        page, found, root, params = figure(*PLACES[module], module, **kind)
        return page, found, root, DEFAULTS[module] | params

    return make


# ---- reverse diffusion in the plane


def end_of_run(root, params: dict) -> torch.Tensor:
    """The particles at t = 0 by the package, at the η and the number of steps that the figure shows."""
    steps, count = int(number(root, "steps")), 2 * params["particles"]
    streams = torch.arange(1, 1 + (count + 3) // 4)
    start = philox.normal(philox.philox(params["seed"], 0, 0, 1, streams)).T.flatten()[:count].view(-1, 2)
    times = torch.tensor(
        [params["t_max"] * (1 - k / steps) ** 2 for k in range(steps + 1)], dtype=torch.float64
    )
    return reverse.gaussian_mixture(
        start,
        torch.tensor(params["means"], dtype=torch.float64),
        times,
        params["seed"],
        number(root, "eta"),
        torch.tensor(params["weights"], dtype=torch.float64) if params["weights"] else None,
        params["variance"],
        backend="torch",
    )


def assert_same_end(root, params: dict) -> None:
    x, means = end_of_run(root, params), torch.tensor(params["means"], dtype=torch.float64)
    weights = params["weights"] or [1 / len(means)] * len(means)
    squares = (x[:, None] - means).square().sum(2)
    shares = (means.new_tensor(weights).log() - squares / (2 * params["variance"])).softmax(1)
    assert values(root, "mean") == pytest.approx(x.mean(0).tolist(), abs=1e-9)
    assert number(root, "second") == pytest.approx(float(x.square().mean()), abs=1e-9)
    assert values(root, "shares") == pytest.approx(shares.mean(0).tolist(), abs=1e-9)
    assert number(root, "spread") == pytest.approx(float((shares * squares).sum(1).mean() / 2), abs=1e-9)


def test_reverse_diffusion_makes_the_steps_of_the_package_at_each_eta_and_number_of_steps(explorable):
    page, found, root, params = explorable("reverse_diffusion")
    assert (number(root, "eta"), number(root, "steps")) == (params["eta"], params["steps"])
    assert_same_end(root, params)
    for name, key, changes in (
        ("noise", "Home", "eta"),
        ("steps", "ArrowLeft", "steps"),
        ("noise", "End", "eta"),
        ("steps", "End", "steps"),
    ):
        press(page, found, root, name, key, changes)
        assert_same_end(root, params)
    found.get_by_role("button", name="Reset").click()
    assert (number(root, "eta"), number(root, "steps")) == (params["eta"], params["steps"])


def test_reverse_diffusion_is_played_and_its_time_is_moved_by_keyboard(explorable):
    page, found, root, params = explorable("reverse_diffusion")
    assert number(root, "t") == 0
    press(page, found, root, "time", "Home", "t")
    assert (number(root, "step"), number(root, "t")) == (0, params["t_max"])
    press(page, found, root, "time", "ArrowRight", "t")
    assert number(root, "t") == pytest.approx(params["t_max"] * (1 - 1 / params["steps"]) ** 2)
    found.get_by_role("button", name="Run").click()
    page.wait_for_function("(root) => Number(root.dataset.step) > 3", arg=root.element_handle())
    found.get_by_role("button", name="Pause").click()
    assert found.get_by_role("button", name="Run").is_visible()


# ---- the fork of two classes


def step(y, times, k: int, key: int, replica: int, params: dict):
    """The trajectories y, one step on by the exact law of a step, and the class that each took in it."""
    norm, t, after = params["norm"], float(times[k]), float(times[k + 1])
    gamma, gamma_after = (params["variance"] * math.exp(-2 * u) - math.expm1(-2 * u) for u in (t, after))
    words = philox.philox(key, k, 0, replica, torch.arange(1, 1 + len(y)))
    z = philox.normal(words)[0]
    p_plus = speciation.class_probability(
        y[:, None], t, torch.tensor([norm], dtype=torch.float64), params["variance"]
    )
    label = torch.where(words[2] < 2**32 * p_plus, 1.0, -1.0).double()
    a, s, s_after = math.exp(after - t), math.exp(-t), math.exp(-after)
    noise = math.sqrt(gamma_after * (1 - a * a) / gamma)
    mean = label * norm * s_after + a * gamma_after / gamma * (y - label * norm * s)
    return mean + noise * z, label


def fork(t: float, seed: int, params: dict, trunks: int = 240, steps: int = 100) -> tuple[float, float]:
    """y of trunk 0 at the step nearest to t, and the share of trunks whose two clones end in one class."""
    times = torch.tensor([params["t_max"] * (1 - k / steps) for k in range(steps + 1)], dtype=torch.float64)
    parting = round(steps * (1 - t / params["t_max"]))
    words = philox.philox(seed, steps, 0, 0, torch.arange(1, 1 + trunks))
    s, v = math.exp(-params["t_max"]), params["variance"]
    label = torch.where(words[2] < 2**31, 1.0, -1.0).double()
    y = label * params["norm"] * s + math.sqrt(v * s * s + 1 - s * s) * philox.normal(words)[0]
    for k in range(parting):
        y, _ = step(y, times, k, seed, 0, params)
    ends = []
    for replica in (1, 2):
        clone = y
        for k in range(parting, steps):
            clone, label = step(clone, times, k, seed, replica, params)
        ends.append(label)
    return float(y[0]), float((ends[0] == ends[1]).double().mean())


def assert_same_fork(root, params: dict) -> None:
    t, norm, variance = number(root, "t"), params["norm"], params["variance"]
    phi = float(speciation.cloning_probability(t, norm, variance))
    assert number(root, "phi") == pytest.approx(phi, abs=1e-12)
    assert number(root, "kappa") == pytest.approx(
        float(speciation.signal_to_noise(t, norm, variance)), rel=1e-13
    )
    assert number(root, "t-s") == pytest.approx(float(speciation.speciation_time(norm**2 + variance)))
    y, measured = fork(t, int(number(root, "seed")), params)
    assert number(root, "y") == pytest.approx(y, abs=1e-9)
    assert number(root, "measured") == pytest.approx(measured, abs=1e-12)
    assert measured == pytest.approx(phi, abs=5 * math.sqrt(phi * (1 - phi) / 240) + 1e-3)


def test_symmetry_breaking_clones_as_the_exact_law_says_wherever_they_part(explorable):
    page, found, root, params = explorable("symmetry_breaking")
    assert_same_fork(root, params)
    for key in ("PageUp", "ArrowLeft", "Home", "End"):
        press(page, found, root, "they part", key, "t")
        assert_same_fork(root, params)
    assert number(root, "t") == pytest.approx(params["t_max"] / 100)
    before = root.get_attribute("data-y")
    found.get_by_role("button", name="New noise").click()
    page.wait_for_function("([root, old]) => root.dataset.y !== old", arg=[root.element_handle(), before])
    assert number(root, "seed") == params["seed"] + 1
    assert_same_fork(root, params)


def test_symmetry_breaking_is_dragged_along_its_axis_of_time(explorable):
    page, found, root, params = explorable("symmetry_breaking")
    picture = found.get_by_role("img", name="cloning probability against time")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    before = number(root, "t")
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 40, steps=4)
    page.mouse.up()
    page.wait_for_function(
        "([root, t]) => Number(root.dataset.t) > t",
        arg=[root.element_handle(), max(before, 0.6 * params["t_max"])],
    )
    assert_same_fork(root, params)


# ---- the landscape of the magnet


def assert_same_magnet(root) -> None:
    beta, field, d = number(root, "beta"), number(root, "field"), int(number(root, "d"))
    # In the package a field is counted in units of the temperature: per spin here, of the whole magnet at finite d.
    m_star = float(curie_weiss.magnetization(beta, beta * field))
    assert number(root, "m-star") == pytest.approx(m_star, abs=1e-12)
    law = curie_weiss.sector_law(d, beta, beta * field * d)
    assert number(root, "mean-abs") == pytest.approx(
        float(law.probabilities @ law.values.abs()) / d, abs=1e-12
    )
    assert number(root, "mean") == pytest.approx(float(law.probabilities @ law.values) / d, abs=1e-12)


def test_curie_weiss_has_the_minimum_and_the_law_of_the_package(explorable):
    page, found, root, params = explorable("curie_weiss")
    assert (number(root, "beta"), number(root, "field"), number(root, "d")) == (
        params["beta"],
        params["field"],
        params["d"],
    )
    assert_same_magnet(root)
    for name, key, changes in (
        ("field", "ArrowRight", "field"),
        ("β", "PageUp", "beta"),
        ("field", "Home", "field"),
        ("β", "Home", "beta"),
    ):
        press(page, found, root, name, key, changes)
        assert_same_magnet(root)


def test_curie_weiss_with_ten_spins_is_the_sum_over_all_states(explorable):
    page, found, root, _params = explorable("curie_weiss")
    found.get_by_role("radio", name="10", exact=True).check()
    press(page, found, root, "field", "ArrowRight", "field")
    beta, field = number(root, "beta"), number(root, "field")
    total = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=10)), dtype=torch.float64).sum(1)
    p = (beta * (total**2 / 20 + field * total)).softmax(0)
    assert number(root, "mean-abs") == pytest.approx(float(p @ total.abs()) / 10, abs=1e-13)


def test_curie_weiss_moves_its_spins_as_the_heat_bath_of_the_package(explorable):
    page, found, root, params = explorable("curie_weiss")
    found.get_by_role("button", name="Run").click()
    start = number(root, "sweeps")
    page.wait_for_function(
        "([root, n]) => Number(root.dataset.sweeps) > n", arg=[root.element_handle(), start]
    )
    found.get_by_role("button", name="Pause").click()
    d, beta = params["d"], params["beta"]
    now = glauber.sequential(
        torch.ones(1, d, dtype=torch.int8),
        torch.ones(d, d, dtype=torch.float64).fill_diagonal_(0),
        torch.full((d,), params["field"] * d, dtype=torch.float64),
        1 / beta,
        updates=d * int(number(root, "sweeps")),
        seed=params["seed"],
        scale=float(d),
    )
    assert int(now.sum()) == number(root, "live-m")


@pytest.mark.parametrize("module", PLACES)
def test_a_narrow_dark_screen_shows_the_figure_within_its_width(explorable, module):
    *_, root, _params = explorable(module, theme="dark", width=400)
    box = root.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 400
