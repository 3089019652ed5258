"""Distances of samples against closed forms, POT and SciPy, and their floors between samples of one law."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
import torch
from scipy import stats

from physgen.distances import bootstrap, energy, frechet, sliced_wasserstein


def normal(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(n, d, dtype=torch.float64, generator=generator)


def test_the_energy_distance_counts_every_pair_of_two_points_once():
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]])
    # 2 · (0 + 3 + 1 + 2)/4 − 1 − 3, by hand.
    assert energy(x, y) == pytest.approx(-1.0, abs=1e-15)


def test_in_one_dimension_scipy_has_the_energy_distance_with_the_pairs_of_a_point_and_itself():
    x, y = normal(300, 1, 0), normal(500, 1, 1, 0.5)
    inside = [float((s - s.T).abs().sum()) / len(s) ** 2 for s in (x, y)]
    biased = energy(x, y) + sum(e / (len(s) - 1) for e, s in zip(inside, (x, y), strict=True))
    assert stats.energy_distance(x[:, 0], y[:, 0]) ** 2 == pytest.approx(biased, rel=1e-10)


def test_the_energy_distance_of_shifted_gaussians_is_their_closed_form():
    # |x − y| of N(0, 1) and N(a, 1) is a folded normal: 2 E|√2 z + a| − 2 · 2/√π.
    a = 1.0
    folded = 2 / math.sqrt(math.pi) * math.exp(-(a**2) / 4) + a * math.erf(a / 2)
    d = bootstrap(energy, normal(4000, 1, 2), normal(4000, 1, 3, a), 30, torch.Generator().manual_seed(0))
    assert abs(d.value - (2 * folded - 4 / math.sqrt(math.pi))) < 4 * d.error
    assert 0 < d.error < 0.05


def test_the_energy_distance_has_no_bias_when_the_laws_are_equal():
    values = np.array([energy(normal(100, 3, 2 * k), normal(100, 3, 2 * k + 1)) for k in range(200)])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(len(values))


def test_blocks_of_rows_do_not_change_the_energy_distance():
    x, y = normal(2500, 2, 4), normal(1500, 2, 5, 0.1)
    whole = 2 * torch.cdist(x, y).mean() - sum(
        torch.cdist(s, s).sum() / (len(s) * (len(s) - 1)) for s in (x, y)
    )
    assert energy(x, y) == pytest.approx(float(whole), rel=1e-9)


def test_the_sliced_distance_of_a_shift_is_its_length_over_root_d():
    # W_2 along u of a pure shift is |u·a|; its mean square over the sphere is |a|²/d. 400 directions in d = 3:
    # the relative error of the mean square is √(4/5 / 400), half of that for the root.
    x, a = normal(200, 3, 6), torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64)
    found = sliced_wasserstein(x, x + a, 400, torch.Generator().manual_seed(1))
    assert abs(found / (3 / math.sqrt(3)) - 1) < 5 * 0.5 * math.sqrt(0.8 / 400)


def test_along_one_direction_the_sliced_distance_is_wasserstein():
    x, y = normal(100, 1, 7), normal(100, 1, 8, 1.0, 2.0)
    exact = float((x.sort(0).values - y.sort(0).values).square().mean().sqrt())
    assert sliced_wasserstein(x, y, 3) == pytest.approx(exact, rel=1e-12)


def test_the_frechet_distance_is_that_of_the_fitted_gaussians():
    x, y = normal(60, 4, 9, 0.3, 1.5), normal(80, 4, 10) @ torch.diag(torch.tensor([2.0, 1, 1, 0.5]).double())
    theirs = ot.gaussian.bures_wasserstein_distance(x.mean(0), y.mean(0), torch.cov(x.T), torch.cov(y.T))
    assert frechet(x, y) == pytest.approx(float(theirs) ** 2, rel=1e-9)


def test_components_are_the_leading_ones_of_the_reference():
    scale = torch.tensor([3.0, 1.0, 0.1]).double()
    y = normal(500, 3, 11) * scale
    # A shift along the weakest direction alone: invisible in two components (their planes tilt by 0.1/√500), the whole distance in three.
    x = y + torch.tensor([0.0, 0.0, 1.0]).double()
    assert frechet(x, y) == pytest.approx(1.0, rel=1e-9)
    assert frechet(x, y, 2) < 1e-3


def test_the_frechet_floor_is_of_order_components_over_n():
    x, y = normal(2000, 10, 12), normal(2000, 10, 13)
    # Means: 2d/n; covariances: ¼ · 2 · d(d+1)/n for unit ones, to first order, with fluctuations of their own size/√(d²/2).
    floor = 20 / 2000 + 0.5 * 110 / 2000
    assert abs(frechet(x, y) / floor - 1) < 5 * math.sqrt(2 / 65)


@pytest.mark.parametrize("distance", [energy, frechet, sliced_wasserstein])
def test_bad_samples_are_refused(distance):
    good = normal(5, 2, 14)
    for bad in (good[0], good.to(torch.complex128), good * math.nan, good[:0], [[1.0]], good[:, :1]):
        with pytest.raises(ValueError, match="expected"):
            distance(bad, good)
    with pytest.raises(ValueError, match="components"):
        frechet(good, good, 3)
    with pytest.raises(ValueError, match="projections"):
        sliced_wasserstein(good, good, 0)
    with pytest.raises(ValueError, match="resamples"):
        bootstrap(energy, good, good, 1)
