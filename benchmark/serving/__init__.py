"""A model behind a page on this machine: drop a photograph, see what the model says."""

from benchmark.serving.server import serve
