"""Fine-tuning several backbones side by side: one task each, in a process of its own."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.errors import CacheError
from benchmark.execution import Call, Runner, failure, thread_environment
from benchmark.finetuning import FineTuned, FinetuneRequest, find_finished, finetune, take_model
from benchmark.machine import available_memory
from benchmark.records import FLOPS_SIZE, ImageSet, Observer, Silent
from benchmark.storage import (
    MOST_MODEL_BYTES,
    hand_over,
    read_small,
    take_back,
    take_over,
    write_whole,
)

_TASK = "fine-tuning"
# Peak of a process that trains: TensorFlow itself, and for every parameter its weight, gradient, moments and
# the copies of saving; for every image of a batch what its layers say, at 224 pixels. More than was measured:
# MobileNet_0.25 at 64 pixels 0.9 GB, MobileNetV2 2.3 GB, ResNet50 4.3 GB.
_PROCESS_BYTES = 900e6
_COPIES = 8
_IMAGE_BYTES = 60e6
_BYTES_PER_FLOP = 6e-3
_SPARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningTask:
    """Fine-tune one backbone.

    Attributes:
        request: what and how; the model goes to its ``out`` where ``handed`` is None.
        images: labels, groups and parts.
        handed: folder on shared storage that takes the model.
    """

    request: FinetuneRequest
    images: ImageSet
    handed: Path | None


class _Listener(Silent):
    """Keeps what a run says for the process that hears its reader."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        """Keep."""
        self.messages.append(text)


def tuning_task(task: TuningTask, threads: int) -> dict[str, Any]:
    """Run one TuningTask; ``threads`` decode, how many train is for the environment to say.

    Returns:
        ``messages``, ``epochs`` (figures of each), and ``model`` or, handed over, ``folder`` (its name there)
        and ``files``; or ``error``, ``trace`` and ``elsewhere``.
    """
    heard, epochs = _Listener(), list[dict[str, float]]()

    def keep(row: Mapping[str, float]) -> None:
        epochs.append(dict(row))

    try:
        request = task.request.but(jobs=threads)
        if task.handed is None:
            found: dict[str, Any] = {"model": finetune(request, task.images, heard, keep)}
        else:
            with tempfile.TemporaryDirectory(prefix="backbones-finetune-") as scratch:
                out = Path(scratch, request.out.name)
                finetune(replace(request, out=out), task.images, heard, keep)
                found = hand_over_model(out, task.handed)
            if request.states is not None:
                with suppress(CacheError):  # it goes with the run at the latest
                    take_back(request.states)
        return {"messages": heard.messages, "epochs": epochs, **found}
    except Exception as error:
        return failure(error)


def hand_over_model(model_dir: Path, handed: Path, *, without: str = "") -> dict[str, Any]:
    """Put a folder where the other side takes it; under a name of its own: others may try the same.

    Args:
        model_dir: a folder of files.
        handed: folder on shared storage.
        without: name of a folder in it that stays here.

    Returns:
        ``folder``, its name in ``handed``, and ``files`` there.

    Raises:
        StorageError: it cannot be put there.
    """
    name = f"model-{secrets.token_hex(8)}"
    below = sorted(path.relative_to(model_dir) for path in model_dir.rglob("*") if path.is_file())
    files = [path for path in below if path.parts[0] != without]
    for path in files:
        there = handed / name / path
        write_whole(there, read_small(model_dir / path, most_bytes=MOST_MODEL_BYTES), root=handed)
        hand_over(there)
    return {"folder": name, "files": [path.as_posix() for path in files]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What became of one request.

    Attributes:
        position: of the request.
        model: None where it failed.
        epochs: figures of each epoch.
        failure: what ``failure`` makes of an error; empty where there is a model.
    """

    position: int
    model: FineTuned | None = None
    epochs: Sequence[Mapping[str, float]] = ()
    failure: Mapping[str, Any] = field(default_factory=dict)


