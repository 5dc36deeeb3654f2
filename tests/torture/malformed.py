"""Feed malformed inputs of each kind: random bytes, and valid inputs with a few changes.

No exception but the documented one, whatever a machine finds on its media or is sent.  Failures are shrunk.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Sequence

import _paths  # noqa: F401  # before the modules that it makes importable
import attrs
import malformed_media as media
import malformed_messages as messages
from malformed_journals import Journals
from mutating import Change, Subject, changed, random_changes
from torturing import Trial, run, shrink

#: Inputs that one subject receives before a fresh one replaces it, and inputs of a kind before the next kind's turn.
PER_SUBJECT = 400
PER_TURN = 100


KINDS: dict[str, Callable[[], Subject]] = {
    "label areas 1.2": media.Labels,
    "label areas 1.1": media.Labels11,
    "info blocks": media.InfoBlocks,
    "BTT maps and logs": media.BttMetadata,
    "journals": Journals,
    "partition tables": media.PartitionTables,
    "ioctls nfit_test": messages.NdIoctls,
    "ioctls nfit": messages.NfitIoctls,
    "ioctls of disks": messages.BlockIoctls,
    "control messages": messages.ControlMessages,
    "machine files": messages.MachineFiles,
    "keys of machine files": messages.MachineKeys,
    "recordings": messages.Recordings,
    "module images": messages.ModuleImages,
    "memmap= texts": messages.MemmapOptions,
    "attribute values": messages.AttributeValues,
    "fault rules": messages.FaultRules,
}


@attrs.frozen
class Input:
    """An input: which sample, its changes, and whether its checksums are repaired.

    Without a sample, it is `noise`.
    """

    sample: int | None
    changes: tuple[Change, ...] = ()
    repaired: bool = False
    noise: bytes = b""

    def data(self, subject: Subject) -> bytes:
        if self.sample is None:
            return self.noise
        data = changed(subject.samples[self.sample], self.changes)
        return subject.repaired(data) if self.repaired else data


def body(trial: Trial) -> None:
    subjects: dict[str, Subject] = {}
    fed: dict[str, list[Input]] = {name: [] for name in KINDS}
    while (lacking := trial.lacking()) and trial.goes_on():
        name = min(lacking, key=lambda each: trial.figures[each])
        for _ in range(PER_TURN):
            if name not in subjects or len(fed[name]) == PER_SUBJECT:
                subjects[name], fed[name] = KINDS[name](), []
            fed[name].append(_next_input(trial, subjects[name]))
            trial.count(name)
            if wrong := _fault(subjects[name], fed[name][-1]):
                _report(trial, name, fed[name], wrong)
                del subjects[name]
                break


def _next_input(trial: Trial, subject: Subject) -> Input:
    chance = trial.random
    number = chance.randrange(len(subject.samples))
    sample = subject.samples[number]
    if chance.random() < 0.1:
        length = chance.randrange(2 * len(sample)) if subject.may_resize else len(sample)
        return Input(None, noise=chance.randbytes(length))
    changes = random_changes(chance, len(sample), subject.places, may_resize=subject.may_resize)
    return Input(number, tuple(changes), repaired=chance.random() < 0.7)


def _fault(subject: Subject, given: Input) -> str:
    """What is wrong after an input; empty when nothing is."""
    try:
        subject.feed(given.data(subject))
    except Exception as bug:
        where = traceback.extract_tb(bug.__traceback__)[-1]
        return f"{type(bug).__name__} in {where.name}: {bug}"
    return ""


def _report(trial: Trial, name: str, inputs: Sequence[Input], wrong: str) -> None:
    """Shrink the inputs, then the changes of the last one, and print them."""

    def fails(shorter: Sequence[Input]) -> bool:
        subject = KINDS[name]()
        return any(_kind(_fault(subject, given)) == _kind(wrong) for given in shorter)

    shortest = shrink(inputs, fails)
    if shortest:
        *before, last = shortest
        changes = shrink(last.changes, lambda fewer: fails([*before, attrs.evolve(last, changes=tuple(fewer))]), 20)
        shortest = [*before, attrs.evolve(last, changes=tuple(changes))]
    trial.failed(f"{name}: {wrong}", shortest)


def _kind(wrong: str) -> str:
    """A problem without the numbers and texts in it."""
    return re.sub(r"0x[0-9a-f]+|\d+|'.*'", "N", wrong)


if __name__ == "__main__":
    sys.exit(run(__doc__, body, tuple(KINDS)))
