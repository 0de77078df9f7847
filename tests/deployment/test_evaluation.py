"""A model on other labelled images, whatever classes and parts they come in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import deployment
from benchmark.data import load_images
from benchmark.deployment import Evaluation, Predictor
from benchmark.deployment.description import Deployment
from benchmark.errors import DataError, ManifestError
from benchmark.finetuning import SEEN_FILES, TrainedOn
from benchmark.finetuning.familiar import Familiar
from benchmark.finetuning.trained_on import seen_contents
from benchmark.options import DataOptions, EvaluateOptions
from benchmark.pipeline.model_reports import judged_evaluation
from benchmark.records import Average, Float32, ImageSet, Resize, Split, Task, UInt8
from benchmark.statistics import selective


def described(task: Task, labels: tuple[str, ...], positive: str | None = None) -> Deployment:
    return Deployment(
        schema=1,
        target="onnx",
        model="model.onnx",
        backbone="Tiny",
        task=task,
        labels=labels,
        positive=positive,
        threshold=0.5,
        input_size=4,
        input_shape=(0, 4, 4, 3),
        input_dtype="uint8",
        input_range=(0.0, 255.0),
        channels="RGB",
        resize=Resize.BILINEAR,
        output_dtype="float32",
        notes=(),
        files={"model.onnx": "0" * 64},
    )


def brightness(images: UInt8) -> Float32:
    """Probability of the positive class: the red channel's brightness."""
    return (images[..., 0].mean((1, 2)) / 255).astype(np.float32)[:, None]


def channels(images: UInt8) -> Float32:
    return (images.mean((1, 2)) / 255).astype(np.float32)


def evaluate(predictor: Predictor, images: ImageSet, **options: object) -> Evaluation:
    asked = EvaluateOptions.check({"model": "model", "data": "data", **options})
    return deployment.evaluate(predictor, images, asked)


NAMES = ("blue", "green", "red")
BRIGHT = Predictor(described(Task.BINARY, ("bright", "dark"), "bright"), brightness)
COLOUR = Predictor(described(Task.MULTICLASS, NAMES), lambda images: channels(images)[:, ::-1])
SEVERAL = Predictor(described(Task.MULTILABEL, NAMES), lambda images: channels(images)[:, ::-1])


def save(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), colour).save(path)
    return path


def photos(root: Path, counts: dict[str, tuple[int, int]]) -> Path:
    """``{class: (level, count)}`` as folders."""
    for label, (level, count) in counts.items():
        for number in range(count):
            save(root / label / f"{number}.png", (level + number, number, 3))
    return root


def loaded(predictor: Predictor, source: Path, options: DataOptions | None = None) -> ImageSet:
    return load_images(
        source,
        cache=source.parent / "cache",
        options=options or DataOptions(),
        known=predictor.description.known_labels,
    )


def test_a_class_may_be_too_small_to_split(tmp_path: Path) -> None:
    images = loaded(BRIGHT, photos(tmp_path / "d", {"bright": (200, 2), "dark": (20, 40)}))
    assert len(images) == 42
    assert images.split.test.tolist() == list(range(42))
    assert evaluate(BRIGHT, images).metrics["f1"] == 1.0


def test_one_class_is_enough(tmp_path: Path) -> None:
    images = loaded(BRIGHT, photos(tmp_path / "d", {"bright": (200, 5)}))
    result = evaluate(BRIGHT, images)
    assert result.metrics == dict.fromkeys(
        ("f1", "accuracy", "precision", "recall", "balanced_accuracy"), 1.0
    )
    assert result.absent == ("dark",)
    assert [row["support"] for row in result.per_class] == [5, 0]


def test_a_test_part_alone_is_a_data_set(tmp_path: Path) -> None:
    photos(tmp_path / "d" / "test", {"bright": (200, 2), "dark": (20, 3)})
    save(tmp_path / "d" / "test" / "stray.png", (9, 9, 9))
    images = loaded(BRIGHT, tmp_path / "d")
    assert len(images) == 5
    assert [(file.path, file.reason) for file in images.rejected] == [
        ("test/stray.png", "outside of any class folder")
    ]
    assert evaluate(BRIGHT, images).metrics["f1"] == 1.0


