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
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType

_AGAIN_SECONDS = 1.0


class Terminated(BaseException):
    """SIGTERM as an exception."""


_ERRORS: dict[int, type[BaseException]] = {signal.SIGTERM: Terminated, signal.SIGINT: KeyboardInterrupt}


@contextmanager
def arriving_signals() -> Iterator[None]:
    """Within this, Ctrl-C raises KeyboardInterrupt and SIGTERM raises Terminated, however often it takes.

    A Ctrl-C that was ignored from outside (``nohup``, a job in the background) stays ignored. Outside of the
    main thread, which alone can receive signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrival = _Arrival()
    wanted = [number for number in _ERRORS if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, arrival.receive) for number in wanted}
    report = sys.unraisablehook
    # What a destructor swallows comes again: nothing that anybody should read of.
    sys.unraisablehook = lambda lost: None if _is_closing(lost.exc_value) else report(lost)
    try:
        try:
            yield
        finally:
            arrival.over()
    finally:
        arrival.over()  # once more, should a signal have come just there
        sys.unraisablehook = report
        for number, handler in former.items():
            signal.signal(number, handler or signal.SIG_DFL)


class _Arrival:
    """The signals of one run: raised, and sent again by a thread until it is over."""

    def __init__(self) -> None:
        self._is_over = False
        self._repeated = False
        self._received: SimpleQueue[int | None] = SimpleQueue()  # may be filled from inside a signal handler
        with suppress(RuntimeError):  # without room for a thread, nothing comes again
            threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Raise the exception.

        Neither a repetition nor a SIGTERM does so into what is being closed because of the first; a second
        Ctrl-C of the user does.
        """
        if self._is_over:
            return
        repeated, self._repeated = self._repeated, False
        self._received.put(number)
        patient = repeated or number == signal.SIGTERM
        if not (patient and _is_closing(sys.exc_info()[1])):
            raise _ERRORS[number]

    def over(self) -> None:
        """Nothing is raised and nothing comes again."""
        self._is_over = True
        self._received.put(None)

    def _watch(self) -> None:
        number = self._received.get()
        while number is not None:
            number = self._next_after(number)

    def _next_after(self, number: int) -> int | None:
        """What comes after a signal that was raised: its repetition, another one, or None, the end."""
        try:
            return self._received.get(timeout=_AGAIN_SECONDS)
        except Empty:
            if self._is_over:
                return None
        self._repeated = True
        _send(number)
        return self._received.get()


def _is_closing(error: BaseException | None) -> bool:
    """Whether things are being closed because of a signal."""
    while error is not None and not isinstance(error, tuple(_ERRORS.values())):
        error = error.__context__
    return error is not None


def _send(number: int) -> None:
    """Send a signal to the main thread; on POSIX also where it waits in a system call."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(signal.Signals(number))
