"""The man pages, made from the parsers of the command line and from `nvdimmfs.cli.manual`."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]

from nvdimmfs import __version__
from nvdimmfs.cli.main import complete_parser
from nvdimmfs.cli.manual import manual_of, paragraphs_of, statuses_of
from nvdimmfs.cli.manual_parts import Entry, Example

SECTION = 1
TITLE = "nvdimmfs Manual"

#: argparse wraps a usage at the width of the terminal; here it is never wrapped.
_NO_WRAPPING = "10000"

#: Where the date of a release stands in the changelog.
_RELEASE = re.compile(r"^## \[?[^\s\]]+\]? - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)


def man_pages(changelog: Path) -> dict[str, str]:
    """The text of each page by its file name.  The date is that of the newest release in the changelog."""
    dates = _RELEASE.findall(changelog.read_text(encoding="utf-8"))
    os.environ["COLUMNS"] = _NO_WRAPPING
    parsers = list(_parsers(complete_parser(), "emulate Linux persistent memory in user space"))
    return {
        f"{_page(parser.prog)}.{SECTION}": _text(parser, summary, dates[0] if dates else "")
        for parser, summary in parsers
    }


def _parsers(parser: argparse.ArgumentParser, summary: str) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """A parser and those below it, each with its summary."""
    yield parser, summary
    for action in _subparsers(parser):
        for name, choice in action.choices.items():
            yield from _parsers(choice, _summaries(action)[name])


def _subparsers(parser: argparse.ArgumentParser) -> list[argparse._SubParsersAction[argparse.ArgumentParser]]:
    return [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]


def _summaries(action: argparse._SubParsersAction[argparse.ArgumentParser]) -> Mapping[str, str]:
    return {choice.dest: choice.help or "" for choice in action._get_subactions()}


def _text(parser: argparse.ArgumentParser, summary: str, date: str) -> str:
    commands = _listed_commands(parser)
    usage = _synopsis(parser)
    description = [parser.description or "", *paragraphs_of(parser.prog)]
    parser.description = None
    parser._positionals.title = "arguments"
    _remove_commands(parser)
    page = Manpage(
        parser,
        _data={
            "date": date,
            "description": summary,
            "manual_section": SECTION,
            "manual_title": TITLE,
            "project_name": "nvdimmfs",
            "version": __version__,
        },
    )
    title = _page(parser.prog)
    page.prog = title
    page.add_section("synopsis", "=", usage)
    page.add_section("description", "=", "\n.PP\n".join(map(_roff, description)))
    for heading, content in (*commands, *_sections(parser.prog)):
        page.add_section(heading, "=", content)
    head, _, rest = str(page).partition("\n")
    return _with_bold_code(head.replace("\\-", "-") + "\n" + rest)


def _page(prog: str) -> str:
    """The name of a command's page: `nvdimmfs-machine-list`."""
    return prog.replace(" ", "-")


def _synopsis(parser: argparse.ArgumentParser) -> str:
    """The usage, with options in bold and what stands for a value in italics; no line ends within brackets."""
    usage = " ".join(parser.format_usage().split()[1:]).removeprefix(parser.prog).replace("[-h]", "").strip()
    usage = re.sub(r"\[[^\[\]]*\]", lambda match: match[0].replace(" ", "\0"), usage)
    usage = re.sub(r"(?<![\w|-])[A-Z]{2,}(\|[A-Z]+)*", lambda match: rf"\fI{match[0]}\fR", _roff(usage))
    usage = re.sub(r"(\\-){1,2}[a-z][a-z\\-]*", lambda match: rf"\fB{match[0]}\fR", usage).replace("\0", r"\ ")
    return f'.SY "{_roff(parser.prog)}"\n{usage}\n.YS'


def _listed_commands(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """A section that lists the sub-commands and names their pages, if there are any."""
    entries = [
        Entry(name, f"{summary[:1].upper()}{summary[1:]}: see {_page(action.choices[name].prog)}({SECTION}).")
        for action in _subparsers(parser)
        for name, summary in _summaries(action).items()
    ]
    return [("commands", _entries(entries))] if entries else []


def _remove_commands(parser: argparse.ArgumentParser) -> None:
    """Take the sub-commands out of a parser: they have pages of their own."""
    parser._action_groups = [
        group
        for group in parser._action_groups
        if not any(isinstance(action, argparse._SubParsersAction) for action in group._group_actions)
    ]


def _sections(prog: str) -> Iterator[tuple[str, str]]:
    """The sections below the options."""
    manual = manual_of(prog)
    yield "exit status", _entries(statuses_of(prog))
    if manual.files:
        yield "files", _entries(manual.files)
    if manual.examples:
        yield "examples", "\n.PP\n".join(map(_example, manual.examples))
    related = manual.see_also if prog == "nvdimmfs" else ("nvdimmfs(1)", *manual.see_also)
    yield "see also", ",\n".join(_reference(each) for each in sorted(set(related), key=related.index))


def _example(example: Example) -> str:
    command = _roff(f"$ {example.command}")
    return f"{_roff(example.purpose)}\n.PP\n.RS 4\n.EX\n{command}\n.EE\n.RE"


def _entries(entries: Iterable[Entry]) -> str:
    return "\n".join(f".TP\n\\fB{_roff(each.term)}\\fR\n{_roff(each.text)}" for each in entries)


def _reference(page: str) -> str:
    name, section = page.rstrip(")").split("(")
    return rf"\fB{_roff(name)}\fR({section})"


def _roff(text: str) -> str:
    """Text that troff prints as it is."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text.startswith((".", "'")) else text


def _with_bold_code(text: str) -> str:
    """What stands in backticks in bold, without them, and references to pages as such."""
    text = re.sub(r"`([^`\n]+)`", r"\\fB\1\\fR", text)
    return re.sub(r"(?<![\w\\-])((?:\w|\\-)+)\(([1-8])\)(?!\\)", r"\\fB\1\\fR(\2)", text)
