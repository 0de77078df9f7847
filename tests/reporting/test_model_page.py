"""A model's page and card: what they say, that nothing leaves them, and how they look in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from in_chromium import chromium, needs_chromium, scrolled, serious

from benchmark.records import Average, Task
from benchmark.reporting import (
    ExportUse,
    JudgedImages,
    ModelCard,
    ModelReport,
    PredictionPage,
    ShownImage,
    refresh_exports,
    write_card,
    write_model_page,
    write_prediction_page,
)
from benchmark.reporting.charts import Chart, Line, draw
from benchmark.reporting.judged_images import ConfusionTable, confusion_table, curve_charts, threshold_rows
from benchmark.reporting.model_page import model_page_bytes
from benchmark.statistics import calibration

HOSTILE = "<script>alert(1)</script>"
LABELS = {
    Task.BINARY: ("sound", f"crack {HOSTILE}"),
    Task.MULTICLASS: tuple(f"class_{number}" for number in range(5)),
    Task.MULTILABEL: ("wet", "cracked", "mossy"),
}
EXPORTS = (
    ExportUse(
        target="onnx",
        about="opset 17, made by `tf2onnx`",
        runtime="onnxruntime",
        folder="export/onnx",
        status="passed",
        size_bytes=880_000,
        agreement=1.0,
        difference=3e-7,
        latency_ms=0.6,
    ),
    ExportUse(target="tflite-int8", about="int8", runtime="ai-edge-litert", folder=""),
)
CARD = ModelCard(data_name="walls", framework="keras", tags=("mobilenet",), usage="import keras")


def judge(task: Task, images: int = 240) -> JudgedImages:
    """Images that are told apart well, but not perfectly."""
    generator = np.random.default_rng(3)
    labels = LABELS[task]
    columns = 1 if task is Task.BINARY else len(labels)
    targets = (generator.random((images, columns)) < 0.4).astype(np.float32)
    if task is Task.MULTICLASS:
        targets = np.eye(columns, dtype=np.float32)[generator.integers(0, columns, images)]
    odds = 4 * targets - 2 + generator.normal(0, 1.3, targets.shape)
    probabilities = 1 / (1 + np.exp(-odds))
    if task is Task.MULTICLASS:
        probabilities /= probabilities.sum(1, keepdims=True)
    return JudgedImages(
        part="test part",
        labels=labels,
        task=task,
        positive=1 if task is Task.BINARY else None,
        threshold=0.37,
        average=Average.BINARY if task is Task.BINARY else Average.MACRO,
        sure_from=0.8,
        probabilities=probabilities.astype(np.float32),
        targets=targets,
        groups=np.arange(images) // 2,
        paths=[f"walls/{HOSTILE}{number}.jpg" for number in range(images)],
    )


def test_the_page_says_whether_its_images_chose_the_threshold() -> None:
    sentences = {
        False: "These images did not choose the threshold.",
        True: "These images, or some of them, chose the threshold",
        None: "Nobody knows whether these images chose the threshold",
    }
    for chose, sentence in sentences.items():
        judged = replace(judge(Task.BINARY), chose_threshold=chose)
        page = model_page_bytes(ModelReport(title="walls", summary="", judged=judged)).decode()
        assert [said in page for said in sentences.values()] == [
            said == sentence for said in sentences.values()
        ]


def make_report(task: Task) -> ModelReport:
    judged = judge(task)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    mistakes = [
        ShownImage(
            pixels=pixels,
            truth=judged.truths[at],
            answer=judged.answers[at],
            probability=float(judged.sure[at]),
            path=judged.paths[at],
            heat=pixels,
        )
        for at in judged.mistakes(7)
    ]
    scores = {"f1": 0.9, "f1_low": 0.85, "f1_high": 0.93, "accuracy": 0.9, "loss": 0.3}
    return ModelReport(
        title=f"walls {HOSTILE}: MobileNet_0.25, two-phase-f1",
        summary="F1 0.900.",
        judged=judged,
        notes=["SHORTCUT: colours alone do it.", f"A remark {HOSTILE} of *some* length."],
        facts={"data": "walls, 900 images", "seed": "0"},
        moments=[
            ("before training", {"val": {"f1": 0.5, "loss": 0.7}, "test": None}),
            ("after phase 1 (kept)", {"val": scores, "test": scores}),
        ],
        before=calibration(judged.probabilities, judged.targets, task),
        promised=True,
        mistakes=mistakes,
        history=[
            {
                "epoch": epoch,
                "phase": 1 + (epoch > 3),
                "loss": 1 / epoch,
                "val_loss": 1.1 / epoch,
                "val_f1": 0.9,
            }
            for epoch in range(1, 7)
        ],
        kept_epoch=4,
        views=[[pixels] * 6] * 2,
        classes={name: {"train": 60, "test": 20} for name in judged.labels},
        limits=["Other cameras are not in it."],
        exports=EXPORTS,
        commands=["backbones predict results/walls PHOTOS..."],
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task], Path]:
    made: dict[Task, Path] = {}

    def page(task: Task) -> Path:
        if task not in made:
            made[task] = write_model_page(make_report(task), tmp_path_factory.mktemp("page"))
        return made[task]

    return page


@pytest.mark.parametrize("task", list(Task))
def test_the_page_says_everything_and_asks_for_nothing(task: Task, pages: Callable[[Task], Path]) -> None:
    text = pages(task).read_text()
    assert HOSTILE not in text
    assert "<script" not in text
    assert re.search(r"default-src 'none'; img-src data:; style-src 'unsafe-inline'\"", text)
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert 'class="card note alarm" role="alert">SHORTCUT' in text
    judged = judge(task)
    found = judged.scores["F1"]
    assert f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" in text
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    wanted = ["Before and after", "How good, on the test part", "Mistakes", "Training", "What training saw"]
    wanted += ["Data and split", "Limits", "How to use it"]
    wanted += ["What is taken for what"] * (task is not Task.MULTILABEL)
    wanted += ["Other thresholds"] * (task is not Task.MULTICLASS)
    assert set(headings) == set(wanted)
    assert text.count('<figure class="plot">') == 6
    assert text.count('what the answer rests on"') == 7
    assert "python export/onnx/example.py PHOTO.jpg" in text


def test_thresholds_have_what_they_reach_with_its_interval() -> None:
    judged = judge(Task.BINARY)
    rows = threshold_rows(judged)
    assert [row["threshold"] for row in rows if row["own"]] == [0.37]
    called = [row["called"] for row in rows]
    assert called == sorted(called, reverse=True)
    for row in rows:
        true = judged.targets[:, 0] > 0.5
        said = judged.probabilities[:, 0] >= row["threshold"]
        assert row["recall"].value == pytest.approx(said[true].mean())
        assert row["recall"].low <= row["recall"].value <= row["recall"].high
        assert row["precision"].low < row["precision"].high
    assert threshold_rows(judge(Task.MULTICLASS)) == []


def confusion_of(judged: JudgedImages) -> ConfusionTable | None:
    decided = judged.decided[None]
    return confusion_table(decided, judged.targets, judged.labels, judged.task, judged.positive)


def test_the_confusion_is_counted_and_shared() -> None:
    judged = judge(Task.BINARY)
    table = confusion_of(judged)
    assert table is not None
    for label, images, cells in table.rows:
        assert images == judged.truths.count(label) == sum(count for count, _ in cells)
        assert sum(part for _, part in cells) == pytest.approx(1)
    classes = np.eye(14, dtype=np.float32)
    many = replace(
        judge(Task.MULTICLASS),
        labels=tuple("abcdefghijklmn"),
        targets=classes[[0, 1] * 9],
        probabilities=classes[[1, 1] * 9],
        groups=None,
        paths=["x"] * 18,
    )
    pairs = confusion_of(many)
    assert pairs is not None
    assert pairs.pairs == [("a", "b", 9, 1.0)]


def test_curves_stay_in_their_box_and_say_their_areas() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    judged = judge(Task.BINARY)
    recall, roc = curve_charts(judged)
    wanted = average_precision_score(judged.targets[:, 0], judged.probabilities[:, 0])
    assert recall.lines[0].name.endswith(f"average precision {wanted:.3f}")
    wanted = roc_auc_score(judged.targets[:, 0], judged.probabilities[:, 0])
    assert roc.lines[0].name.endswith(f"area {wanted:.3f}")
    left, top, right, bottom = draw(roc).box
    for line in draw(roc).lines:
        for pair in line.path.split():
            x, y = map(float, pair.split(","))
            assert left <= x <= right
            assert top <= y <= bottom
    one = replace(judged, targets=np.ones_like(judged.targets))
    assert list(curve_charts(one)) == [], "nothing to tell apart"


def test_a_curve_keeps_its_shape_where_most_points_stand_on_each_other() -> None:
    rare = [(number / 100, 1 - number / 150) for number in range(101)]
    crowd = [(1.0, 1 / 3 - number / 90_000) for number in range(30_000)]
    chart = Chart(title="", caption="", x_label="", y_label="", lines=[Line(name="", points=rare + crowd)])
    path = [tuple(map(float, pair.split(","))) for pair in draw(chart).lines[0].path.split()]
    assert len(path) <= 400
    assert len({x for x, _ in path}) > 90, "the part that rises and falls"
    assert path[-1] == (390.0, 250.0)


def test_a_chart_of_one_value_can_be_drawn() -> None:
    line = Line(name="", points=[(3, 1)])
    flat = Chart(title="", caption="", x_label="", y_label="", lines=[line], x_range=None, y_range=None)
    assert draw(flat).lines[0].path


def test_the_card_has_metadata_that_hubs_read(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    text = write_card(make_report(Task.BINARY), CARD, tmp_path).read_text()
    _, head, body = text.split("---\n", 2)
    found = yaml.safe_load(head)
    assert found["library_name"] == "keras"
    assert found["pipeline_tag"] == "image-classification"
    assert found["tags"] == ["image-classification", "mobilenet"]
    (result,) = found["model-index"][0]["results"]
    assert result["dataset"] == {"name": "walls", "type": "image-folder"}
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    judged = judge(Task.BINARY)
    assert values["f1"] == pytest.approx(judged.scores["F1"].value, abs=1e-4)
    assert set(values) == {"f1", "accuracy", "precision", "recall"}
    assert HOSTILE not in body
    assert "| F1 |" in body
    assert "`python export/onnx/example.py PHOTO.jpg`" in body


def test_exports_that_come_later_are_told_and_edited_files_stay(tmp_path: Path) -> None:
    report = replace(make_report(Task.BINARY), exports=EXPORTS[1:])
    write_model_page(report, tmp_path)
    write_card(report, CARD, tmp_path)
    assert "python export/onnx" not in (tmp_path / "report.html").read_text()
    refresh_exports(tmp_path, EXPORTS)
    assert "python export/onnx" in (tmp_path / "report.html").read_text()
    assert "python export/onnx" in (tmp_path / "README.md").read_text()
    once = (tmp_path / "report.html").read_bytes()
    refresh_exports(tmp_path, EXPORTS)
    assert (tmp_path / "report.html").read_bytes() == once
    (tmp_path / "README.md").write_text("mine\n")
    (tmp_path / "report.html").unlink()
    refresh_exports(tmp_path, EXPORTS)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine\n"


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shown = [
        replace(one, truth="", heat=None, doubt="unsure" if number < 3 else "")
        for number, one in enumerate(make_report(Task.BINARY).mistakes)
    ]
    page = PredictionPage(
        title=f"8 images {HOSTILE}",
        answers=[one.answer for one in shown],
        doubtful=3,
        shown=shown,
        unread=[("gone.jpg", "no such file")],
        facts={"model": "results/walls"},
    )
    return write_prediction_page(page, tmp_path_factory.mktemp("predicted") / "page.html")


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("task", list(Task))
def test_axe_finds_nothing_serious_in_a_model(task: Task, scheme: str, pages: Callable[[Task], Path]) -> None:
    assert serious(pages(task), scheme) == []


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("task", list(Task))
def test_a_model_is_read_on_a_phone_and_a_screen(
    task: Task, width: int, pages: Callable[[Task], Path]
) -> None:
    names = '[...inner.querySelectorAll("th[scope=row]")].map(one => one.getBoundingClientRect().height)'
    wide, heights = scrolled(pages(task), width, f"return {names};")
    assert wide <= width
    assert max(heights) < 140, "a column of single letters"


@needs_chromium
def test_predictions_are_read_on_a_phone(predicted: Path) -> None:
    assert scrolled(predicted, 390)[0] <= 390
    assert serious(predicted, "light") == []
    assert json.dumps(predicted.read_text()).count("unsure") == 3


@needs_chromium
def test_a_model_prints(pages: Callable[[Task], Path]) -> None:
    page = pages(Task.BINARY)
    target = page.with_name("model.pdf")
    chromium(page, f"--print-to-pdf={target}", "--no-pdf-header-footer")
    assert target.read_bytes().startswith(b"%PDF")
