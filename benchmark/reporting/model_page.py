"""A model on one page, and on a card for a model hub: how good, how sure, where it errs, how to use it."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.cells import printable
from benchmark.records import Average, UInt8
from benchmark.reporting.charts import Chart, Line, draw
from benchmark.reporting.formats import megabytes, text
from benchmark.reporting.judged_images import (
    JudgedImages,
    abstention_chart,
    calibration_chart,
    class_rows,
    confusion_table,
    curve_charts,
    threshold_rows,
)
from benchmark.reporting.page import environment, is_alarm
from benchmark.statistics import Calibration, Interval, selective
from benchmark.storage import read_small, write_whole

PAGE_FILE, CARD_FILE = "report.html", "README.md"
_BEGIN, _END = "<!-- exports -->", "<!-- /exports -->"
_QUALITY = 82
_MOST_PAGE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownImage:
    """A photograph of the page.

    Attributes:
        pixels: uint8 (S, S, 3), as the model sees it.
        truth: its label; empty where that is not known.
        answer: of the model.
        probability: of that answer.
        path: of the file.
        doubt: why the answer should not be relied on; empty for no reason.
        heat: uint8 (S, S, 3), the same with what the answer rests on; None where there is no such map.
    """

    pixels: UInt8
    truth: str
    answer: str
    probability: float
    path: str
    doubt: str = ""
    heat: UInt8 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportUse:
    """One export, and how to use it.

    Attributes:
        target: its format.
        about: what that is, in one clause.
        runtime: the package that runs it.
        folder: of the export, relative to the model's.
        status: ``passed``, ``failed``, or empty where it was not compared.
        size_bytes: of the model.
        agreement: share of validation images that keep their label; nan where unknown.
        difference: mean difference of a probability; nan where unknown.
        latency_ms: of one image on the machine that exported; nan where unknown.
        reason: why it failed.
    """

    target: str
    about: str
    runtime: str
    folder: str
    status: str = ""
    size_bytes: int = 0
    agreement: float = math.nan
    difference: float = math.nan
    latency_ms: float = math.nan
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """What a page says of a model.

    Attributes:
        title: heading.
        summary: one line below it.
        judged: images that judge the model, and what it said of them.
        notes: remarks; those that begin with capitals and a colon are alarms.
        facts: what was trained on what, by heading.
        moments: before and after: a name and the scores of each part, metric -> value.
        before: calibration without the temperature; None where it is not known.
        after: calibration; None computes it.
        promised: whether the wanted error of the abstention holds with 95 % on new images; None: not asked.
        mistakes: wrong answers to show, the surest first.
        unexplained: why there are no heat maps; empty where there are.
        history: epochs, as ``history.csv`` has them.
        kept_epoch: whose weights were kept, counted from 1.
        views: rows of pictures: a training image, then as training saw it.
        classes: per class its images per part, by part.
        limits: what must not be concluded.
        exports: how to use the model and its exports; None for a page that is not about one model folder.
        commands: what to do next.
    """

    title: str
    summary: str
    judged: JudgedImages
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    moments: Sequence[tuple[str, Mapping[str, Mapping[str, float] | None]]] = ()
    before: Calibration | None = None
    after: Calibration | None = None
    promised: bool | None = None
    mistakes: Sequence[ShownImage] = ()
    unexplained: str = ""
    history: Sequence[Mapping[str, float]] = ()
    kept_epoch: int = 0
    views: Sequence[Sequence[UInt8]] = ()
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    limits: Sequence[str] = ()
    exports: Sequence[ExportUse] | None = None
    commands: Sequence[str] = ()


def write_model_page(report: ModelReport, folder: Path) -> Path:
    """Write ``report.html``: one file without requests or scripts.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_whole(folder / PAGE_FILE, model_page_bytes(report), root=folder)
    return folder / PAGE_FILE


def model_page_bytes(report: ModelReport) -> bytes:
    """The content of ``report.html``."""
    judged = report.judged
    after = report.after or judged.calibrated
    charts = [*curve_charts(judged), calibration_chart(report.before, after), abstention_chart(judged)]
    told = selective(judged.sure, judged.right, judged.sure_from, judged.groups, seed=judged.seed)
    page = (
        environment()
        .get_template("model.html.jinja")
        .render(
            report=report,
            judged=judged,
            notes=[(text(note), is_alarm(note)) for note in report.notes],
            cards=_cards(report, after, told.answered, told.error),
            moments=[_moment(name, parts) for name, parts in report.moments],
            parts=[part for part in ("val", "test") if any(parts.get(part) for _, parts in report.moments)],
            charts=[draw(chart) for chart in charts],
            history=[draw(chart) for chart in _history_charts(report)],
            thresholds=threshold_rows(judged),
            classes=class_rows(judged),
            confusion=confusion_table(
                judged.decided[None], judged.targets, judged.labels, judged.task, judged.positive
            ),
            wrong=int((~judged.right).sum()),
            mistakes=[shown_image(one) for one in report.mistakes],
            views=[[_jpeg(pixels) for pixels in row] for row in report.views],
            parts_of_classes=list(dict.fromkeys(part for row in report.classes.values() for part in row)),
            exports=exports_html(report.exports) if report.exports is not None else "",
            interval=interval,
            percent=percent,
        )
    )
    return page.encode()


