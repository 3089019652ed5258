"""Sampling scale by scale: dense matrices, recursions, finite grids, exact tori and Monte Carlo with its error bars."""

import math

import pytest
import torch

from physgen.diffusion.processes import kramers_rate, stationary_covariance
from physgen.kernels import lattice, wavelet
from physgen.scales import multiscale, phi4, renormalization

NAN = float("nan")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def dense(k):
    """The matrix of a spectrum: the inverse Fourier transform of K(k) times that of a unit vector at each site."""
    unit, axes = torch.eye(k.numel(), dtype=torch.float64).reshape(-1, *k.shape), tuple(range(1, k.ndim + 1))
    return torch.fft.ifftn(torch.fft.fftn(unit, dim=axes) * k, dim=axes).real.flatten(1)


def level(x, name):
    """One level of the transform of each row: averages, then details, flattened."""
    if x.ndim == 2:
        return wavelet.dwt(x, name)
    a, d = wavelet.dwt2(x, name)
    return [a.flatten(1), torch.cat([part.flatten(1) for part in d], 1)]


def in_parts(k, name):
    """The blocks cc, cf, ff of K in the basis of averages and details, from a dense change of basis."""
    unit = torch.eye(k.numel(), dtype=torch.float64).reshape(-1, *k.shape)
    c, f = (part.T for part in level(unit, name))  # rows: basis vectors in sites
    m = dense(k)
    return c @ m @ c.T, c @ m @ f.T, f @ m @ f.T


# ------------------------------------------------------------------------------------------------- Gaussian, one level


@pytest.mark.parametrize("dim", [1, 2])
def test_the_free_field_is_the_lattice_laplacian_and_its_zero_mode_takes_the_value_of_the_lowest(dim):
    k = multiscale.free_field(8, dim=dim, mass=0.3)
    x = torch.randn(1, *k.shape, generator=seeded(1), dtype=torch.float64)
    laplacian = sum(2 * x - x.roll(1, a) - x.roll(-1, a) for a in range(1, dim + 1))
    torch.testing.assert_close(x.flatten(1) @ dense(k), (laplacian + 0.3 * x).flatten(1), rtol=0, atol=1e-12)
    massless = multiscale.free_field(8, 3.0, dim=dim).flatten()
    assert massless[0] == massless[1:].min() == (2 * math.sin(math.pi / 8)) ** 3


@pytest.mark.parametrize(("dim", "name"), [(1, "haar"), (1, "db4"), (2, "haar"), (2, "db3")])
def test_a_level_of_a_gaussian_field_has_the_blocks_and_the_schur_complement_of_dense_matrices(dim, name):
    k = multiscale.free_field(8, 2.5, dim=dim)
    (band,) = multiscale.bands(k, name, 1)
    cc, cf, ff = in_parts(k, name)
    details = torch.linalg.eigvalsh(ff)
    torch.testing.assert_close(torch.linalg.eigvalsh(band.precision).flatten().sort().values, details)
    coarse = cc - cf @ torch.linalg.solve(ff, cf.T)
    torch.testing.assert_close(dense(band.coarse), coarse, rtol=0, atol=1e-12 * float(coarse.max()))
    torch.testing.assert_close(multiscale.band_variances(band, False), (1 / details).sort().values)
    inverse = torch.linalg.inv(ff)
    width = inverse.diagonal().sqrt()
    scaled = torch.linalg.eigvalsh(inverse / width[:, None] / width)
    torch.testing.assert_close(multiscale.band_variances(band), scaled, rtol=1e-10, atol=0)  # RGR-10
    shape = [2**dim - 1, *[4] * dim]
    first = torch.stack([inverse[m * 4**dim, m * 4**dim : (m + 1) * 4**dim] for m in range(2**dim - 1)])
    first = (first / first[:, :1]).reshape(shape)
    torch.testing.assert_close(multiscale.band_correlation(band), first, rtol=0, atol=1e-12)


