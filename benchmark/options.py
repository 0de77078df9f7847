"""Every option of every command, once: its type, range, help and default.

A command is one frozen model. The command line's parser, the keywords of the Python calls and ``run.json``
derive from it; the pipeline works on it as it is.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUndefined

from benchmark.errors import ArgumentError
from benchmark.locations import Kind, as_given, folder_of, is_url, path_of, url_of, without_secrets
from benchmark.records import (
    DEFAULT_MARGIN,
    MAX_PIXELS,
    AbstentionRule,
    Average,
    Engine,
    HeadProtocol,
    Layout,
    Precision,
    ProtocolName,
    Resize,
    Search,
    ThresholdRule,
)

_AUTO, _NONE = "auto", "none"
_DEFAULTS = HeadProtocol()


class Options(BaseModel):
    """The options of one command, or some that several commands share."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, protected_namespaces=())
    heading: ClassVar[str] = ""
    about: ClassVar[Mapping[str, str]] = {}  # heading -> what its options are for, in this command

    @classmethod
    def check(cls, given: Mapping[str, Any]) -> Self:
        """Options from what a caller gave: values, or their text.

        Raises:
            ArgumentError: names the first option that is missing or cannot be, and what it takes.
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            raise _first_mistake(cls, error) from error

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Options from what ``model_dump(mode="json")`` made of them; nothing is converted.

        Raises:
            ArgumentError: as of ``check``.
        """
        # Only from JSON does pydantic in strict mode take lists for tuples and text for enums.
        try:
            return cls.model_validate_json(json.dumps(stored), strict=True)
        except ValidationError as error:
            raise _first_mistake(cls, error) from error

    def but(self, **changes: Any) -> Self:  # noqa: ANN401 - values of any option
        """The same options with other values, checked like all."""
        return self.check({**dict(self), **changes})

    @classmethod
    def by_heading(cls) -> Iterator[tuple[str, dict[str, FieldInfo]]]:
        """The options under their headings, those of the command itself first."""
        seen: set[str] = set()
        for base in cls.__mro__:
            own = [name for name in vars(base).get("__annotations__", ()) if name in cls.model_fields]
            yield (
                vars(base).get("heading", ""),
                {name: cls.model_fields[name] for name in own if name not in seen},
            )
            seen.update(own)


def _first_mistake(kind: type[Options], error: ValidationError) -> ArgumentError:
    mistake = error.errors()[0]
    name = str(mistake["loc"][0])
    if mistake["type"] == "missing":
        return ArgumentError("must be given", where=f"`{name}`")
    if mistake["type"] == "extra_forbidden":
        return ArgumentError("no such option", where=f"`{name}`", expected=", ".join(kind.model_fields))
    one_of = choices(kind.model_fields[name])
    wanted = f"one of {', '.join(one_of)}" if one_of else mistake["msg"].removeprefix("Input should be ")
    return ArgumentError(f"expected {wanted}", where=f"`{name}`", got=without_secrets(repr(mistake["input"])))


def choices(field: FieldInfo) -> list[str]:
    """The values of an option that takes one of a few, as text."""
    found = _members(field.annotation)
    return [_AUTO, *found] if found and _MAY_BE_AUTO in field.metadata else found


def _members(kind: object) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(one) for one in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return [one.value for one in kind]
    return [name for part in get_args(kind) for name in _members(part)]


def described(field: FieldInfo) -> str:
    """What an option means, and its default where that says something."""
    text = field.description or ""
    default = field.default
    if "default" in text or any(default is one for one in (PydanticUndefined, None, False)):
        return text
    shown = f"{default:,}" if default is MAX_PIXELS else f"{default:g}" if type(default) is float else default
    return f"{text} (default {shown})" if text else f"default {shown}"


def _option(
    help: str = "",  # noqa: A002 - argparse's word
    default: Any = ...,  # noqa: ANN401 - of any option
    *,
    metavar: str | tuple[str, ...] = "",
    positional: bool = False,
    nargs: str | int | None = None,
    const: object = None,
) -> Any:  # noqa: ANN401 - a field of any type
    """An option: its help, its default (required without one), and what the command line alone needs."""
    for_parser: Any = {"metavar": metavar, "positional": positional, "nargs": nargs, "const": const}
    return Field(default, description=help, json_schema_extra=for_parser)


