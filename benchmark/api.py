"""The Python interface: every command as a function that takes the command's options as keywords.

Its names are those of the package: ``import benchmark as bb``, then ``bb.rank("photos")``.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, get_type_hints

import numpy as np
from pydantic.fields import FieldInfo

from benchmark.backbones import backbone_row, chosen
from benchmark.deployment import Evaluation, Predictor, open_model
from benchmark.embeddings import EmbeddingStore
from benchmark.errors import ArgumentError, EmbeddingError
from benchmark.locations import path_of
from benchmark.options import (
    CacheOptions,
    EmbedOptions,
    EvaluateOptions,
    ExportOptions,
    FinetuneOptions,
    ListOptions,
    Options,
    PlanOptions,
    PredictOptions,
    RankOptions,
    StudyOptions,
    choices,
    described,
)
from benchmark.pipeline import (
    EmbedRequest,
    FinetuneJob,
    RankRequest,
    estimate_costs,
    evaluate_model,
    export_to,
    finetune_backbones,
    predict_images,
    rank_backbones,
    study_backbones,
)
from benchmark.pipeline import embed as embed_request
from benchmark.ranking import StudyTables
from benchmark.records import Embeddings, Float32, Int64, Leaderboard, Observer, Silent
from benchmark.reporting import BOARD_FILES, CellLine, board_html, in_notebook, read_board, study_html
from benchmark.storage import MOST_LIST_BYTES, read_small, sha256_bytes, write_whole

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Source = str | Path
    Images = str | Path | pd.DataFrame | tuple[npt.ArrayLike, npt.ArrayLike]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_PLACE = "**options: those of the command."


def takes(
    kind: type[Options], *, without: Sequence[str] = ()
) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Give a function the options of a command as keywords, in signature, docstring and errors.

    Where it takes an observer and is given none, a notebook's cell shows how far it is.

    Args:
        kind: the options; those that the function names itself keep their place. They are described where its
            docstring says ``**options: those of the command.``
        without: options that the function sees to.
    """

    def give(call: Callable[_P, _T]) -> Callable[_P, _T]:
        signature = inspect.signature(call)
        named = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        taken = {*without, *(one.name for one in named)}
        free = {
            name: field
            for _, group in kind.by_heading()
            for name, field in group.items()
            if name not in taken
        }
        keywords = [_keyword(kind, name, field) for name, field in free.items()]
        texts = [_described(name, field) for name, field in free.items()]

        @functools.wraps(call)
        def checked(*args: _P.args, **given: _P.kwargs) -> _T:
            for name in given:
                if name not in whole.parameters:
                    raise TypeError(_unknown(call.__name__, name, list(whole.parameters)))
            if "observer" in whole.parameters and given.get("observer") is None and in_notebook():
                with CellLine() as line:
                    return call(*args, **{**given, "observer": line})  # type: ignore[arg-type]
            return call(*args, **given)

        whole = signature.replace(parameters=[*named, *keywords])
        checked.__signature__ = whole  # type: ignore[attr-defined]
        checked.__doc__ = (inspect.getdoc(call) or "").replace(_PLACE, "\n    ".join(texts))
        return checked

    return give


def _keyword(kind: type[Options], name: str, field: FieldInfo) -> inspect.Parameter:
    """An option as help() shows it: few values as what one writes, not as enumerations."""
    few, default = choices(field), field.default
    annotation: Any = Literal[tuple(few)] if few else get_type_hints(kind)[name]
    if few and default is None:
        annotation = annotation | None
    shown = default if isinstance(default, bool | int | float | None) or field.is_required() else str(default)
    empty = inspect.Parameter.empty if field.is_required() else shown
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=empty, annotation=annotation)


def _described(name: str, field: FieldInfo) -> str:
    extra: Any = field.json_schema_extra
    values = "|".join(choices(field)) or extra["metavar"]
    return f"{name}: {described(field)}{f' [{values}]' if '|' in values else ''}"


