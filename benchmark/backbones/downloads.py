"""Fetch published weights: whole and verified, or not at all."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmark.errors import WeightsError
from benchmark.storage import storage_error, sync_folder, temporary_beside

_WAYS_OUT = (
    "Give the weights with `weights=DIR` ('backbones weights bundle DIR' on a connected machine writes such "
    "a folder), or use `weights=random` to compare architectures only."
)
_BLOCK_BYTES = 1 << 20


def keras_models_folder() -> Path:
    """Where Keras keeps downloaded weights; found without importing Keras."""
    if "KERAS_HOME" in os.environ:
        home = Path(os.environ["KERAS_HOME"])
    else:
        user = Path("~").expanduser()
        home = (user if os.access(user, os.W_OK) else Path("/tmp")) / ".keras"
    return home.expanduser() / "models"


def imagenet_file(name: str) -> Path:
    """Where a file of published weights lies once it is downloaded."""
    return keras_models_folder() / name


@dataclass(frozen=True, slots=True)
class Remote:
    """One file to download.

    Attributes:
        url: its address.
        target: where it goes.
        digest: MD5 or SHA-256, hexadecimal; empty where none was published.
    """

    url: str
    target: Path
    digest: str


@dataclass(slots=True)
class Downloads:
    """Downloads of one run: what failed because the network is away is not tried again.

    Attributes:
        base: replaces scheme and host of every address; None for Keras's own.
        folder: where files go; Keras's own folder where None.
        timeout_seconds: longest silence of the server.
        pauses_seconds: waits before the second, third, ... attempt.
    """

    base: str | None = None
    folder: Path | None = None
    timeout_seconds: float = 10.0
    pauses_seconds: tuple[float, ...] = (1.0, 3.0)
    _unreachable: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def shared() -> Downloads:
        """The downloads of this process."""
        return _shared()

    def fetch(self, published: Mapping[str, str]) -> Path:
        """A file of published weights, downloaded where it is missing or wrong.

        Args:
            published: ``file``, ``url`` and ``hash`` of a registry description.

        Raises:
            WeightsError: it cannot be had.
        """
        remote = self._remote(published)
        if remote.target.is_file() and is_intact(remote.target, remote.digest):
            return remote.target
        host = urlsplit(remote.url).netloc
        with self._lock:
            if host in self._unreachable:
                raise _unreachable(remote, self._unreachable[host])
            self._download(remote, host)
        return remote.target

    def _remote(self, published: Mapping[str, str]) -> Remote:
        url = published["url"]
        if self.base is not None:
            url = self.base.rstrip("/") + urlsplit(url).path
        target = (self.folder or keras_models_folder()) / published["file"]
        return Remote(url, target, published["hash"])

    def _download(self, remote: Remote, host: str) -> None:
        reason = ""
        for pause in (0.0, *self.pauses_seconds):
            time.sleep(pause)
            reason = self._attempt(remote)
            if not reason:
                return
        if not reason.startswith("wrong"):
            self._unreachable[host] = reason
        raise _unreachable(remote, reason)

    def _attempt(self, remote: Remote) -> str:
        """Download once; an empty string, or the reason why there is nothing."""
        import requests

        target = remote.target
        temporary = temporary_beside(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            problem = self._receive(remote, temporary)
            if not problem:
                temporary.replace(target)
                sync_folder(target.parent)
            return problem
        except requests.Timeout:
            return f"no answer within {self.timeout_seconds:.0f} s"
        except requests.ConnectionError:
            return "no connection"
        except requests.RequestException as error:
            return type(error).__name__
        except OSError as error:
            raise storage_error(error, target) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _receive(self, remote: Remote, temporary: Path) -> str:
        import requests

        with requests.get(remote.url, stream=True, timeout=self.timeout_seconds) as answer:
            if answer.status_code != 200:
                return f"HTTP status {answer.status_code}"
            with temporary.open("xb") as file:
                for block in answer.iter_content(_BLOCK_BYTES):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            size = temporary.stat().st_size
        wanted = int(answer.headers.get("Content-Length", size))
        if size != wanted:
            return f"{size} of {wanted} bytes arrived"
        if not is_intact(temporary, remote.digest):
            return "wrong content: its digest is not the published one"
        return ""


@functools.cache
def _shared() -> Downloads:
    return Downloads()


def is_intact(path: Path, digest: str) -> bool:
    """Whether a file has the published digest; files without one are taken as they are."""
    if not digest:
        return True
    with path.open("rb") as file:
        kind = "md5" if len(digest) == 32 else "sha256"
        return hashlib.file_digest(file, kind).hexdigest() == digest


def _unreachable(remote: Remote, reason: str) -> WeightsError:
    # The same text for every file, so that fifty backbones without a network are one reason.
    return WeightsError(
        "ImageNet weights cannot be downloaded",
        got=f"{reason} ({urlsplit(remote.url).netloc})",
        next_step=_WAYS_OUT,
    )
