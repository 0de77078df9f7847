"""A URL and the folder of this machine that stands for it lead to each other, and secrets lead nowhere."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.cells import error_text
from benchmark.cli import _unforeseen
from benchmark.errors import ArgumentError
from benchmark.execution import failure
from benchmark.locations import (
    Kind,
    as_given,
    folder_of,
    home,
    is_copy,
    place_of,
    spelled,
    url_of,
    without_secrets,
)
from benchmark.options import CacheCommandOptions, DeviceOptions, EmbedOptions, RankOptions

STEP = st.text(min_size=1, max_size=12).filter(
    lambda text: text.isprintable() and text not in {".", ".."} and not set(text) & set("/\\?#")
)


@given(
    st.sampled_from(["s3", "gs", "memory"]),
    st.lists(STEP, min_size=1, max_size=4),
    st.lists(STEP, max_size=3),
)
def test_urls_and_paths_lead_to_each_other(scheme: str, steps: list[str], inside: list[str]) -> None:
    steps = [f"b{quote(steps[0], safe='').replace('%', '-').lower()}", *steps[1:]]
    url = f"{scheme}://{'/'.join(steps)}"
    folder = folder_of(url, Kind.DATA)
    assert folder.is_relative_to(home() / "data")
    assert url_of(folder) == url
    file = folder.joinpath(*inside)
    assert url_of(file) == "/".join([url, *inside])
    assert place_of(file) == folder
    assert is_copy(file)
    assert folder_of(url, Kind.CACHE) != folder


def test_places_do_not_lie_in_each_other() -> None:
    one, inner = folder_of("s3://b/a", Kind.CACHE), folder_of("s3://b/a/c", Kind.CACHE)
    assert not inner.is_relative_to(one)
    assert url_of(folder_of("s3://b/@/x", Kind.CACHE)) == "s3://b/@/x"
    assert url_of(home() / "cache" / "s3" / "b") is None
    assert url_of(Path("/elsewhere/cache/s3/@/b")) is None


def test_what_lies_beside_a_cache_here_is_no_url() -> None:
    folder = folder_of("s3://b/cache", Kind.CACHE)
    assert spelled(folder) == as_given(folder) == "s3://b/cache"
    table = folder / "tables" / "pixels.csv"
    assert as_given(table) == spelled(table) == str(table)
    stored = EmbedOptions.check({"data": table, "cache": folder}).model_dump(mode="json")
    assert EmbedOptions.read(stored).data == table


def test_a_file_url_is_a_path() -> None:
    assert folder_of("file:///data/my%20photos", Kind.DATA) == Path("/data/my photos")
    assert spelled(Path("/data")) == "/data"
    with pytest.raises(ArgumentError, match="with a host"):
        folder_of("file://data/photos", Kind.DATA)


SECRET = "wJalrXUtnFEMI-planted"


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIAPLANTED:{SECRET}@bucket/cache",
        f"s3://bucket/cache?X-Amz-Signature={SECRET}",
        f"s3://bucket/cache#{SECRET}",
        f"gs://{SECRET}@bucket",
        f"s3://AKIAPLANTED:x/{SECRET}@bucket/cache",
        f"s3://akiaplanted:{SECRET}/bucket",
        f"s3://x/y@b:{SECRET}/z@bucket/cache".replace("x/y", "X/y"),
        f"s3://AKIAPLANTED%3Ax%2F{SECRET}%40bucket/cache@",
    ],
)
@pytest.mark.parametrize("option", ["cache", "data", "results"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str, option: str) -> None:
    with pytest.raises(ArgumentError) as found:
        RankOptions.check({"data": "photos", option: url})
    assert SECRET not in str(found.value)
    if option != "results":
        assert "environment" in str(found.value)


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "https://host/x", "s3://", "s3://b//c", "s3://b/../c", "gs://b/."]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ArgumentError, match="`cache`"):
        EmbedOptions.check({"data": "photos", "cache": url})


def test_options_keep_the_url() -> None:
    options = EmbedOptions.check({"data": Path("s3://b/photos"), "cache": "s3://b/cache"})
    stored = options.model_dump(mode="json")
    assert (stored["data"], stored["cache"]) == ("s3://b/photos", "s3://b/cache")
    assert EmbedOptions.read(stored) == options
    assert options.but(seed=1).cache == options.cache == folder_of("s3://b/cache", Kind.CACHE)


def test_what_a_url_cannot_have() -> None:
    with pytest.raises(ArgumentError, match="BACKBONES_LOCAL_GB"):
        CacheCommandOptions.check({"action": "clean", "cache": "s3://b/cache", "cache_limit_gb": 1})
    with pytest.raises(ArgumentError, match="only this process has this memory"):
        EmbedOptions.check({"data": "photos", "cache": "memory://b/cache"})
    EmbedOptions.check({"data": "photos", "cache": "memory://b/cache", "jobs": 1})
    kit = {"action": "kit", "source": "photos", "cluster": "local:2"}
    with pytest.raises(ArgumentError, match="only this process has this memory"):
        DeviceOptions.check({**kit, "cache": "memory://b/cache"})
    with pytest.raises(ArgumentError, match=r"`cluster=local:2`: only a kit is made on one"):
        DeviceOptions.check({**kit, "action": "measure"})
    DeviceOptions.check({**kit, "cache": "s3://b/cache"})
    with pytest.raises(ArgumentError, match=r"`results`.*this machine"):
        RankOptions.check({"data": "photos", "results": "s3://b/results"})


def test_secrets_are_taken_out_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert without_secrets("https://me:x/word@host/cache") == "https://***@host/cache"
    text = f"no {SECRET} at http://me:word@host:9000/b?X-Amz-Signature=abc, Credential=AKIA/x, Signature=0f"
    assert without_secrets(text) == ("no *** at http://***@host:9000/b?*** Credential=***, Signature=***")


def test_a_place_may_be_called_as_a_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_KEY_PREFIX", "embeddings")
    assert url_of(folder_of("s3://bucket/embeddings", Kind.CACHE)) == "s3://bucket/embeddings"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(ArgumentError, match="no credentials"):
        folder_of(f"s3://bucket/{SECRET}", Kind.CACHE)


def test_an_at_sign_behind_a_bucket_is_no_user() -> None:
    for url in ("s3://bucket/me@home/x", "file:///Users/me@home/x"):
        assert without_secrets(url) == url
        folder_of(url, Kind.DATA)


def test_the_folder_of_copies_may_be_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "disk").mkdir()
    (tmp_path / "backbones").symlink_to(tmp_path / "disk")
    for kind in Kind:
        folder = folder_of("s3://b/photos", kind)
        assert url_of(folder.resolve()) == url_of(folder) == "s3://b/photos"
        assert url_of(folder.parent) == "s3://b"


def test_errors_of_foreign_code_hold_no_secret_where_they_are_shown() -> None:
    def foreign() -> None:
        raise OSError("https://bob:hunter2@mlflow.corp/api is down\n" + 300 * "x")

    try:
        foreign()
    except OSError as error:
        shown, told = error_text(error), failure(error)
    assert shown.startswith(r"OSError: https://***@mlflow.corp/api is down\nxxx")
    assert len(shown) == 201
    assert str(_unforeseen(OSError("s3://k:hunter2@b"))).count("hunter2") == 0
    assert "mlflow.corp" in told["error"]
    assert "mlflow.corp" in told["trace"]
    assert "hunter2" not in told["error"] + told["trace"]