def test_the_conditional_mean_of_details_is_that_of_the_dense_blocks():
    k = multiscale.free_field(8, dim=1)
    (band,) = multiscale.bands(k, "db2", 1)
    _, cf, ff = in_parts(k, "db2")
    coarse = torch.randn(4, generator=seeded(2), dtype=torch.float64)
    mean = -torch.linalg.solve(ff, cf.T @ coarse)
    symbol = -torch.linalg.solve(band.precision, band.cross)[:, 0]
    torch.testing.assert_close(torch.fft.ifft(symbol * torch.fft.fft(coarse)).real, mean, rtol=0, atol=1e-12)


def condition(variances):
    return float(variances.max() / variances.min())


def test_conditional_precisions_stay_well_conditioned_where_the_field_does_not():
    # The numbers of claims RGR-8: rounded to their digits.
    k = multiscale.free_field(32)
    assert float(k.max() / k.min()) == pytest.approx(208, abs=0.5)
    haar = [condition(multiscale.band_variances(b, False)) for b in multiscale.bands(k, "haar", 4)]
    assert haar == pytest.approx([4, 6, 8, 9.03], abs=0.005)
    ring = multiscale.free_field(512, dim=1)
    assert float(ring.max() / ring.min()) == pytest.approx(26561, abs=0.5)
    haar = [condition(multiscale.band_variances(b, False)) for b in multiscale.bands(ring, "haar", 7)]
    assert haar == pytest.approx([2, 3, 3.67, 3.91, 3.98, 3.99, 4], abs=0.005)
    for name in ("haar", "db4"):
        worst = [
            max(
                condition(multiscale.band_variances(b))
                for b in multiscale.bands(multiscale.free_field(n), name)
            )
            for n in (32, 256)
        ]
        assert worst[1] < 5.9 and worst[1] / worst[0] < 1.05  # RGR-10: unit variances make it smaller still


def test_unit_variances_at_all_scales_condition_the_whole_field_for_db4_and_not_for_haar():
    # RGR-10. One dimension: Haar is no basis of the energy norm, and only conditioning on the coarse field helps it.
    for name, numbers in (("haar", (172.6, 395.1)), ("db4", (6.46, 6.66))):
        for n, number in zip((128, 256), numbers, strict=True):
            found = multiscale.diagonal_condition(multiscale.free_field(n, dim=1), name)
            assert found == pytest.approx(number, abs=0.05 if name == "haar" else 0.005)
    k = multiscale.free_field(16, dim=1)
    basis = torch.cat(wavelet.dwt(torch.eye(16, dtype=torch.float64), "db2", 4), 1)
    precision, covariance = basis.T @ dense(k) @ basis, basis.T @ dense(1 / k) @ basis
    width = covariance.diagonal().sqrt()
    expected = torch.linalg.cond(width[:, None] * precision * width)
    assert multiscale.diagonal_condition(k, "db2") == pytest.approx(float(expected), rel=1e-10)


def test_details_given_the_coarse_field_forget_each_other_within_a_few_sites_at_every_scale():
    # MSD-5: a factor of about three a site at each scale, where the field falls like a logarithm over the whole torus.
    for name in ("haar", "db4"):
        for band in multiscale.bands(multiscale.free_field(128), name, 3):
            r = multiscale.band_correlation(band).abs()
            n = r.shape[1]
            beyond = [
                max(float(r[:, k : n - k + 1].max()), float(r[:, :, k : n - k + 1].max()))
                for k in (1, 2, 3, 4)
            ]
            assert beyond[0] < 0.28 and beyond[1] < 0.081 and beyond[2] < 0.031 and beyond[3] < 0.0111
    covariance = torch.fft.ifft2(1 / multiscale.free_field(128)).real
    assert float(covariance[8, 0] / covariance[0, 0]) == pytest.approx(0.306, abs=5e-4)


# ------------------------------------------------------------------------------------------------- Langevin


