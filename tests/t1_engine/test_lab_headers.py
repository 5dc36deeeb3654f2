"""The headers of recordings by `lab record` and `lab fuzz`, which ask emulated machines in place of guests."""

import contextlib
from pathlib import Path

import pytest

from nvdimmfs.cli import lab_fuzz, lab_options, lab_record
from nvdimmfs.cli.main import main
from nvdimmfs.lab import fuzz
from nvdimmfs.lab.kernels import GuestKernel
from nvdimmfs.lab.recording_text import load_header
from nvdimmfs.lab.trees import InProcess
from nvdimmfs.machine.machine import Machine

QUESTION = '{"op": "ls", "path": "bus/nd/devices"}\n'


class LyingGuest:
    """A guest whose folders have a name more."""

    def __init__(self, tree):
        self._tree = tree

    def ask(self, calls, settle, together=0):
        for answer in self._tree.ask(calls, settle):
            yield {"names": [*answer["names"], "wrong"]} if "names" in answer else answer


@pytest.fixture(autouse=True)
def guests(monkeypatch):
    """Emulated machines in place of guests; a kernel is called as its release, with a version of Debian's."""

    @contextlib.contextmanager
    def resumed(plan, timeout):
        machine = Machine.described(plan.hardware.machine, clock="steps")
        try:
            yield LyingGuest(InProcess(machine))
        finally:
            machine.close()

    monkeypatch.setattr(lab_options, "find_kernel", lambda name: GuestKernel(f"{name}.0-57-amd64", Path(), Path()))
    monkeypatch.setattr(lab_options, "guest_image", lambda kernel, modules: Path())
    for module in (lab_record, lab_fuzz, fuzz):
        monkeypatch.setattr(module, "resumed", resumed)


def recorded(folder, words):
    (folder / "steps").write_text(QUESTION)
    assert main(["lab", "record", "--runs", "1", *words, str(folder / "steps"), str(folder / "x.recording")]) == 0
    return load_header(folder / "x.recording")


def found(folder, words):
    assert main(["lab", "fuzz", "--moves", "1", "--attempts", "0", "--out", str(folder), *words]) == 1
    return load_header(folder / "fuzz-1.recording")


@pytest.mark.parametrize("written", [recorded, found])
@pytest.mark.parametrize(
    ("words", "machine"),
    [
        ([], {"memmap": "512M!4G,256M!6G", "memory": "4G"}),
        (["--machine", "e820", "--kernel", "6.1"], {"machine": "e820"}),
        (["--machine", "e820", "--kernel", "6.12"], {"machine": "e820", "kernel": "6.12"}),
    ],
)
def test_a_header_has_the_kernel_that_has_to_answer_so(written, words, machine, tmp_path):
    header = written(tmp_path, words)
    assert header.machine == machine


def test_a_header_has_no_kernel_that_is_not_emulated(tmp_path):
    header = recorded(tmp_path, ["--kernel", "6.7"])
    assert (header.machine, header.kernel) == ({"memmap": "512M!4G,256M!6G", "memory": "4G"}, "6.7.0-57-amd64")


def test_a_header_has_the_kernel_of_the_guest_rather_than_that_of_the_machine_file(tmp_path):
    (tmp_path / "older.toml").write_text('kernel = "4.3"\nmemmap = "512M!4G"\n')
    header = recorded(tmp_path, ["--machine", str(tmp_path / "older.toml")])
    assert header.machine == {"machine": "older", "kernel": "6.1"}
