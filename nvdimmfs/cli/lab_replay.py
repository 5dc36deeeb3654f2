"""`nvdimmfs lab replay`: ask nvdimmfs, or a kernel, the questions of recordings again."""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.lab_options import guest_plan, offer_execution, offer_workers, reporting
from nvdimmfs.cli.numbers import count_or_none
from nvdimmfs.errors import FAILED
from nvdimmfs.kernels.kernel import EMULATED_KERNELS
from nvdimmfs.lab import holders, mounts, uevents, watchers
from nvdimmfs.lab.agreement import Replayed, as_json, as_junit, summary
from nvdimmfs.lab.changes import SUFFIX, load, load_header
from nvdimmfs.lab.emulated import CLOCK, emulated
from nvdimmfs.lab.errors import ImpossibleMachineError, LabError
from nvdimmfs.lab.executors import finished
from nvdimmfs.lab.guest_modules import MODULES_FILE
from nvdimmfs.lab.hotplug import is_plug
from nvdimmfs.lab.kernels import DEFAULT_KERNEL
from nvdimmfs.lab.qemu_machine import with_qemu_numbers
from nvdimmfs.lab.reboots import REBOOT, RebootingGuest
from nvdimmfs.lab.recording import Recording
from nvdimmfs.lab.replay import Report, replay
from nvdimmfs.lab.snapshots import resumed
from nvdimmfs.lab.stories import folders_of, machine_of
from nvdimmfs.lab.trees import OWN_FOLDER, Mounted
from nvdimmfs.lab.uevents import Uevents
from nvdimmfs.machine_file.errors import MachineFileError
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.writer import machine_text

#: Questions that only device nodes answer.
_OF_NODES = ("ioctl", *holders.QUESTIONS, *mounts.QUESTIONS)

#: Differences of a recording that are printed.
_SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--in-process", action="store_true", help="ask an emulated machine in this process, without a mount (default)"
    )
    place.add_argument("--mounted", action="store_true", help="ask an emulated machine that is mounted")
    place.add_argument("--guest", action="store_true", help="ask a real kernel, as `nvdimmfs lab ask` does")
    place.add_argument("--sys", metavar="DIR", help="ask the machine whose /sys is there, in its present state")
    parser.add_argument("--dev", metavar="DIR", default="/dev", help="with --sys: its /dev (default: %(default)s)")
    offer_execution(parser, kernel=None, without_option="that of the recording, else 6.1")
    offer_workers(parser, "recordings to replay at the same time", "replay the recordings")
    parser.add_argument(
        "--show",
        metavar="N",
        type=count_or_none,
        default=_SHOWN,
        help="differences to print of each recording (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with all differences")
    parser.add_argument("--junit", metavar="FILE", help="write a report in JUnit's XML")
    parser.add_argument("recordings", metavar="RECORDING", nargs="+", help="recordings; for a folder, all below it")


@reporting
def run(arguments: argparse.Namespace) -> int:
    """Replay, and print how far the answers agree."""
    if arguments.sys is not None and (arguments.jobs > 1 or arguments.scheduler is not None):
        raise CommandError("--sys asks one machine, one recording after the other; omit --jobs", MISUSED)
    files = _files(arguments.recordings)
    by_name = {}
    replaying = functools.partial(_replayed, ask=_asked(arguments))
    for each in finished(replaying, files, arguments.jobs, arguments.scheduler):
        by_name[each.name] = each
        if each.report and not arguments.json:
            for difference in each.report.differences[: arguments.show]:
                print(f"{each.name}: {difference}", flush=True)
    replayed = [by_name[str(path)] for path in files]
    print(json.dumps(as_json(replayed), indent=2) if arguments.json else "\n".join(summary(replayed)))
    if arguments.junit is not None:
        Path(arguments.junit).write_text(as_junit(replayed))
    return FAILED if any(each.failed or (each.report and each.report.differences) for each in replayed) else 0


def _asked(arguments: argparse.Namespace) -> Callable[[Path], Report]:
    """How a recording is replayed; can be pickled, but with --sys."""
    if arguments.guest:
        return functools.partial(_by_guest, arguments=arguments)
    if arguments.sys is not None:
        tree = Mounted(Path(arguments.sys), Path(arguments.dev), Uevents())
        return lambda path: replay(load(path), tree)
    if arguments.kernel is not None and arguments.kernel not in EMULATED_KERNELS:
        known = ", ".join(EMULATED_KERNELS)
        raise CommandError(f"--kernel {arguments.kernel}: must be one of {known} without --guest", MISUSED)
    replay_on = _mounted if arguments.mounted else _in_process
    return functools.partial(_emulated, kernel=arguments.kernel, replay_on=replay_on)


