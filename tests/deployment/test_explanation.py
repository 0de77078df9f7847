# ruff: noqa: ANN401 - fixtures of conftest.py, whose types test files cannot import
from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.deployment import open_explainer
from benchmark.deployment.export import ExportResult
from benchmark.deployment.heatmap import overlay_png
from benchmark.errors import ArgumentError


def test_the_map_points_at_the_crack(trained: Any, tools: Any) -> None:
    explainer = open_explainer(trained.model_dir)
    hits, total = 0, 24
    for seed in range(total):
        generator = np.random.default_rng(seed)
        wall = tools.plaster(generator, tools.SIDE, tools.SIDE)
        quarter = [(8, 8), (8, 24), (24, 8), (24, 24)][seed % 4]
        tools.draw_crack(wall, quarter, generator.uniform(0, np.pi), 14)
        maps, probabilities = explainer.explain(tools.as_photo(wall)[None])
        assert maps.shape[0] == 1
        assert 0 <= maps.min() <= maps.max() <= 1
        assert probabilities.shape == (1, 1)
        heat = np.asarray(
            Image.fromarray(maps[0]).resize((tools.SIDE, tools.SIDE), Image.Resampling.BILINEAR)
        )
        halves = [heat[: tools.SIDE // 2], heat[tools.SIDE // 2 :]]
        quarters = {
            (8 + 16 * down, 8 + 16 * right): part.sum()
            for down, half in enumerate(halves)
            for right, part in enumerate((half[:, : tools.SIDE // 2], half[:, tools.SIDE // 2 :]))
        }
        hits += max(quarters, key=quarters.__getitem__) == quarter
    assert hits >= 0.75 * total  # chance is a quarter


def test_the_other_class_gets_another_map(trained: Any) -> None:
    explainer = open_explainer(trained.model_dir)
    cracked = trained.pixels[:8][trained.targets[:8, 0] > 0.5]
    for_crack, _ = explainer.explain(cracked, "crack")
    for_plain, _ = explainer.explain(cracked, "plain")
    assert not np.allclose(for_crack, for_plain)
    with pytest.raises(ArgumentError, match="expected crack, plain"):
        explainer.explain(cracked, "dent")


def test_exports_are_explained_through_the_keras_model_beside_them(
    exported: dict[str, ExportResult], tmp_path: Path
) -> None:
    folder = exported["keras"].folder
    assert folder is not None
    assert open_explainer(folder).description.target == "keras"
    assert open_explainer(folder.parent / "onnx").description.target == "keras"
    moved = shutil.copytree(folder.parent / "onnx", tmp_path / "device")
    with pytest.raises(ArgumentError, match="only the Keras model"):
        open_explainer(moved)


def test_a_network_without_a_feature_map_is_refused(trained: Any) -> None:
    import keras

    from benchmark.deployment.attribution import make_explainer

    images = keras.Input((8, 8, 3))
    flat = keras.Model(images, keras.layers.Dense(1)(keras.layers.Flatten()(images)))
    with pytest.raises(ArgumentError, match="cannot be explained"):
        make_explainer(flat, open_explainer(trained.model_dir).description)


def test_pictures(trained: Any, tmp_path: Path) -> None:
    explainer = open_explainer(trained.model_dir)
    with Image.open(BytesIO(explainer.picture(trained.pixels[0]))) as picture:
        assert picture.format == "PNG"
        assert picture.width >= 320
    photo = np.full((300, 500, 3), 200, np.uint8)
    heat = np.zeros((300, 500), np.float32)
    heat[100:150, 200:300] = 1
    with Image.open(BytesIO(overlay_png(photo, heat, caption="x" * 300, unit="probability"))) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] == 500
    hot, cold = pixels[125, 250], pixels[20, 20]
    assert hot[0] - hot[2] > 40  # yellow
    assert abs(cold - cold.mean()).max() < 20  # grey


def test_flat_models_and_softmax_heads_are_explained(trained: Any) -> None:
    from dataclasses import replace

    import keras

    from benchmark.deployment.attribution import make_explainer
    from benchmark.records import Task

    images = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(4, 3, activation="relu")(images)
    vectors = keras.layers.GlobalAveragePooling2D()(features)
    model = keras.Model(images, keras.layers.Dense(3, activation="softmax")(vectors))
    base = open_explainer(trained.model_dir).description
    description = replace(base, task=Task.MULTICLASS, labels=("a", "b", "c"), positive=None, input_size=16)
    maps, probabilities = make_explainer(model, description).explain(
        np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    )
    assert maps.shape == (3, 14, 14)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
