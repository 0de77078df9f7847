"""The Python interface: what docs/python.md shows works, and gives what the commands give."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_places import QUICK, SMALL, Place, Run
from PIL import Image

import benchmark as bb
from benchmark.errors import ArgumentError, DataError, EmbeddingError, ManifestError

pytestmark = pytest.mark.filterwarnings(
    # Keras converts variables without NumPy 2's copy keyword.
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
SMALLEST: dict[str, Any] = {"weights": "random", "size": 32, "jobs": 1}


class Balanced(HTMLParser):
    """Refuses HTML whose elements do not close."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(content)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_runs(walls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights, few epochs and small images in place of downloads and of hours."""
    shutil.copytree(walls, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE))
    small = '"MobileNet_0.25", size=32, weights="random", jobs=1'
    quick = {
        "size=160, limit": 'size=32, weights="random", jobs=1, repeats=1, epochs=3, limit',
        '"photos", "MobileNet_0.25", size=160)': f'"photos", {small})',
        'BackboneEmbedding("MobileNet_0.25", size=160)': f"BackboneEmbedding({small})",
        'BackboneClassifier("MobileNet_0.25", size=160)': f"BackboneClassifier({small})",
        'winner="auto", epochs=(40, 40)': 'winner="MobileNet_0.25", epochs=(1, 1), jobs=1',
        'model.export("keras")': 'exported = model.export("keras", parity_images=3)',
        "embedded.to_frame()": "table = embedded.to_frame()",
        'model.predict(["photos/Positive"])': 'predicted = model.predict(["photos/Positive"])',
        'model.predict_proba("photos/Positive")': 'probabilities = model.predict_proba("photos/Positive")',
        "model.evaluate(": "metrics = model.evaluate(",
    }
    for shown, run in quick.items():
        assert code.count(shown) == 1, shown
        code = code.replace(shown, run)
    names: dict[str, Any] = {}
    exec(compile(code, PAGE, "exec"), names)
    board = names["board"]
    assert set(board.frame.backbone) == {"MobileNet_0.25", "MobileNet_0.5", "MobileNet_0.75"}
    assert bb.load_board(board.folder).rows == board.rows
    assert names["embedded"].features.shape == (40, 256)
    assert names["table"].columns[:3].tolist() == ["path", "label", "e0"]
    columns = ["path", "label", "doubt", "p_Negative", "p_Positive", "error"]
    assert names["predicted"].columns.tolist() == columns
    assert names["probabilities"].shape == (20, 2)
    np.testing.assert_allclose(names["probabilities"].sum(1), 1, atol=1e-5)
    assert 0 <= names["metrics"]["f1"] <= 1
    assert names["search"].best_score_ > 0
    assert names["classifier"].predict_proba(names["files"]).shape == (40, 2)
    assert names["exported"].status.tolist() == ["passed"]


def test_a_board_from_python_is_that_of_the_command(backbones: Run, walls: Path, tmp_path: Path) -> None:
    folders = {"cache": tmp_path / "cache", "results": tmp_path / "results"}
    board = bb.rank(walls, backbones=["MobileNet_0.25"], repeats=1, epochs=3, **SMALLEST, **folders)
    place = Place(tmp_path, walls)
    answer = backbones("rank", walls, *SMALL, *QUICK, *place.folders, "--quiet", "--format", "json")
    assert answer.status == 0, answer.err
    (told,) = answer.rows
    row = board["MobileNet_0.25"]
    assert {name: row[name] for name in ("val_f1", "val_f1_low", "test_f1")} == {
        name: told[name] for name in ("val_f1", "val_f1_low", "test_f1")
    }
    assert isinstance(board.frame, pd.DataFrame)
    assert set(board.picks) <= {"winner", "best score", "best value"}
    assert board.picks.get("winner") == board.winner
    assert board.folder == tmp_path / "results" / walls.name
    with pytest.raises(KeyError, match=r"on the board: MobileNet_0\.25"):
        board["MobileNet_0.52"]


def test_a_board_shows_itself_and_nothing_in_it_is_markup(ranked: Place) -> None:
    board = bb.load_board(ranked.board)
    parsed = Balanced(board._repr_html_())
    assert parsed.seen.count("table") == 1
    assert parsed.seen.count("tr") == 2
    evil = bb.Board.of(
        replace(board, notes=("<script>alert(1)</script>",), rows=({**board.rows[0], "weights": "<b>"},)),
        board.folder,
    )
    shown = evil._repr_html_()
    assert "<script" not in shown
    assert "<b>" not in shown


def test_plots_of_a_board_are_pictures(ranked: Place, tmp_path: Path) -> None:
    board = bb.load_board(ranked.board)
    assert board.plot("size")._repr_png_() == (board.folder / "plots" / "f1_vs_size.png").read_bytes()
    assert board.plot("ranks").path.name == "ranks.png"
    with pytest.raises(ArgumentError, match=r"no such plot.*ranks, size; got rank"):
        board.plot("rank")  # type: ignore[arg-type]
    folder = Path(shutil.copytree(ranked.board / "plots", tmp_path / "plots")).parent
    (folder / "plots" / "mine.png").write_bytes(b"")
    other = bb.Board.of(board, folder)
    with pytest.raises(ArgumentError, match=r"no such plot.*ranks, size; got mine"):
        other.plot("mine")  # type: ignore[arg-type]


