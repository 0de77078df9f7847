"""From a board to fine-tuned models, with networks of two layers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmark.errors import ArgumentError, DataError, NothingScored
from benchmark.execution import LocalRunner
from benchmark.finetuning import Recipe
from benchmark.options import FinetuneOptions, RecipeChanges
from benchmark.pipeline import FinetuneJob, RankRequest, finetune_backbones, rank_backbones
from benchmark.pipeline.shipping import start_head
from benchmark.pipeline.stored import StoredRanking
from benchmark.records import (
    Average,
    Backbone,
    ProtocolName,
    Resize,
    Silent,
    WeightsKind,
    WeightsSource,
)

pytestmark = pytest.mark.filterwarnings(
    # Keras converts variables without NumPy 2's copy keyword.
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
Make = Callable[..., FinetuneJob]
BOTH_SIDES = r"(\d+)\.png"  # a group of each number: one cracked wall, one sound wall


class Witness:
    """An observer that writes messages down."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def started(self, task: str, total: int) -> None: ...

    def advanced(self, task: str, done: int, note: str = "") -> None: ...

    def finished(self, task: str, note: str = "") -> None: ...

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture(scope="module")
def pair(tiny: ModuleType) -> tuple[Backbone, Backbone]:
    return tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16)


@pytest.fixture
def recipe(tiny: ModuleType) -> Recipe:
    changes = RecipeChanges(image_size=tiny.SIZE, batch_size=16, epochs=(1, 0))
    return Recipe.load().changed(changes)


@pytest.fixture
def job_for(tmp_path: Path, photos: Path, recipe: Recipe) -> Make:
    def make(*backbones: Backbone, recipe: Recipe = recipe, **options: object) -> FinetuneJob:
        usual = {
            "data": photos,
            "weights": "random",
            "cache": tmp_path / "cache",
            "results": tmp_path / "results",
            "jobs": 1,
        }
        return FinetuneJob(
            options=FinetuneOptions.check({**usual, **options}), recipe=recipe, known=backbones
        )

    return make


@pytest.fixture
def ranked(request_for: Callable[..., RankRequest], photos: Path, pair: tuple[Backbone, Backbone]) -> Path:
    """The folder of a board of both backbones, where the job will look for it."""
    return rank_backbones(request_for(photos, *pair)).folder


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def metrics(model_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model_dir / "metrics.json").read_text())
    return found


def on_the_board(folder: Path, name: str) -> dict[str, str]:
    return next(row for row in table(folder / "leaderboard.csv") if row["backbone"] == name)


def test_one_backbone_and_what_the_board_says_of_it(
    job_for: Make, pair: tuple[Backbone, Backbone], ranked: Path
) -> None:
    result = finetune_backbones(job_for(*pair, winner="auto"))
    (model,) = result.models
    assert result.failed == ()
    assert result.regret is None, "there is nothing to compare it with"
    row = on_the_board(ranked, model.backbone)
    assert row["rank"] == "1"
    low, high = float(row["val_f1_low"]), float(row["val_f1_high"])
    test_f1 = model.manifest.metrics["test"]["f1"]
    place = "below" if test_f1 < low else "above" if test_f1 > high else "inside"
    sentence = f"Test F1 {test_f1:.3f} lies {place} the board's cross-validation interval"
    assert f"{sentence} [{low:.3f}, {high:.3f}]." in model.notes
    recorded = metrics(model.model_dir)["comparison"]
    assert recorded["board"] == {
        "val_f1_low": low,
        "val_f1_high": high,
        "same_data": True,
        "test_f1_is": place,
    }
    assert not (ranked / "finetune" / "top.csv").exists()
    assert not (model.model_dir / "rejected.csv").exists()


def test_an_interval_of_something_else_is_not_compared(
    job_for: Make, pair: tuple[Backbone, Backbone], ranked: Path
) -> None:
    for job in (
        job_for(*pair, winner="Tiny8", seed=7),
        job_for(*pair, winner="Tiny8", average=Average.MICRO),
    ):
        (model,) = finetune_backbones(job).models
        assert metrics(model.model_dir)["comparison"]["board"] is None
        assert "interval" not in " ".join(model.notes)


