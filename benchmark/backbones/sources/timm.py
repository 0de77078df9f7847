"""Every pretrained configuration of the installed timm, pooled as its ``num_classes=0`` does.

Descriptions are generated (``benchmark/backbones/describe_timm.py``): listing and choosing load nothing.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

from benchmark.backbones.networks import TorchNetwork
from benchmark.backbones.registry import shipped_descriptions, user_descriptions
from benchmark.backbones.source import Pretrained, matching
from benchmark.backbones.weights import check_listed
from benchmark.drawing import derived_seed
from benchmark.errors import ArgumentError, WeightsError
from benchmark.records import Backbone, Engine, Preprocessing, WeightsKind, WeightsSource

TorchModule: TypeAlias = Any

_PREFIX = "timm:"
_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmSource:
    """The pretrained models of timm."""

    engines = (Engine.TORCH, Engine.OPENVINO)

    def find(self, pattern: str) -> Sequence[Backbone]:
        """Those that a pattern means; a name without a tag is that with timm's default tag."""
        found = matching(_described(), pattern)
        by_default = (item for item in _described() if item.constructor.partition(".")[0] == pattern)
        return found or [item for item in (next(by_default, None),) if item is not None]

    def versions(self) -> Mapping[str, str]:
        """Of timm and PyTorch; ``absent`` where not installed."""
        return {name: _version(name) for name in ("timm", "torch")}

    def weights_file(self, backbone: Backbone, weights: WeightsSource, *, download: bool) -> Path:
        """File in timm's cache, ``<name>.safetensors`` (``.bin``, ``.pth``) in a folder, or one file."""
        _require()
        if weights.kind is WeightsKind.IMAGENET:
            return _published(backbone, download=download)
        assert weights.path is not None, "directories and files have paths"
        path = weights.path
        if weights.kind is WeightsKind.DIRECTORY:
            stem = backbone.constructor
            candidates = [path / f"{stem}{suffix}" for suffix in (".safetensors", ".bin", ".pth")]
            path = next((one for one in candidates if one.is_file()), candidates[0])
        if download and not path.is_file():
            raise WeightsError(
                "no weights file for this backbone",
                where=backbone.name,
                expected=path,
                next_step="Add the file, or leave the backbone out.",
            )
        return path

    def load(self, backbone: Backbone, weights: WeightsSource, input_size: int, *, cache: Path) -> Pretrained:
        """Build the network and load its weights; every parameter must get a value from the file."""
        _require()
        if weights.kind is WeightsKind.RANDOM:
            network = _random(backbone, weights.seed)
        else:
            path = self.weights_file(backbone, weights, download=True)
            if weights.kind is not WeightsKind.IMAGENET:
                check_listed(path)
            network = _pretrained(backbone, path)
        return TorchNetwork(network.eval(), backbone.preprocessing, input_size)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _require() -> None:
    if util.find_spec("timm") is None:
        raise WeightsError.not_installed("timm", "timm", where="source timm")
    if "tensorflow" in sys.modules:
        # Triton, PyTorch's compiler for GPUs, ends a process that has loaded TensorFlow before it: both bring
        # their own LLVM. PyTorch does without where it is not found; nothing here compiles with it.
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]  # what Python does for "absent"


# Descriptions -------------------------------------------------------------------------------------


@functools.cache
def _described() -> tuple[Backbone, ...]:
    """What is known of every pretrained configuration, the default of each architecture first."""
    with _descriptions().open(newline="", encoding="utf-8") as file:
        return tuple(_backbone(row) for row in csv.DictReader(file))


def _descriptions() -> Path:
    """The file for the installed version, else the newest: what the installed one lacks fails by itself."""
    name = f"timm-{_version('timm')}.csv"
    for folder in (shipped_descriptions(), user_descriptions()):
        if (folder / name).is_file():
            return folder / name
    return max(shipped_descriptions().glob("timm-*.csv"))


