# ruff: noqa: ANN401 - fixtures of conftest.py, whose types test files cannot import
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmark.deployment import Predictor, open_model, predict_tiles
from benchmark.deployment.export import ExportResult
from benchmark.deployment.tiling import heat_map, merged, predict_photo, windows_of
from benchmark.errors import ArgumentError
from benchmark.options import PredictOptions
from benchmark.records import Task


def asked(images: Sequence[Path] = (), **options: object) -> PredictOptions:
    return PredictOptions.check({"model": "model", "images": images, **options})


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.integers(8, 120),
    overlap=st.floats(0, 0.8),
)
@settings(deadline=None)
def test_windows_cover_every_pixel_and_stay_inside(
    height: int, width: int, size: int, overlap: float
) -> None:
    covered = np.zeros((height, width), int)
    windows = windows_of(height, width, size, overlap)
    for top, left, rows, columns in windows:
        assert top >= 0
        assert left >= 0
        assert top + rows <= height
        assert left + columns <= width
        assert (rows, columns) == (min(size, height), min(size, width))
        covered[top : top + rows, left : left + columns] += 1
    assert covered.min() >= 1
    assert len({tuple(window) for window in windows.tolist()}) == len(windows)


@settings(deadline=None)
@given(length=st.integers(64, 400), overlap=st.floats(0.5, 0.9))
def test_half_overlap_puts_a_window_around_everything_away_from_the_rim(length: int, overlap: float) -> None:
    size = 32
    starts = np.unique(windows_of(size, length, size, overlap)[:, 1])
    for position in range(size // 4, length - size // 4):
        inside = (starts + size // 4 <= position) & (position < starts + size - size // 4)
        assert inside.any()


@settings(deadline=None)
@given(st.floats(0.1, 1.0), st.integers(20, 90), st.integers(20, 90))
def test_the_map_lies_between_the_scores_everywhere(scale: float, height: int, width: int) -> None:
    windows = windows_of(height, width, 16, 0.5)
    scores = np.linspace(0.2, 0.9, len(windows)).astype(np.float32)
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    heat = heat_map(windows, scores, shape, scale)
    assert heat.shape == shape
    assert heat.min() >= 0.2 - 1e-6
    assert heat.max() <= 0.9 + 1e-6


def test_merge_rules() -> None:
    probabilities = np.array([[0.1], [0.8], [0.3]], np.float32)
    assert merged(probabilities, "max")[0] == np.float32(0.8)
    assert merged(probabilities, "mean")[0] == pytest.approx(0.4)


@pytest.mark.parametrize("options", [{"overlap": 1.0}, {"overlap": -0.1}, {"tiles": 0}, {"batch_size": 0}])
def test_impossible_options(options: dict[str, float]) -> None:
    with pytest.raises(ArgumentError):
        asked(**({"tiles": 32} | options))


def photo_with_crack(tools: Any, seed: int, centre: tuple[float, float]) -> np.ndarray:
    generator = np.random.default_rng(seed)
    wall = tools.plaster(generator, 3 * tools.SIDE, 3 * tools.SIDE)
    tools.draw_crack(wall, centre, generator.uniform(0, np.pi), 16)
    return tools.as_photo(wall)


def found_share(
    predictor: Predictor, tools: Any, centres: list[tuple[float, float]], overlap: float
) -> float:
    options = asked(tiles=tools.SIDE, overlap=overlap)
    photos = [photo_with_crack(tools, seed, centre) for seed, centre in enumerate(centres)]
    return float(
        np.mean([predict_photo(predictor, photo, options).prediction.label == "crack" for photo in photos])
    )


def test_cracks_on_tile_borders_are_found_as_often_as_centred_ones(
    exported: dict[str, ExportResult], tools: Any
) -> None:
    folder = exported["tflite-float32"].folder
    assert folder is not None
    predictor = open_model(folder, threads=1)
    side, count = tools.SIDE, 60
    middle = 1.5 * side
    centred = [(middle, middle)] * count
    corners = [
        (float(side), float(side)),
        (float(side), 2.0 * side),
        (2.0 * side, float(side)),
        (2.0 * side, 2.0 * side),
    ]
    edges = [(float(side), middle), (middle, 2.0 * side)]
    on_corners, on_edges = corners * (count // 4), edges * (count // 2)
    at_centre = found_share(predictor, tools, centred, 0.5)
    assert at_centre > 0.9
    assert found_share(predictor, tools, on_corners, 0.5) >= at_centre
    assert found_share(predictor, tools, on_edges, 0.5) >= at_centre
    # The same cracks without overlap: cut in four, many are missed, so the figures above mean something.
    assert found_share(predictor, tools, on_corners, 0.0) < at_centre - 0.1


def test_plain_walls_are_not_called_cracked(exported: dict[str, ExportResult], tools: Any) -> None:
    folder = exported["tflite-float32"].folder
    assert folder is not None
    predictor = open_model(folder, threads=1)
    calls = [
        predict_photo(
            predictor, tools.as_photo(tools.plaster(np.random.default_rng(seed), 96, 96)), asked()
        ).prediction.label
        for seed in range(30)
    ]
    assert calls.count("crack") <= 6


def test_photographs_of_any_shape_and_overlays(
    exported: dict[str, ExportResult], tools: Any, tmp_path: Path
) -> None:
    folder = exported["onnx"].folder
    assert folder is not None
    predictor = open_model(folder, threads=1)
    sources = []
    for number, (height, width) in enumerate([(70, 200), (20, 90), (5, 5)]):
        wall = tools.plaster(np.random.default_rng(number), height, width)
        if number == 0:
            tools.draw_crack(wall, (35, 150), 0.4, 24)
        sources.append(tmp_path / f"{number} =photo.png")
        Image.fromarray(tools.as_photo(wall)).save(sources[-1])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    results = predict_tiles(predictor, asked([*sources, tmp_path / "broken.png"], heatmaps=tmp_path / "maps"))
    assert [len(result.windows) for result in results] == [4 * 12, 5, 1, 0]
    assert results[0].prediction.label == "crack"
    hottest = results[0].windows[results[0].probabilities[:, 0].argmax()]
    assert hottest[1] <= 150 <= hottest[1] + hottest[3]
    assert results[3].prediction.error
    assert results[3].overlay is None
    for result in results[:3]:
        assert result.overlay is not None
        with Image.open(result.overlay) as picture:
            assert picture.width >= 200
    assert sorted(path.name for path in (tmp_path / "maps").iterdir())[0] == "0000-0 =photo.png"


def test_a_pipe_is_listed_and_not_waited_for(exported: dict[str, ExportResult], tmp_path: Path) -> None:
    folder = exported["onnx"].folder
    assert folder is not None
    os.mkfifo(tmp_path / "pipe.png")
    (result,) = predict_tiles(open_model(folder, threads=1), asked([tmp_path / "pipe.png"]))
    assert result.prediction.error == "not a regular file"


def test_a_picture_that_cannot_be_written_costs_no_prediction(
    exported: dict[str, ExportResult], tools: Any, tmp_path: Path
) -> None:
    folder = exported["onnx"].folder
    assert folder is not None
    Image.fromarray(tools.as_photo(tools.plaster(np.random.default_rng(0), 64, 64))).save(tmp_path / "a.png")
    (tmp_path / "maps").write_text("a file in the way")
    (result,) = predict_tiles(
        open_model(folder, threads=1), asked([tmp_path / "a.png"], heatmaps=tmp_path / "maps")
    )
    assert result.prediction.label
    assert result.overlay is None
    assert "maps" in result.overlay_error


def test_windows_come_in_the_batches_asked_for(exported: dict[str, ExportResult]) -> None:
    folder = exported["onnx"].folder
    assert folder is not None
    sizes: list[int] = []

    def watched(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return np.zeros((len(images), 1), np.float32)

    predictor = Predictor(open_model(folder).description, watched, batch=100)
    predict_photo(predictor, np.zeros((160, 32, 3), np.uint8), asked(tiles=32, overlap=0.0, batch_size=2))
    assert sizes == [2, 2, 1]


def test_windows_of_another_size_are_resized(exported: dict[str, ExportResult], tools: Any) -> None:
    folder = exported["onnx"].folder
    assert folder is not None
    photo = tools.as_photo(tools.plaster(np.random.default_rng(0), 128, 128))
    result = predict_photo(open_model(folder), photo, asked(tiles=64))
    assert len(result.windows) == 9
    assert result.probabilities.shape == (9, 2)


def test_max_is_refused_for_exclusive_classes(exported: dict[str, ExportResult]) -> None:
    from dataclasses import replace

    folder = exported["onnx"].folder
    assert folder is not None
    opened = open_model(folder)
    description = replace(opened.description, task=Task.MULTICLASS, positive=None, labels=("a", "b", "c"))

    def answer(images: np.ndarray) -> np.ndarray:
        return np.tile(np.array([0.2, 0.5, 0.3], np.float32), (len(images), 1))

    predictor = Predictor(description, answer)
    photo = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ArgumentError, match="exclusive classes"):
        predict_photo(predictor, photo, asked(tiles=32, merge="max"))
    result = predict_photo(predictor, photo, asked())
    assert result.prediction.label == "b"
