"""Opening ``.keras`` files that strangers may have made: no code of theirs runs, and memory is bounded.

A ``.keras`` file is a ZIP archive of a network's description and its weights. Both can ask for far more
memory than the file has bytes: a compressed member, a layer of a billion units, an array that is declared and
not stored. What they ask for is therefore added up before anything of it is made.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.backbones.keras_models import import_keras
from benchmark.backbones.weights import inspect_file
from benchmark.errors import ManifestError, WeightsError
from benchmark.storage import MOST_MODEL_BYTES, MOST_SMALL_BYTES, open_regular, parse_json

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {"metadata.json", _CONFIG, _WEIGHTS}
_SPARE_BYTES = 2**20
# What comes of a description that makes no sense: Keras promises nothing narrower.
_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def load_keras_model(path: Path) -> object:
    """Load a ``.keras`` file without running code from it; a ``keras.Model``.

    Raises:
        ManifestError: a legacy file, a Lambda layer, a damaged file, one that asks for more memory than its
            size explains, weights that are missing or not finite numbers.
    """
    if path.suffix != ".keras":
        raise ManifestError(
            "is a legacy model file, which can carry code and is not checked when loaded",
            where=path,
            expected="a .keras file",
            got=path.suffix or "no suffix",
            next_step="Save it again with model.save('model.keras') where it came from.",
        )
    keras = import_keras()
    import tensorflow as tf

    try:
        _check_memory(path)
        with warnings.catch_warnings():
            # Where the file has no weights for a layer, Keras only warns, and leaves the random ones there.
            warnings.filterwarnings("error", "Skipping nested container", UserWarning)
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except UserWarning as error:
        raise ManifestError(
            "holds no weights, or others, for one of its layers",
            where=path,
            got=str(error).split(":")[0].removeprefix("Skipping nested container at "),
            next_step="Save or copy the model again.",
        ) from error
    except (*_MISTAKES, tf.errors.OpError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise ManifestError(
            "Keras does not load this model",
            where=path,
            got=text,
            next_step="Lambda layers and custom objects are refused: loading them runs their code.",
        ) from error
    except WeightsError as error:
        raise ManifestError("holds weights that are not loaded", where=path, got=error.got) from error
    for variable in model.weights:
        if variable.dtype in {"float32", "float64", "float16"} and not np.isfinite(variable.numpy()).all():
            raise ManifestError(
                "holds weights that are not finite numbers",
                where=path,
                got=f"nan or inf in {variable.path}",
                next_step="Train the model again.",
            )
    return model


def _check_memory(path: Path) -> None:
    """See that archive, network and weights ask for no more memory than the file's size explains.

    Raises:
        ValueError: they do, or they are no archive that Keras wrote.
        WeightsError: the weights hold what weights do not need.
    """
    with open_regular(path, most_bytes=MOST_MODEL_BYTES) as file:
        size = file.seek(0, io.SEEK_END)
        with zipfile.ZipFile(file) as archive:
            members = {one.filename: one for one in archive.infolist()}
            if set(members) != _MEMBERS or len(archive.infolist()) != len(_MEMBERS):
                raise ValueError(f"it holds {', '.join(sorted(members))[:200]}, not what Keras writes")
            # Keras compresses nothing.
            if sum(one.file_size for one in members.values()) > size:
                raise ValueError("its members are larger than the file")
            if members[_CONFIG].file_size > MOST_SMALL_BYTES:
                raise ValueError("its description is too large")
            config = parse_json(archive.read(_CONFIG))
    needed = _network_bytes(config)
    stored = members[_WEIGHTS].file_size
    if needed > stored + _SPARE_BYTES:
        raise ValueError(f"the network takes {needed:,} bytes, and only {stored:,} are stored")
    inspect_file(path, needed + _SPARE_BYTES, member=_WEIGHTS)


def _network_bytes(config: Any) -> int:  # noqa: ANN401 - whatever JSON held
    """Bytes that the variables of a described network will take, without making any.

    In a stateless scope Keras only notes that a variable has yet to be made. It does so per thread: the notes
    go with the thread that builds the network here.
    """

    def counted() -> int:
        import keras

        with keras.StatelessScope(initialize_variables=False):
            plain = {name: value for name, value in config.items() if name != "compile_config"}
            model = keras.saving.deserialize_keras_object(plain, safe_mode=True)
            return sum(math.prod(one.shape) * _item_bytes(one.dtype) for one in model.weights)

    with ThreadPoolExecutor(1, "network-size") as thread:
        return thread.submit(counted).result()


def _item_bytes(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else int(np.dtype(dtype).itemsize)
