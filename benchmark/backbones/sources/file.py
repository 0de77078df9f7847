"""A user's own network: ``file:model.onnx?mean=0.5&std=0.5``, an IR, TFLite, ``.keras``, a model directory.

What stands behind the ``?`` may stand in a TOML file beside the network instead (``model.toml``). Nothing is
guessed: a network that does not say what it expects of its input is refused.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np

from benchmark.backbones.digests import stored_digest
from benchmark.backbones.keras_files import load_keras_model
from benchmark.backbones.networks import write_graph_as_onnx
from benchmark.backbones.onnx_files import external_files
from benchmark.backbones.onnx_graphs import embedding_onnx
from benchmark.backbones.openvino_graphs import (
    embedding_graph,
    graph_flops,
    graph_params,
    is_channels_last,
    run_graph,
    yields_maps,
)
from benchmark.backbones.source import Pretrained
from benchmark.errors import ArgumentError, WeightsError
from benchmark.locations import path_of
from benchmark.records import (
    Backbone,
    Engine,
    Float32,
    Preprocessing,
    UInt8,
    WeightsKind,
    WeightsSource,
)
from benchmark.storage import read_small, sha256_file

OpenVINOModel: TypeAlias = Any

_PREFIX = "file:"
_GRAPHS = {".onnx", ".xml", ".tflite"}
_SIZE = 224
_FACTS = ("pretraining", "licence", "year")
_KEYS = {"preprocessing", "mean", "std", "bgr", "size", "output", "interpolation", "crop", "fit", *_FACTS}
_NUMBERS = {"mean", "std"}
# How an image gets its size under `resize=native`, in the words of ``Preprocessing``.
_WAYS = {
    "interpolation": ("bilinear", "bicubic", "lanczos", "hamming", "box", "nearest"),
    "fit": ("squash", "center", "border"),
}
_HEAD = ("dropout", "hidden", "logits")  # how layers behind the features are called in models of this program
_EXPECTED = (
    "?preprocessing=identity (pixels 0..255), tf (-1..1), torch (ImageNet's mean and deviation) or caffe, or "
    "?mean=R,G,B&std=R,G,B of pixels 0..1"
)
# Unscaled pixels are about a hundred times as large as normalised ones. Where a network hands that on to its
# features, it was trained on the small ones; where the small ones leave features that hardly differ between
# photographs, on the large ones.
_UNSCALED = 10.0
_FLAT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """What a user says of a network.

    Attributes:
        preprocessing: what it expects of its input.
        size: input side in pixels; None where the file says it.
        output: name of the output (of a Keras model, the layer) with the features; empty for its only one.
        pretraining: data that its weights were trained on; empty where it is not said.
        licence: of its weights; empty where it is not said.
        year: that its design was published; None where it is not said.
    """

    preprocessing: Preprocessing
    size: int | None = None
    output: str = ""
    pretraining: str = ""
    licence: str = ""
    year: int | None = None


class FileNetwork:
    """A network from a file, as a graph of OpenVINO.

    Attributes:
        weights_sha256: of the file of its weights, and of those that an ONNX file keeps weights in.
    """

    def __init__(self, path: Path, settings: _Settings, input_size: int) -> None:
        self._path, self._settings, self._size = path, settings, input_size
        self.weights_sha256 = stored_digest(_weights(path))

    def _graph(self, preprocessing: Preprocessing, folder: Path) -> OpenVINOModel:
        raw = _raw(self._path, self._settings, self._size, folder)
        output = "" if self._is_keras else self._settings.output
        return embedding_graph(raw, preprocessing, self._size, output=output, where=self._path)

    @property
    def _is_keras(self) -> bool:
        return self._path.suffix not in _GRAPHS

    def run(self, images: UInt8) -> Float32:
        """OpenVINO's forward pass in float32, uint8 (n, S, S, 3) -> float32 (n, D)."""
        with TemporaryDirectory() as folder:
            return run_graph(self._graph(self._settings.preprocessing, Path(folder)), images)

    def convert(self, folder: Path) -> OpenVINOModel:
        """The network with its preprocessing."""
        return self._graph(self._settings.preprocessing, folder)

    def write_onnx(self, path: Path) -> None:
        """The network with its preprocessing as ONNX: a file of ONNX with more nodes, Keras's converted.

        Raises:
            TypeError: a format that nothing makes ONNX of.
            ValueError: a network that cannot be taken so.
        """
        settings = self._settings
        if self._is_keras:
            from benchmark.backbones.frozen_graph import freeze

            model = _features(self._path, settings, load_keras_model(_weights(self._path)))
            write_graph_as_onnx(freeze(settings.preprocessing.on_tensor, model), path)
            return
        if self._path.suffix != ".onnx":
            raise TypeError(f"nothing makes ONNX of a {self._path.suffix} file")
        import onnx

        raw = _read(self._path)
        model = embedding_onnx(
            onnx.load(self._path),
            settings.preprocessing,
            self._size,
            output=settings.output,
            channels_last=is_channels_last(raw, self._path),
            maps=yields_maps(raw, settings.output, self._path),
        )
        path.write_bytes(model.SerializeToString())

    def remarks(self, images: UInt8) -> tuple[str, ...]:
        """A warning where the features of photographs look like those of pixels on another scale."""
        given = self._settings.preprocessing
        scaled = max(given.scale) >= _UNSCALED
        other = Preprocessing() if scaled else Preprocessing.parse("torch")
        with TemporaryDirectory() as folder:
            features, rest = (run_graph(self._graph(one, Path(folder)), images) for one in (given, other))
        small, large = (features, rest) if scaled else (rest, features)
        handed_on = _length(large) > _UNSCALED * _length(small)
        flat = _variation(small) < _FLAT * _variation(large)
        if not scaled and handed_on and not flat:
            return (
                f"its features are {_length(large) / _length(small):.0f} times as large as with pixels of "
                f"about -2..2: does it really take pixels 0..255 (preprocessing={given})?",
            )
        if scaled and flat:
            return (
                "its features hardly differ between photographs, and do with pixels 0..255: does it scale "
                f"them itself (preprocessing={given})?",
            )
        return ()