def _expecting(words: str) -> WrapValidator:
    """Say what a value should be in these words."""

    def check(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError as error:
            raise PydanticCustomError("expected", words) from error

    return WrapValidator(check)


def _or_none(word: str) -> BeforeValidator:
    """``word`` is another name for None; whole numbers may come as text."""

    def read(value: object) -> object:
        if value == word:
            return None
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    return BeforeValidator(read)


def _path(value: object) -> Path:
    # Not by pydantic's own type, which refuses names that are not UTF-8.
    if not isinstance(value, str | os.PathLike):
        raise PydanticCustomError("expected", "a path")
    if is_url(os.fspath(value)):
        raise PydanticCustomError("expected", "a path of this machine (`cache` and `data` may be URLs)")
    return path_of(value)


def _place_of(kind: Kind) -> PlainValidator:
    """A path, or a URL: then the folder of this machine that stands for it."""

    def read(value: object) -> Path:
        if isinstance(value, str | os.PathLike) and is_url(os.fspath(value)):
            return folder_of(os.fspath(value), kind)
        return _path(value)

    return PlainValidator(read)


def _text(value: object) -> str:
    if not isinstance(value, str | os.PathLike):
        raise PydanticCustomError("expected", "text")
    return os.fspath(value)


def _names(value: object) -> str:
    """Names with commas between, also from a list."""
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else _text(value)


def _cluster(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"local:[1-9][0-9]*|(tcp|tls)://[^/\s]+:[0-9]+", text):
        raise PydanticCustomError(
            "expected", "the address of a Dask scheduler (tcp://host:8786, tls://host:8786) or local:N"
        )
    return text


def _rule(value: object) -> ThresholdRule:
    try:
        return value if isinstance(value, ThresholdRule) else ThresholdRule.parse(str(value))
    except ValueError as error:
        raise PydanticCustomError(
            "expected", "a number in (0, 1], 'tuned', 'recall=R' or 'precision=P' with such a number"
        ) from error


def _abstention(value: object) -> AbstentionRule:
    try:
        return value if isinstance(value, AbstentionRule) else AbstentionRule.parse(str(value))
    except ValueError as error:
        raise PydanticCustomError(
            "expected", "'none', 'error=E' or 'coverage=C' with a number between 0 and 1"
        ) from error


def _pair(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


_MAY_BE_AUTO = _or_none(_AUTO)
_AsText = PlainSerializer(str)
Text = Annotated[str, PlainValidator(_text)]
Cluster = Annotated[str, PlainValidator(_cluster)]
Names = Annotated[str, PlainValidator(_names)]
Place = Annotated[Path, PlainValidator(_path), _AsText]
CachePlace = Annotated[Path, _place_of(Kind.CACHE), PlainSerializer(as_given)]
DataPlace = Annotated[Path, _place_of(Kind.DATA), PlainSerializer(as_given)]
Count = Annotated[int, Field(ge=1), _expecting("a whole number from 1 up")]
# As large as NumPy's and Keras's generators take.
Seed = Annotated[
    int, Field(ge=0, lt=2**32), _expecting("a whole number from 0 up to, not including, 4,294,967,296")
]
CountOrNone = Annotated[int, Field(ge=0), _expecting("a whole number from 0 up")]
Port = Annotated[int, Field(ge=0, lt=2**16), _expecting("a whole number from 0 up to 65,535")]
TwoOrMore = Annotated[int, Field(ge=2), _expecting("a whole number from 2 up")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _expecting("a number above 0")]
Share = Annotated[float, Field(ge=0, le=1), _expecting("a number from 0 to 1")]
Overlap = Annotated[float, Field(ge=0, le=0.95), _expecting("a number from 0 to 0.95")]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1), _expecting("a number from 0 up to, not including, 1")]
CountOrTied = Annotated[Count | Literal["tied"], _expecting("'tied' or a whole number from 1 up")]
Side = Annotated[int, Field(ge=16), _expecting("a whole number of pixels from 16 up")]
SideOrNative = Annotated[
    Side | None, _or_none("native"), _expecting("'native' or a whole number of pixels from 16 up")
]
Threshold = Annotated[ThresholdRule, PlainValidator(_rule), _AsText]
Abstaining = Annotated[AbstentionRule, PlainValidator(_abstention), _AsText]
TwoCounts = Annotated[
    tuple[CountOrNone, CountOrNone],
    BeforeValidator(_pair),
    _expecting("two numbers, whole and from 0 up, for example 40,40"),
]
TwoRates = Annotated[
    tuple[Positive, Positive],
    BeforeValidator(_pair),
    _expecting("two numbers above 0, for example 1e-3,1e-6"),
]
BinaryAverage = Literal[Average.MACRO, Average.MICRO, Average.WEIGHTED]
_MODEL = "a fine-tuned or exported model"