def interval(value: Interval) -> str:
    """A figure with its interval: ``0.968 [0.951, 0.981]``."""
    if math.isnan(value.value):
        return ""
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def percent(value: Interval) -> str:
    """A share with its interval: ``3.1 % [1.0, 6.2]``."""
    if math.isnan(value.value):
        return ""
    return f"{100 * value.value:.1f} % [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def _cards(
    report: ModelReport, after: Calibration, answered: Interval, error: Interval
) -> list[tuple[str, str, str]]:
    """Heading, figure and remark of each card."""
    judged = report.judged
    found = judged.scores
    cards = [
        (f"F1 on the {judged.part}", interval(found["F1"]), f"{_whose(judged)}, 95 % interval"),
        ("accuracy", percent(found["accuracy"]), f"{len(judged.paths):,} images"),
        (
            "calibration error",
            f"{after.error:.3f}" + (f" (was {report.before.error:.3f})" if report.before else ""),
            f"perfect probabilities stay below {after.by_chance:.3f}",
        ),
    ]
    if not judged.sure_from:
        return [*cards, ("unsure", "never", "every image has an answer")]
    promise = ""
    if report.promised is not None:
        promise = "the wanted error is promised at 95 %" if report.promised else "no error is promised"
    wrong = f"wrong answers {percent(error)}" if percent(error) else ""
    remark = ", ".join(filter(None, (wrong, promise)))
    return [*cards, (f"unsure below {judged.sure_from:.3f}", f"{answered.value:.0%} answered", remark)]


def _whose(judged: JudgedImages) -> str:
    if judged.average is Average.BINARY and judged.positive is not None:
        return f"of {text(judged.labels[judged.positive])}"
    return f"{judged.average} average"


def _moment(name: str, parts: Mapping[str, Mapping[str, float] | None]) -> dict[str, Any]:
    def cell(part: str, metric: str) -> str:
        scores = parts.get(part)
        if not scores or metric not in scores:
            return ""
        if metric == "f1" and "f1_low" in scores:
            ends = Interval(value=scores["f1"], low=scores["f1_low"], high=scores["f1_high"])
            return interval(ends)
        return f"{scores[metric]:.3f}"

    metrics = ("f1", "accuracy", "precision", "recall", "loss")
    return {
        "name": name,
        **{f"{part}_{metric}": cell(part, metric) for part in ("val", "test") for metric in metrics},
    }


def _history_charts(report: ModelReport) -> list[Chart]:
    if len(report.history) < 2:
        return []
    second = [row["epoch"] for row in report.history if row["phase"] == 2]
    charts = []
    for name, title in (("loss", "Loss"), ("f1", "F1")):
        lines = [
            Line(
                name=label,
                points=[(row["epoch"], row[column]) for row in report.history if column in row],
                kind=kind,
            )
            for label, column, kind in (
                ("training (augmented, with dropout)", name, "other"),
                ("validation", f"val_{name}", "main"),
            )
        ]
        kept = [row for row in report.history if row["epoch"] == report.kept_epoch]
        charts.append(
            Chart(
                title=f"{title} by epoch",
                caption="Validation chose the kept epoch" + (", before the temperature." if kept else "."),
                x_label="epoch, counted over both phases",
                y_label=title,
                lines=[line for line in lines if line.points],
                mark=(kept[0]["epoch"], kept[0][f"val_{name}"], "kept") if kept else None,
                upright=(second[0] - 0.5, "all layers") if second else None,
                x_range=None,
                y_range=None,
            )
        )
    return charts


def shown_image(one: ShownImage) -> dict[str, Any]:
    """A photograph as templates write it."""
    return {
        "data": _jpeg(one.pixels),
        "heat": "" if one.heat is None else _jpeg(one.heat),
        "truth": text(one.truth),
        "answer": text(one.answer),
        "probability": f"{one.probability:.3f}",
        "path": text(one.path),
        "doubt": one.doubt,
    }


