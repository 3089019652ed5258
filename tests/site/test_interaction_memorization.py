"""The interactive figures of the chapters on memorization: their numbers against the package's, their keys and pointers.

Most of it is proved on pages of one figure, made here; the built chapters must then show the same numbers.
"""

from __future__ import annotations

import math

import pytest
import torch
from hands import after, click, number, press, values

from physgen.kernels import philox
from physgen.memorization import collapse, geometry

PLACES = {
    "collapse_plane": ("memorization", "collapse"),
    "manifold_spectrum": ("memorization", "geometry"),
}
SQUARE = [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]
POINTS = [[-1.6, 0.3], [-1.2, -0.9], [0.1, 1.4], [0.9, -0.2], [1.8, 0.7], [2.2, -1.9], [0.2, 0.1]]


def tape() -> tuple[dict, dict]:
    """A film of 4 × 5 pixels of six frames with the fork after the second, and its images."""
    generator = torch.Generator().manual_seed(1)

    def part(count: int) -> dict:
        return {
            "frames": torch.randint(256, (count, 4, 5), generator=generator, dtype=torch.uint8),
            "probability": torch.rand(count, generator=generator).tolist(),
            "nearest": torch.randint(3, (count,), generator=generator).tolist(),
            "distance": (5 * torch.rand(count, generator=generator)).tolist(),
        }

    params = {
        "size": [4, 5],
        "times": [3.0, 1.5, 0.8, 0.3, 0.1, 0.0],
        "labels": ["one", "eight"],
        "training": torch.randint(256, (3, 4, 5), generator=generator, dtype=torch.uint8),
        "indices": [12, 7, 900],
        "fork": 2,
        "trunk": part(2),
        "branches": [part(4), part(4), part(4)],
        "forward": part(6),
        "t_S": 1.0,
        "t_C": 0.2,
    }
    joined = {
        str(b): {k: [*params["trunk"][k], *branch[k]] for k in branch}
        for b, branch in enumerate(params["branches"])
    }
    return params, joined | {"forward": params["forward"]}


# ---- the plane of data


def assert_same_collapse(root, seed: int = 1) -> None:
    points = torch.tensor(values(root, "points"), dtype=torch.float64)
    x, t, n = torch.tensor([values(root, "probe")], dtype=torch.float64), number(root, "t"), len(points)
    assert (number(root, "n"), number(root, "log-n")) == (n, pytest.approx(math.log(n)))
    assert values(root, "weights") == pytest.approx(collapse.weights(x, t, points)[0].tolist(), abs=1e-9)
    assert number(root, "y2") == pytest.approx(float(collapse.participation_ratio(x, t, points)), abs=1e-9)
    assert number(root, "log-density") == pytest.approx(float(collapse.log_density(x, t, points)), abs=1e-9)
    score = collapse.empirical_score(x, t, points)[0].tolist()
    assert values(root, "score") == pytest.approx(score, rel=1e-9, abs=1e-9)
    assert number(root, "nearest") == int(collapse.nearest(x, points, t).index)

    copies = math.ceil(480 / n)
    words = philox.philox(seed, torch.arange(copies)[None], 0, 1, 1 + torch.arange(n)[:, None])
    z = philox.normal(words)[:2].permute(1, 2, 0).reshape(-1, 2)
    noisy = math.exp(-t) * points.repeat_interleave(copies, 0) + math.sqrt(-math.expm1(-2 * t)) * z
    own = collapse.weights(noisy, t, points)[
        torch.arange(n * copies), torch.arange(n).repeat_interleave(copies)
    ]
    y2 = collapse.participation_ratio(noisy, t, points)
    assert number(root, "mean-y2") == pytest.approx(float(y2.mean()), abs=1e-9)
    assert number(root, "information") == pytest.approx(float(own.log().mean()) + math.log(n), abs=1e-9)

    spread = torch.linalg.eigvalsh(torch.cov(points.T, correction=0)).tolist()

    def gaussian(t: float) -> float:
        return sum(float(collapse.mutual_information(t, 1, 0.0, v)) for v in spread)

    assert number(root, "gaussian") == pytest.approx(gaussian(t), abs=1e-9)
    assert gaussian(number(root, "t-c")) == pytest.approx(math.log(n), abs=1e-9)


def test_collapse_plane_computes_what_the_package_computes_at_each_time(staged):
    page, found, root = staged(
        "collapse_plane", {"points": POINTS, "t": 0.25, "probe": [0.4, -0.3], "seed": 5}
    )
    assert (number(root, "t"), values(root, "probe"), values(root, "points")) == (0.25, [0.4, -0.3], POINTS)
    assert_same_collapse(root, 5)
    for key in ("PageUp", "ArrowLeft", "End", "Home"):
        press(page, found, root, "time", key, "t")
        assert_same_collapse(root, 5)
    assert number(root, "mean-y2") == pytest.approx(1, abs=0.02)  # at the smallest time all is copied


def test_collapse_plane_collapses_round_data_at_the_closed_form(staged):
    _, _, root = staged("collapse_plane", {"points": SQUARE})
    assert number(root, "t-c") == pytest.approx(collapse.collapse_time(4, 2, 1.0), rel=1e-12)
    assert number(root, "gaussian") == pytest.approx(float(collapse.mutual_information(0.3, 2)), abs=1e-12)


