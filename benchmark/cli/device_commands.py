"""The commands about the user's device."""

from __future__ import annotations

import shlex

from benchmark.cli.observer import make_observer
from benchmark.cli.printing import print_board, print_rows, say
from benchmark.options import DeviceOptions, OutputOptions


def device_command(options: DeviceOptions, output: OutputOptions) -> int:
    """``backbones device kit|measure|add``."""
    return (_kit if options.action == "kit" else _board)(options, output)


def _kit(options: DeviceOptions, output: OutputOptions) -> int:
    from benchmark.pipeline import make_kit

    with make_observer(quiet=output.quiet) as observer:
        kit = make_kit(options, observer)
    print_rows(kit.rows, output.format)
    say(f"Written to {kit.folder} and {kit.packed}")
    if not output.quiet:
        say("On the device: unzip it, pip install numpy ai-edge-litert onnxruntime, python measure.py")
        say(f"Or over ssh: {shlex.join(['backbones', 'device', 'measure', str(kit.folder)])} --ssh USER@HOST")
    return 0


def _board(options: DeviceOptions, output: OutputOptions) -> int:
    from benchmark.pipeline import add_device, measure_device

    act = measure_device if options.action == "measure" else add_device
    with make_observer(quiet=output.quiet) as observer:
        ranked = act(options, observer)
    print_board(ranked.board, output.format)
    say(f"Written to {ranked.folder}")
    return 0