def test_langevin_steps_forget_in_kappa_steps_and_rest_at_the_variances_of_lyapunovs_equation():
    for kappa, steps in ((10, 9.49), (100, 99.5), (1000, 999.5)):  # RGR-6
        found = multiscale.langevin(torch.tensor([1.0, 0.5 * kappa, kappa]))
        assert found.autocorrelation == pytest.approx(steps, abs=0.005)
        assert float(found.bias[-1]) == pytest.approx(2, rel=1e-12)
    k = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64)
    found = multiscale.langevin(k, 0.4)
    exact = stationary_covariance(-k.diag(), math.sqrt(2), 0.4).diagonal()
    torch.testing.assert_close(found.bias / k, exact)
    assert found.autocorrelation == pytest.approx(-1 / math.log(1 - 0.4 * 0.3))


def test_the_steps_of_langevin_dynamics_are_just_enough_and_grow_like_kappa():
    k, error = multiscale.free_field(8).flatten(), 0.1
    n = multiscale.langevin_steps(k, error)
    half = error / 2
    h = 2 / float(k.max()) * half / (1 + half)
    # The stiffest mode rests at (1 + ε/2)/k; the slowest is at 1 − ε/2 of its own rest.
    assert float(multiscale.langevin(k, h).bias.max()) == pytest.approx(1 + half)
    reached = [1 - (1 - h * float(k.min())) ** (2 * m) for m in (n - 1, n)]
    assert reached[0] < 1 - half <= reached[1]
    counts = [multiscale.langevin_steps(multiscale.free_field(n), error) for n in (16, 32, 64)]
    assert counts[1] / counts[0] == pytest.approx(4, rel=0.05) and counts[2] / counts[1] == pytest.approx(
        4, rel=0.05
    )
    bands = multiscale.bands(multiscale.free_field(256), "haar", 6)
    assert max(multiscale.langevin_steps(1 / multiscale.band_variances(b), error) for b in bands) < 200


def test_gaps_of_wells_are_those_of_the_claims_and_kramers_law_is_their_limit():
    # RGR-7: four digits; the grid error of 801 points is of order 10⁻⁵.
    gaps, laws = [0.4545, 0.1191, 0.02485, 0.004575], [0.4874, 0.1319, 0.02678, 0.004832]
    ratios = []
    for barrier, gap, law in zip((2, 4, 6, 8), gaps, laws, strict=True):
        well = lambda x, b=barrier: b * (x**2 - 1) ** 2  # noqa: E731
        found, kramers = multiscale.relaxation_rate(well, 2.5), 2 * kramers_rate(well, 1.0, 0.0)
        assert found == pytest.approx(gap, rel=2e-3) and kramers == pytest.approx(law, rel=1e-3)
        assert kramers == pytest.approx(barrier * math.sqrt(32) / math.pi * math.exp(-barrier), rel=1e-12)
        ratios.append(found / kramers)
    assert ratios[1:] == sorted(ratios[1:]) and ratios[-1] > 0.94
    # RGR-6: U'' ≥ 1 gives a gap of at least 1; for x²/2 + x⁴/4 it is 2.068.
    assert multiscale.relaxation_rate(lambda x: x**2 / 2, 6.0) == pytest.approx(1, abs=1e-3)
    assert multiscale.relaxation_rate(lambda x: x**2 / 2 + x**4 / 4, 4.0) == pytest.approx(2.068, abs=1e-3)


# ------------------------------------------------------------------------------------------------- reverse diffusion


def test_modes_emerge_from_the_noise_where_it_has_their_variance():
    variances = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    t = multiscale.reveal_time(variances)
    assert t.tolist() == pytest.approx([0.3466, 1.1989, 2.3076], abs=5e-5)  # OVW-5
    torch.testing.assert_close(variances * torch.exp(-2 * t), -torch.expm1(-2 * t))


LAMBDAS = torch.tensor([0.05, 0.4, 1.0, 1 + 1e-7, 3.0, 50.0], dtype=torch.float64)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_first_order_of_eulers_error_is_r(eta):
    start = 8.0  # e^{−2T} λ is below 10⁻⁵
    errors = []
    for steps in (4_000, 8_000):
        made = multiscale.reverse_variance(LAMBDAS, multiscale.time_grid(start, steps), eta)
        left = multiscale.start_error(LAMBDAS, start, eta)
        errors.append((made / LAMBDAS - 1 - left) / (start / steps))
    # What is left after Richardson's extrapolation is δ² (1/λ)²: 10⁻⁷ of 400.
    torch.testing.assert_close(
        2 * errors[1] - errors[0], multiscale.euler_error(LAMBDAS, eta), rtol=1e-4, atol=2e-4
    )


