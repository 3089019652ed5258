"""Models on a periodic square lattice: one module each, a short torch definition and its fast versions."""

from .embedded import embedded
from .ising import energy, heat_bath, heat_bath_bits, magnetization
from .phi4 import action, force, hmc, langevin, leapfrog
from .wolff import wolff

__all__ = [
    "action",
    "embedded",
    "energy",
    "force",
    "heat_bath",
    "heat_bath_bits",
    "hmc",
    "langevin",
    "leapfrog",
    "magnetization",
    "wolff",
]
