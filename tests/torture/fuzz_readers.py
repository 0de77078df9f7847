"""Feed mutated records to every reader of small files: our error or a sound value, never anything else.

``python fuzz_readers.py SEED COUNT [READER ...]``: COUNT mutants for each reader. It runs in a process of its
own, with little memory and a deadline for each mutant, so that a crash, a hang or a flood shows as one. Where
a file is sealed by a digest, the mutant gets the right one: only the checks behind it are under test. Prints
``READER REFUSED TAKEN`` for each.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import resource
import signal
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_parts import mutant

from benchmark.audit.signatures import _RECORD, _remembered
from benchmark.backbones.registry import _read_description, described_backbone, shipped_descriptions
from benchmark.backbones.weights import read_checksums
from benchmark.cells import csv_bytes
from benchmark.data.demo import _marked_plan
from benchmark.data.files import Stamp
from benchmark.data.index import FileCheck, Index
from benchmark.data.pixel_buffer import _failure
from benchmark.data.tables import list_table
from benchmark.deployment.description import check_files, describe, read_description
from benchmark.deployment.samples import read_split
from benchmark.engines.model_cache import Agreement, ModelMeta, read_meta, write_meta
from benchmark.errors import BenchmarkError
from benchmark.finetuning import SEEN_FILES, Recipe, TrainedOn, load_manifest
from benchmark.finetuning.manifest import write_manifest
from benchmark.finetuning.model_directory import StoredRun, digest_of, read_run
from benchmark.finetuning.progress import Progress
from benchmark.options import RankOptions
from benchmark.pipeline import RankRequest
from benchmark.pipeline.measurements import Measurement
from benchmark.pipeline.places import _owner
from benchmark.pipeline.stored import portable_options, stored_request
from benchmark.ranking import SanityRow, load_outcome, save_outcome
from benchmark.records import Leaderboard, Predictions, Scored
from benchmark.reporting import (
    BackboneRecord,
    DataRecord,
    RunRecord,
    read_board,
    read_image_list,
    read_rejected,
)
from benchmark.reporting.board_files import json_bytes
from benchmark.storage import Memo, parse_json, sha256_bytes, write_arrays
from tests.manifests import a_manifest

MEMORY_BYTES = 3 * 2**30
SECONDS = 10
SHA = "ab" * 32
Read = Callable[[Path], object]
_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**63, 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "../x", "/etc/passwd", "\0", "\ud800", "\x1b[2J", "1", "nan", "x" * 5000, SHA),
    *([], {}, [[]], [None], {"": {}}, [0] * 300, {"schema": 1}),
]


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        name: of the file, in a folder of its own.
        content: of a good one.
        read: reads it, given the folder; goes as far into the value as its users do.
        seal: makes a mutant's digest right.
        raw: whether it hands on OSError and ValueError, which its callers expect.
    """

    name: str
    content: bytes
    read: Read
    seal: Callable[[bytes], bytes] = bytes
    raw: bool = False


def json_mutant(content: bytes, chance: random.Random) -> bytes:
    """Another value, key or depth somewhere in a JSON text."""
    value = json.loads(content)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:  # noqa: ANN401 - any JSON value
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in [*items]:
            places.append((node, key))
            walk(child)

    walk(value)
    for _ in range(chance.randint(1, 3)):
        if not places or chance.random() < 0.03:
            value = chance.choice(_VALUES)
            break
        node, key = chance.choice(places)
        kind = chance.randrange(5)
        if kind == 0 and isinstance(node, dict):
            node.pop(key, None)
        elif kind == 1 and isinstance(node, dict):
            node[chance.choice(["surprise", "", "schema", str(key) + "x"])] = chance.choice(_VALUES)
        elif kind == 2:
            deep: Any = 0
            for _ in range(chance.choice([3, 50, 99, 101, 300])):
                deep = [deep] if chance.random() < 0.5 else {"a": deep}
            node[key] = deep
        elif isinstance(node, dict) or key < len(node):
            node[key] = chance.choice(_VALUES)
    return json.dumps(value).encode()


def mutated(content: bytes, chance: random.Random) -> bytes:
    if content[:1] in b"{[" and chance.random() < 0.6:
        with suppress(ValueError):
            return json_mutant(content, chance)
    return mutant(content, range(len(content)), chance)


