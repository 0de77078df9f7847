"""The command line's grammar. Nothing here imports TensorFlow, pandas or matplotlib."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from benchmark.data import DataOptions, Layout
from benchmark.errors import ArgumentError
from benchmark.records import (
    Average,
    Engine,
    HeadProtocol,
    Precision,
    ProtocolName,
    Resize,
    ThresholdKind,
    ThresholdRule,
)

_AUTO, _NONE = "auto", "none"
_BINARY_AVERAGE = [Average.MACRO, Average.MICRO, Average.WEIGHTED]


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are ours: one message, exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage and leaving."""
        raise ArgumentError(message, next_step=f"See '{self.prog} --help'.")


def add_rank_data(parser: argparse.ArgumentParser) -> None:
    """DATA, or a stored run instead of everything."""
    add_data(parser, optional=True)
    parser.add_argument("--from", dest="from_run", type=Path, metavar="RUN_JSON", help="repeat a stored run")


def add_data(parser: argparse.ArgumentParser, *, optional: bool = False, split: bool = True) -> None:
    """DATA and how it is read; ``split`` says whether it is divided for training."""
    parser.add_argument(
        "data",
        nargs="?" if optional else None,
        type=Path,
        metavar="DATA",
        help="folder of labelled images, or a CSV with path,label[,split][,group]",
    )
    group = parser.add_argument_group("data")
    if split:
        _add_splitting(group)
    else:
        parser.set_defaults(positive=None, groups=None, bit_depth=None)
    group.add_argument("--strict", action="store_true", help="a file that cannot be decoded ends the run")
    group.add_argument("--follow-links", action="store_true", help="allow links that leave DATA")
    group.add_argument(
        "--max-pixels",
        type=positive_int,
        default=50_000_000,
        metavar="N",
        help="refuse larger images (default 50,000,000)",
    )
    group.add_argument(
        "--layout",
        choices=[layout.value for layout in Layout],
        default=Layout.AUTO.value,
        help="classes: every folder in DATA is a class, whatever it is called",
    )
    group.add_argument("--limit", type=positive_int, metavar="N", help="use N images, stratified")
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        help=f"of {'splits, folds, heads and random weights' if split else '--limit'} (default 0)",
    )


def _add_splitting(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--positive",
        metavar="CLASS",
        help="positive class of two (default: the one named like positive/defect/crack, else the second)",
    )
    group.add_argument(
        "--groups",
        metavar="COLUMN|REGEX|auto|none",
        help="keep related images on the same side of every split",
    )
    group.add_argument(
        "--bit-depth",
        type=bit_depth,
        metavar="auto|12|16",
        help="bits used by the greys of 16-bit files (default auto: 12 where none holds a grey above 4,095)",
    )


def add_threshold(parser: argparse.ArgumentParser) -> None:
    """--threshold of a finished model."""
    parser.add_argument(
        "--threshold",
        type=share,
        metavar="P",
        help="decision threshold of sigmoid outputs (default: the model's own)",
    )


def add_embedding(parser: argparse.ArgumentParser) -> None:
    """Which backbones, and how they are run."""
    add_backbones(parser)
    group = parser.add_argument_group("embedding")
    group.add_argument(
        "--size", type=size, default=224, metavar="224|native|N", help="input side in pixels (default 224)"
    )
    group.add_argument(
        "--resize",
        type=Resize,
        choices=list(Resize),
        default=Resize.BILINEAR,
        metavar="bilinear|area",
        help="area keeps thin structures when large photographs shrink (default bilinear)",
    )
    group.add_argument(
        "--engine",
        type=engine,
        metavar="auto|tensorflow|openvino",
        help="what executes the backbones (default auto)",
    )
    group.add_argument(
        "--precision", type=precision, metavar="auto|float32|bfloat16", help="arithmetic (default auto)"
    )
    group.add_argument(
        "--jobs",
        type=positive_int,
        default=0,
        metavar="N",
        help="worker processes (default: one a core, fewer where memory is short)",
    )
    group.add_argument(
        "--max-size-mb",
        type=positive_float,
        metavar="MB",
        help="skip backbones with more float32 parameters than fit the device",
    )
    group.add_argument(
        "--cache-limit-gb",
        type=positive_float,
        metavar="GB",
        help="the least recently used embeddings go beyond this size",
    )


def add_backbones(parser: argparse.ArgumentParser, *, about: str | None = None) -> None:
    """--backbones and --weights; ``about`` says what they are for, where they are not run."""
    group = parser.add_argument_group("backbones", about)
    group.add_argument(
        "--backbones",
        default="all",
        metavar="NAMES",
        help="names, comma-separated; * wildcards; family:NAME; NAME@random; NAME@FILE; all (default)",
    )
    group.add_argument(
        "--weights",
        default="imagenet",
        metavar="imagenet|random|DIR|FILE",
        help="where weights come from; DIR holds <backbone>.weights.h5 (default imagenet)",
    )


