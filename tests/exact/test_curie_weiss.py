"""The Curie–Weiss magnet: enumeration, sums over sectors, Poisson-binomial laws, differentiation, closed forms, simulation."""

import math

import pytest
import torch
from scipy import integrate, stats

from physgen.exact import curie_weiss as cw
from physgen.memories import hebbian

NAN, INF = float("nan"), float("inf")
BETA = 1.5


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normals(seed, *shape):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def noised(n, d, t, beta, field=0.0, seed=0):
    """x_t of n draws of the magnet."""
    a = cw.sample(n, d, beta, field, generator=seeded(seed))
    return math.exp(-t) * a + math.sqrt(-math.expm1(-2 * t)) * normals(seed + 1, n, d)


def enumerated(d, beta, field):
    """All states, and the logarithms of their probabilities."""
    states = hebbian.all_states(d)
    total = states.sum(1)
    return states, torch.log_softmax(beta / (2 * d) * total**2 + field / d * total, 0)


def enumerated_joint(x, t, beta, field):
    """States and log p₀(a) + log N(x; a e^{−t}, Δ): (B, 2^d)."""
    states, log_p = enumerated(x.shape[1], beta, field)
    delta = -math.expm1(-2 * t)
    distance = ((x[:, None] - math.exp(-t) * states) ** 2).sum(2)
    return states, log_p - distance / (2 * delta) - x.shape[1] / 2 * math.log(2 * math.pi * delta)


def descending(t_first, t_last, steps):
    """Steps that shrink with t: uniform in √t."""
    return torch.linspace(math.sqrt(t_first), math.sqrt(t_last), steps + 1, dtype=torch.float64) ** 2


def close(value, expected, tolerance):
    torch.testing.assert_close(
        value, torch.as_tensor(expected, dtype=value.dtype), rtol=0, atol=tolerance, check_device=False
    )


# ------------------------------------------------------------------------------------------------- without noise


def test_the_magnetisation_has_the_known_values_and_vanishes_up_to_beta_one():
    # CWM-1; the three values are given to six digits.
    close(cw.magnetization(torch.tensor([1.2, 1.5, 2.0])), [0.658570, 0.858560, 0.957504], 5e-7)
    close(cw.magnetization(torch.tensor([0.0, 0.5, 1.0])), [0.0, 0.0, 0.0], 0)
    assert float(cw.magnetization(BETA)) == pytest.approx(hebbian.curie_weiss_magnetization(BETA), abs=2e-15)
    # m = tanh βm to third order: m² = 3ε(1 + O(ε)), ε = β − 1.
    assert float(cw.magnetization(1 + 1e-6)) == pytest.approx(math.sqrt(3e-6), rel=1e-5)


@pytest.mark.parametrize("beta", [-3.0, 0.0, 0.7, 1.0, 1.6, 4.0])
@pytest.mark.parametrize("field", [-0.3, 0.02, 1.0])
def test_the_magnetisation_minimises_the_free_energy_in_a_field(beta, field):
    m = cw.magnetization(beta, field)
    grid = torch.linspace(-1, 1, 20001, dtype=torch.float64)
    least = cw.free_energy(grid, beta, field).min()
    here = cw.free_energy(m, beta, field)
    # The nearest point of the grid is 5e-5 away, where f'' (5e-5)²/2 is below 1e-6 unless |m| is within 1e-3 of 1.
    assert here <= least + 1e-15 and here > least - 1e-6
    close(torch.tanh(beta * m + field), m, 1e-14)


def test_magnetization_broadcasts_beta_against_the_field():
    m = cw.magnetization(torch.tensor([[0.5], [2.0]]), torch.tensor([-0.1, 0.0, 0.1]))
    assert m.shape == (2, 3) and m.dtype == torch.float64
    close(m[:, 0], -m[:, 2], 0)
    assert float(m[1, 1]) == float(cw.magnetization(2.0))


def test_the_free_energy_counts_the_states_of_a_sector():
    d, beta, field = 4000, 1.3, 0.1
    values, p = cw.sector_law(d, beta, d * field)  # h of the whole magnet is d times the field per spin
    m = values[1:-1:500] / d
    exact = -(p[1:-1:500].log() + cw.log_partition(d, beta, d * field)) / d
    # Stirling: log C(d, k) = d S(m) − ½ log(πd(1 − m²)/2) + O(1/(d(1 − |m|))); M = ±(d − 2) are near the end of its range.
    stirling = torch.log(math.pi * d * (1 - m**2) / 2) / (2 * d)
    close((exact - cw.free_energy(m, beta, field) - stirling)[1:], torch.zeros(len(m) - 1), 1e-6)
    close(
        cw.free_energy(torch.tensor([-1.0, 1.0]), beta, field), [-beta / 2 + field, -beta / 2 - field], 1e-15
    )


@pytest.mark.parametrize(
    ("d", "beta", "field"), [(1, 0.0, 0.5), (2, 3.0, -1.0), (7, 1.5, 0.8), (10, 0.5, 0.0)]
)
def test_the_partition_function_and_the_law_of_m_are_those_of_all_states(d, beta, field):
    states, log_p = enumerated(d, beta, field)
    total = states.sum(1)
    log_z = torch.logsumexp(beta / (2 * d) * total**2 + field / d * total, 0)
    close(cw.log_partition(d, beta, field), log_z, 1e-13)
    values, p = cw.sector_law(d, beta, field)
    close(p, torch.stack([log_p[total == v].exp().sum() for v in values]), 1e-14)
    close(cw.second_moment(d, beta, field), log_p.exp() @ total**2 / d, 1e-13)
    close(cw.absolute_magnetization(d, beta, field), log_p.exp() @ total.abs() / d, 1e-13)