class OutputOptions(Options):
    """What is printed; every command has these beside its own."""

    heading = "output"

    format: Literal["table", "csv", "json"] = _option("of what is printed", "table")
    quiet: bool = _option("no progress", False)
    debug: bool = _option("show a traceback when something fails", False)


class CacheOptions(Options):
    """Where embeddings lie."""

    heading = "folders"

    cache: CachePlace = _option("embedding cache", Path("embeddings_cache"), metavar="DIR|URL")


class FolderOptions(CacheOptions):
    """Where embeddings and results lie."""

    heading = "folders"

    results: Place = _option("results", Path("results"), metavar="DIR")


_AS_MANY_AS_FIT = "default: one a core, fewer where memory is short"


class _FindingOptions(Options):
    heading = "data"

    strict: bool = _option("a file that cannot be decoded ends the run", False)
    follow_links: bool = _option("allow links that leave DATA", False)
    max_pixels: Count = _option("refuse larger images", MAX_PIXELS, metavar="N")
    layout: Layout = _option("classes: every folder in DATA is a class, whatever it is called", Layout.AUTO)
    limit: Count | None = _option("use N images, stratified", None, metavar="N")
    jobs: CountOrNone = _option(
        f"workers that read and embed ({_AS_MANY_AS_FIT})",
        0,
        metavar="N",
    )


class ReadingOptions(_FindingOptions):
    """How images are found and checked."""

    heading = "data"

    seed: Seed = _option("of the limit, splits, folds, heads and random weights", 0, metavar="N")


class _LabellingOptions(Options):
    heading = "data"

    positive: Text | None = _option(
        "positive class of two (default: the one named like positive/defect/crack, else the second)",
        None,
        metavar="CLASS",
    )
    groups: Text | None = _option(
        "keep related images on the same side of every split (default auto: what the audit finds)",
        None,
        metavar="COLUMN|REGEX|auto|none",
    )
    bit_depth: Annotated[Literal[12, 16] | None, _MAY_BE_AUTO] = _option(
        "bits used by the greys of 16-bit files (default auto: 12 where none holds a grey above 4,095)", None
    )

    @property
    def group_rule(self) -> str | None:
        """The CSV column or regular expression that names groups; None where none is asked for."""
        return None if self.groups in {_AUTO, _NONE} else self.groups

    @property
    def no_groups(self) -> bool:
        """Whether images stand alone, whatever the data name."""
        return self.groups == _NONE

    @property
    def auto_groups(self) -> bool:
        """Whether the audit shall find the groups where the data name none."""
        return self.groups in {None, _AUTO}


class DataOptions(_LabellingOptions, ReadingOptions):
    """How images are found, checked, grouped and split."""


class _Labelled(Options):
    data: DataPlace = _option(
        "folder of labelled images, or a CSV with path,label[,split][,group]", metavar="DATA", positional=True
    )


class BackboneOptions(Options):
    """Which backbones, with which weights."""

    heading = "backbones"

    backbones: Names = _option(
        "names, with commas; * wildcards; family:NAME; SOURCE:NAME; NAME@random; NAME@FILE; all (default)",
        "all",
        metavar="NAMES",
    )
    sources: Names | None = _option(
        "of names without SOURCE: before them: keras (default), timm, others that are installed",
        None,
        metavar="NAMES",
    )
    weights: Text = _option(
        "where weights come from; DIR holds <backbone>.weights.h5 or .safetensors",
        "imagenet",
        metavar="imagenet|random|DIR|FILE",
    )
    max_params: Positive | None = _option("millions of parameters at most", None, metavar="N")
    max_gflops: Positive | None = _option("operations of an image of 224 pixels at most", None, metavar="N")
    min_year: Count | None = _option("only designs published since", None, metavar="YEAR")
    licence: Text | None = _option(
        "only weights under this licence; permissive: Apache, MIT, BSD, CC0 and CC-BY",
        None,
        metavar="permissive|NAME",
    )


