"""Whether files of the code have changed, by the kernel's reports and by looks."""

import os

import pytest

from nvdimmfs.warm.code import Code


@pytest.fixture
def code(tmp_path):
    """The files of a package with a module, a second name of a module elsewhere, and a link to one elsewhere."""
    package = tmp_path / "package"
    elsewhere = tmp_path / "elsewhere"
    for directory in (package, elsewhere):
        directory.mkdir()
    for path in (package / "module.py", elsewhere / "named.py", elsewhere / "linked.py"):
        path.write_text("1\n")
    (package / "named.py").hardlink_to(elsewhere / "named.py")
    (package / "linked.py").symlink_to("../elsewhere/linked.py")
    code = Code.of([str(package / name) for name in ("module.py", "named.py", "linked.py", "missing.py")])
    yield code
    for descriptor in code.descriptors:
        os.close(descriptor)


def append(path):
    with path.open("a") as file:
        file.write("2\n")


def replace_directory(tmp_path):
    (tmp_path / "package").rename(tmp_path / "old")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/module.py").write_text("2\n")


CHANGES = {
    "a write": lambda tmp_path: append(tmp_path / "package/module.py"),
    "a write to another name": lambda tmp_path: append(tmp_path / "elsewhere/named.py"),
    "a write to what a link leads to": lambda tmp_path: append(tmp_path / "elsewhere/linked.py"),
    "a new file": lambda tmp_path: append(tmp_path / "package/missing.py"),
    "a file that is removed": lambda tmp_path: (tmp_path / "package/module.py").unlink(),
    "another directory": replace_directory,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed(code, tmp_path, change):
    assert not code.has_changed()
    change(tmp_path)
    assert code.has_changed()
    code.watch_again()
    assert code.has_changed()


def test_other_files_do_not_count(code, tmp_path):
    append(tmp_path / "package/other.py")
    assert not code.has_changed()
    code.watch_again()
    assert not code.has_changed()
    append(tmp_path / "package/module.py")
    assert code.has_changed()


def test_a_limit_of_inotify_costs_time_alone(monkeypatch, tmp_path):
    def refused():
        raise OSError

    monkeypatch.setattr("nvdimmfs.sandbox.libc.inotify", refused)
    append(tmp_path / "module.py")
    code = Code.of([str(tmp_path / "module.py")])
    assert code.descriptors == ()
    assert not code.has_changed()
    append(tmp_path / "module.py")
    assert code.has_changed()