def test_the_partition_function_of_a_large_magnet_is_its_two_saddles():
    m = cw.magnetization(BETA)

    def beyond_saddles(d):
        saddles = math.log(2) - torch.log(1 - BETA * (1 - m**2)) / 2 - d * cw.free_energy(m, BETA)
        return cw.log_partition(d, BETA) - saddles

    # Laplace: c/d + O(1/d²), with c ~ 1; extrapolated, 1e-9. Rounding: a few times 1e-16 d log d = 1e-10.
    assert abs(float(beyond_saddles(100_000))) < 2e-5
    close(2 * beyond_saddles(100_000) - beyond_saddles(50_000), 0.0, 5e-9)
    close(cw.tilted_log_partition(torch.zeros(1, 5000), BETA)[0], cw.log_partition(5000, BETA), 1e-10)


def test_the_coupling_of_the_talk_orders_above_one_half_or_one_by_what_its_sum_runs_over():
    # BIR-2. The sums over pairs, by hand on all states.
    d, bj, states = 6, 0.7, hebbian.all_states(6)
    ordered = torch.einsum("si,sj->s", states, states)
    distinct = sum(states[:, i] * states[:, j] for j in range(d) for i in range(j))
    for pairs, terms in (("ordered", ordered), ("distinct", distinct)):
        law = torch.softmax(bj / d * terms, 0)
        close(law, enumerated(d, cw.coupling(bj, pairs), 0.0)[1].exp(), 1e-15)
    # The numbers of the claim, to the digits given.
    assert float(cw.absolute_magnetization(2000, cw.coupling(0.55))) == pytest.approx(0.4959, abs=5e-5)
    assert float(cw.magnetization(cw.coupling(0.55))) == pytest.approx(0.5029, abs=5e-5)
    assert float(cw.absolute_magnetization(2000, cw.coupling(0.45))) == pytest.approx(0.055, abs=5e-4)
    assert float(cw.absolute_magnetization(2000, cw.coupling(0.55, "distinct"))) == pytest.approx(
        0.027, abs=5e-4
    )


def test_a_field_of_order_one_on_the_whole_magnet_sets_the_weights_of_the_classes():
    # BIR-3, to the digits of the claim.
    ratios = [float(cw.class_ratio(d, BETA, 0.8)) for d in (50, 200, 1000)]
    assert ratios == pytest.approx([3.795, 3.919, 3.944], abs=5e-4)
    limit = math.exp(1.6 * float(cw.magnetization(BETA)))
    assert limit == pytest.approx(3.950, abs=5e-4)
    # The correction is c/d: Richardson's extrapolation from d = 2000 and 4000 leaves c'/d² = 1e-6.
    first, second = (float(cw.class_ratio(d, BETA, 0.8)) for d in (2000, 4000))
    assert 2 * second - first == pytest.approx(limit, abs=1e-5)
    # It does not move the class: a spin's mean given M > 0 shifts by O(h/d).
    values, p = cw.sector_law(1000, BETA, 0.8)
    up = values > 0
    m = p[up] @ values[up] / p[up].sum() / 1000
    assert abs(float(m - cw.magnetization(BETA))) < 3 / 1000


def test_a_field_of_the_whole_magnet_is_its_size_times_the_field_per_spin():
    # The maximum of the law of M lies within two spacings 2/d of the intensive magnetisation.
    values, p = cw.sector_law(2000, 0.8, 2000 * 0.3)
    assert abs(float(values[p.argmax()]) / 2000 - float(cw.magnetization(0.8, 0.3))) < 4 / 2000


def test_samples_follow_the_law_of_m_and_their_sites_are_alike():
    n, d, field = 40_000, 12, 0.6
    a = cw.sample(n, d, BETA, field, generator=seeded(3))
    assert a.shape == (n, d) and a.dtype == torch.float64 and bool((a.abs() == 1).all())
    values, p = cw.sector_law(d, BETA, field)
    counts = torch.stack([(a.sum(1) == v).sum() for v in values])
    assert stats.chisquare(counts.numpy(), n * p.numpy()).pvalue > 1e-4
    # Every state of a sector is as likely: the means of the sites and of the pairs agree, within 4.5 standard errors of 78 numbers.
    mean, pair = p @ values / d, (p @ values**2 / d - 1) / (d - 1)
    i, j = torch.triu_indices(d, d, 1)
    site_error, pair_error = math.sqrt((1 - mean**2) / n), math.sqrt((1 - pair**2) / n)
    close(a.mean(0), mean.expand(d), 4.5 * site_error)
    close((a.T @ a / n)[i, j], pair.expand(len(i)), 4.5 * pair_error)


def test_a_seed_fixes_the_samples_and_none_draws_afresh():
    def states(generator=None):
        return cw.sample(50, 20, BETA, generator=generator)

    assert torch.equal(states(seeded(1)), states(seeded(1)))
    assert not torch.equal(states(), states())


# ------------------------------------------------------------------------------------------------- Hubbard and Stratonovich


