"""Which other files one of ONNX keeps weights in, read without the package onnx.

A model is a protocol buffer: fields, each a number and a value; those of messages are again such. Only the
messages that tensors lie in are looked into, and no byte of a weight is read.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import BinaryIO, TypeAlias

from benchmark.errors import WeightsError
from benchmark.storage import MOST_MODEL_BYTES, open_regular

_Content: TypeAlias = mmap.mmap | bytes

# Of each message of onnx.proto, the numbers of the fields that tensors lie in, and what kind those are.
_HOLDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1  # of a tensor
_KEY, _VALUE = 1, 2
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10
_ENUM_BITS = 0xFFFFFFFF  # what readers keep of a varint that stands for an enum


def external_files(path: Path) -> tuple[Path, ...]:
    """The files beside a network that hold weights of it, sorted; none for other files than those of ONNX.

    Raises:
        OSError: it cannot be read.
        WeightsError: it is no ONNX, or names a file outside of its folder.
    """
    if path.suffix != ".onnx":
        return ()
    state = path.stat()
    return _scan(path, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@functools.lru_cache(maxsize=64)
def _scan(path: Path, state: tuple[int, ...]) -> tuple[Path, ...]:
    """The files that a network names while it is in a state (``os.stat_result``'s)."""
    try:
        with open_regular(path, most_bytes=MOST_MODEL_BYTES) as file:
            locations = sorted(set(_locations(_content(file))))
    except ValueError as error:
        raise WeightsError(
            "not a network that can be read", where=path, expected="an ONNX file", got=error
        ) from error
    for location in locations:
        # Refused everywhere: what leads out of the folder on Windows. What does so elsewhere does so there.
        named = PureWindowsPath(location)
        if named.anchor or ".." in named.parts or not named.name or "\0" in location:
            raise WeightsError(
                "keeps weights outside of its folder",
                where=path,
                expected="files beside it",
                got=repr(location),
                next_step="Save it as one file: onnx.save(onnx.load(old), new).",
            )
    return tuple(path.parent / location for location in locations)


def _content(file: BinaryIO) -> _Content:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:  # some file systems map no files
        return file.read()


def _locations(content: _Content) -> Iterator[str]:
    """Where tensors say that their values are."""
    waiting = [("model", 0, len(content))]
    while waiting:
        kind, start, stop = waiting.pop()
        if kind == "tensor":
            yield from _location(content, start, stop)
            continue
        for number, wire, begin, end in _fields(content, start, stop):
            if wire == _BYTES and number in _HOLDS[kind]:
                waiting.append((_HOLDS[kind][number], begin, end))


def _location(content: _Content, start: int, stop: int) -> Iterator[str]:
    fields = list(_fields(content, start, stop))
    places = [_varint(content, begin)[0] for *kind, begin, _ in fields if kind == [_DATA_LOCATION, _VARINT]]
    if not places or places[-1] & _ENUM_BITS != _EXTERNAL:  # of several the last one counts
        return
    for entry in (field for field in fields if field[:2] == (_EXTERNAL_DATA, _BYTES)):
        within = _fields(content, *entry[2:])
        said = {number: content[a:b].decode() for number, wire, a, b in within if wire == _BYTES}
        if said.get(_KEY) == "location":
            yield said.get(_VALUE, "")


def _fields(content: _Content, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number and kind of each field of a message, and from where to where its value stands."""
    while start < stop:
        tag, begin = _varint(content, start)
        number, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            length, begin = _varint(content, begin)
            end = begin + length
        elif wire == _VARINT:
            end = _varint(content, begin)[1]
        elif wire in {_EIGHT_BYTES, _FOUR_BYTES}:
            end = begin + (8 if wire == _EIGHT_BYTES else 4)
        else:
            raise ValueError(f"no field at byte {start:,}")
        if end > stop:
            raise ValueError(f"it ends within the field at byte {start:,}")
        yield number, wire, begin, end
        start = end


def _varint(content: _Content, start: int) -> tuple[int, int]:
    """A number, seven bits a byte, the lowest first; and where it ends."""
    value = 0
    for place, byte in enumerate(content[start : start + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, start + place + 1
    raise ValueError(f"no number at byte {start:,}")