def _backbone(row: Mapping[str, str]) -> Backbone:
    preprocessing = Preprocessing.of_unit(
        [float(one) for one in row["mean"].split()],
        [float(one) for one in row["std"].split()],
        interpolation=row["interpolation"],
        crop=float(row["crop"]),
        fit=row["fit"],
    )
    return Backbone(
        name=_PREFIX + row["name"],
        architecture=_PREFIX + row["name"],
        family=row["family"],
        source="timm",
        module="timm.models",
        constructor=row["name"],
        arguments={},
        preprocessing=preprocessing,
        default_size=int(row["size"]),
        min_size=int(row["min_size"]),
        embedding_dim=int(row["embedding_dim"]),
        params=int(row["params"]),
        flops=int(row["flops"]),
        build=functools.partial(build, row["name"]),
        preprocess=preprocessing.apply,
        fixed_size=row["fixed"] == "1",
        variables=int(row["variables"]),
        year=int(row["year"]) if row["year"] else None,
        pretraining=row["pretraining"],
        licence=row["licence"],
    )


# Networks -----------------------------------------------------------------------------------------


def build(name: str, input_size: int, **more: Any) -> TorchModule:  # noqa: ANN401 - of timm
    """A network without its classifier, preprocessed (n, 3, S, S) -> (n, D).

    Raises:
        ArgumentError: the installed timm has no such model.
    """
    import timm

    if not timm.is_model(name):
        raise ArgumentError(
            "the installed timm has no such model",
            where=_PREFIX + name,
            got=f"timm {_version('timm')}",
            next_step="Write its descriptions: python -m benchmark.backbones.describe_timm "
            f"{user_descriptions()}",
        )
    return timm.create_model(name, num_classes=0, **more)


def _random(backbone: Backbone, seed: int) -> TorchModule:
    """Drawn from the seed and the architecture, whatever was drawn before."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, backbone.architecture))
        return backbone.build(backbone.default_size)


def _pretrained(backbone: Backbone, path: Path) -> TorchModule:
    """With the values of a file, read as arrays only: nothing in it can run code."""
    from safetensors import SafetensorError

    name = backbone.constructor
    try:
        with _watching() as lacking:
            network = build(
                name, backbone.default_size, pretrained=True, pretrained_cfg_overlay={"file": str(path)}
            )
    except (RuntimeError, ValueError, KeyError, OSError, SafetensorError) as error:
        raise _unfit(backbone, path, str(error).splitlines()[0][:300]) from error
    if lacking:
        raise _unfit(backbone, path, f"{len(lacking)} parameters without values, e.g. {lacking[0]}")
    return network


@contextlib.contextmanager
def _watching() -> Iterator[list[str]]:
    """Note which parameters get no value while timm loads weights: it only logs them."""
    from timm.models import _builder

    load, lacking = _builder.load_pretrained, []

    def watched(model: TorchModule, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - of timm
        hook = model.register_load_state_dict_post_hook(lambda _, keys: lacking.extend(keys.missing_keys))
        try:
            load(model, *args, **kwargs)
        finally:
            hook.remove()

    with mock.patch.object(_builder, "load_pretrained", watched):
        yield lacking


def _unfit(backbone: Backbone, path: Path, got: str) -> WeightsError:
    return WeightsError(
        f"not the weights of {backbone.architecture}",
        where=path,
        expected="a safetensors file, or a state dictionary that loads with weights_only=True",
        got=got,
        next_step="Take the file that timm publishes, or save yours with safetensors.torch.save_file.",
    )


def _published(backbone: Backbone, *, download: bool) -> Path:
    """Timm's own file in the cache of Hugging Face's hub."""
    import timm
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    configuration = timm.get_pretrained_cfg(backbone.constructor)
    repository, _, revision = (configuration.hf_hub_id if configuration else "").partition("@")
    names = [configuration.hf_hub_filename] if configuration and configuration.hf_hub_filename else _FILES
    for name in names if repository else ():
        held = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(held, str):
            return Path(held)
    if not download:
        raise FileNotFoundError(backbone.name)
    reason = "timm publishes none under its own name"
    for name in names if repository else ():
        try:
            return Path(hf_hub_download(repository, name, revision=revision or None))
        except LocalEntryNotFoundError:  # of that kind, too, although nobody was asked whether there is one
            reason = "no connection"
            break
        except EntryNotFoundError:
            continue
        except (OSError, ValueError) as error:
            reason = type(error).__name__
            break
    raise WeightsError(
        "timm's weights cannot be downloaded",
        got=f"{reason} ({repository or 'no repository'})",
        next_step="Give the weights with `weights=DIR`, which holds <name>.safetensors, or use "
        "`weights=random` to compare architectures only.",
    )


SOURCE = TimmSource()
