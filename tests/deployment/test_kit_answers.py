"""What the exports of a model say of its images, for a kit or a board."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmark.deployment import (
    KitEntry,
    answers_of,
    export_model,
    find_target,
    kit,
    require_packages,
    write_kit,
)
from benchmark.errors import ExportError, ManifestError
from benchmark.execution import failure
from benchmark.finetuning.manifest import write_manifest
from benchmark.options import ExportOptions
from benchmark.pipeline.exporting import ExportTask, export_task
from benchmark.storage import sha256_file

if TYPE_CHECKING:
    from conftest import Trained

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's
    pytest.mark.timeout(600),
]


def test_one_export_that_cannot_be_run_costs_no_other(trained: Trained, tmp_path: Path) -> None:
    model_dir = Path(shutil.copytree(trained.model_dir, tmp_path / "model"))
    targets = ("tflite-float32", "keras")  # the second has the name of the model's own library
    asked = ExportOptions.check({"to": list(targets), "data": trained.data})
    broken, whole = export_model(model_dir, asked)
    assert broken.folder is not None
    (file,) = broken.folder.glob("*.tflite")
    file.write_bytes(b"no model")
    found = answers_of(model_dir, targets, trained.data, parts=("train", "val"))
    assert whole.passed
    np.testing.assert_allclose(found.after["keras"], found.before, atol=1e-5)
    assert isinstance(found.after["tflite-float32"], ExportError)
    assert "tflite-float32" in str(found.after["tflite-float32"])
    (model_dir / "model.keras").write_bytes(b"no model")
    with pytest.raises(ExportError, match="reference"):
        answers_of(model_dir, targets, trained.data, parts=("val",))


def test_an_export_that_was_replaced_since_is_not_packed(trained: Trained, tmp_path: Path) -> None:
    model_dir = Path(shutil.copytree(trained.model_dir, tmp_path / "model"))
    asked = ExportOptions.check({"to": ["tflite-dynamic"], "data": trained.data})
    (made,) = export_model(model_dir, asked)
    assert made.folder is not None
    assert made.sha256 == sha256_file(made.folder / "deployment.json")
    entry = KitEntry(
        backbone="Small",
        weights_sha256="0" * 64,
        target=made.target,
        export=made.folder,
        sha256=made.sha256,
        size_bytes=made.size_bytes,
        f1=(0.5, 0.4, 0.6),
        f1_images=4,
        outcome="0" * 64,
        pixels=trained.pixels[:2],
        expected=np.zeros((2, 1), np.float32),
    )
    folder = tmp_path / "kit"
    write_kit(folder, [entry], data="walls", fingerprint="0" * 64)
    before = (folder / "kit.json").read_bytes()
    (made.folder / "model.tflite").write_bytes(b"another model")
    with pytest.raises(ManifestError, match=r"model\.tflite"):
        write_kit(folder, [entry], data="walls", fingerprint="0" * 64)
    description = made.folder / "deployment.json"
    description.write_text(description.read_text() + "\n")
    with pytest.raises(ExportError, match="replaced since it was scored"):
        write_kit(folder, [entry], data="walls", fingerprint="0" * 64)
    assert (folder / "kit.json").read_bytes() == before


def test_tasks_that_share_the_processors_have_more_time(trained: Trained, tmp_path: Path) -> None:
    model_dir = Path(shutil.copytree(trained.model_dir, tmp_path / "model"))
    task = ExportTask(model=model_dir, targets=("keras",), data=trained.data, parts=("val",), at_once=1)
    shorter = replace(task, at_once=1e-4)  # type: ignore[arg-type]
    assert "not finished after 0.09 seconds" in export_task(shorter, 1)["error"]
    with pytest.raises(ExportError, match=r"not finished after 0\.2 seconds"):
        answers_of(model_dir, (), trained.data, parts=("val",), timeout_seconds=0.2)


@pytest.mark.parametrize("parts", [("val",), ("train", "val")])
def test_a_sample_is_of_the_images_that_were_validated(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: tuple[str, ...]
) -> None:
    """However many more images were trained on; and some of them travel with the kit."""
    model_dir = Path(shutil.copytree(trained.model_dir, tmp_path / "model"))
    lines = (model_dir / "split.csv").read_text().splitlines()
    kept = [*lines[:-100], *lines[-100::10]]  # 460 to train on, 10 to validate
    (model_dir / "split.csv").write_text("\n".join(kept) + "\n")
    files = trained.manifest.files | {"split.csv": sha256_file(model_dir / "split.csv")}
    write_manifest(model_dir, replace(trained.manifest, files=files))
    monkeypatch.setattr(kit, "_MOST_IMAGES", 8)
    found = answers_of(model_dir, (), trained.data, parts=parts)
    part_of = {line.split(",")[1]: line.split(",")[3] for line in kept[1:]}
    assert len(found.image_ids) == 8
    assert {part_of[image_id] for image_id in found.image_ids} <= set(parts)
    assert len(found.before) == 8
    assert len(found.pixels) == len(found.sampled) > 0


def test_another_machine_may_have_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(find_target("onnx")), "requires", ("no_such_module",))
    with pytest.raises(ExportError, match="no no_such_module") as found:
        require_packages(("onnx",))
    assert failure(found.value)["elsewhere"]
