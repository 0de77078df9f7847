"""timm's networks: built, converted, compared with timm itself, embedded. Skipped where PyTorch is absent."""

from __future__ import annotations

import csv
import pickle
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.backbones import (
    TorchNetwork,
    bundle_weights,
    known_weights_sha256,
    load_network,
    parse_weights,
    select,
    verify_bundle,
)
from benchmark.backbones.openvino_graphs import run_graph
from benchmark.backbones.registry import shipped_descriptions
from benchmark.data import resize_pixels
from benchmark.engines import EngineRequest, open_engine
from benchmark.engines.agreement import compare, embed_few
from benchmark.errors import WeightsError
from benchmark.records import Backbone, Engine, Precision, UInt8, WeightsSource
from tests.backbones.conftest import SHARED

timm = pytest.importorskip("timm", reason="timm is not installed: pip install backbone-benchmark[timm]")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")

RANDOM = parse_weights("random", 7)
SMALL = "timm:mobilenetv3_small_050.lamb_in1k"
# One small member of each family; transformers of several kinds among them.
FAMILIES = {
    "byobnet": "repvgg_a0.rvgg_in1k",
    "convnext": "convnextv2_atto.fcmae_ft_in1k",
    "deit": "deit_tiny_patch16_224.fb_in1k",
    "edgenext": "edgenext_xx_small.in1k",
    "efficientformer_v2": "efficientformerv2_s0.snap_dist_in1k",
    "efficientnet": "tf_efficientnet_lite0.in1k",
    "efficientvit_mit": "efficientvit_b0.r224_in1k",
    "efficientvit_msra": "efficientvit_m0.r224_in1k",
    "eva": "eva02_tiny_patch14_224.mim_in22k",
    "fasternet": "fasternet_t0.in1k",
    "fastvit": "fastvit_t8.apple_in1k",
    "ghostnet": "ghostnet_100.in1k",
    "hgnet": "hgnetv2_b0.ssld_stage1_in22k_in1k",
    "inception_next": "inception_next_atto.sail_in1k",
    "levit": "levit_128s.fb_dist_in1k",
    "mambaout": "mambaout_femto.in1k",
    "metaformer": "poolformer_s12.sail_in1k",
    "mobilenetv3": "mobilenetv4_conv_small.e2400_r224_in1k",
    "mobilevit": "mobilevit_xxs.cvnets_in1k",
    "pit": "pit_ti_224.in1k",
    "pvt_v2": "pvt_v2_b0.in1k",
    "regnet": "regnetx_002.pycls_in1k",
    "repvit": "repvit_m0_9.dist_300e_in1k",
    "resnet": "resnet18.a1_in1k",
    "starnet": "starnet_s1.in1k",
    "swiftformer": "swiftformer_xs.dist_in1k",
    "vit": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "xcit": "xcit_nano_12_p16_224.fb_in1k",
}


@pytest.fixture(scope="module")
def small() -> Backbone:
    return select(SMALL)[0]


def pictures(size: int, count: int = 4) -> UInt8:
    """uint8 (count, size, size, 3): photographs where they are there, else blotches."""
    paths = sorted((SHARED / "data" / "brick_cracks").glob("*/*.jpg"))[:: 498 // count][:count]
    if paths:
        return np.stack([np.asarray(Image.open(path).convert("RGB").resize((size, size))) for path in paths])
    blotches = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((size, size))) for one in blotches])


def request_for(backbone: Backbone, cache: Path, weights: WeightsSource = RANDOM) -> EngineRequest:
    return EngineRequest(
        backbone=backbone,
        weights=weights,
        input_size=backbone.default_size if backbone.fixed_size else 224,
        engine=Engine.OPENVINO,
        precision=Precision.FLOAT32,
        threads=2,
        cache=cache,
    )


def relative_error(features: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(features - reference).max() / np.abs(reference).max())


