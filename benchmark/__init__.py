"""Which pretrained Keras model should I fine-tune on my images?"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("backbone-benchmark")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
