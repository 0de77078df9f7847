"""What the device cannot run: backbones that take too long for one image."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmark.cells import figure
from benchmark.pipeline.measurements import load_measurement
from benchmark.pipeline.planning import Plan, plan_facts
from benchmark.pipeline.requests import RankRequest
from benchmark.ranking import MeasuredDevice
from benchmark.records import Skipped


def too_slow(request: RankRequest, plans: Sequence[Plan]) -> tuple[list[Skipped], list[Plan]]:
    """Tell embedded backbones that take longer than the latency limit from the others.

    Args:
        request: the limit, the device that it is about, and the cache that remembers measurements.
        plans: embedded backbones.

    Returns:
        Outcomes of the slow ones, ``skipped`` with the reason, and the plans of those that fit. A noisy
        figure skips nobody.
    """
    reasons = [_reason(request, plan) for plan in plans]
    slow = [
        Skipped(**plan_facts(plan), reason=reason)
        for plan, reason in zip(plans, reasons, strict=True)
        if reason
    ]
    return slow, [plan for plan, reason in zip(plans, reasons, strict=True) if not reason]


def _reason_there(device: MeasuredDevice, plan: Plan, limit: float) -> str:
    """The same on the user's device, where nothing but its own measurements counts."""
    assert plan.key is not None
    there = (plan.backbone.name, plan.key.weights_sha256, plan.input_size)
    fastest = device.fastest(*there)
    asked = f"`max_latency_ms={figure(limit)}`"
    if fastest is None:
        why = "no export of it passed" if device.exports(*there) else "it was not measured"
        return f"{why} on {device.name}, and {asked} was asked for"
    if fastest.latency_ms <= limit:
        return ""
    return f"{fastest.latency_ms:.1f} ms an image on {device.name} ({fastest.target}) is more than {asked}"


def _reason(request: RankRequest, plan: Plan) -> str:
    limit = request.options.max_latency_ms
    if limit is None or plan.key is None:
        return ""
    if request.device is not None:
        return _reason_there(request.device, plan, limit)
    measured = load_measurement(request.options.cache, plan.key, anywhere=not request.executor.is_local)
    latency = measured.latency_ms
    if measured.noisy:
        return ""
    if math.isnan(latency):
        return f"its latency is not known, and `max_latency_ms={figure(limit)}` was asked for"
    return (
        f"{latency:.1f} ms an image is more than `max_latency_ms={figure(limit)}`" if latency > limit else ""
    )
