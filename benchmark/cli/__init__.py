"""The ``backbones`` command: arguments in, tables and exit statuses out. The one package that prints."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from benchmark.cells import error_text, printable
from benchmark.cli.printing import say
from benchmark.cli.signals import Terminated, arriving_signals
from benchmark.errors import BenchmarkError
from benchmark.machine import mute_native_stderr

if TYPE_CHECKING:
    from benchmark.options import Options

__all__ = ["entry", "main"]

_INTERRUPTED = 130
_TERMINATED = 143
_MODULES = {
    **dict.fromkeys(
        ("recipes", "finetune", "study", "export", "predict", "evaluate", "serve"), "model_commands"
    ),
    "device": "device_commands",
}


def entry() -> int:
    """The console script: ``main`` without the chatter that native libraries write to stderr."""
    if "--debug" in sys.argv:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"  # workers then leave everything visible, too
    else:
        mute_native_stderr()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold bytes that are no UTF-8
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Once a command is done there is nothing to interrupt in order: no traceback while Python leaves.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    status = main()
    if "benchmark.execution" in sys.modules:
        from benchmark.execution import end_workers

        with suppress(Exception):  # what is done is done
            end_workers()
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None takes ``sys.argv``.

    Returns:
        0 done; 1 the job failed; 2 bad arguments or bad input; 130 Ctrl-C; 143 SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with arriving_signals():
            from benchmark.cli.parser import parse

            command, options, output = parse(words)
            _check_spelling(options)
            module = importlib.import_module(f"benchmark.cli.{_MODULES.get(command, 'commands')}")
            status: int = getattr(module, f"{command}_command")(options, output)
            sys.stdout.flush()
            return status
    except BenchmarkError as error:
        return _explain(error, error.exit_status, words)
    except KeyboardInterrupt:
        say("Interrupted. Everything finished so far is kept; run the same command again.")
        return _INTERRUPTED
    except Terminated:
        say("Terminated. Everything finished so far is kept; run the same command again.")
        return _TERMINATED
    except BrokenPipeError:
        # The reader of a pipe (head, less) left. Python would complain again while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - one short line, whatever it is; --debug shows the rest
        return _explain(_unforeseen(error), 1, words)


def _check_spelling(options: Options) -> None:
    """Tell of mistyped data, backbones and weights before anything large is loaded."""
    given_data = getattr(options, "data", None)
    if given_data is not None:
        from benchmark.data import dataset_name

        for data in given_data if isinstance(given_data, tuple) else (given_data,):
            dataset_name(data)
    given: dict[str, str] = {
        name: getattr(options, name, None) or "" for name in ("backbones", "winner", "weights")
    }
    if any(given.values()):
        from benchmark.backbones import parse_weights, select

        for name in ("backbones", "winner"):
            of_the_board = name == "winner" and (given[name] == "auto" or ":" in given[name])
            if given[name] and not of_the_board:
                sources = getattr(options, "sources", None) or ""
                select(given[name], option=name, sources=sources)
        if given["weights"]:
            parse_weights(given["weights"])


def _explain(error: BenchmarkError, status: int, words: Sequence[str]) -> int:
    if "--debug" in words:
        traceback.print_exception(error)
    from benchmark.cli.parser import as_flags

    message = as_flags(str(error), next(iter(words), ""))
    say(f"backbones: {printable(message)}")
    return status


def _unforeseen(error: Exception) -> BenchmarkError:
    """What nobody foresaw, in one line like everything else: the machine, or a mistake of ours."""
    if isinstance(error, MemoryError):
        got, next_step = "not enough memory", "Use fewer --jobs, a smaller --size or --limit."
    else:
        got, next_step = error_text(error), "Run again with --debug to see where."
    wrapped = BenchmarkError("the command could not go on", got=got, next_step=next_step)
    wrapped.__cause__ = error
    return wrapped