def test_r_has_the_formulas_of_the_claims():
    lam = torch.tensor([0.1, 2.0, 30.0], dtype=torch.float64)
    torch.testing.assert_close(
        multiscale.euler_error(lam), 1 / lam - lam * lam.log() / (2 * (lam - 1))
    )  # MSD-1
    torch.testing.assert_close(multiscale.euler_error(lam, 0), (1 / lam - 1 - lam.log()) / 2)  # MSD-2
    assert (
        float(multiscale.euler_error(torch.tensor(1.0))) == 0.5
    )  # δ/2: the bias of a Langevin step of a unit mode
    assert float(multiscale.euler_error(torch.tensor(1e-4))) * 1e-4 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_start_from_unit_noise_leaves_the_error_of_the_formula(eta):
    # Fine steps from a small T: the rest is δ r.
    start, steps = 0.9, 20_000
    made = multiscale.reverse_variance(LAMBDAS[1:], multiscale.time_grid(start, steps), eta)
    left = made / LAMBDAS[1:] - 1
    torch.testing.assert_close(left, multiscale.start_error(LAMBDAS[1:], start, eta), rtol=1e-3, atol=5e-4)


def test_simulated_reverse_steps_have_the_variance_of_the_recursion():
    lam, grid, n = torch.tensor([0.3, 4.0], dtype=torch.float64), multiscale.time_grid(2.0, 12), 40_000
    own = seeded(3)
    for eta in (0.0, 1.0):
        x = torch.randn(n, 2, generator=own, dtype=torch.float64)
        for t, d in zip(grid[:-1].tolist(), (-grid.diff()).tolist(), strict=True):
            score = -x / (lam * math.exp(-2 * t) + 1 - math.exp(-2 * t))
            z = torch.randn(n, 2, generator=own, dtype=torch.float64)
            x = x + d * (x + (1 + eta) * score) + math.sqrt(2 * eta * d) * z
        ratio = x.square().mean(0) / multiscale.reverse_variance(lam, grid, eta)
        assert float((ratio - 1).abs().max()) < 5 * math.sqrt(2 / n)  # the variance of z² is 2


def test_an_adapted_grid_has_steps_in_proportion_to_gamma():
    least = 0.02
    grid = multiscale.time_grid(3.0, 400, least)
    assert float(grid[0]) == 3 and float(grid[-1]) == 0 and bool((grid.diff() < 0).all())
    middle = (grid[1:] + grid[:-1]) / 2
    ratio = -grid.diff() / (1 + (least - 1) * torch.exp(-2 * middle))
    torch.testing.assert_close(ratio, ratio.mean().expand(400), rtol=1e-3, atol=0)


def test_the_number_of_steps_is_the_least_that_serves():
    lam = torch.tensor([0.1, 1.0, 8.0], dtype=torch.float64)
    for adapted in (False, True):
        n = multiscale.steps_needed(lam, 0.1, adapted=adapted)
        # The start that it takes: |start_error| = ε/10.
        low, high = 1e-6, 20.0
        for _ in range(60):
            t = (low + high) / 2
            missed = float(multiscale.start_error(lam, t).abs().max()) > 0.01
            low, high = (t, high) if missed else (low, t)
        worst = [
            float(
                (
                    multiscale.reverse_variance(lam, multiscale.time_grid(t, m, 0.1 if adapted else None))
                    / lam
                    - 1
                )
                .abs()
                .max()
            )
            for m in (n - 1, n)
        ]
        assert worst[1] <= 0.1 + 1e-9 < worst[0]


