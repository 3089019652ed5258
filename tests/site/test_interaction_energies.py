"""The interactive figures of the chapters on energies and flows: their numbers against the package's, their keys and pointers.

Most of it is proved on pages of one figure, made here; the built chapters must then show the same numbers.
"""

from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest
import torch
from hands import after, click, drag, number, press

from physgen import explorables
from physgen.energies import adversarial
from physgen.energies import energy_models as em
from physgen.flows import coupling
from physgen.kernels import philox

LAND = {
    "points": [-1.4, -0.9, -0.6, 0.8, 1.1, 1.7],
    "centres": [-2.0, -1.2, 0.0, 0.9, 1.8],
    "width": 0.55,
    "theta": [0.5, -0.4, 0.8, -0.3, 0.2],
    "confinement": 0.05,
    "particles": 25,
    "seed": 7,
}
GAMES = {"dirac": ("logistic", 0.0), "gaussian": ("logistic", 0.7), "linear": ("linear", 1.0)}
D = torch.float64


def values(root, name: str) -> torch.Tensor:
    return torch.tensor(json.loads(root.get_attribute(f"data-{name}")), dtype=D)


def close(found, wanted, tol: float = 1e-9) -> None:
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=D), rtol=tol, atol=tol)


# ---- the landscape of an energy


def features(x: torch.Tensor, params: dict) -> torch.Tensor:
    """The bumps and x⁴, at x."""
    centres = torch.tensor(params["centres"], dtype=D)
    bumps = torch.exp(-((x[:, None] - centres) ** 2) / (2 * params["width"] ** 2))
    return torch.cat([bumps, x[:, None] ** 4], 1)


def likelihood(theta: torch.Tensor, points: torch.Tensor, params: dict) -> em.Likelihood:
    grid = torch.linspace(-4, 4, 801, dtype=D)
    full = torch.cat([theta, torch.tensor([params.get("confinement", 0.04)], dtype=D)])
    return em.exponential_family(full, features(points, params).mean(0), features(grid, params), grid)


def langevin(monkeypatch, x: torch.Tensor, theta: torch.Tensor, moves: range, params: dict) -> torch.Tensor:
    """The package's own moves, with the random numbers of the figure."""
    full = torch.cat([theta, torch.tensor([params.get("confinement", 0.04)], dtype=D)])
    for m in moves:
        words = philox.philox(params.get("seed", 1), m, 0, torch.arange(len(x)), 1)
        with monkeypatch.context() as stream:
            stream.setattr(torch, "randn", lambda *_, w=words, **__: philox.normal(w)[0][:, None])
            stream.setattr(torch, "rand", lambda *_, w=words, **__: philox.uniform(w)[2])
            x, _ = em.langevin(x[:, None], lambda y: features(y[:, 0], params) @ full, 0.02)
        x = x[:, 0]
    return x


def assert_same_landscape(root, params: dict) -> None:
    exact = likelihood(values(root, "theta"), values(root, "points"), params)
    assert number(root, "likelihood") == pytest.approx(-float(exact.value), abs=1e-9)
    assert number(root, "log-z") == pytest.approx(float(exact.log_z), abs=1e-9)
    close(values(root, "difference"), exact.gradient[:-1])
    assert number(root, "gap") == pytest.approx(float(exact.gradient[:-1].abs().max()), abs=1e-9)


def test_energy_landscape_has_the_likelihood_of_the_package_and_takes_its_gradient(staged):
    page, found, root = staged("energy_landscape", LAND)
    close(values(root, "theta"), LAND["theta"])
    for k in range(3):
        assert_same_landscape(root, LAND)
        theta, slope = (
            values(root, "theta"),
            likelihood(values(root, "theta"), values(root, "points"), LAND).gradient,
        )
        rate = number(root, "rate")
        click(page, found, root, "One step", "steps")
        close(values(root, "theta"), theta - rate * slope[:-1])
        press(page, found, root, "step", "ArrowRight", "rate")
        assert number(root, "steps") == k + 1
    for _ in range(20):
        click(page, found, root, "One step", "steps")
    assert_same_landscape(root, LAND)
    found.get_by_role("button", name="Learn").click()
    page.wait_for_function(
        "(root) => Number(root.dataset.gap) < 0.01", arg=root.element_handle(), timeout=60000
    )
    found.get_by_role("button", name="Pause").click()
    assert_same_landscape(root, LAND)


