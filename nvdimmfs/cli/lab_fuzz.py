"""`nvdimmfs lab fuzz`: look for answers that differ from those of a kernel, on random walks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path

import attrs

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.lab_options import (
    emulated_release,
    guest_machine,
    guest_plan,
    kernel_in_header,
    named_machine,
    offer_guest,
    offer_workers,
    reporting,
)
from nvdimmfs.cli.numbers import count, count_or_none
from nvdimmfs.errors import FAILED
from nvdimmfs.kernels.kernel import EMULATED_KERNELS
from nvdimmfs.lab.campaign import FILE, Campaign, Made
from nvdimmfs.lab.excerpts import both_answers, shortened
from nvdimmfs.lab.executors import finished
from nvdimmfs.lab.fuzz import Fuzzer, Walked
from nvdimmfs.lab.recording import Header, Recording
from nvdimmfs.lab.recording_text import dumps
from nvdimmfs.lab.shapes import Shape, shaped
from nvdimmfs.lab.snapshots import resumed
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.files import SUFFIX
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.writer import machine_text

_MOVES = 50

#: Erases what follows in a line of a terminal (EL, ECMA-48).
_ERASE_LINE = "\x1b[K"

#: How many shorter stories are tried for each that shows a difference.
_ATTEMPTS = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    offer_guest(parser)
    parser.add_argument(
        "--shape",
        choices=[shape.value for shape in Shape],
        help="make each walk on a machine of its own, of a random shape, with ranges of memmap= (e820), with DIMMs "
        "(nfit), or with virtio-pmem devices (virtio)",
    )
    parser.add_argument(
        "--moves", metavar="N", type=count, default=_MOVES, help="the moves of each walk (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", metavar="S", type=count_or_none, default=1, help="the seed of the first walk (default: 1)"
    )
    parser.add_argument(
        "--walks", metavar="N", type=count, default=1, help="how many walks to make, with seeds from S on (default: 1)"
    )
    parser.add_argument(
        "--attempts",
        metavar="N",
        type=count_or_none,
        default=_ATTEMPTS,
        help="how many shorter stories to try for each that shows a difference (default: %(default)s)",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", default=".", help="where to write stories that show a difference (default: here)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help=f"keep a line for each walk in FOLDER/{FILE}, and leave out the walks that are there already",
    )
    offer_workers(parser, "walks to make at the same time", "make the walks")


@reporting
def run(arguments: argparse.Namespace) -> int:
    """Walk, and write a story for each walk on which answers differ."""
    if arguments.shape is not None and any((arguments.machine, arguments.memmap, arguments.ram)):
        raise CommandError(f"--shape {arguments.shape}: each walk has a machine of its own, so name none", MISUSED)
    folder = Path(arguments.out)
    if not folder.is_dir():
        raise CommandError(f"--out {folder}: there is no such folder", MISUSED)
    walks = _Walks(arguments)
    if arguments.shape is None:
        with resumed(walks.fuzzer(arguments.seed).plan, arguments.timeout):
            pass  # its snapshot exists before several processes want it
    campaign = Campaign.resumed(folder, _settings(arguments)) if arguments.resume else None
    known = {} if campaign is None else campaign.made
    seeds = range(arguments.seed, arguments.seed + arguments.walks)
    made = [known[seed] for seed in seeds if seed in known]
    left = [seed for seed in seeds if seed not in known]
    _show_progress(len(made), len(seeds))
    for walked in finished(walks.walk, left, arguments.jobs, arguments.scheduler):
        _show_progress(None, len(seeds))
        print(_line(walked), flush=True)
        if walked.found:
            walks.write(folder, walked)
        made.append(Made(walked.seed, walked.compared, walked.found is not None))
        if campaign is not None:
            campaign.add(made[-1])
        _show_progress(len(made), len(seeds))
    if campaign is not None:
        print(_summary(made))
    return FAILED if any(each.differs for each in made) else 0


def _show_progress(made: int | None, walks: int) -> None:
    """Show on a terminal how many walks have been made, in a line that the next one replaces; None erases it."""
    if not sys.stderr.isatty():
        return
    is_shown = made is not None and made < walks
    text = f"{made} of {walks} walks made; each takes a minute or more" if is_shown else ""
    print(f"\r{_ERASE_LINE}{text}", end="", file=sys.stderr, flush=True)


def _settings(arguments: argparse.Namespace) -> dict[str, object]:
    """What has to be the same for all walks of a campaign."""
    names = ("machine", "memmap", "ram", "shape", "kernel", "moves", "settle")
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _summary(made: Collection[Made]) -> str:
    """What became of a campaign, in one line."""
    differing = sum(each.differs for each in made)
    return f"{len(made)} walks, {sum(each.answers for each in made)} answers, {differing} walks with a difference"


@attrs.frozen
class _Walks:
    """The walks that are asked for.

    Attributes:
        arguments: the command line's.
    """

    arguments: argparse.Namespace

    def walk(self, seed: int) -> Walked:
        """Make the walk of a seed."""
        return self.fuzzer(seed).walk(seed)

    def fuzzer(self, seed: int) -> Fuzzer:
        """The machine of a seed, and the kernel that is asked.  CommandError, LabError."""
        arguments = self.arguments
        shape = self._shape(seed)
        machine = guest_machine(arguments) if shape is None else completed(shape)
        plan = guest_plan(arguments, machine, arguments.kernel)
        emulated = emulated_release(plan.kernel.release)
        if emulated not in EMULATED_KERNELS:
            known = ", ".join(EMULATED_KERNELS)
            mistake = f"{emulated} is not emulated; the emulated kernels are {known}"
            raise CommandError(f"--kernel {arguments.kernel}: {mistake}")
        emulating = attrs.evolve(machine, kernel=emulated)
        return Fuzzer(emulating, plan, arguments.moves, arguments.settle, arguments.attempts, arguments.timeout)

    def _shape(self, seed: int) -> MachineDescription | None:
        """The machine of a random shape, not completed."""
        return None if self.arguments.shape is None else shaped(Shape(self.arguments.shape), seed)

    def write(self, folder: Path, walked: Walked) -> None:
        """Write the story, with its machine if that is one of a random shape, and print both answers."""
        assert walked.found is not None
        fuzzer, path = self.fuzzer(walked.seed), folder / f"fuzz-{walked.seed}.recording"
        if shape := self._shape(walked.seed):
            path.with_suffix(SUFFIX).write_text(machine_text(shape), encoding="utf-8")
            named, machine = {"machine": path.stem}, shape
        else:
            named, machine = named_machine(self.arguments), guest_machine(self.arguments)
        kernel = fuzzer.plan.kernel.release
        note = f"a walk with the seed {walked.seed}, shortened"
        header = Header(named | kernel_in_header(machine, kernel), kernel, note, fuzzer.settle)
        path.write_text(dumps(Recording(header, walked.found.steps)), encoding="ascii")
        kernel, here = both_answers(walked.found.comparison.expected, walked.found.comparison.here)
        print(f"    kernel {kernel}\n    here   {here}\n    {path}")
        sys.stdout.flush()


def _line(walked: Walked) -> str:
    """What became of a walk, in one line."""
    text = f"seed {walked.seed}: {walked.compared} answers"
    if walked.races:
        text += f", {len(walked.races)} races that ended otherwise"
    if walked.ended:
        text += f", {walked.ended} questions after a race left out"
    if walked.fatal:
        text += f", {len(walked.fatal)} at which the kernel panics left out"
    if walked.found is None:
        return f"{text}, all agree"
    found = walked.found
    question = shortened(found.comparison.question)
    return f"{text}; {question} differs, after {len(found.steps) - 1} steps ({found.attempts} tried)"
