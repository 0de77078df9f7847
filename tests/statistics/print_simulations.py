"""Print the tables of docs/statistics.md: ``print_simulations.py [--quick] [--only intervals,heads,...]``.

``--jobs N`` draws N tables at once, ``--cluster`` does so on machines with this folder in their PYTHONPATH.
The tables are the same.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import relations
from calibration_simulation import watch_abstention, watch_temperature
from final_head_simulation import HeadWorld, watch_final_heads
from gain_simulation import watch_gains
from labels import watch_labels
from photographs import (
    BRICKS,
    WEIGHTS,
    read_photographs,
    watch_changed_labels,
    watch_halves,
    watch_other_walls,
    watch_photographs,
)
from simulation import (
    EMBEDDINGS,
    World,
    watch_curve,
    watch_heads,
    watch_intervals,
    watch_loss,
    watch_rules,
    watch_ties,
    watch_winners,
)

from benchmark.execution import Call, Runner, open_runner
from benchmark.machine import cores
from benchmark.pipeline.machines import describe_machine
from benchmark.records import Task
from benchmark.statistics import resampling

ERRORS = (0.01, 0.05, 0.2)
IMAGES = (100, 400, 2000)
FOLDER: Path | None = None  # of further photographs
FRESH = 2027  # seed of draws that nothing was chosen on
CACHE = Path("embeddings_cache")
RAREST = 10  # images of the rarest class: below that the board says that it cannot know


def print_intervals(scale: float) -> None:
    """Coverage, and mean width over the spread of F1 itself, of binary and of macro F1."""
    print("\n| classes | rarest | images | error 1 % | error 5 % | error 20 % |")
    print("| --- | --- | --- | --- | --- | --- |")
    binary = [(1 - share, share) for share in (0.01, 0.05, 0.1, 0.2, 0.5)]
    for shares in (*binary, *((1 / count,) * count for count in (3, 5, 10, 20, 50))):
        for images in (60, 100, 200, 400, 1000, 2000):
            if images * min(shares) < RAREST - 1e-9:
                continue
            cells = []
            for error in ERRORS:
                world = World(images=images, errors=(error,) * 20, shares=shares)
                seen = watch_intervals(world, trials=max(2, round(30 * scale)), seed=7)
                cells.append(f"{seen.coverage:.1%}, {seen.width / max(seen.spread, 1e-9):.2f} x")
            print(f"| {len(shares)} | {min(shares):.0%} | {images} | {' | '.join(cells)} |", flush=True)
    print("\nThree repeats of cross-validation, two classes of equal size:\n")
    print("| images | error 1 % | error 5 % | error 20 % |")
    print("| --- | --- | --- | --- |")
    for images in IMAGES:
        worlds = [World(images=images, errors=(error,) * 20, repeats=3) for error in ERRORS]
        rates = [watch_intervals(each, trials=max(2, round(30 * scale)), seed=7).coverage for each in worlds]
        print(f"| {images} | {' | '.join(f'{rate:.1%}' for rate in rates)} |", flush=True)


def print_equal(scale: float) -> None:
    print("\n| images | error | errors | 4 backbones | 12 backbones | 52 backbones |")
    print("| --- | --- | --- | --- | --- | --- |")
    for images in IMAGES:
        for error in ERRORS:
            for correlation, word in ((0.0, "independent"), (0.7, "correlated")):
                cells = []
                for count, trials in ((4, 400), (12, 400), (52, 100)):
                    world = World(images=images, errors=(error,) * count, correlation=correlation)
                    seen = watch_ties(world, trials=max(5, round(trials * scale)), seed=7)
                    cells.append(f"{1 - seen.all_tied:.1%}")
                print(f"| {images} | {error:.0%} | {word} | {' | '.join(cells)} |", flush=True)


def print_power(scale: float) -> None:
    print("\n| images | best | the other 11 | all others separated | best kept | all loss bounds held |")
    print("| --- | --- | --- | --- | --- | --- |")
    for images, best, others in (
        (100, 0.02, 0.2),
        (100, 0.02, 0.3),
        (400, 0.03, 0.08),
        (400, 0.03, 0.13),
        (2000, 0.03, 0.05),
        (2000, 0.03, 0.07),
    ):
        world = World(images=images, errors=(best, *(others,) * 11), correlation=0.3)
        seen = watch_ties(world, trials=max(5, round(200 * scale)), seed=7)
        rates = f"{seen.others_out:.0%} | {seen.best_kept:.0%} | {seen.bounds_held:.0%}"
        print(f"| {images} | {best:.0%} | {others:.0%} | {rates} |", flush=True)


def print_winners(scale: float) -> None:
    """Twelve backbones of 4 to 12 % error, the better the larger; then rules that the board does not use."""
    print(
        "\n| images | highest F1 gives away | at most 0.02 | winner | at most 0.02 | bound held | smaller |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    trials = max(5, round(300 * scale))
    worlds = {
        images: World(images=images, errors=tuple(np.linspace(0.04, 0.12, 12)), correlation=0.3)
        for images in (100, 400, 1000, 4000)
    }
    for images, world in worlds.items():
        seen = watch_winners(world, trials=trials, seed=FRESH)
        best = f"{seen.best_score:.4f} | {seen.best_within:.0%}"
        rates = f"{seen.within:.0%} | {seen.bound_held:.0%} | {seen.smaller:.0%}"
        print(f"| {images} | {best} | {seen.winner:.4f} | {rates} |", flush=True)
    print("\n| images | size | highest F1 | shrunk to the mean | shrunk to a trend in size |")
    print("| --- | --- | --- | --- | --- |")
    for images in (100, 400):
        for related, word in ((True, "larger is better"), (False, "says nothing")):
            rules = watch_rules(worlds[images], related=related, trials=trials, seed=FRESH)
            cells = (f"{loss:.4f}, {within:.0%}" for loss, within in rules)
            print(f"| {images} | {word} | {' | '.join(cells)} |", flush=True)


def print_losses(scale: float) -> None:
    """What the first of some fine-tuned models gives away to the best of them."""
    print("\n| images | errors | true loss | observed | estimate | interval | held |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for images in IMAGES:
        for errors in ((0.02,) * 3, (0.05,) * 3, (0.2,) * 3, (0.1,) * 8, (0.1, 0.05, 0.02)):
            world = World(images=images, errors=errors, correlation=0.3)
            seen = watch_loss(world, trials=max(5, round(400 * scale)), seed=7)
            true = world.true_f1.max() - world.true_f1[0]
            named = f"{len(errors)} x {errors[0]:.0%}" if len(set(errors)) == 1 else "10%, 5%, 2%"
            figures = (
                f"{true:.3f} | {seen.observed:.4f} | {seen.estimate:.4f} | {seen.low:.3f} to {seen.high:.3f}"
            )
            print(f"| {images} | {named} | {figures} | {seen.held:.0%} |", flush=True)


@contextmanager
def extra_of_power(power: float) -> Iterator[None]:
    """The smoothing's extra image weighs the images of an average group to some power, instead of to 1."""
    usual = resampling._Weights.__init__

    def lighter(self: resampling._Weights, sample: resampling.Sample, resamples: int, seed: int) -> None:
        usual(self, sample, resamples, seed)
        self._extra_size = self._extra_size**power

    resampling._Weights.__init__ = lighter  # type: ignore[method-assign]
    try:
        yield
    finally:
        resampling._Weights.__init__ = usual  # type: ignore[method-assign]