def _unknown(call: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"It takes {', '.join(known)}."
    return f"{call}() got an unexpected keyword argument '{name}'. {hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Board(Leaderboard):
    """A ranked board. At the end of a notebook's cell it shows itself; ``frame`` is a pandas DataFrame.

    Attributes:
        folder: ``results/<dataset>``, where the board, its page and its plots are.
    """

    folder: Path

    @classmethod
    def of(cls, board: Leaderboard, folder: Path) -> Self:
        """A board that lies in a folder."""
        return cls(**{one.name: getattr(board, one.name) for one in fields(Leaderboard)}, folder=folder)

    @property
    def picks(self) -> dict[str, str]:
        """What is worth a look -> backbone: ``winner``, ``best score``, ``best value``."""
        named = ((pick, row["backbone"]) for row in self.rows for pick in (row["pick"] or "").split(", "))
        return {pick: str(name) for pick, name in named if pick}

    def __getitem__(self, backbone: str) -> pd.Series[Any]:
        """The row of a backbone.

        Raises:
            KeyError: it is not on the board; close names are told.
        """
        import pandas as pd

        for row in self.rows:
            if row["backbone"] == backbone:
                return pd.Series(dict(row), name=backbone)
        names = [str(row["backbone"]) for row in self.rows]
        raise KeyError(
            f"{backbone}; on the board: {', '.join(difflib.get_close_matches(backbone, names) or names)}"
        )

    def plot(self, name: Literal["size", "ranks", "learning_curve"] = "size") -> Picture:
        """A plot of the board, which shows itself in a notebook.

        Args:
            name: ``size`` (score against size), ``ranks`` (intervals and ties), or ``learning_curve`` (what
                more images would bring the picks).

        Raises:
            ArgumentError: no such plot, or the board has none of that name; which there are is told.
        """
        drawn = [self.folder / each for each in BOARD_FILES if each.endswith(".png")]
        there = {"size" if path.stem == "f1_vs_size" else path.stem: path for path in drawn if path.is_file()}
        if name not in there:
            known = ", ".join(sorted(there)) or "a scored board"
            raise ArgumentError("no such plot", where="`name`", expected=known, got=name)
        return Picture(there[name])

    def _repr_html_(self) -> str:
        return board_html(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study(StudyTables):
    """A study of rules of selection. At the end of a notebook's cell it shows itself.

    Attributes:
        folder: ``results/study``, where its tables are as CSV, JSON and Markdown.
    """

    folder: Path

    @property
    def frame(self) -> pd.DataFrame:
        """The rules, one a row: ``regret``, ``p_best`` and ``tau``, each with ``_low`` and ``_high``."""
        import pandas as pd

        return pd.DataFrame(self.rules)

    def _repr_html_(self) -> str:
        return study_html(self)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file that shows itself in a notebook.

    Attributes:
        path: of the PNG file.
    """

    path: Path

    def _repr_png_(self) -> bytes:
        return read_small(self.path, most_bytes=MOST_LIST_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledEmbeddings(Embeddings):
    """Vectors of one backbone, with what is known of their images; all N long.

    Attributes:
        backbone: its name.
        labels: class names; several joined by ``;`` for multi-label.
        paths: of the images, relative to the data folder.
        groups: int64 (N,) group numbers; None where every image stands alone.
    """

    backbone: str
    labels: tuple[str, ...]
    paths: tuple[str, ...]
    groups: Int64 | None

    def to_frame(self) -> pd.DataFrame:
        """One row an image: path, label, group where there are any, and the vector as ``e0`` to ``eD``."""
        import pandas as pd

        facts: dict[str, Any] = {"path": self.paths, "label": self.labels}
        if self.groups is not None:
            facts["group"] = self.groups
        vectors = pd.DataFrame(
            self.features, columns=[f"e{place}" for place in range(self.features.shape[1])]
        )
        return pd.concat([pd.DataFrame(facts), vectors], axis=1)

    def to_parquet(self, path: Source) -> None:
        """Write ``to_frame`` as a Parquet file.

        Raises:
            ImportError: neither pyarrow nor fastparquet is installed.
        """
        self.to_frame().to_parquet(path)


class Model:
    """A fine-tuned or exported model, opened when it is first used.

    Args:
        folder: where it is.
        notes: remarks for the reader.
    """

    def __init__(self, folder: Source, notes: Sequence[str] = ()) -> None:
        self.folder = path_of(folder)
        self.notes = tuple(notes)

    def __repr__(self) -> str:
        return f"Model({str(self.folder)!r})"

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The opened model.

        Raises:
            ManifestError: the folder holds no model, or a damaged one.
        """
        return open_model(self.folder)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities."""
        return self.predictor.description.labels

    @takes(PredictOptions, without=("model", "images", "heatmaps", "output", "page"))
    def predict(
        self,
        images: Source | Sequence[Source],
        *,
        observer: Observer | None = None,
        **options: Any,  # noqa: ANN401
    ) -> pd.DataFrame:
        """Label images.

        Args:
            images: files or folders.
            observer: told of the progress.
            **options: those of the command.

        Returns:
            One row an image: path, label, doubt (``unsure``, ``unlike the training images``), the probability
            of each class (``p_<class>``), error.

        Raises:
            ArgumentError: no images, or an option that cannot be.
            ExportError: the model fails.
        """
        import pandas as pd

        given = [images] if isinstance(images, str | Path) else list(images)
        asked = PredictOptions.check({"model": self.folder, "images": given, **options})
        return pd.DataFrame(predict_images(self.predictor, asked, observer).rows())

    def predict_proba(self, images: Source | Sequence[Source]) -> Float32:
        """Probabilities float32 (N, C) in the order of ``classes``; nan for an image that cannot be read."""
        found = self.predict(images)
        return found[[f"p_{name}" for name in self.classes]].to_numpy(np.float32)

    @takes(EvaluateOptions, without=("model",))
    def evaluate(
        self,
        data: Source,
        *,
        observer: Observer | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Evaluation:
        """Score the model on other labelled images; also written to ``results/<dataset>``.

        Args:
            data: folder of labelled images, or a CSV with path,label.
            observer: told of the progress.
            **options: those of the command.

        Returns:
            ``metrics``, ``per_class``, ``confusion`` and a prediction per image.

        Raises:
            DataError: the images cannot be used, or the model has seen them all.
        """
        asked = EvaluateOptions.check({"model": self.folder, "data": data, **options})
        return evaluate_model(self.predictor, asked, observer)[0]

    @takes(ExportOptions, without=("model", "from_board", "backbone", "cache", "results"))
    def export(
        self,
        to: str | Sequence[str],
        *,
        observer: Observer | None = None,
        **options: Any,  # noqa: ANN401
    ) -> pd.DataFrame:
        """Convert the model, then compare each export with it on real images.

        Args:
            to: targets, for example ``["onnx", "tflite-int8"]``, or ``all``.
            observer: told of the progress.
            **options: those of the command.

        Returns:
            One row a target: status, size, how far it is from the original, speed, folder.

        Raises:
            ArgumentError: no such target.
            ExportError: the model cannot be converted at all.
        """
        import pandas as pd

        asked = ExportOptions.check({"to": to, **options})
        done = export_to(self.folder, asked, observer)
        return pd.DataFrame([result.row() for result in done])


def _located(data: Images, options: Mapping[str, Any]) -> Source:
    """Where images are; a table or pixels are kept in the cache under a name made of their content."""
    if isinstance(data, str | Path):
        return data
    cache = CacheOptions.check({"cache": options.get("cache", CacheOptions().cache)}).cache
    if isinstance(data, tuple):
        return _keep_pixels(*data, cache=cache)
    table = data.assign(path=[absolute(path) for path in data["path"]])
    return keep_table(table.to_csv(index=False).encode(), cache)


def _keep_pixels(images: npt.ArrayLike, labels: npt.ArrayLike, cache: Path) -> Path:
    """A CSV of PNG files in the cache: N images uint8 (N, height, width, 3), or a list, and N labels."""
    import pandas as pd

    pixels, given = list(images), list(labels)  # type: ignore[arg-type]
    if len(pixels) != len(given):
        raise ArgumentError(
            "not a label for each image", where="`data`", expected=f"{len(pixels)} labels", got=len(given)
        )
    names = [_label_cell(label, row) for row, label in enumerate(given)]
    folder = cache / "tables" / "pixels"
    paths = [absolute(keep_pixels(one, row, folder, root=cache)) for row, one in enumerate(pixels)]
    return keep_table(pd.DataFrame({"path": paths, "label": names}).to_csv(index=False).encode(), cache)


def _label_cell(label: Any, row: int) -> str:  # noqa: ANN401
    """A label, or a list of several, as a cell that is read as just that, whatever its letters.

    Raises:
        ArgumentError: those are no labels.
    """
    import pandas as pd

    several = list(label) if isinstance(label, list | tuple | set | frozenset) else None
    is_of_flags = bool(several) and all(not isinstance(one, str) and one in (0, 1) for one in several or ())
    if isinstance(label, np.ndarray) or is_of_flags:
        raise ArgumentError(
            "not a label",
            where=f"row {row}",
            expected="one label an image, or a list of names for an image with several",
            got=repr(label)[:80],
            next_step="Of a table of 0 and 1, give the names of the columns that hold 1.",
        )
    if several is None:
        several = [] if pd.isna(label) else [label]
    return repr(sorted(map(str, several)))


def absolute(path: str | os.PathLike[str]) -> str:
    """An absolute path without ``..``; a link keeps its name."""
    return os.path.abspath(path)  # noqa: PTH100


def keep_pixels(image: npt.ArrayLike, row: int, folder: Path, *, root: Path) -> Path:
    """A PNG file of an image's pixels, under a name made of them.

    Args:
        image: uint8 (height, width, 3) or (height, width).
        row: which of the images it is, for the error.
        folder: of the file.
        root: folder that it may not leave.

    Raises:
        ArgumentError: those are no pixels.
    """
    from PIL import Image

    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim not in {2, 3} or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ArgumentError(
            "not the pixels of an image",
            where=f"row {row}",
            expected="uint8 (height, width, 3), whole numbers from 0 to 255, channels last",
            got=f"{pixels.dtype} {pixels.shape}",
        )
    file = folder / f"{sha256_bytes(str(pixels.shape).encode() + pixels.tobytes())[:32]}.png"
    if not file.exists():
        written = io.BytesIO()
        Image.fromarray(pixels).save(written, "PNG")
        write_whole(file, written.getvalue(), root=root)
    return file


def keep_table(content: bytes, cache: Path) -> Path:
    """A CSV file of that content in the cache, under a name made of it."""
    file = cache / "tables" / f"table-{sha256_bytes(content)[:12]}.csv"
    write_whole(file, content, root=cache)
    return file


@takes(RankOptions)
def rank(data: Images, *, observer: Observer | None = None, **options: Any) -> Board:  # noqa: ANN401
    """Rank pretrained backbones on a folder of labelled images; ``rank(...).frame`` is a pandas DataFrame.

    Args:
        data: folder of class folders, of train/val/test folders, or a CSV, or a DataFrame, with
            path,label[,split][,group]; or (images, labels), the images uint8 (height, width, 3).
        observer: told of the progress; None shows a line in a notebook's cell, and nothing elsewhere.
        **options: those of the command.

    Returns:
        The board, in rank order.

    Raises:
        TypeError: there is no such option.
        ArgumentError: an option that cannot be, no such backbone or weights.
        DataError: the images cannot be used.
        NothingScored: no backbone got a score.
        StorageError: a folder cannot be written.
    """
    watch = observer or Silent()
    ranked = rank_backbones(
        RankRequest.of(RankOptions.check({"data": _located(data, options), **options})), watch
    )
    if ranked.replaced:
        watch.message(ranked.replaced)
    return Board.of(ranked.board, ranked.folder)


@takes(PlanOptions)
def plan(
    data: Images | None = None,
    *,
    observer: Observer | None = None,
    **options: Any,  # noqa: ANN401
) -> pd.DataFrame:
    """What ranking would take in time, memory, storage and money; nothing is computed.

    Args:
        data: as ``rank`` takes them; may be absent where ``images`` is given.
        observer: told of the progress.
        **options: those of the command.

    Returns:
        One row a backbone and a last one of ``all``: ``status``, ``images`` to embed, ``seconds``,
        ``memory_bytes`` of a process, ``storage_bytes``, with a price ``cost``. Seconds and cost of a
        backbone are its share of the whole.

    Raises:
        ArgumentError: an option that cannot be, or neither data nor ``images``.
        DataError: the images cannot be used.
    """
    import pandas as pd

    where = {} if data is None else {"data": _located(data, options)}
    return pd.DataFrame(estimate_costs(PlanOptions.check({**where, **options}), observer).rows())


def load_board(folder: Source) -> Board:
    """The board that an earlier run left.

    Args:
        folder: ``results/<dataset>``, or one of its ``runs``.

    Raises:
        DataError: there is no board.
    """
    place = path_of(folder)
    return Board.of(read_board(place / "leaderboard.json"), place)


@takes(EmbedOptions, without=("backbones",))
def embed(
    data: Images,
    backbone: str,
    *,
    observer: Observer | None = None,
    **options: Any,  # noqa: ANN401
) -> LabelledEmbeddings:
    """The embeddings of some images under one backbone; what the cache holds is not computed again.

    Args:
        data: folder of class folders, of train/val/test folders, or a CSV, or a DataFrame, with
            path,label[,split][,group]; or (images, labels), the images uint8 (height, width, 3).
        backbone: its name, for example ``MobileNet_0.25``.
        observer: told of the progress.
        **options: those of the command.

    Returns:
        ``features`` float32 (N, D), with ``labels``, ``paths`` and ``groups``.

    Raises:
        ArgumentError: an option that cannot be, or not the name of one backbone.
        DataError: the images cannot be used.
        EmbeddingError: the backbone could not be run.
    """
    asked = EmbedOptions.check({"data": _located(data, options), "backbones": backbone, **options})
    request = EmbedRequest.of(asked)
    if len(request.backbones) != 1:
        names = ", ".join(one.name for one in request.backbones[:5])
        raise ArgumentError("names several backbones", where="`backbone`", expected="one name", got=names)
    done = embed_request(request, observer)
    (plan,) = done.plans
    if plan.stopped is not None or plan.key is None:
        raise EmbeddingError(
            plan.stopped.reason if plan.stopped else "not embedded", where=plan.backbone.name
        )
    images = done.images
    stored = EmbeddingStore(asked.cache).read(plan.key, images.image_ids)
    return LabelledEmbeddings(
        image_ids=stored.image_ids,
        features=stored.features,
        backbone=plan.backbone.name,
        labels=tuple(images.label_of(row) for row in range(len(images))),
        paths=tuple(images.paths),
        groups=images.groups,
    )


@takes(FinetuneOptions)
def finetune(data: Images, *, observer: Observer | None = None, **options: Any) -> Model:  # noqa: ANN401
    """Fine-tune a backbone: the board's winner, or another one.

    Args:
        data: folder of class folders, of train/val/test folders, or a CSV, or a DataFrame, with
            path,label[,split][,group]; or (images, labels), the images uint8 (height, width, 3).
        observer: told of the progress.
        **options: those of the command.

    Returns:
        The model; of several (``top``) the one with the best validation F1.

    Raises:
        ArgumentError: an option that cannot be, or no board to take the winner from.
        DataError: the images cannot be used.
        NothingScored: nothing could be fine-tuned.
    """
    done = finetune_backbones(
        FinetuneJob.of(FinetuneOptions.check({"data": _located(data, options), **options})), observer
    )
    best = done.models[0]
    return Model(best.model_dir, (*best.notes, *done.remarks))


@takes(StudyOptions)
def study(data: Sequence[Images], *, observer: Observer | None = None, **options: Any) -> Study:  # noqa: ANN401
    """Which cheap rule picks the best fine-tuned backbone: boards and fine-tuning over several data sets.

    Args:
        data: two data sets or more, each as ``rank`` takes it.
        observer: told of the cost before anything is computed, and of the progress; None works silently.
        **options: those of the command.

    Returns:
        ``frame`` (the rules), and ``data``, ``choices`` and ``runs`` as rows.

    Raises:
        ArgumentError: an option that cannot be, fewer than two data sets, or two of one name.
        DataError: there is no such data set, or its images cannot be used.
        NothingScored: nothing could be fine-tuned.
    """
    places = [_located(one, options) for one in data]
    done = study_backbones(StudyOptions.check({"data": places, **options}), observer)
    return Study(
        **{one.name: getattr(done.tables, one.name) for one in fields(StudyTables)}, folder=done.folder
    )


def load_model(folder: Source) -> Model:
    """A fine-tuned model, or one of its exports, ready to predict.

    Raises:
        ManifestError: the folder holds no model, or a damaged one.
    """
    model = Model(folder)
    assert model.predictor  # opened now, so that a wrong folder is told here
    return model


@takes(ListOptions)
def list_backbones(**options: Any) -> pd.DataFrame:  # noqa: ANN401
    """The backbones that there are, one a row.

    Args:
        **options: those of the command.

    Raises:
        ArgumentError: nothing has such a name.
    """
    import pandas as pd

    asked = ListOptions.check(options)
    return pd.DataFrame([backbone_row(one, asked.weights) for one in chosen(asked)])
