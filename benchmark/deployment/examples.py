"""``example.py``: about ten lines beside each export that show how to use it without this package."""

from __future__ import annotations

from benchmark.deployment.description import Deployment
from benchmark.deployment.targets import Target
from benchmark.records import Resize, Task

_LITERT = """\
from ai_edge_litert.interpreter import Interpreter

model = Interpreter(str(here / info["model"]))
model.allocate_tensors()
model.set_tensor(model.get_input_details()[0]["index"], pixels)
model.invoke()
probabilities = model.get_tensor(model.get_output_details()[0]["index"])[0]
"""

_BODIES = {
    Target.KERAS: """\
import keras

model = keras.saving.load_model(here / info["model"], compile=False)
probabilities = model.predict(pixels, verbose=0)[0]
""",
    Target.SAVEDMODEL: """\
import tensorflow as tf

model = tf.saved_model.load(str(here / info["model"]))
probabilities = model.signatures["serving_default"](images=tf.constant(pixels))["probabilities"].numpy()[0]
""",
    Target.TFLITE_FLOAT32: _LITERT,
    Target.TFLITE_FLOAT16: _LITERT,
    Target.TFLITE_DYNAMIC: _LITERT,
    Target.TFLITE_INT8: _LITERT,
    Target.ONNX: """\
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import: it reports its use otherwise
import onnxruntime

model = onnxruntime.InferenceSession(str(here / info["model"]), providers=["CPUExecutionProvider"])
probabilities = model.run(None, {model.get_inputs()[0].name: pixels})[0][0]
""",
    Target.OPENVINO: """\
sys.modules["openvino_telemetry"] = None  # before the import: it reports its use otherwise
import openvino

model = openvino.Core().compile_model(here / info["model"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
probabilities = model(pixels)[0][0]
""",
}

_PACKAGES = {
    Target.KERAS: "tensorflow pillow numpy",
    Target.SAVEDMODEL: "tensorflow pillow numpy",
    Target.ONNX: "onnxruntime pillow numpy",
    Target.OPENVINO: "openvino pillow numpy",
}

_HEAD = '''\
"""Label one image: python example.py PHOTO.jpg  (needs: pip install {packages})."""
import json
import pathlib
import sys

import numpy as np
from PIL import Image, ImageOps

here = pathlib.Path(__file__).parent
info = json.loads((here / "deployment.json").read_text(encoding="utf-8"))
photo = ImageOps.exif_transpose(Image.open(sys.argv[1]))
if photo.mode.startswith("I;16"):  # 16-bit grey to 8 bits
    photo = Image.fromarray(((np.asarray(photo) + 128.0) // 257).astype(np.uint8))
layer = photo.convert("RGBA")  # what is transparent shows a white page
photo = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
side = info["input_size"]
pixels = np.asarray({resized})[None]
'''

_DECISIONS = {
    Task.BINARY: """\
other = next(label for label in info["labels"] if label != info["positive"])
print(info["positive"] if probabilities[0] >= info["threshold"] else other, float(probabilities[0]))
""",
    Task.MULTICLASS: """\
print(info["labels"][int(probabilities.argmax())], float(probabilities.max()))
""",
    Task.MULTILABEL: """\
chosen = [label for label, p in zip(info["labels"], probabilities) if p >= info["threshold"]]
print(chosen, probabilities.tolist())
""",
}

# The affine transform reads the four nearest pixels with half-pixel centres, as training did, and differs by
# one level at most; Pillow's resize would average where a photograph shrinks, which is what AREA does.
_RESIZED = {
    Resize.BILINEAR: (
        "photo.transform((side, side), Image.Transform.AFFINE,\n"
        "    (photo.width / side, 0, 0, 0, photo.height / side, 0), Image.Resampling.BILINEAR)"
    ),
    Resize.AREA: "photo.resize((side, side), Image.Resampling.BOX)",
}


def example_script(description: Deployment) -> str:
    """The text of ``example.py`` for an export."""
    packages = _PACKAGES.get(description.target, "ai-edge-litert pillow numpy")
    head = _HEAD.format(packages=packages, resized=_RESIZED[description.resize])
    return "\n".join([head, _BODIES[description.target], _DECISIONS[description.task]])