def test_energy_landscape_without_negatives_digs_without_end(staged):
    page, found, root = staged("energy_landscape", LAND | {"negatives": "nothing", "rate": 3})
    mean = features(values(root, "points"), LAND).mean(0)[:-1]
    theta = values(root, "theta")
    for k in range(1, 4):
        click(page, found, root, "One step", "steps")
        close(values(root, "theta"), theta - 3 * k * mean)
        assert_same_landscape(root, LAND)
    worst = number(root, "likelihood")
    found.get_by_role("button", name="Learn").click()
    found.get_by_role("status").filter(has_text="would fall for ever").wait_for(timeout=60000)
    assert number(root, "likelihood") < worst
    steps = number(root, "steps")
    found.get_by_role("button", name="One step").click()
    assert number(root, "steps") == steps  # it stops before the numbers do


def test_energy_landscape_particles_move_as_the_package_moves_them_and_teach_what_they_see(
    staged, monkeypatch
):
    page, found, root = staged("energy_landscape", LAND | {"negatives": "particles"})
    places = philox.uniform(philox.philox(7, 0, 0, torch.arange(25), 2))[0]
    close(values(root, "particles"), 6 * places - 3)
    for k in range(2):
        theta, particles, points = (values(root, name) for name in ("theta", "particles", "points"))
        click(page, found, root, "One step", "steps")
        slope = (features(points, LAND).mean(0) - features(particles, LAND).mean(0))[:-1]
        close(values(root, "theta"), theta - slope)
        moved = langevin(monkeypatch, particles, values(root, "theta"), range(5 * k, 5 * k + 5), LAND)
        close(values(root, "particles"), moved, 1e-8)
    after(page, root, found.get_by_role("radio", name="exact").check, "rule")
    found.get_by_role("button", name="Only sample").click()
    page.wait_for_function("(root) => Number(root.dataset.moves) >= 40", arg=root.element_handle())
    found.get_by_role("button", name="Pause").click()
    assert number(root, "steps") == 2
    click(page, found, root, "Reset", "moves")
    close(values(root, "particles"), 6 * places - 3)
    assert root.get_attribute("data-rule") == "particles"


def test_energy_landscape_data_are_moved_by_keys_and_dragged(staged):
    page, found, root = staged("energy_landscape", LAND)
    press(page, found, root, "datum 2", "ArrowLeft", "points")
    press(page, found, root, "datum 2", "Shift+ArrowRight", "points")
    close(values(root, "points")[1], -0.9 - 0.05 + 0.25)
    assert "energy" in found.get_by_role("slider", name="datum 2").get_attribute("aria-valuetext")
    assert_same_landscape(root, LAND)

    def to_the_right(way: float) -> None:
        box = found.get_by_role("slider", name="datum 5").locator("circle").last.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        after(page, root, lambda: drag(page, (x, y), (x + way, y)), "points")

    to_the_right(60)
    page.wait_for_function("(root) => JSON.parse(root.dataset.points)[4] > 1.3", arg=root.element_handle())
    assert_same_landscape(root, LAND)
    to_the_right(500)
    page.wait_for_function("(root) => JSON.parse(root.dataset.points)[4] === 3", arg=root.element_handle())
    click(page, found, root, "Reset", "points")
    close(values(root, "points"), LAND["points"])


# ---- two players


def assert_same_play(root) -> None:
    kind, variance = GAMES[root.get_attribute("data-game")]
    game = adversarial.Game(kind, variance, number(root, "penalty"))
    h, rule, k = number(root, "h"), root.get_attribute("data-rule"), int(number(root, "k"))
    start = values(root, "start")
    close(values(root, "velocity"), adversarial.vector_field(start, game))
    factors = [
        float(torch.linalg.eigvals(adversarial.update_matrix(game, h, r)).abs().max())
        for r in adversarial.RULES
    ]
    # At a double eigenvalue both answers lose half of their digits.
    close(values(root, "factors"), factors, 1e-7)
    assert number(root, "factor") == pytest.approx(factors[adversarial.RULES.index(rule)], rel=1e-7)
    k = min(k, int(number(root, "length")))
    state = adversarial.trajectory(start, game, h, max(k, 1), rule)[k]
    close(values(root, "state"), state, 1e-8)
    assert number(root, "distance") == pytest.approx(float(state.norm()), rel=1e-8, abs=1e-10)
    end = torch.tensor([max(0.1, h * number(root, "k"))], dtype=D)
    close(values(root, "flow"), adversarial.flow(start, game, end)[0], 1e-4)


