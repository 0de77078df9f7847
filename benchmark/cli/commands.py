"""Commands about data and boards: options into a request, the request into a package, the result out."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.backbones import backbone_row, chosen, select
from benchmark.cli.observer import make_observer
from benchmark.cli.printing import print_board, print_renderable, print_rows, put, say
from benchmark.errors import ArgumentError
from benchmark.locations import as_given
from benchmark.options import (
    AuditOptions,
    CacheCommandOptions,
    CompletionOptions,
    DemoOptions,
    EmbedOptions,
    ListOptions,
    OutputOptions,
    PlanOptions,
    RankOptions,
    ReportOptions,
    WeightsOptions,
)

if TYPE_CHECKING:
    from benchmark.embeddings import CacheEntry
    from benchmark.pipeline import Embedded, Plan, Ranked


def list_command(options: ListOptions, output: OutputOptions) -> int:
    """``backbones list``."""
    rows = [backbone_row(backbone, options.weights) for backbone in chosen(options)]
    print_rows(rows, output.format)
    return 0


def completion_command(options: CompletionOptions, output: OutputOptions) -> int:
    """``backbones completion``."""
    import shtab

    from benchmark.cli.parser import make_parser

    put(shtab.complete(make_parser(), options.shell))
    return 0


def demo_command(options: DemoOptions, output: OutputOptions) -> int:
    """``backbones demo``."""
    from benchmark.data import write_demo

    folder = write_demo(options.folder, count=options.count, seed=options.seed)
    if not output.quiet:
        say(f"{options.count} images are in {folder}")
    return 0


def embed_command(options: EmbedOptions, output: OutputOptions) -> int:
    """``backbones embed``."""
    from benchmark.pipeline import EmbedRequest, embed

    with make_observer(quiet=output.quiet) as observer:
        done = embed(EmbedRequest.of(options), observer)
    print_rows([_embedded_row(done, plan) for plan in done.plans], output.format)
    if not output.quiet:
        say(done.prediction)
    return 0 if done.embedded else 1


def plan_command(options: PlanOptions, output: OutputOptions) -> int:
    """``backbones plan``."""
    from benchmark.pipeline import estimate_costs

    with make_observer(quiet=output.quiet) as observer:
        estimate = estimate_costs(options, observer)
    print_rows(estimate.rows(), output.format)
    if output.format == "table":
        sentence = estimate.sentence()
        say(sentence[0].upper() + sentence[1:])
    return 0


def audit_command(options: AuditOptions, output: OutputOptions) -> int:
    """``backbones audit``."""
    from benchmark.audit import audit_table
    from benchmark.pipeline import RankRequest, audit_data

    with make_observer(quiet=output.quiet) as observer:
        audited, folder = audit_data(RankRequest.of(options), observer)
    if output.format == "table":
        print_renderable(audit_table(audited.report))
        for note in audited.notes:
            print_renderable(note)
    else:
        print_rows([asdict(finding) for finding in audited.report.findings], output.format)
    say(f"Written to {folder}")
    return 0


def cache_command(options: CacheCommandOptions, output: OutputOptions) -> int:
    """``backbones cache list|verify|clean``."""
    return {"list": _cache_list, "verify": _cache_verify, "clean": _cache_clean}[options.action](
        options, output
    )


def _cache_list(options: CacheCommandOptions, output: OutputOptions) -> int:
    from benchmark.embeddings import EmbeddingStore

    entries = EmbeddingStore(options.cache).entries(count_rows=True)
    print_rows([_cache_row(entry) for entry in entries], output.format)
    return 0


def _cache_row(entry: CacheEntry) -> dict[str, Any]:
    key = entry.key
    return {
        "folder": entry.folder.name,
        "backbone": key.backbone if key else "(no key.json)",
        "input_size": key.input_size if key else 0,
        "engine": key.engine.value if key else "",
        "precision": key.precision.value if key else "",
        "parts": entry.parts,
        "rows": entry.rows if entry.rows is not None else 0,
        "size_bytes": entry.size_bytes,
        "last_used": time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_used)),
    }


def _cache_verify(options: CacheCommandOptions, output: OutputOptions) -> int:
    from benchmark.embeddings import EmbeddingStore

    with make_observer(quiet=output.quiet) as observer:
        report = EmbeddingStore(options.cache).verify(observer)
    for damage in report.damages:
        say(f"damaged: {damage}")
    for path in report.strangers:
        say(f"not ours: {path}")
    facts = {"keys": report.keys, "parts": report.parts, "rows": report.rows, "size_bytes": report.size_bytes}
    print_rows([{**facts, "damaged": len(report.damages)}], output.format)
    return 1 if report.damages else 0


def _cache_clean(options: CacheCommandOptions, output: OutputOptions) -> int:
    from benchmark.embeddings import EmbeddingStore
    from benchmark.pipeline import clean_buffers

    store = EmbeddingStore(options.cache)
    keys = []
    if options.backbones is not None:
        names = {backbone.architecture for backbone in select(options.backbones)}
        keys = [entry.key for entry in store.entries() if entry.key and entry.key.backbone in names]
    removed = [store.clean(keys)]
    if options.cache_limit_gb is not None:
        removed.append(store.enforce_limit(round(options.cache_limit_gb * 1e9)))
    joined = sum(store.compact(entry.key) for entry in store.entries() if entry.key and entry.parts > 1)
    freed = sum(one.size_bytes for one in removed)
    gone = sum(len(one.paths) for one in removed) + len(clean_buffers(options.cache))
    if output.format == "table":
        put(f"joined parts: {joined} fewer\n" if joined else "")
        put(f"removed {gone} files and folders, {freed:,} bytes\n")
    else:
        print_rows([{"removed": gone, "size_bytes": freed, "parts_fewer": joined}], output.format)
    return 0


def report_command(options: ReportOptions, output: OutputOptions) -> int:
    """``backbones report``."""
    if options.compare is not None:
        return _compare(*options.compare, output.format)
    if options.data is None:
        raise ArgumentError("`data` or `compare` is needed", next_step="See 'backbones report --help'.")
    from benchmark.pipeline import rebuild_report

    with make_observer(quiet=output.quiet) as observer:
        ranked = rebuild_report(
            options.data,
            results=options.results,
            cache=options.cache,
            observer=observer,
            device=options.device,
        )
    print_board(ranked.board, output.format)
    say(f"Written to {ranked.folder}")
    return 0


def _compare(first: Path, second: Path, style: str) -> int:
    from benchmark.reporting import compare_runs, comparison_table

    comparison = compare_runs(first, second)
    if style == "table":
        print_renderable(comparison_table(comparison))
    else:
        rows = [
            {"what": change.kind.value, "name": change.name, "before": change.before, "after": change.after}
            for change in comparison.changes
        ]
        rows += [
            {"what": score.column, "name": score.backbone, "before": score.before, "after": score.after}
            for score in comparison.scores
        ]
        print_rows(rows, style)
    return 0


def weights_command(options: WeightsOptions, output: OutputOptions) -> int:
    """``backbones weights fetch|verify|bundle``."""
    from benchmark.pipeline import check_bundle, collect_weights

    folder = options.folder
    if (options.action == "fetch") != (folder is None):
        needs = "takes no" if options.action == "fetch" else "needs a"
        raise ArgumentError(
            f"'weights {options.action}' {needs} folder",
            expected="'fetch' (into Keras's own folder), 'bundle DIR' or 'verify DIR'",
        )
    with make_observer(quiet=output.quiet) as observer:
        if folder is not None and options.action == "verify":
            rows = check_bundle(folder)
        else:
            wanted = select(options.backbones)
            rows = collect_weights(wanted, folder, cache=options.cache, observer=observer)
    print_rows(rows, output.format)
    return 1 if any(row["status"] == "failed" for row in rows) else 0


def _embedded_row(done: Embedded, plan: Plan) -> dict[str, Any]:
    name = plan.backbone.name
    return {
        "backbone": name,
        "status": plan.stopped.status.value if plan.stopped else "embedded",
        "computed": done.images_embedded.get(name, 0),
        "engine": plan.engine.value if plan.engine else "",
        "precision": plan.precision.value if plan.precision else "",
        "weights_sha256": plan.key.weights_sha256[:16] if plan.key else "",
        "reason": plan.stopped.reason if plan.stopped else "; ".join(done.notes.get(name, ())),
    }


def rank_command(options: RankOptions, output: OutputOptions) -> int:
    """``backbones rank``."""
    from benchmark.pipeline import RankRequest, rank_backbones

    # A table has the notes above it; rows for a program have none.
    held: list[str] | None = [] if output.format == "table" else None
    with make_observer(quiet=output.quiet, held=held) as observer:
        ranked = rank_backbones(RankRequest.of(options), observer)
    print_board(ranked.board, output.format)
    for text in held or ():
        if text not in ranked.board.notes:
            say(text)
    if not output.quiet:
        say(ranked.prediction)
        say(f"Written to {ranked.folder} (this run: {ranked.run})")
        for line in _what_now(ranked, options):
            say(line)
    if ranked.replaced:
        say(ranked.replaced)
    return 0


def _what_now(ranked: Ranked, options: RankOptions) -> Iterator[str]:
    """What to do with a board: the pick and why, the page to open, the next command."""
    from benchmark.ranking import best_export
    from benchmark.reporting import next_commands
    from benchmark.statistics import METRICS

    board = ranked.board
    page = f"Open {ranked.folder / 'leaderboard.html'}"
    commands = next_commands(board, as_given(options.data), options.model_dump())
    if board.winner is None:
        yield f"No pick: the scores are at chance level, or the images too few. {page}"
        yield f"Next: {shlex.join([*commands[0], *_places(options)])}"
        return
    first = next(row for row in board.rows if row["backbone"] == board.winner)
    size, score, title = first["size_bytes"], first[f"val_{board.metric}"], METRICS[board.metric].title
    yield (
        f"Pick: {board.winner} ({size / 1e6:.1f} MB, val {title} {score:.3f}), which may give away up to "
        f"{board.loss_bound:.3f} {title} to the best. {page}"
    )
    if commands:  # an export that was scored goes before training, where there is one
        words = commands[0 if best_export(board) else -1]
        yield f"Next: {shlex.join([*words, *_places(options)])}"


def _places(options: RankOptions) -> list[str]:
    """The folders of a command, where they are not the usual ones."""
    usual = (("--cache", options.cache, "embeddings_cache"), ("--results", options.results, "results"))
    return [word for name, path, default in usual if str(path) != default for word in (name, as_given(path))]