def test_the_first_two_of_the_board(job_for: Make, pair: tuple[Backbone, Backbone], ranked: Path) -> None:
    result = finetune_backbones(job_for(*pair, top=2))
    assert {model.backbone for model in result.models} == {"Tiny8", "Tiny16"}
    first, second = result.models
    assert first.val_f1 >= second.val_f1
    rows = table(ranked / "finetune" / "top.csv")
    assert [row["backbone"] for row in rows] == [first.backbone, second.backbone]
    assert [row["rank"] for row in rows] == ["1", "2"]
    for row in rows:
        assert row["board_rank"] == on_the_board(ranked, row["backbone"])["rank"]
    # Six test images of a class show nothing, so nothing is said.
    assert result.regret is None
    assert rows[0]["regret"] == rows[1]["regret_high"] == ""
    assert "is not known: too few images of some class in the test part." in result.remarks[-1]


def test_halving_gives_the_better_half_twice_the_epochs(
    tiny: ModuleType,
    job_for: Make,
    recipe: Recipe,
    request_for: Callable[..., RankRequest],
    photos: Path,
) -> None:
    """All four train for a quarter, two or three (with the board's first) for a half, and so on."""
    four = [tiny.tiny_backbone(f"Tiny{width}", width) for width in (4, 8, 12, 16)]
    folder = rank_backbones(request_for(photos, *four)).folder
    long = recipe.changed(RecipeChanges(epochs=(4, 0)))
    watch = Witness()
    result = finetune_backbones(job_for(*four, top=4, recipe=long, halving=True), watch)
    assert len(result.models) + len(result.left_out) == 4
    assert result.failed == ()
    built = [text for text in watch.messages if "Building" in text]
    assert len(built) == 4 + 2 + 1, "rounds of four, two and one"
    (model,) = result.models
    assert len((model.model_dir / "history.csv").read_text().splitlines()) == 1 + 4, "all its epochs"
    rows = table(folder / "finetune" / "top.csv")
    assert [(row["backbone"], row["rank"], row["board_rank"]) for row in rows[:1]] == [
        (model.backbone, "1", "1")
    ]
    assert len(rows) == 4
    assert sum("left out after" in remark for remark in result.remarks) == 3
    early = [row for row in rows if "left out after 1/4 of the epochs" in row["reason"]]
    late = [row for row in rows if "left out after 1/2 of the epochs" in row["reason"]]
    assert (len(early), len(late)) == (2, 1)
    for row in (*early, *late):
        assert (row["rank"], row["tie"], row["regret"]) == ("", "", "")
        assert f"validation F1 {float(row['val_f1']):.3f}" in row["reason"]
    with pytest.raises(ArgumentError, match="`halving`"):
        finetune_backbones(job_for(*four, winner="Tiny8", halving=True))


def test_halving_leaves_finished_models_where_they_are(
    job_for: Make, pair: tuple[Backbone, Backbone], ranked: Path, recipe: Recipe
) -> None:
    long = recipe.changed(RecipeChanges(epochs=(2, 0)))
    whole = finetune_backbones(job_for(*pair, top=2, recipe=long)).models
    before = {model.model_dir: (model.model_dir / "run.json").read_bytes() for model in whole}
    result = finetune_backbones(job_for(*pair, top=2, recipe=long, halving=True))
    assert len(result.left_out) == 1
    assert [model.repeated for model in result.models] == [False]
    assert {path: (path / "run.json").read_bytes() for path in before} == before
    models = {path.parent for path in ranked.glob("finetune/*/*/manifest.json")}
    assert models == before.keys(), "nothing else looks like a finished model"
    again = finetune_backbones(job_for(*pair, top=2, recipe=long, halving=True))
    assert again.left_out == result.left_out
    # One epoch cannot be halved: what the first round finds is the model.
    assert finetune_backbones(job_for(*pair, top=2, halving=True)).models
    assert len([*ranked.glob("finetune/halving/*/*/manifest.json")]) == 2