@pytest.mark.parametrize("d", [1, 2, 5, 10])
@pytest.mark.parametrize(("beta", "field"), [(0.0, 0.7), (1e-3, 0.0), (0.9, -2.0), (1.5, 0.5), (6.0, 0.0)])
def test_the_mixture_over_fields_gives_every_state_its_probability(d, beta, field):
    fields, weights = cw.hubbard_stratonovich(d, beta, field)
    states, log_p = enumerated(d, beta, field)
    spin = torch.nn.functional.logsigmoid(2 * fields[:, None, None] * states).sum(2)  # (Q, 2^d)
    # Relative: exponents of at most 2dβ + … ~ 100 leave 1e-13.
    close(torch.logsumexp(weights.log()[:, None] + spin, 0) - log_p, torch.zeros(2**d), 2e-13)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-14)
    assert len(fields) <= 2 * math.ceil(1.41 * (math.sqrt(beta * d) + 8.9)) + 1


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_fewer_fields_give_every_state_its_probability_to_the_tolerance(tolerance):
    d, beta = 9, 2.0
    fields, weights = cw.hubbard_stratonovich(d, beta, tolerance=tolerance)
    states, log_p = enumerated(d, beta, 0.0)
    spin = torch.nn.functional.logsigmoid(2 * fields[:, None, None] * states).sum(2)
    error = float((torch.logsumexp(weights.log()[:, None] + spin, 0) - log_p).expm1().abs().max())
    # Of the sum and of its norm, each with an error of sum and tail; and no better than needed.
    assert tolerance / 100 < error < 4 * tolerance


@pytest.mark.parametrize(("beta", "field"), [(0.3, 1.0), (1.5, -0.7), (3.0, 0.0)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 1e6])
def test_the_tilted_magnet_is_that_of_all_states_however_strong_the_fields(beta, field, size):
    d = 10
    u = size * normals(4, 6, d)
    states, log_p = enumerated(d, beta, field)
    exponents = log_p + cw.log_partition(d, beta, field) + u @ states.T
    # Rounding of the sums u·a, of up to 10 size.
    tolerance = 2e-14 * (10 + 10 * size)
    close(cw.tilted_log_partition(u, beta, field), exponents.logsumexp(1), tolerance)
    p = exponents.softmax(1)
    mean = p @ states
    close(cw.tilted_magnetization(u, beta, field), mean, tolerance)
    second = torch.einsum("bs,si,sj->bij", p, states, states)
    close(cw.tilted_covariance(u, beta, field), second - mean[:, :, None] * mean[:, None], 4 * tolerance)


@pytest.mark.parametrize("d", [1, 2, 3, 30, 300, 2000])
@pytest.mark.parametrize("beta", [0.4, 1.0, 2.0])
def test_in_equal_fields_the_magnet_is_one_in_a_field_of_the_whole_at_any_size(d, beta):
    for u in (-0.02, 3 / d):  # Σ_i u_i adds d u to h: a sum over d + 1 sectors, without an integral
        tilted = torch.full((1, d), u, dtype=torch.float64)
        values, p = cw.sector_law(d, beta, 0.4 + d * u)
        # CWM-2: rounding of exponents of βd/2 + d log 2 ~ 3d, in both: 1e-12 at d = 2000.
        close(cw.tilted_magnetization(tilted, beta, 0.4)[0], (p @ values / d).expand(d), 1e-12)
        log_z = cw.log_partition(d, beta, 0.4 + d * u)
        close(cw.tilted_log_partition(tilted, beta, 0.4)[0], log_z, 1e-14 * (10 + 3 * d))


@pytest.mark.parametrize("d", [1, 2, 30, 500])
@pytest.mark.parametrize("t", [0.02, 0.5, 2.5])
def test_the_mean_total_is_that_of_the_poisson_binomial_law(d, t):
    x = noised(6, d, t, BETA, 0.5, seed=5)
    values, p = cw.sector_posterior(x, t, BETA, 0.5)
    # CWM-2: an O(d²) recursion against an integral; 1e-16 of exponents of 3d, each spin.
    close(cw.posterior_mean(x, t, BETA, 0.5).sum(1) / d, p @ values / d, 3e-16 * (100 + 3 * d))


def test_the_posterior_of_m_is_that_of_all_states():
    x = noised(5, 9, 0.4, BETA, -0.6, seed=6)
    states, joint = enumerated_joint(x, 0.4, BETA, -0.6)
    p, total = joint.softmax(1), states.sum(1)
    values, law = cw.sector_posterior(x, 0.4, BETA, -0.6)
    close(law, torch.stack([p[:, total == v].sum(1) for v in values], 1), 1e-13)


def test_fields_that_are_left_out_have_no_part_in_the_posterior_of_noised_data():
    d, t = 1000, 0.6
    all_fields, few = cw.hubbard_stratonovich(d, BETA), cw.hubbard_stratonovich(d, BETA, least=1e-20)
    assert len(few.fields) < 0.6 * len(all_fields.fields)
    x = noised(50, d, t, BETA, seed=7)
    u = x / (2 * math.sinh(t))
    f, w = few
    logs = w.log() + torch.log(torch.cosh(f[:, None] + u[:, None]) / torch.cosh(f)[:, None]).sum(2)
    mean = (logs.softmax(1)[:, :, None] * torch.tanh(f[:, None] + u[:, None])).sum(1)
    # Their weight is below 200·1e-20, so Markov: beyond 1e-11 with a probability of 1e-5.
    close(cw.posterior_mean(x, t, BETA), mean, 1e-11)


# ------------------------------------------------------------------------------------------------- score and density


