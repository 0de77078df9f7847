# ruff: noqa: ANN401 - fixtures of conftest.py, whose types test files cannot import
from __future__ import annotations

import io
import json
import resource
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from benchmark.deployment import export_model, open_explainer, open_model, target_names
from benchmark.deployment.description import describe, read_description
from benchmark.deployment.export import ExportResult
from benchmark.errors import ArgumentError, BenchmarkError, ManifestError
from benchmark.finetuning.manifest import load_manifest, write_manifest
from benchmark.options import ExportOptions
from benchmark.storage import sha256_file

pytestmark = pytest.mark.faults("foreign and damaged models")


def copy_of(exported: dict[str, ExportResult], target: str, tmp_path: Path) -> Path:
    folder = exported[target].folder
    assert folder is not None
    return Path(shutil.copytree(folder, tmp_path / target))


def test_a_model_directory_opens_anywhere(trained: Any, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(trained.model_dir, copied, ignore=shutil.ignore_patterns("export", "split.csv"))
    predictor = open_model(copied)
    wanted = np.asarray(trained.model(trained.pixels[:9].astype(np.float32), training=False))
    np.testing.assert_allclose(predictor.predict(trained.pixels[:9]), wanted, atol=1e-5)
    assert predictor.description.positive == "crack"
    np.testing.assert_allclose(
        open_model(copied / "model.keras").predict(trained.pixels[:2]), wanted[:2], atol=1e-5
    )


@pytest.mark.parametrize("target", ["keras", "savedmodel", "tflite-int8", "onnx", "openvino"])
def test_a_flipped_bit_is_found_before_the_file_is_opened(
    exported: dict[str, ExportResult], target: str, tmp_path: Path
) -> None:
    folder = copy_of(exported, target, tmp_path)
    largest = max(
        (folder / name for name in read_description(folder).files), key=lambda path: path.stat().st_size
    )
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(ManifestError, match=r"not the file that was written.*SHA-256"):
        open_model(folder)


def test_a_damaged_model_directory_is_refused(trained: Any, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(trained.model_dir, copied, ignore=shutil.ignore_patterns("export"))
    (copied / "model.keras").write_bytes(b"something else")
    with pytest.raises(ManifestError, match="SHA-256"):
        open_model(copied)


def test_a_foreign_savedmodel_is_refused(exported: dict[str, ExportResult], tmp_path: Path) -> None:
    folder = copy_of(exported, "savedmodel", tmp_path)
    (folder / "deployment.json").unlink()
    with pytest.raises(ManifestError, match="could write files when called"):
        open_model(folder / "saved_model")


@pytest.mark.parametrize("name", ["model.h5", "model.pkl", "frozen.pb"])
def test_legacy_files_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ManifestError, match=r"can run code.*\.keras"):
        open_model(path)


def test_a_legacy_file_that_calls_itself_keras_is_refused(trained: Any, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 600)
    write_manifest(
        tmp_path, replace(trained.manifest, files={"model.keras": sha256_file(tmp_path / "model.keras")})
    )
    with pytest.raises(ManifestError, match="does not load"):
        open_model(tmp_path)


def test_lambda_layers_are_refused(trained: Any, tools: Any, tmp_path: Path) -> None:
    import keras

    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.Lambda(lambda x: x[:, :1, 0, 0])(images))
    tools.save_keras(model, tmp_path / "model.keras")
    write_manifest(
        tmp_path, replace(trained.manifest, files={"model.keras": sha256_file(tmp_path / "model.keras")})
    )
    with pytest.raises(ManifestError, match="Lambda"):
        open_model(tmp_path)


