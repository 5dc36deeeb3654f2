"""Retired words stay out of the code, comments, messages and pages that have been revised.

The words are correct English, but they hide who acts.  Name the actor and the act instead: user space, caller, reader,
writer, poller; return, refuse, report, log, emit, notify, raise.  `REVISED` lists the folders
and files that are checked: extend it as more are revised.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Folders and files that have been revised, relative to the repository.
REVISED = {
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs",
    "mountpoint-fixtures/machine.schema.json",
    "examples",
    "nvdimmfs/block",
    "nvdimmfs/class_code.py",
    "nvdimmfs/core",
    "nvdimmfs/dax",
    "nvdimmfs/drivers",
    "nvdimmfs/dumps",
    "nvdimmfs/cli",
    "nvdimmfs/errors.py",
    "nvdimmfs/faults",
    "nvdimmfs/formats",
    "nvdimmfs/fuse",
    "nvdimmfs/host.py",
    "nvdimmfs/inherited_files.py",
    "nvdimmfs/kernels",
    "nvdimmfs/kernfs",
    "nvdimmfs/lab",
    "nvdimmfs/late_modules.py",
    "nvdimmfs/machine",
    "nvdimmfs/machine_file",
    "nvdimmfs/media",
    "nvdimmfs/mm",
    "nvdimmfs/modules",
    "nvdimmfs/nd",
    "nvdimmfs/platforms",
    "nvdimmfs/sandbox",
    "nvdimmfs/snapshot.py",
    "nvdimmfs/testing",
    "nvdimmfs/traces",
    "nvdimmfs/units.py",
    "nvdimmfs/warm",
    "scripts",
}

#: Retired words, as patterns; also found as a part of a name, such as `_tell_added`.
RETIRED = (
    "whoever",
    "(?:no|some|every)body(?:'s)?",
    "tells?",
    "told",
    "hears?",
    "heard",
    "says?",
    "said",
    "wish(?:es)?",
    "complaints?",
    "as good as",
    "on line",
    "off line",
    "it takes",
)

#: Files in which a retired word is right, with the words.
EXCEPTIONS: dict[str, frozenset[str]] = {}

SUFFIXES = {".py", ".md", ".json", ".toml"}

_RETIRED = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(RETIRED)})(?![A-Za-z'])", re.IGNORECASE)


def revised_files() -> list[Path]:
    places = [ROOT / place for place in sorted(REVISED)]
    found = [file for place in places for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    return [file for file in found if file.suffix in SUFFIXES]


def retired_words(text: str) -> list[tuple[int, str]]:
    """The line number of each retired word, and the word."""
    return [
        (number, found[0].lower())
        for number, line in enumerate(text.splitlines(), 1)
        for found in _RETIRED.finditer(line)
    ]


def test_every_revised_place_exists():
    assert [place for place in sorted(REVISED | EXCEPTIONS.keys()) if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("file", revised_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_retired_word_is_used(file):
    allowed = EXCEPTIONS.get(str(file.relative_to(ROOT)), frozenset())
    assert [found for found in retired_words(file.read_text()) if found[1] not in allowed] == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("# whoever polls it is told", ["whoever", "told"]),
        ("def _tell_added(self):", ["tell"]),
        ('raise ValueError("Somebody\'s file")', ["somebody's"]),
        ("the same as in the kernel; essays, stellar, wishbone, a teller", []),
        ("it goes off line", ["off line"]),
    ],
)
def test_words_are_found_also_within_names(line, words):
    assert [word for _, word in retired_words(line)] == words
