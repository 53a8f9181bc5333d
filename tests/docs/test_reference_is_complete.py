"""Everything that users can meet is in docs/reference: settings, commands, metrics, error codes."""

import ast
import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

import sercha
from sercha.cli import docs
from sercha.settings import SETTINGS
from sercha.version import __version__

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
KEBAB = re.compile(r"[a-z]+(-[a-z]+)*")


def page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / "sercha").rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def constants(node: ast.AST) -> set[str]:
    return {
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant)
        and isinstance(each.value, str)
        and KEBAB.fullmatch(each.value)
    }


def positions_of_code() -> dict[str, int]:
    """Return where functions of ours take a parameter ``code``, counted without ``self``."""
    positions: dict[str, int] = {}
    for _, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [each.arg for each in node.args.args if each.arg != "self"]
                if "code" in names:
                    positions[node.name] = names.index("code")
    return positions


def codes_in(module: ast.Module, positions: dict[str, int]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.keyword) and node.arg == "code":
            # The parts of an f-string are no codes.
            if not any(isinstance(each, ast.JoinedStr) for each in ast.walk(node.value)):
                found |= constants(node.value)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and (
                target.id == "code" or target.id.endswith("_SENTENCE")
            ):
                found |= constants(node.value)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            position = positions.get(name, -1)
            if 0 <= position < len(node.args):
                found |= constants(node.args[position])
    return found


def error_codes() -> dict[str, str]:
    """Return every error code of the source with a file that has it."""
    positions = positions_of_code()
    return {code: str(path) for path, module in modules() for code in codes_in(module, positions)}


def test_configuration_page_is_what_the_table_says():
    assert page("configuration.md") == docs.configuration_page(), (
        "run `python -m sercha.cli.docs docs/reference`"
    )


def test_every_setting_has_a_heading():
    headings = set(re.findall(r"^## (\w+)$", page("configuration.md"), re.MULTILINE))

    assert {setting.name for setting in SETTINGS} <= headings


def test_command_page_is_what_the_commands_say():
    assert page("cli.md") == docs.command_page(), "run `python -m sercha.cli.docs docs/reference`"


def test_every_command_and_option_explains_itself():
    silent = [
        f"{name} {each.name}"
        for name, command in docs.commands()
        for each in command.params
        if each.name != "help" and not each.help
    ]
    assert silent == []
    assert [name for name, command in docs.commands() if not command.help] == []


def test_every_metric_is_documented():
    for module in pkgutil.walk_packages(sercha.__path__, "sercha."):
        if "metrics" in module.name:
            importlib.import_module(module.name)
    documented = set(re.findall(r"`(sercha_\w+|lockd_\w+)`", page("metrics.md")))

    names = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in REGISTRY.collect()
        if metric.name.startswith(("sercha_", "lockd_"))
    }

    assert names - documented == set()
    assert documented - names == set(), "documented, but gone"


def test_every_error_code_is_documented():
    documented = set(re.findall(r"^\| `([a-z-]+)`", page("errors.md"), re.MULTILINE))
    codes = error_codes()

    assert {code: path for code, path in codes.items() if code not in documented} == {}
    assert documented - codes.keys() == set(), "documented, but gone"


@pytest.mark.parametrize(
    "text",
    [
        'raise NotFound("x", code="planted-code")',
        'class Planted(SerchaError):\n    code = "planted-code"',
        'refuse(503, "planted-code", "x")',
        '_SENTENCE = {404: ("planted-code", "there is nothing")}',
    ],
)
def test_the_scan_finds_a_planted_code(text: str):
    assert codes_in(ast.parse(text), {"refuse": 1}) == {"planted-code"}


def test_the_version_is_the_one_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert project["version"] == __version__