def _rewritten(
    trained: Any, folder: Path, change: Callable[[dict[str, bytes]], None], *, deflate: bool
) -> None:
    """The trained model with other members, and a manifest that vouches for it."""
    with zipfile.ZipFile(trained.model_dir / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    kind = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(folder / "model.keras", "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    write_manifest(
        folder, replace(trained.manifest, files={"model.keras": sha256_file(folder / "model.keras")})
    )


def _with_weights(members: dict[str, bytes], change: Callable[[h5py.File], None]) -> None:
    stream = io.BytesIO(members["model.weights.h5"])
    with h5py.File(stream, "r+") as file:
        change(file)
    members["model.weights.h5"] = stream.getvalue()


def _kernel_of(file: h5py.File) -> h5py.Dataset:
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return max(found, key=lambda item: item.size)


def _a_layer_of_billions(members: dict[str, bytes]) -> None:
    config = members["config.json"].replace(b'"units": 1,', b'"units": 2000000000,')
    assert config != members["config.json"]
    members["config.json"] = config


def _zeros(members: dict[str, bytes]) -> None:
    members["model.weights.h5"] += bytes(500_000_000)


def _declared_and_not_stored(members: dict[str, bytes]) -> None:
    def change(file: h5py.File) -> None:
        kernel = _kernel_of(file).name
        del file[kernel]
        file.create_dataset(kernel, shape=(1 << 32,), dtype="f4", chunks=(1 << 20,))

    _with_weights(members, change)


def _not_a_number(members: dict[str, bytes]) -> None:
    def change(file: h5py.File) -> None:
        _kernel_of(file)[...] = np.nan

    _with_weights(members, change)


def _without_weights_of_a_layer(members: dict[str, bytes]) -> None:
    def change(file: h5py.File) -> None:
        del file[_kernel_of(file).parent.name]

    _with_weights(members, change)


@pytest.mark.parametrize(
    ("change", "deflate", "reason"),
    [
        (_without_weights_of_a_layer, False, "holds no weights"),
        (_a_layer_of_billions, False, "the network takes"),
        (_zeros, True, "larger than the file"),
        (_declared_and_not_stored, False, "more bytes are declared"),
        (lambda members: members.update({"assets/x": b"x"}), False, "not what Keras writes"),
        (lambda members: members.pop("config.json"), False, "not what Keras writes"),
        (lambda members: members.update({"config.json": b"[" * 9999}), False, "nested deeper"),
        (lambda members: members.update({"config.json": b"[]"}), False, "does not load"),
        (_not_a_number, False, "not finite"),
    ],
)
def test_a_model_takes_no_more_memory_than_its_size_explains(
    trained: Any, tmp_path: Path, change: Callable[[dict[str, bytes]], None], deflate: bool, reason: str
) -> None:
    _rewritten(trained, tmp_path, change, deflate=deflate)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ManifestError, match=reason):
        open_model(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_a_model_that_was_packed_again_still_opens(trained: Any, tmp_path: Path) -> None:
    _rewritten(trained, tmp_path, lambda members: None, deflate=False)
    assert open_model(tmp_path).predict(trained.pixels[:1]).shape == (1, 1)


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no model folder"):
        open_model(tmp_path)
    with pytest.raises(ManifestError, match="no such file or folder"):
        open_model(tmp_path / "absent" / "below")


@pytest.mark.parametrize("opener", [open_model, open_explainer])
@pytest.mark.parametrize(
    ("mistyped", "meant", "listed"),
    [
        ("export/onx", "Did you mean {}/export/onnx? ", "keras, onnx, openvino"),
        ("onnx", "Did you mean {}/export/onnx? ", "model.keras, export/keras, export/onnx"),
        ("model.kera", "Did you mean {}/model.keras? ", "model.keras, export/keras, export/onnx"),
        ("export/nothing/at/all", "", "keras, onnx, openvino"),
        ("export", "", "keras, onnx, openvino"),
        ("export/onnx/model.onx", "", "keras, onnx, openvino"),
    ],
)
def test_a_mistyped_path_never_opens_another_model(
    exported: dict[str, ExportResult], trained: Any, mistyped: str, meant: str, listed: str, opener: Any
) -> None:
    folder = trained.model_dir
    assert len(exported) == len(target_names())
    with pytest.raises(ManifestError) as caught:
        opener(folder / mistyped)
    assert caught.value.where == str(folder / mistyped)
    above = folder / "export" if mistyped.startswith("export") else folder
    assert caught.value.next_step.startswith(f"{meant.format(folder)}There are in {above}: {listed}")


def test_a_file_beside_the_model_is_no_model(trained: Any, tmp_path: Path) -> None:
    """A foreign file in a model folder does not stand for the folder's own model."""
    copied = Path(shutil.copytree(trained.model_dir, tmp_path / "m", ignore=shutil.ignore_patterns("export")))
    (copied / "model.tflite").write_bytes(b"TFL3")
    with pytest.raises(ManifestError, match=r"no file of the model.*model\.keras"):
        open_model(copied / "model.tflite")


def test_an_export_of_another_model_is_refused(
    exported: dict[str, ExportResult], trained: Any, tools: Any, tmp_path: Path
) -> None:
    model_dir = Path(shutil.copytree(trained.model_dir, tmp_path / "m"))
    onnx = model_dir / "export" / "onnx"
    assert read_description(onnx).source_sha256 == sha256_file(model_dir / "model.keras")
    open_model(onnx)
    tools.save_keras(tools.network(), model_dir / "model.keras")
    files = {"model.keras": sha256_file(model_dir / "model.keras")}
    write_manifest(model_dir, replace(trained.manifest, files=files))
    for path in (onnx, onnx / "model.onnx"):
        with pytest.raises(ManifestError, match=r"made from another model.*export .* --to onnx"):
            open_model(path)
    moved = shutil.copytree(onnx, tmp_path / "device")
    open_model(moved)
    fields = json.loads((onnx / "deployment.json").read_text())
    for name in ("source_sha256", "recipe", "average"):
        del fields[name]
    (onnx / "deployment.json").write_text(json.dumps(fields))
    open_model(onnx)  # an older description does not say what it was made from


@pytest.mark.parametrize("target", ["savedmodel", "onnx", "openvino"])
@pytest.mark.parametrize("name", ["model.onnx.data", "saved_model/assets/words.txt", ".hidden", "deep/x"])
def test_a_file_that_is_not_listed_is_refused(
    exported: dict[str, ExportResult], target: str, name: str, tmp_path: Path
) -> None:
    folder = copy_of(exported, target, tmp_path)
    open_model(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(ManifestError, match=r"does not belong to it.*deployment\.json lists"):
        open_model(folder)


@pytest.fixture
def model_folder(trained: Any, tmp_path: Path) -> Path:
    """As fine-tuning leaves it: what commands open is listed, what people read is not."""
    folder = Path(shutil.copytree(trained.model_dir, tmp_path / "m", ignore=shutil.ignore_patterns("export")))
    (folder / "run.json").write_text("{}")
    (folder / "tensorboard" / "train").mkdir(parents=True)
    (folder / "tensorboard" / "train" / "events.out.tfevents.1.host").write_bytes(b"x")
    for name in ("history.csv", "metrics.json", "rejected.csv", ".tmp-17-0a", ".DS_Store"):
        (folder / name).write_bytes(b"x")
    files = {name: sha256_file(folder / name) for name in ("model.keras", "split.csv", "run.json")}
    write_manifest(folder, replace(trained.manifest, files=files))
    return folder


OPENERS = [open_model, open_explainer, lambda folder: export_model(folder, ExportOptions(to="keras"))]


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    "name", ["model.tflite", "model.weights.h5", "saved_model.pb", "assets/words.txt", ".hidden", "notes.csv"]
)
def test_a_file_that_the_manifest_does_not_list_is_refused(
    model_folder: Path, name: str, opener: Callable[[Path], object]
) -> None:
    (model_folder / name).parent.mkdir(exist_ok=True)
    (model_folder / name).write_bytes(b"x")
    with pytest.raises(
        ManifestError, match=r"does not belong to it.*manifest\.json lists.*Move it"
    ) as caught:
        opener(model_folder)
    assert caught.value.where == str(model_folder / name)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("name", ["split.csv", "run.json"])
def test_a_listed_file_has_the_content_that_was_written(
    model_folder: Path, name: str, opener: Callable[[Path], object]
) -> None:
    with (model_folder / name).open("a") as file:
        file.write("\n")
    with pytest.raises(ManifestError, match=rf"{name}.*not the file that was written"):
        opener(model_folder)


def test_what_only_people_read_may_change_and_go(model_folder: Path) -> None:
    open_model(model_folder)
    (model_folder / "history.csv").unlink()
    (model_folder / "split.csv").unlink()  # an export needs it, a prediction does not
    (model_folder / "metrics.json").write_bytes(b"other")
    open_model(model_folder)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("name", ["history.csv", "split.csv", "tensorboard/train/x", "deep", "export"])
def test_a_link_in_a_model_folder_is_refused(
    model_folder: Path, name: str, opener: Callable[[Path], object], tmp_path: Path
) -> None:
    (model_folder / name).unlink(missing_ok=True)
    (model_folder / name).symlink_to(tmp_path if "." not in name else trained_file(model_folder))
    with pytest.raises(ManifestError, match=r"got a link|not the file that was written"):
        opener(model_folder)


def trained_file(folder: Path) -> Path:
    """A file elsewhere."""
    return Path(shutil.copy(folder / "model.keras", folder.with_name("elsewhere")))


@pytest.mark.parametrize("target", ["keras", "savedmodel", "onnx"])
def test_links_are_refused(exported: dict[str, ExportResult], target: str, tmp_path: Path) -> None:
    folder = copy_of(exported, target, tmp_path)
    largest = max(
        (folder / name for name in read_description(folder).files), key=lambda path: path.stat().st_size
    )
    largest.rename(tmp_path / "elsewhere")
    largest.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match="not the file that was written"):
        open_model(folder)
    largest.unlink()
    (tmp_path / "elsewhere").rename(largest)
    open_model(folder)
    (folder / "folder").symlink_to(tmp_path)
    with pytest.raises(ManifestError, match="got a link"):
        open_model(folder)


