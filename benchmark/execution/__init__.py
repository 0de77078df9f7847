"""What executes tasks: worker processes of this machine."""

from benchmark.execution.local import LocalRunner, end_workers
from benchmark.execution.runner import Call, Runner, failure, quiet_environment
from benchmark.execution.scheduling import Shift, shifts

__all__ = [
    "Call",
    "LocalRunner",
    "Runner",
    "Shift",
    "end_workers",
    "failure",
    "quiet_environment",
    "shifts",
]
