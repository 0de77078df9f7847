"""Feed mutated ``.keras`` archives to the loader of models: our error or a sound network, nothing else.

``python fuzz_models.py SEED COUNT``: COUNT mutants of each kind, and five times as many of the network's
description. TensorFlow does not fit into the address space that the fuzzer of records allows itself: here the
*data* of the process may grow by 1 GiB once a good model was loaded, and each mutant has a deadline, so that
a crash, a hang or a flood shows as one. Prints ``KIND REFUSED TAKEN``.
"""

from __future__ import annotations

import io
import os
import random
import resource
import signal
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

import numpy as np
from fuzz_parts import mutant
from fuzz_readers import json_mutant

from benchmark.backbones import load_keras_model
from benchmark.errors import ManifestError

GROWTH_BYTES = 2**30
SECONDS = 150  # the process that looks into the weights may hang for 120
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
Members = list[tuple[str, bytes]]


def good_model(path: Path) -> bytes:
    """A network with what fine-tuned ones have: preprocessing, a nested backbone, dropout, a head."""
    import keras
    from keras import layers

    inner = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(inner)
    x = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    x = layers.Multiply()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    backbone = keras.Model(inner, layers.GlobalAveragePooling2D()(x), name="backbone")
    images = keras.Input((16, 16, 3))
    features = backbone(layers.Rescaling(1 / 127.5, offset=-1.0)(images))
    head = layers.Dense(1, activation="sigmoid")(layers.Dropout(0.2)(features))
    keras.Model(images, head).save(path)
    return path.read_bytes()


def packed(members: Members, kind: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", kind) as archive:
        warnings.simplefilter("ignore")  # two members of one name are meant
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def with_json(name: str) -> Callable[[Members, random.Random], bytes]:
    """Another value, key or depth in one of the two descriptions."""

    def change(members: Members, chance: random.Random) -> bytes:
        return packed([(each, json_mutant(old, chance) if each == name else old) for each, old in members])

    return change


def with_weights(members: Members, chance: random.Random) -> bytes:
    """Damaged weights under a right checksum."""
    return packed(
        [(name, mutant(old, range(len(old)), chance) if name == WEIGHTS else old) for name, old in members]
    )


def with_bytes(members: Members, chance: random.Random) -> bytes:
    """Damage anywhere, most of it in the archive's own structure."""
    content = packed(members)
    starts = [content.find(b"PK\x03\x04", at) for at in range(0, len(content), 4096)]
    headers = [at + offset for at in starts if at >= 0 for offset in range(60)]
    directory = range(content.find(b"PK\x01\x02"), len(content))
    return mutant(content, chance.choice([headers, directory]), chance)  # type: ignore[arg-type]


def with_members(members: Members, chance: random.Random) -> bytes:
    """Members missing, doubled, exchanged, renamed, compressed, or beside them one more."""
    changed = list(members)
    at = chance.randrange(len(changed))
    name, content = changed[at]
    names = ["../x", "/x", "assets/x", "x" * 60000, "config.json/", METADATA, CONFIG, WEIGHTS]
    other = chance.choice(names)
    choice = chance.randrange(5)
    if choice == 0:
        changed.pop(at)
    elif choice == 1:
        changed.append((other, content))
    elif choice == 2:
        changed[at] = (other, content)
    elif choice == 3:
        changed[at] = (name, chance.choice(members)[1])
    else:
        changed[at] = (name, content + bytes(chance.choice([1, 10**6, 10**8])))
    return packed(changed, chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))


# And how many of a kind for one of the others: descriptions can be wrong in most ways, and are refused soon.
KINDS: dict[str, tuple[Callable[[Members, random.Random], bytes], int]] = {
    CONFIG: (with_json(CONFIG), 5),
    METADATA: (with_json(METADATA), 1),
    WEIGHTS: (with_weights, 1),
    "bytes": (with_bytes, 1),
    "members": (with_members, 1),
}


def limit_memory() -> None:
    """Let the process grow from here by ``GROWTH_BYTES``, memory mapped for data included."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    now = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (now + GROWTH_BYTES, now + GROWTH_BYTES))


def fuzz(kind: str, members: Members, seed: int, count: int, folder: Path) -> tuple[int, int]:
    """Mutants refused and taken."""
    chance = random.Random(f"{seed} {kind}")
    change, times = KINDS[kind]
    refused = 0
    count *= times
    for number in range(count):
        content = change(members, chance)
        path = folder / "mutant.keras"
        path.write_bytes(content)
        signal.alarm(SECONDS)
        sys.stderr.write(f"{kind} {number}\n")  # the last line names the mutant that crashed or hung
        try:
            model = load_keras_model(path)
        except ManifestError:
            refused += 1
        else:
            assert all(np.isfinite(variable.numpy()).all() for variable in model.weights)  # type: ignore[attr-defined]
        signal.alarm(0)
    return refused, count - refused


def main(seed: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        good = Path(root) / "good.keras"
        with zipfile.ZipFile(io.BytesIO(good_model(good))) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
        load_keras_model(good)
        limit_memory()
        for kind in KINDS:
            print(kind, *fuzz(kind, members, seed, count, Path(root)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