def test_a_linked_model_in_a_model_folder_is_refused(trained: Any, tmp_path: Path) -> None:
    copied = Path(
        shutil.copytree(trained.model_dir, tmp_path / "copied", ignore=shutil.ignore_patterns("export"))
    )
    (copied / "model.keras").rename(tmp_path / "elsewhere.keras")
    (copied / "model.keras").symlink_to(tmp_path / "elsewhere.keras")
    with pytest.raises(ManifestError, match="not the file that was written"):
        open_model(copied)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"target": "caffe"},
        {"threshold": "high"},
        {"threshold": 7.0},
        {"input_size": 10**6},
        {"labels": ["crack"]},
        {"labels": ["crack", "crack"]},
        {"positive": "dent"},
        {"positive": None},
        {"files": {}},
        {"files": {"../secret": "0" * 64}},
        {"files": {"/etc/hostname": "0" * 64}},
        {"model": "../model.onnx"},
        {"surprise": 1},
        {"source_sha256": "abc"},
        {"source_sha256": "G" * 64},
        {"average": "mean"},
        {"input_shape": [1, 2]},
        {"input_shape": [-1, 32, 32, 3]},
        {"input_shape": [0, 32, 32, 1]},
        {"input_size": "32"},
        {"input_size": 32.0},
        {"threshold": "0.5"},
        {"threshold": float("nan")},
        {"threshold": True},
        {"labels": ["crack", 3]},
        {"labels": "crack"},
        {"notes": "none"},
        {"schema": "1"},
        {"schema": True},
        {"input_range": [0, 1]},
        {"input_dtype": "float32"},
        {"output_dtype": "int8"},
        {"channels": "BGR"},
        {"files": {"model.onnx": 3}},
        {"files": {"model.onnx": "abc"}},
        {"model": "other.onnx"},
        {"model": ""},
        {"recipe": None},
        {"labels": [[[]]]},
    ],
)
def test_impossible_descriptions_are_refused(
    exported: dict[str, ExportResult], tmp_path: Path, change: dict[str, object]
) -> None:
    folder = copy_of(exported, "onnx", tmp_path)
    path = folder / "deployment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ManifestError):
        open_model(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": 1}'])
def test_garbage_descriptions_are_refused(
    exported: dict[str, ExportResult], tmp_path: Path, content: bytes
) -> None:
    folder = copy_of(exported, "onnx", tmp_path)
    (folder / "deployment.json").write_bytes(content)
    with pytest.raises(ManifestError, match="description"):
        open_model(folder)


@pytest.mark.parametrize("target", ["tflite-float32", "onnx", "openvino"])
def test_a_runtime_that_refuses_the_file_is_one_clear_error(
    exported: dict[str, ExportResult], tmp_path: Path, target: str
) -> None:
    folder = copy_of(exported, target, tmp_path)
    description = read_description(folder)
    (folder / description.model).write_bytes(b"not a model at all")
    files = {**description.files, description.model: sha256_file(folder / description.model)}
    (folder / "deployment.json").write_bytes(replace(description, files=files).to_json())
    with pytest.raises(BenchmarkError, match="refuses"):
        open_model(folder)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((1, 16, 32, 3), np.uint8),
        np.zeros((1, 32, 32, 1), np.uint8),
    ],
)
def test_images_of_another_kind_are_refused(exported: dict[str, ExportResult], images: np.ndarray) -> None:
    folder = exported["onnx"].folder
    assert folder is not None
    with pytest.raises(ArgumentError, match="images of another kind"):
        open_model(folder).predict(images)


def test_a_threshold_that_a_model_may_have_its_exports_may_have(trained: Any, tmp_path: Path) -> None:
    """Tuned where a negative image has probability 1, it lies just above."""
    model_dir = Path(
        shutil.copytree(trained.model_dir, tmp_path / "model", ignore=shutil.ignore_patterns("export"))
    )
    write_manifest(model_dir, replace(trained.manifest, threshold=float(np.nextafter(1.0, 2.0))))
    description = replace(
        describe(load_manifest(model_dir), "onnx", model="model.onnx", batch=0),
        files={"model.onnx": "0" * 64},
    )
    (tmp_path / "deployment.json").write_bytes(description.to_json())
    assert read_description(tmp_path) == description
