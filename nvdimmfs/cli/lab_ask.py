"""`nvdimmfs lab ask`: ask a real kernel, and print its answers."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.lab_options import STDIN, guest_machine, guest_plan, offer_guest, questions, reporting
from nvdimmfs.lab.asking import Call
from nvdimmfs.lab.guest import Guest, GuestPlan
from nvdimmfs.lab.reboots import RebootingGuest
from nvdimmfs.lab.snapshots import booted, resumed


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    offer_guest(parser)
    parser.add_argument(
        "--cold", action="store_true", help="boot a guest for this, instead of resuming one that has booted"
    )
    parser.add_argument(
        "--media",
        metavar="FOLDER",
        help="boot a guest whose persistent memory is that in a folder of media, and keep what it writes there",
    )
    parser.add_argument(
        "--power-cut",
        action="store_true",
        help="with --media: end the guest as a power failure does, instead of shutting it down",
    )
    parser.add_argument(
        "--file", metavar="FILE", action="append", default=[], help="copy a file to /root in the guest; can be repeated"
    )
    parser.add_argument(
        "--shell", metavar="LINE", help="have the guest's shell execute a line, instead of asking questions"
    )
    parser.add_argument(
        "steps", metavar="STEPS", nargs="?", help=f"a file with one question on each line, as JSON; {STDIN} for stdin"
    )


@reporting
def run(arguments: argparse.Namespace) -> int:
    """Ask, and print the answers."""
    if (arguments.shell is None) == (arguments.steps is None):
        raise CommandError("ask: give either STEPS or --shell LINE", MISUSED)
    if arguments.power_cut and arguments.media is None:
        raise CommandError("ask: --power-cut needs --media: other guests keep nothing that could be lost", MISUSED)
    calls = [] if arguments.steps is None else questions(arguments.steps)
    files = [Path(name) for name in arguments.file]
    contents = [(path, path.read_bytes()) for path in files]
    plan = guest_plan(arguments, guest_machine(arguments), arguments.kernel)
    with _started(plan, arguments) as guest:
        for path, data in contents:
            guest.put(f"/root/{path.name}", data, path.stat().st_mode & 0o777)
        if arguments.shell is None:
            status = _ask(RebootingGuest(guest, plan.hardware), calls, arguments.settle)
        else:
            status = _execute(guest, arguments.shell)
        if arguments.media is not None and not arguments.power_cut:
            guest.power_off()
    return status


def _started(plan: GuestPlan, arguments: argparse.Namespace) -> AbstractContextManager[Guest]:
    """The guest: one that was saved after its boot, unless it has to boot."""
    if arguments.media is not None:
        return booted(plan, arguments.timeout, Path(arguments.media))
    return booted(plan, arguments.timeout) if arguments.cold else resumed(plan, arguments.timeout)


def _ask(guest: RebootingGuest, calls: list[Call], settle: float) -> int:
    """Print the answers.  Returns the exit status of success."""
    for call, answer in zip(calls, guest.ask(calls, settle), strict=True):
        print(json.dumps({**call, "result": answer}), flush=True)
    return 0


def _execute(guest: Guest, line: str) -> int:
    """Print what a shell line prints.  Returns its exit status, as a shell reports it."""
    done = guest.shell(line)
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(done.stderr)
    sys.stderr.buffer.flush()
    return done.status if done.status >= 0 else 128 - done.status