def add_folders(parser: argparse.ArgumentParser, *, results: bool = True) -> None:
    """--cache and --results."""
    group = parser.add_argument_group("folders")
    group.add_argument(
        "--cache",
        type=Path,
        default=Path("embeddings_cache"),
        metavar="DIR",
        help="embedding cache (default embeddings_cache)",
    )
    if results:
        group.add_argument(
            "--results", type=Path, default=Path("results"), metavar="DIR", help="results (default results)"
        )


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """How heads are trained and scored."""
    group = parser.add_argument_group("heads")
    group.add_argument(
        "--protocol",
        type=ProtocolName,
        choices=list(ProtocolName),
        metavar="cv|holdout|reference",
        help="default cv; holdout where DATA comes in parts",
    )
    group.add_argument(
        "--average",
        type=Average,
        choices=_BINARY_AVERAGE,
        metavar="macro|micro|weighted",
        help="F1 average (default: the positive class of two, macro of more)",
    )
    group.add_argument("--class-weight", choices=["balanced"], help="weight classes by inverse frequency")
    group.add_argument(
        "--threshold",
        type=threshold,
        default=ThresholdRule(),
        metavar="0.5|tuned|recall=R",
        help="decision threshold of sigmoid heads (default 0.5)",
    )
    group.add_argument("--epochs", type=positive_int, default=20, help="of each head (default 20)")
    group.add_argument("--folds", type=at_least_two, default=5, help="default 5")
    group.add_argument("--repeats", type=positive_int, default=3, help="default 3")


def add_finetuning(parser: argparse.ArgumentParser) -> None:
    """Which backbone, which recipe, and what to change in it."""
    group = parser.add_argument_group("fine-tuning")
    group.add_argument(
        "--winner",
        metavar="NAME|auto",
        help="backbone; auto is the board's winner (default: auto, or a non-default recipe's own)",
    )
    group.add_argument(
        "--top", type=positive_int, metavar="K", help="fine-tune the first K of the board and re-rank them"
    )
    group.add_argument(
        "--recipe",
        default="two-phase-f1",
        metavar="NAME|FILE",
        help="see 'backbones recipes' (default two-phase-f1)",
    )
    group.add_argument(
        "--weights",
        metavar="imagenet|random|DIR",
        help="where the weights come from (default: what the board used, else imagenet)",
    )
    group.add_argument(
        "--cached-views",
        type=positive_int,
        metavar="K",
        help="train phase 1 on the embeddings of K augmented views of each image",
    )
    group.add_argument("--force", action="store_true", help="train again although the same run is finished")
    group.add_argument("--class-weight", choices=["balanced"], help="weight classes by inverse frequency")
    group.add_argument(
        "--average",
        type=Average,
        choices=_BINARY_AVERAGE,
        metavar="macro|micro|weighted",
        help="F1 average (default: as on the board)",
    )
    group.add_argument(
        "--threshold",
        type=threshold,
        default=ThresholdRule(),
        metavar="0.5|tuned|recall=R",
        help="decision threshold of sigmoid heads (default 0.5)",
    )
    group.add_argument(
        "--resize",
        type=Resize,
        choices=list(Resize),
        metavar="bilinear|area",
        help="how images get their size (default: as on the board, else bilinear)",
    )
    group.add_argument(
        "--jobs", type=positive_int, default=0, metavar="N", help="decoding threads (default: all cores)"
    )
    changes = parser.add_argument_group("changes to the recipe")
    changes.add_argument("--epochs", type=two_numbers, metavar="P1,P2", help="epochs of the two phases")
    changes.add_argument(
        "--unfreeze-from",
        metavar="LAYER",
        help="phase 2 trains this layer (a name or a number) and all after it",
    )
    changes.add_argument(
        "--unfreeze-last", type=positive_int, metavar="N", help="phase 2 trains the last N layers"
    )
    changes.add_argument("--head", choices=["avg", "max", "flatten"], help="pooling")
    changes.add_argument(
        "--hidden", type=positive_int, metavar="UNITS", help="a ReLU layer before the output"
    )
    changes.add_argument("--dropout", type=share_below_one)
    changes.add_argument("--optimizer", choices=["adam", "adamw", "rmsprop", "sgd"])
    changes.add_argument("--learning-rates", type=two_rates, metavar="P1,P2")
    changes.add_argument("--schedule", choices=["constant", "cosine", "exponential"])
    changes.add_argument(
        "--early-stopping",
        type=positive_int,
        metavar="PATIENCE",
        help="epochs without a better validation F1",
    )
    changes.add_argument(
        "--image-size",
        type=pixels,
        metavar="N",
        help="input side in pixels (default: as on the board; of other recipes than two-phase-f1, their own)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """--format, --quiet and --debug."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format",
        choices=["table", "csv", "json"],
        default="table",
        help="of what is printed (default table)",
    )
    group.add_argument("--quiet", action="store_true", help="no progress")
    group.add_argument("--debug", action="store_true", help="show a traceback when something fails")


