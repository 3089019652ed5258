"""How do scales decouple? Wavelets, renormalization, the field φ⁴, and diffusion scale by scale."""