def test_pixels_are_as_good_as_files(walls: Path, tmp_path: Path) -> None:
    files = sorted(walls.glob("*/*"))
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    labels = [file.parent.name for file in files]
    of_pixels = bb.embed((images, labels), "MobileNet_0.25", cache=tmp_path, groups="none", **SMALLEST)
    of_files = bb.embed(walls, "MobileNet_0.25", cache=tmp_path, groups="none", **SMALLEST)
    assert sorted(of_pixels.labels) == sorted(of_files.labels)
    np.testing.assert_array_equal(
        np.sort(of_pixels.features, axis=0), np.sort(of_files.features, axis=0), strict=True
    )
    with pytest.raises(ArgumentError, match=r"row 0: not the pixels.*got float64"):
        bb.embed(([np.zeros((8, 8, 3))], ["a"]), "MobileNet_0.25", cache=tmp_path, **SMALLEST)
    with pytest.raises(ArgumentError, match="expected 40 labels; got 1"):
        bb.embed((images, ["a"]), "MobileNet_0.25", cache=tmp_path, **SMALLEST)


def test_labels_of_pixels_are_names_whatever_their_letters(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)

    def labels_of(labels: object) -> set[str]:
        return set(bb.embed((images, labels), "MobileNet_0.25", cache=tmp_path, **SMALLEST).labels)

    assert labels_of(["metal|painted", "wood"] * 6) == {"metal|painted", "wood"}
    assert labels_of(np.array(["['a', 'b']", 'it\'s; "c"'] * 6)) == {"['a', 'b']", 'it\'s; "c"'}
    assert labels_of(np.arange(12) % 2) == {"0", "1"}
    assert labels_of([("b", "a"), ["c"]] * 6) == {"a;b", "c"}
    assert labels_of([[3, 7], [3]] * 6) == {"3", "3;7"}
    with pytest.raises(ArgumentError, match=r"row 0: not a label; .*names of the columns that hold 1"):
        labels_of(np.eye(2, dtype=int)[np.arange(12) % 2])
    with pytest.raises(ArgumentError, match=r"row 0: not a label; .*got \[0, 1\]"):
        labels_of([[0, 1], [1, 0]] * 6)


def test_paths_of_a_frame_may_lead_upwards(
    walls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    files = sorted(walls.glob("*/*"))[::4]
    paths = [os.path.relpath(file) for file in files]
    assert paths[0].startswith("..")
    listed = pd.DataFrame({"path": paths, "label": ["a", "b"] * (len(paths) // 2)})
    assert bb.embed(listed, "MobileNet_0.25", cache="../cache", **SMALLEST).features.shape == (10, 256)
    pixels = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    again = bb.embed((pixels, listed["label"]), "MobileNet_0.25", cache="../cache", **SMALLEST)
    assert again.features.shape == (10, 256)


def test_embeddings_are_the_rows_of_the_cache(walls: Path, tmp_path: Path) -> None:
    first = bb.embed(walls, "MobileNet_0.25", cache=tmp_path, limit=10, groups=r"(\d+)", **SMALLEST)
    assert first.features.shape == (10, 256)
    assert first.features.dtype == np.float32
    assert set(first.labels) == {"Negative", "Positive"}
    assert all(path.startswith(label) for path, label in zip(first.paths, first.labels, strict=True))
    frame = first.to_frame()
    assert frame.columns[:4].tolist() == ["path", "label", "group", "e0"]
    np.testing.assert_array_equal(frame.filter(regex=r"^e\d").to_numpy(), first.features)
    listed = pd.DataFrame(
        {"path": [walls / path for path in first.paths], "label": first.labels, "who": "me"}
    )
    again = bb.embed(listed, "MobileNet_0.25", cache=tmp_path, **SMALLEST)
    np.testing.assert_array_equal(again.features, first.features)
    assert again.labels == first.labels


def test_workers_say_nothing_of_their_own(walls: Path, tmp_path: Path) -> None:
    """TensorFlow's first lines come before any setting of it is read."""
    given = f"{str(walls)!r}, 'MobileNet_0.25', weights='random', size=32, jobs=2, cache={str(tmp_path)!r}"
    words = [sys.executable, "-c", f"import benchmark as bb; print(bb.embed({given}).features.shape)"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(40, 256)"
    assert done.stderr == ""


def test_what_cannot_be_is_told(walls: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Did you mean size"):
        bb.embed(walls, "MobileNet_0.25", sise=32)
    with pytest.raises(ArgumentError, match=r"`backbone`: names several backbones"):
        bb.embed(walls, "MobileNet_0.*", cache=tmp_path, **SMALLEST)
    with pytest.raises(ArgumentError, match="`size`: expected 'native' or a whole number"):
        bb.embed(walls, "MobileNet_0.25", size=3)
    with pytest.raises(EmbeddingError, match="at least 75 pixels"):
        bb.embed(walls, "InceptionV3", cache=tmp_path, **SMALLEST)
    with pytest.raises(ManifestError):
        bb.load_model(tmp_path)
    with pytest.raises(DataError):
        bb.load_board(tmp_path)
    with pytest.raises(AttributeError, match="bord"):
        bb.bord  # noqa: B018


def test_the_registry_as_a_frame(backbones: Run) -> None:
    listed = bb.list_backbones(backbones="MobileNet_0*")
    assert (
        listed.to_dict("records") == backbones("list", "--backbones", "MobileNet_0*", "--format", "json").rows
    )


def test_importing_the_package_stays_cheap() -> None:
    code = "import sys, benchmark; print(sorted({'pydantic', 'numpy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tensorflow_writes_no_lines_into_a_notebook() -> None:
    code = (
        "import os, sys; from benchmark.backbones.keras_models import import_keras\n"
        "import_keras(); import tensorflow; os.write(2, b'mine'); print('theirs', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.replace("\n", "") == "minetheirs"