# Good samples ---------------------------------------------------------------------------------------


def an_outcome() -> Scored:
    generator = np.random.default_rng(0)
    return Scored(
        backbone="MobileNet_0.25",
        family="mobilenet",
        source="keras",
        params=10,
        embedding_dim=4,
        input_size=32,
        weights="random",
        weights_sha256=SHA,
        predictions=Predictions(
            val_rows=np.arange(6),
            val=generator.random((2, 6, 1), np.float32),
            val_thresholds=np.full((2, 6), 0.5),
            test_rows=np.arange(6, 9),
            test=generator.random((3, 1), np.float32),
            test_threshold=0.5,
        ),
    )


def a_record() -> RunRecord:
    options = RankOptions(data=Path("walls"))
    request = RankRequest(options=options, backbones=(), protocol=options.head_protocol())
    return RunRecord(
        identifier="20260101-000000-abc",
        started="2026-01-01T00:00:00",
        options=portable_options(request),
        protocol=request.protocol,
        versions={"keras": "3.15.1"},
        hardware={"cores": 2},
        data=DataRecord(source="walls", name="walls", fingerprint=SHA, images=4, classes=("N", "P")),
        seeds={"data": 0},
        backbones={"M": BackboneRecord(status="scored", weights_sha256=SHA, input_size=32)},
        timings={"wall_seconds": 1.5},
    )


def a_run() -> dict[str, Any]:
    phases = {"before": {"val": {"f1": 0.5}, "test": None}, "phase1": {"val": {"f1": 0.6}}, "phase2": None}
    run = StoredRun(
        digest=SHA,
        comparable_digest=SHA,
        grouped=False,
        kept="phase1",
        phases=phases,  # type: ignore[arg-type]
        notes=["n"],
        recipe={"name": "r"},
        cached_views=0,
        train_seconds=1.0,
    )
    return asdict(run)


