"""What the command line answers to arguments that no command has."""

from __future__ import annotations

import pytest

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.main import parse


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