class _LimitOptions(CacheOptions):
    heading = "folders"

    cache_limit_gb: Positive | None = _option(
        "the least recently used embeddings go beyond this size", None, metavar="GB"
    )

    @model_validator(mode="after")
    def _limit_what_is_here(self) -> Self:
        if self.cache_limit_gb is not None and (url := url_of(self.cache)):
            raise ArgumentError(
                "only a cache of this machine can be given a limit",
                where="`cache_limit_gb`",
                got=f"`cache={url}`",
                next_step="Copies on this machine keep within BACKBONES_LOCAL_GB; "
                "'backbones cache clean --backbones NAMES' removes embeddings there.",
            )
        return self


class _EmbeddingOptions(Options):
    heading = "embedding"

    size: SideOrNative = _option("input side in pixels", 224, metavar="224|native|N")
    resize: Resize = _option(
        "area keeps thin structures when large photographs shrink; native crops and interpolates as the "
        "source of each backbone does",
        Resize.BILINEAR,
    )
    engine: Annotated[Engine | None, _MAY_BE_AUTO] = _option(
        "what executes the backbones (default auto)", None
    )
    precision: Annotated[Precision | None, _MAY_BE_AUTO] = _option("arithmetic (default auto)", None)
    max_size_mb: Positive | None = _option(
        "skip backbones with more float32 parameters than fit the device", None, metavar="MB"
    )
    fallback_random: bool = _option(
        "random weights for all, with a loud banner, when ImageNet's cannot be had", False
    )


class _ClusterOptions(Options):
    heading = "machines"

    cluster: Cluster | None = _option(
        "a Dask cluster instead of this machine's own processes; N workers here for a try",
        None,
        metavar="tcp://HOST:PORT|local:N",
    )


class _DecisionOptions(Options):
    heading = "decisions"

    average: BinaryAverage | None = _option(
        "F1 average (default: the positive class of two, macro of more)", None
    )
    class_weight: Literal["balanced"] | None = _option("weight classes by inverse frequency", None)
    threshold: Threshold = _option(
        "decision threshold of sigmoid heads", ThresholdRule(), metavar="0.5|tuned|recall=R|precision=P"
    )

    @property
    def balanced(self) -> bool:
        """Whether classes are weighted by inverse frequency."""
        return self.class_weight == "balanced"


class _FoldOptions(_DecisionOptions):
    heading = "heads"

    folds: TwoOrMore = _option("", _DEFAULTS.folds, metavar="N")
    repeats: Count = _option("", _DEFAULTS.repeats, metavar="N")


class _HeadOptions(_FoldOptions):
    heading = "heads"

    protocol: ProtocolName | None = _option("default cv; holdout where DATA comes in parts", None)
    epochs: Count = _option("of each head", _DEFAULTS.epochs, metavar="N")

    def head_protocol(self) -> HeadProtocol:
        """How heads are trained: options of its fields' names; without a name, as without given parts."""
        names = {one.name for one in fields(HeadProtocol)}
        asked = {name: value for name, value in self if name in names}
        return replace(_DEFAULTS, **asked, name=self.protocol or _DEFAULTS.name, balanced=self.balanced)


class _BoardOptions(Options):
    heading = "board"

    rank_by: Text = _option(
        "metric that decides order, ties and picks: f1, precision, balanced_accuracy",
        "f1",
        metavar="NAME",
    )
    max_loss: Share = _option(
        "F1 (or what else decides) that the winner may give away for being smaller",
        DEFAULT_MARGIN,
        metavar="F1",
    )
    max_latency_ms: Positive | None = _option(
        "skip backbones slower than this on one image", None, metavar="MS"
    )
    device: Text | None = _option(
        "show what was measured on this device ('device add'); `max_latency_ms` is then about it",
        None,
        metavar="NAME[:TARGET]",
    )
    export_to: Text | None = _option(
        "also score the picks as exported to this format, before you choose: tflite-int8, onnx, ...",
        None,
        metavar="TARGET",
    )
    search: Search = _option("halving drops unlikely winners on growing subsets", Search.EXHAUSTIVE)
    audit_search: bool = _option("after an exhaustive run, say what halving would have done", False)


