"""The error of a machine file, apart from the code that reads one, which takes longer to load."""

from __future__ import annotations


class MachineFileError(ValueError):
    """A machine file that cannot be used.

    Attributes:
        lines: the errors, one line each, with the file and the key path.
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
