"""The folders of examples/ whose machines are in the process of the tests run as they stand."""

import pytest
from example_folders import EXAMPLES, command_of, run_as_it_stands


@pytest.mark.parametrize("name", ["hypothesis"])
def test_an_example_runs_as_it_stands(name, tmp_path):
    run_as_it_stands(name, tmp_path)


@pytest.mark.parametrize(
    "name", sorted(path.name for path in EXAMPLES.iterdir() if path.name not in ("ci", "container"))
)
def test_an_example_names_its_command(name):
    assert command_of(name)