class _TrackingOptions(Options):
    heading = "output"

    track: Names | None = _option(
        "tell experiment trackers, comma-separated: mlflow, tensorboard, wandb, or another package's",
        None,
        metavar="NAMES",
    )

    @property
    def trackers(self) -> tuple[str, ...]:
        """Names of the trackers to tell."""
        return tuple(name.strip() for name in (self.track or "").split(",") if name.strip())


class ListOptions(BackboneOptions):
    """The backbones as a table."""


class AuditOptions(_Labelled, DataOptions, BackboneOptions, FolderOptions):
    """Find corrupt, duplicate and leaking images."""

    about = {
        "backbones": "whose cached embeddings help to find look-alikes; for groups, the cheapest embeds views"
    }


_SomeOptions = TypeVar("_SomeOptions", bound=Options)


def _in_one_process(asked: _SomeOptions, cluster: str | None, jobs: int, *, alone: bool) -> _SomeOptions:
    places = (getattr(asked, name, None) for name in ("cache", "data", "source"))
    url = next(filter(None, (url_of(place) for place in places if place)), "")
    if url.startswith("memory://") and (cluster or not alone):
        raise ArgumentError(
            "only this process has this memory",
            where=url,
            expected="`jobs=1`, without `cluster`",
            got=f"`cluster={cluster}`" if cluster else f"`jobs={jobs}`",
        )
    return asked


class EmbedOptions(
    _Labelled, DataOptions, BackboneOptions, _EmbeddingOptions, _ClusterOptions, _LimitOptions, CacheOptions
):
    """Fill the embedding cache."""

    @model_validator(mode="after")
    def _memory_is_of_one_process(self) -> Self:
        return _in_one_process(self, self.cluster, self.jobs, alone=self.jobs == 1)


class RankOptions(EmbedOptions, _HeadOptions, _BoardOptions, _TrackingOptions, FolderOptions):
    """Embed what is missing, train heads, write the leaderboard."""


class PlanOptions(DataOptions, BackboneOptions, _EmbeddingOptions, _HeadOptions, FolderOptions):
    """Time, memory, storage and money of a ranking, before anything is computed."""

    data: DataPlace | None = _option(
        "folder of labelled images, or a CSV; with `images`, a part of what is planned for",
        None,
        metavar="DATA",
        positional=True,
        nargs="?",
    )
    images: Count | None = _option("plan for N images (default: those of DATA)", None, metavar="N")
    workers: Count = _option("machines like this one that share the work", 1, metavar="N")
    price_per_hour: Positive | None = _option("of one of them", None, metavar="MONEY")

    def for_ranking(self) -> RankOptions:
        """The ranking that is planned; one without data cannot be carried out."""
        own = {"images", "workers", "price_per_hour", "data"}
        shared = {name: value for name, value in self if name not in own}
        return RankOptions.check({**shared, "data": self.data or Path()})


class ReportOptions(FolderOptions):
    """Rebuild tables and plots from stored outcomes, or compare two runs."""

    data: DataPlace | None = _option(
        "the data set that was ranked", None, metavar="DATA", positional=True, nargs="?"
    )
    device: Text | None = _option(
        "show what was measured on this device (default: as the board does)",
        None,
        metavar="NAME[:TARGET]|none",
    )
    compare: tuple[Place, Place] | None = _option(
        "two run folders: name what changed between them", None, metavar=("A", "B"), nargs=2
    )


class RecipeChanges(Options):
    """What a caller changes in a recipe; None keeps the recipe's value."""

    heading = "changes to the recipe"

    epochs: TwoCounts | None = _option("epochs of the two phases", None, metavar="P1,P2")
    unfreeze_from: int | str | None = _option(
        "phase 2 trains this layer (a name or a number) and all after it", None, metavar="LAYER"
    )
    unfreeze_last: CountOrNone | None = _option("phase 2 trains the last N layers; 0: all", None, metavar="N")
    head: Literal["avg", "max", "flatten"] | None = _option("pooling", None)
    hidden: Count | None = _option("a ReLU layer before the output", None, metavar="UNITS")
    dropout: ShareBelowOne | None = _option("rate on the pooled vector", None, metavar="RATE")
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] | None = _option("of both phases", None)
    learning_rates: TwoRates | None = _option("of the two phases", None, metavar="P1,P2")
    schedule: Literal["constant", "cosine", "exponential"] | None = _option("of both phases", None)
    early_stopping: Count | None = _option("epochs without a better validation F1", None, metavar="PATIENCE")
    batch_size: Count | None = _option("images per update", None, metavar="N")
    image_size: Side | None = _option(
        "input side in pixels (default: as on the board; of the older reference recipes, their own)",
        None,
        metavar="N",
    )