def written(name: str, write: Callable[[Path], object]) -> bytes:
    """What a writer writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        (path,) = Path(folder).rglob(name)
        return path.read_bytes()


# Seals ----------------------------------------------------------------------------------------------


def seal_outcome(content: bytes) -> bytes:
    body = content.partition(b"\n")[2]
    return f"outcome {sha256_bytes(body)}\n".encode() + body


def seal_meta(content: bytes) -> bytes:
    try:
        stored = json.loads(content)
        digest = hashlib.sha256(json.dumps(stored["meta"], sort_keys=True).encode()).hexdigest()
        return json.dumps({**stored, "sha256": digest}).encode()
    except (ValueError, TypeError, KeyError):
        return content


def seal_archive(content: bytes) -> bytes:
    """Right checksums of stored members, so that what is inside is reached."""
    changed = bytearray(content)
    at = changed.find(b"PK\x03\x04")
    while at >= 0:
        size = int.from_bytes(changed[at + 18 : at + 22], "little")
        start = at + 30 + int.from_bytes(changed[at + 26 : at + 28], "little")
        start += int.from_bytes(changed[at + 28 : at + 30], "little")
        if 0 < size < len(changed):
            changed[at + 14 : at + 18] = zlib.crc32(changed[start : start + size]).to_bytes(4, "little")
        at = changed.find(b"PK\x03\x04", at + 4)
    return bytes(changed)


def seal_state(content: bytes) -> bytes:
    return seal_outcome(b"\n" + seal_archive(content.partition(b"\n")[2]))


# Readers --------------------------------------------------------------------------------------------


def use_board(folder: Path) -> object:
    return json_bytes(read_board(folder / "leaderboard.json"))


def use_record(folder: Path) -> object:
    record = RunRecord.read(folder)
    assert RunRecord.from_json(record.to_json()).to_json() == record.to_json()
    return stored_request(record, data=Path("walls"), results=folder, cache=folder)


def use_outcome(folder: Path) -> object:
    outcome = load_outcome(folder / "x.outcome")
    found = outcome.predictions
    assert found is None or found.val.shape[1] == len(found.val_rows)
    save_outcome(folder / "again" / "x.outcome", outcome)
    return replace(outcome, backbone="again")


def use_index(folder: Path) -> object:
    (file,) = folder.glob("*.npz")
    index = Index.load(folder, "walls", "")
    assert index.file == file
    index.verdict(SHA)
    return index.find("a.jpg", Stamp(1, 2, 3, 4))


def use_meta(folder: Path, identity: dict[str, Any]) -> object:
    model = folder / "models" / "m"
    model.mkdir(parents=True)
    (folder / "meta.json").rename(model / "meta.json")
    return read_meta(model, identity)


def use_export(folder: Path) -> object:
    description = read_description(folder)
    assert description.known_labels
    with suppress(BenchmarkError):  # its files are not here
        check_files(folder, description.files)
    return description.model_sha256


def use_manifest(folder: Path) -> object:
    manifest = load_manifest(folder, verify=False)
    return describe(manifest, "keras", model="model.keras", batch=0).to_json()


def use_description(folder: Path) -> object:
    entries = _read_description(folder / "keras-9.json")
    with suppress(KeyError, TypeError, ValueError):  # a registry of one's own making, used as it is
        return [described_backbone(entry) for entry in entries.values()]
    return None


def readers() -> list[Reader]:
    npz = io.BytesIO()
    np.savez(npz, a=np.arange(3))
    board = Leaderboard(
        columns=("rank", "backbone", "status", "val_f1"),
        rows=(
            {"rank": 1, "backbone": "M", "status": "scored", "val_f1": 0.5},
            {"rank": 2, "backbone": "N", "status": "scored", "val_f1": 0.25},
        ),
        winner="M",
        loss_bound=0.1,
        statements=("s",),
        notes=("n",),
    )
    progress = Progress(
        weights_sha256=SHA,
        history=[{"epoch": 1.0, "loss": 0.5}],
        best={"phase1": {"epoch": 1.0, "f1": 0.5}},
        current=[np.zeros((2, 3), np.float32)],
        optimizer=[np.zeros(4)],
    )

    def write_index(folder: Path) -> None:
        index = Index.load(folder / "index", "walls", "")
        index.add("a.jpg", Stamp(1, 2, 3, 4), FileCheck(SHA, ""))
        index.save(["a.jpg"])

    index_name = Index.load(Path("x"), "walls", "").file.name
    identity = {"backbone": "M", "input_size": 32}
    meta = ModelMeta(
        identity=identity,
        files={"model.xml": SHA, "model.bin": SHA},
        agreement={"float32": Agreement(cosine=1.0, images=8, passed=True)},
    )
    seen = {"records": np.zeros(3, _RECORD)}
    part = written("part.npz", lambda folder: write_arrays(folder / "part.npz", None, seen, root=folder))
    description = describe(a_manifest(files={"model.keras": SHA}), "onnx", model="model.onnx", batch=0)
    listing = [{"path": "a/=b.jpg", "reason": "damaged"}, {"path": "c.jpg", "reason": "empty"}]
    table = b"path,label,split,group\na.jpg,x,train,1\nb.jpg,y,val,2\nc.jpg,x,test,3\n"
    images = [{"id": SHA, "label": "N", "part": "train", "group": 1, "path": "N/a.jpg"}]
    split = f"path,image_id,label,part\na.jpg,{SHA},N,train\nb.jpg,{SHA},P,val\n".encode()
    dataset = {"source": "walls", "fingerprint": SHA, "images": 3, "sample": ["a.jpg"]}
    keras = next(iter(sorted(shipped_descriptions().glob("keras-*.json"))))
    few = json.loads(keras.read_text())
    few["backbones"] = few["backbones"][:2]

    def use_recipe(folder: Path) -> object:
        return Recipe.load(folder / "recipe.toml")

    def use_seen(folder: Path) -> object:
        (folder / SEEN_FILES[1]).write_bytes(bytes(8))
        return TrainedOn.read(folder, dict.fromkeys(SEEN_FILES, SHA))

    return [
        Reader("leaderboard.json", json_bytes(board), use_board),
        Reader("run.json", a_record().to_json().encode(), use_record),
        Reader("images.csv", csv_bytes(tuple(images[0]), images), read_image_list),
        Reader("rejected.csv", csv_bytes(("path", "reason"), listing), read_rejected),
        Reader(
            "x.outcome",
            written("x.outcome", lambda folder: save_outcome(folder / "o" / "x.outcome", an_outcome())),
            use_outcome,
            seal_outcome,
        ),
        Reader("keras-9.json", json.dumps(few).encode(), use_description),
        Reader("SHA256SUMS", f"{SHA}  a.weights.h5\n{SHA} *b c.h5\n".encode(), read_checksums),
        Reader(
            "meta.json",
            written("meta.json", lambda folder: write_meta(folder / "models" / "m", meta)),
            lambda folder: use_meta(folder, identity),
            seal_meta,
        ),
        Reader("recipe.toml", Recipe.text("two-phase-f1").encode(), use_recipe),
        Reader(
            "manifest.json",
            written(
                "manifest.json", lambda folder: write_manifest(folder, a_manifest(files={"model.keras": SHA}))
            ),
            use_manifest,
        ),
        Reader(
            "deployment.json",
            replace(description, files={"model.onnx": SHA, "labels.txt": SHA}).to_json(),
            use_export,
        ),
        Reader("split.csv", split, read_split),
        Reader(
            "state.npz",
            written("state.npz", lambda folder: progress.save(folder / "state.npz")),
            lambda folder: Progress.load(folder / "state.npz"),
            seal_state,
        ),
        Reader("demo.json", b'{"count": 40, "seed": 0, "generation": 1}', _marked_plan),
        Reader(
            "failure.json",
            json.dumps({"is_data": True, "what": "w", "where": "", "got": "g", "next_step": ""}).encode(),
            _failure,
        ),
        Reader(index_name, written(index_name, write_index), use_index, seal_outcome),
        Reader("part.npz", part, lambda folder: _remembered(folder / "part.npz"), seal_outcome),
        memo_reader(str, SHA),
        memo_reader(Measurement, Measurement(images=3, seconds=1.0, latency_ms=2.0)),
        memo_reader(tuple[str, ...], ("a", "b")),
        memo_reader(tuple[SanityRow, ...], (SanityRow(baseline="majority", val_f1=0.5, test_f1=0.5),)),
        Reader("dataset.json", json.dumps(dataset).encode(), _owner),
        Reader(
            "run.json",
            json.dumps(a_run()).encode(),
            lambda folder: (digest_of(folder), read_run(folder)),
            raw=True,
        ),
        Reader(SEEN_FILES[0], bytes(32), use_seen),
        Reader(
            "table.csv",
            table,
            lambda folder: list_table(folder / "table.csv", group_column=None, follow_links=False),
        ),
        Reader(
            "any.json",
            json.dumps(a_run()).encode(),
            lambda folder: parse_json((folder / "any.json").read_bytes()),
            raw=True,
        ),
    ]


def memo_reader(kind: Any, answer: object) -> Reader:  # noqa: ANN401 - a type, of any kind
    with tempfile.TemporaryDirectory() as folder:
        Memo(folder=Path(folder, "memo"), kind=kind).remember("n", "q", answer)
        (path,) = Path(folder, "memo").iterdir()
        content = path.read_bytes()
    return Reader(
        path.name, content, lambda folder: Memo(folder=folder, kind=kind).recall("n", "q"), seal_meta
    )


def fuzz(reader: Reader, seed: int, count: int) -> tuple[int, int]:
    """Mutants refused and taken."""
    chance = random.Random(f"{seed} {reader.name}")
    expected = (BenchmarkError, OSError, ValueError) if reader.raw else (BenchmarkError,)
    refused = 0
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "good").mkdir()
        (Path(root) / "good" / reader.name).write_bytes(reader.content)
        reader.read(Path(root) / "good")
        for number in range(count):
            folder = Path(root) / str(number)
            folder.mkdir()
            content = reader.seal(mutated(reader.content, chance))
            (folder / reader.name).write_bytes(content)
            signal.alarm(SECONDS)
            try:
                reader.read(folder)
            except expected:
                refused += 1
            except BaseException:
                print(f"{reader.name}, mutant {number}: {content[:3000]!r}", file=sys.stderr)
                raise
            signal.alarm(0)
    return refused, count - refused


def main(seed: int, count: int, names: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for reader in readers():
        if not names or reader.name in names:
            print(reader.name, *fuzz(reader, seed, count), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
