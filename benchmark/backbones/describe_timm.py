"""Generate the descriptions of the installed timm: ``python -m benchmark.backbones.describe_timm``.

Every pretrained configuration is built once without memory for its weights (PyTorch's ``meta`` device), which
takes a third of a second each. Nothing is downloaded.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from benchmark.backbones.networks import pooled
from benchmark.backbones.registry import shipped_descriptions
from benchmark.errors import ArgumentError
from benchmark.records import FLOPS_SIZE
from benchmark.storage import write_whole

COLUMNS = (
    "name",
    "family",
    "year",
    "pretraining",
    "licence",
    "params",
    "flops",
    "embedding_dim",
    "variables",
    "size",
    "fixed",
    "min_size",
    "mean",
    "std",
    "interpolation",
    "crop",
    "fit",
)
_SMALLEST = 32

TorchModule: TypeAlias = Any
Configuration: TypeAlias = Any

# What a tag says of the images that weights were trained on; in the order of the tag, the last data last.
_DATA = (
    ("in1k", "ImageNet-1k"),
    ("in12k", "ImageNet-12k"),
    ("in21k|in22k|inw21k", "ImageNet-21k"),
    ("jft", "JFT-300M"),
    ("ig1b", "Instagram-1B"),
    ("swag", "Instagram-3.6B"),
    ("yfcc100m", "YFCC-100M"),
    ("yfcc15m", "YFCC-15M"),
    ("cc12m", "CC-12M"),
    ("openai", "OpenAI-WIT-400M"),
    ("laion2b", "LAION-2B"),
    ("laion400m", "LAION-400M"),
    ("laiona", "LAION-aesthetic"),
    ("datacompxl|datacomp1b", "DataComp-1B"),
    ("dfn5b", "DFN-5B"),
    ("dfn2b", "DFN-2B"),
    ("dfndr2b", "DFNDR-2B"),
    ("metaclip_400m", "MetaCLIP-400M"),
    ("metaclip_2pt5b", "MetaCLIP-2.5B"),
    ("webli", "WebLI"),
    ("merged2b", "Merged-2B"),
    ("m38m", "Merged-38M"),
    ("m30m", "Merged-30M"),
    ("lvd142m", "LVD-142M"),
    ("lvd1689m", "LVD-1689M"),
    ("sat493m", "SAT-493M"),
    ("sa1b", "SA-1B"),
)
# Tags that name a method whose published weights were all trained on ImageNet-1k.
_IMAGENET_METHODS = {"mae", "fcmae", "dino"}

# The year of a design, where one module holds designs of several years: the first pattern that fits the name
# decides. For all others, the first paper in the module's own documentation does.
_YEARS = (
    (r"sapiens2", 0),
    (r"dinov3|eupe|vit_pe_|_siglip.*\.v2_webli|naflexvit", 2025),
    (r"aimv2|mobilenetv4|mobilenetv5|_rope_|vitamin|mobileclip2|_mclip2_", 2024),
    (r"siglip|dinov2|lvd142m|eva02|samvit|mobileclip|_mclip|convnextv2|hgnetv2", 2023),
    (r"\beva_|flexivit|mobileone|maxvit|maxxvit|caformer|convformer|deit3|ghostnetv2|beitv2", 2022),
    (
        r"_clip|efficientnetv2|lcnet|resnetrs|coatnet|poolformer|repvgg|hgnet_|coat_|mobilevit_|ghostnetv3",
        2021,
    ),
    (r"mobilenet_edgetpu|tinynet|fbnetv3|gernet|gmlp|gmixer", 2020),
    (r"mixnet|spnasnet|efficientnet|resnetv2_\d+x", 2019),
    (r"mobilenetv2|mnasnet|semnasnet|fbnetc", 2018),
    (r"mobilenetv1|se(?:_)?resne[xt]*t|seresnext|senet", 2017),
    (r"resnext|wide_resnet|resnetv2", 2016),
)


def describe(name: str) -> dict[str, Any]:
    """One description by column; ``name`` as ``timm.list_pretrained`` gives it."""
    configuration = _configuration(name)
    size, fixed = configuration.input_size[1:], bool(configuration.fixed_input_size)
    side = min(size)
    facts = _measured(name.partition(".")[0], side if fixed else FLOPS_SIZE, side, fixed)
    if facts is None and not fixed:
        fixed, facts = True, _measured(name.partition(".")[0], side, side, True)
    if facts is None:
        raise ArgumentError("does not yield one vector per image", where=f"timm:{name}")
    return {
        "name": name,
        "family": _family(name),
        "year": _year(name) or "",
        "pretraining": _pretraining(configuration.tag or ""),
        "licence": "" if configuration.license in {None, "unknown"} else configuration.license,
        **facts,
        "size": side,
        "fixed": int(fixed),
        "min_size": min((configuration.min_input_size or (3, _SMALLEST, _SMALLEST))[1:]),
        "mean": _numbers(configuration.mean),
        "std": _numbers(configuration.std),
        "interpolation": configuration.interpolation,
        "crop": configuration.crop_pct,
        "fit": configuration.crop_mode,
    }


@lru_cache(maxsize=4096)
def _measured(architecture: str, side: int, own_side: int, fixed: bool) -> dict[str, int] | None:
    """Parameters, operations and length of the vector at one input size; None where that size does not go.

    Operations count convolutions and products of matrices, a multiply-add as two, brought to the area of
    ``FLOPS_SIZE``, where those of all sources are counted.
    """
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.device("meta"):
            square = {"img_size": side} if fixed and own_side != _height(architecture) else {}
            model = timm.create_model(architecture, num_classes=0, **square).eval().requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            vector = pooled(model(torch.empty(1, 3, side, side, device="meta")))
    except (RuntimeError, AssertionError, ValueError, TypeError):
        return None
    return {
        "params": sum(one.numel() for one in model.parameters()),
        "flops": round(counter.get_total_flops() * (FLOPS_SIZE / side) ** 2),
        "embedding_dim": vector.shape[1],
        "variables": len(list(model.parameters())),
    }


def _height(architecture: str) -> int:
    return int(_configuration(architecture).input_size[1])


def _configuration(name: str) -> Configuration:
    import timm

    return timm.get_pretrained_cfg(name)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.9g}" for value in values)


def _family(name: str) -> str:
    """The module that defines a network, in short: ``vit``, ``swin_v2``, ``convnext``."""
    return str(_module(name)).replace("vision_transformer", "vit").replace("_transformer", "")


def _module(name: str) -> str:
    import timm.models

    return str(timm.model_entrypoint(name.partition(".")[0]).__module__).rpartition(".")[2]


def _year(name: str) -> int | None:
    for pattern, year in _YEARS:
        if re.search(pattern, name):
            return year or None
    text = sys.modules[f"timm.models.{_module(name)}"].__doc__ or ""
    papers = re.search(r"arxiv(?:\.org/\w+/|:\s*)(\d\d)(\d\d)\.\d+", text, re.IGNORECASE)
    return 2000 + int(papers[1]) if papers else None


def _pretraining(tag: str) -> str:
    if tag in _IMAGENET_METHODS:
        return "ImageNet-1k"
    found = [
        (match.start(), data)
        for pattern, data in _DATA
        for match in re.finditer(f"(?<![a-z])(?:{pattern})", tag)
    ]
    return ", ".join(dict.fromkeys(data for _, data in sorted(found)))


def rows(names: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Descriptions of some names, or of all; the default tag of each architecture before its other tags."""
    import timm

    for name in names or _in_order(timm.list_pretrained()):
        try:
            yield describe(name)
        except ArgumentError as error:
            print(error, file=sys.stderr)  # noqa: T201 - of a command of its own


def _in_order(names: list[str]) -> list[str]:
    import timm

    by_default = {name: timm.get_pretrained_cfg(name.partition(".")[0]).tag for name in names}
    return sorted(
        names, key=lambda name: (name.partition(".")[0], name.partition(".")[2] != by_default[name], name)
    )


def generate(folder: Path) -> Path:
    """Write the descriptions of the installed timm into a folder; some minutes.

    Returns:
        The file written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows())
    target = folder / f"timm-{metadata.version('timm')}.csv"
    write_whole(target, text.getvalue().encode(), root=folder)
    return target


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else shipped_descriptions())
