"""The registry against a literal table, and the table against the installed Keras."""

from __future__ import annotations

import pytest

from benchmark.backbones.describe import walk
from benchmark.backbones.registry import registry

# (name, embedding dim, family, preprocessing mode)
CONTRACT = [
    ("ConvNeXtBase", 1024, "convnext", "identity"),
    ("ConvNeXtLarge", 1536, "convnext", "identity"),
    ("ConvNeXtSmall", 768, "convnext", "identity"),
    ("ConvNeXtTiny", 768, "convnext", "identity"),
    ("ConvNeXtXLarge", 2048, "convnext", "identity"),
    ("DenseNet121", 1024, "densenet", "torch"),
    ("DenseNet169", 1664, "densenet", "torch"),
    ("DenseNet201", 1920, "densenet", "torch"),
    ("EfficientNetB0", 1280, "efficientnet", "identity"),
    ("EfficientNetB1", 1280, "efficientnet", "identity"),
    ("EfficientNetB2", 1408, "efficientnet", "identity"),
    ("EfficientNetB3", 1536, "efficientnet", "identity"),
    ("EfficientNetB4", 1792, "efficientnet", "identity"),
    ("EfficientNetB5", 2048, "efficientnet", "identity"),
    ("EfficientNetB6", 2304, "efficientnet", "identity"),
    ("EfficientNetB7", 2560, "efficientnet", "identity"),
    ("EfficientNetV2B0", 1280, "efficientnet_v2", "identity"),
    ("EfficientNetV2B1", 1280, "efficientnet_v2", "identity"),
    ("EfficientNetV2B2", 1408, "efficientnet_v2", "identity"),
    ("EfficientNetV2B3", 1536, "efficientnet_v2", "identity"),
    ("EfficientNetV2L", 1280, "efficientnet_v2", "identity"),
    ("EfficientNetV2M", 1280, "efficientnet_v2", "identity"),
    ("EfficientNetV2S", 1280, "efficientnet_v2", "identity"),
    ("InceptionResNetV2", 1536, "inception_resnet_v2", "tf"),
    ("InceptionV3", 2048, "inception_v3", "tf"),
    ("MobileNet", 1024, "mobilenet", "tf"),
    ("MobileNet_0.25", 256, "mobilenet", "tf"),
    ("MobileNet_0.5", 512, "mobilenet", "tf"),
    ("MobileNet_0.75", 768, "mobilenet", "tf"),
    ("MobileNetV2", 1280, "mobilenet_v2", "tf"),
    ("MobileNetV2_0.35", 1280, "mobilenet_v2", "tf"),
    ("MobileNetV2_0.5", 1280, "mobilenet_v2", "tf"),
    ("MobileNetV2_0.75", 1280, "mobilenet_v2", "tf"),
    ("MobileNetV2_1.3", 1664, "mobilenet_v2", "tf"),
    ("MobileNetV2_1.4", 1792, "mobilenet_v2", "tf"),
    ("MobileNetV3Large", 960, "mobilenet_v3", "identity"),
    ("MobileNetV3Large_0.75", 720, "mobilenet_v3", "identity"),
    ("MobileNetV3Large_minimalistic", 960, "mobilenet_v3", "identity"),
    ("MobileNetV3Small", 576, "mobilenet_v3", "identity"),
    ("MobileNetV3Small_0.75", 432, "mobilenet_v3", "identity"),
    ("MobileNetV3Small_minimalistic", 576, "mobilenet_v3", "identity"),
    ("NASNetLarge", 4032, "nasnet", "tf"),
    ("NASNetMobile", 1056, "nasnet", "tf"),
    ("ResNet101", 2048, "resnet", "caffe"),
    ("ResNet101V2", 2048, "resnet_v2", "tf"),
    ("ResNet152", 2048, "resnet", "caffe"),
    ("ResNet152V2", 2048, "resnet_v2", "tf"),
    ("ResNet50", 2048, "resnet", "caffe"),
    ("ResNet50V2", 2048, "resnet_v2", "tf"),
    ("VGG16", 512, "vgg16", "caffe"),
    ("VGG19", 512, "vgg19", "caffe"),
    ("Xception", 2048, "xception", "tf"),
]


def differences(found: set[tuple[object, ...]], expected: set[tuple[object, ...]]) -> str:
    """Which entries are new and which are missing, in words."""
    new, missing = sorted(found - expected, key=str), sorted(expected - found, key=str)
    return f"new: {new or 'none'}; missing: {missing or 'none'}"


def test_the_table_has_40_defaults_and_12_variants() -> None:
    names = [name for name, *_ in CONTRACT]
    assert len(names) == len(set(names)) == 52
    assert sum("_" in name for name in names) == 12


def test_the_description_says_what_the_table_says() -> None:
    found = {(item.name, item.embedding_dim, item.family, str(item.preprocessing)) for item in registry()}
    assert not found ^ set(CONTRACT), differences(found, set(CONTRACT))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_walk_finds_what_the_table_says() -> None:
    found = {(item.name, item.family, str(item.preprocessing)) for item in walk()}
    expected = {(name, family, mode) for name, _, family, mode in CONTRACT}
    assert not found ^ expected, differences(found, expected)


def test_the_walk_and_the_description_agree_on_constructors() -> None:
    described = {(item.name, item.module, item.constructor, str(dict(item.arguments))) for item in registry()}
    found = {(item.name, item.module, item.constructor, str(dict(item.arguments))) for item in walk()}
    assert not found ^ described, differences(found, described)


def test_a_difference_is_named() -> None:
    text = differences({("NewNet", 8)}, {("OldNet", 8)})
    assert "new: [('NewNet', 8)]" in text
    assert "missing: [('OldNet', 8)]" in text