@pytest.mark.parametrize("t", [0.01, 0.3, 1.0, 4.0])
@pytest.mark.parametrize(("beta", "field"), [(0.0, 0.9), (0.8, 0.0), (1.5, 0.7)])
def test_posterior_mean_score_and_density_are_those_of_all_states(t, beta, field):
    x = 1.5 * normals(8, 7, 10)
    states, joint = enumerated_joint(x, t, beta, field)
    mean, s, delta = joint.softmax(1) @ states, math.exp(-t), -math.expm1(-2 * t)
    # CWM-2. Exponents |x|²/2Δ are up to 10³ at t = 0.01: 1e-13 relative to 1.
    scale = 1 + 20 / delta
    close(cw.posterior_mean(x, t, beta, field), mean, 1e-15 * scale)
    close(cw.score(x, t, beta, field), (s * mean - x) / delta, 1e-15 * scale / delta)
    close(cw.log_density(x, t, beta, field), joint.logsumexp(1), 4e-15 * scale)


def test_the_density_integrates_to_one_in_one_and_two_dimensions():
    def density(*x):
        return float(cw.log_density(torch.tensor([x], dtype=torch.float64), 0.3, BETA, 0.4).exp())

    one = integrate.quad(density, -7, 7, epsabs=1e-11)[0]
    assert one == pytest.approx(1, abs=1e-9)
    # The trapezoidal rule is exact to rounding for Gaussians of width √Δ = 0.67 on a mesh of 0.15, cut at 8 widths.
    x = torch.arange(-46, 47, dtype=torch.float64) * 0.15
    plane = torch.cartesian_prod(x, x)
    close(cw.log_density(plane, 0.3, BETA, 0.4).exp().sum() * 0.15**2, 1.0, 1e-12)


@pytest.mark.parametrize("d", [1, 8, 200])
@pytest.mark.parametrize("t", [0.05, 0.7, 2.0])
def test_the_score_is_the_gradient_of_the_log_density(d, t):
    x = noised(4, d, t, BETA, 0.5, seed=9).requires_grad_()
    (gradient,) = torch.autograd.grad(cw.log_density(x, t, BETA, 0.5).sum(), x)
    # Two ways through the same exponents, of size d/Δ.
    close(gradient, cw.score(x, t, BETA, 0.5).detach(), 1e-13 * (10 + d) / t)


def test_the_score_is_the_slope_of_the_log_density_by_differences():
    x, v, step = noised(20, 10, 0.5, BETA, seed=10), normals(11, 20, 10), 1e-4
    up, down = (cw.log_density(x + sign * step * v, 0.5, BETA) for sign in (1, -1))
    # Rounding 1e-14/1e-4 = 1e-10; truncation step² |v|³ (third derivative)/6 ~ 1e-8 · 30.
    close((up - down) / (2 * step), (cw.score(x, 0.5, BETA) * v).sum(1), 1e-6)


def test_the_score_is_the_thermodynamics_of_a_tilted_magnet():
    # THS-1: log p_t is a free energy, the score its magnetisation, the Jacobian of the score its susceptibility.
    d, t, field = 6, 0.6, 0.3
    s, delta = math.exp(-t), -math.expm1(-2 * t)
    x = noised(3, d, t, BETA, field, seed=12)
    u = (s * x / delta).requires_grad_()
    log_z = cw.tilted_log_partition(u, BETA, field)
    (magnetisation,) = torch.autograd.grad(log_z.sum(), u, create_graph=True)
    close(magnetisation.detach(), cw.posterior_mean(x, t, BETA, field), 1e-14)
    gauss = -(x**2).sum(1) / (2 * delta) - d * s**2 / (2 * delta) - d / 2 * math.log(2 * math.pi * delta)
    free = gauss + log_z.detach() - cw.log_partition(d, BETA, field)
    close(cw.log_density(x, t, BETA, field), free, 1e-13)
    rows = [torch.autograd.grad(magnetisation[:, i].sum(), u, retain_graph=True)[0] for i in range(d)]
    susceptibility = cw.tilted_covariance(u.detach(), BETA, field)
    close(torch.stack(rows, 1), susceptibility, 1e-13)
    jacobian = torch.autograd.functional.jacobian(lambda y: cw.score(y, t, BETA, field), x[:1])[0, :, 0]
    second_tweedie = (s**2 / delta * susceptibility[0] - torch.eye(d)) / delta
    close(jacobian, second_tweedie, 1e-13)


def test_the_hessian_of_the_log_density_is_right_at_the_origin_too():
    t, zero = 0.6, torch.zeros(1, 3, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda y: cw.log_density(y, t, BETA).sum(), zero)[0, :, 0]
    s, delta = math.exp(-t), -math.expm1(-2 * t)
    covariance = cw.tilted_covariance(zero, BETA)[0]
    close(hessian, (s**2 / delta * covariance - torch.eye(3)) / delta, 1e-13)


def test_without_coupling_every_spin_is_alone():
    x, t, field = 3 * normals(13, 5, 4), 0.2, 2.0
    s, delta = math.exp(-t), -math.expm1(-2 * t)
    close(cw.posterior_mean(x, t, 0.0, field), torch.tanh(field / 4 + s * x / delta), 1e-15)
    up = 1 / (1 + math.exp(-field / 2))
    density = sum(
        p * torch.exp(-((x - sign * s) ** 2) / (2 * delta)) for p, sign in ((up, 1), (1 - up, -1))
    ) / math.sqrt(2 * math.pi * delta)
    close(cw.log_density(x, t, 0.0, field), density.log().sum(1), 1e-12)


