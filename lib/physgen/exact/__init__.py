"""What can be solved exactly? Gaussian data, the Curie–Weiss magnet, two classes."""
