"""What the model says of one photograph that somebody sent."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from benchmark.deployment import Explainer, Predictor, open_explainer
from benchmark.errors import BenchmarkError, ExportError
from benchmark.options import PredictOptions, ServeOptions
from benchmark.pipeline import predict_images
from benchmark.records import MAX_PIXELS

_NAME = "photograph"
_SHARED = sorted(PredictOptions.model_fields.keys() & ServeOptions.model_fields.keys())


class Respondent:
    """One model, asked about one photograph after another.

    Attributes:
        about: what the page shows of the model.
    """

    def __init__(self, options: ServeOptions, predictor: Predictor) -> None:
        self._options = options
        self._predictor = predictor
        self._explainer: Explainer | None = None
        description = predictor.description
        self.about: dict[str, Any] = {
            "model": options.model.resolve().name,
            "classes": list(description.labels),
            "positive": description.positive,
            "format": description.target,
            "input": description.input_size,
        }

    def try_out(self) -> None:
        """Answer for a grey picture: what cannot work says so now, and the first photograph need not wait.

        Raises:
            ArgumentError: a threshold for exclusive classes.
            ExportError: the model fails.
        """
        grey = io.BytesIO()
        Image.new("RGB", (self._predictor.description.input_size,) * 2, "grey").save(grey, "BMP")
        said = self.answer(grey.getvalue())
        if "error" in said:
            raise ExportError("the model does not answer", where=self._options.model, got=said["error"])

    def answer(self, photograph: bytes, *, tiles: bool = False, heatmap: bool = False) -> dict[str, Any]:
        """Label, doubt and probabilities, as ``backbones predict`` gives them.

        Args:
            photograph: an image file of any format that is read elsewhere, too.
            tiles: slide windows of the model's input size over it.
            heatmap: add ``heatmap``, a PNG as base64, or ``heatmap_error``, why there is none.

        Returns:
            ``label``, ``doubt``, ``probabilities`` by class; or ``error``, why it cannot be read.

        Raises:
            ArgumentError: a threshold for exclusive classes.
            ExportError: the model fails.
        """
        with TemporaryDirectory(prefix="backbones-") as work:
            place = Path(work) / _NAME
            place.write_bytes(photograph)
            overlays = Path(work) / "overlays"
            asked = {
                **{name: getattr(self._options, name) for name in _SHARED},
                "images": (place,),
                "max_pixels": MAX_PIXELS,  # also with tiles: one request holds up the others
                "tiles": self._predictor.description.input_size if tiles else None,
                "heatmaps": overlays if tiles and heatmap else None,
            }
            predicted = predict_images(self._predictor, PredictOptions.check(asked))
            (found,) = predicted.found
            if found.error:
                return {"error": found.error.replace(str(place), _NAME)}
            said: dict[str, Any] = {
                "label": found.label,
                "doubt": found.doubt,
                "probabilities": dict(zip(predicted.labels, found.probabilities, strict=True)),
            }
            if heatmap:
                said |= self._tile_map(overlays) if tiles else self._heat_map(place)
            return said

    def _tile_map(self, overlays: Path) -> dict[str, str]:
        for picture in overlays.glob("*.png"):
            return {"heatmap": _text(picture.read_bytes())}
        return {"heatmap_error": "the map of the windows could not be drawn"}

    def _heat_map(self, place: Path) -> dict[str, str]:
        try:
            if self._explainer is None:
                self._explainer = open_explainer(self._options.model)
            pixels = self._explainer.description.pixels_of(place, max_pixels=MAX_PIXELS)
            return {"heatmap": _text(self._explainer.picture(pixels, threshold=self._options.threshold))}
        except BenchmarkError as error:
            return {"heatmap_error": error.what}


def _text(png: bytes) -> str:
    return base64.b64encode(png).decode()