@pytest.mark.parametrize("t", [1e-300, 1e-12, 1e-3])
def test_at_small_times_the_posterior_is_the_sign_and_the_density_its_gaussian(t):
    d, s, delta = 40, math.exp(-t), -math.expm1(-2 * t)
    a = cw.sample(5, d, BETA, 0.3, generator=seeded(14))
    x = s * a + math.sqrt(delta) * normals(15, 5, d)
    close(cw.posterior_mean(x, t, BETA, 0.3), a, 1e-12)
    log_p = -(d * BETA / 2) * a.mean(1) ** 2  # minus log p₀ + log Z, without the field
    log_p = -log_p + 0.3 * a.mean(1) - cw.log_partition(d, BETA, 0.3)
    log_p = log_p - (((x - s * a) ** 2) / delta).sum(1) / 2 - d / 2 * math.log(2 * math.pi * delta)
    close(cw.log_density(x, t, BETA, 0.3), log_p, 1e-9)


def test_at_large_times_the_data_are_forgotten():
    x = normals(16, 5, 30)
    for t in (40.0, 1000.0):
        close(cw.score(x, t, BETA), -x, 1e-15)
        close(cw.log_density(x, t, BETA), torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1), 1e-12)
    values, p = cw.sector_law(30, BETA, 0.5)
    close(cw.posterior_mean(x, 60.0, BETA, 0.5), (p @ values / 30).expand(5, 30), 1e-13)


def test_far_x_large_d_and_strong_coupling_stay_finite_and_exact():
    x = 1e9 * normals(17, 2, 20)
    close(cw.posterior_mean(x, 0.5, BETA), x.sign(), 1e-15)
    assert bool(cw.log_density(x, 0.5, BETA).isfinite().all())
    # Half of the spins held up, half held down, by fields of 200 against a coupling of 200: M = 0 by symmetry.
    u = torch.tensor([[200.0, 200.0, -200.0, -200.0]], dtype=torch.float64)
    close(cw.tilted_magnetization(u, 200.0), torch.tensor([[1.0, 1.0, -1.0, -1.0]]), 1e-12)
    big = torch.full((1, 20_000), 0.1, dtype=torch.float64)
    values, p = cw.sector_law(20_000, BETA, 20_000 * 0.1 / (2 * math.sinh(2.0)))
    close(cw.posterior_mean(big, 2.0, BETA)[0, :3], (p @ values / 20_000).expand(3), 1e-11)


def test_a_time_per_row_is_each_row_at_its_time_and_the_dtype_is_that_of_x():
    x, t = normals(18, 4, 6), torch.tensor([0.1, 0.5, 1.0, 3.0])
    for function in (
        cw.posterior_mean,
        cw.score,
        cw.log_density,
        cw.mean_field_posterior_mean,
        cw.regime_one_mean,
    ):
        together = function(x, t, BETA, 0.2)
        single = torch.cat([function(x[i : i + 1], float(t[i]), BETA, 0.2) for i in range(4)])
        close(together, single, 1e-13)
    assert cw.score(x.float(), 0.5, BETA).dtype == torch.float32
    close(cw.score(x.float(), 0.5, BETA), cw.score(x.float().double(), 0.5, BETA).float(), 1e-6)
    assert cw.posterior_mean(x[:0], 0.5, BETA).shape == (0, 6) and cw.log_density(x[:0], 0.5, BETA).shape == (
        0,
    )


# ------------------------------------------------------------------------------------------------- large d


def test_the_mean_field_posterior_errs_by_one_over_d():
    # CWM-3 at β = 1.5, t = ½: d × error is constant once the other class has no weight.
    errors = []
    for d, n in ((250, 400), (1000, 100)):
        x = noised(n, d, 0.5, BETA, seed=d)
        gap = cw.mean_field_posterior_mean(x, 0.5, BETA) - cw.posterior_mean(x, 0.5, BETA)
        errors.append(float((gap**2).mean().sqrt()))
    # 10⁵ sites, but of 100 rows whose fields move together: a relative error of 10 %.
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[0] * 250 < 1


@pytest.mark.parametrize(("beta", "t"), [(1.5, 0.5), (1.5, 1.0), (2.5, 0.3), (0.6, 0.8)])
def test_the_price_of_one_saddle_is_its_gaussian_fluctuation(beta, t):
    # CWM-3: d × rms error at large d, against the integral over one Gaussian.
    d, n = 2000, 40
    x = noised(n, d, t, beta, seed=23)
    squares = (cw.mean_field_posterior_mean(x, t, beta) - cw.posterior_mean(x, t, beta)).square().mean(1)
    rms = float(squares.mean().sqrt())
    error = float(squares.std()) / math.sqrt(n) / (2 * rms)
    # The next order is 1/d of the first, with a coefficient below 20 here.
    expected = float(cw.mean_field_error(t, beta))
    assert abs(d * rms - expected) < 4.5 * d * error + expected * 20 / d


def test_the_price_of_one_saddle_vanishes_without_coupling_and_at_small_times():
    times = torch.tensor([[1e-3], [0.7]])
    close(cw.mean_field_error(times, 0.0), torch.zeros(2, 1), 0)
    assert float(cw.mean_field_error(1e-3, BETA)) < 1e-15
    # Given nothing, t → ∞: τ = m*, so that χ = 1 − m² and g = m (1 − m²).
    m = float(cw.magnetization(BETA))
    gain = BETA / (1 - BETA * (1 - m**2))
    close(cw.mean_field_error(30.0, BETA), gain * (1 - m**2) * m * (1 + gain * (1 - m**2)), 1e-12)


