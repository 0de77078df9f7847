"""The baselines beside a board; what they need of pixels is kept, so that a repeated run computes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.audit import colour_histograms
from benchmark.data import file_facts
from benchmark.embeddings import EmbeddingStore
from benchmark.errors import BenchmarkError, CacheDamaged, CacheError
from benchmark.execution import Call, failure, quiet_environment
from benchmark.finetuning import load_manifest
from benchmark.pipeline.heads import HEAD_VERSION, HeadJob, on_other_folds, setting_of, stored_outcome
from benchmark.ranking import (
    REFERENCE,
    FreshScores,
    SanityRow,
    SelectionScores,
    baselines_table,
    reference_row,
    sanity_rows,
    scores_table,
)
from benchmark.records import (
    Average,
    BackboneFacts,
    EmbeddingKey,
    Float32,
    Int64,
    Leaderboard,
    Outcome,
    Scored,
    Targets,
)
from benchmark.statistics import default_average
from benchmark.storage import Memo

if TYPE_CHECKING:
    import pandas as pd

# Raised whenever a change of the code changes a sanity row; older stored ones are not reused.
_SANITY_VERSION = 5
_SHORTCUTS = {
    "colour_histogram": "colours",
    "image_size": "image sizes",
    "file_size": "file sizes",
    "jpeg_quality": "JPEG qualities",
}
# Each by itself: file size and quality together measure texture, which is content.
_FACTS_OF = {
    "image_size": ("width", "height", "aspect"),
    "file_size": ("bytes",),
    "jpeg_quality": ("jpeg_quantisation",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineTables:
    """What stands beside a board.

    Attributes:
        methods: rows of ``baselines.csv``, one per baseline.
        backbones: rows of ``baseline_scores.csv``, one per scored backbone, in the order of the board.
    """

    methods: list[dict[str, Any]]
    backbones: list[dict[str, Any]]


def baseline_tables(
    job: HeadJob,
    outcomes: Mapping[str, Outcome],
    val_f1: Mapping[str, float],
    best: BackboneFacts | None = None,
) -> BaselineTables:
    """The baselines beside a board. What cannot be computed is told in the tables and raises nothing.

    Args:
        job: images, protocol and the folder of stored outcomes.
        outcomes: by backbone; only scored ones take part.
        val_f1: the board's validation F1 by backbone, in its order.
        best: whose embeddings the reference classifier gets.
    """
    scores = [
        SelectionScores(backbone=name, **one.baselines)
        for name in val_f1
        if isinstance(one := outcomes[name], Scored)
    ]
    fresh = _fresh(job, outcomes)
    return BaselineTables(
        methods=_plain_rows(baselines_table(scores, _sanity(job, best), val_f1, fresh)),
        backbones=_plain_rows(scores_table(scores, val_f1, fresh)),
    )


def _fresh(job: HeadJob, outcomes: Mapping[str, Outcome]) -> FreshScores:
    """F1 on the test part; without one, of heads on other folds, so far as they are stored."""
    scored = {name: one for name, one in outcomes.items() if isinstance(one, Scored)}
    if not len(job.images.split.test):
        again = {name: _other_folds(job, one) for name, one in scored.items()}
        scored = {name: one for name, one in again.items() if one is not None}
    predictions = {name: one.predictions for name, one in scored.items()}
    return FreshScores.of(predictions, Targets.of(job.images), job.protocol.average, fine_tuned(job))


def _other_folds(job: HeadJob, outcome: Scored) -> Scored | None:
    try:
        return stored_outcome(on_other_folds(job), outcome.key_digest)
    except CacheDamaged:
        return None


def shortcut_notes(job: HeadJob, board: Leaderboard, best: BackboneFacts | None) -> tuple[str, ...]:
    """A note for each thing beside the content that tells the classes nearly as well as the best backbone.

    Nearly means within the interval of the highest F1 on the board, above it where no winner is named.

    Args:
        job: images and protocol.
        board: of backbones on the same images.
        best: as for ``baseline_tables``.
    """
    scored = [row for row in board.rows if row["rank"]]
    if not scored:
        return ()
    first = max(scored, key=lambda row: float(row["val_f1"]))  # whatever ranks the board
    value, low, high = (first[column] for column in ("val_f1", "val_f1_low", "val_f1_high"))
    sanity = _sanity(job, best)
    # Where the backbones themselves guess, a guess as good as theirs, or as any, is no shortcut.
    least = high if board.winner is None else low
    guess = max(_one_answer(job), *(row.val_f1 for row in sanity if row.baseline == "majority"))
    return tuple(
        f"SHORTCUT: {_SHORTCUTS[row.baseline]} alone reach F1 {row.val_f1:.3f}, as much as the "
        f"best backbone ({value:.3f} [{low:.3f}, {high:.3f}]): scores may rest on how the images were taken "
        "or saved, not on what they show."
        for row in sanity
        if row.baseline in _SHORTCUTS and row.val_f1 >= least and row.val_f1 > guess
    )


def _one_answer(job: HeadJob) -> float:
    """F1 of calling every image positive; 0 where the F1 is not that of one class."""
    images = job.images
    if default_average(images.task, job.protocol.average) is not Average.BINARY:
        return 0.0
    share = float(np.mean(images.targets == images.positive))
    return 2 * share / (1 + share)


def _plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def fine_tuned(job: HeadJob) -> dict[str, float]:
    """Test F1 of models fine-tuned on these very images; of each backbone the model best on validation."""
    best: dict[str, Mapping[str, Any]] = {}
    for path in sorted((job.folder.parent / "finetune").glob("*/*/manifest.json")):
        try:
            manifest = load_manifest(path.parent)
        except BenchmarkError:
            continue
        if (
            manifest.data_fingerprint == job.images.fingerprint()
            and {"val", "test"} <= manifest.metrics.keys()
        ):
            before = best.setdefault(manifest.backbone, manifest.metrics)
            if manifest.metrics["val"]["f1"] > before["val"]["f1"]:
                best[manifest.backbone] = manifest.metrics
    return {backbone: metrics["test"]["f1"] for backbone, metrics in best.items()}


def are_settled(job: HeadJob, best: BackboneFacts | None) -> bool:
    """Whether what the baselines need of pixels is stored, so that the same run gives the same rows."""
    return _memo(job).recall("sanity", _question(job, best)) is not None


def _sanity(job: HeadJob, best: BackboneFacts | None) -> tuple[SanityRow, ...]:
    """From their file, else computed in a worker, which imports scikit-learn."""
    stored = _memo(job).recall("sanity", _question(job, best))
    if stored is not None:
        return stored
    call = Call(name="baselines", argument=(job, best and BackboneFacts(**best.facts())))
    with closing(job.runner.run(_sanity_task, [call], alone=True)) as results:
        ((_, result),) = results
    if "error" in result:
        unknown = (
            SanityRow(baseline=name, val_f1=math.nan, test_f1=math.nan, note=result["error"])
            for name in _SHORTCUTS
        )
        return (*sanity_rows(setting_of(job)), *unknown)
    rows = tuple(SanityRow(**row) for row in result["rows"])
    if result["settled"]:
        _memo(job).keep("sanity", _question(job, best), rows)
    return rows


def _sanity_task(asked: tuple[HeadJob, BackboneFacts | None], _: int) -> dict[str, Any]:
    """Sanity rows, and whether they may be kept: not where an image was away for the moment."""
    job, best = asked
    quiet_environment(1)
    complete = True

    def noting(features: Callable[[Int64], Float32]) -> Callable[[Int64], Float32]:
        def found(rows: Int64) -> Float32:
            nonlocal complete
            values = features(rows)
            complete = complete and bool(np.isfinite(values).all())
            return values

        return found

    try:
        rows = sanity_rows(
            setting_of(job),
            {
                "colour_histogram": noting(partial(colour_histograms, job.images, cache=job.cache)),
                **{
                    name: noting(partial(file_facts, job.images, names=names))
                    for name, names in _FACTS_OF.items()
                },
            },
        )
    except Exception as error:
        return failure(error)
    if best is not None:
        try:
            setting = setting_of(job)
            rows = (*rows, reference_row(setting, best.backbone, _cached_features(job, best)))
        except Exception as error:  # embeddings that were cleaned away are no reason to lack the rest
            note, complete = failure(error)["error"], False
            rows = (*rows, SanityRow(baseline=REFERENCE, val_f1=math.nan, test_f1=math.nan, note=note))
    return {"rows": [asdict(row) for row in rows], "settled": complete}


def cached_key(store: EmbeddingStore, of: BackboneFacts) -> EmbeddingKey:
    """The key of a backbone's embeddings.

    Raises:
        CacheError: they are no longer cached.
    """
    keys = store.keys_of(of.backbone.split("@")[0], weights_sha256=of.weights_sha256)
    key = next((key for key in keys if key.digest() == of.key_digest), None)
    if key is None:
        raise CacheError("its embeddings are no longer cached", where=of.backbone)
    return key


def _cached_features(job: HeadJob, best: BackboneFacts) -> Callable[[Int64], Float32]:
    store, ids = EmbeddingStore(job.cache), job.images.image_ids
    key = cached_key(store, best)

    def features(rows: Int64) -> Float32:
        return store.read(key, [ids[row] for row in rows.tolist()]).features

    return features


def _memo(job: HeadJob) -> Memo[tuple[SanityRow, ...]]:
    return Memo(folder=job.folder, kind=tuple[SanityRow, ...])


def _question(job: HeadJob, best: BackboneFacts | None) -> list[object]:
    of_whom = None if best is None else [best.backbone, best.key_digest]
    return [job.images.fingerprint(), asdict(job.protocol), of_whom, HEAD_VERSION, _SANITY_VERSION]
