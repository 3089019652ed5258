"""A number, a count, a stream, or a ValueError that says which argument, what came and what was expected."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from physgen.checks import count, number, stream, times


def test_what_fits_comes_back_as_a_plain_value():
    assert [number(v, "x") for v in (2, 2.5, np.float32(0.5), torch.tensor(0.25))] == [2.0, 2.5, 0.5, 0.25]
    assert number(0, "x", 0) == 0.0 and count(np.int64(3), "n") == 3 and type(count(np.int64(3), "n")) is int


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "1", None, 1j, torch.zeros(2)])
def test_what_is_no_finite_number_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"beta: got .*; expected a finite number$"):
        number(value, "beta")


def test_limits_are_named_and_strict_ones_exclude_themselves():
    with pytest.raises(ValueError, match="t: got 0; expected a finite number > 0"):
        number(0, "t", 0, strict=True)
    with pytest.raises(ValueError, match="t: got -1; expected a finite number >= 0"):
        number(-1, "t", 0)
    for value in (1, 2.0, True, "2", None):
        with pytest.raises(ValueError, match=r"n: got .*; expected an integer >= 2"):
            count(value, "n", 2)


def test_times_keep_their_shape_and_their_graph_and_must_be_positive():
    t = torch.tensor([[0.5], [2.0]], requires_grad=True)
    assert times(2).shape == () and times(t).shape == (2, 1) and times(t).dtype == torch.float64
    assert times(t.sum()).requires_grad
    for value in (
        0,
        -1.0,
        math.nan,
        "1",
        torch.tensor([1.0, 0.0]),
        torch.tensor([1, 2]),
        torch.tensor(math.inf),
    ):
        with pytest.raises(ValueError, match=r"t: got .*; expected .*> 0"):
            times(value)


def test_a_stream_is_the_one_given_or_a_fresh_one_and_never_the_global():
    given, state = torch.Generator().manual_seed(1), torch.get_rng_state()
    assert stream(given) is given
    assert stream(None).initial_seed() != stream(None).initial_seed()
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="generator: got int"):
        stream(5)