@pytest.mark.parametrize("t", [0.5, 2.5])  # one root; two, one for each class
def test_the_mean_field_magnetisation_is_the_best_root_of_its_equation(t):
    d = 60
    x = noised(30, d, t, BETA, 0.4, seed=20)
    u = math.exp(-t) * x / -math.expm1(-2 * t)
    m = cw.mean_field_magnetization(x, t, BETA, 0.4)
    close(torch.tanh(BETA * m[:, None] + 0.4 / d + u).mean(1), m, 1e-13)
    grid = torch.linspace(-1, 1, 2001, dtype=torch.float64)

    def weight(m):
        cosh = torch.cosh(BETA * m[..., None] + 0.4 / d + u[:, None])
        return -d * BETA * m**2 / 2 + cosh.log().sum(-1)

    assert bool((weight(m[:, None])[:, 0] >= weight(grid.expand(30, -1)).max(1).values - 1e-12).all())


def test_in_regime_one_a_spin_follows_the_sign_of_its_class_to_order_one_over_d():
    # CWM-4: e^{−t} √d = 1 and x = q/√d in every direction but for noise; the mean over i, at h = 0 and h = 0.7.
    for field in (0.0, 0.7):
        errors = []
        for d in (1000, 4000):
            t = math.log(d) / 2
            x = normals(21, 8, d)
            x = x + (1.3 / math.sqrt(d) - x.mean(1, keepdim=True))
            exact = cw.posterior_mean(x, t, BETA, field).mean(1)
            errors.append(float((exact - cw.regime_one_mean(x, t, BETA, field)).mean()))
        assert abs(errors[0]) < 3 / 1000
        # O(1/d) with a spread from the noise of x of O(d^{−3/2}).
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.4)


def test_the_slope_of_the_potential_is_the_drift_of_the_total_in_regime_one():
    # dx = [x + 2S] dτ + √2 dW, q = Σ x_i/√d: its drift is −q + 2 e^{−t}√d ⟨m⟩ up to 1/Δ = 1 + O(1/d), and ⟨m⟩ errs by O(1/d).
    d, field = 4000, 0.5
    for q in (-1.5, 0.2, 1.0):
        for kappa in (0.6, 1.6):  # e^{−t} √d
            t = math.log(math.sqrt(d) / kappa)
            x = normals(22, 4, d)
            x = x + (q / math.sqrt(d) - x.mean(1, keepdim=True))
            drift = (x + 2 * cw.score(x, t, BETA, field)).sum(1) / math.sqrt(d)
            at = torch.tensor(q, dtype=torch.float64, requires_grad=True)
            (slope,) = torch.autograd.grad(cw.potential(at, t, d, BETA, field), at)
            close(drift, (-slope).expand(4), 20 / d)


def test_the_potential_gets_its_second_well_where_its_curvature_vanishes():
    m, d = float(cw.magnetization(BETA)), 500
    onset = math.log(2 * d * m**2) / 2
    q = torch.linspace(-3, 3, 601, dtype=torch.float64)
    for t, wells in ((onset + 0.05, 1), (onset - 0.05, 2)):
        v = cw.potential(q, t, d, BETA)
        assert int(((v[1:-1] < v[:-2]) & (v[1:-1] < v[2:])).sum()) == wells
    close(cw.potential(torch.zeros(1), 1.0, d, BETA), [0.0], 1e-15)


@pytest.mark.parametrize(("beta", "field"), [(0.6, 0.1), (1.5, 0.0), (1.5, -0.05)])
@pytest.mark.parametrize("t", [0.1, 0.4, 1.5])
def test_the_noised_landscape_is_the_rate_of_the_exact_law_of_the_mean(beta, field, t):
    # y = Σ x_i/d is a mixture of d + 1 Gaussians of variance Δ/d about e^{−t} M/d.
    d, s, delta = 20_000, math.exp(-t), -math.expm1(-2 * t)
    values = 2 * torch.arange(d + 1, dtype=torch.float64) - d
    log_p = (
        torch.from_numpy(stats.binom(d, 0.5).logpmf((values.numpy() + d) / 2)) + beta / (2 * d) * values**2
    )
    log_p = torch.log_softmax(log_p + field * values, 0)  # most of it is below the least number of float64
    y = torch.linspace(-1.2, 1.2, 25, dtype=torch.float64)
    logs = (
        log_p - d * (y[:, None] - s * values / d) ** 2 / (2 * delta) - math.log(2 * math.pi * delta / d) / 2
    )
    rate = -logs.logsumexp(1) / d
    # Laplace: the prefactors are e^{O(log d)}, log d/d = 5e-4.
    close(cw.noised_free_energy(y, t, beta, field), rate, 2 * math.log(d) / d)
    m = s * cw.magnetization(beta, field)
    close(cw.noised_free_energy(m[None], t, beta, field), [0.0], 1e-15)


def test_the_noised_landscape_has_a_cusp_between_the_classes_after_its_time():
    onset = math.log(BETA / (BETA - 1)) / 2

    def kink(t, step=1e-5):
        y = torch.tensor([-step, 0.0, step], dtype=torch.float64)
        f = cw.noised_free_energy(y, t, BETA)
        return float((f[2] - 2 * f[1] + f[0]) / step)

    # Smooth: f″ step = O(1e-5). A cusp: a jump of slope 2 e^{−t} m/Δ, m = tanh β′m.
    assert abs(kink(onset - 0.05)) < 1e-3
    t = onset + 0.3
    m = float(cw.magnetization(BETA - 1 / math.expm1(2 * t)))
    assert kink(t) == pytest.approx(-2 * math.exp(-t) * m / -math.expm1(-2 * t), rel=1e-3)


# ------------------------------------------------------------------------------------------------- sampling from noise


