"""Ours against the straightforward way, in pairs, on the same images: ``python -m tests.perf --help``."""
