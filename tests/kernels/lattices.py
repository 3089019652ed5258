"""Small tori, all of whose states can be listed: what the tests of both cluster algorithms share."""

from __future__ import annotations

import torch


def bonds_of(rows, columns):
    """(2N, 2): the sites of each bond, that to the right and that down of site 0, of site 1, …"""
    right = [(r * columns + c, r * columns + (c + 1) % columns) for r in range(rows) for c in range(columns)]
    down = [(r * columns + c, (r + 1) % rows * columns + c) for r in range(rows) for c in range(columns)]
    return [bond for pair in zip(right, down, strict=True) for bond in pair]


def every_state(rows, columns):
    """(2^N, L1, L2) int8: bit i of the index is site i, set where the spin is +1."""
    bits = (torch.arange(2 ** (rows * columns))[:, None] >> torch.arange(rows * columns)) & 1
    return (2 * bits - 1).to(torch.int8).view(-1, rows, columns)


def numbers(spins):
    """The index in `every_state` of each lattice, by the signs."""
    flat = (spins.flatten(1) > 0).long()
    return (flat << torch.arange(flat.shape[1])).sum(1)


def transition_matrix(rows, columns, p):
    """Probabilities of one step between the states: over all sets of open bonds, each open with its p, and all first sites, exact."""
    n, bonds, states = rows * columns, bonds_of(rows, columns), every_state(rows, columns)
    sets = (torch.arange(2 ** len(bonds))[:, None] >> torch.arange(len(bonds))) & 1  # (2^bonds, bonds)
    weights = torch.where(sets == 1, p, 1 - p).prod(1)
    matrix = torch.zeros(len(states), len(states), dtype=torch.float64)
    for a, s in enumerate(states.flatten(1)):
        near = torch.eye(n).repeat(len(sets), 1, 1)
        for k, (i, j) in enumerate(bonds):
            near[:, i, j] += sets[:, k] * (s[i] == s[j])
            near[:, j, i] += sets[:, k] * (s[i] == s[j])
        for _ in range(3):  # paths of up to 8 bonds
            near = (near @ near).clamp(max=1)
        flips = (near.long() << torch.arange(n)).sum(2)  # (sets, first sites): the cluster, as bits
        matrix[a].index_add_(0, (flips ^ a).flatten(), (weights / n).repeat_interleave(n))
    return matrix


def assert_steps_follow(matrix, found, repeats):
    """States after one step, `repeats` of them from each state in turn, have the probabilities of the matrix."""
    rows = numbers(found).view(-1, repeats)
    counts = torch.stack([row.bincount(minlength=len(matrix)) for row in rows]).double()
    # Each count is binomial; 5 σ, and never fewer than 5 counts, for the at most 4096 entries.
    allowed = 5 * (repeats * matrix * (1 - matrix)).sqrt() + 5
    assert bool(((counts - repeats * matrix).abs() <= torch.where(matrix == 0, 0.0, allowed)).all())