def test_steps_per_band_are_flat_and_those_of_the_field_follow_its_smallest_variance():
    def whole(n, eta, dim):
        variances = 1 / multiscale.free_field(n, eta, dim)
        return multiscale.steps_needed(variances / variances.mean(), 0.1)

    # MSD-3, exact numbers: 1-D, k^{−2}: λ_min ∼ 1/L of the variance of a site; 2-D, k^{−2}: 1/log L; 2-D, k^{−3}: 1/L.
    assert [whole(n, 2.0, 1) for n in (16, 32, 64)] == [123, 304, 718]
    assert [whole(n, 2.0, 2) for n in (16, 32, 64)] == [98, 151, 216]
    assert [whole(n, 3.0, 2) for n in (16, 32)] == [430, 1073]
    for name, most in (("haar", 35), ("db4", 30)):
        for n in (32, 128):
            bands = multiscale.bands(multiscale.free_field(n), name)
            assert max(multiscale.steps_needed(multiscale.band_variances(b), 0.1) for b in bands) in (
                most,
                most - 1,
            )
    # MSD-4: steps that shrink with Γ_t pay a logarithm.
    stiff = torch.tensor([1e-2, 1.0], dtype=torch.float64), torch.tensor([1e-4, 1.0], dtype=torch.float64)
    counts = [multiscale.steps_needed(s, 0.1, adapted=True) for s in stiff]
    assert counts[1] / counts[0] < 2.2 and multiscale.steps_needed(stiff[0], 0.1) > 10 * counts[0]


