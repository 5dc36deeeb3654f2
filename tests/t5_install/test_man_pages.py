"""The man pages: complete, without a warning from mandoc and man, and true."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from nvdimmfs.cli.main import complete_parser
from nvdimmfs.cli.manual import MANUALS


def parsers(parser):
    """A parser and those of its sub-commands, by the full name of the command."""
    found = {parser.prog: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action.choices.values():
                found.update(parsers(choice))
    return found


PARSERS = parsers(complete_parser())
PAGES = [name.replace(" ", "-") for name in PARSERS]

#: In the order of man-pages(7).
HEADINGS = ["NAME", "SYNOPSIS", "DESCRIPTION", "ARGUMENTS", "OPTIONS", "COMMANDS", "ACTIONS", "EXIT STATUS", "FILES"]
HEADINGS += ["EXAMPLES", "SEE ALSO"]


def tool(name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def rendered(page):
    done = subprocess.run(
        [tool("man"), "--warnings=w", "--nh", "--nj", "-l", page],
        env={"MANWIDTH": "100", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "MAN_KEEP_FORMATTING": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_each_command_has_a_manual_and_a_page(share):
    assert sorted(MANUALS) == sorted(PARSERS)
    assert sorted(path.stem for path in (share / "man/man1").iterdir()) == sorted(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_the_sections_of_a_page_are_in_order(share, name):
    headings = re.findall(r"^\.SH (.+)$", (share / f"man/man1/{name}.1").read_text(), re.MULTILINE)
    assert headings == [heading for heading in HEADINGS if heading in headings]
    assert {"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} <= set(headings)


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_has_no_warning(share, name):
    page = share / f"man/man1/{name}.1"
    done = subprocess.run([tool("mandoc"), "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("name", PARSERS)
def test_man_shows_every_argument(share, name):
    page = name.replace(" ", "-")
    text = rendered(share / f"man/man1/{page}.1")
    assert re.search(rf"^ +{page} +- \w", text, re.MULTILINE)
    assert "`" not in text
    for action in PARSERS[name]._actions:
        if not isinstance(action, (argparse._SubParsersAction, argparse._HelpAction)):
            term = action.option_strings[-1] if action.option_strings else action.metavar
            assert re.search(rf"^ +(-\w( \w+)?, )?{re.escape(term)}\b", text, re.MULTILINE), term


@pytest.mark.parametrize("name", PARSERS)
def test_references_to_our_own_pages_lead_somewhere(share, name):
    text = (share / f"man/man1/{name.replace(' ', '-')}.1").read_text().replace(r"\-", "-").replace(r"\fR", "")
    references = set(re.findall(r"\b(nvdimmfs[a-z-]*)\(1\)", text))
    assert references <= set(PAGES)


@pytest.mark.parametrize("name", PARSERS)
def test_examples_are_command_lines_that_the_parser_accepts(name):
    for example in MANUALS[name].examples:
        program, *arguments = shlex.split(example.command)
        if program == "nvdimmfs":
            assert complete_parser().parse_args(arguments).run
            assert name == "nvdimmfs" or name in example.command


def test_help_shows_the_examples_and_the_exit_statuses_of_the_manual():
    text = PARSERS["nvdimmfs run"].format_help()
    for example in MANUALS["nvdimmfs run"].examples:
        assert f"\n  {example.command}\n" in text
    assert "\n  127    COMMAND was not found.\n" in text


def test_only_help_loads_the_manual():
    program = (
        "import sys; from nvdimmfs.cli.main import main\n"
        "main(sys.argv[1:]); print('nvdimmfs.cli.manual' in sys.modules)"
    )
    for arguments, loads in (["plan", "False"], ["plan --help", "True"]):
        argv = [sys.executable, "-c", program, *arguments.split()]
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.endswith(f"{loads}\n")
