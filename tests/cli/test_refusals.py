"""Bad arguments and bad input: exit 2, one line that says what to do, no traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_places import Answer, Place, Run


def refused(answer: Answer) -> str:
    """The message of a refusal."""
    assert answer.status == 2, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert answer.said.startswith("backbones: ")
    assert len(answer.said) < 500
    return answer.said


@pytest.mark.parametrize("command", ["list", "embed", "rank", "audit"])
def test_a_mistyped_backbone_gets_close_matches(backbones: Run, place: Place, command: str) -> None:
    words = () if command == "list" else (place.data,)
    said = refused(backbones(command, *words, "--backbones", "MobilNetV2"))
    assert "Did you mean" in said
    assert "MobileNetV2" in said
    assert not place.cache.exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "no command"),
        (("rnak",), "choose from"),
        (("rank",), "DATA or --from"),
        (("rank", "{data}", "--size", "big"), "--size"),
        (("rank", "{data}", "--size", "0"), "--size"),
        (("rank", "{data}", "--folds", "1"), "from 2 up"),
        (("rank", "{data}", "--threshold", "2"), "(0, 1]"),
        (("rank", "{data}", "--threshold", "recall=x"), "recall=R"),
        (("rank", "{data}", "--limit", "-3"), "from 1 up"),
        (("rank", "{data}", "--max-loss", "nan"), "from 0 to 1"),
        (("rank", "{data}", "--max-loss", "5"), "from 0 to 1"),
        (("rank", "{data}", "--engine", "abacus"), "auto, tensorflow, openvino"),
        (("rank", "{data}", "--weights", "{data}/nowhere"), "nowhere"),
        (("rank", "{data}", "--positive", "Mouldy", "--backbones", "VGG16"), "Mouldy"),
        (("rank", "{data}", "--groups", "(", "--backbones", "VGG16"), "("),
        (("rank", "--from", "{data}/run.json"), "run.json"),
        (("finetune", "{data}", "--recipe", "two-phase"), "two-phase-f1"),
        (("finetune", "{data}", "--winner", "MobilNetV2"), "--winner: no backbone matches"),
        (("finetune", "{data}", "--epochs", "5"), "two numbers"),
        (("finetune", "{data}"), "rank"),
        (("export", "{data}", "--to", "onnx"), "manifest.json"),
        (("predict", "{data}", "{data}"), "manifest.json"),
        (("evaluate", "{data}", "{data}"), "manifest.json"),
        (("recipes", "nope"), "two-phase-f1"),
        (("report",), "--compare"),
        (("report", "{data}"), "a finished run"),
        (("report", "--compare", "{data}", "{data}"), "run.json"),
        (("cache", "burn"), "list"),
        (("weights", "verify"), "folder"),
        (("weights", "fetch", "{data}"), "takes no folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_arguments(backbones: Run, place: Place, words: tuple[str, ...], part: str) -> None:
    given = [word.format(data=place.data) for word in words]
    folders = place.folders if given and given[0] in {"rank", "finetune", "report"} else ()
    assert part in refused(backbones(*given, *folders))


def test_debug_adds_the_traceback(backbones: Run, place: Place) -> None:
    answer = backbones("rank", place.root / "none", *place.folders, "--debug")
    assert answer.status == 2
    assert "Traceback" in answer.err


def test_no_such_data(backbones: Run, place: Place) -> None:
    assert "no such folder or CSV" in refused(backbones("rank", place.root / "none", *place.folders))


def test_an_empty_folder(backbones: Run, place: Place) -> None:
    (place.root / "empty").mkdir()
    said = refused(backbones("rank", place.root / "empty", *place.folders))
    assert "no images" in said
    assert "one sub-folder of images per class" in said


def test_one_class(backbones: Run, place: Place) -> None:
    data = place.root / "one"
    shutil.copytree(place.data / "Positive", data / "Positive")
    said = refused(backbones("rank", data, *place.folders))
    assert "only one class" in said
    assert "Positive" in said


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "no column"),
        (b"\x00\xff\x80", "no column"),
        (b"picture,label\na.jpg,x\n", "'path'"),
        (b"path,label\n", "no rows"),
        (b"path,label\nnone.jpg,a\n", "no such file"),
    ],
)
def test_an_unreadable_csv(backbones: Run, place: Place, content: bytes, part: str) -> None:
    file = place.root / "images.csv"
    file.write_bytes(content)
    assert part in refused(backbones("rank", file, *place.folders))


def test_strict_makes_a_broken_file_fatal(backbones: Run, place: Place) -> None:
    data = shutil.copytree(place.data, place.root / "broken")
    (data / "Positive" / "page.jpg").write_text("<html>")
    assert "page.jpg" in refused(backbones("rank", data, *place.folders, "--strict"))


def test_names_cannot_write_to_the_terminal(backbones: Run, place: Place) -> None:
    """Escape sequences and newlines in a name come out as text: one line, no colour, no title."""
    said = refused(backbones("rank", place.root / "a\x1b[31m\nb", *place.folders))
    assert "\x1b" not in said
    assert "\\x1b[31m\\nb" in said


def test_a_file_instead_of_a_folder(backbones: Run, place: Place, tmp_path: Path) -> None:
    file = tmp_path / "in-the-way"
    file.write_text("")
    answer = backbones("embed", place.data, "--backbones", "MobileNet_0.25", "--cache", file)
    assert answer.status in {1, 2}
    assert "Traceback" not in answer.err
    assert "in-the-way" in answer.said


@pytest.mark.parametrize(
    ("error", "part"),
    [(RuntimeError("what\nnobody foresaw"), "--debug"), (MemoryError(), "not enough memory")],
)
def test_what_nobody_foresaw_is_one_line_too(
    backbones: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, part: str
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr("benchmark.cli.commands.list_command", fail)
    answer = backbones("list")
    assert answer.status == 1
    assert "Traceback" not in answer.err
    assert part in answer.said
    assert "Traceback" in backbones("list", "--debug").err
