"""Recipes: named fine-tuning protocols, written as TOML and checked before anything runs."""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmark.errors import RecipeError
from benchmark.locations import path_of
from benchmark.options import RecipeChanges
from benchmark.storage import read_small

DEFAULT_RECIPE = "two-phase-f1"
BOARD_RECIPE = "probe-then-tune"  # what is taken where a board has a head to start from
_FOLDER = Path(__file__).parent / "recipes"
_MOST_BYTES = 2**20
_LAST_SHARE = 0.01
_UNKNOWN = "extra_forbidden"  # pydantic's name for a key that a table does not have
_BARE_KEY = re.compile(r"[\w-]+", re.ASCII)


class Pooling(StrEnum):
    """How the feature map becomes one vector."""

    AVG = "avg"
    MAX = "max"
    FLATTEN = "flatten"


class Start(StrEnum):
    """The weights that a head starts from."""

    RANDOM = "random"
    BOARD = "board"  # those of a head that was trained on the embeddings as the board's were


class Activation(StrEnum):
    """What two classes end in. More classes always end in softmax, multi-label always in sigmoid."""

    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"


class OptimizerName(StrEnum):
    """Optimizers, with Keras's defaults for all but the learning rate."""

    ADAM = "adam"
    ADAMW = "adamw"
    RMSPROP = "rmsprop"
    SGD = "sgd"


class Schedule(StrEnum):
    """How the learning rate moves over the epochs of a phase."""

    CONSTANT = "constant"
    COSINE = "cosine"  # to 0 after the last epoch
    EXPONENTIAL = "exponential"  # to a hundredth (_LAST_SHARE) after the last epoch


class Flip(StrEnum):
    """Mirror images."""

    NONE = "none"
    HORIZONTAL = "horizontal"
    VERTICAL = "vertical"
    BOTH = "both"
    AUTO = "auto"  # those that the board's head does not mind


class Fill(StrEnum):
    """What stands outside a moved image."""

    REFLECT = "reflect"
    NEAREST = "nearest"
    CONSTANT = "constant"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Augmentation(_Table):
    """Random changes of raw RGB images in 0..255, in the order of the attributes; 0 or (1, 1) is none.

    Attributes:
        brightness: largest shift of all pixels, of 255, both ways.
        contrast: range of the factor on the distance to the channel's mean.
        hue: largest shift on the hue circle (1 is once around), both ways.
        saturation: range of the factor on the saturation.
        flip: mirror images; ``auto``: those that the head that training starts from does not mind.
        rotation_degrees: largest angle, both ways.
        shift: largest move along each axis, in parts of the side, both ways.
        shear: largest horizontal shear, in parts of the side.
        zoom: largest zoom of both axes, in parts of the side, both ways.
        fill: what stands outside a moved image.
    """

    brightness: Annotated[float, Field(ge=0, le=255)] = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    saturation: tuple[float, float] = (1.0, 1.0)
    flip: Flip = Flip.NONE
    rotation_degrees: Annotated[float, Field(ge=0, le=360)] = 0.0
    shift: Annotated[float, Field(ge=0, le=1)] = 0.0
    shear: Annotated[float, Field(ge=0, le=1)] = 0.0
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    fill: Fill = Fill.REFLECT

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("contrast", "saturation"):
            low, high = getattr(self, name)
            if not 0 <= low <= 1 <= high <= 2:
                raise ValueError(f"{name} must be a range [low, high] with 0 <= low <= 1 <= high <= 2")
        return self

    @property
    def changes_nothing(self) -> bool:
        """Whether every image stays as it is."""
        return self == Augmentation(fill=self.fill)


class Head(_Table):
    """What stands on the feature map.

    Attributes:
        pooling: average, maximum, or all positions one after the other.
        hidden: units of a dense ReLU layer before the output; 0 is none.
        dropout: rate on the pooled vector.
        activation: what two classes end in.
        start: the weights that it starts from.
    """

    pooling: Pooling = Pooling.AVG
    hidden: Annotated[int, Field(ge=0, le=65536)] = 0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    activation: Activation = Activation.SIGMOID
    start: Start = Start.RANDOM

    @model_validator(mode="after")
    def _as_on_the_board(self) -> Self:
        plain = (Pooling.AVG, 0, Activation.SIGMOID)
        if self.start is Start.BOARD and (self.pooling, self.hidden, self.activation) != plain:
            raise ValueError("the board's head has average pooling, no hidden layer and a sigmoid")
        return self


