"""The brickwork photographs beside the project, embedded by its four real backbones."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from final_head_simulation import compare_with_new
from labels import outcome
from simulation import curve_of_heads, f1_of_heads, f1_of_reference

from benchmark.data import load_images
from benchmark.embeddings import EmbeddingStore
from benchmark.heads import train_heads
from benchmark.options import EmbedOptions, RankOptions
from benchmark.pipeline import EmbedRequest, RankRequest, audit_data, embed
from benchmark.pipeline.labels import judged
from benchmark.ranking import BoardOptions, build_leaderboard
from benchmark.records import (
    Embeddings,
    Float32,
    HeadProtocol,
    Int64,
    Split,
    Targets,
)
from benchmark.statistics import LearningCurve

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
BRICKS, WEIGHTS = SHARED / "data" / "brick_cracks", SHARED / "weights"
BACKBONES = ("MobileNet_0.25", "MobileNet_0.5", "MobileNetV2_0.35", "MobileNetV3Small_0.75")
_BLOCK = 10  # neighbouring file numbers are often crops of one wall


@dataclass(frozen=True, slots=True, kw_only=True)
class Photographs:
    """Labels and embeddings.

    Attributes:
        image_ids: of N images.
        targets: of them; groups are blocks of ten file numbers of a class.
        features: by backbone, float32 (N, D).
    """

    image_ids: Sequence[str]
    targets: Targets
    features: dict[str, Float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """F1 of heads less F1 of the reference on fresh photographs.

    Attributes:
        mean: over the draws.
        error: its standard error, from the spread of the draws.
        heads: mean F1 of the heads.
    """

    mean: float
    error: float
    heads: float


def read_photographs(cache: Path, names: Sequence[str] = BACKBONES) -> Photographs | None:
    """Embed what the cache lacks; None where photographs or weights are absent."""
    if not (BRICKS.is_dir() and WEIGHTS.is_dir()):
        return None
    images = load_images(BRICKS, cache=cache)
    options = EmbedOptions(data=BRICKS, backbones=",".join(names), weights=str(WEIGHTS), cache=cache)
    store = EmbeddingStore(cache)
    features = {
        plan.backbone.name: store.read(plan.key, images.image_ids).features
        for plan in embed(EmbedRequest.of(options)).embedded
        if plan.key is not None
    }
    blocks = [int(re.findall(r"\d+", Path(path).stem)[-1]) // _BLOCK for path in images.paths]
    _, groups = np.unique(np.stack([images.targets, blocks]), axis=1, return_inverse=True)
    targets = replace(Targets.of(images), groups=groups.ravel())
    return Photographs(image_ids=images.image_ids, targets=targets, features=features)


def watch_photographs(
    features: Float32, targets: Targets, images: int, *, grouped: bool, trials: int, seed: int
) -> tuple[Gap, Gap]:
    """Heads against the reference, trained on some photographs and scored on the rest.

    Args:
        features: float32 (N, D) of one backbone.
        targets: labels and groups.
        images: how many train, about.
        grouped: photographs of one group all train or none.
        trials: draws.
        seed: of the draws.

    Returns:
        Against a reference whose own folds know of the groups, and against one whose folds do not; the same
        twice where ``grouped`` is False.
    """
    alone = replace(targets, groups=None)
    known = targets if grouped else alone
    seen = []
    for trial, (train, fresh) in enumerate(_draws(known, images, trials, seed)):
        heads = f1_of_heads(features, known, train, fresh, trial)
        reference = f1_of_reference(features, known, train, fresh)
        other = f1_of_reference(features, alone, train, fresh) if grouped else reference
        seen.append([heads, heads - reference, heads - other])
    heads, *gaps = np.array(seen).T
    return tuple(  # type: ignore[return-value]
        Gap(mean=float(gap.mean()), error=float(gap.std(ddof=1) / np.sqrt(trials)), heads=float(heads.mean()))
        for gap in gaps
    )


def watch_halves(
    features: Float32, targets: Targets, *, grouped: bool, trials: int, seed: int
) -> tuple[list[LearningCurve], LearningCurve]:
    """Learning curves of heads on halves of the photographs, and of heads on all of them."""
    known = targets if grouped else replace(targets, groups=None)
    halves = _draws(known, len(targets.targets) // 2, trials, seed)
    curves = [curve_of_heads(features, known, rows, trial) for trial, (rows, _) in enumerate(halves)]
    return curves, curve_of_heads(features, known, np.arange(len(features)), seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsSeen:
    """What a board said of labels of which some were changed.

    Attributes:
        share: estimated share of wrong labels.
        low: lower end of its interval.
        high: upper end.
        listed: suspects.
        found: changed labels among them.
        precision: share of changed labels among as many suspects as were changed; nan where none is listed.
    """

    share: float
    low: float
    high: float
    listed: int
    found: int
    precision: float


def watch_changed_labels(photographs: Photographs, share: float, *, grouped: bool, seed: int) -> LabelsSeen:
    """Change a share of the labels, train the heads of all backbones (one repeat), judge the labels."""
    targets = photographs.targets if grouped else replace(photographs.targets, groups=None)
    rows = np.arange(len(targets.targets))
    changed = np.random.default_rng(seed).choice(rows, round(share * len(rows)), replace=False)
    labels = targets.targets.copy()
    labels[changed] = 1 - labels[changed]
    targets = replace(targets, targets=labels)
    ids = tuple(f"{row:064x}" for row in rows)
    split = Split(train=rows, val=rows[:0], test=rows[:0], given=False)
    outcomes = [
        replace(outcome(name, np.zeros((1, 1, 1))), predictions=result.predictions, params=1, head_params=1)
        for name, features in photographs.features.items()
        for result in [
            train_heads(
                Embeddings(image_ids=ids, features=features),
                targets,
                split,
                HeadProtocol(repeats=1, seed=seed),
            )
        ]
    ]
    found = judged(build_leaderboard(outcomes, targets, BoardOptions()), outcomes, targets)
    assert found is not None, "a winner is named"
    suspects = [one.row for one in found.suspects]
    first = suspects[: len(changed)]
    return LabelsSeen(
        share=found.share,
        low=found.share_low,
        high=found.share_high,
        listed=len(suspects),
        found=int(np.isin(suspects, changed).sum()),
        precision=float(np.isin(first, changed).mean()) if first else float("nan"),
    )


def watch_other_walls(
    photographs: Photographs, folder: Path, cache: Path, *, grouped: bool, seed: int
) -> dict[str, list[float]]:
    """Half of the walls ranked, the other half as new images: ``compare_with_new`` of each backbone.

    Neighbouring file numbers are crops of one wall: of ten sections of each class, five go to the new folder
    ``folder``, which is read, audited, grouped and split as ``backbones rank`` does it.

    Args:
        photographs: all of them.
        folder: a new one.
        cache: with the embeddings.
        grouped: by ``--groups auto``; else no groups.
        seed: which walls.
    """
    generator = np.random.default_rng(seed)
    for name in ("Negative", "Positive"):
        sections = np.array_split(sorted((BRICKS / name).iterdir()), 10)
        (folder / name).mkdir(parents=True)
        for section in generator.permutation(10)[:5]:
            for path in sections[section]:
                shutil.copy(path, folder / name)
    options = RankOptions(
        data=folder,
        backbones=",".join(photographs.features),
        weights=str(WEIGHTS),
        groups="auto" if grouped else "none",
        cache=cache,
        results=folder.parent / "results",
    )
    images = audit_data(RankRequest.of(options))[0].images
    row_of = {image: row for row, image in enumerate(photographs.image_ids)}
    own = [row_of[image] for image in images.image_ids]
    rows = np.concatenate([own, np.setdiff1d(np.arange(len(row_of)), own)]).astype(np.int64)
    new = np.arange(len(own), len(rows))
    targets = replace(Targets.of(images), targets=photographs.targets.targets[rows])
    if targets.groups is not None:  # each new image a group of its own: nothing depends on theirs
        targets = replace(targets, groups=np.concatenate([targets.groups, targets.groups.max() + 1 + new]))
    ids = tuple(photographs.image_ids[row] for row in rows)
    return {
        name: compare_with_new(
            Embeddings(image_ids=ids, features=features[rows]), targets, replace(images.split, test=new)
        )
        for name, features in photographs.features.items()
    }


def _draws(targets: Targets, images: int, trials: int, seed: int) -> Iterator[tuple[Int64, Int64]]:
    """Rows that train, as many of each class, and rows of groups that do not.

    Groups are taken in random order until there are enough; what is left of the last one is in neither.
    """
    positive = targets.targets[:, 0] > 0
    groups = np.arange(len(positive)) if targets.groups is None else targets.groups
    for trial in range(trials):
        place = np.random.default_rng([seed, trial]).permutation(int(groups.max()) + 1)[groups]
        order = np.argsort(place, kind="stable")
        train = np.sort(np.concatenate([order[positive[order] == side][: images // 2] for side in (0, 1)]))
        yield train, np.flatnonzero(~np.isin(groups, groups[train]))