class _TuningOptions(_DecisionOptions):
    heading = "fine-tuning"

    winner: Text | None = _option(
        "backbone; auto is the board's winner (default: auto, or a non-default recipe's own)",
        None,
        metavar="NAME|auto",
    )
    top: CountOrTied | None = _option(
        "fine-tune the first K of the board, or its first tie group, and re-rank them",
        None,
        metavar="K|tied",
    )
    halving: bool = _option(
        "of several, train all for some epochs, the better half twice as long, and so on",
        False,
    )
    recipe: Text | None = _option(
        "see 'backbones recipes' (default: probe-then-tune where the board has a head of the backbone, else "
        "two-phase-f1)",
        None,
        metavar="NAME|FILE",
    )
    weights: Text | None = _option(
        "where the weights come from (default: what the board used, else imagenet)",
        None,
        metavar="imagenet|random|DIR",
    )
    cached_views: CountOrNone = _option(
        "train phase 1 on the embeddings of K augmented views of each image", 0, metavar="K"
    )
    abstain: Abstaining = _option(
        "say 'unsure' so that at most this share of the other answers is wrong, or this share is answered",
        AbstentionRule(),
        metavar="none|error=E|coverage=C",
    )
    force: bool = _option("train again although the same run is finished", False)
    average: BinaryAverage | None = _option("F1 average (default: as on the board)", None)
    seed: Seed | None = _option(
        "of the limit, splits, training and random weights (default: as on the board, else 0)",
        None,
        metavar="N",
    )
    resize: Resize | None = _option(
        "how images get their size (default: as on the board, else bilinear)", None
    )


class FinetuneOptions(
    _Labelled,
    _LabellingOptions,
    _FindingOptions,
    _TuningOptions,
    RecipeChanges,
    _ClusterOptions,
    _TrackingOptions,
    FolderOptions,
):
    """Two-phase fine-tuning of one backbone, or of several: `jobs` of them side by side."""

    @property
    def drawing_seed(self) -> int:
        """The seed; 0 where neither the caller nor a board says one."""
        return self.seed or 0

    @property
    def reading(self) -> DataOptions:
        """How its images are found, checked, grouped and split."""
        given = {name: getattr(self, name) for name in DataOptions.model_fields}
        return DataOptions.check({**given, "seed": self.drawing_seed})

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if self.top is not None and self.winner not in (None, _AUTO):
            raise ArgumentError(
                "fine-tunes the first of the board, whoever they are",
                where=f"`top={self.top}`",
                got=f"`winner={self.winner}`",
                next_step="Give one of the two.",
            )
        if self.halving and self.top is None:
            raise ArgumentError("is about several backbones", where="`halving`", next_step="Give `top`, too.")
        return self

    @model_validator(mode="after")
    def _memory_is_of_one_process(self) -> Self:
        return _in_one_process(self, self.cluster, self.jobs, alone=self.jobs <= 1)


