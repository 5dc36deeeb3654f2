"""What the command line answers to arguments that no command has, and to values that are empty."""

from __future__ import annotations

import argparse

import pytest

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.main import complete_parser, parse


@pytest.mark.parametrize(
    ("arguments", "unknown", "command"),
    [
        (["show", "--frob", "machine"], "--frob", "nvdimmfs show"),
        (["machine", "list", "--frob"], "--frob", "nvdimmfs machine list"),
        (["show", "machine", ""], "''", "nvdimmfs show"),
    ],
)
def test_unknown_option_names_the_help_of_its_command(arguments: list[str], unknown: str, command: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse(arguments)
    assert str(caught.value) == f"unrecognized arguments: {unknown} (see {command} --help)"
    assert caught.value.status == MISUSED


def commands(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Each command that has arguments of its own, with its words."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        return [(words, parser)]
    return [
        found for group in groups for name, each in group.choices.items() for found in commands(each, (*words, name))
    ]


#: What names a file or a folder: the working directory, if it is empty.
NAMES = {"FILE", "FOLDER", "DIR", "NAME|FILE", "STEPS", "RECORDING", "A", "B"}


def names_of_files() -> list[tuple[tuple[str, ...], argparse.Action, list[str]]]:
    """Each command with an argument or option that names a file, and a command line in which that is empty."""
    found = []
    for words, parser in commands(complete_parser()):
        for action in parser._actions:
            if action.metavar in NAMES:
                option = [action.option_strings[-1], ""] if action.option_strings else []
                others = ["" if each is action else "x" for each in parser._get_positional_actions()]
                found.append((words, action, [*words, *option, *others]))
    return found


@pytest.mark.parametrize(("words", "action", "line"), names_of_files())
def test_empty_name_of_a_file_is_refused(words: tuple[str, ...], action: argparse.Action, line: list[str]) -> None:
    """An unset variable of a script must not name the working directory."""
    with pytest.raises(CommandError) as caught:
        parse(line)
    name = "/".join(action.option_strings) or action.metavar
    assert str(caught.value) == f"argument {name}: it is empty (see {' '.join(('nvdimmfs', *words))} --help)"
    assert caught.value.status == MISUSED
