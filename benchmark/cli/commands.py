"""Commands about data and boards: arguments into a request, the request into a room, the result out."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from benchmark.backbones import parse_weights, select
from benchmark.cli import arguments as read
from benchmark.cli.observer import make_observer
from benchmark.cli.printing import print_board, print_renderable, print_rows, put, say
from benchmark.errors import ArgumentError
from benchmark.records import Backbone

if TYPE_CHECKING:
    from benchmark.audit import Finding
    from benchmark.embeddings import CacheEntry
    from benchmark.pipeline import Embedded, EmbedRequest, Plan, Ranked, RankRequest


def list_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones list``."""
    rows = [_listed(backbone, arguments.weights) for backbone in select(arguments.backbones)]
    print_rows(rows, arguments.format)
    return 0


def _listed(backbone: Backbone, weights: str) -> dict[str, Any]:
    return {
        "name": backbone.name,
        "family": backbone.family,
        "source": backbone.source,
        "module": backbone.module,
        "input_size": backbone.default_size,
        "min_size": backbone.min_size,
        "preprocessing": backbone.preprocessing.value,
        "embedding_dim": backbone.embedding_dim,
        "params": backbone.params,
        "size_bytes": backbone.float32_bytes,
        "gflops_224": round(backbone.flops / 1e9, 2),
        "weights": str(backbone.weights or parse_weights(weights)),
    }


def demo_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones demo``."""
    from benchmark.data import write_demo

    folder = write_demo(arguments.folder, count=arguments.count, seed=arguments.seed)
    if not arguments.quiet:
        say(f"{arguments.count} images are in {folder}")
    return 0


def embed_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones embed``."""
    from benchmark.pipeline import embed

    with make_observer(quiet=arguments.quiet) as observer:
        done = embed(_embed_request(arguments), observer)
    print_rows([_embedded_row(done, plan) for plan in done.plans], arguments.format)
    return 0 if done.embedded else 1


def audit_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones audit``."""
    from benchmark.audit import audit_table
    from benchmark.pipeline import audit_data

    with make_observer(quiet=arguments.quiet) as observer:
        audited, folder = audit_data(_audit_request(arguments), observer)
    if arguments.format == "table":
        print_renderable(audit_table(audited.report))
        for note in audited.notes:
            print_renderable(note)
    else:
        print_rows([_finding_row(finding) for finding in audited.report.findings], arguments.format)
    say(f"Written to {folder}")
    return 0


def _finding_row(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "code": finding.code,
        "count": finding.count,
        "text": finding.text,
        "next_step": finding.next_step,
    }


def cache_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones cache list|verify|clean``."""
    return {"list": _cache_list, "verify": _cache_verify, "clean": _cache_clean}[arguments.action](arguments)


def _cache_list(arguments: argparse.Namespace) -> int:
    from benchmark.embeddings import EmbeddingStore

    entries = EmbeddingStore(arguments.cache).entries(count_rows=True)
    print_rows([_cache_row(entry) for entry in entries], arguments.format)
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


def _cache_verify(arguments: argparse.Namespace) -> int:
    from benchmark.embeddings import EmbeddingStore

    with make_observer(quiet=arguments.quiet) as observer:
        report = EmbeddingStore(arguments.cache).verify(observer)
    for damage in report.damages:
        say(f"damaged: {damage}")
    for path in report.strangers:
        say(f"not ours: {path}")
    facts = {"keys": report.keys, "parts": report.parts, "rows": report.rows, "size_bytes": report.size_bytes}
    print_rows([{**facts, "damaged": len(report.damages)}], arguments.format)
    return 1 if report.damages else 0


def _cache_clean(arguments: argparse.Namespace) -> int:
    from benchmark.embeddings import EmbeddingStore
    from benchmark.pipeline import clean_scratch

    store = EmbeddingStore(arguments.cache)
    keys = []
    if arguments.backbones is not None:
        names = {backbone.architecture for backbone in select(arguments.backbones)}
        keys = [entry.key for entry in store.entries() if entry.key and entry.key.backbone in names]
    removed = [store.clean(keys)]
    if arguments.cache_limit_gb is not None:
        removed.append(store.enforce_limit(round(arguments.cache_limit_gb * 1e9)))
    joined = sum(store.compact(entry.key) for entry in store.entries() if entry.key and entry.parts > 1)
    freed = sum(one.size_bytes for one in removed)
    gone = sum(len(one.paths) for one in removed) + len(clean_scratch(arguments.cache))
    if arguments.format == "table":
        put(f"joined parts: {joined} fewer\n" if joined else "")
        put(f"removed {gone} files and folders, {freed:,} bytes\n")
    else:
        print_rows([{"removed": gone, "size_bytes": freed, "parts_fewer": joined}], arguments.format)
    return 0


