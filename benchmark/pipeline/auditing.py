"""The audit as a part of a ranking: what it sees, and the groups that it leads to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.audit import (
    AuditReport,
    Grouping,
    audit,
    copy_links,
    draw_groups,
    group_related,
    judge,
    look_links,
    write_audit,
    write_pair_sheet,
)
from benchmark.backbones import is_pretrained
from benchmark.data import load_images, regroup, tell_reading
from benchmark.embeddings import VIEWS, EmbeddingStore
from benchmark.errors import CacheError
from benchmark.pipeline.copies import known_copies, remember_copies
from benchmark.pipeline.cosmetics import Cosmetics
from benchmark.pipeline.embedding import embed_images
from benchmark.pipeline.places import results_folder
from benchmark.pipeline.planning import Plan, make_plan
from benchmark.pipeline.requests import MOST_TURNED, RankRequest
from benchmark.records import Float32, ImageSet, Int64, Observer, Silent
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
        request: data, folders; its backbones lend their eyes where the cache already holds them, and the
            cheapest pretrained one of those embeds views to look for copies.
        observer: told about progress.

    Returns:
        The audit and the folder that it was written to.

    Raises:
        DataError: the images cannot be used.
        StorageError: a folder cannot be written.
    """
    watch = observer or Silent()
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
    options, seeing = request.options, _seeing(plans)
    features = None if seeing is None else _features(request, images, seeing, observer)
    report = audit(images, cache=options.cache, features=features, observer=observer)
    notes: tuple[str, ...] = ()
    if options.auto_groups and images.groups is None:
        looks = copies = None
        if seeing is not None and features is not None:
            looks, copies = look_links(features), _copies(request, images, seeing, observer)
        images, notes = _grouped(images, group_related(images, report, looks, copies), options.seed)
        report = judge(images, report.signatures, report.near)
    ungrouped = None if images.groups is None else replace(images, groups=None)
    return Audited(images=images, ungrouped=ungrouped, report=report, notes=notes)


def with_auto_groups(
    images: ImageSet, *, cache: Path, seed: int, observer: Observer
) -> tuple[ImageSet, tuple[str, ...]]:
    """The images with those groups that are found without a backbone, and how they came about.

    Args:
        images: the data set; its file names matter. Groups that it has stay.
        cache: where signatures of images are remembered.
        seed: of the parts that are drawn anew.
        observer: told about progress.
    """
    if images.groups is not None:
        return images, ()
    return _grouped(images, group_related(images, audit(images, cache=cache, observer=observer)), seed)


def with_groups_of(listed: Mapping[str, Mapping[str, str]], images: ImageSet, *, seed: int) -> ImageSet:
    """The images with the groups that a run found among them; as they are where it saw others, or no groups.

    Args:
        listed: the run's image list.
        images: the data set.
        seed: of the parts that are drawn anew.
    """
    names = [listed[image_id]["group"] for image_id in images.image_ids if image_id in listed]
    if images.groups is not None or not len(names) == len(listed) == len(images) or not all(names):
        return images
    return regroup(images, np.array(names, np.int64), seed=seed)


def _grouped(images: ImageSet, grouping: Grouping, seed: int) -> tuple[ImageSet, tuple[str, ...]]:
    """The images in their groups, the same where nothing is related, and how those came about."""
    if grouping.groups is None:
        return images, grouping.notes
    return regroup(images, grouping.groups, seed=seed), grouping.notes


def _seeing(plans: Sequence[Plan]) -> Plan | None:
    """The cheapest pretrained backbone that is embedded; None without one."""
    seeing = [
        plan for plan in plans if plan.key and not plan.stopped and is_pretrained(plan.backbone, plan.weights)
    ]
    return min(seeing, key=lambda one: (one.backbone.flops, one.backbone.name), default=None)


def _features(request: RankRequest, images: ImageSet, plan: Plan, observer: Observer) -> Float32 | None:
    """Its embeddings; None where another run's size limit took them meanwhile."""
    assert plan.key is not None, "an embedded backbone has a key"
    try:
        return EmbeddingStore(request.options.cache).read(plan.key, images.image_ids).features
    except CacheError as error:
        observer.message(f"The audit looks at colours and hashes alone: {error}")
        return None


def _copies(request: RankRequest, images: ImageSet, plan: Plan, observer: Observer) -> Int64 | None:
    """Turned and cropped copies among the images, as seen by a backbone; None where that cannot be had."""
    if len(images) > MOST_TURNED:
        observer.message(
            f"Turned and cropped copies are not looked for among more than {MOST_TURNED:,} images."
        )
        return None
    wanted = request.views_under(plan.backbone)
    (seen,) = embed_images(wanted, images, observer, planned_images=len(images)).plans
    if seen.key is None or seen.stopped is not None:
        return None
    pairs = known_copies(request.options.cache, seen.key, images)
    if pairs is None:
        features = _features(request, images, seen, observer)
        if features is None:
            return None
        pairs = copy_links(images, features.reshape(len(images), VIEWS, -1))
        remember_copies(request.options.cache, seen.key, images, pairs)
    return pairs