def test_collapse_plane_takes_and_drops_points_by_button(staged):
    page, found, root = staged("collapse_plane", {"points": POINTS, "t": 0.25, "probe": [0.4, -0.3]})
    click(page, found, root, "Add a point", "n")
    drawn = philox.normal(philox.philox(1, 0, 0, 2, 1))[:2].tolist()
    assert values(root, "points") == [*POINTS, pytest.approx(drawn, abs=5.1e-4)]
    assert_same_collapse(root)
    click(page, found, root, "Add at the probe", "n")
    assert values(root, "points")[-1] == pytest.approx(
        [0.4 * math.exp(0.25), -0.3 * math.exp(0.25)], abs=5.1e-4
    )
    assert_same_collapse(root)
    click(page, found, root, "Remove nearest", "n")
    assert values(root, "points")[:7] == POINTS and number(root, "n") == 8
    click(page, found, root, "Reset", "n")
    assert (values(root, "points"), number(root, "t")) == (POINTS, 0.25)
    for n in range(len(POINTS), 2, -1):
        assert number(root, "n") == n
        click(page, found, root, "Remove nearest", "n")
        assert_same_collapse(root)
    assert found.get_by_role("button", name="Remove nearest").is_disabled()


def test_collapse_plane_is_clicked_and_its_probe_dragged_and_moved_by_keys(staged):
    page, found, root = staged("collapse_plane", {"points": POINTS, "t": 0.25, "probe": [0.4, -0.3]})
    ground = found.locator(".pgx-ground").bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        size = ground["width"] / 6.4
        return ground["x"] + (x + 3.2) * size, ground["y"] + (3.2 - y) * size

    pixel = 6.4 / ground["width"]
    after(page, root, lambda: page.mouse.click(*at(-2, 2)), "n")
    assert values(root, "points")[-1] == pytest.approx(
        [-2 * math.exp(0.25), 2 * math.exp(0.25)], abs=3 * pixel
    )
    assert_same_collapse(root)
    after(page, root, lambda: page.mouse.click(*at(-2, 2)), "n")
    assert values(root, "points") == POINTS

    def drag() -> None:
        page.mouse.move(*at(0.4, -0.3))
        page.mouse.down()
        page.mouse.move(*at(0, -1), steps=3)
        page.mouse.move(*at(-1, -2), steps=3)
        page.mouse.up()

    after(page, root, drag, "probe")
    page.wait_for_function("(root) => JSON.parse(root.dataset.probe)[1] < -1.9", arg=root.element_handle())
    assert values(root, "probe") == pytest.approx([-1, -2], abs=2 * pixel)
    assert number(root, "n") == len(POINTS)  # a drag is no click
    assert_same_collapse(root)
    before = values(root, "probe")
    press(page, found, root, "probe", "ArrowUp", "probe")
    press(page, found, root, "probe", "Shift+ArrowRight", "probe")
    assert values(root, "probe") == pytest.approx([before[0] + 0.25, before[1] + 0.05])
    assert "nearest is point" in found.get_by_role("slider", name="probe").get_attribute("aria-valuetext")
    assert_same_collapse(root)


# ---- the spectrum of a linear manifold


def assert_same_spectrum(root, params: dict) -> None:
    t, rho, m, d = number(root, "t"), number(root, "rho"), int(number(root, "m")), params["d"]
    gamma = next(torch.tensor(g, dtype=torch.float64) for g in params["gammas"] if len(g) == m)
    embedding = torch.zeros(d, m, dtype=torch.float64)
    embedding[:m] = gamma.sqrt().diag()
    levels = geometry.levels(geometry.linear_jacobian(t, embedding), t)
    found = geometry.largest_gap(levels)
    assert number(root, "sigma2") == pytest.approx(math.expm1(2 * t), rel=1e-12)
    assert number(root, "lowest") == pytest.approx(float(levels[0, 0]), abs=1e-9)
    assert number(root, "gap") == pytest.approx(float(1 - levels[0, m - 1]), abs=1e-9)
    assert number(root, "dimension") == int(found.dimension)
    assert number(root, "soft") == pytest.approx(float(geometry.soft_dimension(levels)), abs=1e-9)
    assert number(root, "gap-theory") == pytest.approx(geometry.linear_gap(t, rho), abs=1e-12)
    times = geometry.phase_times(rho)
    assert (number(root, "coverage"), number(root, "consolidation")) == pytest.approx(times, abs=1e-12)
    phase = "trivial" if t > times.coverage else "coverage" if t > times.consolidation else "consolidation"
    assert root.get_attribute("data-phase") == phase
    y, density = torch.tensor(values(root, "density"), dtype=torch.float64).T
    # At the edges the square root turns the rounding of y, 10⁻¹⁶, into 10⁻⁸ of the height.
    exact = geometry.level_density(y, t, rho)
    assert density[1:-1].tolist() == pytest.approx(exact[1:-1].tolist(), rel=1e-9)
    assert density.tolist() == pytest.approx(exact.tolist(), abs=1e-6 * float(exact.max()))


