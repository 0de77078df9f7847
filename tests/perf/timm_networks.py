"""timm's networks in OpenVINO against PyTorch eager in bfloat16, channels last, the fastest peer measured.

On one core (``taskset -c 1``) the processor's seconds are counted instead of the clock's: threads that wait
for each other are what a busy machine disturbs most, and one alone is not charged for its neighbours.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.backbones import load_network, parse_weights, select
from benchmark.machine import cores
from benchmark.records import UInt8
from tests.perf.children import call_child
from tests.perf.embedding import embed_all, images_per_second, load_batch, lowest_cosine, open_best
from tests.perf.figures import Figure, Target, Unit, alternate, mean_of_figures
from tests.perf.setting import Setting
from tests.perf.straightforward import BATCH

SIZE = 224
# So many images that PyTorch is busy for some seconds. The last four are attention networks.
IMAGES = {
    "timm:mobilenetv3_small_100.lamb_in1k": 512,
    "timm:mobilenetv4_conv_small.e2400_r224_in1k": 512,
    "timm:tf_efficientnet_lite0.in1k": 256,
    "timm:resnet50.a1_in1k": 64,
    "timm:convnextv2_atto.fcmae_ft_in1k": 128,
    "timm:convnext_tiny.fb_in1k": 64,
    "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k": 256,
    "timm:vit_small_patch16_224.augreg_in21k_ft_in1k": 64,
    "timm:deit3_small_patch16_224.fb_in1k": 64,
    "timm:swin_tiny_patch4_window7_224.ms_in1k": 64,
}
_QUICK = ("timm:mobilenetv4_conv_small.e2400_r224_in1k", "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k")
_MOST_ALONE = 128  # images, on one core
_MEAN = Target(at_least=1.3)
_PEER = "PyTorch eager bfloat16"


def measure(setting: Setting) -> Iterator[Figure]:
    """One figure per network, then their geometric mean; none where PyTorch is not installed."""
    if importlib.util.find_spec("timm") is None:
        return
    names = setting.pick(tuple(IMAGES), _QUICK, _QUICK[:1])
    data = setting.images(setting.pick(256, 128, 32))
    figures = []
    for name in names:
        argument = {
            "backbone": name,
            "data": str(data),
            "images": setting.pick(_images(name), 64, BATCH),
            "pairs": setting.rounds(3, 2),
            "cache": str(setting.folder / "timm-cache"),
        }
        found = call_child(compare, argument, setting.log)
        short = name.removeprefix("timm:").partition(".")[0]
        figures.append(
            Figure.of_pairs(
                (f"embed, {short}", _PEER), Unit.IMAGES_PER_SECOND, found["pairs"], None, found["note"]
            )
        )
        yield figures[-1]
    if len(figures) > 1:
        target = _MEAN if len(figures) == len(IMAGES) else None
        yield mean_of_figures((f"embed, {len(figures)} timm networks", _PEER), figures, target)


def compare(argument: dict[str, Any]) -> dict[str, Any]:
    """Time one network both ways, in pairs.

    Args:
        argument: ``backbone``, ``data`` folder, ``images`` (a multiple of 32), ``pairs``, ``cache`` folder.

    Returns:
        ``pairs`` of images per second, and a ``note``: engine, arithmetic, agreement with PyTorch's float32.
    """
    import torch

    cache = Path(argument["cache"])
    pixels = load_batch(Path(argument["data"]), int(argument["images"]))
    (backbone,) = select(argument["backbone"])
    network = load_network(backbone, parse_weights("random"), SIZE, cache=cache)
    module = network.module.to(memory_format=torch.channels_last)  # type: ignore[attr-defined]
    torch.set_num_threads(cores())

    def theirs() -> np.ndarray:
        batches = (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return np.concatenate([module(torch.from_numpy(one)).float().numpy() for one in batches])

    reference = network.run(pixels[:BATCH])
    theirs()
    with closing(open_best(argument["backbone"], pixels[:BATCH], cache)) as frozen:
        features = embed_all(frozen, pixels)
        pairs = alternate(
            lambda: _rate(pixels, lambda: embed_all(frozen, pixels)),
            lambda: _rate(pixels, theirs),
            int(argument["pairs"]),
        )
        cosine = lowest_cosine(features[:BATCH], reference)
        note = f"{frozen.engine.value} {frozen.precision.value}, {len(pixels)} images, cosine {cosine:.5f}"
        return {"pairs": pairs, "note": note}


def _images(name: str) -> int:
    return min(IMAGES[name], _MOST_ALONE) if cores() == 1 else IMAGES[name]


def _rate(pixels: UInt8, work: Callable[[], object]) -> float:
    """Images per second of the clock; of the processor where there is one core."""
    if cores() > 1:
        return images_per_second(pixels, work)
    started = time.process_time()
    work()
    return len(pixels) / (time.process_time() - started)