class Phase(_Table):
    """One training phase.

    Attributes:
        optimizer: its name.
        learning_rate: of the first epoch.
        epochs: most epochs; 0 leaves the phase out.
        schedule: how the learning rate moves.
        patience: epochs without a better validation F1 (at equal F1: a lower loss) after which the phase
            ends; 0 never ends it early.
        warm_up: epochs in which the learning rate rises, update by update, to what it is without.
    """

    optimizer: OptimizerName = OptimizerName.ADAM
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    epochs: Annotated[int, Field(ge=0, le=100_000)]
    schedule: Schedule = Schedule.CONSTANT
    patience: Annotated[int, Field(ge=0)] = 0
    warm_up: Annotated[int, Field(ge=0, le=100_000)] = 0

    def rate_of(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0: an interrupted run meets the same ones again."""
        if self.schedule is Schedule.COSINE:
            return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * epoch / self.epochs))
        if self.schedule is Schedule.EXPONENTIAL:
            return self.learning_rate * float(_LAST_SHARE ** (epoch / self.epochs))
        return self.learning_rate

    def warmth(self, epoch: int, update: int, updates: int) -> float:
        """The share of an epoch's rate that an update gets, both counted from 0: 1 but in warm-up."""
        done = epoch + (update + 1) / updates
        return min(1.0, done / self.warm_up) if self.warm_up else 1.0


class UnfreezingPhase(Phase):
    """Phase 2. With neither attribute all layers are trained, BatchNormalization apart.

    Attributes:
        from_layer: name or index of the first trained layer of the backbone. Indices count as Keras's
            guides do, ``base_model.layers[:100]`` frozen for 100; negative ones count from the end.
        last_layers: number of trained layers at the end of the backbone.
        range_test: updates of a learning rate range test; it finds the learning rate, at most
            ``learning_rate``. 0 takes ``learning_rate`` itself.
        layer_decay: share of the learning rate that the first trained layer of the backbone gets; it grows
            geometrically to all of it at the last one.
    """

    from_layer: int | str | None = None
    last_layers: Annotated[int, Field(ge=1)] | None = None
    range_test: Annotated[int, Field(ge=0, le=10_000)] = 0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.from_layer is not None and self.last_layers is not None:
            raise ValueError("from_layer and last_layers exclude each other")
        return self


class Recipe(_Table):
    """A fine-tuning protocol.

    Attributes:
        name: the file's name without its ending.
        description: one sentence.
        backbone: used where the caller names none.
        image_size: input side in pixels.
        batch_size: images per update.
        augmentation: random changes of training images.
        head: what stands on the feature map.
        phase1: the head alone.
        phase2: head and unfrozen layers.
    """

    name: str
    description: str = ""
    backbone: str
    image_size: Annotated[int, Field(ge=8, le=8192)] = 224
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    augmentation: Augmentation = Augmentation()
    head: Head = Head()
    phase1: Phase
    phase2: UnfreezingPhase

    @property
    def starts_from_board(self) -> bool:
        """Whether the head is the board's to begin with."""
        return self.head.start is Start.BOARD

    @property
    def ships_the_board(self) -> bool:
        """Whether the model is the board's head on the frozen backbone: nothing is trained."""
        return self.starts_from_board and not self._epochs

    @property
    def _epochs(self) -> int:
        return self.phase1.epochs + self.phase2.epochs

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if not self._epochs and not self.starts_from_board:
            raise ValueError("phase1.epochs and phase2.epochs are both 0, so that nothing would be trained")
        if self.augmentation.flip is Flip.AUTO and not self.starts_from_board:
            raise ValueError('augmentation.flip = "auto" needs head.start = "board", which decides it')
        return self

    @property
    def follows_the_board(self) -> bool:
        """Whether winner and input size are the board's where nobody says otherwise."""
        return self.name == DEFAULT_RECIPE or self.starts_from_board

    @staticmethod
    def names() -> tuple[str, ...]:
        """The recipes that come with the package: the two defaults first, then by name."""
        names = sorted(path.stem for path in _FOLDER.glob("*.toml"))
        return tuple(sorted(names, key=lambda name: (name != BOARD_RECIPE, name != DEFAULT_RECIPE)))

    @staticmethod
    def text(name_or_path: str | Path) -> str:
        """The TOML text of a recipe.

        Raises:
            RecipeError: no such recipe or file.
        """
        path = _locate(name_or_path)
        try:
            return read_small(path, most_bytes=_MOST_BYTES).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError("the recipe cannot be read", where=path, got=error) from error

    @staticmethod
    def load(name_or_path: str | Path = DEFAULT_RECIPE) -> Recipe:
        """Read and check a recipe of the package, or a file (whatever ends in .toml or holds a slash).

        Raises:
            RecipeError: no such recipe, not TOML, unknown key, wrong type, or a value out of range.
        """
        path = _locate(name_or_path)
        try:
            content = tomllib.loads(Recipe.text(path))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise RecipeError(
                "the recipe is not valid TOML", where=path, got=error, next_step="Mend that line."
            ) from error
        where = path.stem if path.parent == _FOLDER else str(path)
        return _checked({"name": path.stem, **content}, where)

    def changed(self, changes: RecipeChanges) -> Recipe:
        """This recipe with a caller's changes.

        Raises:
            RecipeError: a value that a recipe could not have either, or a change of training where there is
                none.
        """
        given = [name for name in RecipeChanges.model_fields if getattr(changes, name) is not None]
        if self.ships_the_board:
            _refuse_training(self, given)
        content = json.loads(self.model_dump_json())
        _set(content["head"], pooling=changes.head, hidden=changes.hidden, dropout=changes.dropout)
        _set(content, image_size=changes.image_size, batch_size=changes.batch_size)
        for position, phase in enumerate((content["phase1"], content["phase2"])):
            _set(phase, optimizer=changes.optimizer, schedule=changes.schedule)
            _set(phase, patience=changes.early_stopping, epochs=_nth(changes.epochs, position))
            _set(phase, learning_rate=_nth(changes.learning_rates, position))
        if changes.learning_rates is not None:
            content["phase2"]["range_test"] = 0  # who names a rate gets it
        _override_unfreezing(content["phase2"], changes)
        changed = _checked(content, f"recipe {self.name} with the given options")
        if changed.ships_the_board:
            _refuse_training(self, [name for name in given if name != "epochs"])
        return changed


def _refuse_training(recipe: Recipe, given: Sequence[str]) -> None:
    """See that nothing but the input size, which is the board's, is changed where nothing is trained."""
    refused = [name for name in given if name != "image_size"]
    if refused:
        raise RecipeError(
            f"recipe {recipe.name} trains nothing: its head is the board's as it is",
            where=", ".join(f"`{name}`" for name in refused),
            next_step=f"Use the recipe {BOARD_RECIPE} with its epochs, which goes on from that head.",
        )


def _override_unfreezing(phase: dict[str, Any], changes: RecipeChanges) -> None:
    if changes.unfreeze_from is not None:
        phase.update(from_layer=_layer(changes.unfreeze_from), last_layers=None)
    if changes.unfreeze_last is not None:
        kept = phase["from_layer"] if changes.unfreeze_from is not None else None
        phase.update(from_layer=kept, last_layers=changes.unfreeze_last or None)


def _layer(text: int | str) -> int | str:
    return int(text) if isinstance(text, str) and text.removeprefix("-").isdecimal() else text


def _nth(pair: Sequence[float] | None, position: int) -> float | None:
    return None if pair is None else pair[position]


def _set(table: dict[str, Any], **values: object) -> None:
    table.update({key: value for key, value in values.items() if value is not None})


def _locate(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if text.endswith(".toml") or "/" in text or "\\" in text:
        return path_of(text)
    if text in Recipe.names():
        return _FOLDER / f"{text}.toml"
    close = difflib.get_close_matches(text, Recipe.names(), n=2, cutoff=0.4)
    hint = f"Did you mean {' or '.join(close)}?" if close else "Give a name from the list or a .toml file."
    raise RecipeError("no such recipe", where=text, expected=", ".join(Recipe.names()), next_step=hint)


def _checked(content: dict[str, Any], where: str) -> Recipe:
    # Through JSON, because only there does pydantic's strict mode take lists for tuples and text for enums.
    try:
        return Recipe.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        # One mistake is enough for one message; the next run shows the next one. An unknown key comes first:
        # a mistyped one is missing, too, and only the mistyped name shows what to mend.
        raise _recipe_error(min(error.errors(), key=lambda each: each["type"] != _UNKNOWN), where) from error


def _recipe_error(mistake: Mapping[str, Any], where: str) -> RecipeError:
    if mistake["type"] == _UNKNOWN:
        return _unknown_key([str(part) for part in mistake["loc"]], where)
    # Where a key takes numbers or names, pydantic adds the type that it tried.
    key = ".".join(str(part) for part in mistake["loc"] if part not in ("int", "str"))
    if mistake["type"] == "missing":
        return RecipeError(f"the key {key} is missing", where=where, next_step="Add it.")
    place = f"{where}: {key}" if key else where
    message = str(mistake["msg"]).removeprefix("Value error, ")
    got = json.dumps(mistake["input"], default=str) if key else ""
    return RecipeError("not a usable value", where=place, expected=_expected(message), got=got)


def _expected(message: str) -> str:
    text = message.removeprefix("Input should be ").removeprefix("a valid ")
    return text if text.startswith("'") else text[:1].lower() + text[1:]


def _unknown_key(parts: Sequence[str], where: str) -> RecipeError:
    *tables, last = parts
    table: Any = Recipe
    for name in tables:
        table = table.model_fields[name].annotation
    known = [name for name in table.model_fields if (tables or name != "name")]
    close = difflib.get_close_matches(last, known, n=1)
    hint = f"Did you mean {close[0]}?" if close else "Remove it."
    key = ".".join([*tables, last if _BARE_KEY.fullmatch(last) else json.dumps(last, ensure_ascii=False)])
    return RecipeError(f"unknown key {key}", where=where, expected=", ".join(known), next_step=hint)