def test_all_parts_are_scored(tmp_path: Path) -> None:
    for part, shift in (("train", 0), ("val", 10), ("test", 20)):
        photos(tmp_path / "d" / part, {"bright": (180 + shift, 4), "dark": (20 + shift, 4)})
    assert evaluate(BRIGHT, loaded(BRIGHT, tmp_path / "d")).images == 24


def test_a_class_that_does_not_occur_takes_nothing_from_the_mean(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for number in range(3):
        save(root / "red" / f"{number}.png", (200 + number, 0, 0))
        save(root / "blue" / f"{number}.png", (0, 0, 200 + number))
    result = evaluate(COLOUR, loaded(COLOUR, root))
    assert result.absent == ("green",)
    assert result.metrics["f1"] == 1.0
    assert result.confusion is not None
    assert result.confusion.tolist() == [[3, 0, 0], [0, 0, 0], [0, 0, 3]]
    # One red image that looks green: red misses it, and green still has no image to be scored by.
    save(root / "red" / "0.png", (0, 200, 0))
    result = evaluate(COLOUR, loaded(COLOUR, root))
    assert result.metrics["f1"] == pytest.approx((1 + 0.8) / 2)
    assert np.isnan(next(row["f1"] for row in result.per_class if row["class"] == "green"))


def test_a_single_class_decided_throughout_is_perfect(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for number in range(3):
        save(root / "red" / f"{number}.png", (200 + number, 0, 0))
    assert evaluate(COLOUR, loaded(COLOUR, root)).metrics["f1"] == 1.0


def test_several_labels_are_the_models_business(tmp_path: Path) -> None:
    """No row carries two labels, one carries none: the model's task decides how they are read."""
    root = tmp_path / "d"
    save(root / "a.png", (200, 0, 0))
    save(root / "b.png", (0, 0, 200))
    save(root / "c.png", (0, 1, 0))
    (root / "labels.csv").write_text("path,label\na.png,red\nb.png,blue\nc.png,\n")
    images = loaded(SEVERAL, root / "labels.csv")
    assert images.task is Task.MULTILABEL
    assert images.classes == NAMES
    assert len(images) == 3
    assert evaluate(SEVERAL, images).metrics["accuracy"] == 1.0
    with pytest.raises(DataError, match="no label"):
        loaded(COLOUR, root / "labels.csv", DataOptions(strict=True))
    (root / "labels.csv").write_text("path,label\na.png,red;blue\n")
    with pytest.raises(DataError, match="several labels"):
        loaded(COLOUR, root / "labels.csv")


def test_unknown_classes_are_named_with_the_models(tmp_path: Path) -> None:
    root = photos(tmp_path / "d", {"bright": (200, 2), "dim": (20, 2)})
    with pytest.raises(DataError, match=r"does not know.*expected bright, dark; got dim"):
        loaded(BRIGHT, root)
    plain = load_images(
        photos(tmp_path / "e", {"bright": (200, 6), "dim": (20, 6)}), cache=tmp_path / "cache"
    )
    with pytest.raises(DataError, match=r"does not know.*expected bright, dark; got dim"):
        evaluate(BRIGHT, plain)
    photos(tmp_path / "f" / "walls", {"bright": (200, 2), "dark": (20, 2)})
    with pytest.raises(DataError, match=r"Did you mean .*f/walls"):
        loaded(BRIGHT, tmp_path / "f")


def test_what_could_not_be_scored_is_counted(tmp_path: Path) -> None:
    root = photos(tmp_path / "d", {"bright": (200, 4), "dark": (20, 4)})
    (root / "dark" / "page.jpg").write_text("<html>")
    images = loaded(BRIGHT, root)
    (root / "bright" / "3.png").unlink()
    result = evaluate(BRIGHT, images)
    assert (result.images, result.unreadable) == (7, 1)
    assert [file.path for file in result.rejected] == ["dark/page.jpg"]


def test_a_larger_limit_of_pixels_reaches_the_decoder(tmp_path: Path) -> None:
    root = photos(tmp_path / "d", {"bright": (200, 2)})
    images = loaded(BRIGHT, root)
    assert evaluate(BRIGHT, images, max_pixels=63).images == 2
    with pytest.raises(DataError, match="too many pixels"):
        evaluate(BRIGHT, images, max_pixels=62)


def test_the_models_average_is_used(tmp_path: Path) -> None:
    root = photos(tmp_path / "d", {"bright": (200, 4), "dark": (20, 4)})
    save(root / "dark" / "0.png", (250, 1, 1))
    images = loaded(BRIGHT, root)
    assert evaluate(BRIGHT, images).metrics["f1"] == pytest.approx(8 / 9)
    macro = Predictor(replace(BRIGHT.description, average=Average.MACRO), brightness)
    result = evaluate(macro, images)
    assert result.average is Average.MACRO
    assert result.metrics["f1"] == pytest.approx((8 / 9 + 6 / 7) / 2)


def test_the_threshold_may_be_another(tmp_path: Path) -> None:
    images = loaded(BRIGHT, photos(tmp_path / "d", {"bright": (100, 4), "dark": (20, 4)}))
    assert evaluate(BRIGHT, images).threshold == 0.5
    result = evaluate(BRIGHT, images, threshold=0.3)
    assert (result.threshold, result.metrics["f1"]) == (0.3, 1.0)


def test_a_binary_average_of_many_classes_is_impossible(tmp_path: Path) -> None:
    from benchmark.deployment.description import read_description

    wrong = replace(described(Task.MULTICLASS, NAMES), average=Average.BINARY)
    (tmp_path / "deployment.json").write_bytes(wrong.to_json())
    with pytest.raises(ManifestError, match="average"):
        read_description(tmp_path)


def test_right_and_wrong_are_counted(tmp_path: Path) -> None:
    root = photos(tmp_path / "data", {"bright": (200, 6), "dark": (20, 6)})
    save(root / "dark" / "0.png", (250, 1, 1))  # looks bright
    result = evaluate(BRIGHT, loaded(BRIGHT, root))
    assert result.labels == ("bright", "dark")
    assert result.confusion is not None
    assert result.confusion.tolist() == [[6, 0], [1, 5]]
    assert result.metrics["f1"] == pytest.approx(12 / 13)
    assert result.metrics["accuracy"] == pytest.approx(11 / 12)
    assert [row["support"] for row in result.per_class] == [6, 6]
    assert result.per_class[1]["recall"] == pytest.approx(5 / 6)
    assert {row.label for row, truth in zip(result.rows, result.truth, strict=True) if truth == "bright"} == {
        "bright"
    }


def test_sets_that_were_split_are_scored_with_the_models_positive_class(tmp_path: Path) -> None:
    root = photos(tmp_path / "data", {"bright": (200, 6), "dark": (20, 6)})
    images = load_images(root, cache=tmp_path / "cache")
    assert images.classes[images.positive or 0] == "dark"  # the data set's own rule says otherwise
    assert evaluate(BRIGHT, images).metrics["f1"] == 1.0


def test_the_page_and_the_figures_agree_on_what_is_unsure(tmp_path: Path) -> None:
    """An image unlike the training images is a figure of its own, however sure its label is."""
    root = photos(tmp_path / "d", {"bright": (150, 30), "dark": (60, 30)})
    save(root / "dark" / "0.png", (250, 1, 1))
    images = loaded(BRIGHT, root)
    model = Predictor(BRIGHT.description, brightness)
    none_known = Familiar(vectors=np.array([[-1.0, 0.0, 0.0]], np.float16), limit=0.5)
    model.know(none_known, lambda shown: (brightness(shown), channels(shown)))
    found = evaluate(model, images, sure_from=0.65)
    assert found.unlike == found.images == 60
    judged = judged_evaluation(found, images)
    shown = selective(judged.sure, judged.right, judged.sure_from, judged.groups, seed=judged.seed)
    assert shown == found.abstention
    assert 0 < shown.answered.value < 1
    assert 0 < shown.error.value < 1


def test_a_semicolon_in_a_class_is_a_letter_like_others(tmp_path: Path) -> None:
    root = photos(tmp_path / "d", {"bright;light": (200, 4), "dark": (20, 3)})
    model = Predictor(described(Task.BINARY, ("bright;light", "dark"), "bright;light"), brightness)
    images = loaded(model, root)
    found = evaluate(model, images)
    assert found.metrics["accuracy"] == 1.0
    judged = judged_evaluation(found, images)
    assert judged.scores["accuracy"].value == 1.0
    assert judged.truths.count("bright;light") == 4


def test_whether_scored_images_chose_the_threshold(tmp_path: Path) -> None:
    images = loaded(BRIGHT, photos(tmp_path / "d", {"bright": (200, 5), "dark": (20, 5)}))
    model = having_seen(images, tmp_path, train=4, val=3)

    def chose(predictor: Predictor, **options: bool) -> bool | None:
        return judged_evaluation(evaluate(predictor, images, **options), images).chose_threshold

    assert chose(model) is False
    assert chose(model, include_seen=True) is True
    assert chose(BRIGHT) is None


def having_seen(images: ImageSet, folder: Path, *, train: int, val: int) -> Predictor:
    """A model that was fitted to the first images of a set and whose epoch the next ones chose."""
    rows = np.arange(len(images))
    split = Split(train=rows[:train], val=rows[train : train + val], test=rows[train + val :], given=True)
    for name, content in seen_contents(replace(images, split=split), split.train).items():
        (folder / name).write_bytes(content)
    predictor = Predictor(BRIGHT.description, brightness)
    predictor.trained_on = TrainedOn.read(folder, dict.fromkeys(SEEN_FILES, "0" * 64))
    return predictor


def test_images_that_the_model_has_seen_are_scored_apart(tmp_path: Path) -> None:
    images = loaded(BRIGHT, photos(tmp_path / "d", {"bright": (200, 5), "dark": (20, 5)}))
    result = evaluate(having_seen(images, tmp_path, train=4, val=3), images)
    assert result.seen_as == ("training",) * 4 + ("validation",) * 3 + ("",) * 3
    assert (result.images, sum(int(row["support"]) for row in result.per_class)) == (3, 3)
    assert result.seen is not None
    assert {part: found["images"] for part, found in result.seen.items()} == {"training": 4, "validation": 3}
    whole = evaluate(having_seen(images, tmp_path, train=4, val=3), images, include_seen=True)
    assert (whole.images, whole.includes_seen, whole.seen) == (10, True, result.seen)
    assert evaluate(BRIGHT, images).seen is None, "a model that does not say what it has seen"


def test_a_score_of_seen_images_alone_is_no_score_unless_asked_for(tmp_path: Path) -> None:
    images = loaded(BRIGHT, photos(tmp_path / "d", {"bright": (200, 2), "dark": (20, 2)}))
    model = having_seen(images, tmp_path, train=3, val=1)
    with pytest.raises(DataError, match=r"seen every one .*got 3 that it was fitted to and 1 that chose"):
        evaluate(model, images)
    assert evaluate(model, images, include_seen=True).images == 4
    new = having_seen(images, tmp_path, train=2, val=1)
    (images.root / images.paths[3]).unlink()
    with pytest.raises(DataError, match="no image can be read of those that the model has not seen"):
        evaluate(new, images)


def test_a_list_of_seen_images_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "training_images.ids").write_bytes(b"1234567")
    with pytest.raises(ManifestError, match="expected a whole number of 8 bytes each; got 7 bytes"):
        TrainedOn.read(tmp_path, dict.fromkeys(SEEN_FILES, "0" * 64))
