"""The audit as a part of a ranking: what it sees, and the groups that it leads to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmark.audit import (
    AuditReport,
    audit,
    draw_groups,
    group_related,
    torn_group_findings,
    write_audit,
    write_pair_sheet,
)
from benchmark.data import load_images, regroup, tell_reading
from benchmark.embeddings import EmbeddingStore
from benchmark.errors import CacheError
from benchmark.pipeline.cosmetics import Cosmetics
from benchmark.pipeline.places import results_folder
from benchmark.pipeline.planning import Plan, make_plan
from benchmark.pipeline.progress import OneAtATime
from benchmark.pipeline.requests import RankRequest
from benchmark.records import Backbone, Float32, ImageSet, Observer, Silent, WeightsKind
from benchmark.reporting import remove_files, write_rejected
from benchmark.storage import place, write_whole

_GROUPS_FILE = "groups.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """A data set after its audit.

    Attributes:
        images: with the groups that folds and parts must keep whole.
        ungrouped: the same images and parts without groups; None when there are no groups.
        report: what the audit found.
        notes: how groups came about, and what a reader must know.
    """

    images: ImageSet
    ungrouped: ImageSet | None
    report: AuditReport
    notes: tuple[str, ...] = ()


def audit_data(request: RankRequest, observer: Observer | None = None) -> tuple[Audited, Path]:
    """Audit a data set and write what was found to ``results/<dataset>/audit``.

    Args:
        request: data, folders; its backbones lend their eyes where the cache already holds them.
        observer: told about progress.

    Returns:
        The audit and the folder that it was written to.

    Raises:
        DataError: the images cannot be used.
        StorageFull: a folder cannot be written.
    """
    watch = OneAtATime(observer or Silent())
    options = request.options
    images = load_images(options.data, cache=options.cache, options=options, observer=watch)
    tell_reading(images, watch)
    store = EmbeddingStore(options.cache, observer=watch)
    read = request.as_read(images)
    plans = [make_plan(read, backbone, images.image_ids, store) for backbone in read.backbones]
    audited = audit_images(request, images, [plan for plan in plans if plan.is_cached], watch)
    results = results_folder(options.results, images, options.data)
    results.claim(watch)
    folder = place(results.path, "audit")
    write_audit(audited.report, audited.images, folder)
    write_rejected(audited.images.rejected, folder)
    cosmetics = Cosmetics()
    cosmetics.make("audit_pairs.png", partial(write_pair_sheet, audited.report, audited.images, folder))
    cosmetics.make(_GROUPS_FILE, partial(_write_groups, audited.images, folder))
    for note in cosmetics.notes:
        watch.message(note)
    return audited, folder


def _write_groups(images: ImageSet, folder: Path) -> None:
    """A picture of the groups; that of an earlier audit goes in any case."""
    remove_files(folder, [_GROUPS_FILE])
    if images.groups is not None:
        write_whole(folder / _GROUPS_FILE, draw_groups(images, images.groups), root=folder)


def cheapest_pretrained(request: RankRequest) -> Backbone | None:
    """The backbone with the least arithmetic among those with trained weights; None when all are random."""
    trained = [one for one in request.backbones if request.source_of(one).kind is not WeightsKind.RANDOM]
    return min(trained, key=lambda one: (one.flops, one.name), default=None)


def audit_images(
    request: RankRequest, images: ImageSet, plans: Sequence[Plan], observer: Observer
) -> Audited:
    """Audit a data set and give it the groups that were asked for.

    Args:
        request: whether groups are found automatically, and with which seed.
        images: the data set.
        plans: embedded backbones; the cheapest pretrained one lends its eyes.
        observer: told about progress.
    """
    features = _features(request, images, plans, observer)
    options = request.options
    report = audit(images, cache=options.cache, features=features, observer=observer)
    notes: tuple[str, ...] = ()
    if options.auto_groups:
        images, notes = with_auto_groups(images, cache=options.cache, seed=options.seed, observer=observer)
        report = replace(report, findings=(*torn_group_findings(images), *report.findings))
    ungrouped = None if images.groups is None else replace(images, groups=None)
    return Audited(images=images, ungrouped=ungrouped, report=report, notes=notes)


def with_auto_groups(
    images: ImageSet, *, cache: Path, seed: int, observer: Observer
) -> tuple[ImageSet, tuple[str, ...]]:
    """The images with groups of related ones, and how those came about.

    No embedding is looked at, so that the groups are the same whatever the cache holds and whoever is ranked.

    Args:
        images: the data set; its file names matter.
        cache: where signatures of images are remembered.
        seed: of the parts that are drawn anew.
        observer: told about progress.
    """
    grouping = group_related(images, audit(images, cache=cache, observer=observer))
    return regroup(images, grouping.groups, seed=seed), grouping.notes


def _features(
    request: RankRequest, images: ImageSet, plans: Sequence[Plan], observer: Observer
) -> Float32 | None:
    """Embeddings of the cheapest pretrained backbone that is embedded; None without one."""
    seeing = [
        plan
        for plan in plans
        if plan.key and not plan.stopped and plan.weights.kind is not WeightsKind.RANDOM
    ]
    if not seeing:
        return None
    plan = min(seeing, key=lambda one: (one.backbone.flops, one.backbone.name))
    if plan.key is None:
        return None
    try:
        return EmbeddingStore(request.options.cache).read(plan.key, images.image_ids).features
    except CacheError as error:  # another run's size limit took them meanwhile
        observer.message(f"The audit looks at colours and hashes alone: {error}")
        return None