def _length(features: Float32) -> float:
    return float(np.median(np.linalg.norm(features, axis=1))) + 1e-30


def _variation(features: Float32) -> float:
    """How much features differ between images, relative to their length."""
    return float(np.linalg.norm(features - features.mean(axis=0), axis=1).mean()) / _length(features)


class FileSource:
    """Networks of the user's own, named by their path."""

    engines = (Engine.OPENVINO,)

    def find(self, pattern: str) -> Sequence[Backbone]:
        """The network of a path; ``all`` and families are none."""
        if pattern == "all" or pattern.startswith("family:"):
            return ()
        text, _, query = pattern.partition("?")
        path = path_of(text)
        try:
            if not path.exists():
                raise ArgumentError("no such file", where=f"{_PREFIX}{text}")
            return (_backbone(text, path.absolute(), query),)
        except OSError as error:
            raise _unusable(path, f"{type(error).__name__}: {error}") from error

    def versions(self) -> Mapping[str, str]:
        """Of OpenVINO, which reads and runs it."""
        return {"openvino": metadata.version("openvino")}

    def weights_file(self, backbone: Backbone, weights: WeightsSource, *, download: bool) -> Path:
        """The file that holds its weights."""
        assert weights.path is not None, "a file has a path"
        return weights.path

    def load(self, backbone: Backbone, weights: WeightsSource, input_size: int, *, cache: Path) -> Pretrained:
        """Open the file."""
        network: FileNetwork = backbone.build(input_size)
        return network


def _backbone(text: str, path: Path, query: str) -> Backbone:
    settings = _settings(path, query)
    size, fixed, facts = _facts(path, settings, _stamp(path))
    name = f"{_PREFIX}{text}"
    arguments = {"output": settings.output, "graph": sha256_file(path)[:16] if path.is_file() else ""}
    return Backbone(
        name=name,
        architecture=name,
        family="own",
        source="file",
        module=str(path),
        constructor=path.name,
        arguments={key: value for key, value in arguments.items() if value},
        preprocessing=settings.preprocessing,
        default_size=size,
        min_size=1,
        embedding_dim=facts["embedding_dim"],
        params=facts["params"],
        flops=round(facts["flops"] * (_SIZE / size) ** 2),
        build=functools.partial(FileNetwork, path, settings),
        preprocess=settings.preprocessing.apply,
        weights=WeightsSource(kind=WeightsKind.FILE, path=_weights(path)),
        fixed_size=fixed,
        variables=facts["variables"],
        pretraining=settings.pretraining,
        licence=settings.licence,
        year=settings.year,
    )


