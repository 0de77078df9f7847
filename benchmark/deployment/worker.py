"""A process of its own that converts or measures models, one task after the other.

TFLite's converter and interpreters print a lot, hold memory and can abort the process they run in; here they
take down nothing but themselves. Run as ``python -m benchmark.deployment.worker PLAN.json``: a list of tasks,
each with a file to write its answer to.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.errors import BenchmarkError
from benchmark.storage import write_whole


def main(plan: Path) -> int:
    """Do the tasks of a plan in order; each answer is ``{"value": ...}`` or ``{"failed": reason}``."""
    # The parent is read first: an orphan must not adopt its new parent as the one to watch.
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    for task in json.loads(plan.read_text(encoding="utf-8")):
        answer = Path(task["answer"])
        try:
            value = _action(task["action"])(task["arguments"])
        except BenchmarkError as error:
            write_whole(answer, json.dumps({"failed": str(error)}).encode(), root=answer.parent)
        else:
            write_whole(answer, json.dumps({"value": value}).encode(), root=answer.parent)
    return 0


def _action(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    if name == "convert":
        from benchmark.deployment.converters import convert

        return convert
    from benchmark.deployment.measuring import measure

    return measure


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
