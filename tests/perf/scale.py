"""Time and memory of ``embed`` against the number of images, and against the number of backbones."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from benchmark.machine import cores
from tests.perf.figures import Figure
from tests.perf.jobs import empty
from tests.perf.memory import peak_megabytes
from tests.perf.setting import Setting

_ONE = "MobileNet_0.25"
_SEVERAL = (_ONE, "MobileNet_0.5", "MobileNetV2_0.35", "MobileNetV3Small_0.75")
_DRAWN = 500
_COMMENT = b"\xff\xfe\x00\x0a"  # a JPEG comment of eight bytes


def measure(setting: Setting) -> Iterator[Figure]:
    """From nothing each time, but for the converted models, which a first run leaves behind."""
    cache = setting.folder / "scale-cache"
    counts = setting.pick((500, 5000, 50_000), (500, 2000), (24, 48))
    peak_megabytes(_images(setting, 24), empty(cache), setting, ",".join(_SEVERAL))
    jobs = [(count, _ONE) for count in counts]
    jobs += [(counts[1], ",".join(_SEVERAL[:several])) for several in (2, 4)]
    for count, backbones in jobs:
        data = _images(setting, count)
        for path in (*cache.glob("*/key.json"), cache / "index"):
            empty(path if path.name == "index" else path.parent)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak, wall = peak_megabytes(data, cache, setting, backbones)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
        yield Figure(
            work=f"embed {count:,} images under {backbones.count(',') + 1} backbones",
            ours=used,
            note=f"processor seconds, {1000 * used / count:.2f} ms an image; peak {peak:.0f} MB; "
            f"{wall:.0f} s on {cores()} cores that others used, too",
        )


def _images(setting: Setting, count: int) -> Path:
    """Generated photographs; many more than 500 are copies of these that a comment tells apart."""
    drawn = setting.images(min(count, _DRAWN), seed=5)
    if count <= _DRAWN:
        return drawn
    folder = setting.folder / f"scale-{count}"
    originals = sorted(drawn.glob("*/*.jpg"))
    for number in range(count if not folder.exists() else 0):
        source = originals[number % len(originals)]
        target = folder / source.parent.name / f"{number:06}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        content = source.read_bytes()
        target.write_bytes(content[:2] + _COMMENT + b"%08d" % number + content[2:])
    return folder
