"""What the pages tell people to type is what the programs take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
import typer
import typer.main

from sercha.cli.main import make_app
from tests.support.docs import ROOT, Block, blocks

PROMPT = "$ "
SERCHA = re.compile(r"(?:.*/)?sercha")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
SEPARATORS = {"|", "||", "&&", ";", "&"}


def commands(block: Block) -> Iterator[list[str]]:
    """Give the words of each command of a block: of all lines, or of those behind a prompt."""
    text = block.text.replace("\\\n", " ")
    lines = text.splitlines()
    if block.language == "console":
        lines = [line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT)]
    elif re.search(r"\$\([^)]*$", text, re.MULTILINE):
        lines = [text]  # a substitution over several lines
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        words: list[str] = []
        for word in lexer:
            if word in SEPARATORS:
                yield from _command(words)
                words = []
            else:
                words.append(word)
        yield from _command(words)


def _command(words: list[str]) -> Iterator[list[str]]:
    while words and (ASSIGNMENT.fullmatch(words[0]) or words[0] in {"env", "export"}):
        words = words[1:]
    if words:
        yield words


def parse(arguments: list[str]) -> None:
    """Take a command line apart as the program does, without running anything.

    Raises what the program would report: an unknown command or option, a value of the wrong type.
    """
    command = typer.main.get_command(make_app())
    context = command.make_context("sercha", list(arguments))
    while hasattr(command, "resolve_command"):
        words = [*getattr(context, "_protected_args", []), *context.args]
        name, command, rest = command.resolve_command(context, words)
        context = command.make_context(name, rest, parent=context)


def typed(program: re.Pattern[str]) -> list[object]:
    return [
        pytest.param(words[1:], id=f"{block.name} {' '.join(words)[:50]}")
        for block in blocks("bash", "console")
        for words in commands(block)
        if program.fullmatch(words[0])
    ]


@pytest.mark.parametrize("arguments", typed(SERCHA))
def test_a_command_line_of_a_page_is_taken_by_the_program(arguments: list[str]) -> None:
    parse(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["serch"],
        ["up", "--nonsense"],
        ["up", "--port", "abc"],
        ["source", "ad", "x"],
        ["sync", "a", "b"],
    ],
)
def test_the_check_of_command_lines_refuses_wrong_ones(arguments: list[str]) -> None:
    with pytest.raises(typer.BadParameter.__mro__[2]):
        parse(arguments)


def test_enough_command_lines_are_checked() -> None:
    assert len(typed(SERCHA)) >= 40


def test_commands_are_found_behind_assignments_and_pipes() -> None:
    block = Block(ROOT / "x.md", "bash", "A=1 B='2 3' sercha up | x\nsercha \\\n  api # note\n", 1)

    assert list(commands(block)) == [["sercha", "up"], ["x"], ["sercha", "api"]]


@pytest.mark.parametrize("arguments", typed(re.compile("make")))
def test_every_make_target_of_a_page_exists(arguments: list[str]) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

    assert {word for word in arguments if "=" not in word} <= targets


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.name)
def test_a_block_of_python_compiles(block: Block) -> None:
    compile(block.text, block.name, "exec")


def test_every_block_says_its_language() -> None:
    assert [block.name for block in blocks("")] == []


def test_every_path_to_a_test_in_a_command_exists() -> None:
    named = {
        word
        for block in blocks("bash", "console")
        for words in commands(block)
        for word in words
        if re.fullmatch(r"(?:tests|sercha|docs)/[\w./]+", word)
    }

    assert len(named) >= 3
    assert [path for path in named if not (ROOT / path).exists()] == []
