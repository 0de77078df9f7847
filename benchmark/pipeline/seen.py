"""Model directories of this program on a board: whether their networks were trained on these very images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmark.backbones import FILE
from benchmark.errors import ManifestError
from benchmark.finetuning import TrainedOn, load_manifest, trained_backbone
from benchmark.records import Backbone, ImageSet


def about_seen(backbones: Iterable[Backbone], images: ImageSet) -> Iterator[str]:
    """A note on each network that learnt from some of the images: no fold hides them from it.

    A model whose training left its backbone as it was has seen nothing by it.

    Args:
        backbones: of the board; those that are no model directory are passed over.
        images: that it is about.
    """
    for backbone in backbones:
        folder = Path(backbone.module)
        if backbone.source != FILE or not folder.is_dir():
            continue
        try:
            files = load_manifest(folder, verify=False).files
            seen = TrainedOn.read(folder, files) if trained_backbone(folder) else None
        except (ManifestError, OSError, ValueError):
            continue  # it says nothing of what it has seen
        if seen is None:
            continue
        training, validation = seen.parts(images.image_ids)
        count = int((training | validation).sum())
        if count:
            yield (
                f"{backbone.name} was fine-tuned with {count:,} of these {len(images):,} images: its score "
                "flatters, whatever fold an image is in."
            )
