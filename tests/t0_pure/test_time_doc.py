"""docs/time.md has the durations and the races of the code, and the code takes what was seen most."""

import subprocess
import sys
from pathlib import Path

import pytest

from nvdimmfs.kernels import durations, races
from nvdimmfs.kernels.durations import DURATIONS, PRICES, Duration
from nvdimmfs.kernels.races import RACES, Race

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "time-doc"


def test_the_tables_are_current():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("module", "kind", "table"), [(durations, Duration, (*DURATIONS, *PRICES)), (races, Race, RACES)]
)
def test_the_tables_are_complete(module, kind, table):
    declared = [value for value in vars(module).values() if isinstance(value, kind)]
    assert declared
    assert all(any(value is each for each in table) for value in declared)


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.question)
def test_the_outcome_that_was_seen_most_is_taken(race):
    most = max(race.seen, key=lambda seen: seen.times or 0)
    assert race.taken is most.outcome