def check_against_timm(backbone: Backbone, cache: Path) -> None:
    """OpenVINO in float32 says what timm says; in bfloat16 it says so too, or another is used."""
    request = request_for(backbone, cache)
    images = pictures(request.input_size)
    network = load_network(backbone, RANDOM, request.input_size, cache=cache)
    reference = network.run(images)
    assert reference.shape == (len(images), backbone.embedding_dim)
    assert relative_error(run_graph(network.convert(cache), images), reference) <= 1e-4
    with open_engine(request, sample=images) as frozen:
        assert frozen.precision is Precision.FLOAT32
        assert frozen.weights_sha256 == network.weights_sha256
        assert frozen.agreement >= 0.999
        assert relative_error(embed_few(frozen, images), reference) <= 1e-4
        if frozen.engine is Engine.TORCH:
            # With random weights, what differs between images can be as small as rounding.
            assert "PyTorch is used instead of OpenVINO" in frozen.notes
    with open_engine(replace(request, precision=Precision.BFLOAT16), sample=images) as frozen:
        if frozen.precision is Precision.BFLOAT16:
            assert compare(embed_few(frozen, images), reference).cosine >= 0.999
        else:
            assert any("not used" in note for note in frozen.notes)


def test_a_small_network_agrees_in_openvino(small: Backbone, tmp_path: Path) -> None:
    check_against_timm(small, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_agrees_in_openvino(family: str, tmp_path: Path) -> None:
    (backbone,) = select(f"timm:{FAMILIES[family]}")
    assert backbone.family == family
    check_against_timm(backbone, tmp_path)


def test_the_torch_engine_is_timm_itself(small: Backbone, tmp_path: Path) -> None:
    request = replace(request_for(small, tmp_path), engine=Engine.TORCH)
    images = pictures(224, 6)
    reference = load_network(small, RANDOM, 224, cache=tmp_path).run(images)
    with open_engine(request, sample=images) as frozen:
        assert frozen.engine is Engine.TORCH
        plain = embed_few(frozen, images)
        assert relative_error(plain, reference) <= 1e-5
        np.testing.assert_array_equal(embed_few(frozen, images[::-1].copy()), plain[::-1])
        assert frozen.embed_one(images[0]).shape == (small.embedding_dim,)
    with open_engine(replace(request, threads=1), sample=images) as alone:
        np.testing.assert_array_equal(embed_few(alone, images), plain)
    with open_engine(replace(request, precision=Precision.BFLOAT16), sample=images) as half:
        assert half.precision is Precision.BFLOAT16 or "only to cosine" in half.notes[0]


# Weights ------------------------------------------------------------------------------------------


def stored(backbone: Backbone, path: Path, *, without: str = "") -> Path:
    """The weights of a network with its classifier, drawn anew, as its authors would publish them."""
    from safetensors.torch import save_file

    torch.manual_seed(5)
    state = timm.create_model(backbone.constructor).state_dict()
    save_file({name: value for name, value in state.items() if name != without}, path)
    return path


def test_weights_come_from_a_folder(small: Backbone, tmp_path: Path) -> None:
    path = stored(small, tmp_path / "mobilenetv3_small_050.lamb_in1k.safetensors")
    folder = parse_weights(str(tmp_path))
    assert known_weights_sha256(small, folder, cache=tmp_path) is None
    loaded = load_network(small, folder, 224, cache=tmp_path)
    assert known_weights_sha256(small, folder, cache=tmp_path) == loaded.weights_sha256
    assert loaded.weights_sha256 != load_network(small, RANDOM, 224, cache=tmp_path).weights_sha256
    (named,) = select(f"{SMALL}@{path}")
    assert load_network(named, RANDOM, 224, cache=tmp_path).weights_sha256 == loaded.weights_sha256
    torch.manual_seed(5)
    whole = timm.create_model(small.constructor).eval()
    whole.reset_classifier(0)
    images = pictures(224)
    expected = TorchNetwork(whole, small.preprocessing, 224).run(images)
    np.testing.assert_array_equal(loaded.run(images), expected)


def test_random_weights_are_those_of_their_seed(small: Backbone, tmp_path: Path) -> None:
    torch.manual_seed(1)
    digests = [load_network(small, RANDOM, 224, cache=tmp_path).weights_sha256 for _ in range(2)]
    other = load_network(small, parse_weights("random", 8), 224, cache=tmp_path).weights_sha256
    assert digests[0] == digests[1] != other


def test_a_file_that_lacks_something_is_refused(small: Backbone, tmp_path: Path) -> None:
    path = stored(small, tmp_path / "part.safetensors", without="blocks.0.0.conv_dw.weight")
    with pytest.raises(WeightsError, match=r"1 parameters without values, e.g. blocks.0.0.conv_dw.weight"):
        load_network(small, parse_weights(str(path)), 224, cache=tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not the weights of timm:mobilenetv3_small_050"):
        load_network(small, parse_weights(str(path)), 224, cache=tmp_path)


def test_a_missing_file_is_named(small: Backbone, tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"no weights file .*mobilenetv3_small_050\.lamb_in1k\.safetensors"
    ):
        load_network(small, parse_weights(str(tmp_path)), 224, cache=tmp_path)


class Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_no_weights_run_code(small: Backbone, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    file = tmp_path / "mobilenetv3_small_050.lamb_in1k.pth"
    torch.save({"conv_stem.weight": Trap(proof)}, file)
    pickle.loads(pickle.dumps(Trap(proof)))
    assert proof.exists(), "the trap works"
    proof.unlink()
    with pytest.raises(WeightsError, match="not the weights of"):
        load_network(small, parse_weights(str(tmp_path)), 224, cache=tmp_path)
    assert not proof.exists()


def test_a_bundle_holds_its_file_and_a_damaged_one_is_noticed(small: Backbone, tmp_path: Path) -> None:
    path = stored(small, tmp_path / "mine.safetensors")
    (named,) = select(f"{SMALL}@{path}")
    bundle = tmp_path / "bundle"
    copied = bundle_weights(named, bundle, cache=tmp_path)
    assert copied == bundle / "mobilenetv3_small_050.lamb_in1k.safetensors"
    assert verify_bundle(bundle) == {copied.name: "intact"}
    folder = parse_weights(str(bundle))
    expected = load_network(named, RANDOM, 224, cache=tmp_path).weights_sha256
    assert load_network(small, folder, 224, cache=tmp_path).weights_sha256 == expected
    copied.write_bytes(copied.read_bytes()[:-4] + b"\0\0\0\1")
    assert list(verify_bundle(bundle).values()) == ["damaged"]
    with pytest.raises(WeightsError, match="differs from the checksum beside it"):
        load_network(small, folder, 224, cache=tmp_path)


def test_weights_that_cannot_be_downloaded_are_an_error_with_a_way_out(
    small: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"cannot be downloaded; got no connection \(timm/.*`weights=DIR`"):
        load_network(small, parse_weights("imagenet"), 224, cache=tmp_path)


# Preprocessing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientnet_lite0.in1k",  # center, bicubic
        "regnetz_040.ra3_in1k",  # center, another size
        "vit_base_patch16_siglip_224.webli",  # squash
        "sam2_hiera_tiny.fb_r896",  # squash, a large input
        "deepseek_vit_412m.deepseek_v4_1_flash",  # border
        "resnet50.tv_in1k",  # bilinear
    ],
)
@pytest.mark.parametrize("shape", [(227, 227), (300, 411), (640, 200)])
def test_native_pixels_are_timms_own_within_one_grey_level(name: str, shape: tuple[int, int]) -> None:
    (backbone,) = select(f"timm:{name}")
    configuration = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**configuration)
    size = configuration["input_size"][1]
    assert size == backbone.default_size
    photo = Image.fromarray(pictures(256, 1)[0]).resize(shape[::-1], Image.Resampling.BICUBIC)
    wanted = transform(photo).numpy().transpose(1, 2, 0)
    pixels = resize_pixels(np.asarray(photo), size, backbone.preprocessing.native)
    found = backbone.preprocessing.apply(pixels)
    levels = np.abs(found - wanted) * np.asarray(backbone.preprocessing.scale)
    assert levels.max() <= 1.01


# Descriptions -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_descriptions_are_those_of_the_installed_version() -> None:
    """All names; everything else of every fortieth. The command that writes them is in docs/sources.md."""
    from benchmark.backbones.describe_timm import describe

    path = shipped_descriptions() / f"timm-{metadata.version('timm')}.csv"
    if not path.is_file():
        pytest.skip(f"no descriptions of timm {metadata.version('timm')} come with this package")
    with path.open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(timm.list_pretrained())
    for name in sorted(rows)[::40]:
        assert {column: str(value) for column, value in describe(name).items()} == rows[name]