@pytest.mark.parametrize(("dim", "name"), [(1, "haar"), (2, "db2")])
def test_diffused_details_have_the_variances_of_the_recursion_and_fields_those_of_the_law(dim, name):
    k, n = multiscale.free_field(4, dim=dim, mass=0.5), 20_000
    (band, *_), grid = multiscale.bands(k, name), multiscale.time_grid(1.5, 8)
    x = multiscale.diffuse(k, name, grid, n, generator=seeded(25))
    coarse, details = level(x, name)
    fitted = coarse @ torch.linalg.lstsq(coarse, details).solution
    left = torch.cov((details - fitted).T)  # not normalised: the widths are of the exact law
    width = torch.linalg.inv(in_parts(k, name)[2]).diagonal().sqrt()
    found = torch.linalg.eigvalsh(left / width[:, None] / width)
    expected = multiscale.reverse_variance(multiscale.band_variances(band), grid).sort().values
    assert float((found.sum() / expected.sum() - 1).abs()) < 5 * math.sqrt(2 / n)
    assert (
        float((found / expected - 1).abs().max()) < 0.06
    )  # eigenvalues of a sample repel: √(modes/n) ≈ 0.025
    fine = multiscale.diffuse(k, name, multiscale.time_grid(4.0, 400), n // 4, generator=seeded(26))
    power = torch.fft.fftn(fine, dim=tuple(range(1, dim + 1)), norm="ortho").abs().square().mean(0)
    assert float((power * k - 1).abs().max()) < 5 * math.sqrt(2 / (n // 4)) + 0.02  # δ r(λ), δ = 0.01
    k = multiscale.free_field(8, dim=dim, mass=0.5)  # for L = 4 the mean is 0 by symmetry
    fine = multiscale.diffuse(k, name, multiscale.time_grid(4.0, 100), n // 4, generator=seeded(27))
    coarse, details = level(fine, name)
    _, cf, ff = in_parts(k, name)
    slope, exact = torch.linalg.lstsq(coarse, details).solution, -torch.linalg.solve(ff, cf.T).T
    # Standard errors: the width of a detail over that of a coarse value, given the others, over √n; δ = 0.04.
    error = math.sqrt(
        float(torch.linalg.inv(ff).diagonal().max() * torch.linalg.inv(torch.cov(coarse.T)).diagonal().max())
        / (n // 4)
    )
    assert float((slope - exact).abs().max()) < 5 * error + 0.04 * float(exact.abs().max())
    assert float(exact.abs().max()) > 5.3 * error


# ------------------------------------------------------------------------------------------------- details of φ⁴


def fields(L, chains, seed, beta=0.68):
    return phi4.sample(
        L, beta, chains=chains, records=1, warmup=40, clusters=4, generator=seeded(seed)
    ).fields


@pytest.mark.parametrize("name", ["haar", "db4"])
def test_the_conditional_score_is_the_derivative_of_the_action_along_the_details(name):
    x = torch.randn(3, 8, 8, generator=seeded(4), dtype=torch.float64)
    scale = multiscale.exact_scale(x, 0.68, name)
    action = lattice.action(x, 0.68, -2.36, 1.0)
    torch.testing.assert_close(multiscale.energy(x, scale), action, rtol=1e-12, atol=0)
    a, d = wavelet.dwt2(x, name)
    d = torch.stack(d).requires_grad_()
    s = lattice.action(wavelet.idwt2([a, tuple(d)], name), 0.68, -2.36, 1.0).sum()
    (slope,) = torch.autograd.grad(s, d)
    torch.testing.assert_close(multiscale.conditional_score(x, scale), -slope, rtol=0, atol=1e-12)
    whole = multiscale.exact_scale(x, 0.68, "")
    force = lattice.force(x, 0.68, -2.36, 1.0)[None]
    torch.testing.assert_close(multiscale.conditional_score(x, whole), force, rtol=0, atol=1e-12)


def test_new_details_at_true_coarse_fields_give_back_the_exact_torus():
    x = fields(4, 1500, 5)
    scale = multiscale.exact_scale(x, 0.68)
    coarse = wavelet.dwt2(x, "haar")[0]
    last = scale._replace(size=2, wavelet="")
    made = multiscale.sample([scale, last], len(x), coarsest=coarse, moves=40, generator=seeded(6))
    torch.testing.assert_close(wavelet.dwt2(made.fields[1], "haar")[0], coarse, rtol=0, atol=1e-5)
    square = made.fields[1].double().square().mean((1, 2))
    exact = phi4.field_variance_torus(4, 0.68)  # PHI-4: 0.863978
    assert abs(float(square.mean()) - exact) < 4.5 * float(square.std()) / math.sqrt(len(x))
    assert float((made.fields[1] - x).abs().max()) > 1  # they are new


def test_moves_leave_the_conditional_law_and_the_coarse_field_alone():
    x = fields(8, 400, 7)
    scale = multiscale.exact_scale(x, 0.68, "db2")
    y, share = multiscale.resample(x, scale, moves=30, step=0.5, generator=seeded(8))
    torch.testing.assert_close(wavelet.dwt2(y, "db2")[0], wavelet.dwt2(x, "db2")[0], rtol=0, atol=1e-5)
    change = lattice.action(y, 0.68, -2.36, 1.0) - lattice.action(x, 0.68, -2.36, 1.0)
    # Before and after have one law: the mean of the difference is 0.
    assert abs(float(change.mean())) < 4.5 * float(change.std()) / math.sqrt(len(x))
    assert 0.5 < share < 1


def test_a_gaussian_whole_law_is_sampled_with_its_variances():
    k = multiscale.free_field(4, mass=0.5)
    zero = torch.zeros(2, dtype=torch.float64)
    law = phi4.Couplings(
        torch.ones(1, dtype=torch.float64), torch.tensor([0.25], dtype=torch.float64), zero, zero.diag()
    )
    scale = multiscale.Scale(4, law, (2,), torch.ones(1, dtype=torch.float64), "")
    x = multiscale.sample([scale], 2000, coarse_moves=60, dtype=torch.float64, generator=seeded(9)).fields[0]
    power = torch.fft.fft2(x, norm="ortho").abs().square() * k
    error = power.std(0) / math.sqrt(2000)
    assert float(((power.mean(0) - 1) / error).abs().max()) < 4.5


def test_the_conditional_fit_finds_the_couplings_of_the_action():
    scales = multiscale.fit_scales(fields(8, 1500, 10), 1, ranges=1, powers=(2, 4))
    # MSD-6: p̄_1 has exactly these couplings; standard errors of the fit.
    found = torch.cat([scales[0].law.bonds, scales[0].law.potential])
    off = (found - torch.tensor([0.68, -2.36, 1.0])) / scales[0].law.error
    assert float(off.abs().max()) < 4
    assert [s.size for s in scales] == [8, 4] and scales[1].wavelet == ""


def test_matched_moments_are_the_likelihood_and_find_the_couplings_of_a_whole_law():
    x = fields(4, 3000, 11)
    wrong = multiscale.exact_scale(x, 0.6, "")
    scale = multiscale.match_moments(wrong, x, rounds=6, chains=1500, moves=15, generator=seeded(12))
    found = torch.cat([scale.law.bonds, scale.law.potential])
    # Data and chains both have noise: Cov⁻¹(1/3000 + 1/1500), the chains with an autocorrelation of a few moves.
    off = (found - torch.tensor([0.68, -2.36, 1.0])) / scale.law.error
    assert float(off.abs().max()) < 4 * math.sqrt(1 + 2 * 3)


def test_fields_made_from_coarse_to_fine_are_those_of_hmc():
    x, y = fields(16, 400, 13), fields(16, 400, 14)
    scales = multiscale.fit_scales(x, 2)
    coarse = x.double()
    for _ in range(2):
        coarse = wavelet.dwt2(coarse, "haar")[0]
    scales[-1] = multiscale.match_moments(
        scales[-1], coarse, chains=400, rounds=6, moves=20, generator=seeded(15)
    )
    made = multiscale.sample(scales, 400, moves=24, coarse_moves=100, generator=seeded(16))
    assert [f.shape[1] for f in made.fields] == [4, 8, 16] and min(made.acceptance) > 0.5
    z = made.fields[-1]
    # MSD-8. Errors: of the samples made, of those compared with, and of the training set, which the energies have learnt.
    u, v = (renormalization.binder(f.double().mean((1, 2))[:, None]) for f in (z, y))
    assert abs(float(u.value - v.value)) < 4.5 * math.sqrt(3) * float(v.error)
    for power in (2, 4):
        a, b = ((f.double() ** power).mean((1, 2)) for f in (z, y))
        assert abs(float(a.mean() - b.mean())) < 4.5 * math.sqrt(3) * float(b.std()) / math.sqrt(400)
    spectra = [torch.fft.fft2(f.double(), norm="ortho").abs().square() for f in (z, y)]
    a, b = (s.mean((0, 2))[4:9] for s in spectra)  # the finest scale
    error = spectra[1].mean(2)[:, 4:9].std(0) / math.sqrt(400)
    assert float(((a - b) / error).abs().max()) < 4.5 * math.sqrt(3)


def test_details_decorrelate_in_the_same_time_at_every_size_and_the_mean_of_the_field_does_not():
    steps, taus = (
        [0.3, 0.3 / 2 ** (1 / 3)],
        [],
    )  # h ∼ N^{−1/3}: Metropolis tests the energy of all sites at once
    for L, chains, seed, step in ((8, 48, 17, steps[0]), (16, 12, 18, steps[1])):
        x = fields(L, chains, seed)
        chain = multiscale.detail_autocorrelation(
            x, multiscale.exact_scale(x, 0.68), moves=800, step=step, generator=seeded(19)
        )
        taus.append(float(chain.tau.mean()))
    # MSD-7, in the time of Langevin dynamics. 2304 differences of 800 steps, τ ≈ 40 to 65: 4 %, refusals as much again.
    assert taus[1] * steps[1] ** 2 / (taus[0] * steps[0] ** 2) == pytest.approx(1, abs=0.2)
    slow = multiscale.pixel_autocorrelation(
        4, 0.68, moves=3000, chains=24, step=0.3, thin=10, start=fields(4, 24, 20), generator=seeded(21)
    )
    assert float(slow.tau) > 5 * max(
        taus
    )  # with a step of about twice the length, and four times fewer sites


def test_the_autocorrelation_of_gaussian_details_is_that_of_their_precision():
    # Langevin steps without conditioning trouble: V = v x², no bonds, so that each detail is alone with K = 2v.
    law = phi4.Couplings(*(torch.tensor(v, dtype=torch.float64) for v in ([0.0], [0.5], [0.0, 0.0], [[0.0]])))
    scale = multiscale.Scale(8, law, (2,), torch.ones(3, dtype=torch.float64), "haar")
    x = torch.randn(16, 8, 8, generator=seeded(22), dtype=torch.float64)
    chain = multiscale.detail_autocorrelation(x, scale, moves=1000, step=0.2, generator=seeded(23))
    assert chain.acceptance > 0.99
    rho = 1 - 0.2**2 / 2  # h = ε²/2
    # 768 differences of chains of 1000 steps, τ = 50: 10 independent values each.
    assert float(chain.tau.mean()) == pytest.approx((1 + rho) / (1 - rho) / 2, rel=0.1)


# ------------------------------------------------------------------------------------------------- bad input


def test_bad_input_is_named():
    k, ones = multiscale.free_field(8), torch.ones(2, 8, 8)
    scale = multiscale.exact_scale(torch.randn(4, 8, 8, generator=seeded(24)), 0.68)
    whole = scale._replace(size=4, wavelet="", widths=torch.ones(1))
    asked = [
        ("L", lambda: multiscale.free_field(1)),
        ("eta", lambda: multiscale.free_field(8, 0)),
        ("dim", lambda: multiscale.free_field(8, dim=3)),
        ("mass", lambda: multiscale.free_field(8, mass=0)),
        ("precision", lambda: multiscale.bands(-k, "haar")),
        ("precision", lambda: multiscale.bands(torch.rand(8, 8), "haar")),
        ("precision", lambda: multiscale.bands(torch.ones(8, 4), "haar")),
        ("levels", lambda: multiscale.bands(k, "haar", 4)),
        ("levels", lambda: multiscale.bands(multiscale.free_field(7), "haar")),
        ("wavelet", lambda: multiscale.bands(k, "sym4")),
        ("precision", lambda: multiscale.diagonal_condition(multiscale.free_field(128), "haar")),
        ("precision", lambda: multiscale.langevin(torch.zeros(3))),
        ("step", lambda: multiscale.langevin(k, 0.25)),
        ("error", lambda: multiscale.langevin_steps(k, 1)),
        ("reach", lambda: multiscale.relaxation_rate(torch.square, 0)),
        ("variances", lambda: multiscale.reveal_time(torch.tensor([NAN]))),
        ("variances", lambda: multiscale.euler_error(torch.tensor([0.0]))),
        ("variances", lambda: multiscale.euler_error(torch.tensor([1]))),
        ("eta", lambda: multiscale.euler_error(torch.ones(1), 0.5)),
        ("start", lambda: multiscale.start_error(torch.ones(1), 0)),
        ("times", lambda: multiscale.reverse_variance(torch.ones(1), torch.tensor([0.0, 1.0]))),
        ("steps", lambda: multiscale.time_grid(1, 0)),
        ("least", lambda: multiscale.time_grid(1, 4, 0)),
        ("error", lambda: multiscale.steps_needed(torch.ones(1), 0)),
        ("n", lambda: multiscale.diffuse(k, "haar", torch.tensor([1.0, 0.0]), 0)),
        ("fields", lambda: multiscale.fit_scales(torch.ones(2, 8, 4), 1)),
        ("fields", lambda: multiscale.energy(torch.ones(2, 4, 4), scale)),
        ("fields", lambda: multiscale.resample(ones * NAN, scale)),
        ("moves", lambda: multiscale.resample(ones, scale, moves=0)),
        ("step", lambda: multiscale.resample(ones, scale, step=0)),
        ("generator", lambda: multiscale.resample(ones, scale, generator=3)),
        ("scales", lambda: multiscale.sample([scale], 3)),
        ("scales", lambda: multiscale.sample([scale, whole._replace(size=2)], 3)),
        ("n", lambda: multiscale.sample([scale, whole], 0)),
        ("coarsest", lambda: multiscale.sample([scale, whole], 3, coarsest=torch.ones(2, 4, 4))),
        ("scale", lambda: multiscale.match_moments(scale, ones)),
        ("beta", lambda: multiscale.exact_scale(ones, -1)),
        ("thin", lambda: multiscale.pixel_autocorrelation(4, 0.5, thin=0)),
    ]
    for name, call in asked:
        with pytest.raises(ValueError, match=rf"^{name}\b"):
            call()