@pytest.mark.parametrize("game", GAMES)
def test_gan_portrait_plays_as_the_package_plays(staged, game):
    page, found, root = staged("gan_portrait", {"game": game, "variance": 0.7, "steps": 60, "h": 0.3})
    assert_same_play(root)
    for rule in adversarial.RULES[1:]:
        after(page, root, found.get_by_role("radio", name=rule).check, "rule")
        press(page, found, root, "step h", "PageUp", "h")
        press(page, found, root, "penalty", "PageUp", "penalty")
        press(page, found, root, "steps k", "ArrowLeft", "k")
        assert_same_play(root)
    press(page, found, root, "steps k", "Home", "k")
    assert_same_play(root)
    close(values(root, "state"), values(root, "start"))
    click(page, found, root, "Reset", "k")
    assert (number(root, "h"), number(root, "penalty"), number(root, "k")) == (0.3, 0, 60)


def test_gan_portrait_start_is_dragged_and_moved_by_keys_and_the_play_is_played(staged):
    page, found, root = staged("gan_portrait", {"start": [1.0, 0.5], "steps": 20})
    press(page, found, root, "start", "ArrowUp", "start")
    press(page, found, root, "start", "Shift+ArrowLeft", "start")
    close(values(root, "start"), [0.75, 0.55])
    assert_same_play(root)
    box = found.get_by_role("slider", name="start").locator("path").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    after(page, root, lambda: drag(page, (x, y), (x - 70, y - 40)), "start")
    page.wait_for_function("(root) => JSON.parse(root.dataset.start)[0] < 0.5", arg=root.element_handle())
    assert values(root, "start")[1] > 0.6
    assert_same_play(root)
    after(page, root, found.get_by_role("radio", name="a Gaussian").check, "game")
    click(page, found, root, "Play", "k")
    page.wait_for_function("(root) => Number(root.dataset.k) === 20", arg=root.element_handle())
    assert found.get_by_role("button", name="Play").is_visible()


# ---- the layers of a flow


@pytest.fixture(scope="module")
def flowed() -> tuple[coupling.CouplingFlow, coupling.Frames, dict]:
    flow = coupling.CouplingFlow(2, 3, 16, generator=torch.Generator().manual_seed(1))
    data = coupling.two_modes(1.2, 0.2, 2).sample(2000, torch.Generator().manual_seed(2))
    coupling.maximum_likelihood(flow, data, 60, 128, 1e-2, torch.Generator().manual_seed(3))
    frames = coupling.layer_frames(
        flow, n=40, lines=5, nodes=9, resolution=12, extent=3.0, generator=torch.Generator().manual_seed(4)
    )
    return flow, frames, explorables.flow_params(frames)


def passed(flow: coupling.CouplingFlow, place: float):
    """The map of generation up to a place: whole layers, and a part of the next one."""
    total = len(flow.kept)

    def move(x: torch.Tensor) -> torch.Tensor:
        for j in range(math.ceil(place)):
            k, part = total - 1 - j, min(1.0, place - j)
            x = (1 - part) * x + part * coupling.uncouple(x, flow.conditioner(k), flow.kept[k]).x
        return x

    return move


