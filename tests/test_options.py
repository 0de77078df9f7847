"""An option is written once: the parser, the Python calls and ``run.json`` derive from it."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from benchmark import api
from benchmark import options as every
from benchmark.cli import parser
from benchmark.errors import ArgumentError, DataError
from benchmark.options import Options, RankOptions, ReadingOptions, choices, described
from benchmark.pipeline.requests import RankRequest
from benchmark.pipeline.stored import portable_options, stored_options
from benchmark.records import HeadProtocol
from benchmark.reporting import DataRecord, RunRecord

COMMANDS = list(parser.COMMANDS.items())


class Wallpapered(RankOptions):
    """Rank, with one option more."""

    heading = "walls"

    wallpaper: Annotated[int, Field(ge=3)] = every._option("rolls of it", 7, metavar="ROLLS")


def stored(request: RankRequest, folder: Path) -> Path:
    record = RunRecord(
        identifier="1",
        started="",
        options=portable_options(request),
        protocol=request.protocol,
        versions={},
        data=DataRecord(source="", name="", fingerprint="", images=0, classes=()),
        backbones={},
    )
    (folder / "run.json").write_text(record.to_json())
    return folder / "run.json"


def test_an_option_is_added_in_one_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It then stands in the parser and its help, in Python's signature and docstring, and in the record."""
    monkeypatch.setitem(parser.COMMANDS, "rank", Wallpapered)
    command, options, _ = parser.parse(["rank", "photos", "--wallpaper", "9"])
    assert (command, options) == ("rank", Wallpapered(data=Path("photos"), wallpaper=9))
    with pytest.raises(ArgumentError, match="`wallpaper`: expected"):
        parser.parse(["rank", "photos", "--wallpaper", "2"])
    with pytest.raises(SystemExit):
        parser.parse(["rank", "--help"])
    shown = capsys.readouterr().out
    assert "walls:\n  --wallpaper ROLLS" in shown
    assert "rolls of it (default 7)" in shown

    @api.takes(Wallpapered)
    def paper(data: str, **options: Any) -> object:  # noqa: ANN401
        """Paper a wall.

        Args:
            data: the wall.
            **options: those of the command.
        """
        return Wallpapered.check({"data": data, **options})

    assert inspect.signature(paper).parameters["wallpaper"].default == 7
    assert "    wallpaper: rolls of it (default 7)" in (inspect.getdoc(paper) or "")
    assert paper("photos", wallpaper=9) == options

    request = RankRequest(
        options=Wallpapered(data=Path("photos"), wallpaper=9), backbones=(), protocol=HeadProtocol()
    )
    assert json.loads(stored(request, tmp_path).read_text())["options"]["wallpaper"] == 9


@pytest.mark.parametrize(("command", "kind"), COMMANDS)
def test_a_record_of_options_reads_back(command: str, kind: type[Options]) -> None:
    required = {name: "x" for name, field in kind.model_fields.items() if field.is_required()}
    required |= {
        name: ["x"] for name in required if kind.model_fields[name].json_schema_extra["nargs"] == "+"
    }
    required |= {name: choices(kind.model_fields[name])[0] for name in {"action", "shell"} & set(required)}
    asked = kind.check(required)
    assert kind.read(json.loads(json.dumps(asked.model_dump(mode="json")))) == asked


@pytest.mark.parametrize(("command", "kind"), COMMANDS)
def test_every_option_says_what_it_is(command: str, kind: type[Options]) -> None:
    for name, field in kind.model_fields.items():
        assert described(field) or name == "name", name


def test_no_option_is_written_twice_with_one_meaning() -> None:
    """A field that stands in several classes differs in its default, its type or its help."""
    kinds = [one for one in vars(every).values() if isinstance(one, type) and issubclass(one, Options)]
    written = [
        (name, kind)
        for kind in kinds
        for name in vars(kind).get("__annotations__", ())
        if name in kind.model_fields
    ]
    assert len(written) > 80
    facts = [
        (name, str(kind.__annotations__[name]), described(kind.model_fields[name])) for name, kind in written
    ]
    assert sorted(facts) == sorted(set(facts))


def test_values_come_as_text_or_as_what_they_are() -> None:
    said = {"size": "native", "threshold": "recall=0.9", "engine": "auto", "bit_depth": "12", "epochs": "9"}
    meant = {"size": None, "threshold": every.ThresholdRule.parse("recall=0.9"), "bit_depth": 12, "epochs": 9}
    assert RankOptions.check({"data": "x", **said}) == RankOptions.check({"data": Path("x"), **meant})
    assert RankOptions.check({"data": "x", "backbones": ["A*", "B"]}).backbones == "A*,B"