class StudyOptions(
    DataOptions, BackboneOptions, _EmbeddingOptions, _FoldOptions, RecipeChanges, FolderOptions
):
    """Which cheap rule picks the best fine-tuned model: board and fine-tuning over several data sets."""

    data: tuple[DataPlace, ...] = _option(
        "two or more folders of labelled images, or CSVs", metavar="DATA", positional=True, nargs="+"
    )
    seeds: Count = _option(
        "splits, boards and fine-tunings of each data set: seed, seed + 1, ...", 3, metavar="N"
    )
    top: Count | None = _option(
        "fine-tune the first K of each data set's first board and its boards' picks (default: every one)",
        None,
        metavar="K",
    )
    recipe: Text | None = _option(
        "of the fine-tuning, see 'backbones recipes' (default: probe-then-tune)", None, metavar="NAME|FILE"
    )

    def for_ranking(self, data: Path, seed: int, results: Path) -> RankOptions:
        """The ranking of one data set under one seed."""
        return RankOptions.check(self._shared(RankOptions) | {"data": data, "seed": seed, "results": results})

    def for_tuning(self, data: Path, seed: int, results: Path, backbone: str) -> FinetuneOptions:
        """The fine-tuning of a backbone of that board; its weights are the board's."""
        own = {"data": data, "seed": seed, "results": results, "winner": backbone, "weights": None}
        return FinetuneOptions.check(
            {**self._shared(FinetuneOptions), "epochs": self.epochs, "recipe": self.recipe, **own}
        )

    def _shared(self, kind: type[Options]) -> dict[str, Any]:
        """What another command has, too; ``epochs`` and ``top`` mean something else there."""
        own = {"epochs", "top"}
        return {name: value for name, value in self if name in kind.model_fields and name not in own}


class _Model(Options):
    model: Place = _option(_MODEL, metavar="MODEL_DIR", positional=True)


class ExportOptions(FolderOptions):
    """Convert a model, then compare it with the original."""

    model: Place | None = _option(_MODEL, None, metavar="MODEL_DIR", positional=True, nargs="?")
    from_board: DataPlace | None = _option(
        "instead of a model: what the latest ranking of DATA found, its head on the frozen backbone",
        None,
        metavar="DATA",
    )
    backbone: Text | None = _option("of that board (default: its winner)", None, metavar="NAME|winner")
    to: Names = _option("names, comma-separated, or all", metavar="TARGETS")
    data: DataPlace | None = _option(
        "the images it was trained on, where they have moved", None, metavar="DATA"
    )
    parity_images: CountOrNone = _option(
        "compare on at most N validation images, stratified; 0 takes all", 2000, metavar="N"
    )
    timeout: Positive = _option("for one conversion or one comparison", 900.0, metavar="SECONDS")


class AnswerOptions(Options):
    """From which probability on a model's answer is given, and is sure."""

    threshold: Share | None = _option(
        "decision threshold of sigmoid outputs (default: the model's own)", None, metavar="P"
    )
    sure_from: Share | None = _option(
        "call a label of a lower probability unsure (default: the model's own; 0: none)", None, metavar="P"
    )


class PredictOptions(_Model, AnswerOptions):
    """Labels and probabilities of images."""

    images: tuple[Place, ...] = _option("files or folders", metavar="IMAGES", positional=True, nargs="+")
    tiles: Count | None = _option(
        "slide windows over large photographs (default side 224)", None, metavar="SIDE", nargs="?", const=224
    )
    overlap: Overlap | None = _option(
        "with tiles: of neighbouring windows (default 0.5)", None, metavar="SHARE"
    )
    merge: Literal["max", "mean"] | None = _option(
        "with tiles: how windows are merged (default max; mean for exclusive classes)", None
    )
    heatmaps: Place | None = _option("write overlay pictures that show where", None, metavar="DIR")
    follow_links: bool = _option("allow links that leave a folder given", False)
    batch_size: Count = _option("", 32, metavar="N")
    max_pixels: Count | None = _option(
        "refuse larger images (default 50,000,000; with tiles 200,000,000)", None, metavar="N"
    )
    output: Place | None = _option("write to FILE.csv or FILE.json instead of printing", None, metavar="FILE")
    page: Place | None = _option("also write the photographs with their labels", None, metavar="FILE.html")

    @model_validator(mode="after")
    def _tiles_alone_are_merged(self) -> Self:
        for name in ("overlap", "merge"):
            if self.tiles is None and getattr(self, name) is not None:
                raise ArgumentError(
                    "says how windows are laid and merged", where=f"`{name}`", expected="`tiles`"
                )
        return self


class ServeOptions(_Model, AnswerOptions):
    """A page on this machine: drop a photograph, see what a model says of it."""

    host: Text = _option("address to listen at; others than this machine's own are open to all", "127.0.0.1")
    port: Port = _option("0 takes any that is free", 8765, metavar="N")
    max_megabytes: Positive = _option("refuse larger files", 30.0, metavar="MB")
    per_minute: Count = _option("photographs a minute and sender", 120, metavar="N")