def test_the_first_tie_group_is_fine_tuned(
    job_for: Make, pair: tuple[Backbone, Backbone], ranked: Path
) -> None:
    tied = [name for name in ("Tiny8", "Tiny16") if on_the_board(ranked, name)["tie_group"] == "1"]
    result = finetune_backbones(job_for(*pair, top="tied"))
    assert sorted(model.backbone for model in result.models) == sorted(tied)


def test_what_the_first_choice_gives_away_has_an_interval(
    tmp_path: Path,
    tiny: ModuleType,
    job_for: Make,
    request_for: Callable[..., RankRequest],
    pair: tuple[Backbone, Backbone],
) -> None:
    photos = tiny.draw_photos(tmp_path / "many", 60)
    folder = rank_backbones(request_for(photos, *pair)).folder
    job = job_for(*pair, data=photos, top=2)
    result = finetune_backbones(job)
    loss = result.regret
    assert loss is not None
    assert 0 <= loss.low <= loss.value <= loss.high
    assert loss.high > 0.02, "24 images cannot exclude that"
    chosen = next(row for row in table(folder / "finetune" / "top.csv") if row["board_rank"] == "1")
    assert [float(chosen[f"regret{end}"]) for end in ("", "_low", "_high")] == [
        loss.value,
        loss.low,
        loss.high,
    ]
    said = f"gives away between {loss.low:.3f} and {loss.high:.3f} F1 to the best of the 2 at 95 %"
    assert said in result.remarks[-1]
    assert "(24 images of the test part)" in result.remarks[-1]
    assert {row["tie"] for row in table(folder / "finetune" / "top.csv")} <= {"1", "2"}

    (result.models[0].model_dir / "predictions.csv").unlink()
    again = finetune_backbones(job)
    assert again.regret is None
    assert f"predictions.csv of {result.models[0].backbone} cannot be read" in again.remarks[-1]


@pytest.mark.parametrize("rank", [1, 2])
def test_one_of_two_fails(
    rank: int, tiny: ModuleType, job_for: Make, pair: tuple[Backbone, Backbone], ranked: Path
) -> None:
    """Whatever it is: the other one is fine-tuned, and both stand in the table."""
    name = next(one.name for one in pair if on_the_board(ranked, one.name)["rank"] == str(rank))
    broken = tiny.tiny_backbone(name, build=tiny.explode)
    watch = Witness()
    result = finetune_backbones(job_for(broken, *pair, top=2), watch)
    (model,) = result.models
    ((failed, reason),) = result.failed
    assert failed == name
    assert "no such architecture" in reason
    assert any(name in text and "no such architecture" in text for text in watch.messages)
    good, bad = table(ranked / "finetune" / "top.csv")
    assert (good["backbone"], good["rank"], good["reason"]) == (model.backbone, "1", "")
    assert (bad["backbone"], bad["rank"], bad["val_f1"], bad["regret"]) == (name, "", "", "")
    assert "no such architecture" in bad["reason"]
    if rank == 1:
        assert f"is not known: {name} failed" in result.remarks[-1]
    else:
        assert "is not known: no other one could be fine-tuned" in result.remarks[-1]
    assert result.regret is None


def test_all_fail(tiny: ModuleType, job_for: Make, pair: tuple[Backbone, Backbone], ranked: Path) -> None:
    broken = [tiny.tiny_backbone(one.name, build=tiny.explode) for one in pair]
    with pytest.raises(NothingScored, match="no such architecture"):
        finetune_backbones(job_for(*broken, top=2))
    assert len(table(ranked / "finetune" / "top.csv")) == 2
    with pytest.raises(RuntimeError, match="no such architecture"):
        finetune_backbones(job_for(*broken, winner="Tiny8"))


class Interrupt(Witness):
    """Ctrl-C when the second backbone is built."""

    def message(self, text: str) -> None:
        super().message(text)
        if sum("Building" in each for each in self.messages) == 2:
            raise KeyboardInterrupt


