"""`nvdimmfs lab record`: ask a real kernel several times, and write a recording."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import attrs

from nvdimmfs.cli.errors import accessing
from nvdimmfs.cli.lab_options import (
    STDIN,
    guest_machine,
    guest_plan,
    kernel_in_header,
    named_machine,
    offer_guest,
    questions,
    reporting,
)
from nvdimmfs.cli.numbers import count
from nvdimmfs.lab.asking import Answer, Call
from nvdimmfs.lab.guest import Guest, GuestPlan
from nvdimmfs.lab.reboots import RebootingGuest
from nvdimmfs.lab.record import recorded_steps
from nvdimmfs.lab.recording import Header, Recording
from nvdimmfs.lab.recording_text import dumps, loads
from nvdimmfs.lab.snapshots import booted, resumed

#: How often the questions are asked, each time of a new guest.
_RUNS = 2

#: The speeds of the guests' processors, in turn (`nvdimmfs.lab.qemu.execution_options`).
_SPEEDS = (1, 0, 2)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    offer_guest(parser)
    parser.add_argument("--note", metavar="TEXT", default="", help="what the story is about")
    parser.add_argument(
        "--runs",
        metavar="N",
        type=count,
        default=_RUNS,
        help="how often to ask, each time a guest that has just booted: what differs is marked (default: %(default)s)",
    )
    parser.add_argument(
        "--without",
        metavar="NAME",
        default="",
        help="the machine with which the story makes sense when the programs that it runs are left out",
    )
    parser.add_argument(
        "steps", metavar="STEPS", help=f"a file with one question on each line, as JSON; {STDIN} for stdin"
    )
    parser.add_argument("recording", metavar="RECORDING", help="the file to write")


@reporting
def run(arguments: argparse.Namespace) -> int:
    """Ask, and write the recording."""
    calls = questions(arguments.steps)
    named, machine = named_machine(arguments), guest_machine(arguments)
    plan = guest_plan(arguments, machine, arguments.kernel)
    runs, programs = _runs(plan, calls, arguments)
    release = plan.kernel.release
    named |= kernel_in_header(machine, release)
    header = Header(named, release, arguments.note, arguments.settle, "", programs, arguments.without)
    recording = Recording(header, recorded_steps(calls, runs))
    text = dumps(recording)
    assert loads(text) == recording, "the text of a recording has all of it"
    with accessing(arguments.recording):
        Path(arguments.recording).write_text(text, encoding="ascii")
    unstable = sum(
        step.unstable or any(row.get("unstable") for row in step.answer.get("rows", [])) for step in recording.steps
    )
    print(f"{arguments.recording}: {len(calls)} steps, {unstable} of them unstable")
    return 0


def _runs(
    plan: GuestPlan, calls: Sequence[Call], arguments: argparse.Namespace
) -> tuple[list[list[Answer]], dict[str, str]]:
    """The answers of each run, and the versions of the programs.

    The first guest is resumed.  The others boot, and have processors of other speeds, so that races end differently.
    """
    runs = []
    programs: dict[str, str] = {}
    for number in range(arguments.runs):
        guests = booted if number else resumed
        with guests(attrs.evolve(plan, speed=_SPEEDS[number % len(_SPEEDS)]), arguments.timeout) as guest:
            runs.append(list(RebootingGuest(guest, plan.hardware).ask(calls, arguments.settle)))
            programs = programs or _versions(guest, calls)
    return runs, programs


def _versions(guest: Guest, calls: Sequence[Call]) -> dict[str, str]:
    """The version of each program that a story runs."""
    names = dict.fromkeys(call["argv"][0] for call in calls if call["op"] == "run")
    return {name: guest.shell(f"{name} --version").stdout.decode("latin-1").strip() for name in names}