def class_moments(x):
    """E|m|, E m² and P(M > 0) − P(M < 0) with their variances."""
    m = torch.sign(x).double().mean(1)
    values = torch.stack([m.abs(), m**2, torch.sign(m)])
    return values.mean(1), values.var(1) / len(x)


@pytest.mark.parametrize(("eta", "field"), [(1.0, 0.0), (0.0, 0.0), (1.0, 0.8)])
def test_reverse_diffusion_with_the_exact_score_makes_a_magnet(eta, field):
    # CWM-5 at d = 20, β = 1.5. The start is N(0, 1) at t = 5: its KL from p_t is Λ² e^{−4t}/4 = 1e-7.
    n, d, estimates = 5000, 20, []
    for steps, seed in ((200, 23), (400, 24)):
        grid = descending(5.0, 1e-3, steps)
        x = cw.reverse_sample(n, d, BETA, grid, field, eta, generator=seeded(seed))
        assert x.shape == (n, d) and x.dtype == torch.float32
        estimates.append(class_moments(x))
    (coarse, coarse_variance), (fine, fine_variance) = estimates
    values, p = cw.sector_law(d, BETA, field)
    m = values / d
    exact = torch.stack([p @ m.abs(), p @ m**2, p @ m.sign()])
    # Euler's bias is of first order in the step: extrapolated, what is left is 1e-3, below a standard error.
    error = (4 * fine_variance + coarse_variance).sqrt()
    assert bool(((2 * fine - coarse - exact).abs() < 4.5 * error).all())
    assert bool(((fine - exact).abs() < 0.02 + 4.5 * fine_variance.sqrt()).all())
    assert float(((x.abs() - 1).abs() < 0.3).double().mean()) > 0.99


def test_a_draw_given_x_closes_the_circle():
    # x from p_t and a′ from p(a | x): (a′, x) has the law of (a, x), state by state.
    n, d, t, field = 30_000, 3, 0.4, 0.9
    x = noised(n, d, t, BETA, field, seed=24)
    again = cw.posterior_sample(x, t, BETA, field, generator=seeded(25))
    states, log_p = enumerated(d, BETA, field)
    counts = torch.stack([(again == state).all(1).sum() for state in states])
    assert stats.chisquare(counts.numpy(), n * log_p.exp().numpy()).pvalue > 1e-4
    overlap = (again * x).mean()
    expected = math.exp(-t)  # E a·x/d = e^{−t}
    assert abs(float(overlap) - expected) < 4.5 * float((again * x).mean(1).std()) / math.sqrt(n)
    one = x[:1].expand(n, d)
    mean = cw.posterior_sample(one, t, BETA, field, generator=seeded(26)).mean(0)
    close(mean, cw.posterior_mean(x[:1], t, BETA, field)[0], 4.5 / math.sqrt(n))


# ------------------------------------------------------------------------------------------------- speciation


def test_the_top_eigenvalue_and_the_speciation_time_have_the_known_values():
    # CWM-6, to the digits given.
    assert float(cw.second_moment(80, 2.0)) == pytest.approx(72.990, abs=5e-4)
    assert float(cw.speciation_time(80, 2.0)) == pytest.approx(2.1452, abs=5e-5)
    # Λ is the largest eigenvalue of E a aᵀ, whose entries off the diagonal are equal.
    states, log_p = enumerated(8, BETA, 0.0)
    covariance = torch.einsum("s,si,sj->ij", log_p.exp(), states, states)
    close(cw.second_moment(8, BETA), torch.linalg.eigvalsh(covariance)[-1], 1e-13)
    m = float(cw.magnetization(BETA))
    assert float(cw.speciation_time(10**5, BETA)) == pytest.approx(math.log(10**5 * m**2) / 2, abs=1e-4)
    assert float(cw.second_moment(10**5, 0.5)) == pytest.approx(2, abs=1e-3)  # 1/(1 − β) above the transition


@pytest.mark.parametrize("shift", [-0.7, 0.0, 0.7])
def test_the_cloning_probability_crosses_over_at_the_speciation_time(shift):
    d, beta = 80, 2.0
    t = float(cw.speciation_time(d, beta)) + shift
    mean, error = cw.cloning_probability(t, d, beta, n=4000, generator=seeded(27))
    # Two Gaussian classes stand for the magnet: 1 % at d = 80, the 1/d of CWM-6.
    assert abs(float(mean - cw.cloning_limit(t, d, beta))) < 4.5 * float(error) + 0.01
    known = {-0.7: 0.971, 0.0: 0.777, 0.7: 0.601}[shift]
    assert float(cw.cloning_limit(t, d, beta)) == pytest.approx(known, abs=5e-4)


def test_two_draws_from_one_x_are_in_one_class_with_the_cloning_probability():
    n, d, beta = 20_000, 20, 2.0
    t = float(cw.speciation_time(d, beta))
    x, g = noised(n, d, t, beta, seed=28), seeded(29)
    first, second = (cw.posterior_sample(x, t, beta, generator=g).sum(1) for _ in range(2))
    same = float((first * second > 0).double().mean())
    mean, error = cw.cloning_probability(t, d, beta, n=4000, generator=seeded(30))
    assert abs(same - float(mean)) < 4.5 * math.hypot(0.5 / math.sqrt(n), float(error))


