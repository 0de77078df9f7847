"""What executes a frozen backbone: TensorFlow or OpenVINO, and which of them suits a job.

Importing this package imports neither; opening does.
"""

from benchmark.engines.engine import (
    EngineRequest,
    FrozenBackbone,
    Speed,
    embedding_key,
)
from benchmark.engines.hardware import (
    has_gpu,
)
from benchmark.engines.model_cache import (
    model_cache_entries,
    verify_model,
)
from benchmark.engines.opening import (
    open_engine,
)
from benchmark.engines.planning import (
    memory_bytes,
    plan_engine,
)

__all__ = [
    "EngineRequest",
    "FrozenBackbone",
    "Speed",
    "embedding_key",
    "has_gpu",
    "memory_bytes",
    "model_cache_entries",
    "open_engine",
    "plan_engine",
    "verify_model",
]
