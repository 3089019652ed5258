"""The interactive figures of the chapters on scales: their numbers against the package's, their keys and pointers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hands import after, click, drag, number, press, values

from physgen import errorbars
from physgen.kernels import philox, wavelet
from physgen.kernels.lattice import action, embedded, energy, heat_bath, magnetization, wolff
from physgen.scales import phi4, renormalization, wavelets

D = torch.float64
T_C = 2 / math.log(1 + math.sqrt(2))
ROWS = sorted([*(k / 100 for k in range(100, 352, 2)), T_C])
EXACT = {
    "T": ROWS,
    "u": renormalization.onsager_energy(torch.tensor(ROWS, dtype=D)),
    "M": renormalization.onsager_magnetization(torch.tensor(ROWS, dtype=D)),
}
STILL = {"exact": EXACT, "running": False}


def close(found, wanted, tol: float = 1e-9) -> None:
    torch.testing.assert_close(
        torch.as_tensor(found, dtype=D), torch.as_tensor(wanted, dtype=D), rtol=tol, atol=tol
    )


# ---- the lattice


def started(size: int, start: str, seed: int) -> torch.Tensor:
    """(1, size, size) int8: the spins of a start."""
    if start == "cold":
        return torch.ones(1, size, size, dtype=torch.int8)
    words = philox.philox(seed, torch.arange(-(-(size**2) // 128)), 0, 0, 2**32 - 1).T.flatten()
    bits = (words[:, None] >> torch.arange(32) & 1).flatten()[: size**2]
    return (2 * bits - 1).to(torch.int8).view(1, size, size)


def metropolis(phi: torch.Tensor, beta: float, seed: int, t: int) -> torch.Tensor:
    """One sweep of the figure's φ⁴: k of 10 bits proposes φ + (k − 511.5) 1.25/512, 22 bits accept."""
    size = phi.shape[-1]
    count = -(-(size**2) // 8)
    colours = (torch.arange(size)[:, None] + torch.arange(size)) % 2
    for colour in (0, 1):
        words = philox.philox(seed, t, 0, 1, 2**30 * colour + torch.arange(count)).flatten()[: size**2 // 2]
        word = words.view(size, -1).repeat_interleave(2, 1)
        new = phi + ((word >> 22).double() - 511.5) * (1.25 / 512)
        around = phi.roll(1, 1) + phi.roll(-1, 1) + phi.roll(1, 2) + phi.roll(-1, 2)
        rise = (new**4 - new**2) - (phi**4 - phi**2) - beta * around * (new - phi)
        accept = ((word & 0x3FFFFF).double() + 0.5) / 2**22 < torch.exp(-rise)
        phi = torch.where((colours == colour) & accept, new, phi)
    return phi


class Twin:
    """The lattice of the figure, moved by the package: clusters on lattice 2 of a batch, so that they share no word with the sweeps."""

    def __init__(self, model: str, size: int, start: str, seed: int):
        self.model, self.seed, self.sweeps, self.flips = model, seed, 0, 0
        self.field = started(size, start, seed)
        if model == "phi4":
            self.field = self.field.double()

    def advance(self, parameter: float, sweeps: int, rounds: bool = False) -> list[tuple[float, float]]:
        """(energy, m) after each sweep."""
        seen, beta = [], 1 / parameter if self.model == "ising" else parameter
        for _ in range(sweeps):
            if rounds:
                three = self.field.repeat(3, 1, 1)
                flip = wolff if self.model == "ising" else embedded
                self.field = flip(three, beta, 1, self.seed, self.flips)[0][2:]
                self.flips += 1
            if self.model == "ising":
                self.field = heat_bath(self.field, beta, 1, self.seed, self.sweeps)
            else:
                self.field = metropolis(self.field, beta, self.seed, self.sweeps)
            self.sweeps += 1
            seen.append(self.numbers(parameter))
        return seen

    def numbers(self, parameter: float) -> tuple[float, float]:
        if self.model == "ising":
            return float(energy(self.field)), float(magnetization(self.field))
        per_site = action(self.field, parameter, -(1 + 2 * parameter), 1.0) / self.field[0].numel()
        return float(per_site), float(self.field.mean())

    def blocked(self, b: int) -> torch.Tensor:
        cut = self.field[0].double().unflatten(1, (-1, b)).unflatten(0, (-1, b))
        if self.model == "phi4":
            return cut.mean((1, 3))
        total = cut.sum((1, 3))
        return torch.where(total == 0, cut[:, 0, :, 0], total.sign())


def pixels(found, which: int) -> torch.Tensor:
    """The red of each pixel of one of the three views."""
    red = (
        found.locator(".pgx-views canvas")
        .nth(which)
        .evaluate("""(canvas) => {
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      return [canvas.width, ...copy.getImageData(0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 === 0)];
    }""")
    )
    return torch.tensor(red[1:]).view(-1, red[0])


def assert_same_lattice(found, root, twin: Twin, blocks: list[int]) -> None:
    parameter = number(root, "parameter")
    per_site, m = twin.numbers(parameter)
    assert (number(root, "sweeps"), number(root, "flips")) == (twin.sweeps, twin.flips)
    close([number(root, "energy"), number(root, "m")], [per_site, m])
    for which, (b, alike) in enumerate(zip(blocks, values(root, "alike"), strict=True)):
        s = twin.blocked(b)
        close(alike, (s * (s.roll(-1, 0) + s.roll(-1, 1))).mean() / (2 * s.square().mean()))
        if twin.model == "ising":
            assert torch.equal(pixels(found, which) == 0x09, s > 0)  # the red of colour 1


@pytest.mark.parametrize(
    ("model", "size", "blocks", "rounds", "sweeps"),
    [
        ("ising", 32, [1, 2, 8], 4, 5),
        # Once in 2¹⁶ decisions the lower bits decide: here some fifteen times.
        ("ising", 256, [1, 4, 16], 2, 15),
        ("ising", 4, [1, 2, 4], 3, 20),
        ("phi4", 16, [1, 2, 4], 4, 5),
        ("phi4", 64, [1, 4, 16], 1, 2),
    ],
)
def test_lattice_zoom_is_moved_site_by_site_as_the_package_moves_it(
    staged, model, size, blocks, rounds, sweeps
):
    params = {"size": size, "blocks": blocks, "model": model, "start": "hot", "seed": 2**33 + 5}
    page, found, root = staged("lattice_zoom", STILL | params | {"rounds": rounds, "sweeps": sweeps})
    twin = Twin(model, size, "hot", 2**33 + 5)
    parameter = number(root, "parameter")
    assert parameter == pytest.approx(T_C if model == "ising" else 0.68)
    twin.advance(parameter, rounds, rounds=True)
    seen = torch.tensor(twin.advance(parameter, sweeps), dtype=D)
    assert_same_lattice(found, root, twin, blocks)
    close(
        [number(root, "mean-energy"), number(root, "mean-size")], [seen[:, 0].mean(), seen[:, 1].abs().mean()]
    )
    assert number(root, "count") == sweeps
    click(page, found, root, "One sweep", "sweeps")
    twin.advance(parameter, 1)
    assert_same_lattice(found, root, twin, blocks)
    name = "temperature" if model == "ising" else "coupling"
    for key in ("ArrowLeft", "PageUp"):
        press(page, found, root, name, key, "parameter")
        assert number(root, "count") == 0  # averages begin anew
    click(page, found, root, "20 sweeps with clusters", "sweeps")
    twin.advance(number(root, "parameter"), 20, rounds=True)
    assert_same_lattice(found, root, twin, blocks)
    for start in ("cold", "hot"):
        click(page, found, root, f"Reset {start}", "m")
        twin = Twin(model, size, start, 2**33 + 5)
        assert_same_lattice(found, root, twin, blocks)


def test_lattice_zoom_at_t_2_has_onsager_s_energy_and_magnetisation(staged):
    params = {"T": 2.0, "start": "cold", "rounds": 20, "sweeps": 250, "seed": 3}
    _, found, root = staged("lattice_zoom", STILL | params)
    assert number(root, "parameter") == 2
    twin = Twin("ising", 256, "cold", 3)
    twin.advance(2.0, 20, rounds=True)
    # The same lattice, so the same series: from it come the errors.
    seen = torch.tensor(twin.advance(2.0, 250), dtype=D)
    for found_mean, series, exact in (
        (number(root, "mean-energy"), seen[:, 0], renormalization.onsager_energy(2.0)),
        (number(root, "mean-size"), seen[:, 1], renormalization.onsager_magnetization(2.0)),
    ):
        mean, error, _ = errorbars.mean_and_error(series)
        close(found_mean, mean)
        assert abs(found_mean - float(exact)) < 4 * error
    text = found.locator(".pgx-readings").inner_text().replace("−", "-")
    assert "0.9113" in text and "-1.7456" in text


def test_lattice_zoom_samples_phi4_without_bias(staged):
    # Eight runs of their own; the torus of 4 × 4 is known exactly, and S by the virial ⟨φ ∂S/∂φ⟩ = 1.
    exact = phi4.moments_torus(4, 0.68)
    fourth = (1 + 2 * exact.variance + 4 * 0.68 * exact.bond) / 4
    wanted = torch.tensor([exact.variance, fourth - exact.variance - 2 * 0.68 * exact.bond], dtype=D)
    runs = []
    for seed in range(8):
        params = {"model": "phi4", "size": 4, "blocks": [1, 2, 4], "rounds": 50, "sweeps": 30_000}
        _, _, root = staged("lattice_zoom", STILL | params | {"seed": seed})
        runs.append([number(root, "mean-square"), number(root, "mean-energy")])
        assert 0.4 < number(root, "accepted") < 0.6
    runs = torch.tensor(runs, dtype=D)
    error = runs.std(0) / math.sqrt(8)
    assert float(error.max()) < 0.01
    # Student's law with seven degrees of freedom: beyond 5.4 errors once in a thousand.
    assert bool(((runs.mean(0) - wanted).abs() < 5.4 * error).all())


def test_lattice_zoom_runs_pauses_and_stands_still_out_of_sight(staged):
    params = {"exact": EXACT, "size": 64, "rounds": 0, "sweeps": 0}
    page, found, root = staged("lattice_zoom", params)

    def rests() -> bool:
        page.wait_for_timeout(150)
        before = number(root, "sweeps")
        page.wait_for_timeout(300)
        return number(root, "sweeps") == before

    page.wait_for_function("(root) => Number(root.dataset.sweeps) > 10", arg=root.element_handle())
    found.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    assert rests()
    found.get_by_role("button", name="Run").click()
    assert not rests()
    page.evaluate("document.body.style.paddingTop = '5000px'")
    assert rests()
    page.evaluate("document.body.style.paddingTop = '0'")
    assert not rests()
    page.emulate_media(reduced_motion="reduce")
    page.reload()
    page.wait_for_selector("figure[data-ready]", state="attached")
    assert found.get_by_role("button", name="Run").is_visible() and rests()


def test_lattice_zoom_shows_as_many_cells_of_each_scale_or_another_model(staged):
    params = {"size": 64, "blocks": [1, 2, 4], "rounds": 0, "sweeps": 3, "start": "hot", "seed": 9}
    page, found, root = staged("lattice_zoom", STILL | params)
    twin = Twin("ising", 64, "hot", 9)
    twin.advance(T_C, 3)
    assert [len(pixels(found, k)) for k in range(3)] == [64, 32, 16]
    after(page, root, found.get_by_role("radio", name="as many cells").check, "cut")
    for which, b in enumerate((1, 2, 4)):
        corner = (64 // b - 16) // 2
        middle = twin.blocked(b)[corner : corner + 16, corner : corner + 16]
        assert torch.equal(pixels(found, which) == 0x09, middle > 0)
    after(page, root, found.get_by_role("radio", name="φ⁴").check, "model")
    other = Twin("phi4", 64, "hot", 9)
    other.advance(0.68, 3)
    close([number(root, "energy"), number(root, "m")], other.numbers(0.68))
    assert found.get_by_role("slider", name="coupling").is_visible()


# ---- thresholds


def noisy_steps(d: int, sigma: float) -> dict:
    x = wavelets.piecewise(d, (1.0, -2.0, 3.0), (0.37, 0.71))
    z = torch.randn(d, generator=torch.Generator().manual_seed(4), dtype=D)
    return {"signal": x.double(), "noisy": x.double() + sigma * z, "sigma": sigma}


def assert_same_denoising(found, root, params: dict, name: str, levels: int) -> None:
    sigma, T, rule = params["sigma"], number(root, "threshold"), root.get_attribute("data-rule")
    x, y = (torch.cat(wavelet.dwt(params[key], name, levels)) for key in ("signal", "noisy"))
    shrunk = (wavelets.soft_threshold if rule == "soft" else wavelets.hard_threshold)(y, T)
    sizes = [len(c) for c in wavelet.dwt(params["noisy"], name, levels)]
    estimate = wavelet.idwt(list(shrunk.split(sizes)), name)
    close(values(root, "estimate"), estimate)
    assert number(root, "kept") == int((y.abs() > T).sum())
    close(number(root, "loss"), (estimate - params["signal"]).square().sum())
    for which in ("soft", "hard"):
        close(number(root, which), wavelets.threshold_risk(x, sigma, T, which))
    oracles = wavelets.oracle_risks(x, sigma)
    close(number(root, "binary"), oracles.binary)
    close(number(root, "attenuation"), oracles.attenuation)
    close(number(root, "universal"), wavelets.universal_threshold(len(x), sigma))
    close(number(root, "bound"), wavelets.universal_bound(x, sigma))


@pytest.mark.parametrize(("name", "levels"), [("haar", 8), ("db4", 5), ("db2", 3)])
def test_threshold_denoises_as_the_package_does_and_has_its_risks(staged, name, levels):
    params = noisy_steps(256, 0.3)
    more = {} if name == "haar" else {"filter": wavelet.filters(name)[0], "levels": levels}
    page, found, root = staged("threshold", params | more)
    close(number(root, "threshold"), 0.3 * math.sqrt(2 * math.log(256)))
    assert_same_denoising(found, root, params, name, levels)
    for key in ("ArrowLeft", "PageDown", "PageDown", "End", "Home"):
        press(page, found, root, "threshold T/σ", key, "threshold")
        assert_same_denoising(found, root, params, name, levels)
    assert number(root, "kept") == 256
    after(page, root, found.get_by_role("radio", name="hard").check, "rule")
    for button in ("Best", "Universal"):
        click(page, found, root, button, "threshold")
        assert_same_denoising(found, root, params, name, levels)


def test_threshold_goes_as_deep_as_the_filter_reaches(staged):
    params = noisy_steps(128, 0.2)
    for name, levels in (("haar", 7), ("db4", 5)):
        _, found, root = staged("threshold", params | {"filter": wavelet.filters(name)[0], "rule": "hard"})
        assert_same_denoising(found, root, params, name, levels)


def test_threshold_is_dragged_along_the_axis_and_moved_by_keys(staged):
    params = noisy_steps(256, 0.3)
    page, found, root = staged("threshold", params | {"T": 0.6})
    handle = found.get_by_role("slider", name="on the axis")
    for key, step in (("ArrowRight", 0.05), ("Shift+ArrowLeft", -0.25), ("ArrowUp", 0.05)):
        before = number(root, "threshold")
        press(page, found, root, "on the axis", key, "threshold")
        assert number(root, "threshold") == pytest.approx(before + 0.3 * step, abs=1e-5)
    assert_same_denoising(found, root, params, "haar", 8)
    box = handle.locator("path").last.bounding_box()
    at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    after(page, root, lambda: drag(page, at, (at[0] + 80, at[1] - 30)), "threshold")
    plot = found.locator("svg rect").last.bounding_box()
    wanted = (at[0] + 80 - plot["x"]) / plot["width"] * 1.5 * number(root, "universal")
    page.wait_for_function(
        "([root, wanted]) => Math.abs(Number(root.dataset.threshold) - wanted) < 0.02",
        arg=[root.element_handle(), wanted],
    )
    assert_same_denoising(found, root, params, "haar", 8)
    # A press on the plot brings the line there; a drag beyond its end stops at the end.
    y = plot["y"] + plot["height"] / 2
    after(page, root, lambda: drag(page, (plot["x"] + 30, y), (plot["x"] - 200, y)), "threshold")
    page.wait_for_function("(root) => Number(root.dataset.threshold) === 0", arg=root.element_handle())
    assert number(root, "kept") == 256


# ---- flows


def decimated(point):
    return renormalization.decimation(*point)


MAPS = {
    "decimation": decimated,
    "wilson": lambda point: renormalization.cumulant_flow(*point),
    "kadanoff": lambda point: (renormalization.decimation2(point[0]), 0.0),
}


def correlation_length(K: float, h: float) -> float:
    s = torch.tensor([1.0, -1.0], dtype=D)
    transfer = torch.exp(K * s[:, None] * s + h * (s[:, None] + s) / 2)
    low, high = torch.linalg.eigvalsh(transfer)
    return 1 / math.log(high / abs(low))


def assert_same_flow(root) -> None:
    step, path = MAPS[root.get_attribute("data-map")], values(root, "path")
    assert path[0] == values(root, "start") and path[-1] == values(root, "point")
    assert len(path) == number(root, "steps") + 1
    for point, following in itertools.pairwise(path):
        close(following, step(point), 1e-12)


def test_rg_flow_follows_the_maps_of_the_package_step_by_step(staged):
    starts = {"decimation": [1.2, 0.05], "wilson": [0.385, 0.01], "kadanoff": 0.52}
    page, found, root = staged("rg_flow", {"starts": starts, "taken": 3, "steps": 15})
    for name, label in (("decimation", "chain"), ("wilson", "two couplings"), ("kadanoff", "one coupling")):
        if name != "decimation":
            after(page, root, found.get_by_role("radio", name=label).check, "map")
        start = starts[name] if isinstance(starts[name], list) else [starts[name], 0]
        assert (values(root, "start"), number(root, "steps")) == (start, 3)
        assert_same_flow(root)
        click(page, found, root, "One step", "steps")
        assert_same_flow(root)
        for _ in range(4):
            click(page, found, root, "Back", "steps")
        assert found.get_by_role("button", name="Back").is_disabled()
        found.get_by_role("button", name="Flow").click()
        page.wait_for_function("(root) => Number(root.dataset.steps) >= 6", arg=root.element_handle())
        found.get_by_role("button", name="Pause").click()
        assert_same_flow(root)
        click(page, found, root, "Reset", "steps")
        assert number(root, "steps") == 3


def test_rg_flow_halves_the_correlation_length_of_the_chain(staged):
    page, found, root = staged("rg_flow", {"starts": {"decimation": [1.5, 0.0]}, "taken": 0})
    close(number(root, "xi"), -1 / math.log(math.tanh(1.5)))
    for _ in range(2):
        xi = number(root, "xi")
        for _ in range(4):
            before = number(root, "xi")
            click(page, found, root, "One step", "xi")
            close(number(root, "xi"), before / 2)
            close(number(root, "xi"), correlation_length(*values(root, "point")))
        assert f"{xi:.{1 if xi > 10 else 3}f} halved 4 times" in found.get_by_role("status").inner_text()
        for _ in range(4):
            click(page, found, root, "Back", "steps")
        # Next a chain in a field: the length is halved there, too.
        press(page, found, root, "start", "Shift+ArrowUp", "start")


def test_rg_flow_has_the_fixed_points_exponents_and_critical_line(staged):
    page, found, root = staged("rg_flow", {"map": "wilson"})
    crossing = renormalization.critical_coupling(renormalization.cumulant_flow)
    close(number(root, "crossing"), crossing)
    close(values(root, "fixed"), [[1 / 3, 1 / 9], [0, 0]])
    slope = torch.func.jacrev(lambda p: torch.stack([2 * p[0] ** 2 + p[1], p[0] ** 2]))
    largest = torch.linalg.eigvals(slope(torch.tensor([1 / 3, 1 / 9], dtype=D))).abs().max()
    close(number(root, "nu"), math.log(2) / 2 / math.log(largest))
    for K1, K2 in values(root, "critical")[::10]:
        sides = [renormalization.cumulant_flow(K1, K2 + shift) for shift in (-1e-5, 1e-5)]
        for _ in range(60):
            sides = [renormalization.cumulant_flow(*p) if max(p) < 10 else p for p in sides]
        assert max(sides[0]) < 1e-3 and max(sides[1]) > 10
    after(page, root, found.get_by_role("radio", name="one coupling").check, "map")
    star = values(root, "fixed")[0][0]
    close(renormalization.decimation2(star), star)
    assert star == pytest.approx(0.50698, abs=5e-6)
    close(number(root, "nu"), math.log(2) / 2 / math.log(1.5 * math.tanh(4 * star)))


def test_rg_flow_start_is_dragged_and_moved_by_keys_and_measured_paths_are_drawn(staged):
    paths = [
        {
            "K1": [0.42, 0.3],
            "K2": [0.0, 0.08],
            "error1": [0.01, 0.02],
            "error2": [0.01, 0.02],
            "name": "$T=2.4$",
        }
    ]
    page, found, root = staged("rg_flow", {"map": "wilson", "paths": paths})
    press(page, found, root, "start", "ArrowRight", "start")
    press(page, found, root, "start", "Shift+ArrowUp", "start")
    close(values(root, "start"), [0.382, 0.02])
    assert "0.382" in found.get_by_role("slider", name="start").get_attribute("aria-valuetext")
    assert_same_flow(root)
    assert found.get_by_text("blocked samples, measured").is_visible()
    assert found.locator("svg text", has_text="2.4").count() == 1
    box = found.get_by_role("slider", name="start").locator("path").bounding_box()
    at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    after(page, root, lambda: drag(page, at, (at[0] + 60, at[1] - 40)), "start")
    page.wait_for_function("(root) => JSON.parse(root.dataset.start)[0] > 0.45", arg=root.element_handle())
    assert values(root, "start")[1] > 0.05
    assert "ends in order" in found.get_by_role("status").inner_text()
    assert_same_flow(root)
    after(page, root, lambda: drag(page, (at[0] + 60, at[1] - 40), (at[0] + 60, at[1] + 900)), "start")
    page.wait_for_function("(root) => JSON.parse(root.dataset.start)[1] === -0.1", arg=root.element_handle())
    after(page, root, found.get_by_role("radio", name="one coupling").check, "map")
    press(page, found, root, "start", "ArrowLeft", "start")
    close(values(root, "start"), [0.475, 0])
    assert_same_flow(root)


# ---- on a narrow screen


@pytest.mark.parametrize("module", ["lattice_zoom", "rg_flow", "threshold"])
def test_a_narrow_dark_screen_shows_the_figure_within_its_width(staged, module):
    params = {"lattice_zoom": STILL, "rg_flow": {"map": "wilson"}, "threshold": noisy_steps(256, 0.3)}
    page, _, root = staged(module, params[module], theme="dark", width=400)
    box = root.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 400
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


# ---- in the book


def test_the_chapter_on_wavelets_shows_the_risks_of_the_package(figure):
    page, found, root, params = figure("scales", "wavelets", "threshold")
    given = {k: torch.tensor(params[k], dtype=D) for k in ("signal", "noisy")} | {"sigma": params["sigma"]}
    name = next(
        n
        for n in ("haar", "db2", "db4")
        if "filter" not in params
        or torch.allclose(wavelet.filters(n)[0], torch.tensor(params["filter"], dtype=D), atol=1e-9)
    )
    levels = params.get("levels", int(math.log2(len(params["signal"]))))
    assert_same_denoising(found, root, given, name, levels)
    press(page, found, root, "threshold T/σ", "PageDown", "threshold")
    assert_same_denoising(found, root, given, name, levels)


def test_the_chapter_on_renormalization_shows_the_flows_of_the_package(figure):
    page, found, root, _ = figure("scales", "renormalization", "rg_flow")
    assert_same_flow(root)
    click(page, found, root, "One step", "steps")
    assert_same_flow(root)


@pytest.mark.parametrize(("chapter", "model"), [("renormalization", "ising"), ("phi4", "phi4")])
def test_the_chapters_have_a_living_lattice(figure, chapter, model):
    page, _, root, _ = figure("scales", chapter, "lattice_zoom")
    assert root.get_attribute("data-model") == model
    before = number(root, "sweeps")
    page.wait_for_function(
        "([root, before]) => Number(root.dataset.sweeps) > before + 20", arg=[root.element_handle(), before]
    )
