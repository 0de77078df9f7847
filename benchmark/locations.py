"""Places as people write them: homes, and URLs with the folder of this machine that stands for each.

What lies at a URL has copies and notes below a folder of this machine. From that folder's path follows the
URL, and from the URL the path, without a file that says so: a path travels to other machines as it is
relative to ``home``. ``s3://bucket/a/photos`` of images is ``<home>/data/s3/bucket/a/@/photos``: what stands
before ``@`` leads to the place, what stands behind it lies there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from benchmark.errors import ArgumentError

REMOTE: Final = ("s3", "gs", "memory")
_FILE = "file"
_SCHEMES = (*REMOTE, _FILE)
_HERE = "@"
# pathlib makes one slash of two; a single letter is a drive of Windows.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>/+)(?P<rest>.*)", re.DOTALL)
_PLAIN = "-_.+=, ()"
# Anything of the form scheme://user:password@host or with a query may hold a secret.
# A secret key may hold slashes: where what stands before the first one is no name of a bucket or host, all
# before the last @ may be of it.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/+)(?:[^/\s]*[^a-z0-9._/\s-]\S*|[^/?#\s]*)@")
_NO_BUCKET = re.compile(r"\b((?:s3|gs):/+)[^/\s]*:\S*", re.IGNORECASE)
_FILE_PATH = re.compile(r"file:/(//)?[^/]", re.IGNORECASE)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]*")
_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/+[^?#\s'\"]*)[?#][^\s'\"]*")
# What signs a request is no key, and nobody's business all the same.
_SIGNATURE = re.compile(r"\b(Credential|Signature|[A-Za-z-]*Token)=[^&\s,;'\"]+", re.IGNORECASE)
_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|CONNECTION_STRING", re.IGNORECASE)
# What a URL must not hold: others of these names hold prefixes, paths and names of buckets, too.
_CREDENTIAL_NAME = re.compile(r"(ACCESS_KEY|SECRET|SECRET_KEY|TOKEN|PASSWORD|PASSWD)\Z", re.IGNORECASE)
_SHORTEST_SECRET = 8
_HIDDEN = "***"


class Kind(StrEnum):
    """What lies at a URL."""

    CACHE = "cache"
    DATA = "data"


def home() -> Path:
    """Where this machine keeps copies of what lies at URLs: ``$XDG_CACHE_HOME/backbones``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "backbones").resolve()


def path_of(text: str | os.PathLike[str]) -> Path:
    """A path as people write it: ``~`` and ``~user`` are homes, where there is such a user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - that of pathlib raises where there is none


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path."""
    return _URL.fullmatch(text) is not None


def folder_of(url: str, kind: Kind) -> Path:
    """The folder or file of this machine that stands for what lies at a URL; ``file://`` is a path itself.

    Raises:
        ArgumentError: another kind of URL, one that holds credentials, or one that leads nowhere.
    """
    found = _URL.fullmatch(url)
    shown = without_secrets(url)
    if found is None or found["scheme"].lower() not in _SCHEMES:
        raise ArgumentError(
            "a place that cannot be reached",
            where=f"`{kind}`",
            expected="a path, or a URL that begins with " + ", ".join(f"{one}://" for one in _SCHEMES),
            got=shown,
        )
    scheme, rest = found["scheme"].lower(), found["rest"]
    if _holds_credentials(url, scheme, rest):
        raise ArgumentError(
            "a URL may hold no credentials, and no query",
            where=f"`{kind}`",
            expected=f"{scheme}://bucket/folder",
            got=f"{scheme}://{_HIDDEN}",
            next_step="Give credentials in the environment (for S3 AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, a profile or a role), and change those that were written here.",
        )
    if scheme == _FILE:
        if len(found["slashes"]) == 2:
            raise ArgumentError(
                "a file:// URL with a host", where=f"`{kind}`", expected="file:///folder", got=shown
            )
        return Path(f"/{unquote(rest)}")
    steps = rest.rstrip("/").split("/")
    if not all(is_step(step) for step in steps):
        raise ArgumentError(
            "leads nowhere", where=f"`{kind}`", expected=f"{scheme}://bucket/folder", got=shown
        )
    *above, last = (quote(step, safe=_PLAIN) for step in steps)
    return home().joinpath(kind, scheme, *above, _HERE, last)