def _weights(path: Path) -> Path:
    if path.is_dir():
        return path / "model.keras"
    return path.with_suffix(".bin") if path.suffix == ".xml" else path


def _stamp(path: Path) -> str:
    """Changes when a file of a network does.

    Raises:
        ArgumentError: one of them is not there.
        OSError: one of them cannot be read.
        WeightsError: see ``external_files``.
    """
    states = []
    for file in dict.fromkeys((path, _weights(path), *external_files(_weights(path)))):
        try:
            state = file.stat()
        except FileNotFoundError as error:
            raise ArgumentError(
                "its weights are not beside it",
                where=path,
                expected=file,
                next_step=f"Copy {file.name} there, too; the network is in both files.",
            ) from error
        states.append(f"{state.st_ino}:{state.st_size}:{state.st_mtime_ns}")
    return " ".join(states)


@functools.lru_cache(maxsize=64)
def _facts(path: Path, settings: _Settings, stamp: str) -> tuple[int, bool, dict[str, int]]:
    """Input side, whether it takes no other, and what is counted on its graph."""
    with TemporaryDirectory() as folder:
        raw = _raw(path, settings, settings.size, Path(folder))
        shape = raw.inputs[0].partial_shape
        sides = {dim.get_length() for dim in shape if dim.is_static} - {1, 3}
        size = settings.size or (max(sides) if sides else _SIZE)
        output = settings.output if path.suffix in _GRAPHS else ""
        params = graph_params(raw)
        graph = embedding_graph(raw, settings.preprocessing, size, output=output, where=path)
        graph.reshape([1, size, size, 3])
        facts = {
            "embedding_dim": graph.outputs[0].partial_shape[1].get_length(),
            "params": params,
            "flops": graph_flops(graph),
            "variables": sum(op.get_type_name() == "Constant" for op in graph.get_ops()),
        }
    return size, bool(sides or settings.size), facts


def _raw(path: Path, settings: _Settings, size: int | None, folder: Path) -> OpenVINOModel:
    """The network as it is, pixels as it expects them -> features."""
    if path.suffix in _GRAPHS:
        return _read(path)
    import openvino

    from benchmark.backbones.frozen_graph import freeze

    model = _features(path, settings, load_keras_model(_weights(path)))
    graph = folder / "graph.pb"
    graph.write_bytes(freeze(lambda pixels: pixels, model).SerializeToString())
    found = openvino.Core().read_model(graph)
    found.inputs[0].get_node().set_element_type(openvino.Type.f32)
    found.validate_nodes_and_infer_types()
    return found


def _read(path: Path) -> OpenVINOModel:
    import openvino

    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise _unusable(path, str(error)) from error


def _features(path: Path, settings: _Settings, model: Any) -> Any:  # noqa: ANN401 - a Keras model
    """A Keras model up to the layer that was asked for, or to the head of a model directory."""
    import keras

    names = {layer.name for layer in model.layers}
    if path.is_dir():
        head = next((name for name in _HEAD if name in names), None)
        if head is None:
            raise _unusable(path, "no layer called dropout, hidden or logits")
        return keras.Model(model.inputs, model.get_layer(head).input)
    if settings.output:
        if settings.output not in names:
            raise _unusable(path, f"no layer called {settings.output}")
        return keras.Model(model.inputs, model.get_layer(settings.output).output)
    return model


def _unusable(path: Path, got: str) -> WeightsError:
    return WeightsError(
        "not a network that can be read",
        where=path,
        expected="an ONNX file, an OpenVINO .xml with its .bin, a .tflite, a .keras, or a model directory",
        got=got.strip().splitlines()[-1][:200],
    )


# What the user says --------------------------------------------------------------------------------


