"""Feed mutated parts to the reader, each under the name that its bytes ask for.

``python fuzz_parts.py SEED COUNT``. Only the checks on structure stand between these bytes and HDF5. It runs
in a process of its own, so that a crash or a hang of HDF5 shows as one. Prints how many mutants were refused
and how many were taken; those taken must be sound.
"""

from __future__ import annotations

import io
import random
import sys

import h5py
import numpy as np
from store_shelves import KEY, make_features, make_ids

from benchmark.embeddings.parts import as_ids, build_part, open_part, part_name
from benchmark.errors import CacheDamaged


def good_part(rows: int, dim: int) -> bytes:
    ids = make_ids(rows)
    return build_part(KEY, as_ids(ids), make_features(ids, dim))


def structure(content: bytes) -> range:
    """Where the file's own description stands: everything before the numbers."""
    with h5py.File(io.BytesIO(content)) as file:
        return range(min(file[name].id.get_offset() for name in file))


def mutant(content: bytes, described: range, chance: random.Random) -> bytes:
    """One to eight changes, most of them where they hurt."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        at = chance.choice(described) if chance.random() < 0.8 else chance.randrange(len(changed))
        at = min(at, len(changed) - 1)
        length = chance.choice([1, 1, 2, 4, 8, 64, 512])
        kind = chance.randrange(5)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at : at + length] = bytes(length)
        elif kind == 2:
            changed[at : at + length] = b"\xff" * length
        elif kind == 3:
            changed[at : at + length] = chance.randbytes(length)
        else:
            other = chance.randrange(len(changed))
            changed[at : at + length] = changed[other : other + length]
        changed = changed or bytearray(b"\0")
    return bytes(changed[: chance.randrange(len(changed))] if chance.random() < 0.1 else changed)


def main(seed: int, count: int) -> None:
    chance = random.Random(seed)
    content = good_part(8, 4)
    described = structure(content)
    refused = taken = 0
    for number in range(count):
        bytes_now = mutant(content, described, chance)
        sys.stderr.write(f"{number}\n")  # the last line names the mutant that crashed or hung
        try:
            part = open_part(bytes_now, name=part_name(bytes_now), where="mutant")
        except CacheDamaged:
            refused += 1
        else:
            taken += 1
            assert part.features.dtype == np.float32
            assert part.features.shape[0] == part.image_ids.shape[0]
            assert part.features.nbytes + part.image_ids.nbytes <= len(bytes_now)
            assert np.isfinite(part.features).all()
    sys.stdout.write(f"{refused} {taken}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
