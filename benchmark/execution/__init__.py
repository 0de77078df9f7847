"""What executes tasks: worker processes of this machine, or a Dask cluster."""

from benchmark.execution.apart import run_in_turn
from benchmark.execution.local import LocalRunner, end_workers
from benchmark.execution.opening import open_runner
from benchmark.execution.payload import pack, unpack
from benchmark.execution.runner import (
    Call,
    Machine,
    Runner,
    failure,
    quiet_environment,
    thread_environment,
)
from benchmark.execution.scheduling import Shift, shifts
