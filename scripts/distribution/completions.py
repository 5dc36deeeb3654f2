"""The completions of the command line for bash, zsh and fish, made from its parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from nvdimmfs.cli.main import complete_parser
from nvdimmfs.machine_file.files import machines

#: Where each shell looks for the completions of a program, below share/.
FILES = {
    "bash": "bash-completion/completions/nvdimmfs",
    "zsh": "zsh/site-functions/_nvdimmfs",
    "fish": "fish/vendor_completions.d/nvdimmfs.fish",
}


def completions() -> dict[str, str]:
    """The text of each file of `FILES`, by its path."""
    return {path: _completion(shell) for shell, path in FILES.items()}


def _completion(shell: str) -> str:
    parser = complete_parser()
    completers = {
        "DIR": shtab.DIRECTORY,
        "FOLDER": shtab.DIRECTORY,
        "FILE": shtab.FILE,
        "NAME|FILE": _machine_or_file(),
        "-- COMMAND": _COMMAND,
    }
    for action in _actions(parser):
        if action.metavar in completers:
            action.complete = completers[action.metavar]  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Those of a parser and of its sub-commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for choice in action.choices.values():
                yield from _actions(choice)


def _machine_or_file() -> dict[str, str | dict[str, str]]:
    """What completes a machine's name, or a file."""
    names = " ".join(machines())
    return {
        "bash": "_nvdimmfs_machine_or_file",
        "zsh": "_nvdimmfs_machine_or_file",
        "fish": "(_nvdimmfs_machine_or_file)",
        "preamble": {
            "bash": f'_nvdimmfs_machine_or_file() {{\n  compgen -W "{names}" -- "$1"\n  compgen -f -- "$1"\n}}',
            "zsh": "_nvdimmfs_machine_or_file() {\n"
            f"  _alternative 'machines:machine:({names})' 'files:file:_files'\n}}",
            "fish": "function _nvdimmfs_machine_or_file\n"
            f"  printf '%s\\n' {names}\n  __fish_complete_path (commandline -ct)\nend",
        },
    }


#: What completes the command of `nvdimmfs run`.
_COMMAND: dict[str, str | dict[str, str]] = {
    "bash": "_nvdimmfs_command",
    "zsh": "_nvdimmfs_command",
    "fish": "(_nvdimmfs_command)",
    "preamble": {
        "bash": '_nvdimmfs_command() {\n  compgen -c -- "$1"\n  compgen -f -- "$1"\n}',
        "zsh": """_nvdimmfs_command() {
  if [[ $CURRENT -gt 1 && $words[1] == -- ]]; then
    shift words
    (( CURRENT -= 1 ))
  fi
  _normal
}""",
        "fish": """function _nvdimmfs_command
  set -l words (commandline -opc) (commandline -ct)
  set -l end (contains -i -- -- $words); or return
  complete -C (string join ' ' -- (string escape -- $words[(math $end + 1)..-1]))
end""",
    },
}
