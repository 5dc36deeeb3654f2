"""Commands in a sandbox on a mounted machine: what they print, how they end, and that none outlives its time."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from nvdimmfs.cli.templates import Command, run
from nvdimmfs.errors import printable
from nvdimmfs.sandbox.errors import NOT_EXECUTABLE, NOT_FOUND
from nvdimmfs.testing.arguments import READ_SIZE, path_of
from nvdimmfs.testing.errors import UnavailableError
from nvdimmfs.warm.call import CallError
from nvdimmfs.warm.template import ForkedProcess, Template, TemplateError

#: What `Machine.run` accepts as a word of a command.
Word = str | os.PathLike[str]

#: How long to wait for the end of a killed command, in seconds.
_LONGEST_END = 10.0

#: The beginning of the report that a command could not be started.
_NOT_STARTED = "cannot run "

#: The most that a note shows of an output, in characters.
_LONGEST_NOTE = 4000

_STDIN, _STDOUT, _STDERR = range(3)
#: Stands for the reports of the command's process.
_REPORT = -1


@attrs.frozen
class CommandResult:
    """How a command has ended.

    Attributes:
        command: the words.
        returncode: the exit status; the negative number of the signal that ended it; as in a shell, 127 where there is
            no such command, and 126 where it cannot be executed.
        stdout: what it printed; bytes that are not UTF-8 are surrogates.
        stderr: what it printed to stderr.
    """

    command: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def json(self) -> Any:  # noqa: ANN401  # as json.loads
        """What it printed, as JSON.  ValueError, with the outputs as notes, when it is none."""
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            _add_outputs(error, self.stdout, self.stderr)
            raise error.with_traceback(None) from None  # which is about the frames of json

    def check(self) -> None:
        """Raise subprocess.CalledProcessError, with the outputs as notes, unless the status is 0."""
        if self.returncode:
            error = subprocess.CalledProcessError(self.returncode, list(self.command), self.stdout, self.stderr)
            _add_outputs(error, self.stdout, self.stderr)
            raise error


def run_on_machine(
    template: Template,
    machine: Path,
    words: Sequence[Word],
    *,
    stdin: bytes,
    timeout: float | None,
    directory: Path,
    environment: Mapping[str, str],
    private_network: bool,
) -> CommandResult:
    """Run a command in a sandbox, and wait until it and all its children have ended.

    Raises:
        UnavailableError: the host permits no sandbox.
        subprocess.TimeoutExpired: with the outputs so far; nothing of the command is left.
    """
    texts = tuple(path_of(word, "a word of a command") for word in words)
    command = Command(texts, machine, directory, dict(environment), private_network)
    with contextlib.ExitStack() as stack:
        pipes = [stack.enter_context(_Pipe.made()) for _ in range(3)]
        theirs = (pipes[_STDIN].reader, pipes[_STDOUT].writer, pipes[_STDERR].writer)
        try:
            process = run(template, command, theirs)
        except TemplateError as error:
            raise UnavailableError(f"run: {error}") from None
        stack.callback(process.close)
        pipes[_STDIN].close_reader()
        for pipe in pipes[_STDOUT:]:
            pipe.close_writer()
        deadline = None if timeout is None else time.monotonic() + timeout
        outputs = _Outputs(pipes, stdin, process)
        try:
            in_time = outputs.exchange(deadline)
        except BaseException:
            _kill(process, outputs)
            raise
        if not in_time:
            assert timeout is not None
            _kill(process, outputs)
            stdout, stderr = outputs.texts()
            late = subprocess.TimeoutExpired(list(texts), timeout, stdout, stderr)
            _add_outputs(late, stdout, stderr)
            raise late
        stdout, stderr = outputs.texts()
        returncode, message = _end(process)
        return CommandResult(texts, returncode, stdout, stderr + message)


def _end(process: ForkedProcess) -> tuple[int, str]:
    """The return code of a command that has ended, and a line about one that could not be started."""
    try:
        status = process.status()
    except CallError as error:
        message = str(error)
        if not message.startswith(_NOT_STARTED):
            raise UnavailableError(f"run: {message}") from None
        is_missing = message.endswith(f": {os.strerror(2)}")
        return NOT_FOUND if is_missing else NOT_EXECUTABLE, f"nvdimmfs: {printable(message)}\n"
    return -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status), ""


def _kill(process: ForkedProcess, outputs: _Outputs) -> None:
    """Kill a command with all its children; they have ended when its output is closed everywhere."""
    process.send_signal(signal.SIGKILL)
    outputs.exchange(time.monotonic() + _LONGEST_END)


@attrs.define
class _Pipe:
    """A pipe; a closed end is -1."""

    reader: int
    writer: int

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[_Pipe]:
        pipe = cls(*os.pipe())
        try:
            yield pipe
        finally:
            pipe.close_reader()
            pipe.close_writer()

    def close_reader(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1

    def close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1


class _Outputs:
    """Feeds a command, and collects what it prints."""

    def __init__(self, pipes: Sequence[_Pipe], stdin: bytes, process: ForkedProcess) -> None:
        self._pipes = pipes
        self._process = process
        self._stdin = memoryview(stdin)
        self._collected = {_STDOUT: bytearray(), _STDERR: bytearray()}
        os.set_blocking(pipes[_STDIN].writer, False)
        if not stdin:
            pipes[_STDIN].close_writer()

    def texts(self) -> tuple[str, str]:
        """What was printed to stdout and stderr."""
        stdout, stderr = (data.decode(errors="surrogateescape") for data in self._collected.values())
        return stdout, stderr

    def exchange(self, deadline: float | None) -> bool:
        """Go on until the end of the command is reported, or both outputs have ended, or until a time.

        False when the time has come.  When the end is reported, no process of the command is left.
        """
        with selectors.DefaultSelector() as selector:
            self._register(selector)
            has_ended = False
            while any(self._pipes[number].reader >= 0 for number in self._collected):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                ready = selector.select(0 if has_ended else left)
                if has_ended and not ready:
                    return True
                for key, _ in ready:
                    if key.data == _REPORT:
                        selector.unregister(self._process)
                        has_ended = self._process.has_report
                    else:
                        self._move(selector, key.data, key.fd)
        return True

    def _register(self, selector: selectors.BaseSelector) -> None:
        if self._pipes[_STDIN].writer >= 0:
            selector.register(self._pipes[_STDIN].writer, selectors.EVENT_WRITE, _STDIN)
        selector.register(self._process, selectors.EVENT_READ, _REPORT)
        for number in self._collected:
            if self._pipes[number].reader >= 0:
                selector.register(self._pipes[number].reader, selectors.EVENT_READ, number)

    def _move(self, selector: selectors.BaseSelector, number: int, file: int) -> None:
        if number == _STDIN:
            try:
                self._stdin = self._stdin[os.write(file, self._stdin) :]
            except BrokenPipeError:
                self._stdin = self._stdin[:0]
            if not self._stdin:
                selector.unregister(file)
                self._pipes[_STDIN].close_writer()
            return
        data = os.read(file, READ_SIZE)
        self._collected[number] += data
        if not data:
            selector.unregister(file)
            self._pipes[number].close_reader()


def _add_outputs(error: Exception, stdout: str, stderr: str) -> None:
    for name, text in (("stdout", stdout), ("stderr", stderr)):
        if text:
            error.add_note(f"{name}:\n{text[-_LONGEST_NOTE:].rstrip()}")
