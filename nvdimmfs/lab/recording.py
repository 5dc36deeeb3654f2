"""Recordings: stories of questions to a freshly booted machine, in order, and the answers of a kernel."""

from __future__ import annotations

import attrs

from nvdimmfs.lab.asking import SETTLE, Answer, Call


@attrs.frozen
class Step:
    """A question and its answer; an unstable one differed between two runs on the same kernel."""

    call: Call
    answer: Answer
    unstable: bool = False


@attrs.frozen
class Header:
    """Where a recording comes from.

    Attributes:
        machine: what it was made of, for example `{"memmap": "512M!4G,256M!6G", "memory": "4G"}`.
        kernel: `uname -r`.
        note: what the story is about.
        settle: seconds that the tree was left alone after each write.
        after: the story in the same folder that this one goes on from: the same machine, booted again, with what that
            story left in its persistent memory.
        programs: those that the story runs, each with its version.
        without: the machine file with which the story makes sense when its programs are left out; empty when none is.
    """

    machine: dict[str, str]
    kernel: str
    note: str = ""
    settle: float = SETTLE
    after: str = ""
    programs: dict[str, str] = attrs.Factory(dict)
    without: str = ""


@attrs.frozen
class Recording:
    """One story, from the boot of a machine on."""

    header: Header
    steps: tuple[Step, ...]

    def without_programs(self) -> Recording:
        """The story for who cannot run programs.  ValueError when it makes no sense then."""
        if not self.header.programs:
            return self
        if not self.header.without:
            raise ValueError("a story about programs")
        machine = {**self.header.machine, "machine": self.header.without}
        for described in ("memmap", "memory", "regions"):
            machine.pop(described, None)
        header = attrs.evolve(self.header, machine=machine)
        return Recording(header, tuple(step for step in self.steps if step.call["op"] != "run"))
