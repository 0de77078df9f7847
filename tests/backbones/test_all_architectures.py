"""Every architecture really built: minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.backbones import load_weights, parse_weights
from benchmark.backbones.frozen_graph import freeze
from benchmark.backbones.keras_models import import_keras
from benchmark.backbones.registry import registry
from benchmark.records import Backbone

pytestmark = pytest.mark.slow
EVERY = {item.name: item for item in registry()}


@pytest.fixture
def backbone(request: pytest.FixtureRequest) -> Backbone:
    found: Backbone = EVERY[request.param]
    return found


@pytest.mark.parametrize("backbone", EVERY, indirect=True)
def test_it_is_what_the_description_says(backbone: Backbone) -> None:
    model = backbone.build(224)
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, backbone.embedding_dim)
    assert model.count_params() == backbone.params
    import_keras().backend.clear_session()


@pytest.mark.parametrize("backbone", EVERY, indirect=True)
def test_random_weights_are_the_same_in_two_builds(backbone: Backbone, tmp_path: Path) -> None:
    source = parse_weights("random", 2)
    digests = {
        load_weights(backbone, backbone.build(backbone.min_size), source, cache=tmp_path) for _ in range(2)
    }
    assert len(digests) == 1
    import_keras().backend.clear_session()


@pytest.mark.parametrize("backbone", EVERY, indirect=True)
def test_nothing_smaller_than_the_minimum_is_accepted(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match=r"(?i)input"):
        backbone.build(backbone.min_size - 1)


@pytest.mark.parametrize("backbone", EVERY, indirect=True)
def test_it_freezes_to_a_graph_without_variables(backbone: Backbone) -> None:
    definition = freeze(backbone.preprocess, backbone.build(backbone.min_size))
    operations = {node.op for node in definition.node}
    assert not {operation for operation in operations if "Variable" in operation or "Call" in operation}
    import_keras().backend.clear_session()
