"""Tests; ``tests.perf`` is a program of its own."""