def data_options(arguments: argparse.Namespace) -> DataOptions:
    """The data options of parsed arguments; ``--groups auto`` and ``none`` name no group themselves."""
    return DataOptions(
        positive=arguments.positive,
        seed=arguments.seed,
        groups=None if arguments.groups in {_AUTO, _NONE} else arguments.groups,
        strict=arguments.strict,
        follow_links=arguments.follow_links,
        max_pixels=arguments.max_pixels,
        limit=arguments.limit,
        layout=Layout(arguments.layout),
        bit_depth=arguments.bit_depth,
    )


def wants_auto_groups(arguments: argparse.Namespace) -> bool:
    """Whether the audit shall find the groups."""
    return bool(arguments.groups == _AUTO)


def head_protocol(arguments: argparse.Namespace) -> HeadProtocol:
    """The head protocol of parsed arguments."""
    return HeadProtocol(
        name=arguments.protocol or ProtocolName.CV,
        epochs=arguments.epochs,
        folds=arguments.folds,
        repeats=arguments.repeats,
        threshold=arguments.threshold,
        average=arguments.average,
        balanced=arguments.class_weight == "balanced",
        seed=arguments.seed,
    )


def bit_depth(text: str) -> int | None:
    """``auto`` is None."""
    return None if text == _AUTO else int(_member(("12", "16"), text))


def engine(text: str) -> Engine | None:
    """``auto`` is None."""
    return None if text == _AUTO else Engine(_member(list(Engine), text))


def precision(text: str) -> Precision | None:
    """``auto`` is None."""
    return None if text == _AUTO else Precision(_member(list(Precision), text))


def _member(names: Sequence[str], text: str) -> str:
    if text not in names:
        raise argparse.ArgumentTypeError(f"expected one of auto, {', '.join(names)}; got {text!r}")
    return text


def threshold(text: str) -> ThresholdRule:
    """``0.5``, ``tuned`` or ``recall=0.99``."""
    if text == ThresholdKind.TUNED:
        return ThresholdRule(kind=ThresholdKind.TUNED)
    name, found, value = text.partition("=")
    if found and name == ThresholdKind.RECALL:
        return ThresholdRule(kind=ThresholdKind.RECALL, value=_share(value))
    return ThresholdRule(value=_share(text))


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"expected a number in (0, 1], 'tuned' or 'recall=R' with such a number; got {text!r}"
        )
    return value


def size(text: str) -> int | None:
    """``native`` is None."""
    return (
        None
        if text == "native"
        else _number(int, text, 16, "'native' or a whole number of pixels from 16 up")
    )


def pixels(text: str) -> int:
    """A side of images."""
    return _number(int, text, 16, "a whole number of pixels from 16 up")


def whole_number(text: str) -> int:
    """A whole number from 0 up."""
    return _number(int, text, 0, "a whole number from 0 up")


def positive_int(text: str) -> int:
    """A whole number from 1 up."""
    return _number(int, text, 1, "a whole number from 1 up")


def at_least_two(text: str) -> int:
    """A whole number from 2 up."""
    return _number(int, text, 2, "a whole number from 2 up")


def positive_float(text: str) -> float:
    """A number above 0."""
    return _number(float, text, 1e-12, "a number above 0")


_Number = TypeVar("_Number", int, float)


def _number(kind: Callable[[str], _Number], text: str, least: float, wanted: str) -> _Number:
    try:
        value = kind(text)
    except ValueError:
        value = kind("-1")
    if not least <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected {wanted}; got {text!r}")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = _number(float, text, 0.0, "a number from 0 to 1")
    if value > 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1; got {text!r}")
    return value


def share_below_one(text: str) -> float:
    """A number from 0 up to, not including, 1."""
    value = _number(float, text, 0.0, "a number from 0 up to 1")
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expected a number below 1; got {text!r}")
    return value


def two_numbers(text: str) -> tuple[int, int]:
    """``40,40``: two whole numbers from 0 up."""
    return _two(text, lambda part: _number(int, part, 0, "two whole numbers, for example 40,40"))


def two_rates(text: str) -> tuple[float, float]:
    """``1e-3,1e-6``: two numbers above 0."""
    return _two(text, positive_float)


def _two(text: str, read: Callable[[str], _Number]) -> tuple[_Number, _Number]:
    parts = text.split(",")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"expected two numbers with a comma between; got {text!r}")
    return read(parts[0]), read(parts[1])