def tune_all(
    requests: Sequence[FinetuneRequest], images: ImageSet, runner: Runner, observer: Observer
) -> Generator[Tuned]:
    """Fine-tune several backbones side by side; the results are those of one after the other.

    Args:
        requests: each with a place of its own.
        images: labelled and split.
        runner: what executes the tasks.
        observer: told how many are done, and what each had to say.

    Yields:
        What became of each, as they finish.
    """
    waiting = []
    for position, request in enumerate(requests):
        # Whoever works elsewhere does not see what stands here.
        found = None if runner.is_local else _finished(request, images)
        if found is None:
            waiting.append(position)
        else:
            yield replace(found, position=position)
    if not waiting:
        return
    observer.started(_TASK, len(waiting))
    calls = [_call(position, requests[position], images, runner) for position in waiting]
    with closing(runner.run(tuning_task, calls, apart=thread_environment())) as results:
        for count, (place, result) in enumerate(results, start=1):
            request = requests[waiting[place]]
            for text in result.get("messages", ()):
                observer.message(f"{request.backbone.name}: {text}")
            observer.advanced(_TASK, count, request.backbone.name)
            yield replace(_taken(request, images, runner, result), position=waiting[place])
    observer.finished(_TASK)


def _finished(request: FinetuneRequest, images: ImageSet) -> Tuned | None:
    """What stands here; a folder that is locked or cannot be written costs its own model, not the others."""
    try:
        done = find_finished(request, images)
    except Exception as error:
        return Tuned(position=0, failure=failure(error))
    return None if done is None else Tuned(position=0, model=done)


def _call(position: int, request: FinetuneRequest, images: ImageSet, runner: Runner) -> Call:
    handed = runner.handed_over
    if handed is not None:
        # Equal weights under two names have one digest: each training keeps its states by itself.
        request = replace(request, states=handed / f"states-{position}")
    return Call(
        name=f"finetune-{request.backbone.name}",
        argument=TuningTask(request=request, images=images, handed=handed),
        cost=float(request.backbone.flops) * request.recipe.image_size**2,
        memory=(training_bytes(request), 0.0),
    )


def _taken(request: FinetuneRequest, images: ImageSet, runner: Runner, told: Mapping[str, Any]) -> Tuned:
    if "error" in told:
        return Tuned(position=0, failure={"trace": "", **told})
    if runner.handed_over is None:
        return Tuned(position=0, model=told["model"], epochs=told["epochs"])
    try:
        made = taken_over(told, runner.handed_over)
        model = take_model(request, images, made)
    except Exception as error:
        return Tuned(position=0, failure=failure(error))
    with suppress(CacheError):  # it goes with the run at the latest
        take_back(made)
    return Tuned(position=0, model=model, epochs=told["epochs"])


def taken_over(told: Mapping[str, Any], handed: Path) -> Path:
    """The folder of a model that was handed over, as ``hand_over_model`` tells, with all of its files.

    Raises:
        CacheError: one cannot be fetched or kept.
    """
    made = handed / str(told["folder"])
    for name in told["files"]:
        take_over(made / name, most_bytes=MOST_MODEL_BYTES)
    return made


def training_bytes(request: FinetuneRequest) -> float:
    """Peak memory of a process that carries out a request, roughly."""
    backbone, recipe = request.backbone, request.recipe
    area = (recipe.image_size / FLOPS_SIZE) ** 2
    layers = recipe.batch_size * area * (_IMAGE_BYTES + _BYTES_PER_FLOP * backbone.flops)
    return _PROCESS_BYTES + _COPIES * backbone.float32_bytes + layers


def most_side_by_side(jobs: int, needs: Sequence[float]) -> int:
    """How many of ``jobs`` processes find memory, if each needs as much as the largest; at least 1.

    This process draws the report of one model while others are trained.
    """
    room = available_memory() * (1 - _SPARE) - _PROCESS_BYTES
    return max(1, min(jobs, len(needs), int(room // max(needs, default=1.0))))
