"""The walks of a campaign that have been made, in a file, so that a campaign that was ended can go on.

    {"campaign":1,"settings":{"shape":"nfit","kernel":"6.1","moves":400}}
    {"seed":17,"answers":19071,"differs":false}

Each walk has a line, in the order in which they were finished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import attrs

from nvdimmfs.lab.errors import LabError

#: The format's version, and the name of the file.
FORMAT = 1
FILE = "walks.jsonl"


@attrs.frozen
class Made:
    """A walk that has been made.

    Attributes:
        seed: its seed.
        answers: how many answers were compared.
        differs: whether one differs.
    """

    seed: int
    answers: int
    differs: bool


@attrs.define
class Campaign:
    """Walks with the same settings.

    Attributes:
        path: the file.
        made: those that have been made, by seed.
    """

    path: Path
    made: dict[int, Made]

    @classmethod
    def resumed(cls, folder: Path, settings: Mapping[str, object]) -> Self:
        """Go on with the campaign of a folder, or begin one.  LabError for other settings, and for another file.

        A last line that was not written completely is removed.
        """
        path = folder / FILE
        if not path.exists():
            path.write_text(f"{_line({'campaign': FORMAT, 'settings': settings})}\n", encoding="ascii")
        text = path.read_text(encoding="ascii")
        whole = text[: text.rfind("\n") + 1]
        try:
            first, *lines = whole.splitlines()
            known, made = _settings(json.loads(first)), [Made(**json.loads(line)) for line in lines]
        except (KeyError, TypeError, ValueError):
            raise LabError(f"{path}: not the walks of a campaign") from None
        if known != settings:
            raise LabError(f"{path}: has walks with other settings: {json.dumps(known)}, not {json.dumps(settings)}")
        os.truncate(path, len(whole))
        return cls(path, {each.seed: each for each in made})

    def add(self, walk: Made) -> None:
        """Add a walk."""
        self.made[walk.seed] = walk
        with self.path.open("a", encoding="ascii") as file:
            file.write(f"{_line(attrs.asdict(walk))}\n")


def _settings(first: Mapping[str, object]) -> object:
    if first["campaign"] != FORMAT:
        raise ValueError(f"campaigns of format {FORMAT} were expected")
    return first["settings"]


def _line(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))
