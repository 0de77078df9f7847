"""Asking for backbones."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.backbones import parse_weights, select
from benchmark.backbones.registry import description, description_name, registry
from benchmark.errors import ArgumentError, BenchmarkError
from benchmark.records import WeightsKind


def names(patterns: str) -> list[str]:
    return [backbone.name for backbone in select(patterns)]


def test_importing_and_listing_load_no_engine() -> None:
    code = (
        "import sys, benchmark.backbones as b; b.select('all');"
        "heavy = {'tensorflow', 'keras', 'openvino', 'h5py', 'sklearn', 'pandas', 'matplotlib'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_backbones_pickle() -> None:
    for backbone in select("family:mobilenet*,ResNet50@random"):
        again = pickle.loads(pickle.dumps(backbone))
        assert again.name == backbone.name
        assert again.build.keywords == backbone.build.keywords


def test_all_and_wildcards_and_families() -> None:
    assert len(names("all")) == 52
    assert names("MobileNet_*") == ["MobileNet_0.25", "MobileNet_0.5", "MobileNet_0.75"]
    assert names("family:resnet_v2") == ["ResNet101V2", "ResNet152V2", "ResNet50V2"]
    assert names("mobilenetv2") == ["MobileNetV2"]


def test_registry_order_and_no_duplicates() -> None:
    assert names("VGG16,MobileNet_0.5,VGG16,MobileNet*") == [
        name for name in names("all") if name.startswith("MobileNet") or name == "VGG16"
    ]


def test_the_brick_example() -> None:
    found = names("MobileNetV3Small_0.75,MobileNetV2_0.35,MobileNet_*")
    assert sorted(found) == [
        "MobileNetV2_0.35",
        "MobileNetV3Small_0.75",
        "MobileNet_0.25",
        "MobileNet_0.5",
        "MobileNet_0.75",
    ]


def test_a_name_may_carry_its_weights(tmp_path: Path) -> None:
    file = tmp_path / "mine.weights.h5"
    file.write_bytes(b"")
    chosen = select(f"MobileNet_0.25,MobileNet_0.25@random,MobileNet_0.25@{file}", seed=7)
    assert [item.architecture for item in chosen] == ["MobileNet_0.25"] * 3
    assert len({item.name for item in chosen}) == 3
    plain, random, mine = chosen
    assert plain.weights is None
    assert random.weights is not None
    assert (random.weights.kind, random.weights.seed) == (WeightsKind.RANDOM, 7)
    assert mine.weights is not None
    assert (mine.weights.kind, mine.weights.path) == (WeightsKind.FILE, file)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("MobilNetV2", "MobileNetV2"),
        ("resnet51", "ResNet50"),
        ("family:resnetv2", "resnet_v2"),
        ("Nonsense", "backbones list"),
        ("", "names, wildcards"),
        (" , ", "names, wildcards"),
    ],
)
def test_a_mistyped_backbone_is_answered_with_close_matches(wrong: str, hint: str) -> None:
    with pytest.raises(ArgumentError, match=hint):
        select(wrong)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("nowhere", "no such weights"),
        ("", "a .* file is not|no such weights|not a weights file"),
        ("model.keras", "'.keras' file"),
        ("model.h5", "'.h5' file"),
    ],
)
def test_weights_that_cannot_be_meant(
    text: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.keras", "model.h5"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ArgumentError, match=match) as caught:
        parse_weights(text)
    assert "imagenet, random" in caught.value.expected


def test_weights_that_are_meant(tmp_path: Path) -> None:
    assert parse_weights("imagenet").kind is WeightsKind.IMAGENET
    assert parse_weights("random", 5).seed == 5
    assert parse_weights(str(tmp_path)).kind is WeightsKind.DIRECTORY


@given(st.text(max_size=30))
def test_any_pattern_gives_backbones_or_our_error(text: str) -> None:
    try:
        chosen = select(text)
    except BenchmarkError:
        return
    assert len({item.name for item in chosen}) == len(chosen) > 0


def test_patch_releases_share_a_description() -> None:
    assert description_name("3.15.1") == description_name("3.15.9") == "keras-3.15.json"


def test_known_figures() -> None:
    by_name = {item.name: item for item in registry()}
    assert by_name["VGG16"].params == 14_714_688
    assert by_name["ResNet50"].flops == pytest.approx(7.7e9, rel=0.02)
    assert by_name["MobileNetV2"].flops == pytest.approx(0.6e9, rel=0.05)
    assert by_name["ConvNeXtTiny"].flops == pytest.approx(8.9e9, rel=0.03)
    assert (by_name["Xception"].min_size, by_name["InceptionV3"].min_size) == (71, 75)
    assert (by_name["EfficientNetB7"].default_size, by_name["NASNetLarge"].default_size) == (600, 331)


def test_only_mobilenet_v1_and_v2_publish_no_hash() -> None:
    bare = {entry["family"] for entry in description().values() if not entry["weights"]["hash"]}
    assert bare == {"mobilenet", "mobilenet_v2"}
    assert len({entry["weights"]["file"] for entry in description().values()}) == 52
