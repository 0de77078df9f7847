"""Measure the models of this kit on this device: python measure.py [--threads N] [--seconds S].

It needs Python 3.9 or later, NumPy, and ai-edge-litert, onnxruntime or both (pip install numpy
ai-edge-litert onnxruntime); what has no runtime is skipped, and said. First it compares every file with its
SHA-256, then it runs each model in a process of its own: its outputs on the kit's pixels must be those of the
machine that made the kit, within the tolerances of kit.json; then come load time, latency and memory.
device.json is written after each model, so that Ctrl-C keeps what was measured; 'backbones device add' reads
it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

SCHEMA = 1
HERE = Path(__file__).resolve().parent
SYSTEM = Path("/sys")
MODULES = {"ai-edge-litert": "ai_edge_litert", "onnxruntime": "onnxruntime"}
MOST_SECONDS = 900  # for one model, without the timing that was asked for
MOST_RUNS = 10_000
FEWEST_RUNS = 20
F1 = ("f1", "f1_low", "f1_high", "f1_images", "outcome")
WARM_RUNS, WARM_SECONDS = 5, 1.0
INTERRUPTED = 130


def main() -> int:
    """0 measured, every output right; 1 a model failed, or none could be run; 2 no whole kit; 130 Ctrl-C."""
    options = arguments()
    if options.child is not None:
        return child(options)
    try:
        kit = read_kit(HERE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"{HERE}: not a whole kit: {error}. Copy it again.", file=sys.stderr)
        return 2
    record = {
        "schema": SCHEMA,
        "data": kit["data"],
        "fingerprint": kit["fingerprint"],
        "kit": sha256(HERE / "kit.json"),
        "machine": machine(),
        "threads": options.threads,
        "interrupted": False,
        "exports": [unmeasured(export, "skipped", "not reached") for export in kit["exports"]],
        "left_out": kit["left_out"],
    }
    try:
        for position, export in enumerate(kit["exports"]):
            record["exports"][position] = measured(position, export, options)
            print(line(record["exports"][position]), flush=True)
            write(options.output, record)
    except KeyboardInterrupt:
        record["interrupted"] = True
        write(options.output, record)
        print(f"Interrupted. What was measured is in {options.output}", file=sys.stderr)
        return INTERRUPTED
    print(f"Written to {options.output}. Where the board is: backbones device add device.json --name NAME")
    found = [export["status"] for export in record["exports"]]
    return 0 if "passed" in found and "failed" not in found else 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the models of this kit on this device.")
    parser.add_argument(
        "--threads", type=positive(int), default=cores(), help="of a model (default %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=positive(float), default=5.0, help="of timing a model (default %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("device.json"), help="default %(default)s")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """A number above 0 and below 10,000."""

    def number(text: str) -> Any:  # noqa: ANN401 - int or float
        value = kind(text)
        if not 0 < value < 10_000:
            raise ValueError(text)
        return value

    return number


def cores() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_kit(folder: Path) -> dict[str, Any]:
    """kit.json, after every file that it lists was found to be what it was when the kit was made."""
    kit: dict[str, Any] = json.loads((folder / "kit.json").read_text(encoding="utf-8"))
    if kit["schema"] != SCHEMA:
        raise ValueError(f"kit.json has schema {kit['schema']}, this program knows {SCHEMA}")
    for name, digest in kit["files"].items():
        if sha256(folder / name) != digest:
            raise ValueError(f"{name} is damaged")
    return kit


def sha256(path: Path) -> str:
    """Of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def write(path: Path, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def machine() -> dict[str, Any]:
    """What this device is."""
    return {
        "model": text(Path("/proc/device-tree/model"))
        or text(SYSTEM / "devices/virtual/dmi/id/product_name"),
        "system": platform.platform(),
        "architecture": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": memory_bytes(),
        "governor": text(SYSTEM / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "python": platform.python_version(),
        "runtimes": {package: found for package in ("numpy", *MODULES) if (found := version_of(package))},
    }


def version_of(package: str) -> str:
    """The version that is installed; nothing where none is."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def text(path: Path) -> str:
    """The line in one of the system's files; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")[:200]
    except OSError:
        return ""


def processor() -> str:
    """What the processor calls itself."""
    for name in ("model name", "Model", "Hardware"):
        for row in proc_lines(Path("/proc/cpuinfo")):
            if row.startswith(name):
                return row.partition(":")[2].strip()[:200]
    return platform.processor()[:200]


def proc_lines(path: Path) -> list[str]:
    """The lines of a file below /proc; none where there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def memory_bytes() -> int | None:
    """Of the device; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def unmeasured(export: dict[str, Any], status: str, reason: str) -> dict[str, Any]:
    """The record of a model without figures."""
    known = ("backbone", "weights_sha256", "input_size", "target", "size_bytes", *F1)
    return {**{name: export[name] for name in known}, "status": status, "reason": reason}


def measured(position: int, export: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Have one model measured in a process of its own, which may crash or hang without harm."""
    needed = export["runtime"]
    for package, module in (("numpy", "numpy"), (needed, MODULES[needed])):
        if importlib.util.find_spec(module) is None:
            return unmeasured(export, "skipped", f"{package} is not installed here: pip install {package}")
    command = [sys.executable, str(Path(__file__).resolve()), "--child", str(position)]
    command += ["--threads", str(options.threads), "--seconds", str(options.seconds)]
    most_seconds = MOST_SECONDS + options.seconds
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = process.communicate(timeout=most_seconds)
    except subprocess.TimeoutExpired:
        return unmeasured(export, "failed", f"not finished after {most_seconds:g} seconds")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode:
        said = [row.strip() for row in err.decode(errors="replace").splitlines() if row.strip()]
        ended = f"its process ended with status {process.returncode}"
        return unmeasured(export, "failed", ": ".join([ended, *said[-1:]])[:300])
    return {**unmeasured(export, "passed", ""), **json.loads(out.decode())}


def line(result: dict[str, Any]) -> str:
    """A result for people."""
    name = f"{result['backbone']} {result['target']}"
    if result["status"] != "passed":
        return f"{name}: {result['status']}, {result['reason']}"
    parts = [f"{result['latency_p50_ms']:.2f} ms (p95 {result['latency_p95_ms']:.2f})"]
    parts.append(f"loaded in {result['load_ms']:.0f} ms")
    if result["memory_bytes"] is not None:
        parts.append(f"{result['memory_bytes'] / 1e6:.1f} MB")
    if result["temperature_after"] is not None:
        parts.append(f"{result['temperature_after']:.0f} °C")
    if result["throttled"]:
        parts.append("THROTTLED")
    return f"{name}: {', '.join(parts)}"


# --- the process of one model ---------------------------------------------------------------------------


def child(options: argparse.Namespace) -> int:
    """Measure one model; the answer is the only thing on stdout, whatever a runtime prints."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent tells of Ctrl-C
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    kit = json.loads((HERE / "kit.json").read_text(encoding="utf-8"))
    json.dump(figures(kit["exports"][options.child], options.threads, options.seconds), answer)
    answer.close()
    return 0


def figures(export: dict[str, Any], threads: int, seconds: float) -> dict[str, Any]:
    """Everything that is measured of one model."""
    import numpy as np

    folder = HERE / export["folder"]
    info = json.loads((folder / "deployment.json").read_text(encoding="utf-8"))
    pixels = np.load(HERE / export["samples"], allow_pickle=False)
    expected = np.load(folder / export["expected"], allow_pickle=False)
    open_model = {"ai-edge-litert": litert, "onnxruntime": onnx}[export["runtime"]](threads)
    reset_peak()
    before, _ = memory()
    load_ms, run = timed(lambda: open_model(str(folder / info["model"])))
    first_ms, _ = timed(lambda: run(pixels[:1]))
    outputs = np.concatenate(
        [np.asarray(run(pixels[row : row + 1]), np.float32) for row in range(len(pixels))]
    )
    found = differences(outputs, expected, info)
    wrong = violations(found, export["tolerance"])
    if wrong:
        return {"status": "failed", "reason": wrong, **found}
    heat, throttles = temperature(), throttle_count()
    times = timings(run, pixels, seconds)
    _, peak = memory()
    quarter = max(1, len(times) // 4)
    return {
        **found,
        "load_ms": load_ms,
        "first_ms": first_ms,
        "latency_p50_ms": float(np.median(times)),
        "latency_p95_ms": float(np.percentile(times, 95)),
        "runs": len(times),
        "slowdown": float(np.median(times[-quarter:]) / np.median(times[:quarter])),
        "memory_bytes": None if peak is None or before is None else max(0, peak - before),
        "process_bytes": peak,
        "temperature_before": heat,
        "temperature_after": temperature(),
        "megahertz": megahertz(),
        "throttled": throttled(throttles),
    }


def litert(threads: int) -> Callable[[str], Callable[[Any], Any]]:
    """Opens TFLite files."""
    from ai_edge_litert.interpreter import Interpreter

    def open_model(path: str) -> Callable[[Any], Any]:
        model = Interpreter(model_path=path, num_threads=threads)
        model.allocate_tensors()
        taken, given = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]

        def run(pixels: Any) -> Any:  # noqa: ANN401 - arrays
            model.set_tensor(taken, pixels)
            model.invoke()
            return model.get_tensor(given)

        return run

    return open_model


def onnx(threads: int) -> Callable[[str], Callable[[Any], Any]]:
    """Opens ONNX files."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import: it reports its use otherwise
    import onnxruntime

    onnxruntime.disable_telemetry_events()

    def open_model(path: str) -> Callable[[Any], Any]:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        model = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        taken = model.get_inputs()[0].name
        return lambda pixels: model.run(None, {taken: pixels})[0]

    return open_model


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds that something took, and its result."""
    started = time.perf_counter()
    result = work()
    return (time.perf_counter() - started) * 1e3, result


def timings(run: Callable[[Any], Any], pixels: Any, seconds: float) -> list[float]:  # noqa: ANN401 - an array
    """Milliseconds of single images, one after the other, after a warm-up."""
    singles = [pixels[row : row + 1].copy() for row in range(len(pixels))]
    warm_until, done = time.perf_counter() + min(WARM_SECONDS, seconds), 0
    while done < WARM_RUNS or time.perf_counter() < warm_until:
        run(singles[done % len(singles)])
        done += 1
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < FEWEST_RUNS or (time.perf_counter() < until and len(times) < MOST_RUNS):
        single = singles[len(times) % len(singles)]
        started = time.perf_counter()
        run(single)
        times.append((time.perf_counter() - started) * 1e3)
    return times


def differences(outputs: Any, expected: Any, info: dict[str, Any]) -> dict[str, float]:  # noqa: ANN401 - arrays
    """How far the outputs are from those expected: probabilities (N, C) of N images."""
    import numpy as np

    if outputs.shape != expected.shape or not np.isfinite(outputs).all():
        return {"max_difference": 1.0, "mean_difference": 1.0, "label_agreement": 0.0}
    # Neither is compared with a threshold that was rounded to float32.
    outputs, expected = outputs.astype(np.float64), expected.astype(np.float64)
    difference = np.abs(outputs - expected)
    if info["task"] == "multiclass":
        same = outputs.argmax(1) == expected.argmax(1)
    else:
        same = ((outputs >= info["threshold"]) == (expected >= info["threshold"])).all(1)
    return {
        "max_difference": min(1.0, float(difference.max())),
        "mean_difference": min(1.0, float(difference.mean())),
        "label_agreement": float(same.mean()),
    }


def violations(found: dict[str, float], tolerance: dict[str, float]) -> str:
    """Which outputs are not those of the machine that made the kit; empty where all are."""
    wrong = [name for name in ("max_difference", "mean_difference") if not found[name] <= tolerance[name]]
    wrong += ["label_agreement"] * (not found["label_agreement"] >= tolerance["label_agreement"])
    told = [f"{name.replace('_', ' ')} {found[name]:.3g}, tolerance {tolerance[name]:g}" for name in wrong]
    return f"its outputs are not those expected: {'; '.join(told)}" if told else ""


def memory() -> tuple[int | None, int | None]:
    """Bytes of this process now, and at its peak; None where the system does not say."""
    found = {}
    for row in proc_lines(Path("/proc/self/status")):
        name, _, value = row.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found[name] = int(value.split()[0]) * 1024
    if len(found) == 2:
        return found["VmRSS"], found["VmHWM"]
    try:
        import resource
    except ImportError:  # Windows
        return None, None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak, peak


def reset_peak() -> None:
    """Let the peak begin anew, where Linux can: what imports needed for a moment is not the model's."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def temperature() -> float | None:
    """Degrees Celsius of the hottest place; None where the system does not say."""
    zones = [text(path) for path in (SYSTEM / "class/thermal").glob("thermal_zone*/temp")]
    degrees = [int(zone) / 1000 for zone in zones if zone.lstrip("-").isdigit()]
    return max((value for value in degrees if -50 < value < 200), default=None)


def megahertz() -> float | None:
    """Of the fastest processor now; None where the system does not say."""
    found = [text(path) for path in (SYSTEM / "devices/system/cpu").glob("cpu*/cpufreq/scaling_cur_freq")]
    return max((int(value) / 1000 for value in found if value.isdigit() and int(value)), default=None)


def throttle_count() -> int | None:
    """How often processors were slowed down for heat since the start; None where the system does not say."""
    paths = (SYSTEM / "devices/system/cpu").glob("cpu*/thermal_throttle/core_throttle_count")
    counts = [text(path) for path in paths]
    return sum(int(value) for value in counts if value.isdigit()) if counts else None


def throttled(before: int | None) -> bool | None:
    """Whether heat or a weak power supply slowed the device down; None where the system does not say."""
    raspberry = text(SYSTEM / "devices/platform/soc/soc:firmware/get_throttled")
    with suppress(ValueError):  # where there is none
        return bool(int(raspberry, 16) & 0xF)  # too little voltage, capped, throttled, near the limit: now
    after = throttle_count()
    return None if before is None or after is None else after > before


if __name__ == "__main__":
    sys.exit(main())