def url_of(path: Path) -> str | None:
    """The URL that a path of this machine stands for; None where it stands for itself."""
    steps = _steps(path)
    if _HERE not in steps:
        return None
    kind, scheme, *above = steps[: steps.index(_HERE)]
    inside = steps[steps.index(_HERE) + 1 :]
    if kind not in set(Kind) or scheme not in REMOTE or not (above or inside):
        return None
    # Below the place names are as they are there. The folder that a table lies in has a URL, too.
    return f"{scheme}://{'/'.join([*map(unquote, (*above, *inside[:1])), *inside[1:]])}"


def to_send(path: Path) -> str | None:
    """What another machine makes a path of its own of (``received``); None where it has the same path."""
    return None if url_of(path) is None else "/".join(_steps(path))


def received(sent: str) -> Path:
    """The path of this machine that stands for what ``to_send`` was asked about on another one."""
    return home().joinpath(*sent.split("/"))


def place_of(path: Path) -> Path:
    """The folder or file that stands for the whole place that a path lies in.

    Raises:
        ValueError: it stands for none.
    """
    steps = _steps(path)
    if url_of(path) is None:
        raise ValueError(f"{path} stands for no URL")
    return home().joinpath(*steps[: steps.index(_HERE) + 2])


def is_copy(path: Path) -> bool:
    """Whether a path stands for an image or a table at a URL, which is fetched where it is missing."""
    return _steps(path)[:1] == [Kind.DATA.value] and url_of(path) is not None


def as_given(path: Path) -> str:
    """A place as a command takes it: its URL where it is one, else its path."""
    return _url_as_given(path) or str(path)


def spelled(path: Path) -> str:
    """What a place is called: its URL where it has one, else its absolute path."""
    return _url_as_given(path) or str(path.resolve())


def _url_as_given(path: Path) -> str | None:
    """The URL of images, a table or a cache; none of what a cache's folder on this machine holds beside."""
    url = url_of(path)
    return url if url and (is_copy(path) or place_of(path) == path) else None


def without_secrets(text: str) -> str:
    """A text without what may be a credential: users and queries of URLs, signatures, the environment's."""
    text = _QUERY.sub(rf"\1?{_HIDDEN}", _USER.sub(_without_user, _NO_BUCKET.sub(rf"\1{_HIDDEN}", text)))
    text = _SIGNATURE.sub(rf"\1={_HIDDEN}", text)
    for secret in _secrets(os.environ):
        text = text.replace(secret, _HIDDEN)
    return text


def _without_user(found: re.Match[str]) -> str:
    return found[0] if _FILE_PATH.match(found[0]) else f"{found[1]}{_HIDDEN}@"


def _holds_credentials(url: str, scheme: str, rest: str) -> bool:
    bucket = rest.partition("/")[0]
    if scheme != _FILE and _BUCKET.fullmatch(bucket) is None and ("@" in rest or ":" in bucket):
        return True  # what stands before an @ may go on behind a slash
    known = any(secret in url for secret in _secrets(os.environ, _CREDENTIAL_NAME))
    return known or "?" in url or "#" in url or _SIGNATURE.search(url) is not None


def _secrets(environment: Mapping[str, str], names: re.Pattern[str] = _SECRET_NAME) -> list[str]:
    found = {
        value for name, value in environment.items() if names.search(name) and len(value) >= _SHORTEST_SECRET
    }
    return sorted(found, key=len, reverse=True)


def _steps(path: Path) -> list[str]:
    """The steps from ``home`` to a path; none where it lies elsewhere."""
    try:
        return list(path.relative_to(home()).parts)
    except ValueError:
        return []


def is_step(step: str) -> bool:
    """Whether a text can be one step of a path here, as it is there, and leads neither up nor elsewhere."""
    return step not in {"", ".", ".."} and step.isprintable() and "\\" not in step
