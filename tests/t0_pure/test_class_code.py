"""The code of attrs' methods, which is kept in a file."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nvdimmfs.class_code import ClassCode

SOURCE = "def __hash__(self):\n    return hash((\n        {seed},\n        self.name,\n    ))\n"

#: A class with all of attrs' methods, and what they return.
PROGRAM = """
import sys
from pathlib import Path
import attr._make
from nvdimmfs.class_code import ClassCode
code = ClassCode(Path(sys.argv[1]))
compiled = []
attr._make.compile = lambda *words: (compiled.append(code.compile(*words)), compiled[-1])[1]
import attrs

@attrs.frozen(order=True)
class Point:
    x: int
    y: int = attrs.field(default=2, converter=int)

assert compiled
assert repr(Point(1)) == "Point(x=1, y=2)" and Point(1) == Point(1, "2") < Point(2) and {Point(1): 3}[Point(1)] == 3
before = code._has_new
code.save()
print(before)
"""


@pytest.mark.parametrize("keeps", [True, False])
def test_commands_keep_no_sources(keeps: bool) -> None:
    program = (
        f"import linecache; from nvdimmfs.class_code import keep_class_code; {'keep_class_code()' if keeps else ''}\n"
        "import attrs; cls = attrs.make_class('Point', ['x']); assert cls(1) == cls(1)\n"
        "print(any('.Point' in name for name in linecache.cache))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == f"{not keeps}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "code"


@pytest.fixture(autouse=True)
def writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


def test_a_source_is_compiled_once(file: Path) -> None:
    first = ClassCode(file)
    code = first.compile("x = 1", "<a>", "exec")
    assert first.compile("x = 1", "<a>", "exec") is code
    first.save()
    again = ClassCode(file)
    assert again.compile("x = 1", "<a>", "exec") == code
    assert not again._has_new


@pytest.mark.parametrize(("source", "name"), [("x = 2", "<a>"), ("x = 1", "<b>")])
def test_another_source_is_another_code(file: Path, source: str, name: str) -> None:
    code = ClassCode(file)
    code.compile("x = 1", "<a>", "exec")
    found = code.compile(source, name, "exec")
    assert found == compile(source, name, "exec")
    assert found.co_filename == name


def test_the_seed_of_a_hash_makes_no_difference(file: Path) -> None:
    code = ClassCode(file)
    one = code.compile(SOURCE.format(seed=-8616), "<a>", "exec")
    assert code.compile(SOURCE.format(seed=123), "<a>", "exec") is one


def test_code_that_two_processes_compile_is_kept_together(file: Path) -> None:
    one, other = ClassCode(file), ClassCode(file)
    one.compile("x = 1", "<a>", "exec")
    other.compile("x = 2", "<a>", "exec")
    one.save()
    other.save()
    both = ClassCode(file)
    both.compile("x = 1", "<a>", "exec")
    both.compile("x = 2", "<a>", "exec")
    assert not both._has_new


def test_a_file_does_not_grow_for_ever(file: Path) -> None:
    for number in range(3):
        code = ClassCode(file)
        for count in range(600):
            code.compile(f"x = {number}, {count}", "<a>", "exec")
        code.save()
    assert len(marshal.loads(file.read_bytes()[4:])) == 600


@pytest.mark.parametrize("content", [b"", b"other", "header", "cut"])
def test_a_file_that_cannot_be_read_is_replaced(file: Path, content: bytes | str) -> None:
    code = ClassCode(file)
    code.compile("x = 1", "<a>", "exec")
    code.save()
    whole = file.read_bytes()
    file.write_bytes(content if isinstance(content, bytes) else whole[:4] if content == "header" else whole[:-1])
    again = ClassCode(file)
    assert again.compile("x = 1", "<a>", "exec") == compile("x = 1", "<a>", "exec")
    again.save()
    last = ClassCode(file)
    last.compile("x = 1", "<a>", "exec")
    assert not last._has_new


def test_nothing_is_written_where_python_writes_no_code(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    code = ClassCode(file)
    code.compile("x = 1", "<a>", "exec")
    code.save()
    assert not file.exists()


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    code = ClassCode(tmp_path / "nothing" / "code")
    code.compile("x = 1", "<a>", "exec")
    code.save()
    assert list(tmp_path.iterdir()) == []


def test_classes_made_of_kept_code_are_the_same(file: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    argv = [sys.executable, "-c", PROGRAM, file]
    assert [subprocess.check_output(argv, env=environment, text=True) for _ in range(2)] == ["True\n", "False\n"]