def test_a_home_is_one_in_every_option_that_is_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {"data": "~/photos", "cache": Path("~/bb"), "results": "~/results"}
    asked = RankOptions.check(given)
    places = (tmp_path / "photos", tmp_path / "bb", tmp_path / "results")
    assert (asked.data, asked.cache, asked.results) == places
    nobody = Path("~nobody-of-this-name/bb")
    assert RankOptions.check(given | {"cache": nobody}).cache == nobody


def test_what_cannot_be_names_the_option_and_what_it_takes() -> None:
    for given, part in (
        ({"folds": 1}, "`folds`: expected a whole number from 2 up; got 1"),
        ({"seed": -1}, "`seed`: expected a whole number from 0"),
        ({"seed": 2**32}, "`seed`: expected a whole number from 0"),
        ({"resize": "cubic"}, "`resize`: expected one of bilinear, area, native; got 'cubic'"),
        ({"max_loss": float("nan")}, "`max_loss`: expected a number from 0 to 1"),
        ({"threshold": 2}, "`threshold`: expected a number in (0, 1]"),
        ({"positive": 3}, "`positive`: expected text"),
        ({"quiet": True}, "`quiet`: no such option"),
    ):
        with pytest.raises(ArgumentError) as caught:
            RankOptions.check({"data": "x", **given})
        assert part in str(caught.value)
    with pytest.raises(ArgumentError, match="`data`: must be given"):
        RankOptions.check({})


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (
            every.WeightsOptions,
            {"action": "verify", "folder": "w", "backbones": "VGG16"},
            "`backbones=VGG16`",
        ),
        (every.CacheCommandOptions, {"action": "list", "backbones": "VGG16"}, "`backbones`.*got list"),
        (every.CacheCommandOptions, {"action": "verify", "cache_limit_gb": 1}, "`cache_limit_gb`"),
    ],
)
def test_what_would_be_ignored_is_refused(kind: type[Options], given: dict[str, object], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        kind.check(given)


def test_a_stored_run_is_repeated_with_other_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data and weights are found from any folder; what is given beside the record wins."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    asked = RankOptions.check({"data": "photos/", "weights": "weights", "repeats": 2, "average": "macro"})
    file = stored(RankRequest(options=asked, backbones=(), protocol=HeadProtocol()), tmp_path)
    monkeypatch.chdir("/")
    _, again, _ = parser.parse(["rank", f"--from={file}", "--seed", "7", "--quiet"])
    assert again == asked.but(data=tmp_path / "photos", weights=tmp_path / "weights", seed=7)
    _, moved, _ = parser.parse(["rank", "other", "--from", str(file)])
    assert moved == asked.but(data="other", weights=tmp_path / "weights")


def test_a_record_that_holds_other_options_is_refused(tmp_path: Path) -> None:
    asked = RankOptions(data=Path("photos"))
    file = stored(RankRequest(options=asked, backbones=(), protocol=HeadProtocol()), tmp_path)
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"options": content["options"] | {"steam": 3}}))
    with pytest.raises(DataError, match=r"no such option.*backbones rank"):
        stored_options(file)
    file.write_text(json.dumps(content | {"argv": ["rank", "photos"]}))  # as another version wrote it
    with pytest.raises(DataError, match=r"unknown keys: argv.*run 'backbones rank' again"):
        stored_options(file)


def test_options_in_messages_read_as_on_the_command_line() -> None:
    text = "`max_loss`: no. Give `groups=COLUMN` and `data`, not `steam`."
    assert parser.as_flags(text, "rank") == "--max-loss: no. Give --groups COLUMN and DATA, not `steam`."


def test_a_typo_in_python_is_told_with_what_is_close() -> None:
    with pytest.raises(
        TypeError, match=r"rank\(\) got an unexpected keyword argument 'bakbones'. Did you mean backbones"
    ):
        api.rank("photos", bakbones="all")
    signature = inspect.signature(api.rank)
    assert set(signature.parameters) == {*RankOptions.model_fields, "observer"}
    for name in ReadingOptions.model_fields:
        assert f"    {name}: " in (api.rank.__doc__ or "")


def texts_of(path: Path) -> list[str]:
    """Every text of a module but its docstrings; a text with values in it as one."""
    tree = ast.parse(path.read_text())
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    elsewhere = {id(part) for node in joined for part in ast.walk(node)}
    elsewhere |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    plain = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in elsewhere]
    return [ast.unparse(node) for node in joined] + [str(node.value) for node in plain]


def test_no_package_but_the_command_line_writes_a_flag() -> None:
    """An error says ```name=value```; findings of the audit, and whole commands, are for people."""
    package = Path(every.__file__).parent
    modules = [one for one in package.rglob("*.py") if one.parent.name not in {"cli", "audit"}]
    modules.remove(package / "deployment" / "measure.py")  # a command line of its own
    texts = [(path.name, text) for path in modules for text in texts_of(path) if "backbones " not in text]
    assert len(texts) > 1000
    assert [one for one in texts if re.search(r"[ (]--[a-z]", one[1])] == []
