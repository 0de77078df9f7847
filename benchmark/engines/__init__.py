"""What executes a frozen backbone: TensorFlow or OpenVINO, and which of them suits a job.

Importing this package imports neither; opening does.
"""

from benchmark.engines.costs import image_seconds, memory_bytes, prepare_seconds
from benchmark.engines.engine import (
    EngineRequest,
    FrozenBackbone,
    Speed,
    embedding_key,
    engine_version,
)
from benchmark.engines.hardware import believe_gpus, gpu_name, has_bfloat16, has_gpu, has_openvino
from benchmark.engines.model_cache import model_cache_entries, verify_model
from benchmark.engines.planning import is_converted, open_engine, plan_engine