def _jpeg(pixels: UInt8) -> str:
    """A data URI of pixels uint8 (H, W, 3)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def exports_html(exports: Sequence[ExportUse]) -> str:
    """The part of the page that tells how to use each export, between its marks."""
    module: Any = environment().get_template("exports.html.jinja").module
    rows = [
        {
            "target": one.target,
            "about": one.about,
            "status": one.status,
            "size": megabytes(one.size_bytes),
            "agreement": "" if math.isnan(one.agreement) else f"{one.agreement:.1%}",
            "difference": "" if math.isnan(one.difference) else f"{one.difference:.2g}",
            "latency": "" if math.isnan(one.latency_ms) else f"{one.latency_ms:.1f} ms",
            "reason": text(one.reason),
            "folder": one.folder,
            "runtime": one.runtime,
        }
        for one in exports
    ]
    return f"{_BEGIN}\n{module.exports(rows)}\n{_END}"


def exports_markdown(exports: Sequence[ExportUse]) -> str:
    """The same for the card."""
    lines = [_BEGIN, ""]
    made = [one for one in exports if one.folder]
    for one in made:
        size = f", {megabytes(one.size_bytes)}" if one.size_bytes else ""
        failed = f" It failed the comparison with the original: {_inline(one.reason)}." if one.reason else ""
        lines.append(
            f"- `{one.folder}/` ({one.about}{size}): `pip install {one.runtime} pillow numpy`, then "
        )
        lines[-1] += f"`python {one.folder}/example.py PHOTO.jpg`.{failed}"
    if not made:
        lines.append("None so far: `backbones export MODEL_DIR --to onnx,tflite-int8` makes some.")
    return "\n".join([*lines, "", _END])


def refresh_exports(folder: Path, exports: Sequence[ExportUse]) -> None:
    """Put the exports as they are now into a model's page and card; files without the marks stay.

    Raises:
        StorageError: one cannot be written.
    """
    made = {PAGE_FILE: exports_html(exports), CARD_FILE: exports_markdown(exports)}
    for name, part in made.items():
        try:
            before = read_small(folder / name, most_bytes=_MOST_PAGE_BYTES).decode()
        except (OSError, ValueError):  # removed or edited: it is for people
            continue
        head, found, rest = before.partition(_BEGIN)
        _, ended, tail = rest.partition(_END)
        if found and ended:
            write_whole(folder / name, f"{head}{part}{tail}".encode(), root=folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What the metadata of a model hub need beyond the page.

    Attributes:
        data_name: of the data set.
        framework: that runs the model: ``keras``, ``onnx``, ``openvino``.
        tags: further ones.
        usage: lines of Python that load the model.
    """

    data_name: str
    framework: str
    tags: Sequence[str]
    usage: str


def write_card(report: ModelReport, card: ModelCard, folder: Path) -> Path:
    """Write ``README.md``, the model card.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_whole(folder / CARD_FILE, card_bytes(report, card), root=folder)
    return folder / CARD_FILE


def card_bytes(report: ModelReport, card: ModelCard) -> bytes:
    """The model card: a block of YAML that hubs read, then Markdown."""
    judged = report.judged
    metrics = [
        {"type": kind, "name": f"{name} ({judged.part})", "value": round(found.value, 4)}
        for kind, name in (
            ("f1", "F1"),
            ("accuracy", "accuracy"),
            ("precision", "precision"),
            ("recall", "recall"),
        )
        if not math.isnan((found := judged.scores[name]).value)
    ]
    data = {"name": card.data_name, "type": "image-folder"}
    result = {
        "task": {"type": "image-classification"},
        "dataset": data,
        "metrics": metrics,
    }
    block = {
        "library_name": card.framework,
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", *card.tags],
        "metrics": ["f1", "accuracy"],
        "model-index": [{"name": report.title, "results": [result]}],
    }
    # JSON is YAML, one key a line.
    head = [f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in block.items()]
    body = [
        "---",
        *head,
        "---",
        "",
        f"# {_inline(report.title)}",
        "",
        _inline(report.summary),
        "",
        f"All figures, curves and mistakes: [{PAGE_FILE}]({PAGE_FILE}).",
        "",
        "## Scores",
        "",
        f"On the {judged.part}, {len(judged.paths):,} images, with 95 % intervals:",
        "",
        "| score | value |",
        "| --- | --- |",
        *[f"| {name} | {interval(found)} |" for name, found in judged.scores.items()],
        "",
        "| class | images | precision | recall | F1 |",
        "| --- | ---: | ---: | ---: | ---: |",
        *[
            f"| {_inline(row['label'])} | {row['images']} | {_figure(row['precision'])} | "
            f"{_figure(row['recall'])} | {_figure(row['f1'])} |"
            for row in class_rows(judged)
        ],
        "",
        *[f"- {_inline(note)}" for note in report.notes],
        "",
        "## Data",
        "",
        *[f"- {heading}: {_inline(value)}" for heading, value in report.facts.items()],
        "",
        "## Limits",
        "",
        *[f"- {_inline(line)}" for line in report.limits],
        "",
        "## Use",
        "",
        "```python",
        card.usage.strip(),
        "```",
        "",
        "## Exports",
        "",
        exports_markdown(report.exports or ()),
        "",
    ]
    return "\n".join(body).encode("utf-8", "replace")


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _inline(value: str) -> str:
    """Text that starts no markup."""
    shown = " ".join(printable(value).split())
    for character in "\\|`*[]<":
        shown = shown.replace(character, "&lt;" if character == "<" else f"\\{character}")
    return shown
