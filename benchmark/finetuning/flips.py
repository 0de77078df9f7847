"""Which mirror images a data set allows: those that the head that training starts from does not mind."""

from __future__ import annotations

from collections.abc import Iterator

from benchmark.finetuning.feed import Inference
from benchmark.finetuning.pixels import Pixels
from benchmark.finetuning.recipe import Flip
from benchmark.finetuning.scoring import Scoring
from benchmark.records import DEFAULT_MARGIN, Float32, Int64, UInt8


def allowed_flips(
    answers: Inference, pixels: Pixels, rows: Int64, targets: Float32, scoring: Scoring
) -> tuple[Flip, str]:
    """The flips that cost at most 0.02 F1 on some images that the head has not seen.

    A mirrored 3 is no digit, and a crack is one either way: a head that never saw mirror images tells.

    Args:
        answers: a network with a trained head.
        pixels: of the images.
        rows: int64 (n,) of the validation part.
        targets: float32 (n, C).
        scoring: how probabilities become F1.

    Returns:
        The flips, and a sentence.
    """

    def mirrored(*axes: int) -> Pixels:
        def turned(some: Int64) -> Iterator[UInt8]:
            for image in pixels(some):
                yield image[tuple(slice(None, None, -1 if axis in axes else 1) for axis in range(2))]

        return turned

    def f1(source: Pixels, threshold: float | None) -> tuple[float, float]:
        said = answers(rows, source)
        used = scoring.threshold(said, targets) if threshold is None else threshold
        return scoring.measure(said, targets, used)["f1"], used

    plain, threshold = f1(pixels, None)
    across, upside_down = (f1(mirrored(axis), threshold)[0] for axis in (1, 0))
    sideways_allowed, vertical_allowed = (value >= plain - DEFAULT_MARGIN for value in (across, upside_down))
    flip = {
        (False, False): Flip.NONE,
        (True, False): Flip.HORIZONTAL,
        (False, True): Flip.VERTICAL,
        (True, True): Flip.BOTH,
    }[sideways_allowed, vertical_allowed]
    said = (
        f"Flips: {flip.value}; mirrored validation images keep F1 {across:.3f} sideways and "
        f"{upside_down:.3f} upside down of {plain:.3f}."
    )
    return flip, said
