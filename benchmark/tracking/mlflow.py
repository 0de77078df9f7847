"""MLflow: a run per ranking or fine-tuning, in the experiment of the data set.

``MLFLOW_TRACKING_URI`` names the server or store, as for every client of MLflow; without it, MLflow's own
default (a local database, which needs the whole ``mlflow`` package). Nothing is sent anywhere else: MLflow's
telemetry is off.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import ArgumentError

_FORBIDDEN = re.compile(r"[^\w\-. :/]")


def _figures(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    """Finite figures under names that MLflow takes."""
    return {
        _FORBIDDEN.sub("_", f"{prefix}/{name}"): float(value)
        for name, value in values.items()
        if math.isfinite(value)
    }


class MLflowTracker:
    """Writes a run's facts as parameters, figures as metrics ``<backbone>/<column>``, files as artefacts."""

    def __init__(self) -> None:
        """Find the client.

        Raises:
            ArgumentError: MLflow is not installed.
        """
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        # A server that says nothing costs a note, not the quarter of an hour that MLflow would wait.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise ArgumentError.not_installed("MLflow", "mlflow", where="`track`", got=error) from error
        self._make: Any = MlflowClient
        self._client: Any = None
        self._run = ""

    def begin(self, dataset: str, facts: Mapping[str, str | int | float]) -> None:
        """Create the run, and the experiment where there is none yet."""
        # It opens its store at once: one that cannot be opened costs a note, as a server that is down does.
        client = self._client = self._make()
        name = _FORBIDDEN.sub("_", dataset)
        known = client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else client.create_experiment(name)
        self._run = client.create_run(experiment, run_name=str(facts.get("command", "run"))).info.run_id
        for key, value in facts.items():
            client.log_param(self._run, key, value)

    def epoch(self, backbone: str, row: Mapping[str, float]) -> None:
        """Figures of the epoch, with its number as the step."""
        self._log(_figures(backbone, {k: v for k, v in row.items() if k != "epoch"}), step=int(row["epoch"]))

    def score(self, backbone: str, scores: Mapping[str, float]) -> None:
        """Final figures."""
        self._log(_figures(backbone, scores), step=0)

    def _log(self, figures: Mapping[str, float], *, step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def file(self, path: Path) -> None:
        """Upload a file, or a folder under its name."""
        if path.is_dir():
            self._client.log_artifacts(self._run, str(path), path.name)
        else:
            self._client.log_artifact(self._run, str(path))

    def end(self, *, failed: bool) -> None:
        """Close the run."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


TRACKER = MLflowTracker
