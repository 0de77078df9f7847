"""Which runner a command gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.execution.local import LocalRunner
from benchmark.execution.runner import Describe, Runner


@contextmanager
def open_runner(
    cluster: str | None, jobs: int, *, shared: Path, describe: Describe, tell: Callable[[str], None]
) -> Iterator[Runner]:
    """What executes the tasks of a command.

    Args:
        cluster: ``tcp://host:port``, ``tls://host:port`` or ``local:N``; None: processes of this machine.
        jobs: how many of those; 0 picks.
        shared: folder on storage that a cluster's workers see under the same name.
        describe: what decides the arithmetic of the machine that it is called on; module-level.
        tell: takes what a reader must know.

    Raises:
        ArgumentError: Dask is not installed.
        JobError: no scheduler answers, or no worker comes.
    """
    if cluster is None:
        yield LocalRunner(jobs)
        return
    from benchmark.execution.dask import dask_runner

    with dask_runner(cluster, shared, describe, tell) as runner:
        yield runner