def print_groups(scale: float) -> None:
    """Images of a group are hard together: intervals of few groups, and tie groups."""
    print("\n| groups | of | images in each | error 1 % | error 5 % | error 20 % |")
    print("| --- | --- | --- | --- | --- | --- |")
    for count, mixed in ((10, True), (20, True), (20, False), (40, True), (40, False)):
        for size in (5, 20):
            cells = []
            for error in ERRORS:
                world = World(
                    images=count * size,
                    errors=(error,) * 20,
                    group_size=size,
                    mixed=mixed,
                    group_correlation=0.5,
                )
                seen = watch_intervals(world, trials=max(2, round(30 * scale)), seed=7)
                cells.append(f"{seen.coverage:.1%}, {seen.width / max(seen.spread, 1e-9):.2f} x")
            kind = "all classes" if mixed else "one class"
            print(f"| {count} | {kind} | {size} | {' | '.join(cells)} |", flush=True)
    print("\n| the extra image weighs | common to a group | error 1 % | error 5 % | error 20 % |")
    print("| --- | --- | --- | --- | --- |")
    for named, power in (("one image", 0.0), ("a group to the power 2/3", 2 / 3), ("a group", 1.0)):
        for common in (0.5, 0.95):
            with extra_of_power(power):
                cells = []
                for error in ERRORS:
                    world = World(
                        images=400, errors=(error,) * 20, group_size=20, mixed=True, group_correlation=common
                    )
                    seen = watch_intervals(world, trials=max(2, round(30 * scale)), seed=FRESH)
                    cells.append(f"{seen.coverage:.1%}, {seen.width / max(seen.spread, 1e-9):.2f} x")
            print(f"| {named} | {common:.0%} | {' | '.join(cells)} |", flush=True)
    print("\n| images in a group | interval coverage | 8 equal backbones: somebody thrown out |")
    print("| --- | --- | --- |")
    for size in (5, 20):
        world = World(images=400, errors=(0.1,) * 8, correlation=0.4, group_size=size, group_correlation=0.5)
        intervals = watch_intervals(world, trials=max(5, round(150 * scale)), seed=7)
        ties = watch_ties(world, trials=max(5, round(400 * scale)), seed=7)
        print(f"| {size} | {intervals.coverage:.1%} | {1 - ties.all_tied:.1%} |", flush=True)


