from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark import deployment
from benchmark.data import KnownLabels, load_images
from benchmark.deployment import Predictor
from benchmark.deployment.description import Deployment
from benchmark.deployment.prediction import Prediction, list_images
from benchmark.errors import ArgumentError, ExportError
from benchmark.options import PredictOptions
from benchmark.records import Float32, Observer, Resize, Task, UInt8


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
    return (images[..., 0].mean((1, 2), keepdims=False) / 255).astype(np.float32)[:, None]


def channels(images: UInt8) -> Float32:
    return (images.mean((1, 2)) / 255).astype(np.float32)


def predict(
    predictor: Predictor, images: Sequence[Path], observer: Observer | None = None, **options: object
) -> tuple[Prediction, ...]:
    asked = PredictOptions.check({"model": "model", "images": images, **options})
    return deployment.predict(predictor, asked, observer=observer)


BRIGHT = Predictor(described(Task.BINARY, ("bright", "dark"), "bright"), brightness, batch=3)


def save(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), colour).save(path)
    return path


def test_bad_files_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    light, black = save(tmp_path / "a" / "light.png", (255, 0, 0)), save(tmp_path / "b.png", (0, 0, 0))
    broken = tmp_path / "a" / "broken.jpg"
    broken.write_bytes(b"no picture")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    absent = tmp_path / "absent.png"
    rows = predict(BRIGHT, [tmp_path / "a", black, absent, black], batch_size=2)
    assert [Path(row.path) for row in rows] == [broken, light, black, absent, black]
    assert [row.label for row in rows] == ["", "bright", "dark", "", "dark"], "a file given twice has two"
    assert rows[1].probabilities == (1.0, 0.0)
    assert rows[2].probabilities == (0.0, 1.0)
    assert rows[1].decided == (True, False)
    assert rows[0].error
    assert rows[3].error
    assert not rows[1].error


def test_order_and_progress(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png", (number * 20, 0, 0)) for number in range(12)]

    class Watch:
        def __init__(self) -> None:
            self.seen: list[object] = []

        def started(self, task: str, total: int) -> None:
            self.seen.append((task, total))

        def advanced(self, task: str, done: int, note: str = "") -> None:
            self.seen.append(done)

        def finished(self, task: str, note: str = "") -> None:
            self.seen.append(note)

        def message(self, text: str) -> None:
            self.seen.append(text)

    watch = Watch()
    rows = predict(BRIGHT, paths[::-1], batch_size=5, observer=watch)
    assert [row.path for row in rows] == [str(path) for path in paths[::-1]]
    values = [row.probabilities[0] for row in rows]
    assert values == sorted(values, reverse=True)
    assert watch.seen == [("predict", 12), 5, 10, 12, "0 of 12 files could not be read"]


def test_the_threshold_may_be_overridden(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", (100, 0, 0))
    assert predict(BRIGHT, [path])[0].label == "dark"
    assert predict(BRIGHT, [path], threshold=0.3)[0].label == "bright"


def test_exclusive_and_several_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", (255, 10, 200))
    names = ("red", "green", "blue")
    (row,) = predict(Predictor(described(Task.MULTICLASS, names), channels), [path])
    assert (row.label, row.decided) == ("red", (True, False, False))
    (row,) = predict(Predictor(described(Task.MULTILABEL, names), channels), [path])
    assert (row.label, row.decided) == ("red;blue", (True, False, True))


@pytest.mark.parametrize("answer", [np.zeros((1, 2)), np.full((1, 1), np.nan)])
def test_impossible_answers_are_an_error(tmp_path: Path, answer: np.ndarray) -> None:
    broken = Predictor(BRIGHT.description, lambda images: answer.repeat(len(images), 0))
    with pytest.raises(ExportError, match="the model"):
        predict(broken, [save(tmp_path / "x.png", (0, 0, 0))])


def test_nothing_to_predict(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no images"):
        list_images([tmp_path])


def test_a_folder_is_listed_as_rank_lists_it(tmp_path: Path) -> None:
    """What rank takes of a class folder predict takes, and what rank rejects has its row with the reason."""
    folder = tmp_path / "photos" / "bright"
    for name in ("a.png", "b.JFIF", "c.jpe", "d.dib", "no suffix", "odd.ext", "deep/er/e.png"):
        save_as_png(folder / name)
    (folder / "phone.heic").write_bytes(b"x")
    (folder / "notes.txt").write_text("no image")
    save_as_png(folder / ".hidden.png")
    save_as_png(folder / "__MACOSX" / "a.png")
    outside = save_as_png(tmp_path / "outside.png")
    (folder / "link.png").symlink_to(outside)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere")
    save_as_png(tmp_path / "photos" / "dark" / "z.png", 1)
    known = KnownLabels(classes=("bright", "dark"), task=Task.BINARY, positive=0)
    images = load_images(folder.parent, cache=tmp_path / "cache", known=known)

    rows = predict(BRIGHT, [folder])
    ranked = {path for path in images.paths if path.startswith("bright")}
    # All of one content: rank keeps one of them and lists the others as its copies.
    ranked |= {copy for _, copy in images.duplicates}
    paths = {Path(row.path).relative_to(folder.parent).as_posix(): row.error for row in rows}
    assert {path for path, error in paths.items() if not error} == ranked
    assert len(ranked) == 7
    assert {path: error for path, error in paths.items() if error} == {
        file.path: file.reason for file in images.rejected
    }
    assert set(paths) - ranked == {"bright/phone.heic", "bright/link.png", "bright/gone.png"}
    followed = predict(BRIGHT, [folder], follow_links=True)
    assert {Path(row.path).name for row in followed if row.error} == {"gone.png", "phone.heic"}
    assert [row.path for row in predict(BRIGHT, [folder, folder])] == [row.path for row in rows] * 2
    assert predict(BRIGHT, [outside])[0].label == "bright"


def test_every_argument_has_its_row(tmp_path: Path) -> None:
    empty, path, long = tmp_path / "empty", save(tmp_path / "x.png", (255, 0, 0)), tmp_path / ("x" * 300)
    empty.mkdir()
    rows = predict(BRIGHT, [path, empty, long, path])
    assert [row.path for row in rows] == [str(one) for one in (path, empty, long, path)]
    assert [row.error for row in rows] == [
        "",
        "a folder without images",
        "the path is too long for this system",
        "",
    ]


def save_as_png(path: Path, level: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), (level, 0, 0)).save(path, "PNG")
    return path
