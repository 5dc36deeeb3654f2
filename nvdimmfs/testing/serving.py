"""The process that serves a mounted machine of a test: started, watched and ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

from nvdimmfs.cli.errors import CommandError
from nvdimmfs.cli.mount import MountRequest
from nvdimmfs.cli.save import SAVED
from nvdimmfs.cli.templates import mount, shared_template
from nvdimmfs.cli.umount import detach
from nvdimmfs.errors import printable
from nvdimmfs.fuse.requirements import MountError, require_fuse
from nvdimmfs.machine_file.files import with_absolute_files
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.testing.errors import UnavailableError
from nvdimmfs.warm.call import CallError
from nvdimmfs.warm.template import ForkedProcess, Template, TemplateEndedError, TemplateError

if TYPE_CHECKING:  # loaded for a power cycle
    from nvdimmfs.machine.saved import SavedMachine

#: How long the process may take for its last answers, and to unmount and exit, in seconds; afterwards it is killed.
_LONGEST_END = 30.0

#: The beginnings of reports of the process that are not about the machine or its media.
_MOUNT_REFUSED = "cannot mount on "
_BUG = "a bug in nvdimmfs"


class Serving:
    """A machine that is mounted, and the process that serves it.

    The process is forked from the template of this process, which unmounts the machine and removes its folder when this
    process ends, however it ends.

    Attributes:
        path: where it is mounted.
        template: the template.
    """

    def __init__(self, path: Path, template: Template, process: ForkedProcess, media: Path | None) -> None:
        self.path = path
        self.template = template
        self._process = process
        self._media = media
        self._owner = os.getpid()
        self._is_open = True

    @classmethod
    def start(cls, description: MachineDescription, media: Path | None) -> Self:
        """Mount a machine on a new folder in $TMPDIR, and return once it answers.

        Raises:
            ValueError: it cannot be built, or the folder of media cannot be used.
            UnavailableError: the host cannot mount it.
        """
        try:
            require_fuse()
            try:
                return cls._forked(shared_template(), description, media)
            except TemplateEndedError:  # it was killed
                return cls._forked(shared_template(), description, media)
        except (MountError, TemplateError) as error:
            raise UnavailableError(f"mount: {error}") from None

    @classmethod
    def _forked(cls, template: Template, description: MachineDescription, media: Path | None) -> Self:
        path = Path(tempfile.mkdtemp(prefix="machine-", dir=template.directory))
        return cls(path, template, _mounted(template, path, description, media), media)

    def restart(self) -> None:
        """End the process, and have another one serve the machine as a power cycle leaves it, on the same folder.

        Raises:
            ValueError: it cannot boot.
            UnavailableError: the host cannot mount it any more.
            OSError: it cannot be saved.
        """
        from nvdimmfs.machine.saved import read_saved

        with tempfile.NamedTemporaryFile(prefix="saved-", dir=self.template.directory) as file:
            with (self.path / SAVED).open("rb", buffering=0) as machine:
                shutil.copyfileobj(machine, file)
            file.flush()
            saved = read_saved(Path(file.name))
            self._stop()
            try:
                self._process = _mounted(
                    self.template, self.path, saved.description, self._media, None if self._media else saved
                )
            except BaseException:
                self._is_open = False
                raise

    @property
    def is_owned(self) -> bool:
        """Whether this process has started it, and not one that this process was forked from."""
        return os.getpid() == self._owner

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended, although `end` was not called."""
        return self._is_open and self._process.wait(0)

    @property
    def log(self) -> str:
        """The warnings and errors that the process has logged."""
        try:
            return _log_file(self.path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Continue the process if it is stopped, and kill it if it does not answer what the context asks."""
        if not self._is_open or not self.is_owned:
            yield
            return
        self._process.send_signal(signal.SIGCONT)
        timer = threading.Timer(_LONGEST_END, self._process.send_signal, [signal.SIGKILL])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def end(self) -> None:
        """Unmount the machine, wait for the end of its process, and remove the folder.  Nothing happens twice."""
        if not self._is_open or not self.is_owned:
            return
        self._is_open = False
        self._stop()
        _remove(self.path)

    def _stop(self) -> None:
        """Unmount the machine, and wait for the end of its process.  What it has logged goes to stderr."""
        self._process.send_signal(signal.SIGTERM)
        self._process.send_signal(signal.SIGCONT)
        if not self._process.wait(_LONGEST_END):
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(_LONGEST_END)
        self._process.close()
        log = self.log
        if log:
            sys.stderr.write(f"nvdimmfs: the machine has logged:\n{log}")
        _log_file(self.path).unlink(missing_ok=True)


def _mounted(
    template: Template,
    path: Path,
    description: MachineDescription,
    media: Path | None,
    saved: SavedMachine | None = None,
) -> ForkedProcess:
    """Have the template fork a process that serves a machine on a folder, which is removed after a failure."""
    request = MountRequest(path, with_absolute_files(description), media, (), cache=True, durable=True, saved=saved)
    log = os.open(_log_file(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return mount(template, request, log=log)
    except CallError as error:
        _remove(path)
        message = str(error)
        if message.startswith(_MOUNT_REFUSED):
            raise UnavailableError(f"mount: {message.removeprefix(f'{_MOUNT_REFUSED}{path}: ')}") from None
        if message.startswith(_BUG):
            raise RuntimeError(message) from None
        raise ValueError(message) from None
    except BaseException:
        _remove(path)
        raise
    finally:
        os.close(log)


def _remove(path: Path) -> None:
    """Remove the folder and the log, and what may still be mounted because its process was killed."""
    with contextlib.suppress(OSError):
        _log_file(path).unlink()
    try:
        path.rmdir()
    except OSError:
        with contextlib.suppress(CommandError):
            detach(path)
        with contextlib.suppress(OSError):
            path.rmdir()


def _log_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.log")


def ended_line(path: Path, log: str) -> str:
    """Why requests for a machine fail whose process has ended."""
    lines = log.strip().splitlines()
    return printable(f"the process of the machine on {path} has ended{f': {lines[-1]}' if lines else ''}")
