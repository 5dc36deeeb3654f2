"""`nvdimmfs lab coverage`: which attributes, ioctls and errnos recordings cover."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nvdimmfs.cli.errors import MISUSED, CommandError, require_docstrings
from nvdimmfs.errors import FAILED
from nvdimmfs.lab.coverage import RECORDED_KERNELS, as_json, as_text, coverage, recordings_below, sums, uncovered
from nvdimmfs.lab.evidence import shown_by


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON, with the names of all recordings")
    parser.add_argument(
        "--uncovered",
        action="store_true",
        help="print only what no recording covers; the exit status is 1 if there is any",
    )
    parser.add_argument(
        "--kernel", choices=RECORDED_KERNELS, help="with --uncovered: count only the recordings of this kernel"
    )
    parser.add_argument("folder", metavar="FOLDER", help="a folder with recordings of any form")


def run(arguments: argparse.Namespace) -> int:
    """Read the recordings, and print what they cover."""
    if arguments.kernel is not None and not arguments.uncovered:
        raise CommandError("--kernel needs --uncovered; give both", MISUSED)
    require_docstrings("the list of errnos")
    folder = Path(arguments.folder)
    names = recordings_below(folder)
    if not names:
        raise CommandError(f"{folder}: there is no recording below it", MISUSED)
    shown = {}
    for name in names:
        try:
            shown[name] = shown_by(folder / name)
        except ValueError as error:
            raise CommandError(f"{folder / name}: {error}") from None
    covered = coverage(shown)
    holes = uncovered(covered, arguments.kernel)
    if arguments.json:
        print(json.dumps(as_json(holes if arguments.uncovered else covered), indent=2))
    elif arguments.uncovered:
        for each in holes:
            print(f"{each.fact.subject.title}, {each.fact.subject.name}: {each.words}")
        print(sums(covered))
    else:
        print("\n".join(as_text(covered)))
    return FAILED if arguments.uncovered and holes else 0
