from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cloudpickle
import pytest

from benchmark.options import RankOptions
from benchmark.pipeline import RankRequest
from benchmark.records import Backbone, HeadProtocol


def _load_tiny() -> ModuleType:
    """``tiny.py`` beside this file, under a name that worker processes need not import."""
    spec = importlib.util.spec_from_file_location("tiny_backbones", Path(__file__).with_name("tiny.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_backbones"] = module
    spec.loader.exec_module(module)
    cloudpickle.register_pickle_by_value(module)
    return module


TINY = _load_tiny()


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return TINY


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 cracked and 30 sound drawings; read only."""
    folder: Path = TINY.draw_photos(tmp_path_factory.mktemp("photos") / "walls")
    return folder


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., RankRequest]:
    """Makes a RankRequest that works in this process, in a folder of its own."""

    def make(data: Path, *backbones: Backbone, **options: object) -> RankRequest:
        usual = {
            "data": data,
            "weights": "random",
            "size": TINY.SIZE,
            "cache": tmp_path / "cache",
            "results": tmp_path / "results",
            "jobs": 1,
        }
        protocol = HeadProtocol(epochs=4, updates=0, repeats=1, learning_rates=(1e-2,), weight_decays=(0.0,))
        asked = RankOptions.check({**usual, **options})
        return RankRequest(options=asked, backbones=backbones, protocol=protocol)

    return make
