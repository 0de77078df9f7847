"""``python -m benchmark`` is the same as ``backbones``."""

import sys

from benchmark.cli import entry

if __name__ == "__main__":
    sys.exit(entry())
