"""Which cheap rule picks the backbone that is best after fine-tuning: several data sets, several seeds.

A rule says something of every backbone before anything is fine-tuned; its pick has the highest value. With
one seed, the rule and the fine-tuning share one split: the rule sees training and validation images, the F1
that it is judged by is of the test part. ``F(b, s)`` is that F1 of backbone b under seed s, ``F(b)`` its mean
over the seeds, and the best backbone is the one with the highest ``F(b)``. A rule's regret on a data set is
the mean over the seeds of ``F(best, s) - F(pick of s, s)``. Under a seed where it picks nobody, what is to be
expected of a pick at random counts: leaving the seed out would judge rules by different seeds. The highest of
several noisy means flatters itself: it adds the same to the regret of every rule, a pick at random included,
which stands beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmark.records import Float64
from benchmark.statistics import Interval, listed

# With four data sets the corrected percentiles below lie beyond what resampling can reach.
FEWEST_DATA_SETS = 5
_CHANCE = "at random"
_DRAWS = 20_000
_NAN = float("nan")
_SAME = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedBackbone:
    """A backbone under one seed: what was known of it before, and what fine-tuning made of it.

    Attributes:
        data: name of the data set.
        seed: of split, heads and fine-tuning.
        backbone: its name.
        val_f1: validation F1 on the board of this seed.
        picks: what the board says of it, comma-separated: ``winner``, ``smallest tied``.
        params: parameters without the top.
        imagenet_top1: published, in percent; nan where it is not known.
        knn_f1: validation F1 of nearest neighbours.
        logme: LogME.
        h_score: H-score.
        tuned_val_f1: validation F1 of the fine-tuned model.
        tuned_f1: its F1 on the test part; what rules are judged by.
        kept: which model that is: ``before`` (the board's head on the frozen backbone), ``phase1`` or
            ``phase2``.
    """

    data: str
    seed: int
    backbone: str
    val_f1: float
    picks: str
    params: float
    imagenet_top1: float
    knn_f1: float
    logme: float
    h_score: float
    tuned_val_f1: float
    tuned_f1: float
    kept: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyTables:
    """What came of a study.

    Attributes:
        rules: a row for each rule: regret, P(best) and Kendall's tau over the data sets, with intervals.
        data: a row for each data set: its best backbone, and the noise of fine-tuning.
        choices: a row for each rule and data set: what it picks, and what that gives away.
        runs: a row for each fine-tuned model.
        sentences: what a reader must know of them.
    """

    rules: tuple[Mapping[str, Any], ...]
    data: tuple[Mapping[str, Any], ...]
    choices: tuple[Mapping[str, Any], ...]
    runs: tuple[Mapping[str, Any], ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _DataSet:
    """The backbones of a data set that every seed has fine-tuned.

    Attributes:
        name: of the data set.
        runs: [seed][backbone], each in the order of their names.
        tuned: float64 (S, B) F1 after fine-tuning.
    """

    name: str
    runs: tuple[tuple[TunedBackbone, ...], ...]
    tuned: Float64

    @classmethod
    def of(cls, name: str, runs: Sequence[TunedBackbone]) -> _DataSet:
        seeds = sorted({run.seed for run in runs})
        by_seed = [{run.backbone: run for run in runs if run.seed == seed} for seed in seeds]
        whole = sorted(set.intersection(*(set(one) for one in by_seed)))
        rows = tuple(tuple(one[backbone] for backbone in whole) for one in by_seed)
        return cls(
            name=name, runs=rows, tuned=np.array([[run.tuned_f1 for run in row] for row in rows], np.float64)
        )

    @property
    def backbones(self) -> tuple[str, ...]:
        return tuple(run.backbone for run in self.runs[0])

    @property
    def mean(self) -> Float64:
        """F(b), float64 (B,)."""
        return np.asarray(self.tuned.mean(0))

    @property
    def noise(self) -> float:
        """Standard error of the difference of two F(b), from how backbones move against each other.

        What a seed does to all of them alike, an easy test part for example, is no noise of a comparison.
        """
        seeds, backbones = self.tuned.shape
        if min(seeds, backbones) < 2:
            return _NAN
        rest = self.tuned - self.tuned.mean(0) - self.tuned.mean(1, keepdims=True) + self.tuned.mean()
        variance = float((rest**2).sum()) / ((seeds - 1) * (backbones - 1))
        return math.sqrt(2 * variance / seeds)

    def row(self) -> dict[str, Any]:
        mean, noise = self.mean, self.noise
        lead = np.sort(mean)[-1] - mean
        return {
            "data": self.name,
            "backbones": len(mean),
            "seeds": len(self.runs),
            "best": self.backbones[int(mean.argmax())],
            "best_f1": float(mean.max()),
            "worst_f1": float(mean.min()),
            "noise": noise,
            "within_noise": int((lead <= 2 * noise).sum()) if noise == noise else None,
            "kept_frozen": sum(run.kept == "before" for row in self.runs for run in row),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """What a rule did on one data set, mean over the seeds; tau over those in which it orders the backbones.

    Attributes:
        picks: of each seed; empty where it picks nobody.
        regret: of the picks.
        best: share of the picks that are the best.
        tau: nan where there is no order.
    """

    picks: tuple[str, ...]
    regret: float
    best: float
    tau: float

    @property
    def silent(self) -> int:
        """Seeds under which it picks nobody."""
        return self.picks.count("")


_Values = Callable[[_DataSet, int], Float64]
"""(data set, place of the seed) -> float64 (B,): nan for backbones that a rule does not know."""


def _attribute(name: str) -> _Values:
    return lambda data, seed: np.array([getattr(run, name) for run in data.runs[seed]], np.float64)


def _pick(word: str) -> _Values:
    """1 for what the board picks, nan for the others: a pick is no order."""
    return lambda data, seed: np.array(
        [1.0 if word in run.picks.split(", ") else _NAN for run in data.runs[seed]]
    )


_RULES: dict[str, tuple[_Values, str]] = {
    "board F1": (_attribute("val_f1"), "highest cross-validated F1 of the heads on the frozen backbone"),
    "board winner": (
        _pick("winner"),
        "the board's pick: smallest within the tolerated loss, else the best score",
    ),
    "smallest tied": (_pick("smallest tied"), "smallest of those that the board cannot tell from its best"),
    "parameters": (_attribute("params"), "most parameters"),
    "ImageNet top-1": (_attribute("imagenet_top1"), "highest published accuracy"),
    "kNN": (_attribute("knn_f1"), "highest F1 of nearest neighbours"),
    "LogME": (_attribute("logme"), "highest LogME"),
    "H-score": (_attribute("h_score"), "highest H-score"),
    "fine-tune all": (
        _attribute("tuned_val_f1"),
        "not cheap: fine-tune every one, take the best on validation",
    ),
}


def study_tables(runs: Sequence[TunedBackbone], *, seed: int = 0) -> StudyTables:
    """Judge every rule by what fine-tuning made of the backbones.

    Args:
        runs: of at least one data set; backbones that some seed of a data set lacks take no part in it.
        seed: of the bootstrap.
    """
    names = dict.fromkeys(run.data for run in runs)
    sets = [_DataSet.of(name, [run for run in runs if run.data == name]) for name in names]
    sets = [one for one in sets if len(one.backbones) > 1]
    verdicts = {rule: [_judge(values, one) for one in sets] for rule, (values, _) in _RULES.items()}
    verdicts["other data"] = [_judge(_elsewhere(sets, one), one) for one in sets]
    verdicts[_CHANCE] = [_at_random(one) for one in sets]
    how = {rule: text for rule, (_, text) in _RULES.items()}
    how |= {"other data": "best mean rank on the other data sets, whatever the images are"}
    how |= {_CHANCE: "what a rule must beat"}
    return StudyTables(
        rules=tuple(_rule_row(rule, found, how[rule], seed) for rule, found in verdicts.items()),
        data=tuple(one.row() for one in sets),
        choices=tuple(
            _choice_row(rule, one, each)
            for rule, found in verdicts.items()
            for one, each in zip(sets, found, strict=True)
        ),
        runs=tuple(asdict(run) for run in runs),
        sentences=(*_sentences(runs, sets), *_left_out(runs, sets), *_silent(verdicts, sets)),
    )


def _judge(values: _Values, data: _DataSet) -> _Verdict:
    best = int(data.mean.argmax())
    is_best = data.mean >= data.mean[best] - _SAME
    picks, lost, hits, taus = [], [], [], []
    for seed, tuned in enumerate(data.tuned):
        said = values(data, seed)
        # Of equal values the first by name: backbones stand in that order.
        pick = int(np.nanargmax(said)) if np.isfinite(said).any() else None
        chosen = slice(None) if pick is None else slice(pick, pick + 1)  # at random: all alike
        picks.append("" if pick is None else data.backbones[pick])
        lost.append(tuned[best] - tuned[chosen].mean())
        hits.append(is_best[chosen].mean())
        taus.append(_tau(said, tuned))
    return _Verdict(
        picks=tuple(picks), regret=float(np.mean(lost)), best=float(np.mean(hits)), tau=_mean(taus)
    )


def _tau(said: Float64, tuned: Float64) -> float:
    """Kendall's tau-b of the backbones that a rule has a value for; nan where one side says nothing."""
    from scipy.stats import kendalltau

    known = np.isfinite(said)
    if known.sum() < 2 or np.ptp(said[known]) == 0 or np.ptp(tuned[known]) == 0:
        return _NAN
    return float(kendalltau(said[known], tuned[known]).statistic)


def _elsewhere(sets: Sequence[_DataSet], data: _DataSet) -> _Values:
    """Mean percentile rank on the other data sets of those that were fine-tuned there."""
    from scipy.stats import rankdata

    ranks: dict[str, list[float]] = {}
    for other in sets:
        if other is not data:
            shares = (rankdata(other.mean) - 1) / (len(other.mean) - 1)
            for backbone, share in zip(other.backbones, shares.tolist(), strict=True):
                ranks.setdefault(backbone, []).append(share)
    means = np.array([_mean(ranks.get(backbone, ())) for backbone in data.backbones])
    return lambda _, __: means


def _at_random(data: _DataSet) -> _Verdict:
    """What is to be expected of any backbone, drawn without a look."""
    found = _judge(lambda _, __: np.full(len(data.backbones), _NAN), data)
    return replace(found, tau=0.0)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else _NAN


def _rule_row(rule: str, found: Sequence[_Verdict], how: str, seed: int) -> dict[str, Any]:
    speaks = sum(any(one.picks) or rule == _CHANCE for one in found)
    row: dict[str, Any] = {"rule": rule, "data_sets": speaks}
    for name, values in (
        ("regret", [one.regret for one in found if speaks]),
        ("p_best", [one.best for one in found if speaks]),
        ("tau", [one.tau for one in found]),
    ):
        mean = over_data_sets(values, seed=seed)
        row |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
    return row | {"how": how}


def over_data_sets(values: Sequence[float], *, seed: int = 0) -> Interval:
    """The mean over data sets with its 95 % bootstrap interval; nan ends for fewer than ``FEWEST_DATA_SETS``.

    The percentiles are those of Hesterberg (2015, "What teachers should know about the bootstrap", section
    5.3), which make up for the narrowness of percentile intervals of small samples: for a mean of n values,
    of Phi(-sqrt(n / (n - 1)) t) with the 2.5 % quantile -t of Student's distribution.

    Args:
        values: one for each data set; nan where it has none.
        seed: of the draws.
    """
    from scipy.stats import norm, t

    known = np.array([value for value in values if value == value], np.float64)
    count = len(known)
    mean = float(known.mean()) if count else _NAN
    if count < FEWEST_DATA_SETS:
        return Interval(value=mean, low=_NAN, high=_NAN)
    draws = np.random.default_rng(seed).integers(count, size=(_DRAWS, count))
    level = float(norm.cdf(-math.sqrt(count / (count - 1)) * t.ppf(0.975, count - 1)))
    low, high = np.quantile(known[draws].mean(1), [level, 1 - level])
    return Interval(value=mean, low=float(low), high=float(high))


def _choice_row(rule: str, data: _DataSet, found: _Verdict) -> dict[str, Any]:
    return {
        "rule": rule,
        "data": data.name,
        "picks": ", ".join(filter(None, dict.fromkeys(found.picks))),
        "silent_seeds": 0 if rule == _CHANCE else found.silent,
        "regret": found.regret,
        "p_best": found.best,
        "tau": found.tau,
    }


def _silent(verdicts: Mapping[str, Sequence[_Verdict]], sets: Sequence[_DataSet]) -> Iterable[str]:
    """Where a rule picks nobody: a board at chance level, the other data sets of a single one."""
    for rule, found in verdicts.items():
        where = [
            f"{one.silent} of {len(one.picks)} seeds of {data.name}"
            for data, one in zip(sets, found, strict=True)
            if one.silent and rule != _CHANCE
        ]
        if where:
            speaks = any(any(one.picks) for one in found)
            counts = "there a pick at random counts" if speaks else "it is not judged"
            yield f"'{rule}' names nobody who was fine-tuned under {', '.join(where)}: {counts}."


def _left_out(runs: Sequence[TunedBackbone], sets: Sequence[_DataSet]) -> Iterable[str]:
    judged = {one.name: one for one in sets}
    for name in dict.fromkeys(run.data for run in runs):
        if name not in judged:
            yield f"{name}: fewer than two backbones were fine-tuned under every seed; left out."
            continue
        tuned = {run.backbone for run in runs if run.data == name}
        lacking = sorted(tuned.difference(judged[name].backbones))
        if lacking:
            was, takes = ("was", "takes") if len(lacking) == 1 else ("were", "take")
            yield f"{name}: {listed(lacking)} {was} not fine-tuned under every seed, and {takes} no part."


def _sentences(runs: Sequence[TunedBackbone], sets: Sequence[_DataSet]) -> Iterable[str]:
    each = sorted({len(one.runs) for one in sets}) or [0]
    seeds = each[0]
    models = sum(one.tuned.size for one in sets)
    counted = f"{seeds} to {each[-1]}" if each[-1] > seeds else f"{seeds}"
    counts = f"{len(sets)} data set{'s' * (len(sets) > 1)} under {counted} seed{'s' * (each[-1] > 1)}"
    yield f"Fine-tuned models: {models}, of {counts} each."
    if len(sets) < FEWEST_DATA_SETS:
        yield (
            f"Too few data sets for an interval ({len(sets)}, it takes {FEWEST_DATA_SETS}): the means are "
            "about these data sets alone."
        )
    else:
        yield "Intervals: 95 %, from resampling the data sets; they are about data sets like these."
    if seeds < 2:
        yield "One seed says nothing of the noise of fine-tuning: give more."
    alone = [one.name for one in sets if one.noise == one.noise and one.row()["within_noise"] == 1]
    if seeds > 1:
        which = listed(alone) if alone else "none of them"
        yield (
            "Noise: the standard error of the difference of two backbones' mean F1 after fine-tuning. The "
            f"best one is ahead of all others by more than twice that on {which}."
        )
    frozen = sum(one.row()["kept_frozen"] for one in sets)
    if frozen:
        yield (
            f"{frozen} of the {models} models are the board's head on the frozen backbone, which training "
            "did not beat on validation: there the board's F1 and the model's are close relations."
        )
    unknown = sorted({run.backbone for run in runs if run.imagenet_top1 != run.imagenet_top1})
    if unknown:
        yield f"ImageNet top-1 accuracy is not known of {listed(unknown)}: that rule sees the others alone."
