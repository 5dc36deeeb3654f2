"""Give the command line words that are random bytes, or valid but for a few changes.

Each turn is one command line in this process, up to the point at which `mount` or `run` would act; some are also given
to a process of their own, with an environment of random bytes.  The exit status is one of the documented ones, what is
wrong is one line on stderr, nothing is a bug, nothing hangs.  Failures are shrunk to the fewest words.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import _paths  # noqa: F401  # before the modules that it makes importable
import attrs
import mounting
from mutating import changed, random_changes
from torturing import Trial, run, shrink

from nvdimmfs.cli import machine_options, main
from nvdimmfs.cli.run import _command

#: Valid command lines.  No file that they name is outside of the working directory.
SAMPLES = tuple(
    line.split()
    for line in """
    --version
    --help
    mount missing --memmap 512M!4G,256M!6G --ram 8G --kernel 4.5 --clock steps --no-cache --log log
    mount missing --machine nfit_test --media media --media-sync flush --blacklist nd_btt --foreground
    mount missing --machine machine.toml --ram 1T
    mount missing --memmap 1G%5G-1+0xefffffff --ram 8G
    umount missing --lazy
    run --machine qemu-nfit --net host -- true
    run --memmap 64M!4G --ram 6G --kernel rfc --clock manual -- true --help
    run --attach missing -- true
    doctor --for mount --json
    show missing --json
    show missing --svg picture.svg
    dump folder -o dumped
    diff folder machine.toml
    diff folder folder
    plan --size 128G --size 1T --start 4G --align 2M --ram 16G
    plan --json
    machine list --json
    machine schema
    machine show machine.toml
    machine show nfit_test --json
    machine check machine.toml qemu-nfit
    record --help
    mount --help
    """.strip().splitlines()
)

#: Words that are inserted, or take the place of others.
WORDS = (
    *(
        "",
        "-",
        "--",
        "---",
        "-h",
        "-o",
        "--json",
        "--ram",
        "--ram=",
        "--memmap",
        "--memmap=",
        "--size",
        "--for",
        "--clock",
    ),
    *("0", "-1", "1P", "4P", "8388607T", "0x", "0x10", "1e9", "9" * 400, "512M!", "!", ",", "512M@4G", "64M!4G," * 50),
    *(
        "machine.toml",
        "folder",
        ".",
        "missing/",
        "\u0661",
        "\udcff",
        "a" * 5000,
        "%s",
        "{0}",
        "\x1b[31m",
        "\n",
    ),
)

#: Variables that programs and libraries look at.  Those of Python itself would keep it from starting.
VARIABLES = (
    *(
        "COLUMNS",
        "LINES",
        "TERM",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LANGUAGE",
        "TMPDIR",
        "HOME",
        "NO_COLOR",
        "NOTIFY_SOCKET",
    ),
    *("PATH", "TZ", "XDG_RUNTIME_DIR", "SYSTEMD_DEVICE_VERIFY_SYSFS", "FUSE_COMMFD", "LISTEN_FDS", "MANPATH"),
)

#: Turns in this process for one in a process of its own, and turns with the same machine file.
PER_PROCESS = 250
PER_MACHINE_FILE = 20

#: Seconds after which a command line is called hanging.
PATIENCE = 60

#: Exit statuses: done, failed, misused, and those of a shell for a command that cannot be run.
STATUSES = (0, 1, 2, 126, 127)

#: Commands of which a process of their own does no more than in this process; no directory to mount on is there.
_HARMLESS = ("mount", "umount", "show", "dump", "diff", "plan", "machine")


class HangingError(Exception):
    """A command line took too long."""


@attrs.frozen
class Result:
    """How a command line ended.

    Attributes:
        checks: whether it checks machine files, and prints a line for each mistake, as compilers do.
    """

    checks: bool
    status: int
    output: bytes
    errors: bytes

    def problem(self) -> str:
        """What is wrong with it; empty for nothing."""
        errors = self.errors.decode("utf-8", errors="replace")
        if self.status not in STATUSES:
            return f"status {self.status}: {errors}"
        if "Traceback" in errors or "a bug in nvdimmfs" in errors:
            return errors
        lines = re.findall(r"[^\n]*\n|[^\n]+$", errors)
        if not all(line.endswith("\n") and line[:-1].isprintable() for line in lines):
            return f"stderr is {errors!r}"
        if self.checks and self.status == 1:
            return "" if lines else "status 1 without a reason"
        # Mistakes in a machine file have a line each.
        lines = [line for line in lines if not line.startswith("machine.toml: ")]
        if not all(line.startswith("nvdimmfs: ") for line in lines):
            return f"stderr is {errors!r}"
        warnings = [line for line in lines if line.startswith("nvdimmfs: warning: ")]
        if len(lines) - len(warnings) > (self.status != 0):
            return f"status {self.status} with {len(lines)} lines: {errors!r}"
        if self.status > 1 and not lines:
            return f"status {self.status} without a reason"
        return ""


def plan_machine(arguments: argparse.Namespace) -> int:
    """All that `mount` does with its arguments before it mounts."""
    machine_options.machine(arguments)
    machine_options.is_durable(arguments)
    return 0


def plan_run(arguments: argparse.Namespace) -> int:
    """All that `run` does with its arguments before it builds a sandbox."""
    _command(arguments.command)
    return plan_machine(arguments)


def parse_only(_arguments: argparse.Namespace) -> int:
    """For commands that do the same whatever their arguments are."""
    return 0


@contextlib.contextmanager
def without_acts() -> Iterator[None]:
    """Replace what would mount, run or try something."""
    instead = {"mount": plan_machine, "run": plan_run, "doctor": parse_only, "record": parse_only}
    modules = {name: importlib.import_module(f"nvdimmfs.cli.{name}") for name in instead}
    originals = {name: module.run for name, module in modules.items()}
    for name, module in modules.items():
        module.run = instead[name]  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name, module in modules.items():
            module.run = originals[name]  # type: ignore[attr-defined]


def in_this_process(words: Sequence[str]) -> Result:
    """Call the command line's function."""
    output, errors = io.BytesIO(), io.BytesIO()
    stdout = io.TextIOWrapper(output, "utf-8")
    stderr = io.TextIOWrapper(errors, "utf-8", errors="backslashreplace")
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr), _patience():
        try:
            status = main.main(list(words))
        except HangingError as failure:
            status, _ = -1, print(failure, file=stderr)
        stdout.flush()
        stderr.flush()
    return Result(_checks(words), status, output.getvalue(), errors.getvalue())


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    def hang(*_: object) -> None:
        raise HangingError(f"it did not end within {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def in_a_process(words: Sequence[str], environment: dict[bytes, bytes]) -> Result:
    """Execute the program."""
    own = {os.fsencode(name): os.fsencode(text) for name, text in mounting.environment().items()}
    argv = [*map(os.fsencode, mounting.MACHINE), *map(os.fsencode, words)]
    try:
        done = subprocess.run(
            argv,
            env=own | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as failure:
        return Result(False, -1, b"", str(failure).encode())
    return Result(_checks(words), done.returncode, done.stdout, done.stderr)


def _checks(words: Sequence[str]) -> bool:
    return "machine" in words and "check" in words


def random_words(chance: random.Random) -> list[str]:
    """A command line that a few changes have made of a valid one."""
    words = list(chance.choice(SAMPLES))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 6))):
        place = chance.randrange(len(words) + 1)
        kind = chance.random()
        if kind < 0.25:
            words[place:place] = [_random_word(chance)]
        elif kind < 0.4:
            words[place : place + 1] = []
        elif kind < 0.55:
            words[place:place] = chance.choice(SAMPLES)[chance.randrange(3) :][:2]
        elif kind < 0.7:
            words[place : place + 1] = [_random_word(chance)]
        elif place < len(words):
            words[place] = _mutated(chance, words[place])
    return [_harmless(word) for word in words]