def final_head_worlds() -> list[HeadWorld]:
    """Two to ten classes on few and on many axes, easy and hard; then groups, of all classes or of one."""
    worlds = [
        HeadWorld(images=images, shares=shares, axes=axes, distance=distance)
        for shares, axes, distance in (
            ((0.5, 0.5), 64, 2.2),
            ((0.5, 0.5), 64, 1.3),
            ((0.5, 0.5), 2, 2.2),
            ((0.5, 0.5), 2, 1.3),
            ((0.9, 0.1), 64, 2.2),
            ((0.9, 0.1), 2, 2.2),
            ((1 / 3,) * 3, 2, 2.2),
            ((1 / 5,) * 5, 64, 2.2),
            ((1 / 10,) * 10, 10, 3.1),
        )
        for images in (60, 100, 400, 1000)
        if images * min(shares) >= RAREST - 1e-9
    ]
    grouped = [
        HeadWorld(images=10 * groups, axes=axes, groups=groups, mixed=mixed)
        for groups, mixed in ((10, True), (20, True), (20, False), (40, True), (40, False))
        for axes in (64, 2)
    ]
    return worlds + grouped


def print_final_heads(scale: float) -> None:
    """Whether the F1 on new images of the head trained on all images lies in its interval."""
    print("\n| classes | rarest | axes | distance | images | F1 | coverage | width | val F1's interval |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for world in final_head_worlds():
        seen = watch_final_heads(world, trials=max(2, round(100 * scale)), seed=FRESH)
        kind = "all classes" if world.mixed else "one class"
        groups = f" in {world.groups} groups of {kind}" if world.groups else ""
        name = f"{len(world.shares)} | {min(world.shares):.0%} | {world.axes} | {world.distance}"
        width = f"{seen.width / max(seen.spread, 1e-9):.2f} x"
        rates = f"{seen.final:.3f} | {seen.coverage:.0%} | {width} | {seen.decisions_coverage:.0%}"
        print(f"| {name} | {world.images}{groups} | {rates} |", flush=True)


def print_walls(scale: float) -> None:
    """Half of the brick walls ranked, F1 on the other half."""
    found = read_photographs(CACHE)
    if found is None:
        print("\nNo photographs in ../shared: their table is left out.")
        return
    draws = max(1, round(10 * scale))
    print("\n| --groups | backbone | F1, other walls | new F1 | in its interval | in val F1's interval |")
    print("| --- | --- | --- | --- | --- | --- |")
    for grouped in (False, True):
        seen = []
        for draw in range(draws):
            with TemporaryDirectory() as folder:
                walls = Path(folder) / "walls"
                seen.append(watch_other_walls(found, walls, CACHE, grouped=grouped, seed=draw))
        for name in found.features:
            one = np.array([each[name] for each in seen])
            final, _, low, high, expected, new_low, new_high = one.T
            held, val_held = (new_low <= final) & (final <= new_high), (low <= final) & (final <= high)
            interval = f"{expected.mean():.3f} [{new_low.mean():.3f}, {new_high.mean():.3f}]"
            rates = f"{held.sum()} of {draws} | {val_held.sum()} of {draws}"
            word = "auto" if grouped else "none"
            print(f"| {word} | {name} | {final.mean():.3f} | {interval} | {rates} |", flush=True)


def print_heads(scale: float) -> None:
    """F1 on fresh images: heads against scikit-learn's LogisticRegressionCV on the same embeddings."""
    print("\n| embeddings | images | heads | LogisticRegressionCV | difference |")
    print("| --- | --- | --- | --- | --- |")
    for kind in EMBEDDINGS:
        for images in (60, 100, 200, 400):
            seen = watch_heads(kind, images, trials=max(1, round(20 * scale)), seed=FRESH)
            gap = f"{seen.heads - seen.reference:+.4f}"
            print(f"| {kind} | {images} | {seen.heads:.4f} | {seen.reference:.4f} | {gap} |", flush=True)


def print_photographs(scale: float) -> None:
    """The same on photographs, where they and the weights lie beside the project."""
    found = read_photographs(CACHE)
    if found is None:
        print("\nNo photographs in ../shared: their table is left out.")
        return
    print(
        "\n| backbone | images | heads, random | difference | heads, grouped | difference | to plain folds |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, features in found.features.items():
        for images in (60, 100, 200, 400):
            cells = []
            for grouped in (False, True):
                own, plain = watch_photographs(
                    features,
                    found.targets,
                    images,
                    grouped=grouped,
                    trials=max(2, round(25 * scale)),
                    seed=FRESH,
                )
                cells += [f"{own.heads:.3f}", f"{own.mean:+.4f} ± {own.error:.4f}"]
            print(f"| {name} | {images} | {' | '.join([*cells, f'{plain.mean:+.4f}'])} |", flush=True)


def print_halves(scale: float) -> None:
    """What half of the photographs say of all of them."""
    found = read_photographs(CACHE)
    if found is None:
        print("\nNo photographs in ../shared: their learning curves are left out.")
        return
    print("\n| backbone | folds | half of the photographs | predicted for all | all | held | said |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, features in found.features.items():
        for grouped in (False, True):
            trials = max(1, round(5 * scale))
            halves, whole = watch_halves(features, found.targets, grouped=grouped, trials=trials, seed=FRESH)
            now = np.mean([curve.now.value for curve in halves])
            ends = np.array([[p.value, p.low, p.high] for p in (curve.predicted for curve in halves)])
            value, low, high = ends.mean(0)
            seen = whole.now.value
            held = int(np.sum((ends[:, 1] <= seen) & (seen <= ends[:, 2])))
            said = sum(curve.is_telling for curve in halves)
            figures = f"{now:.3f} | {value:.3f} [{low:.3f}, {high:.3f}] | {seen:.3f}"
            kind = "grouped" if grouped else "random"
            print(f"| {name} | {kind} | {figures} | {held} of {trials} | {said} of {trials} |", flush=True)


def print_labels(scale: float) -> None:
    """Wrong labels: how often they stand out, and how many of the first suspects are wrong."""
    trials = max(2, round(60 * scale))
    print("\n| | images | none wrong | 1 % | 3 % | 10 % | interval held |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    words = {Task.BINARY: "two classes", Task.MULTICLASS: "three classes", Task.MULTILABEL: "three tags"}
    for task, word in words.items():
        for images in (200, 600, 2000):
            seen = [
                watch_labels(task, images, share, trials=trials, seed=FRESH)
                for share in (0.0, 0.01, 0.03, 0.1)
            ]
            cells = [f"{seen[0].stands_out:.0%}"]
            cells += [
                f"{one.stands_out:.0%}" + (f" ({one.precision:.2f})" if one.stands_out else "")
                for one in seen[1:]
            ]
            held = f"{min(one.held for one in seen):.0%} to {max(one.held for one in seen):.0%}"
            print(f"| {word} | {images} | {' | '.join(cells)} | {held} |", flush=True)
    print("\nSix wrong labels in each of some groups of ten images, 600 images of two classes:\n")
    print("| groups with wrong labels | 1 | 2 | 3 | 5 | 10 |")
    print("| --- | --- | --- | --- | --- | --- |")
    shares = [
        watch_labels(Task.BINARY, 600, 0.0, trials=trials, seed=FRESH, spoilt_groups=count).stands_out
        for count in (1, 2, 3, 5, 10)
    ]
    print(f"| stands out | {' | '.join(f'{share:.0%}' for share in shares)} |", flush=True)
    found = read_photographs(CACHE)
    if found is None:
        print("\nNo photographs in ../shared: their table is left out.")
        return
    print(
        "\n| photographs | changed | estimate | stands out | precision at that many | changed ones listed |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for grouped in (False, True):
        for share in (0.0, 0.03, 0.1):
            draws = [
                watch_changed_labels(found, share, grouped=grouped, seed=FRESH + draw)
                for draw in range(max(1, round((5 if share else 1) * scale)))
            ]
            out = [one for one in draws if one.listed]
            count = round(share * len(found.targets.targets))
            estimates = f"{min(one.share for one in draws):.1%} to {max(one.share for one in draws):.1%}"
            said = [f"{len(out)} of {len(draws)}", "", ""]
            if out:
                said[1] = f"{min(o.precision for o in out):.2f} to {max(o.precision for o in out):.2f}"
                said[2] = f"{min(o.found for o in out)} to {max(o.found for o in out)} of {count}"
            kind = "grouped" if grouped else "random folds"
            print(f"| {kind} | {share:.0%} ({count}) | {estimates} | {' | '.join(said)} |", flush=True)


def print_curves(scale: float) -> None:
    """What twice the images bring, as predicted and as seen."""
    print(
        "\n| classes | distance | images | F1 now | predicted | seen | held | width | said | held where said "
        "| error, asymptote drawn | none | fitted |"
    )
    print(f"|{' --- |' * 13}")
    for classes, distances in ((2, (1.0, 2.0, 3.0)), (3, (1.5, 3.0)), (10, (2.5, 4.0))):
        for distance in distances:
            for images in (100, 200, 400, 1000) if classes < 10 else (200, 400, 1000):
                seen = watch_curve(classes, distance, images, trials=max(2, round(40 * scale)), seed=7)
                f1 = f"{seen.now:.3f} | {seen.predicted:.3f} | {seen.true:.3f}"
                said = f"{seen.telling:.0%} | {seen.telling_held:.0%}" if seen.telling else "0% | "
                errors = " | ".join(f"{error:.4f}" for error in seen.errors)
                held = f"{seen.held:.0%} | {seen.width:.3f} | {said}"
                print(f"| {classes} | {distance} | {images} | {f1} | {held} | {errors} |", flush=True)


def print_related(scale: float) -> None:
    """Copies of known origin under meaningless names, among the brick photographs and those of --folder."""
    folders = [BRICKS, *([FOLDER] if FOLDER else [])]
    if not (BRICKS.is_dir() and WEIGHTS.is_dir()):
        print("\nNo photographs in ../shared: their table is left out.")
        return
    print(f"\n## Related images: copies of {relations.ORIGINS} photographs\n")
    found = []
    for folder in folders:
        paths = sorted(path for path in folder.rglob("*.jpg"))
        places = [relations.wall(path) if folder == BRICKS else path.stem for path in paths]
        with TemporaryDirectory() as work:
            found.append(relations.relate(Path(work), paths, places, origins=relations.ORIGINS, seed=FRESH))
    print(f"| in the group of the original | {' | '.join(folder.name for folder in folders)} |")
    print(f"| --- |{' --- |' * len(folders)}")
    for kind in relations.KINDS:
        print(f"| {kind} | {' | '.join(f'{one.linked[kind]:.0%}' for one in found)} |")
    shares = " | ".join(f"{one.false:.1%} of {one.images}" for one in found)
    print(f"| in a group with an image of another place | {shares} |", flush=True)


def print_temperatures(scale: float) -> None:
    print("\n| task | images | planted | found: median, 5 % to 95 % | ECE before | after | by chance |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for task in Task:
        for images in (60, 200, 1000):
            for planted in (0.5, 1.0, 4.0):
                seen = watch_temperature(task, images, planted, trials=max(2, round(100 * scale)), seed=7)
                low, middle, high = np.quantile(seen.found, [0.05, 0.5, 0.95])
                print(
                    f"| {task} | {images} | {planted} | {middle:.2f}, {low:.2f} to {high:.2f} | "
                    f"{seen.before:.3f} | {seen.after:.3f} | {seen.by_chance:.3f} |",
                    flush=True,
                )


def print_gains(scale: float) -> None:
    """How often the best of ten epochs is kept in the place of a model that errs on a tenth."""
    print("\n| images | epochs truly better by | kept | without minding that it is the best of ten |")
    print("| ---: | ---: | ---: | ---: |")
    for images in (100, 200, 400, 2000):
        for better_by in (0.0, 0.03, 0.06):
            kept = watch_gains(images, 0.1, better_by, epochs=10, trials=max(20, int(400 * scale)), seed=5)
            print(f"| {images} | {better_by:.2f} | {kept.together:.1%} | {kept.alone:.1%} |", flush=True)


def print_abstentions(scale: float) -> None:
    print("\n| images | of a group | wish | error of all | promised | broken | in the interval | answered |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    worlds = [(100, 1), (300, 1), (1000, 1), (3000, 1), (1500, 5)]
    for images, of_a_group in worlds:
        for wish, width, of_all in ((0.02, 5.0, 0.044), (0.05, 4.0, 0.061), (0.05, 3.0, 0.091)):
            trials = max(2, round((400 if of_a_group == 1 else 60) * scale))
            seen = watch_abstention(images, of_a_group, wish, width, trials=trials, seed=7)
            print(
                f"| {images} | {of_a_group} | {wish:.0%} | {of_all:.1%} | {seen.promised:.0%} | "
                f"{seen.broken:.1%} | {seen.inside:.1%} | {seen.answered:.0%} |",
                flush=True,
            )


def print_links(scale: float) -> None:
    """What a stricter rule of looks costs the brick walls and spares photographs of different things."""
    if not (BRICKS.is_dir() and WEIGHTS.is_dir()):
        print("\nNo photographs in ../shared: their table is left out.")
        return
    print("\n| spreads above the median | of the way without names | linked by looks in --folder |")
    print("| --- | --- | --- |")
    flattered, named = (relations.scores(BRICKS, CACHE, groups) for groups in ("none", "auto"))
    unrelated = relations.embedded(FOLDER, CACHE) if FOLDER else None
    with TemporaryDirectory() as work:
        relations.scramble(BRICKS, Path(work), seed=1)
        for spreads in (4.5, 5.0, 5.5):
            with mock.patch("benchmark.audit.looks._SPREADS", spreads):
                seen = relations.scores(Path(work), CACHE, "auto")
                way = np.mean((flattered - seen) / (flattered - named))
                linked = "" if unrelated is None else f"{relations.linked(unrelated):.1%} of {len(unrelated)}"
            print(f"| {spreads} | {way:.0%} | {linked} |", flush=True)


PRINTERS = {
    "intervals": print_intervals,
    "equal": print_equal,
    "power": print_power,
    "winners": print_winners,
    "losses": print_losses,
    "gains": print_gains,
    "groups": print_groups,
    "final_heads": print_final_heads,
    "walls": print_walls,
    "heads": print_heads,
    "curves": print_curves,
    "photographs": print_photographs,
    "halves": print_halves,
    "labels": print_labels,
    "temperatures": print_temperatures,
    "abstentions": print_abstentions,
    "related": print_related,
    "links": print_links,
}


def table(asked: tuple[str, float, Path | None], _: int) -> dict[str, Any]:
    """Print one table into ``text``; a task of a ``Runner``."""
    global FOLDER
    name, scale, FOLDER = asked
    with redirect_stdout(io.StringIO()) as printed:
        PRINTERS[name](scale)
    return {"text": printed.getvalue()}


def print_side_by_side(runner: Runner, names: list[str], scale: float) -> int:
    """Print tables in the order asked for, as soon as those before are done; how many failed."""
    # As on the workers, which know it by that name.
    from print_simulations import table as task

    calls = [Call(name=f"table-{name}", argument=(name, scale, FOLDER)) for name in names]
    # NumPy's libraries add in another order on other numbers of threads.
    environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(cores()))
    done: dict[int, dict[str, Any]] = {}
    shown = failed = 0
    with closing(runner.run(task, calls, apart=environment)) as results:
        for position, result in results:
            done[position] = result
            while shown in done:
                told = done[shown]
                failed += "error" in told
                print(told.get("text") or f"\n{names[shown]}: {told['error']}", end="", flush=True)
                shown += 1
    return failed


def main() -> int:
    """Print what was asked for."""
    global FOLDER
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the draws")
    parser.add_argument("--only", default=",".join(PRINTERS), help="tables, comma-separated")
    parser.add_argument(
        "--folder", type=Path, help="unrelated JPEG photographs for the tables 'related' and 'links'"
    )
    parser.add_argument("--jobs", type=int, default=1, help="tables at once")
    parser.add_argument("--cluster", help="a Dask cluster instead: tcp://HOST:PORT or local:N")
    given = parser.parse_args()
    FOLDER = given.folder
    wanted = given.only.split(",")
    if not PRINTERS.keys() >= set(wanted):
        parser.error(f"--only: tables are {', '.join(PRINTERS)}, got {given.only}")
    scale = 0.05 if given.quick else 1.0
    if given.jobs == 1 and not given.cluster:
        for name in wanted:
            PRINTERS[name](scale)
        return 0
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    with open_runner(
        given.cluster, given.jobs, shared=CACHE, describe=describe_machine, tell=print
    ) as runner:
        return 1 if print_side_by_side(runner, wanted, scale) else 0


if __name__ == "__main__":
    sys.exit(main())
