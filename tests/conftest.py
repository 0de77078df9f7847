"""What all tests share."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.append(str(Path(__file__).resolve().parent / "torture"))
from torture_table import TABLE_VARIABLE, add_row, format_table, load_rows

# Examples may take as long as a busy machine makes them: no test has a clock.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    """Faults are counted in the file that TORTURE_TABLE names, else in one of this run."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Under nohup or in a script's background: the commands that tests interrupt would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if TABLE_VARIABLE not in os.environ:
        descriptor, name = tempfile.mkstemp(prefix="torture-", suffix=".jsonl")
        os.close(descriptor)
        os.environ[TABLE_VARIABLE] = name
        config.add_cleanup(lambda: _forget(name))


def _forget(name: str) -> None:
    os.environ.pop(TABLE_VARIABLE, None)
    Path(name).unlink(missing_ok=True)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    _leave_workers()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call() -> None:
    _leave_workers()


def _leave_workers() -> None:
    """Workers end where the environment is another one; a running test's name is none of their matter."""
    os.environ.pop("PYTEST_CURRENT_TEST", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test marked ``faults`` is one injected fault; drivers that inject many add rows of their own."""
    report = yield
    mark = item.get_closest_marker("faults")
    if mark and report.when == "call" and not report.skipped:
        add_row(mark.args[0], injected=1, survived=int(report.passed))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = load_rows(Path(os.environ.get(TABLE_VARIABLE, os.devnull)))
    if rows:
        terminalreporter.section("faults")
        terminalreporter.write_line(format_table(rows))
