"""Print the tables of docs/statistics.md: ``python tests/ranking/print_simulations.py [--quick]``."""

from __future__ import annotations

import sys
from dataclasses import replace

from benchmark.ranking.simulation import World, watch_intervals, watch_ties

ERRORS = (0.01, 0.05, 0.2)
IMAGES = (100, 400, 2000)


def print_intervals(scale: float) -> None:
    print("| images | error | coverage, 1 repeat | coverage, 3 repeats | positives 20 % | mean width |")
    print("| --- | --- | --- | --- | --- | --- |")
    for images in IMAGES:
        for error in ERRORS:
            world = World(images=images, errors=(error,) * 50)
            worlds = [world, replace(world, repeats=3), replace(world, positive_share=0.2)]
            seen = [watch_intervals(each, trials=max(2, round(20 * scale)), seed=7) for each in worlds]
            cells = " | ".join(f"{each.coverage:.1%}" for each in seen)
            print(f"| {images} | {error:.0%} | {cells} | {seen[0].width:.3f} |", flush=True)


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
    print("\n| images | best | the other 11 | all others separated | best kept | loss bound held |")
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
        rates = f"{seen.others_out:.0%} | {seen.best_kept:.0%} | {seen.bound_held:.0%}"
        print(f"| {images} | {best:.0%} | {others:.0%} | {rates} |", flush=True)


def print_groups(scale: float) -> None:
    print("\n| images in a group | interval coverage | 8 equal backbones: somebody thrown out |")
    print("| --- | --- | --- |")
    for size in (5, 20):
        world = World(images=400, errors=(0.1,) * 8, correlation=0.4, group_size=size, group_correlation=0.5)
        intervals = watch_intervals(world, trials=max(5, round(150 * scale)), seed=7)
        ties = watch_ties(world, trials=max(5, round(400 * scale)), seed=7)
        print(f"| {size} | {intervals.coverage:.1%} | {1 - ties.all_tied:.1%} |", flush=True)


if __name__ == "__main__":
    effort = 0.05 if "--quick" in sys.argv[1:] else 1.0
    print_intervals(effort)
    print_equal(effort)
    print_power(effort)
    print_groups(effort)
