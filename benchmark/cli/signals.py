"""Ctrl-C and SIGTERM as exceptions that arrive: everything on the way out is closed in order.

An exception can be swallowed, by a bare ``except`` of some library or in a callback of the interpreter; the
user would wait for a run that nobody stops any more. So the signal comes again until its exception is out.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN_SECONDS = 1.0


class Terminated(BaseException):
    """SIGTERM as an exception."""


@contextmanager
def arriving_signals() -> Iterator[None]:
    """Within this, Ctrl-C raises KeyboardInterrupt and SIGTERM raises Terminated, however often it takes.

    A Ctrl-C that was ignored from outside (``nohup``, a job in the background) stays ignored. Outside of the
    main thread, which alone can receive signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = [_Arriving(signal.SIGTERM, Terminated)]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        wanted.append(_Arriving(signal.SIGINT, KeyboardInterrupt))
    former = [signal.signal(one.number, one.receive) for one in wanted]
    try:
        yield
    finally:
        for one, handler in zip(wanted, former, strict=True):
            one.end()
            signal.signal(one.number, handler or signal.SIG_DFL)


class _Arriving:
    """One signal, and the exception that it becomes."""

    def __init__(self, number: signal.Signals, error: type[BaseException]) -> None:
        self.number = number
        self._error = error
        self._repeated = False
        self._over = False
        self._lock = threading.Lock()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Raise the exception.

        A repetition never does so into what is being closed because of it; a second Ctrl-C of the user does.
        """
        repeated, self._repeated = self._repeated, False
        again = threading.Timer(_AGAIN_SECONDS, self._repeat)
        again.daemon = True
        again.start()
        if not (repeated or self.number == signal.SIGTERM) or not self._is_closing(sys.exc_info()[1]):
            raise self._error

    def end(self) -> None:
        """Nothing comes again."""
        with self._lock:
            self._over = True

    def _repeat(self) -> None:
        with self._lock:
            if not self._over:
                self._repeated = True
                _send(self.number)

    def _is_closing(self, error: BaseException | None) -> bool:
        while error is not None and not isinstance(error, self._error):
            error = error.__context__
        return error is not None


def _send(number: signal.Signals) -> None:
    """Send a signal to the main thread, also where it waits in a system call."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(number)