def report_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones report``."""
    if arguments.compare is not None:
        return _compare(arguments)
    if arguments.data is None:
        raise ArgumentError("DATA or --compare is needed", next_step="See 'backbones report --help'.")
    from benchmark.pipeline import rebuild_report

    with make_observer(quiet=arguments.quiet) as observer:
        ranked = rebuild_report(
            arguments.data, results=arguments.results, cache=arguments.cache, observer=observer
        )
    print_board(ranked.board, arguments.format)
    say(f"Written to {ranked.folder}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from benchmark.reporting import compare_runs, comparison_table

    comparison = compare_runs(*arguments.compare)
    if arguments.format == "table":
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
        print_rows(rows, arguments.format)
    return 0


def weights_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones weights fetch|verify|bundle``."""
    from benchmark.pipeline import bundle_backbones, check_bundle, fetch_backbones

    if (arguments.action == "fetch") != (arguments.folder is None):
        needs = "takes no" if arguments.action == "fetch" else "needs a"
        raise ArgumentError(
            f"'weights {arguments.action}' {needs} folder",
            expected="'fetch' (into Keras's own folder), 'bundle DIR' or 'verify DIR'",
        )
    with make_observer(quiet=arguments.quiet) as observer:
        if arguments.action == "verify":
            rows = check_bundle(arguments.folder)
        elif arguments.action == "fetch":
            rows = fetch_backbones(select(arguments.backbones), observer)
        else:
            chosen = select(arguments.backbones)
            rows = bundle_backbones(chosen, arguments.folder, cache=arguments.cache, observer=observer)
    print_rows(rows, arguments.format)
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


def rank_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones rank``."""
    from benchmark.pipeline import rank_backbones

    if arguments.from_run is not None:
        from benchmark.cli.repeating import stored_run

        arguments, words = stored_run(arguments, words)
    if arguments.data is None:
        raise ArgumentError("DATA or --from is needed", next_step="See 'backbones rank --help'.")
    with make_observer(quiet=arguments.quiet) as observer:
        ranked = rank_backbones(_rank_request(arguments, words), observer)
    print_board(ranked.board, arguments.format)
    if not arguments.quiet:
        say(f"Written to {ranked.folder} (this run: {ranked.run})")
        for line in _what_now(ranked, arguments):
            say(line)
    if ranked.replaced:
        say(ranked.replaced)
    return 0


def _what_now(ranked: Ranked, arguments: argparse.Namespace) -> Iterator[str]:
    """What to do with a board: the pick and why, the page to open, the next command."""
    board = ranked.board
    page = f"Open {ranked.folder / 'leaderboard.html'}"
    if board.winner is None:
        yield f"No pick: the scores are at chance level, or the images too few. {page}"
        yield f"Next: {shlex.join(['backbones', 'audit', str(arguments.data), *_places(arguments)])}"
        return
    first = next(row for row in board.rows if row["backbone"] == board.winner)
    yield (
        f"Pick: {board.winner} ({first['size_bytes'] / 1e6:.1f} MB, val F1 {first['val_f1']:.3f}), which may "
        f"give away up to {board.loss_bound:.3f} F1 to the best. {page}"
    )
    words = ["backbones", "finetune", str(arguments.data), "--winner", board.winner, *_places(arguments)]
    yield f"Next: {shlex.join(words)}"


def _places(arguments: argparse.Namespace) -> list[str]:
    """The folders of a command, where they are not the usual ones."""
    usual = (("--cache", arguments.cache, "embeddings_cache"), ("--results", arguments.results, "results"))
    return [word for name, path, default in usual if str(path) != default for word in (name, str(path))]


def _embed_request(arguments: argparse.Namespace) -> EmbedRequest:
    from benchmark.pipeline import EmbedRequest

    limit = arguments.cache_limit_gb
    return EmbedRequest(
        data=arguments.data,
        backbones=select(arguments.backbones, seed=arguments.seed),
        weights=parse_weights(arguments.weights, seed=arguments.seed),
        size=arguments.size,
        resize=arguments.resize,
        engine=arguments.engine,
        precision=arguments.precision,
        cache=arguments.cache,
        options=read.data_options(arguments),
        jobs=arguments.jobs,
        max_size_mb=arguments.max_size_mb,
        cache_limit_bytes=round(limit * 1e9) if limit else None,
        fallback_random=getattr(arguments, "fallback_random", False),
    )


def _audit_request(arguments: argparse.Namespace) -> RankRequest:
    from benchmark.pipeline import EmbedRequest, RankRequest

    embed = EmbedRequest(
        data=arguments.data,
        backbones=select(arguments.backbones, seed=arguments.seed),
        weights=parse_weights(arguments.weights, seed=arguments.seed),
        cache=arguments.cache,
        options=read.data_options(arguments),
    )
    return RankRequest(embed=embed, results=arguments.results, auto_groups=read.wants_auto_groups(arguments))


def _rank_request(arguments: argparse.Namespace, words: Sequence[str]) -> RankRequest:
    from benchmark.cli.repeating import portable
    from benchmark.pipeline import RankRequest, Search

    return RankRequest(
        embed=_embed_request(arguments),
        results=arguments.results,
        protocol=read.head_protocol(arguments),
        protocol_given=arguments.protocol is not None,
        auto_groups=read.wants_auto_groups(arguments),
        max_latency_ms=arguments.max_latency_ms,
        max_loss=arguments.max_loss,
        search=Search(arguments.search),
        audit_search=arguments.audit_search,
        arguments=portable(arguments, words),
    )
