"""What the exports of a model say of its images, for a kit or a board."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmark.deployment import answers_of, export_model
from benchmark.errors import ExportError
from benchmark.options import ExportOptions

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
    found = answers_of(model_dir, targets, trained.data)
    assert whole.passed
    np.testing.assert_allclose(found.after["keras"], found.before, atol=1e-5)
    assert isinstance(found.after["tflite-float32"], ExportError)
    assert "tflite-float32" in str(found.after["tflite-float32"])
    (model_dir / "model.keras").write_bytes(b"no model")
    with pytest.raises(ExportError, match="reference"):
        answers_of(model_dir, targets, trained.data)
