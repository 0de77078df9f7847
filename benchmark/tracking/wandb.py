"""Weights & Biases: a run per ranking or fine-tuning, in the project of the data set.

Nothing leaves the machine unless ``WANDB_API_KEY`` or ``WANDB_MODE`` says so: without them the run is written
to ``WANDB_DIR`` (here) for ``wandb sync``. The client's reports of its own errors are off.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import ArgumentError

_FORBIDDEN = re.compile(r"[^\w\-.]", re.ASCII)
_LONGEST_NAME = 100  # an artefact's has 128 characters at most, digest and the run's identifier among them


def _figures(backbone: str, values: Mapping[str, float]) -> dict[str, float]:
    found = {f"{backbone}/{name}": float(value) for name, value in values.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


class WandbTracker:
    """Facts are the configuration, epochs the history, final figures the summary, files one artefact."""

    def __init__(self) -> None:
        """Find the client.

        Raises:
            ArgumentError: it is not installed.
        """
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        try:
            import wandb
        except ImportError as error:
            raise ArgumentError.not_installed(
                "Weights & Biases", "wandb", where="`track`", got=error
            ) from error
        self._wandb: Any = wandb
        self._run: Any = None
        self._files: Any = None

    def begin(self, dataset: str, facts: Mapping[str, str | int | float]) -> None:
        """Start the run."""
        project = _FORBIDDEN.sub("_", dataset)[:_LONGEST_NAME]
        if project != dataset:
            project += f"-{hashlib.sha256(dataset.encode()).hexdigest()[:8]}"
        told = "WANDB_MODE" in os.environ or "WANDB_API_KEY" in os.environ
        settings = self._wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = self._wandb.init(
            project=project,
            job_type=str(facts.get("command", "run")),
            config=dict(facts),
            mode=None if told else "offline",
            settings=settings,
        )
        self._files = self._wandb.Artifact(f"{project}-{self._run.id}", type="results")

    def epoch(self, backbone: str, row: Mapping[str, float]) -> None:
        """Figures of the epoch; its number is the axis of the backbone's figures."""
        self._run.define_metric(f"{backbone}/*", step_metric=f"{backbone}/epoch")
        self._run.log(_figures(backbone, row))

    def score(self, backbone: str, scores: Mapping[str, float]) -> None:
        """Final figures."""
        self._run.summary.update(_figures(backbone, scores))

    def file(self, path: Path) -> None:
        """Add a file, or a folder under its name."""
        if path.is_dir():
            self._files.add_dir(str(path), name=path.name)
        else:
            self._files.add_file(str(path))

    def end(self, *, failed: bool) -> None:
        """Hand over the files and close the run."""
        if self._files is not None:
            self._run.log_artifact(self._files)
        if self._run is not None:
            self._run.finish(exit_code=int(failed))


TRACKER = WandbTracker