class EvaluateOptions(_Labelled, _Model, ReadingOptions, AnswerOptions, FolderOptions):
    """Metrics of a model on other labelled images."""

    include_seen: bool = _option(
        "score the images that the model was trained on with the others (default: apart)", False
    )


class RecipesOptions(Options):
    """List or show fine-tuning recipes."""

    name: Text | None = _option("", None, metavar="NAME", positional=True, nargs="?")


class CacheCommandOptions(_LimitOptions, CacheOptions):
    """Look after the embedding cache."""

    action: Literal["list", "verify", "clean"] = _option(
        "clean: remove stale and damaged files, and join small parts", positional=True
    )
    backbones: Names | None = _option(
        "clean: remove the embeddings of these backbones too", None, metavar="NAMES"
    )

    @model_validator(mode="after")
    def _cleaning_alone_removes(self) -> Self:
        for name in ("backbones", "cache_limit_gb"):
            if self.action != "clean" and getattr(self, name) is not None:
                raise ArgumentError(
                    "says what 'backbones cache clean' removes", where=f"`{name}`", got=self.action
                )
        return self


class WeightsOptions(CacheOptions):
    """Prepare a machine without network."""

    action: Literal["fetch", "verify", "bundle"] = _option(
        "fetch: into Keras's cache; bundle: into DIR; verify: check DIR", positional=True
    )
    folder: Place | None = _option("of bundle and verify", None, metavar="DIR", positional=True, nargs="?")
    backbones: Names = _option("to fetch or bundle", "all", metavar="NAMES")

    @model_validator(mode="after")
    def _all_are_verified(self) -> Self:
        if self.action == "verify" and self.backbones != "all":
            raise ArgumentError(
                "a folder is verified as a whole", where=f"`backbones={self.backbones}`", got=self.action
            )
        return self


class CompletionOptions(Options):
    """Print what completes the commands and options of backbones in a shell."""

    shell: Literal["bash", "zsh", "tcsh"] = _option("whose", positional=True)


class DeviceOptions(_ClusterOptions, FolderOptions):
    """Measure the board's models on your device: what to copy there, and what came back."""

    about = {"machines": "that export what goes into a kit"}

    action: Literal["kit", "measure", "add"] = _option(
        "kit: make what is copied to the device; add: put what was measured there on the board; "
        "measure: copy, measure and add over ssh",
        positional=True,
    )
    source: DataPlace = _option(
        "of kit: the ranked data; of measure: the kit's folder; of add: the device.json of measure.py",
        metavar="DATA|KIT|FILE",
        positional=True,
    )
    top: Count = _option("kit: of the first K of the board", 5, metavar="K")
    to: Names = _option(
        "kit: names of targets, comma-separated", "tflite-int8,tflite-float32,onnx", metavar="TARGETS"
    )
    jobs: CountOrNone = _option(
        f"kit: backbones that are exported side by side ({_AS_MANY_AS_FIT})",
        0,
        metavar="N",
    )
    output: Place | None = _option(
        "kit: folder to write (default: device_kit in the results of the data)", None, metavar="DIR"
    )
    ssh: Text | None = _option(
        "measure: the device as ssh knows it: host, user@host, ssh://user@host:port", None, metavar="HOST"
    )
    python: Text = _option("measure: the device's interpreter", "python3", metavar="PATH")
    timeout: Positive = _option("measure: for all of it", 3600.0, metavar="SECONDS")
    name: Text | None = _option(
        "add, measure: what the device is called, for example pi5 (measure: default the host)",
        None,
        metavar="NAME",
    )
    data: DataPlace | None = _option(
        "add, measure: the ranked data, where they have moved since", None, metavar="DATA"
    )

    @model_validator(mode="after")
    def _cluster_is_of_a_kit(self) -> Self:
        if self.cluster and self.action != "kit":
            raise ArgumentError(
                "only a kit is made on one", where=f"`cluster={self.cluster}`", got=self.action
            )
        return _in_one_process(self, self.cluster, self.jobs, alone=True)


class DemoOptions(Options):
    """Write the demo data set: 300 generated photographs of concrete."""

    folder: Place = _option("where to", metavar="DIR", positional=True)
    count: Count = _option("images", 300, metavar="N")
    seed: Seed = _option("", 0, metavar="N")
