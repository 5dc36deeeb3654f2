"""What ruff looks at: all programs in Python, also those whose names do not end in .py."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def is_python(file):
    return file.is_file() and not file.suffix and b"python3" in file.read_bytes().partition(b"\n")[0]


def test_programs_without_a_suffix_are_linted():
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["extend-include"]
    assert included == [str(file.relative_to(ROOT)) for file in sorted((ROOT / "scripts").iterdir()) if is_python(file)]