def _settings(path: Path, query: str) -> _Settings:
    where = f"{_PREFIX}{path.name}"
    said = _said(query, where)
    if path.is_dir():
        if not _weights(path).is_file():
            raise _unusable(path, "no model.keras in it")
        given, known = said, set(_FACTS)
    else:
        given, known = _overridden(_beside(path), said), _KEYS
    unknown = set(given) - known
    if unknown:
        own = "; a model directory itself says what its network expects" if known < _KEYS else ""
        raise ArgumentError(
            f"unknown setting {sorted(unknown)[0]!r}", where=where, expected=", ".join(sorted(known)) + own
        )
    try:
        size = int(given["size"]) if "size" in given else None
        if size is not None and size < 1:
            raise ValueError(f"size={size}")
        return _Settings(
            # What a model directory does with pixels stands inside.
            preprocessing=Preprocessing() if path.is_dir() else _preprocessing(given, where),
            size=size,
            output=given.get("output", ""),
            pretraining=given.get("pretraining", ""),
            licence=given.get("licence", ""),
            year=int(given["year"]) if "year" in given else None,
        )
    except ValueError as error:
        raise ArgumentError("cannot be understood", where=where, expected=_EXPECTED, got=error) from error


def _said(query: str, where: str) -> dict[str, str]:
    """The settings behind a name."""
    said: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name in said:
            raise ArgumentError(f"{name!r} stands twice", where=where, got=query)
        said[name] = value
    _check_one_kind(said, where)
    return said


def _overridden(beside: Mapping[str, str], said: Mapping[str, str]) -> dict[str, str]:
    """The settings beside a network, under those behind its name: the latter decide.

    Where they say in another way what the network expects, nothing of the former way stays.
    """
    if "preprocessing" in said:
        replaced = {*_NUMBERS, "bgr"}
    elif _NUMBERS & said.keys() and "preprocessing" in beside:
        replaced = {"preprocessing", "bgr"}
    else:
        replaced = set()
    return {name: value for name, value in beside.items() if name not in replaced} | dict(said)


def _check_one_kind(given: Mapping[str, str], where: object) -> None:
    """Raise ArgumentError where both kinds stand in one place."""
    if "preprocessing" in given and _NUMBERS & given.keys():
        raise ArgumentError(
            "says twice what the network expects of its input",
            where=where,
            expected="either preprocessing, or mean and std",
            got=", ".join(f"{name}={given[name]}" for name in given),
        )


def _preprocessing(given: Mapping[str, str], where: str) -> Preprocessing:
    own: dict[str, Any] = {name: given[name] for name in ("interpolation", "fit") if name in given}
    if "crop" in given:
        own["crop"] = float(given["crop"])
    for name, known in _WAYS.items():
        if own.get(name, known[0]) not in known:
            raise ValueError(f"{name}={own[name]}, none of {', '.join(known)}")
    if own and "interpolation" not in own:
        raise ValueError(f"{', '.join(own)} without interpolation")
    if "bgr" in given:
        own["bgr"] = _switch("bgr", given["bgr"])
    if "preprocessing" in given:
        return replace(Preprocessing.parse(given["preprocessing"]), **own)
    if not given.keys() >= _NUMBERS:
        raise ArgumentError(
            "does not say what the network expects of its input",
            where=where,
            expected=_EXPECTED,
            next_step=f"Put it behind the name, or into a TOML file beside it: {Path(where).stem}.toml.",
        )
    return Preprocessing.of_unit(_channels(given["mean"]), _channels(given["std"]), **own)


def _switch(name: str, text: str) -> bool:
    values = {"1": True, "true": True, "0": False, "false": False}
    if text.lower() not in values:
        raise ValueError(f"{name}={text}, neither 1 nor 0")
    return values[text.lower()]


def _channels(text: str) -> list[float]:
    values = [float(one) for one in text.split(",")]
    return values * 3 if len(values) == 1 else values


def _beside(path: Path) -> dict[str, str]:
    """The settings of the TOML file beside a network; none where there is no such file."""
    file = path.with_suffix(".toml")
    try:
        content = tomllib.loads(read_small(file).decode())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArgumentError("cannot be read", where=file, got=error) from error
    given = {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in content.items()
    }
    _check_one_kind(given, file)
    return given


SOURCE = FileSource()
