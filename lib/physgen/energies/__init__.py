"""How do you learn an energy? Models, contrasts, adversaries and representations, one module per chapter."""
