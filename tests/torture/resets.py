"""Take random steps after a checkpoint and reset the machine: nothing is left of them.

Tree, bytes, uevents and time are those of the checkpoint, and later steps are answered as by a machine without the
detour.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import _paths  # noqa: F401  # before the modules that it makes importable
import random_machines
from choosing import Chooser
from descriptions import described
from engine_steps import Step
from torturing import Trial, run, shrink

from nvdimmfs.errors import KernelError
from nvdimmfs.machine.machine import Machine

#: Steps before the checkpoint, on each detour, and afterwards; detours from one checkpoint.
BEFORE, ASIDE, AFTERWARDS = 40, 60, 40
DETOURS = 2

Description = list[tuple[object, ...]]


def body(trial: Trial) -> None:
    while trial.goes_on():
        trial.count("machines")
        tell_story(trial, random_machines.random_machine(trial.random))


def tell_story(trial: Trial, text: str) -> None:
    """Take a machine through detours, and compare it with one that makes none."""
    machine, twin = random_machines.boot(text), random_machines.boot(text)
    chooser = Chooser(trial.random, machine)
    before = walk(trial, chooser, BEFORE, lambda step: (take(machine, step), take(twin, step)))
    with machine.checkpoint() as checkpoint:
        expected = described(machine)
    for _ in range(DETOURS):
        aside = walk(trial, chooser, ASIDE, lambda step: take(machine, step))
        trial.count("resets")
        checkpoint.reset()
        found = difference(expected, described(machine))
        checkpoint.reset()
        if found:
            report(trial, text, before, aside, found)
            return
    afterwards = walk(trial, chooser, AFTERWARDS, lambda step: (take(machine, step), take(twin, step)))
    found = difference(described(twin), described(machine))
    if found:
        trial.failed(f"after {len(afterwards)} more steps, {found}\n    on the machine {text!r}", afterwards)


def walk(trial: Trial, chooser: Chooser, length: int, act: Callable[[Step], object]) -> list[Step]:
    """Take steps; those that a pair of machines answers differently are a failure."""
    steps = []
    for _ in range(length):
        steps.append(chooser.next())
        trial.count("steps")
        answers = act(steps[-1])
        if isinstance(answers, tuple) and answers[0] != answers[1]:
            trial.failed(f"{steps[-1]}: answered {answers[0]}, and without a detour {answers[1]}", steps)
            break
    return steps


def take(machine: Machine, step: Step) -> str:
    """Take a step; the errno of a refusal, or an exception."""
    try:
        step.take(machine)
    except KernelError as refusal:
        return str(refusal.errno)
    except Exception as bug:
        return repr(bug)
    return ""


def difference(expected: Description, found: Description) -> str:
    """The first difference; an empty text without one."""
    for one, other in itertools.zip_longest(expected, found):
        if one != other:
            return f"{str(one)[:200]} became {str(other)[:200]}"
    return ""


def report(trial: Trial, text: str, before: list[Step], aside: list[Step], found: str) -> None:
    """Shrink the detour and print it."""

    def fails(steps: list[Step]) -> bool:
        machine = random_machines.boot(text)
        for step in before:
            take(machine, step)
        with machine.checkpoint() as checkpoint:
            expected = described(machine)
        for step in steps:
            take(machine, step)
        checkpoint.reset()
        return bool(difference(expected, described(machine)))

    trial.failed(f"{found}\n    on the machine {text!r}", shrink(aside, fails))


if __name__ == "__main__":
    sys.exit(run(__doc__, body))
