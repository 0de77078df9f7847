"""Heads: the same as Keras, deterministic, blind to the test part."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmark.errors import DataError, EmbeddingError, TrainingError
from benchmark.heads import final_head, train_heads
from benchmark.heads.choice import ModelSelection
from benchmark.heads.fit import (
    Heads,
    Job,
    TrainingData,
    batch_generator,
    batch_order,
    fit,
    initial_kernel,
    predict,
)
from benchmark.heads.loop import dropout_masks
from benchmark.heads.protocols import make_plan
from benchmark.heads.scaling import part_scales, working_copy
from benchmark.heads.training import HeadResult
from benchmark.records import (
    Average,
    Embeddings,
    Float32,
    HeadProtocol,
    Int64,
    ProtocolName,
    Split,
    Targets,
    Task,
    ThresholdKind,
    ThresholdRule,
)
from benchmark.statistics import decide, f1

SHORT = HeadProtocol(
    epochs=6, updates=0, learning_rates=(1e-2, 5e-2), weight_decays=(0.0,), repeats=2, folds=3
)


def ids_of(count: int) -> tuple[str, ...]:
    return tuple(sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)))


def problem(
    labels: Int64, task: Task = Task.BINARY, *, dim: int = 12, distance: float = 5.0, seed: int = 0
) -> tuple[Embeddings, Targets, Split]:
    """Gaussian classes ``distance`` apart from the origin, each in its own direction; 60/20/20 at random."""
    generator = np.random.default_rng(seed)
    count, classes = len(labels), int(labels.max()) + 1
    centres = generator.normal(size=(classes, dim))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    features = (generator.normal(size=(count, dim)) + centres[labels]).astype(np.float32)
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    order = generator.permutation(count)
    first, second = int(0.6 * count), int(0.8 * count)
    split = Split(
        train=np.sort(order[:first]),
        val=np.sort(order[first:second]),
        test=np.sort(order[second:]),
        given=False,
    )
    targets = Targets(
        targets=one_hot[:, 1:] if task is Task.BINARY else one_hot,
        classes=tuple(f"class{number}" for number in range(classes)),
        task=task,
        positive=1 if task is Task.BINARY else None,
    )
    return Embeddings(image_ids=ids_of(count), features=features), targets, split


def two_classes(count: int = 90, share: float = 0.5, **options: float) -> tuple[Embeddings, Targets, Split]:
    labels = (np.random.default_rng(1).random(count) < share).astype(np.int64)
    return problem(labels, **options)  # type: ignore[arg-type]


def val_f1(result: HeadResult, targets: Targets, average: Average = Average.BINARY) -> float:
    found = result.predictions
    decided = decide(found.val, found.val_thresholds, targets.task)
    return float(np.mean(f1(decided, targets.targets[found.val_rows], average)))


def same(first: HeadResult, second: HeadResult, *, with_test: bool = True) -> bool:
    one, other = first.predictions, second.predictions
    equal = [
        np.array_equal(one.val, other.val),
        np.array_equal(one.val_thresholds, other.val_thresholds),
        np.array_equal(first.val_history, second.val_history),
        first.chosen == second.chosen,
        one.test_threshold == other.test_threshold,
    ]
    return all(equal) and (not with_test or np.array_equal(one.test, other.test))


def material_for(
    features: Float32, targets: Float32, protocol: HeadProtocol, jobs: int, *, exclusive: bool
) -> TrainingData:
    shape = (jobs, features.shape[1])
    return TrainingData(
        features=features,
        targets=targets,
        scale=np.ones(shape, np.float32),
        shift=np.zeros(shape, np.float32),
        exclusive=exclusive,
        protocol=protocol,
    )


def last_heads(data: TrainingData, jobs: list[Job]) -> dict[int, tuple[Float32, Float32]]:
    found: dict[int, tuple[Float32, Float32]] = {}

    def after_epoch(_: int, numbers: object, heads: Heads) -> None:
        for place, number in enumerate(numbers):  # type: ignore[arg-type]
            found[number] = heads.kernel[place], heads.bias[place]

    fit(data, jobs, after_epoch)
    return found


@pytest.mark.parametrize("name", [ProtocolName.CV, ProtocolName.REFERENCE])
@pytest.mark.parametrize("exclusive", [False, True], ids=["sigmoid", "softmax"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_loop_is_keras_model_fit(exclusive: bool, outputs: int, name: ProtocolName) -> None:
    import keras

    if exclusive and outputs == 1:
        pytest.skip("softmax has several outputs")
    generator = np.random.default_rng(3)
    features = generator.normal(size=(75, 7)).astype(np.float32)
    labels = generator.integers(0, outputs, 75)
    targets = (generator.random((75, outputs)) < 0.4).astype(np.float32)
    if exclusive:
        targets = np.eye(outputs, dtype=np.float32)[labels]
    protocol = HeadProtocol(name=name, dropout=0.0, batch_size=16, updates=30)
    rates, decays = (1e-3, 3e-2), (0.0, 20.0)
    # The second job has fewer images, so that it sits out the last step of every epoch.
    jobs = [
        Job(label=name, train=np.arange(size), rates=rates, decays=decays, epochs=3)
        for name, size in (("long", 75), ("short", 60))
    ]
    found = last_heads(material_for(features, targets, protocol, 2, exclusive=exclusive), jobs)
    for number, job in enumerate(jobs):
        for point, (rate, decay) in enumerate(zip(rates, decays, strict=True)):
            kernel, bias = keras_fit(job, (features, targets), (rate, decay), protocol, exclusive, keras)
            columns = slice(point * outputs, (point + 1) * outputs)
            np.testing.assert_allclose(found[number][0][:, columns], kernel, rtol=2e-4, atol=1e-5)
            np.testing.assert_allclose(found[number][1][columns], bias, rtol=2e-4, atol=1e-5)


def keras_fit(
    job: Job,
    data: tuple[Float32, Float32],
    grid: tuple[float, float],
    protocol: HeadProtocol,
    exclusive: bool,
    keras: object,
) -> tuple[Float32, Float32]:
    """The same head by ``Model.fit`` on the loop's batches."""
    features, targets = data
    layers, optimizers = keras.layers, keras.optimizers  # type: ignore[attr-defined]
    dense = layers.Dense(
        targets.shape[1],
        activation="softmax" if exclusive else "sigmoid",
        kernel_regularizer=keras.regularizers.L2(grid[1] / len(job.train) / 2),  # type: ignore[attr-defined]
    )
    model = keras.Sequential([layers.Input((features.shape[1],)), dense])  # type: ignore[attr-defined]
    kernel = initial_kernel(protocol, job, (features.shape[1], targets.shape[1]))
    dense.set_weights([kernel, np.zeros(targets.shape[1], np.float32)])
    generator, size = batch_generator(protocol, job), protocol.batch_size
    # 3 epochs of 4 or 5 batches are fewer than 30 updates: every epoch is 2 or 3 passes.
    settles = protocol.name is ProtocolName.CV
    passes = -(-30 // (3 * -(-len(job.train) // size))) if settles else 1
    orders = [batch_order(generator, job.train) for _ in range(job.epochs * passes)]
    batches = [order[start : start + size] for order in orders for start in range(0, len(order), size)]
    assert not settles or len(batches) >= 30
    falling = optimizers.schedules.PolynomialDecay(grid[0], len(batches), 0.0)
    loss = "categorical_crossentropy" if exclusive else "binary_crossentropy"
    model.compile(optimizer=optimizers.Adam(falling if settles else grid[0]), loss=loss)
    # One epoch of Model.fit over the batches of all epochs: the optimizer's state goes on either way.
    model.fit(
        ((features[rows], targets[rows]) for rows in batches),
        steps_per_epoch=len(batches),
        shuffle=False,
        verbose=0,
    )
    weights: tuple[Float32, Float32] = tuple(dense.get_weights())
    return weights


def test_dropout_drops_the_wanted_share() -> None:
    first, again, other = (dropout_masks(seed, (3, 32, 4001), 0.2) for seed in (5, 5, 6))
    assert set(np.unique(first)) == {0.0, 1.0}
    assert abs(first.mean() - 0.8) < 0.003
    assert np.array_equal(first, again)
    assert abs((first * other).mean() - 0.64) < 0.003
    assert abs((first[0] * first[1]).mean() - 0.64) < 0.005
    assert dropout_masks(1, (1, 2, 3), 0.0).all()


def test_same_bits_whatever_ran_before() -> None:
    embeddings, targets, split = two_classes()
    first = train_heads(embeddings, targets, split, SHORT)
    wider, *_ = two_classes(dim=40)
    train_heads(wider, targets, split, replace(SHORT, seed=5))
    assert same(first, train_heads(embeddings, targets, split, SHORT))
    assert not same(first, train_heads(embeddings, targets, split, replace(SHORT, seed=1)))


@pytest.mark.parametrize("name", list(ProtocolName))
@pytest.mark.parametrize("kind", [ThresholdKind.FIXED, ThresholdKind.TUNED])
def test_test_labels_change_nothing(name: ProtocolName, kind: ThresholdKind) -> None:
    embeddings, targets, split = two_classes(distance=1.5)
    protocol = replace(SHORT, name=name, threshold=ThresholdRule(kind=kind))
    turned = targets.targets.copy()
    turned[split.test] = 1 - turned[split.test]
    first = train_heads(embeddings, targets, split, protocol)
    assert same(first, train_heads(embeddings, replace(targets, targets=turned), split, protocol))


@pytest.mark.parametrize("name", list(ProtocolName))
def test_test_embeddings_change_test_scores_alone(name: ProtocolName) -> None:
    embeddings, targets, split = two_classes()
    protocol = replace(SHORT, name=name)
    moved = embeddings.features.copy()
    moved[split.test] = 1000.0
    first = train_heads(embeddings, targets, split, protocol)
    second = train_heads(replace(embeddings, features=moved), targets, split, protocol)
    assert same(first, second, with_test=False)
    assert not np.array_equal(first.predictions.test, second.predictions.test)


def test_an_images_own_label_does_not_reach_its_probability() -> None:
    embeddings, targets, split = two_classes(distance=0.0)
    labels = np.random.default_rng(9).permutation(targets.targets)
    result = train_heads(embeddings, replace(targets, targets=labels), split, SHORT)
    found = result.predictions
    assert found.val_smaller is not None
    for probabilities in (found.val, found.val_smaller):
        right = probabilities.mean(0)[:, 0][labels[found.val_rows, 0] > 0.5].mean()
        wrong = probabilities.mean(0)[:, 0][labels[found.val_rows, 0] < 0.5].mean()
        assert abs(right - wrong) < 0.2


def test_shapes_and_what_was_chosen() -> None:
    embeddings, targets, split = two_classes()
    result = train_heads(embeddings, targets, split, SHORT)
    found, pool = result.predictions, len(split.train) + len(split.val)
    assert found.val.shape == (2, pool, 1)
    assert found.val.dtype == np.float32
    assert found.val_thresholds.shape == (2, pool)
    assert found.test.shape == (len(split.test), 1)
    assert np.array_equal(found.val_rows, np.sort(np.concatenate([split.train, split.val])))
    assert result.head_params == 13
    assert result.val_history.shape == (6,)
    assert len(result.chosen["epoch"]) == 6
    assert set(result.chosen["learning_rate"]) <= set(SHORT.learning_rates)
    assert json.loads(json.dumps(result.chosen)) == result.chosen
    assert val_f1(result, targets) > 0.9


@pytest.mark.parametrize(("grouped", "rate"), [(False, 1e-3), (True, 1e-2)])
def test_only_clear_evidence_leaves_the_end_of_the_grid(grouped: bool, rate: float) -> None:
    """Two dozen images tell F1 1 from about 0.67 apart; two dozen images of one group are one observation."""
    embeddings, targets, split = two_classes()
    protocol = replace(SHORT, learning_rates=(1e-3, 1e-2), epochs=3)
    plan = make_plan(targets, split, protocol, embeddings.image_ids)
    groups = np.zeros(len(targets.targets), np.int64) if grouped else None
    selection = ModelSelection(plan, targets.targets, targets.task, protocol, groups)
    right = targets.targets[plan.folds[0].choose]
    poor = np.where(np.arange(len(right))[:, None] % 3 == 0, 1 - right, right)
    for number, values in enumerate([(poor, right), (poor, right), (right, poor)]):
        selection.see(number + 1, [0], [np.stack(values).astype(np.float32)])
    choice = selection.choices()[0]
    assert (choice.learning_rate, choice.epoch) == (rate, 3), "heads are trained to the end"


@pytest.mark.parametrize("name", list(ProtocolName))
def test_without_a_test_part(name: ProtocolName) -> None:
    embeddings, targets, split = two_classes()
    part = replace(split, test=np.zeros(0, np.int64), val=np.sort(np.concatenate([split.val, split.test])))
    result = train_heads(embeddings, targets, part, replace(SHORT, name=name))
    assert result.predictions.test.shape == (0, 1)
    assert len(result.predictions.val_rows) == (90 if name is ProtocolName.CV else 36)


def test_smaller_heads_are_those_that_saw_the_inner_part_alone() -> None:
    """A head of the holdout protocol on the same rows gives the same probabilities."""
    embeddings, targets, split = two_classes(150, distance=1.5)
    protocol = replace(SHORT, name=ProtocolName.HOLDOUT, learning_rates=(1e-2,))
    plan = make_plan(targets, split, protocol, embeddings.image_ids)
    found = train_heads(embeddings, targets, split, protocol).predictions
    inner = plan.folds[0].inner
    data = replace(
        material_for(embeddings.features, targets.targets, protocol, 1, exclusive=False),
        features=(working := working_copy(embeddings.features, plan.used)),
        **dict(zip(("scale", "shift"), part_scales(working, [inner]), strict=True)),
    )
    job = Job(label="holdout", train=inner, rates=(1e-2,), decays=(0.0,), epochs=6)
    kernel, bias = last_heads(data, [job])[0]
    logits = working[split.val] @ kernel + bias
    assert found.val_smaller is not None
    np.testing.assert_allclose(found.val_smaller[0], 1 / (1 + np.exp(-logits)), atol=1e-5)
    assert found.train_sizes == (len(inner), len(split.train), len(split.train) + len(split.val))
    cross = train_heads(embeddings, targets, split, SHORT).predictions
    assert cross.train_sizes == pytest.approx((120 * 4 / 9, 80, 120), abs=1)
    reference = replace(SHORT, name=ProtocolName.REFERENCE)
    assert train_heads(embeddings, targets, split, reference).predictions.val_smaller is None


def test_holdout_and_reference_score_the_given_validation_part() -> None:
    embeddings, targets, split = two_classes(150)
    for name, epochs in ((ProtocolName.HOLDOUT, 6), (ProtocolName.REFERENCE, 150)):
        result = train_heads(embeddings, targets, split, replace(SHORT, name=name, epochs=epochs))
        assert np.array_equal(result.predictions.val_rows, split.val)
        assert result.predictions.val.shape == (1, len(split.val), 1)
        assert val_f1(result, targets) > 0.9


def test_reference_is_one_raw_head_at_its_best_validation_epoch() -> None:
    embeddings, targets, split = two_classes(150, distance=1.5)
    protocol = HeadProtocol(name=ProtocolName.REFERENCE)
    result = train_heads(embeddings, targets, split, protocol)
    assert result.chosen["learning_rate"] == [1e-3]
    assert result.val_history.shape == (20,)
    best = result.chosen["epoch"][0] - 1
    assert best == int(result.val_history.argmax())
    assert val_f1(result, targets) == pytest.approx(float(result.val_history.max()), abs=1e-6)
    tiny = replace(embeddings, features=embeddings.features * np.float32(1e-18))
    assert val_f1(train_heads(tiny, targets, split, protocol), targets) < val_f1(result, targets)


def test_standardised_heads_do_not_mind_scale_or_offset() -> None:
    embeddings, targets, split = two_classes()
    reference = val_f1(train_heads(embeddings, targets, split, SHORT), targets)
    for features in (embeddings.features * 1e-18, embeddings.features + 100.0):
        other = replace(embeddings, features=features.astype(np.float32))
        assert val_f1(train_heads(other, targets, split, SHORT), targets) == pytest.approx(
            reference, abs=0.05
        )


def test_standardisation_is_that_of_the_part() -> None:
    generator = np.random.default_rng(0)
    features = (generator.normal(size=(60, 5)) * 1e-18 + 3e-18).astype(np.float32)
    features[:, 3] = 7.25e-19
    features[:30, 4] = 1e-18  # constant in the first part alone
    parts = [np.arange(30), np.arange(10, 55)]
    working = working_copy(features, np.arange(55))
    scale, shift = part_scales(working, parts)
    for job, rows in enumerate(parts):
        found = working[rows] * scale[job] + shift[job]
        exact = features[rows].astype(np.float64)
        spread = exact.std(0)
        wanted = np.where(spread > 1e-25, (exact - exact.mean(0)) / np.where(spread > 1e-25, spread, 1), 0)
        np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert np.all(working[:, 3] == 0)


def test_many_classes() -> None:
    labels = np.arange(150) % 5
    embeddings, targets, split = problem(labels, Task.MULTICLASS, distance=4.0)
    result = train_heads(embeddings, targets, split, SHORT)
    assert result.predictions.val.shape[2] == 5
    np.testing.assert_allclose(result.predictions.val.sum(-1), 1, atol=1e-5)
    assert val_f1(result, targets, Average.MACRO) > 0.9


def test_ten_digits() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    embeddings, targets, split = problem(digits.target[:600].astype(np.int64), Task.MULTICLASS)
    features = replace(embeddings, features=digits.data[:600].astype(np.float32))
    result = train_heads(features, targets, split, replace(SHORT, repeats=1, epochs=12))
    assert val_f1(result, targets, Average.MACRO) > 0.9


def test_several_labels_an_image() -> None:
    generator = np.random.default_rng(2)
    embeddings, targets, split = two_classes(120)
    wanted = (embeddings.features[:, :3] + 0.2 * generator.normal(size=(120, 3)) > 0.3).astype(np.float32)
    targets = Targets(targets=wanted, classes=("a", "b", "c"), task=Task.MULTILABEL)
    for kind in (ThresholdKind.FIXED, ThresholdKind.TUNED):
        result = train_heads(
            embeddings, targets, split, replace(SHORT, threshold=ThresholdRule(kind=kind), epochs=10)
        )
        assert result.predictions.val.shape[2] == 3
        assert val_f1(result, targets, Average.MACRO) > 0.65


def test_tuned_thresholds_differ_per_fold_and_recall_is_reached() -> None:
    embeddings, targets, split = two_classes(200, distance=1.0, share=0.3)
    tuned = train_heads(
        embeddings, targets, split, replace(SHORT, threshold=ThresholdRule(kind=ThresholdKind.TUNED))
    )
    assert len(set(tuned.chosen["threshold"])) > 1
    wanted = ThresholdRule(kind=ThresholdKind.RECALL, value=0.95)
    found = train_heads(embeddings, targets, split, replace(SHORT, updates=150, threshold=wanted)).predictions
    decided = decide(found.val, found.val_thresholds, targets.task)[..., 0]
    positive = targets.targets[found.val_rows, 0] > 0.5
    assert decided[:, positive].mean() > 0.85


def test_balanced_classes_raise_recall() -> None:
    embeddings, targets, split = two_classes(300, distance=0.6, share=0.1)
    plain, balanced = (
        train_heads(embeddings, targets, split, replace(SHORT, balanced=flag)).predictions
        for flag in (False, True)
    )
    positive = targets.targets[plain.val_rows, 0] > 0.5
    assert (balanced.val[:, positive] >= 0.5).mean() > (plain.val[:, positive] >= 0.5).mean() + 0.1


def test_ninety_nine_to_one() -> None:
    labels = np.zeros(600, np.int64)
    labels[:6] = 1
    embeddings, targets, split = problem(labels, distance=6.0)
    result = train_heads(embeddings, targets, split, SHORT)
    assert np.isfinite(result.predictions.val).all()
    assert val_f1(result, targets) > 0.3


def test_shuffled_labels_score_at_chance() -> None:
    embeddings, targets, split = two_classes(300)
    shuffled = np.random.default_rng(5).permutation(targets.targets)
    result = train_heads(embeddings, replace(targets, targets=shuffled), split, SHORT)
    assert 0.35 < val_f1(result, targets) < 0.62


def test_state_is_trained_in_slices_when_it_is_large() -> None:
    from benchmark.heads import fit as fitting

    embeddings, targets, _ = two_classes()
    protocol = replace(SHORT, dropout=0.2)
    jobs = [
        Job(label=str(n), train=np.arange(40 + n), rates=(1e-2,), decays=(0.0,), epochs=3) for n in range(4)
    ]
    data = material_for(embeddings.features, targets.targets, protocol, 4, exclusive=False)
    together = last_heads(data, jobs)
    apart: dict[int, tuple[Float32, Float32]] = {}

    def after_epoch(_: int, numbers: object, heads: Heads) -> None:
        for place, number in enumerate(numbers):  # type: ignore[arg-type]
            apart[number] = heads.kernel[place], heads.bias[place]

    for number in range(4):
        fitting._fit_together(data, jobs, range(number, number + 1), after_epoch)
    for number in range(4):
        assert np.array_equal(together[number][0], apart[number][0])


def test_predictions_in_blocks_agree() -> None:
    embeddings, targets, _ = two_classes()
    data = material_for(embeddings.features, targets.targets, SHORT, 2, exclusive=False)
    heads = Heads(kernel=np.ones((2, 12, 1), np.float32), bias=np.zeros((2, 1), np.float32))
    found = predict(data, heads, [np.arange(7), np.arange(90)])
    wanted = 1 / (1 + np.exp(-embeddings.features.sum(1)))
    np.testing.assert_allclose(found[1][0, :, 0], wanted, rtol=1e-5)
    np.testing.assert_allclose(found[0][0, :, 0], wanted[:7], rtol=1e-5)


def test_errors_say_what_is_wrong() -> None:
    embeddings, targets, split = two_classes()
    with pytest.raises(EmbeddingError, match="do not belong"):
        train_heads(replace(embeddings, features=embeddings.features[:-1]), targets, split, SHORT)
    broken = embeddings.features.copy()
    broken[3, 3] = np.nan
    with pytest.raises(EmbeddingError, match="not finite"):
        train_heads(replace(embeddings, features=broken), targets, split, SHORT)
    with pytest.raises(TrainingError, match="not finite"):
        train_heads(embeddings, targets, split, replace(SHORT, learning_rates=(1e30,), weight_decays=(1e3,)))
    lonely = np.zeros((90, 1), np.float32)
    lonely[split.train[0]] = 1
    with pytest.raises(DataError, match="'class1' has too few images"):
        train_heads(embeddings, replace(targets, targets=lonely), split, SHORT)


def test_six_images_are_refused() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    embeddings, targets, _ = problem(labels)
    split = Split(train=np.array([0, 1, 3, 4]), val=np.array([2, 5]), test=np.zeros(0, np.int64), given=False)
    result = train_heads(embeddings, targets, split, SHORT)
    assert result.predictions.val.shape == (2, 6, 1)
    four = replace(split, val=np.zeros(0, np.int64), test=np.array([2, 5]))
    with pytest.raises(DataError, match="too few images to choose"):
        train_heads(embeddings, targets, four, SHORT)


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
@pytest.mark.parametrize("name", ProtocolName)
def test_the_final_head_alone_is_the_one_that_scores_the_test_part(task: Task, name: ProtocolName) -> None:
    labels = np.arange(150, dtype=np.int64) % (2 if task is Task.BINARY else 3)
    embeddings, targets, split = problem(labels, task, distance=1.0)
    features = (embeddings.features * 1e-3 + 50).astype(np.float32)  # far from 0, hardly moving
    embeddings = replace(embeddings, features=features)
    rule = ThresholdRule(kind=ThresholdKind.TUNED)
    protocol = replace(SHORT, name=name, threshold=rule)
    board = train_heads(embeddings, targets, split, protocol).predictions
    head = final_head(embeddings, targets, split, protocol)
    found = head.probabilities(features[split.test], exclusive=task is Task.MULTICLASS)
    np.testing.assert_allclose(found, board.test, atol=2e-3)
    assert head.threshold == board.test_threshold
    fitted = split.train if name is ProtocolName.REFERENCE else np.union1d(split.train, split.val)
    np.testing.assert_array_equal(head.fitted, fitted)
    alone = final_head(embeddings, targets, replace(split, test=split.test[:0]), protocol)
    np.testing.assert_array_equal(alone.kernel, head.kernel)
