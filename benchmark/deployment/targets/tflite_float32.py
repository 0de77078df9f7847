"""TFLite with float32 weights."""

from benchmark.deployment.targets import Target
from benchmark.deployment.targets._litert import LiteRT

TARGET: Target = LiteRT()