def test_flow_layers_shows_points_and_densities_at_and_between_the_layers(staged, flowed):
    flow, frames, params = flowed
    page, found, root = staged("flow_layers", params | {"sample": 3})
    coordinate = (params["grid"]["high"] - params["grid"]["low"]) / 65535
    height = (params["log_density"]["high"] - params["log_density"]["low"]) / 65535

    def assert_same() -> None:
        place, i = number(root, "place"), int(number(root, "sample"))
        move, z = passed(flow, place), frames.points[0]
        close(values(root, "position"), move(z)[i].detach(), coordinate)
        volume = torch.linalg.det(coupling.jacobian(move, z)).abs().log()
        exact = coupling.normal_log_density(z) - volume
        # Two quantised densities, whose difference is stretched by the interpolation: a few levels.
        assert number(root, "log-density") == pytest.approx(float(exact[i]), abs=4 * height)
        assert number(root, "average") == pytest.approx(float(exact.mean()), abs=4 * height)
        close(values(root, "corner"), move(frames.grid[0, 0, 0, :1])[0].detach(), coordinate)
        k = min(int(place), 2)
        moved = (frames.points[k + 1] - frames.points[k]).abs().sum(0)
        assert number(root, "moves") == int(moved.argmax())
        if place == int(place):
            wanted = frames.log_map[int(place)].diagonal().clamp(min=float(frames.log_map.max()) - 12)
            close(values(root, "map"), wanted, 12 / 255)

    assert_same()
    for key in ("PageUp", "ArrowRight", "ArrowRight", "End"):
        press(page, found, root, "layer", key, "place")
        assert_same()
    click(page, found, root, "Back a layer", "place")
    assert number(root, "place") == 2
    press(page, found, root, "sample", "End", "sample")
    assert number(root, "sample") == 39
    assert_same()
    click(page, found, root, "On a layer", "place")
    assert number(root, "place") == 3
    click(page, found, root, "Play", "place")
    page.wait_for_function("(root) => Number(root.dataset.place) === 3", arg=root.element_handle())
    assert_same()


def test_flow_layers_follows_the_sample_that_is_tapped_and_hides_what_is_not_wanted(staged, flowed):
    _, frames, params = flowed
    page, found, root = staged("flow_layers", params | {"layer": 3})
    ground = found.locator(".pgx-ground").bounding_box()
    inside = (frames.points[3].abs().amax(1) < 2.5).nonzero()[:, 0].tolist()
    wanted = next(i for i in inside if i)
    x, y = frames.points[3][wanted].tolist()
    at = ground["x"] + ground["width"] * (x + 3) / 6, ground["y"] + ground["height"] * (3 - y) / 6
    after(page, root, lambda: page.mouse.click(*at), "sample")
    assert number(root, "sample") == wanted

    def ink() -> int:
        return found.locator("canvas").evaluate("""(canvas) => {
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
          copy.drawImage(canvas, 0, 0);
          return copy.getImageData(0, 0, canvas.width, canvas.height).data.filter((v, i) => i % 4 === 3 && v).length;
        }""")

    before = ink()
    for name in ("density", "grid", "samples"):
        found.get_by_role("checkbox", name=name).uncheck()
        page.wait_for_timeout(100)
        now = ink()
        assert now < before
        before = now
    assert before == 0


# ---- in the book, and on a narrow screen


def test_the_chapter_on_energies_shows_the_numbers_of_the_package(figure):
    page, found, root, params = figure("energies", "energy_models", "energy_landscape")
    assert_same_landscape(root, params)
    click(page, found, root, "One step", "steps")
    assert_same_landscape(root, params)


def test_the_chapter_on_adversaries_shows_the_numbers_of_the_package(figure):
    page, found, root, _ = figure("energies", "adversarial", "gan_portrait")
    assert_same_play(root)
    press(page, found, root, "step h", "ArrowRight", "h")
    assert_same_play(root)


def test_the_chapter_on_couplings_shows_the_densities_that_it_was_given(figure):
    page, found, root, params = figure("flows", "coupling", "flow_layers")
    packed = params["log_density"]
    levels = np.frombuffer(base64.b64decode(packed["data"]), "<u2").reshape(-1, params["samples"])
    means = packed["low"] + (packed["high"] - packed["low"]) * levels.mean(1) / 65535
    while number(root, "place") > 0:
        click(page, found, root, "Back a layer", "place")
    for mean in means[1:]:
        click(page, found, root, "On a layer", "place")
        assert number(root, "average") == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize("module", ["energy_landscape", "flow_layers", "gan_portrait"])
def test_a_narrow_dark_screen_shows_the_figure_within_its_width(staged, flowed, module):
    params = {"energy_landscape": LAND, "flow_layers": flowed[2], "gan_portrait": {}}
    page, _, root = staged(module, params[module], theme="dark", width=400)
    box = root.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 400
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
