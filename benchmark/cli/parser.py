"""The command line's grammar, derived from each command's options. Nothing here imports a large library."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from pydantic.fields import FieldInfo

from benchmark import __version__, options
from benchmark.errors import ArgumentError
from benchmark.locations import path_of
from benchmark.options import Options, OutputOptions, RankOptions, choices, described

COMMANDS: dict[str, type[Options]] = {
    "list": options.ListOptions,
    "audit": options.AuditOptions,
    "embed": options.EmbedOptions,
    "plan": options.PlanOptions,
    "rank": RankOptions,
    "report": options.ReportOptions,
    "finetune": options.FinetuneOptions,
    "study": options.StudyOptions,
    "export": options.ExportOptions,
    "predict": options.PredictOptions,
    "evaluate": options.EvaluateOptions,
    "serve": options.ServeOptions,
    "recipes": options.RecipesOptions,
    "cache": options.CacheCommandOptions,
    "weights": options.WeightsOptions,
    "device": options.DeviceOptions,
    "demo": options.DemoOptions,
    "completion": options.CompletionOptions,
}
_FROM = "from"
_EXAMPLES = """examples:
  backbones demo demo_data
  backbones rank demo_data --backbones 'MobileNet*' --weights random
  backbones rank photos/ --groups auto --max-size-mb 20
  backbones finetune photos/ --winner auto
"""


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are ours: one message, exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage and leaving."""
        raise ArgumentError(message, next_step=f"See '{self.prog} --help'.")


def parse(words: Sequence[str]) -> tuple[str, Options, OutputOptions]:
    """The command, its options and what it prints.

    Raises:
        ArgumentError: no such command or option, or a value that cannot be.
        DataError: the stored run to repeat cannot be read.
    """
    given = vars(make_parser(words).parse_args(words))
    command = given.pop("command", None)
    if command is None:
        raise ArgumentError("no command given", next_step="See 'backbones --help'.")
    printed = {name: given.pop(name) for name in OutputOptions.model_fields if name in given}
    stored = given.pop(_FROM, None)
    if stored is not None:
        from benchmark.pipeline import stored_options

        given = stored_options(path_of(stored)) | given
    elif command == "rank" and "data" not in given:
        raise ArgumentError("DATA or --from is needed", next_step="See 'backbones rank --help'.")
    try:
        return command, COMMANDS[command].check(given), OutputOptions.check(printed)
    except ArgumentError as error:
        raise ArgumentError(
            error.what,
            where=error.where,
            expected=error.expected,
            got=error.got,
            next_step=f"See 'backbones {command} --help'.",
        ) from error


def as_flags(text: str, command: str = "rank") -> str:
    """A message in which options that stand as ```name=value``` read as on the command line.

    Args:
        text: from any package: only this one knows how options are written.
        command: whose options are meant.
    """
    known = {**OutputOptions.model_fields, **COMMANDS.get(command, OutputOptions).model_fields}

    def flag(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in known:
            return found[0]
        return f"{_flag(name, known[name])} {value}" if value else _flag(name, known[name])

    return re.sub(r"`([a-z_]+)(?:=([^`]*))?`", flag, text)


def _flag(name: str, field: FieldInfo) -> str:
    extra: Any = field.json_schema_extra
    return extra["metavar"] or name if extra["positional"] else f"--{name.replace('_', '-')}"


def make_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of the whole command line; it tells words apart, ``Options.check`` says what they may be.

    Args:
        words: of the command line. Only where they are about it is a large package asked for a list of names.
    """
    parser = _Parser(
        prog="backbones",
        description="Which pretrained Keras model should I fine-tune, how sure are we, what does it cost?",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"backbones {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=_Parser)
    for name, kind in COMMANDS.items():
        about = inspect.getdoc(kind) or ""
        own = commands.add_parser(
            name,
            help=about[0].lower() + about[1:].removesuffix("."),
            description=about,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        own.set_defaults(command=name)
        _add_options(own, kind)
        if name == "export" and name in words:
            from benchmark.deployment import target_names

            own.epilog = f"targets: {', '.join(target_names())}"
    return parser


def _add_options(parser: argparse.ArgumentParser, kind: type[Options]) -> None:
    is_ranking = issubclass(kind, RankOptions)
    for name, field in kind.model_fields.items():  # their order is that of the fields
        extra: Any = field.json_schema_extra
        if extra["positional"]:
            _add(parser, name, field, nargs="?" if is_ranking else extra["nargs"])
    if is_ranking:
        parser.add_argument(f"--{_FROM}", metavar="RUN_JSON", help="repeat a stored run")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for heading, fields in (*kind.by_heading(), *OutputOptions.by_heading()):
        for name, field in fields.items():
            extra = field.json_schema_extra
            if not extra["positional"]:
                if heading and heading not in groups:
                    groups[heading] = parser.add_argument_group(heading, kind.about.get(heading))
                _add(groups.get(heading, parser), name, field, nargs=extra["nargs"])


def _add(parser: argparse._ActionsContainer, name: str, field: FieldInfo, *, nargs: str | int | None) -> None:
    extra: Any = field.json_schema_extra
    how: dict[str, Any] = {"help": described(field).replace("%", "%%")}
    if field.annotation is bool:
        how["action"] = "store_true"
    else:
        how |= {
            "metavar": extra["metavar"] or "|".join(choices(field)),
            "nargs": nargs,
            "const": extra["const"],
        }
    if extra["positional"]:
        del how["const"]
        parser.add_argument(name, **how)
    else:
        parser.add_argument(_flag(name, field), dest=name, required=field.is_required(), **how)
