"""A headless Chromium driven over its debugging pipe: messages of JSON, each ended by a zero byte."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Browser:
    """One page in one browser.

    Attributes:
        complaints: errors and warnings that the page logged, and exceptions that it threw.
        requests: addresses that it asked for.
    """

    def __init__(self, program: str, profile: Path, *, width: int = 1280, dark: bool = False) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        ours, theirs = os.pipe(), os.pipe()
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        words += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        words += [f"--user-data-dir={profile}", f"--window-size={width},1000", "about:blank"]
        # Chromium reads from its descriptor 3 and writes to its 4; well above them, ours are in nobody's way.
        their_in, their_out = (fcntl.fcntl(end, fcntl.F_DUPFD, 50) for end in (ours[0], theirs[1]))
        copies = ((their_in, 3), (their_out, 4))
        actions = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, end, number) for end, number in copies]
        self._process = os.posix_spawn(program, [program, *words], os.environ, file_actions=actions)
        for end in (their_in, their_out, ours[0], theirs[1]):
            os.close(end)
        self._out, self._in = ours[1], theirs[0]
        self._got = b""
        self._number = 0
        self._session: str | None = None
        (page,) = (one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False
        )

    def call(self, method: str, **given: object) -> Any:  # noqa: ANN401 - whatever the protocol answers
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def run(self, script: str) -> Any:  # noqa: ANN401
        """What an expression is worth in the page; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:  # noqa: ANN401
        """The first true worth of an expression."""
        ends = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < ends, (script, self.complaints)
            time.sleep(0.1)
        return found

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.wait(f"document.readyState === 'complete' && location.href.startsWith({address!r})")

    def choose(self, selector: str, files: list[Path]) -> None:
        """Files in a file input, as if a user had chosen them."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file.resolve()) for file in files], nodeId=node)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._got:
            ready, _, _ = select.select([self._in], [], [], 60)
            assert ready, "the browser does not answer"
            got = os.read(self._in, 1 << 16)
            assert got, "the browser is gone"
            self._got += got
        text, _, self._got = self._got.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        given = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(str(given["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(given["args"]))
            case "Log.entryAdded":
                self.complaints.append(str(given["entry"]))
            case "Network.requestWillBeSent":
                self.requests.append(given["request"]["url"])
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for end in (self._out, self._in):
            os.close(end)
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
