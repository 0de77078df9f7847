"""The values that pass between packages: frozen, without I/O, without TensorFlow.

Arrays inside records are shared, not copied: treat them as read-only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from benchmark.memory import PackedStrings

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_MARGIN = 0.02  # F1 that a user gives away for a smaller model
MAX_PIXELS = 50_000_000  # of an image, before it is decoded
FLOPS_SIZE = 224  # side in pixels at which floating-point operations are counted

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]


class Task(StrEnum):
    """What a label is."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"


class Status(StrEnum):
    """What became of a backbone in a run."""

    SCORED = "scored"
    PRUNED = "pruned"
    SKIPPED = "skipped"
    FAILED = "failed"


class Resize(StrEnum):
    """How an image gets its input size."""

    BILINEAR = "bilinear"
    AREA = "area"
    NATIVE = "native"  # as the source of the backbone does it: its interpolation and crop


class Engine(StrEnum):
    """What executes a frozen backbone. A parameter of type ``Engine | None`` reads None as "auto"."""

    TENSORFLOW = "tensorflow"
    OPENVINO = "openvino"
    TORCH = "torch"


class Precision(StrEnum):
    """The arithmetic of an engine. A parameter of type ``Precision | None`` reads None as "auto"."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What becomes of an image before a network sees it: ``(x - mean) / scale``, channel by channel.

    Attributes:
        mean: of red, green and blue, of pixels 0..255.
        scale: of red, green and blue, of pixels 0..255.
        bgr: the network takes blue, green, red.
        interpolation: ``bilinear`` or ``bicubic``, of the source's own way to the input size, which
            ``resize=native`` takes: antialiased, as Pillow and torchvision resize. Empty where there is none.
        crop: share of the resized picture's side that is kept there.
        fit: ``squash`` changes the aspect ratio; ``center`` keeps it and cuts off what hangs over; ``border``
            keeps it and fills up with the mean.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False
    interpolation: str = ""
    crop: float = 1.0
    fit: str = "squash"

    def __post_init__(self) -> None:
        if not np.isfinite((*self.mean, *self.scale, self.crop)).all() or 0 in self.scale or self.crop <= 0:
            raise ValueError(f"no preprocessing: mean {self.mean}, scale {self.scale}, crop {self.crop}")

    @classmethod
    def parse(cls, text: object) -> Preprocessing:
        """Read what ``str`` gives: ``identity``, ``tf``, ``caffe``, ``torch``, or the numbers.

        Raises:
            ValueError: none of these.
        """
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no preprocessing")
        if text in _ARITHMETIC:
            return _ARITHMETIC[text]
        fields = dict(part.partition("=")[::2] for part in text.split(";"))
        if not {"mean", "scale"} <= set(fields) <= {"mean", "scale", "bgr"}:
            raise ValueError(f"{text!r} is no preprocessing")
        return cls(mean=_triple(fields["mean"]), scale=_triple(fields["scale"]), bgr="bgr" in fields)

    @classmethod
    def of_unit(cls, mean: Sequence[float], std: Sequence[float], **own: Any) -> Preprocessing:  # noqa: ANN401
        """From mean and standard deviation of pixels 0..1, as PyTorch's libraries give them."""
        return cls(
            mean=_triple([255 * one for one in mean]), scale=_triple([255 * one for one in std]), **own
        )

    def __str__(self) -> str:
        """The arithmetic: its name, else its numbers. How images get their size is not in it."""
        for name, known in _ARITHMETIC.items():
            if (known.mean, known.scale, known.bgr) == (self.mean, self.scale, self.bgr):
                return name
        mean, scale = (",".join(f"{one:.9g}" for one in values) for values in (self.mean, self.scale))
        return f"mean={mean};scale={scale}" + (";bgr=1" if self.bgr else "")

    @property
    def native(self) -> str:
        """How the source itself brings images to the input size, for example ``bicubic-center-0.875``."""
        if not self.interpolation:
            return Resize.BILINEAR
        around = [f"{mean:.0f}" for mean in self.mean] if self.fit == "border" else []
        return "-".join([self.interpolation, self.fit, f"{self.crop:g}", *around])

    def apply(self, pixels: npt.NDArray[Any]) -> Float32:
        """The arithmetic on pixels (..., 3), RGB 0..255 -> float32 (..., 3) as the network expects it."""
        ready: Float32 = self.on_tensor(pixels.astype(np.float32))
        return ready

    def on_tensor(self, pixels: Any) -> Any:  # noqa: ANN401 - a tensor of any library
        """The same arithmetic on a float tensor (..., 3)."""
        mean, scale = (np.asarray(values, np.float32) for values in (self.mean, self.scale))
        ready = (pixels - mean) / scale
        return ready[..., ::-1] if self.bgr else ready

    def affine(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Factor and offset of each channel: ``x * factor + offset``."""
        return (
            tuple(1 / scale for scale in self.scale),
            tuple(-mean / scale for mean, scale in zip(self.mean, self.scale, strict=True)),
        )


def _triple(values: str | Sequence[float]) -> tuple[float, float, float]:
    numbers = [float(one) for one in (values.split(",") if isinstance(values, str) else values)]
    first, second, third = (round(one, 6) for one in numbers)
    return first, second, third


# What the networks of tf.keras.applications expect. Most of PyTorch's expect ``torch``.
_ARITHMETIC = {
    "identity": Preprocessing(),
    "tf": Preprocessing(mean=(127.5,) * 3, scale=(127.5,) * 3),
    "caffe": Preprocessing(mean=(123.68, 116.779, 103.939), bgr=True),
    "torch": Preprocessing.of_unit((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class Average(StrEnum):
    """How F1 is averaged over classes; BINARY looks at the positive class alone."""

    BINARY = "binary"
    MACRO = "macro"
    MICRO = "micro"
    WEIGHTED = "weighted"


class ProtocolName(StrEnum):
    """How heads are trained and validated."""

    CV = "cv"
    HOLDOUT = "holdout"
    REFERENCE = "reference"


class Layout(StrEnum):
    """What the top-level folders of a data folder may be."""

    AUTO = "auto"
    CLASSES = "classes"


class Search(StrEnum):
    """How much of the board is computed."""

    EXHAUSTIVE = "exhaustive"
    HALVING = "halving"


class WeightsKind(StrEnum):
    """Where a backbone's weights come from."""

    IMAGENET = "imagenet"
    RANDOM = "random"
    DIRECTORY = "directory"
    FILE = "file"


class ThresholdKind(StrEnum):
    """How the decision threshold of a sigmoid head is found."""

    FIXED = "fixed"
    TUNED = "tuned"
    RECALL = "recall"
    PRECISION = "precision"


class AbstentionKind(StrEnum):
    """What an abstention is to reach."""

    NONE = "none"
    ERROR = "error"
    COVERAGE = "coverage"


_REACHING = {ThresholdKind.RECALL, ThresholdKind.PRECISION}


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdRule:
    """A decision threshold rule.

    Attributes:
        kind: fixed value, tuned for F1, the largest threshold that reaches a wanted recall, or the smallest
            that reaches a wanted precision.
        value: the threshold (FIXED), the wanted recall or precision; unused when TUNED.
    """

    kind: ThresholdKind = ThresholdKind.FIXED
    value: float = 0.5

    @classmethod
    def parse(cls, text: str) -> ThresholdRule:
        """Read ``0.5``, ``tuned``, ``recall=0.99`` or ``precision=0.95``.

        Raises:
            ValueError: none of these, or a number that is not in (0, 1].
        """
        if text == ThresholdKind.TUNED:
            return cls(kind=ThresholdKind.TUNED)
        name, found, number = text.partition("=")
        kind = ThresholdKind(name) if found else ThresholdKind.FIXED
        value = float(number if found else text)
        if not 0 < value <= 1 or (found and kind not in _REACHING):
            raise ValueError(f"{value} is not in (0, 1]")
        return cls(kind=kind, value=value)

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        if self.kind is ThresholdKind.TUNED:
            return self.kind.value
        return f"{self.kind}={self.value}" if self.kind in _REACHING else str(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstentionRule:
    """When a model says "unsure" instead of giving an answer.

    Attributes:
        kind: never, for a wanted share of wrong answers, or for a wanted share of answers.
        value: that share; unused for NONE.
    """

    kind: AbstentionKind = AbstentionKind.ERROR
    value: float = 0.05

    @classmethod
    def parse(cls, text: str) -> AbstentionRule:
        """Read ``none``, ``error=0.05`` or ``coverage=0.9``.

        Raises:
            ValueError: none of these, or a number that is not between 0 and 1.
        """
        name, _, number = text.partition("=")
        kind = AbstentionKind(name)
        if kind is AbstentionKind.NONE:
            if number:
                raise ValueError("none takes no number")
            return cls(kind=kind, value=0.0)
        value = float(number)
        if not 0 < value < 1:
            raise ValueError(f"{value} is not between 0 and 1")
        return cls(kind=kind, value=value)

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        return self.kind.value if self.kind is AbstentionKind.NONE else f"{self.kind}={self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An image file that was left out.

    Attributes:
        path: as found, relative to the data folder where possible.
        reason: one clause.
        labels: the classes that it was listed under; empty where that is not known.
    """

    path: str
    reason: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Row positions of an ImageSet, sorted, disjoint, complete.

    Attributes:
        train: int64 (n_train,).
        val: int64 (n_val,).
        test: int64 (n_test,); empty when the user gave train and val only.
        given: True when the user gave the parts (folders or a CSV column).
        val_drawn: True when val was drawn by us: always when nothing was given, from train when the user gave
            train and test only.
    """

    train: Int64
    val: Int64
    test: Int64
    given: bool
    val_drawn: bool = False

    def part_numbers(self, count: int) -> Int64:
        """The part of each of N rows, int64 (N,): 0 train, 1 val, 2 test."""
        parts = np.zeros(count, np.int64)
        parts[self.val], parts[self.test] = 1, 2
        return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Labelled images, one row per distinct image, sorted by image id.

    Attributes:
        name: the data set's name, used for ``results/<name>``.
        root: absolute folder that ``paths`` are relative to.
        paths: N relative paths (POSIX, surrogate-escaped where not UTF-8); one per distinct image.
        image_ids: N hexadecimal SHA-256 digests of the file bytes, ascending; packed, like the paths.
        targets: int64 (N,) class positions; for MULTILABEL int64 (N, C) of 0 and 1.
        classes: C class names, ascending.
        task: binary, multiclass or multilabel.
        positive: position of the positive class for BINARY, else None.
        groups: int64 (N,) group numbers, or None when every image stands alone.
        split: the parts.
        rejected: files left out, with reasons.
        duplicates: (kept path, duplicate path) pairs of byte-identical files with one label.
        crossings: the pairs among those whose files the user gave to different parts, each path followed by
            its part's name: (kept path, part, duplicate path, part). The first part of train, val, test keeps
            the image. A file that is listed in two parts stands here with itself.
        files: distinct files that were found, those left out included; 0 where that is not known.
        notes: facts about how the data was read, one line per kind.
        bit_depth: 12 or 16: bits that the greys of 16-bit files are read with.
    """

    name: str
    root: Path
    paths: Sequence[str]
    image_ids: Sequence[str]
    targets: Int64
    classes: tuple[str, ...]
    task: Task
    positive: int | None
    groups: Int64 | None
    split: Split
    rejected: tuple[Rejected, ...] = ()
    duplicates: tuple[tuple[str, str], ...] = ()
    crossings: tuple[tuple[str, str, str, str], ...] = ()
    files: int = 0
    notes: tuple[str, ...] = ()
    bit_depth: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", PackedStrings.of(self.paths))
        object.__setattr__(self, "image_ids", PackedStrings.of(self.image_ids))

    def __len__(self) -> int:
        return len(self.image_ids)

    def fingerprint(self) -> str:
        """SHA-256 over everything that decides a score: ids, labels, classes, groups, parts.

        File names, folder order and the data set's location do not enter.
        """
        digest = hashlib.sha256()
        header = {
            "classes": self.classes,
            "task": self.task,
            "positive": self.positive,
            "given": self.split.given,
            # Absent where it is the usual one, so that older fingerprints stay what they are.
            **({} if self.bit_depth == 16 else {"bit_depth": self.bit_depth}),
        }
        digest.update(json.dumps(header, sort_keys=True).encode())
        digest.update(PackedStrings.of(self.image_ids).letters)
        groups = np.arange(len(self), dtype=np.int64) if self.groups is None else self.groups
        for array in (self.targets, groups, self.split.train, self.split.val, self.split.test):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes() + b"|")
        return digest.hexdigest()

    def head_targets(self) -> Float32:
        """Targets as a head sees them.

        Returns:
            float32 (N, 1) for BINARY (1 = positive class), one-hot float32 (N, C) for MULTICLASS,
            float32 (N, C) for MULTILABEL.
        """
        if self.task is Task.MULTILABEL:
            return self.targets.astype(np.float32)
        if self.task is Task.BINARY:
            return np.asarray(self.targets == self.positive, np.float32)[:, None]
        one_hot: Float32 = np.eye(len(self.classes), dtype=np.float32)[self.targets]
        return one_hot

    def class_sizes(self, rows: Int64 | None = None) -> dict[str, int]:
        """Number of images per class, in class order; of some rows, where they are given."""
        targets = self.targets if rows is None else self.targets[rows]
        if self.task is Task.MULTILABEL:
            counts = targets.sum(0)
        else:
            counts = np.bincount(targets, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def label_of(self, row: int) -> str:
        """The class name of a row; several joined by ``;`` for MULTILABEL."""
        if self.task is Task.MULTILABEL:
            return ";".join(self.classes[position] for position in np.flatnonzero(self.targets[row]))
        return self.classes[int(self.targets[row])]

    def part_names(self) -> list[str]:
        """Train, val or test for each row."""
        parts = [""] * len(self)
        for name in ("train", "val", "test"):
            for row in getattr(self.split, name).tolist():
                parts[row] = name
        return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSource:
    """Where weights come from, before they are loaded.

    Attributes:
        kind: imagenet, random, a directory of ``<backbone>.weights.h5``, or one file.
        path: the directory or file; None for imagenet and random.
        seed: of random weights.
    """

    kind: WeightsKind
    path: Path | None = None
    seed: int = 0

    def __str__(self) -> str:
        """The text of the ``weights`` column: ``imagenet``, ``random``, or the path."""
        return str(self.path) if self.path is not None else self.kind.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """A pretrained network without its classification top, pooled to one vector per image.

    Everything but ``build`` and ``preprocess`` is known without importing TensorFlow.

    Attributes:
        name: as on the board, for example ``MobileNetV3Small_0.75`` or ``ResNet50@random``.
        architecture: the name without an ``@`` weights suffix; names the weights file.
        family: the submodule, for example ``mobilenet_v3``.
        source: where backbones come from: ``keras``, ``timm``, ``tf_keras``, ``file`` or a plug-in.
        module: the module whose ``preprocess_input`` belongs to the constructor.
        constructor: for example ``MobileNetV3Small``.
        arguments: non-default constructor arguments, for example ``{"alpha": 0.75}``.
        preprocessing: what it expects of its input.
        default_size: native input side in pixels.
        min_size: smallest input side in pixels that the constructor accepts.
        embedding_dim: length D of the pooled vector.
        params: number of parameters without the top.
        flops: floating-point operations for one image at 224 (multiply and add count as two).
        build: ``build(input_size)`` -> the network of its library, untrained, pooled, (S, S, 3) -> (D,).
            Picklable.
        preprocess: of a Keras network: float array or tensor of RGB 0..255 -> what the network expects.
            Never changes its input.
        weights: weights given with the name after ``@``, overriding the run's; None where not given.
        fixed_size: it takes images of ``default_size`` only.
        variables: arrays of weights, by which the time of a conversion is estimated.
        year: that its design was published; None where unknown.
        pretraining: data that its published weights were trained on; empty where unknown.
        licence: of its published weights; empty where unknown.
    """

    name: str
    architecture: str
    family: str
    source: str
    module: str
    constructor: str
    arguments: Mapping[str, Any]
    preprocessing: Preprocessing
    default_size: int
    min_size: int
    embedding_dim: int
    params: int
    flops: int
    build: Callable[[int], Any] = field(repr=False)
    preprocess: Callable[[Any], Any] = field(repr=False)
    weights: WeightsSource | None = None
    fixed_size: bool = False
    variables: int = 200
    year: int | None = None
    pretraining: str = ""
    licence: str = ""

    @property
    def float32_bytes(self) -> int:
        """Size of the parameters in float32."""
        return 4 * self.params

    def flops_at(self, input_size: int) -> int:
        """Floating-point operations per image at an input size: convolutions grow with the area."""
        return round(self.flops * (input_size / FLOPS_SIZE) ** 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingKey:
    """Everything that changes a vector. Two equal keys mean interchangeable embeddings.

    Attributes:
        backbone: architecture name.
        arguments: non-default constructor arguments as sorted (name, JSON text) pairs.
        weights_sha256: SHA-256 over variable paths, shapes and values of the weights really loaded.
        input_size: side in pixels.
        decoder: a digest of what the decoder makes of fixed pictures, ``pixels-62d4aab0c1f3e9d7``.
        resize: how images get that size: ``bilinear``, ``area``, or a source's own way.
        preprocessing: text of the preprocessing.
        pooling: ``avg``.
        engine: what executed the backbone.
        precision: resolved arithmetic.
        keras_version: of the source's library: ``3.15.1`` is Keras's, others have a name, ``timm-1.0.31``.
        schema: version of the cache format.
        engine_version: for example ``2026.4.0``; empty in keys of earlier versions of this program.
        instructions: what of the processor's instruction set engines choose their arithmetic by, or the name
            of the GPU; empty in keys of earlier versions of this program.
    """

    backbone: str
    arguments: tuple[tuple[str, str], ...]
    weights_sha256: str
    input_size: int
    decoder: str
    resize: str
    preprocessing: str
    pooling: str
    engine: Engine
    precision: Precision
    keras_version: str
    schema: int = 1
    engine_version: str = ""
    instructions: str = ""

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, one field a line; what earlier versions lacked, only where filled."""
        later = {"engine_version", "instructions"}
        filled = {name: value for name, value in asdict(self).items() if value or name not in later}
        return json.dumps(filled, sort_keys=True, indent=1)

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Vectors of one backbone.

    Attributes:
        image_ids: N hexadecimal image ids.
        features: float32 (N, D); row i belongs to ``image_ids[i]``.
    """

    image_ids: Sequence[str]
    features: Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadProtocol:
    """How heads are trained, validated and scored.

    Attributes:
        name: cv (default), holdout (default when the user gave the parts), reference.
        dropout: rate on the embedding before the dense layer.
        epochs: heads are scored after each, for the curve; the reference protocol keeps the best, the others
            the last.
        updates: fewest updates of a head: where that many batches are not in all epochs, an epoch is several
            passes over the images. Without influence on the reference protocol.
        batch_size: images per update.
        learning_rates: grid of Adam learning rates, which fall to 0; the last is taken unless another is
            clearly better. The reference protocol has its own, which does not fall.
        weight_decays: grid of L2 penalties (a half of each times the squared kernel joins the loss, summed
            over images: scikit-learn's 1 / C); the last is preferred as well, so the grid closes in on it
            from both sides.
        folds: cross-validation folds.
        repeats: cross-validation repeats.
        threshold: decision rule of sigmoid heads.
        average: F1 average; None means BINARY for two classes, MACRO for more and for multi-label.
        balanced: weight classes by inverse frequency.
        seed: of folds, initial weights, batches and dropout.
    """

    name: ProtocolName = ProtocolName.CV
    dropout: float = 0.2
    epochs: int = 20
    updates: int = 400
    batch_size: int = 32
    learning_rates: tuple[float, ...] = (3e-2,)
    weight_decays: tuple[float, ...] = (1200.0, 0.04, 400.0, 0.12, 120.0, 0.4, 40.0, 1.2, 12.0, 4.0)
    folds: int = 5
    repeats: int = 3
    threshold: ThresholdRule = ThresholdRule()
    average: Average | None = None
    balanced: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Probabilities of one backbone's heads on images that did not train them.

    For BINARY the last axis has length 1: the probability of the positive class.

    Attributes:
        val_rows: int64 (V,) positions in the ImageSet of the validated images, ascending.
        val: float32 (R, V, C) out-of-fold probabilities of R repeats (R = 1 for holdout and reference).
        val_thresholds: float64 (R, V) threshold that applies to each probability (chosen in its own fold).
        test_rows: int64 (T,) positions of the test images; empty when there is no test part.
        test: float32 (T, C), scored once by a head trained on train + val.
        test_threshold: threshold for the test part, chosen on train + val.
        val_smaller: float32 (R, V, C) as ``val``, of heads trained on only a part of each fold's training
            images (those that did not choose); None where there are none (reference protocol).
        train_sizes: mean images that trained the heads of ``val_smaller`` and of ``val``, and all images that
            train the final head; None where there are no smaller heads.
    """

    val_rows: Int64
    val: Float32
    val_thresholds: Float64
    test_rows: Int64
    test: Float32
    test_threshold: float
    val_smaller: Float32 | None = None
    train_sizes: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneFacts:
    """What is known of a backbone in a run, whatever became of it.

    Attributes:
        backbone: name on the board.
        family: family name.
        source: where it comes from.
        params: of the backbone without its top.
        head_params: of the head.
        embedding_dim: D.
        input_size: side in pixels.
        flops: per image at ``input_size``; 0 when unknown.
        weights: text of the weights source.
        weights_sha256: of the weights really loaded; empty when none were.
        engine: engine used; None when nothing ran.
        precision: arithmetic used; None when nothing ran.
        key_digest: digest of the EmbeddingKey; empty when nothing ran.
        images_per_second: embeddings of one core of this machine (or of its GPU); nan when unknown.
        latency_ms: p50 of a single image there; nan when unknown.
        latency_p95_ms: p95 of a single image there; nan when unknown.
        embed_seconds: what one core takes for the images of this board, start-up apart; nan when unknown.
        head_seconds: time spent on heads.
        images_embedded: images that were run through the backbone for this board.
        notes: remarks for the reader (fallbacks, retries).
        agreement: lowest cosine with its own library in float32, over the images compared; nan when unknown.
        year: that its design was published; None when unknown.
        pretraining: data that its published weights were trained on; empty when unknown or not those.
        licence: of its published weights; empty when unknown or not those.
        noisy: whether those timings differed too much to be relied on, also when repeated.
    """

    backbone: str
    family: str
    source: str
    params: int = 0
    head_params: int = 0
    embedding_dim: int = 0
    input_size: int = 0
    flops: int = 0
    weights: str = ""
    weights_sha256: str = ""
    engine: Engine | None = None
    precision: Precision | None = None
    key_digest: str = ""
    images_per_second: float = float("nan")
    latency_ms: float = float("nan")
    latency_p95_ms: float = float("nan")
    embed_seconds: float = float("nan")
    head_seconds: float = 0.0
    images_embedded: int = 0
    notes: tuple[str, ...] = ()
    agreement: float = float("nan")
    year: int | None = None
    pretraining: str = ""
    licence: str = ""
    noisy: bool = False

    @property
    def size_bytes(self) -> int:
        """What is deployed: float32 bytes of backbone and head."""
        return 4 * (self.params + self.head_params)

    def facts(self) -> dict[str, Any]:
        """These fields by name, to make another outcome of the same backbone."""
        return {one.name: getattr(self, one.name) for one in fields(BackboneFacts)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(BackboneFacts):
    """A backbone whose heads were trained and scored.

    Attributes:
        predictions: of its heads.
        val_history: float32 (E,) mean validation F1 after each epoch.
        chosen: what the protocol chose (epoch, learning rate, weight decay, ...), for the report.
        baselines: transferability estimates on the same embeddings, by name (knn, logme, h_score).
    """

    status: ClassVar[Status] = Status.SCORED
    predictions: Predictions
    val_history: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))
    chosen: Mapping[str, Any] = field(default_factory=dict)
    baselines: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned(BackboneFacts):
    """A backbone that a search dropped, with the reason in one clause."""

    status: ClassVar[Status] = Status.PRUNED
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(BackboneFacts):
    """A backbone that was not to run (too large, too slow), with the reason in one clause."""

    status: ClassVar[Status] = Status.SKIPPED
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(BackboneFacts):
    """A backbone that could not run, with the reason in one clause."""

    status: ClassVar[Status] = Status.FAILED
    reason: str


Outcome = Scored | Pruned | Skipped | Failed
"""What became of one backbone in a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What outcomes are scored against: the label side of an ImageSet.

    Attributes:
        targets: float32 (N, C) as ``ImageSet.head_targets`` gives them.
        classes: class names.
        task: binary, multiclass or multilabel.
        positive: position of the positive class for BINARY, else None.
        groups: int64 (N,), or None when every image stands alone.
    """

    targets: Float32
    classes: tuple[str, ...]
    task: Task
    positive: int | None = None
    groups: Int64 | None = None

    @classmethod
    def of(cls, images: ImageSet) -> Targets:
        """The targets of an ImageSet."""
        groups = images.groups
        # Images in groups of their own have the fingerprint of images without groups: they get the same
        # folds, too, or what is stored of the ones would be taken for what the others learn.
        alone = groups is None or len(np.unique(groups)) == len(groups)
        return cls(
            targets=images.head_targets(),
            classes=images.classes,
            task=images.task,
            positive=images.positive,
            groups=None if alone else groups,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """A ranked board: a value, computed from outcomes alone.

    Attributes:
        columns: column names, the contract's first, extra ones after.
        rows: one mapping per backbone, in rank order; not-scored backbones come last and have no rank.
        winner: name of the picked backbone; None when nothing was scored or scores are at chance.
        loss_bound: upper 95 % bound of the score that the winner may give away; nan without a winner.
        statements: what the data can and cannot tell, in whole sentences.
        notes: warnings a reader must see first (random weights, tiny sample, chance-level scores).
        summary: one line on what was read: images, classes, parts, files left out.
        metric: what it is ranked by: ``val_<metric>`` decides.
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    winner: str | None
    loss_bound: float
    statements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    summary: str = ""
    metric: str = "f1"

    @property
    def frame(self) -> pd.DataFrame:
        """The board as a pandas DataFrame, one row per backbone, in rank order."""
        import pandas as pd

        return pd.DataFrame([dict(row) for row in self.rows], columns=list(self.columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a fine-tuned model is, beside the model: all that a deployment needs.

    Attributes:
        schema: version of this format.
        backbone: architecture name.
        family: family name.
        recipe: name of the fine-tuning recipe.
        task: binary, multiclass or multilabel.
        classes: class names, in the order of the model's outputs (BINARY: one output, the positive class).
        positive: position of the positive class for BINARY, else None.
        threshold: decision threshold of sigmoid outputs.
        input_size: side in pixels; the model takes RGB 0..255 of (size, size, 3), uint8 or float.
        resize: how images get that size.
        preprocessing: text of the preprocessing that stands inside the model.
        weights: text of the weights source that fine-tuning started from.
        weights_sha256: of the backbone weights that fine-tuning started from.
        data: absolute folder or CSV that it was trained on, as given.
        data_fingerprint: ``ImageSet.fingerprint()`` of that data.
        seed: of the run.
        metrics: part name (val, test) -> metric name -> value of the kept model.
        versions: package name -> version.
        files: file name -> SHA-256 of the model files beside the manifest.
        average: of F1, precision and recall in ``metrics``; None in a manifest that does not say it, where it
            was the task's default.
        bit_depth: 12 or 16: bits that the greys of 16-bit files were read with.
        temperature: that the logits were divided by; it stands inside the model already.
        sure_from: an answer of a lower probability is unsure; 0 where every answer is given.
        unlike_from: a picture further from the training images is unlike them; None where that is not known.
    """

    schema: int
    backbone: str
    family: str
    recipe: str
    task: Task
    classes: tuple[str, ...]
    positive: int | None
    threshold: float
    input_size: int
    resize: Resize
    preprocessing: str
    weights: str
    weights_sha256: str
    data: str
    data_fingerprint: str
    seed: int
    metrics: Mapping[str, Mapping[str, float]]
    versions: Mapping[str, str]
    files: Mapping[str, str]
    average: Average | None = None
    bit_depth: int = 16
    temperature: float = 1.0
    sure_from: float = 0.0
    unlike_from: float | None = None


class Observer(Protocol):
    """Watches long work. Calls come from one thread; an observer must not raise."""

    def started(self, task: str, total: int) -> None:
        """A task of ``total`` units begins (total 0: unknown)."""

    def advanced(self, task: str, done: int, note: str = "") -> None:
        """``done`` units of the task are finished, counted from its start."""

    def finished(self, task: str, note: str = "") -> None:
        """The task ended."""

    def message(self, text: str) -> None:
        """Something a user should read now."""


class Silent:
    """An observer that says nothing."""

    def started(self, task: str, total: int) -> None:
        """Ignore."""

    def advanced(self, task: str, done: int, note: str = "") -> None:
        """Ignore."""

    def finished(self, task: str, note: str = "") -> None:
        """Ignore."""

    def message(self, text: str) -> None:
        """Ignore."""