def _files(names: list[str]) -> list[Path]:
    """The recordings that are named, with those below folders.  CommandError when there is none."""
    found = []
    for path in map(Path, names):
        files = [path]
        if path.is_dir():
            files = sorted([*path.rglob("*.recording"), *path.rglob(f"*{SUFFIX}")])
        if not files:
            raise CommandError(f"{path}: there is no file NAME.recording below it", MISUSED)
        found += files
    return found


def _replayed(path: Path, ask: Callable[[Path], Report]) -> Replayed:
    try:
        return Replayed(str(path), ask(path))
    except (_NotReplayedError, ImpossibleMachineError) as reason:
        return Replayed(str(path), None, str(reason))
    except MachineFileError as error:
        return Replayed(str(path), None, error.lines[0])
    except LabError as error:
        return Replayed(str(path), None, str(error), failed=True)
    except ValueError as error:
        raise CommandError(f"{path}: {error}") from None


class _NotReplayedError(Exception):
    """A recording that cannot be replayed in this way; the message is the reason."""


def _emulated(path: Path, kernel: str | None, replay_on: Callable[[Path, str | None, Path | None], Report]) -> Report:
    """Replay on an emulated machine; the memory that an earlier story left is in a folder meanwhile."""
    before = load_header(path).after
    if not before:
        return replay_on(path, kernel, None)
    with tempfile.TemporaryDirectory() as media:
        replay_on(path.with_stem(before), kernel, Path(media))
        return replay_on(path, kernel, Path(media))


def _in_process(path: Path, kernel: str | None, media: Path | None) -> Report:
    recording = _without_programs(path)
    with emulated(_machine(path, recording, kernel), media) as tree:
        return replay(recording, tree)


def _mounted(path: Path, kernel: str | None, media: Path | None) -> Report:
    recording = _without_programs(path)
    if any(step.call["op"] == REBOOT for step in recording.steps):
        raise _NotReplayedError("its machine boots again, which ends a mount")
    if any(step.call["op"] in _OF_NODES for step in recording.steps):
        raise _NotReplayedError("it uses device nodes, but the files in a mount's dev/ are none")
    if any(step.call["op"] == uevents.QUESTION for step in recording.steps):
        raise _NotReplayedError("it asks for uevents, which are sent in sandboxes alone")
    if any(step.call["op"] in watchers.QUESTIONS for step in recording.steps):
        raise _NotReplayedError("it polls files, which moves the clock of a mount")
    with tempfile.TemporaryDirectory() as name:
        machine, mount = Path(name, "machine.toml"), Path(name, "mount")
        machine.write_text(machine_text(_machine(path, recording, kernel)))
        mount.mkdir()
        kept = () if media is None else ("--media", media)
        _nvdimmfs("mount", mount, "--machine", machine, "--clock", CLOCK, *kept)
        try:
            return replay(recording, Mounted(mount / "sys", mount / "dev"))
        finally:
            _nvdimmfs("umount", mount)


def _nvdimmfs(*words: str | Path) -> None:
    """Run a command of nvdimmfs.  CommandError with its error."""
    done = subprocess.run([sys.executable, "-m", "nvdimmfs", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(done.stderr.strip().removeprefix("nvdimmfs: ") or f"{words[0]} failed")


def _without_programs(path: Path) -> Recording:
    recording = load(path)
    try:
        return recording.without_programs()
    except ValueError as reason:
        hint = "run `nvdimmfs run --machine ... -- nvdimmfs lab replay --sys /sys`"
        raise _NotReplayedError(f"{reason}; {hint}") from None


def _machine(path: Path, recording: Recording, kernel: str | None) -> MachineDescription:
    """The machine of a recording, with the kernel that is asked for, or else that of the recording."""
    machine = machine_of(recording.header.machine, folders_of(path))
    return machine if kernel is None else attrs.evolve(machine, kernel=kernel)


def _by_guest(path: Path, arguments: argparse.Namespace) -> Report:
    recording = load(path)
    if recording.header.after:
        raise _NotReplayedError(f"it goes on after {recording.header.after}, whose memory a guest does not keep")
    own = [
        asked
        for step in recording.steps
        if (asked := step.call.get("path", "")).startswith(OWN_FOLDER)
        and asked != MODULES_FILE
        and not is_plug(step.call)
    ]
    if own:
        raise _NotReplayedError(f"it asks for {own[0]}, a file that nvdimmfs alone has")
    machine = machine_of(recording.header.machine, folders_of(path), with_qemu_numbers)
    kernel = arguments.kernel or recording.header.machine.get("kernel", DEFAULT_KERNEL)
    plan = guest_plan(arguments, machine, kernel)
    with resumed(plan, arguments.timeout) as guest:
        return replay(recording, RebootingGuest(guest, plan.hardware))
