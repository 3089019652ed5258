"""The random stream is the published Philox4x32-10, the same on every backend; its streams are apart."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from physgen.kernels.philox import LOW, TILE, key, normal, normals, philox, uniform

FULL = 2**32 - 1
# Random123 (Salmon et al. 2011), kat_vectors, lines "philox4x32 10": counter, key, words.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((FULL, FULL, FULL, FULL), (FULL, FULL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def test_backend_words_are_the_published_ones():
    for backend in philox.backends():
        for counter, (k0, k1), words in VECTORS:
            assert philox(k0 | k1 << 32, *counter, backend=backend).tolist() == list(words), backend


def test_backend_words_are_equal_over_random_counters_and_extreme_seeds():
    counters = torch.randint(2**32, (4, 7, 100), generator=torch.Generator().manual_seed(1))
    for seed in (0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 0x0123456789ABCDEF):
        expected = philox.reference(seed, *counters)
        assert expected.shape == (4, 7, 100) and expected.dtype == torch.int64
        for backend in philox.backends():
            assert torch.equal(philox(seed, *counters, backend=backend), expected), (backend, seed)


def test_the_triton_version_passes_these_tests_under_its_interpreter(interpreted):
    interpreted("backend_words")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    code = "from physgen.kernels.philox import philox; print(philox.backends())"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.stdout.strip() == "['torch', 'numba', 'triton']"


def test_counters_broadcast_and_each_word_of_the_counter_and_the_key_matters():
    grid = philox(5, torch.arange(3)[:, None], 1, torch.arange(4), 2)
    assert grid.shape == (4, 3, 4)
    assert grid[:, 2, 3].tolist() == philox(5, 2, 1, 3, 2).tolist()
    base = (5, 1, 2, 3, 4)
    for i in range(5):
        other = [value + (i == j) for j, value in enumerate(base)]
        assert philox(*other).tolist() != philox(*base).tolist()
    assert philox(5 + 2**32, 1, 2, 3, 4).tolist() != philox(*base).tolist()
    assert philox(5, torch.arange(0), 0, 0, 0).shape == (4, 0)


def test_streams_of_seeds_steps_replicas_and_sites_do_not_overlap():
    steps = torch.tensor([0, 1, 2, 5, 1000, 2**32 - 1, 2**32, 2**32 + 1, 2**33])
    low, high = (steps & FULL)[:, None, None], (steps >> 32)[:, None, None]
    replicas, streams = torch.arange(64)[:, None], torch.arange(33)
    blocks = torch.stack(
        [philox(seed, low, high, replicas, streams).flatten(1) for seed in (0, 1, 2**32, 2**40 + 7)]
    )
    blocks = blocks.permute(0, 2, 1).reshape(-1, 4)
    # 76 032 blocks of 128 bits: two equal ones by chance have probability 1e-29; a single shared word, 2e-4
    # of the pairs of blocks.
    assert len(torch.unique(blocks, dim=0)) == len(blocks) == 4 * 9 * 64 * 33


def test_words_are_uniform_and_uncorrelated_between_replicas_steps_sites_and_words():
    n = 256
    u = uniform(philox(3, torch.arange(n)[:, None, None], 0, torch.arange(8)[:, None], torch.arange(n // 4)))
    mean, variance = u.mean().item(), u.var().item()
    # 5 standard errors of the mean (variance 1/12) and of the variance (1/180) of independent uniforms.
    assert abs(mean - 1 / 2) < 5 * (1 / 12 / u.numel()) ** 0.5
    assert abs(variance - 1 / 12) < 5 * (1 / 180 / u.numel()) ** 0.5
    centred = (u - 1 / 2) * 12**0.5
    for axis in range(4):
        product = (centred * centred.roll(1, axis)).mean().item()
        pairs = u.numel() // (2 if u.shape[axis] == 2 else 1)
        assert abs(product) < 5 * pairs**-0.5, axis


def test_uniform_is_the_middle_of_its_cell_and_never_0_or_1():
    words = torch.tensor([0, 2**31, FULL])
    assert uniform(words).tolist() == [2.0**-33, 0.5 + 2.0**-33, 1 - 2.0**-33]
    assert uniform(words).dtype == torch.float64


def test_normal_is_the_transform_of_box_and_muller_at_its_extremes():
    z = normal(torch.tensor([[0, FULL, 2**31], [0, 2**30, 3 * 2**30]]))
    radius = (2 * torch.tensor([33 * np.log(2), -np.log1p(-(2.0**-33)), -np.log(0.5 + 2.0**-33)])).sqrt()
    # Angles 2π(word + ½)/2³²: 0, a quarter and three quarters of a turn, and half a step of 2⁻³² turns.
    exact = torch.stack([radius * torch.tensor([1.0, 0, 0]), radius * torch.tensor([0.0, 1, -1])])
    assert (z - exact).abs().max() < 7 * np.pi * 2.0**-31
    assert z.dtype == torch.float64 and z.shape == (2, 3) and z.abs().max() < 6.8


def test_normal_numbers_are_normal_and_the_four_of_a_block_uncorrelated():
    words = philox(11, 0, 0, torch.arange(1000)[:, None], torch.arange(1, 251))
    z = normal(words).flatten(1)
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-4
    correlations, n = z @ z.T / z.shape[1], z.shape[1]
    # Products of independent normals have variance 1 (squares: 2); five standard errors.
    assert (correlations - torch.eye(4)).abs().max() < 5 * (2 / n) ** 0.5
    squares = (z**2 - 1) @ (z**2 - 1).T / n / 2
    assert (squares - torch.eye(4)).abs().max() < 5 * (14 / n) ** 0.5  # the largest variance, of (z² − 1)²/2


@pytest.mark.parametrize(
    "count", [0, 1, 3, 4, 5, 63, 64, 65, 4 * TILE - 1, 4 * TILE, 4 * TILE + 1, 9 * TILE + 2]
)
def test_fast_normals_are_the_definition_to_a_millionth_for_every_length(count):
    z, scratch = np.full(count + 1, 9, np.float32), np.empty((10, TILE), np.uint32)
    seed, step, replica, first = 2**40 + 7, 2**33 + 1, 5, 12
    normals(z[:count], scratch, seed & LOW, seed >> 32, step & LOW, step >> 32, replica, first)
    streams = torch.arange(1 + first // 4, 1 + (first + count + 3) // 4)
    exact = normal(philox(seed, step & LOW, step >> 32, replica, streams)).T.flatten()[:count].numpy()
    # 24 bits in each of a logarithm, a root and a sine; 10⁻⁶ is what the module promises.
    assert (np.abs(z[:count] - exact) <= 1e-6 * (1 + np.abs(exact))).all() and z[count] == 9


def test_keys_follow_the_generator_and_leave_the_global_stream_alone():
    state = torch.get_rng_state()
    first, second = torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    keys = [key(first) for _ in range(3)]
    assert keys == [key(second) for _ in range(3)] and len(set(keys)) == 3
    assert key() != key() and all(0 <= k < 2**63 for k in (*keys, key()))
    assert torch.equal(torch.get_rng_state(), state)
    assert max(key(first) for _ in range(64)) > 2**62


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "a", None, True])
def test_a_seed_that_is_no_64_bit_integer_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed: got .* expected an integer in"):
        philox(seed, 0, 0, 0, 0)


@pytest.mark.parametrize("word", [-1, 2**32, 0.5, True, torch.tensor([1, 2**32])])
def test_a_counter_word_that_does_not_fit_is_refused(word):
    for place in range(4):
        counter = [0] * 4
        counter[place] = word
        with pytest.raises(ValueError, match=f"c{place}: got"):
            philox(0, *counter)


def test_a_generator_that_is_none_of_torch_and_words_that_are_no_words_are_refused():
    with pytest.raises(ValueError, match="generator: got int"):
        key(5)
    with pytest.raises(ValueError, match=r"words: got shape .* expected an even number of rows"):
        normal(torch.tensor([1, 2, 3]))
    for words in (torch.tensor([0.5]), torch.tensor([-1]), torch.tensor([2**32])):
        with pytest.raises(ValueError, match="words: got"):
            uniform(words)