def test_two_reverse_diffusions_that_part_at_t_are_in_one_class_with_the_cloning_probability():
    n, d, beta = 3000, 15, 2.0  # odd: every state has a class
    t = float(cw.speciation_time(d, beta))
    x, grid = noised(n, d, t, beta, seed=31).float(), descending(t, 1e-3, 250)
    clones = [cw.reverse_sample(n, d, beta, grid, start=x, generator=seeded(s)) for s in (32, 33)]
    same = float((clones[0].sum(1) * clones[1].sum(1) > 0).double().mean())
    mean, error = cw.cloning_probability(t, d, beta, n=4000, generator=seeded(34))
    # Euler's bias is of the order of the largest step, 0.011.
    assert abs(same - float(mean)) < 4.5 * math.hypot(0.5 / math.sqrt(n), float(error)) + 0.01


def test_the_cloning_limit_is_the_integral_over_two_gaussians():
    d, beta = 80, 2.0
    for t in (0.5, 2.0, 4.0):
        centre = float(cw.absolute_magnetization(d, beta)) * math.sqrt(d)
        gamma = -math.expm1(-2 * t) + math.exp(-2 * t) * (float(cw.second_moment(d, beta)) - centre**2)
        law = [stats.norm(sign * centre * math.exp(-t), math.sqrt(gamma)).pdf for sign in (1, -1)]

        def same(u, law=law):
            up, down = law[0](u), law[1](u)
            return (up**2 + down**2) / (2 * (up + down))

        reach = centre * math.exp(-t)
        exact = integrate.quad(same, -reach - 9, reach + 9, points=[-reach, 0, reach], epsabs=1e-11)[0]
        assert float(cw.cloning_limit(t, d, beta)) == pytest.approx(exact, abs=1e-9)
    assert float(cw.cloning_limit(30.0, d, beta)) == pytest.approx(0.5, abs=1e-12)


# ------------------------------------------------------------------------------------------------- bad input

X = torch.zeros(2, 3, dtype=torch.float64)
OF_X = [
    cw.posterior_mean,
    cw.score,
    cw.log_density,
    cw.sector_posterior,
    cw.posterior_sample,
    cw.mean_field_magnetization,
    cw.mean_field_posterior_mean,
    cw.regime_one_mean,
]


@pytest.mark.parametrize("function", OF_X)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("x", (torch.zeros(3), 0.5, BETA)),
        ("x", (torch.zeros(2, 0), 0.5, BETA)),
        ("x", (torch.zeros(2, 3, dtype=torch.int64), 0.5, BETA)),
        ("x", (torch.full((2, 3), NAN), 0.5, BETA)),
        ("x", ([[0.0, 1.0]], 0.5, BETA)),
        ("t", (X, 0.0, BETA)),
        ("t", (X, -1.0, BETA)),
        ("t", (X, NAN, BETA)),
        ("t", (X, torch.tensor([0.5, 0.0]), BETA)),
        ("t", (X, torch.tensor([0.5, 0.5, 0.5]), BETA)),
        ("t", (X, torch.full((2, 1), 0.5), BETA)),
        ("beta", (X, 0.5, -0.1)),
        ("beta", (X, 0.5, INF)),
        ("field", (X, 0.5, BETA, NAN)),
    ],
)
def test_bad_points_times_and_parameters_are_named(function, name, arguments):
    with pytest.raises(ValueError, match=rf"^{name}: got"):
        function(*arguments)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("n", lambda: cw.sample(0, 5, BETA)),
        ("d", lambda: cw.sample(5, 0, BETA)),
        ("d", lambda: cw.log_partition(2.5, BETA)),
        ("beta", lambda: cw.sector_law(5, -1.0)),
        ("beta", lambda: cw.magnetization(NAN)),
        ("field", lambda: cw.magnetization(1.5, INF)),
        ("field", lambda: cw.second_moment(5, BETA, NAN)),
        ("m", lambda: cw.free_energy(torch.tensor([1.01]), BETA)),
        ("m", lambda: cw.free_energy(torch.tensor([NAN]), BETA)),
        ("pairs", lambda: cw.coupling(0.5, "all")),
        ("beta_j", lambda: cw.coupling(-0.5)),
        ("least", lambda: cw.hubbard_stratonovich(5, BETA, least=1.0)),
        ("tolerance", lambda: cw.hubbard_stratonovich(5, BETA, tolerance=0.0)),
        ("beta, field", lambda: cw.hubbard_stratonovich(5, 400.0)),
        ("beta, field", lambda: cw.score(X, 0.5, BETA, 2000.0)),
        ("u", lambda: cw.tilted_log_partition(torch.zeros(3), BETA)),
        ("q", lambda: cw.potential(torch.tensor([NAN]), 0.5, 10, BETA)),
        ("t", lambda: cw.potential(torch.zeros(3), 0.0, 10, BETA)),
        ("t", lambda: cw.cloning_limit(0.0, 10, BETA)),
        ("t", lambda: cw.mean_field_error(0.0, BETA)),
        ("beta", lambda: cw.mean_field_error(0.5, 1.0)),
        ("beta", lambda: cw.mean_field_error(0.5, -1.0)),
        ("t", lambda: cw.cloning_probability(0.0, 10, BETA)),
        ("n", lambda: cw.cloning_probability(0.5, 10, BETA, n=1)),
        ("y", lambda: cw.noised_free_energy(torch.tensor([INF]), 0.5, BETA)),
        ("start", lambda: cw.reverse_sample(3, 4, BETA, descending(1, 0.1, 3), start=torch.zeros(3, 5))),
        ("times", lambda: cw.reverse_sample(3, 4, BETA, descending(0.1, 1, 3))),
    ],
)
def test_bad_numbers_are_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: got"):
        call()
