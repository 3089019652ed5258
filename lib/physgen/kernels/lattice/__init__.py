"""Models on a periodic square lattice: one module each, a short torch definition and its fast versions."""

from .wolff import wolff

__all__ = ["wolff"]