def test_manifold_spectrum_has_the_levels_gap_and_phases_of_the_package(staged):
    gammas = []
    for m in (6, 18):
        f = geometry.embedding(40, m, torch.Generator().manual_seed(m))
        gammas.append(torch.linalg.eigvalsh(f.T @ f).tolist())
    params = {"d": 40, "gammas": gammas, "sigma2": 0.3, "manifold": 1}
    page, found, root = staged("manifold_spectrum", params)
    assert (number(root, "sigma2"), number(root, "m"), number(root, "rho")) == (0.3, 18, 0.45)
    seen = set()
    for key in ("ArrowRight", "End", "PageDown", "PageDown", "PageDown", "PageDown", "Home"):
        press(page, found, root, "noise", key, "t")
        assert_same_spectrum(root, params)
        seen.add(root.get_attribute("data-phase"))
    assert seen == {"trivial", "coverage", "consolidation"}
    after(page, root, found.get_by_role("radio", name="0.15").check, "m")
    assert_same_spectrum(root, params)
    click(page, found, root, "Reset", "m")
    assert (number(root, "sigma2"), number(root, "m")) == (0.3, 18)


# ---- the tape of one image


def pixels(found, which: int) -> list[int]:
    """The grey levels of the frame (0) or of its nearest training image (1)."""
    canvas = found.locator(".pgx-frames canvas").nth(which)
    return canvas.evaluate("""(canvas) => {
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      return [...copy.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, i) => i % 4 === 0);
    }""")


def assert_same_frame(found, root, params: dict, paths: dict) -> None:
    k, path = int(number(root, "frame")), paths[root.get_attribute("data-path")]
    near = path["nearest"][k]
    assert number(root, "t") == params["times"][k]
    assert number(root, "probability") == pytest.approx(path["probability"][k], rel=1e-11)
    assert number(root, "distance") == pytest.approx(path["distance"][k], rel=1e-11)
    assert number(root, "nearest") == params["indices"][near]
    assert pixels(found, 0) == path["frames"][k].flatten().tolist()
    assert pixels(found, 1) == params["training"][near].flatten().tolist()
    since = int(number(root, "since"))
    assert set(path["nearest"][since:]) == {path["nearest"][-1]}
    assert since == 0 or path["nearest"][since - 1] != path["nearest"][-1]


def test_image_tape_shows_frame_neighbour_and_numbers_of_each_branch(staged):
    params, paths = tape()
    page, found, root = staged("image_tape", params)
    assert (number(root, "frame"), root.get_attribute("data-path")) == (5, "0")
    assert_same_frame(found, root, params, paths)
    for name, path in (("3", "2"), ("forward path", "forward"), ("2", "1")):
        after(page, root, found.get_by_role("radio", name=name).check, "path")
        assert root.get_attribute("data-path") == path
        for key in ("Home", "ArrowRight", "ArrowRight", "End"):
            press(page, found, root, "time", key, "frame")
            assert_same_frame(found, root, params, paths)
    click(page, found, root, "Reset", "path")
    assert_same_frame(found, root, params, paths)


def test_image_tape_is_played_and_its_film_dragged(staged):
    params, paths = tape()
    page, found, root = staged("image_tape", params | {"frame": 1})
    assert number(root, "frame") == 1
    found.get_by_role("button", name="Play").click()
    page.wait_for_function("(root) => Number(root.dataset.frame) === 5", arg=root.element_handle())
    assert found.get_by_role("button", name="Play").is_visible()
    film = found.get_by_role("img", name="film of the path")
    film.scroll_into_view_if_needed()
    box = film.bounding_box()

    def drag() -> None:
        page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 30)
        page.mouse.down()
        page.mouse.move(box["x"] + 30, box["y"] + 30, steps=4)
        page.mouse.up()

    after(page, root, drag, "frame")
    page.wait_for_function("(root) => root.dataset.frame === '0'", arg=root.element_handle())
    assert_same_frame(found, root, params, paths)


# ---- in the book, and on a narrow screen


@pytest.mark.parametrize("module", PLACES)
def test_the_chapter_shows_the_numbers_of_the_package(figure, module):
    page, found, root, params = figure(*PLACES[module], module)

    def assert_same() -> None:
        if module == "collapse_plane":
            assert_same_collapse(root, params.get("seed", 1))
        else:
            assert_same_spectrum(root, params)

    assert_same()
    for key in ("ArrowLeft", "PageDown"):
        press(page, found, root, "time" if module == "collapse_plane" else "noise", key, "t")
        assert_same()


@pytest.mark.parametrize("module", ["collapse_plane", "image_tape", "manifold_spectrum"])
def test_a_narrow_dark_screen_shows_the_figure_within_its_width(staged, module):
    params = {
        "collapse_plane": {"points": POINTS},
        "image_tape": tape()[0],
        "manifold_spectrum": {"d": 9, "gammas": [[0.3, 0.9, 1.7]]},
    }
    page, _, root = staged(module, params[module], theme="dark", width=400)
    box = root.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 400
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
