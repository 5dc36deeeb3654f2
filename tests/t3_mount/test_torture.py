"""Each stress program of tests/torture still works: a few seconds of it, with a fixed seed."""

import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

#: A name, and a number with commas between thousands.
FIGURE = r"(\S.*) (-?\d{1,3}(?:,\d{3})*)"

TORTURE = Path(__file__).resolve().parents[1] / "torture"


@attrs.frozen
class Smoke:
    """The short run of a program.

    Attributes:
        arguments: so few turns that it takes seconds.
        counts: the figure that shows that it has done something.
        least: how large that figure must be.
        needs: the fixture that skips the test where the program cannot run.
    """

    arguments: tuple[str, ...]
    counts: str
    needs: str = ""
    least: int = 1


#: By name.  `--minutes` is far more than the turns take: no load may make a run shorter.
PROGRAMS = {
    "reads": Smoke(("--each", "50000", "--minutes", "60"), "reads", needs="fuse", least=50_000),
    "waits": Smoke(("--limit", "2", "--minutes", "10"), "requests", needs="strangers"),
    "callers": Smoke(("--limit", "1", "--minutes", "10"), "sandboxes", needs="sandbox"),
    "command_line": Smoke(("--limit", "400", "--minutes", "10"), "command lines"),
    "cycles": Smoke(("--limit", "75", "--minutes", "10"), "namespace", needs="fuse"),
    "killed_sandboxes": Smoke(("--limit", "2", "--minutes", "10"), "turns", needs="sandbox"),
    "kills": Smoke(("--limit", "1", "--minutes", "10"), "machines", needs="fuse"),
    "malformed": Smoke(("--limit", "16", "--minutes", "10"), "journals"),
    "resets": Smoke(("--limit", "3", "--minutes", "10"), "resets"),
    "rebinds": Smoke(("--limit", "1", "--minutes", "10"), "rebinds", needs="sandbox"),
    "steps": Smoke(("--limit", "12", "--minutes", "10"), "checks"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_short_run_finds_nothing(name, request):
    smoke = PROGRAMS[name]
    if smoke.needs:
        request.getfixturevalue(smoke.needs)
    program = [sys.executable, TORTURE / f"{name}.py", "--seed", "1", *smoke.arguments]
    done = subprocess.run(program, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    line = re.fullmatch(rf"{name}: seed 1, \d+ s: (.*); failures 0\n", done.stdout)
    assert line, done.stdout
    figures = dict(re.fullmatch(FIGURE, figure).groups() for figure in line[1].split(", "))
    assert int(figures[smoke.counts].replace(",", "")) >= smoke.least


def test_every_program_has_a_short_run_and_a_line_in_the_readme():
    programs = {file.stem for file in TORTURE.glob("*.py") if "\nif __name__ == " in file.read_text()}
    described = re.findall(r"^\| `(\w+)\.py` \|", (TORTURE / "README.md").read_text(), re.MULTILINE)
    assert programs == PROGRAMS.keys() == set(described)
