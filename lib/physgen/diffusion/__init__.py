"""How does noise become data? Processes, scores and denoisers, one module per chapter."""
