"""The hot loops of the book: arrays in, arrays out, each a short torch definition with fast versions beside
it.

`dispatch` chooses the code that runs, `philox` is the one random stream, and each other module is one family
of formulas. Importing any of them compiles nothing and imports neither numba nor Triton.
"""
