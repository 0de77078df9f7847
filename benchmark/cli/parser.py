"""All commands with their arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from benchmark import __version__
from benchmark.cli import arguments as add
from benchmark.deployment import target_names
from benchmark.statistics import DEFAULT_MARGIN

_EXAMPLES = """examples:
  backbones demo demo_data
  backbones rank demo_data --backbones 'MobileNet*' --weights random
  backbones rank photos/ --groups auto --max-size-mb 20
  backbones finetune photos/ --winner auto
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; ``command`` of its result names a function of ``commands``."""
    parser = add.Parser(
        prog="backbones",
        description="Which pretrained Keras model should I fine-tune, how sure are we, what does it cost?",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"backbones {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=add.Parser)
    for register in (_list, _audit, _embed, _rank, _report, _finetune, _export, _predict, _evaluate):
        register(commands)
    for register in (_recipes, _cache, _weights, _demo):
        register(commands)
    return parser


_ABOUT_MODELS = {"recipes", "finetune", "export", "predict", "evaluate"}
_Commands: TypeAlias = "argparse._SubParsersAction[add.Parser]"


def _command(commands: _Commands, name: str, text: str) -> add.Parser:
    parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    room = "model_commands" if name in _ABOUT_MODELS else "commands"
    parser.set_defaults(room=room, command=f"{name}_command")
    return parser


def _list(commands: _Commands) -> None:
    parser = _command(commands, "list", "the backbones as a table")
    add.add_backbones(parser)
    add.add_output(parser)


def _audit(commands: _Commands) -> None:
    parser = _command(commands, "audit", "find corrupt, duplicate and leaking images")
    add.add_data(parser)
    add.add_backbones(parser, about="whose cached embeddings help to find look-alikes; nothing is embedded")
    add.add_folders(parser)
    add.add_output(parser)


def _embed(commands: _Commands) -> None:
    parser = _command(commands, "embed", "fill the embedding cache")
    add.add_data(parser)
    add.add_embedding(parser)
    add.add_folders(parser, results=False)
    add.add_output(parser)


def _rank(commands: _Commands) -> None:
    parser = _command(commands, "rank", "embed what is missing, train heads, write the leaderboard")
    add.add_rank_data(parser)
    add.add_embedding(parser)
    add.add_protocol(parser)
    group = parser.add_argument_group("board")
    group.add_argument(
        "--max-loss",
        type=add.share,
        default=DEFAULT_MARGIN,
        metavar="F1",
        help=f"F1 that the winner may give away for being smaller (default {DEFAULT_MARGIN:g})",
    )
    group.add_argument(
        "--max-latency-ms",
        type=add.positive_float,
        metavar="MS",
        help="skip backbones slower than this on one image",
    )
    group.add_argument(
        "--search",
        choices=["exhaustive", "halving"],
        default="exhaustive",
        help="halving drops unlikely winners on growing subsets (default exhaustive)",
    )
    group.add_argument(
        "--audit-search",
        action="store_true",
        help="after an exhaustive run, say what halving would have done",
    )
    group.add_argument(
        "--fallback-random",
        action="store_true",
        help="random weights for all, with a loud banner, when ImageNet's cannot be had",
    )
    add.add_folders(parser)
    add.add_output(parser)


def _report(commands: _Commands) -> None:
    parser = _command(
        commands, "report", "rebuild tables and plots from stored outcomes, or compare two runs"
    )
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA", help="the data set that was ranked")
    parser.add_argument(
        "--compare",
        type=Path,
        nargs=2,
        metavar=("A", "B"),
        help="two run folders: name what changed between them",
    )
    add.add_folders(parser)
    add.add_output(parser)


def _finetune(commands: _Commands) -> None:
    parser = _command(commands, "finetune", "two-phase fine-tuning of one backbone")
    add.add_data(parser)
    add.add_finetuning(parser)
    add.add_folders(parser)
    add.add_output(parser)


def _export(commands: _Commands) -> None:
    parser = _command(commands, "export", "convert a fine-tuned model, then compare it with the original")
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument(
        "--to", required=True, metavar="TARGETS", help=f"comma-separated: {', '.join(target_names())}, all"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DATA", help="the images it was trained on, where they have moved"
    )
    parser.add_argument(
        "--parity-images",
        type=add.whole_number,
        default=2000,
        metavar="N",
        help="compare on at most N validation images, stratified; 0 takes all (default 2000)",
    )
    parser.add_argument(
        "--timeout",
        type=add.positive_float,
        default=900.0,
        metavar="SECONDS",
        help="for one conversion or one comparison (default 900)",
    )
    add.add_output(parser)


def _predict(commands: _Commands) -> None:
    parser = _command(commands, "predict", "labels and probabilities of images")
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="a fine-tuned or exported model")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGES", help="files or folders")
    parser.add_argument(
        "--tiles",
        type=add.positive_int,
        nargs="?",
        const=224,
        metavar="SIDE",
        help="slide windows over large photographs (default side 224)",
    )
    parser.add_argument(
        "--overlap", type=add.share_below_one, help="with --tiles: of neighbouring windows (default 0.5)"
    )
    parser.add_argument(
        "--merge",
        choices=["max", "mean"],
        help="with --tiles: how windows are merged (default max; mean for exclusive classes)",
    )
    add.add_threshold(parser)
    parser.add_argument("--heatmaps", type=Path, metavar="DIR", help="write overlay pictures that show where")
    parser.add_argument("--follow-links", action="store_true", help="allow links that leave a folder given")
    parser.add_argument("--batch-size", type=add.positive_int, default=32, help="default 32")
    parser.add_argument(
        "--max-pixels",
        type=add.positive_int,
        metavar="N",
        help="refuse larger images (default 50,000,000; with --tiles 200,000,000)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write to FILE.csv or FILE.json instead of printing"
    )
    add.add_output(parser)


def _evaluate(commands: _Commands) -> None:
    parser = _command(commands, "evaluate", "metrics of a model on other labelled images")
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="a fine-tuned or exported model")
    add.add_data(parser, split=False)
    add.add_threshold(parser)
    parser.add_argument(
        "--include-seen",
        action="store_true",
        help="score the images that the model was trained on with the others (default: apart)",
    )
    add.add_folders(parser)
    add.add_output(parser)


def _recipes(commands: _Commands) -> None:
    parser = _command(commands, "recipes", "list or show fine-tuning recipes")
    parser.add_argument("name", nargs="?", metavar="NAME")
    add.add_output(parser)


def _cache(commands: _Commands) -> None:
    parser = _command(commands, "cache", "look after the embedding cache")
    parser.add_argument(
        "action",
        choices=["list", "verify", "clean"],
        help="clean: remove stale and damaged files, and join small parts",
    )
    parser.add_argument(
        "--backbones", metavar="NAMES", help="clean: remove the embeddings of these backbones too"
    )
    parser.add_argument(
        "--cache-limit-gb",
        type=add.positive_float,
        metavar="GB",
        help="clean: the least recently used go beyond this size",
    )
    add.add_folders(parser, results=False)
    add.add_output(parser)


def _weights(commands: _Commands) -> None:
    parser = _command(commands, "weights", "prepare a machine without network")
    parser.add_argument(
        "action",
        choices=["fetch", "verify", "bundle"],
        help="fetch: into Keras's cache; bundle: into DIR; verify: check DIR",
    )
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="of bundle and verify")
    parser.add_argument(
        "--backbones", default="all", metavar="NAMES", help="to fetch or bundle (default all)"
    )
    add.add_folders(parser, results=False)
    add.add_output(parser)


def _demo(commands: _Commands) -> None:
    parser = _command(commands, "demo", "write the demo data set: 300 generated photographs of concrete")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--count", type=add.positive_int, default=300, help="images (default 300)")
    parser.add_argument("--seed", type=int, default=0)
    add.add_output(parser)