def test_what_was_fine_tuned_before_an_interruption_stands_in_the_table(
    job_for: Make, pair: tuple[Backbone, Backbone], ranked: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        finetune_backbones(job_for(*pair, top=2), Interrupt())
    done, waiting = table(ranked / "finetune" / "top.csv")
    assert (done["rank"], done["board_rank"], done["reason"]) == ("1", "1", "")
    assert (waiting["rank"], waiting["board_rank"], waiting["reason"]) == ("", "2", "not yet")


def test_a_winner_beside_top_is_refused(job_for: Make, pair: tuple[Backbone, Backbone]) -> None:
    with pytest.raises(ArgumentError, match="`winner=Tiny8`"):
        finetune_backbones(job_for(*pair, winner="Tiny8", top=2))


def test_a_network_of_another_library_is_refused_with_a_way_on(
    job_for: Make, pair: tuple[Backbone, Backbone]
) -> None:
    name = "timm:resnet18.a1_in1k"
    way_on = f"`winner={name}`.*backbones export --from-board .* --backbone {name} --to onnx,openvino"
    with pytest.raises(ArgumentError, match=way_on):
        finetune_backbones(job_for(*pair, winner=name))


@pytest.mark.parametrize("words", [{"winner": "Tiny8"}, {"winner": "auto"}, {"top": 1}], ids=str)
def test_whoever_is_named_is_taken_as_the_board_has_it(
    words: dict[str, Any],
    job_for: Make,
    request_for: Callable[..., RankRequest],
    photos: Path,
    tiny: ModuleType,
) -> None:
    """Weights with their seed, input size, resizing, groups, average and positive class; and it is said."""
    backbone = tiny.tiny_backbone("Tiny8", 8)
    request = request_for(photos, backbone)
    request = request.but(size=16, resize=Resize.AREA, groups=BOTH_SIDES, positive="sound")
    protocol = replace(request.protocol, average=Average.MACRO)
    ranked = rank_backbones(replace(request, protocol=protocol))
    result = finetune_backbones(job_for(backbone, weights=None, **words))
    (model,) = result.models
    manifest = model.manifest
    assert manifest.weights_sha256 == ranked.board.rows[0]["weights_sha256"]
    assert (manifest.input_size, manifest.resize, manifest.average) == (16, Resize.AREA, Average.MACRO)
    assert manifest.classes[manifest.positive or 0] == "sound"
    assert manifest.data_fingerprint == ranked.images.fingerprint()
    assert metrics(model.model_dir)["comparison"]["board"]["same_data"]
    said = "random weights, 16 pixels, groups " + BOTH_SIDES + ", macro F1."
    assert result.remarks[0] == f"Tiny8, as it was ranked in {ranked.folder}: {said}"


def test_what_is_asked_for_wins_over_the_board(
    job_for: Make,
    request_for: Callable[..., RankRequest],
    photos: Path,
    pair: tuple[Backbone, Backbone],
) -> None:
    ranked = rank_backbones(request_for(photos, *pair, groups="auto"))
    job = job_for(*pair, winner="Tiny8", image_size=16, groups="none", average=Average.MICRO)
    result = finetune_backbones(job)
    (model,) = result.models
    assert (model.manifest.input_size, model.manifest.average) == (16, Average.MICRO)
    assert model.comparison.grouping is None
    assert result.remarks[0] == (
        f"Tiny8, as it was ranked in {ranked.folder}: random weights; 16 pixels instead of 24 pixels; "
        "groups none instead of groups auto; micro F1 instead of binary F1."
    )


@pytest.mark.parametrize("limit", [None, 24])
def test_the_split_is_the_boards_and_another_one_is_said_to_flatter(
    limit: int | None,
    job_for: Make,
    request_for: Callable[..., RankRequest],
    photos: Path,
    pair: tuple[Backbone, Backbone],
) -> None:
    """Images that chose the winner are no test images of its model; of few images, the same are drawn."""
    ranked = rank_backbones(request_for(photos, *pair, seed=7, limit=limit))
    result = finetune_backbones(job_for(*pair, winner="Tiny8", limit=limit))
    manifest = result.models[0].manifest
    assert (manifest.seed, manifest.data_fingerprint) == (7, ranked.images.fingerprint())
    assert len(result.remarks) == 1
    assert "seed" not in result.remarks[0]
    other = finetune_backbones(job_for(*pair, winner="Tiny8", seed=0))
    assert other.models[0].manifest.seed == 0
    origin, flattered = other.remarks
    assert "seed 0 instead of seed 7" in origin
    assert "The board chose on" in flattered


FROZEN = ("positive", "average", "groups", "resize", "seed", "limit", "threshold", "follow_links", "weights")


@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_model_refuses_what_its_board_has_not(
    name: str,
    job_for: Make,
    request_for: Callable[..., RankRequest],
    photos: Path,
    pair: tuple[Backbone, Backbone],
) -> None:
    rank_backbones(request_for(photos, *pair, positive="sound", groups=BOTH_SIDES, seed=7))
    others = {"positive": "cracked", "average": "macro", "groups": "none", "resize": "area", "seed": 5}
    others |= {"limit": 40, "threshold": "tuned", "follow_links": True, "weights": "imagenet"}
    frozen = partial(job_for, *pair, recipe=Recipe.load("frozen"), winner="Tiny8")
    with pytest.raises(ArgumentError, match="as it is") as caught:
        finetune_backbones(frozen(**{"weights": None, name: others[name]}))
    assert f"`{name}`" in str(caught.value)


def test_a_frozen_model_takes_what_its_board_has(
    job_for: Make, request_for: Callable[..., RankRequest], photos: Path, pair: tuple[Backbone, Backbone]
) -> None:
    asked = {"positive": "sound", "groups": BOTH_SIDES, "seed": 7, "resize": "area", "threshold": "tuned"}
    request = request_for(photos, *pair, **asked)
    protocol = replace(request.protocol, threshold=request.options.threshold)
    rank_backbones(replace(request, protocol=protocol))
    frozen = partial(job_for, *pair, recipe=Recipe.load("frozen"), winner="Tiny8", weights=None)
    (model,) = finetune_backbones(frozen()).models
    assert model.manifest.classes[model.manifest.positive or 0] == "sound"
    assert model.manifest.seed == 7
    (same,) = finetune_backbones(frozen(**asked)).models
    assert not same.repeated
    with pytest.raises(ArgumentError, match="`halving`"):
        finetune_backbones(job_for(*pair, recipe=Recipe.load("frozen"), top=2, halving=True, weights=None))


def test_a_recipe_that_is_not_the_default_keeps_its_size(
    job_for: Make, pair: tuple[Backbone, Backbone], ranked: Path, recipe: Recipe
) -> None:
    own = recipe.model_copy(update={"name": "mine", "image_size": 20})
    (model,) = finetune_backbones(job_for(*pair, winner="Tiny8", recipe=own)).models
    assert model.manifest.input_size == 20


def test_a_backbone_that_is_not_on_the_board_is_taken_as_the_others_were(
    job_for: Make, request_for: Callable[..., RankRequest], photos: Path, pair: tuple[Backbone, Backbone]
) -> None:
    request = request_for(photos, pair[0])
    rank_backbones(request.but(size=16))
    result = finetune_backbones(job_for(*pair, winner="Tiny16", weights=None))
    (model,) = result.models
    assert (model.manifest.input_size, model.manifest.weights) == (16, "random")
    assert "Tiny16, not on the board itself" in result.remarks[0]


@pytest.mark.parametrize("protocol", [ProtocolName.CV, ProtocolName.HOLDOUT, ProtocolName.REFERENCE])
def test_training_goes_on_from_a_head_that_saw_the_training_part_alone(
    protocol: ProtocolName,
    job_for: Make,
    request_for: Callable[..., RankRequest],
    photos: Path,
    pair: tuple[Backbone, Backbone],
) -> None:
    request = request_for(photos, *pair)
    ranked = rank_backbones(replace(request, protocol=replace(request.protocol, name=protocol)))
    stored = StoredRanking.read(
        ranked.folder, data=photos, results=ranked.folder.parent, cache=request.options.cache
    )
    weights = WeightsSource(kind=WeightsKind.RANDOM)
    start = start_head(stored, pair[0], weights, ranked.images, Silent(), LocalRunner())
    assert start.head.fitted.tolist() == sorted(ranked.images.split.train.tolist())
    assert (start.part, len(start.expected)) == ("val", len(ranked.images.split.val))
    job = replace(job_for(*pair, weights=None, winner="Tiny8", epochs=(1, 0)), recipe=None)
    (model,) = finetune_backbones(job).models
    assert model.manifest.recipe == "probe-then-tune"
    found = model.probabilities(ranked.images, "val")
    assert model.kept_phase == "before", "so few images show nothing"
    decided = (found[:, 0] >= model.manifest.threshold).tolist()
    assert decided == (start.expected[:, 0] >= 0.5).tolist(), "up to the temperature"


def test_without_a_board_it_is_said_where_it_starts(job_for: Make, pair: tuple[Backbone, Backbone]) -> None:
    job = job_for(*pair, winner="Tiny8")
    result = finetune_backbones(job)
    folder = job.options.results / "walls"
    said = f"Tiny8, without a board in {folder}: random weights, 24 pixels, groups auto, binary F1."
    assert result.remarks == (said,)


@pytest.mark.faults("namesakes and boards that would be overwritten")
@pytest.mark.parametrize("winner", ["Tiny8", "auto"])
def test_a_board_of_other_images_is_refused(
    winner: str,
    job_for: Make,
    request_for: Callable[..., RankRequest],
    tiny: ModuleType,
    tmp_path: Path,
    pair: tuple[Backbone, Backbone],
) -> None:
    data = tiny.draw_photos(tmp_path / "walls")
    rank_backbones(request_for(data, *pair))
    job = job_for(*pair, winner=winner, data=data)
    photo = next(iter(sorted((data / "sound").iterdir())))
    photo.rename(data / "cracked" / photo.name)
    with pytest.raises(DataError, match="of other images") as caught:
        finetune_backbones(job)
    assert "1 have other labels" in str(caught.value)
    tiny.draw_photos(data, count=3, seed=4)
    with pytest.raises(DataError, match="6 of these are not on the board"):
        finetune_backbones(job)
    assert not (job.options.results / "walls" / "finetune").exists()


@pytest.mark.faults("namesakes and boards that would be overwritten")
def test_the_board_of_a_namesake_is_no_board(
    job_for: Make, pair: tuple[Backbone, Backbone], ranked: Path, tiny: ModuleType, tmp_path: Path
) -> None:
    other = tiny.draw_photos(tmp_path / "other" / "walls", seed=1)
    with pytest.raises(ArgumentError, match="no board") as caught:
        finetune_backbones(job_for(*pair, winner="auto", data=other))
    assert str(ranked) in str(caught.value)
    (model,) = finetune_backbones(job_for(*pair, winner="Tiny8", data=other)).models
    assert model.model_dir.parents[2].name.startswith("walls-")
    assert not (ranked / "finetune").exists()


def test_a_board_of_some_of_the_images_will_do(
    job_for: Make, request_for: Callable[..., RankRequest], photos: Path, pair: tuple[Backbone, Backbone]
) -> None:
    request = request_for(photos, *pair)
    rank_backbones(request.but(limit=40))
    result = finetune_backbones(job_for(*pair, winner="Tiny8"))
    (model,) = result.models
    assert not metrics(model.model_dir)["comparison"]["board"]["same_data"]
    assert "The board chose on" not in " ".join(result.remarks)


@pytest.mark.parametrize("options", [{"seed": 1}, {"groups": BOTH_SIDES}])
def test_images_of_the_test_part_that_chose_on_the_board_are_counted(
    job_for: Make,
    request_for: Callable[..., RankRequest],
    photos: Path,
    pair: tuple[Backbone, Backbone],
    options: dict[str, object],
) -> None:
    request = request_for(photos, *pair)
    folder = rank_backbones(request.but(limit=40)).folder
    chose = {row["path"] for row in table(folder / "images.csv") if row["part"] != "test"}
    result = finetune_backbones(job_for(*pair, winner="Tiny8", **options))
    rows = table(result.models[0].model_dir / "split.csv")
    test = [row["path"] for row in rows if row["part"] == "test"]
    said = f"The board chose on {len(chose & set(test))} of the {len(test)} images of the test part"
    assert chose & set(test)
    assert said in result.remarks[1]


def test_plain_and_grouped_test_f1_stand_side_by_side(job_for: Make, pair: tuple[Backbone, Backbone]) -> None:
    plain_job = job_for(*pair, winner="Tiny8")
    grouped_job = job_for(*pair, winner="Tiny8", groups=BOTH_SIDES)

    (plain,) = finetune_backbones(plain_job).models
    assert metrics(plain.model_dir)["comparison"]["groups"] is None
    assert plain.comparison.test_f1_by_split == {}

    (grouped,) = finetune_backbones(grouped_job).models
    wanted = {
        "plain": plain.manifest.metrics["test"]["f1"],
        "grouped": grouped.manifest.metrics["test"]["f1"],
    }
    assert grouped.comparison.test_f1_by_split == wanted
    recorded = metrics(grouped.model_dir)["comparison"]
    assert (recorded["groups"], recorded["torn_groups"]) == (30, 0)
    assert recorded["test_f1_by_split"] == wanted
    assert "The split keeps 30 groups of related images together." in grouped.notes
    assert f"Test F1 {wanted['plain']:.3f} on a plain split, {wanted['grouped']:.3f}" in " ".join(
        grouped.notes
    )

    # The other way round, although nothing is trained any more.
    (again,) = finetune_backbones(plain_job).models
    assert not again.repeated
    assert again.comparison.test_f1_by_split == wanted
    assert metrics(again.model_dir)["comparison"]["test_f1_by_split"] == wanted

    # A run that differs in more than the split says nothing about the split.
    (other,) = finetune_backbones(job_for(*pair, winner="Tiny8", class_weight="balanced")).models
    assert other.comparison.test_f1_by_split == {}


def test_parts_that_tear_groups_apart_are_said_to(
    job_for: Make, pair: tuple[Backbone, Backbone], photos: Path, tmp_path: Path
) -> None:
    """The user gave the parts: each wall's two pictures lie in different ones."""
    rows = ["path,label,split,group"]
    for number in range(30):
        parts = ("train", "test") if number % 2 else ("val", "train")
        for label, part in zip(("cracked", "sound"), parts, strict=True):
            rows.append(f"{photos}/{label}/0-{number:03}.png,{label},{part},{number}")
    listing = tmp_path / "walls.csv"
    listing.write_text("\n".join(rows))
    job = job_for(*pair, winner="Tiny8", data=listing, follow_links=True)
    (model,) = finetune_backbones(job).models
    assert model.comparison.grouping is not None
    assert model.comparison.grouping.torn == 30
    assert "30 of 30 groups" in " ".join(model.notes)


def test_rejected_files_are_listed_beside_the_model(
    job_for: Make, pair: tuple[Backbone, Backbone], tiny: ModuleType, tmp_path: Path
) -> None:
    data = tiny.draw_photos(tmp_path / "walls", count=12)
    page = data / "sound" / "page.png"
    page.write_text("<html>")
    job = job_for(*pair, winner="Tiny8", data=data)
    result = finetune_backbones(job)
    (model,) = result.models
    (row,) = table(model.model_dir / "rejected.csv")
    assert row["path"] == "sound/page.png"
    assert row["reason"]
    assert "1 file was left out" in result.remarks[-1]
    page.unlink()
    result = finetune_backbones(job)
    assert not result.models[0].repeated
    assert "left out" not in " ".join(result.remarks)
    assert not (model.model_dir / "rejected.csv").exists()
