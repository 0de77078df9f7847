"""``backbones study`` and ``bb.study``, from their arguments to what they leave."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_places import Place, Run

import benchmark as bb
from benchmark.errors import ArgumentError, DataError

pytestmark = pytest.mark.filterwarnings(
    # Keras converts variables without NumPy 2's copy keyword.
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
PAIR = "MobileNet_0.25@random,MobileNetV2_0.35@random"


@pytest.mark.parametrize(
    ("names", "words", "part"),
    [
        (("walls",), (), "expected two data sets or more"),
        (("walls", "copy/walls"), (), "two data sets have one name"),
        (("walls", "nowhere"), (), "no such folder or CSV"),
        (("walls", "other"), ("--backbones", "MobileNet_0.25"), "expected two backbones or more"),
        (("walls", "other"), ("--backbones", "timm:mobilenetv3_small_050*,MobileNet"), "networks of Keras"),
        (("walls", "other"), ("--recipe", "nothing"), "recipe"),
        (("walls", "other"), ("--seeds", "0"), "--seeds: expected a whole number from 1 up"),
        (("walls", "other"), ("--backbones", "MobileNot"), "MobileNot"),
    ],
)
def test_mistakes_are_told_before_any_work(
    backbones: Run, place: Place, names: tuple[str, ...], words: tuple[str, ...], part: str
) -> None:
    for name in {"other", "copy/walls"} & set(names):
        shutil.copytree(place.data, place.root / name)
    data = [place.data if name == "walls" else place.root / name for name in names]
    answer = backbones("study", *data, "--backbones", PAIR, *words, *place.folders)
    assert answer.status == 2, answer.err
    assert part in answer.err
    assert not place.cache.exists()


@pytest.mark.timeout(1800)  # two boards and four models
def test_python_and_the_command_give_the_same(backbones: Run, place: Place) -> None:
    """Without training: what the boards found, as it is."""
    other = shutil.copytree(place.data, place.root / "other")
    asked = {
        "seeds": 1,
        "size": 32,
        "folds": 2,
        "repeats": 1,
        "recipe": "frozen",
        "jobs": 1,
        "groups": "none",
        "precision": "float32",  # in bfloat16 random weights may not answer as their head did
    }
    found = bb.study([place.data, other], backbones=PAIR, cache=place.cache, results=place.results, **asked)
    assert list(found.frame["rule"])[:2] == ["board F1", "board winner"]
    assert [run["kept"] for run in found.runs] == ["before"] * 4
    assert "<table>" in found._repr_html_()
    assert found.folder == place.results / "study"
    words = [word for name, value in asked.items() for word in (f"--{name}", value)]
    answer = backbones("study", place.data, other, *words, "--backbones", PAIR, *place.folders, "--quiet")
    assert answer.status == 0, answer.err
    assert "noise of a difference" in answer.out
    assert all(sentence in answer.err for sentence in found.sentences)
    regret = found.frame.set_index("rule")["regret"]["parameters"]
    (shown,) = (line for line in answer.out.splitlines() if line.startswith("parameters"))
    assert f"{regret:.3f}" in shown


def test_python_says_the_same_of_mistakes(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="two data sets or more"):
        bb.study([place.data], backbones=PAIR)
    with pytest.raises(DataError, match="no such folder"):
        bb.study([place.data, tmp_path / "nowhere"], backbones=PAIR)