def _random_word(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return chance.choice(WORDS)
    return os.fsdecode(chance.randbytes(chance.choice((1, 2, 4, 16, 200))))


def _mutated(chance: random.Random, word: str) -> str:
    data = word.encode(errors="surrogateescape")
    return os.fsdecode(changed(data, random_changes(chance, len(data), (), may_resize=True)))


def _harmless(word: str) -> str:
    """The word without what execve(2) refuses, and without ways out of the working directory."""
    return re.sub(r"(^|=)/+", r"\1", word.replace("\0", "").replace("..", "__"))


def random_environment(chance: random.Random) -> dict[bytes, bytes]:
    names = chance.sample(VARIABLES, chance.randrange(1, 5))
    return {name.encode(): chance.randbytes(chance.choice((0, 1, 8, 300))).replace(b"\0", b"?") for name in names}


def write_machine_file(chance: random.Random) -> None:
    """A valid machine file, or one with a few changed bytes."""
    base = (mounting.ROOT / "docs" / "images" / "example.toml").read_bytes()
    changes = random_changes(chance, len(base), (), may_resize=True) if chance.random() < 0.7 else ()
    Path("machine.toml").write_bytes(changed(base, changes))


def body(trial: Trial) -> None:
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-command-line-") as folder, without_acts():
        os.chdir(folder)
        try:
            Path("folder").mkdir()
            _try_command_lines(trial)
        finally:
            os.chdir(before)


def _try_command_lines(trial: Trial) -> None:
    turn = 0
    while trial.goes_on():
        if turn % PER_MACHINE_FILE == 0:
            write_machine_file(trial.random)
        words = random_words(trial.random)
        result = in_this_process(words)
        trial.count("command lines")
        trial.count(f"status {result.status}")
        _judge(trial, words, result)
        if turn % PER_PROCESS == 0 and words and (result.status == 2 or words[0] in _HARMLESS):
            environment = random_environment(trial.random)
            trial.count("processes")
            _judge_process(trial, words, environment)
        turn += 1


def _judge(trial: Trial, words: list[str], result: Result) -> None:
    problem = result.problem()
    if problem:
        shortest = shrink(words, lambda fewer: bool(in_this_process(fewer).problem()))
        trial.failed(problem.strip(), [ascii(word) for word in shortest])


def _judge_process(trial: Trial, words: list[str], environment: dict[bytes, bytes]) -> None:
    problem = in_a_process(words, environment).problem()
    if problem:
        variables = shrink(list(environment), lambda names: _fails(words, {name: environment[name] for name in names}))
        trial.failed(problem.strip(), [*map(ascii, words), *(f"{name!r}={environment[name]!r}" for name in variables)])


def _fails(words: list[str], environment: dict[bytes, bytes]) -> bool:
    return bool(in_a_process(words, environment).problem())


if __name__ == "__main__":
    sys.exit(run(__doc__, body))
