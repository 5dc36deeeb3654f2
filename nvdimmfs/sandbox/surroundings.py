"""What a process hands on to its programs, for processes that were forked before it had that itself."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Mapping
from typing import Self

from attrs import frozen

from nvdimmfs.inherited_files import STANDARD_FILES


@frozen
class Surroundings:
    """The environment, the umask and the ignored signals of a process."""

    environment: Mapping[str, str]
    umask: int
    ignored: frozenset[int]

    @classmethod
    def of_this_process(cls) -> Self:
        """Those of this process.  Its standard files and its working directory have to be passed as files."""
        umask = os.umask(0o077)
        os.umask(umask)
        ignored = (number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN)
        return cls(dict(os.environ), umask, frozenset(ignored))

    def take_on(self, standard_files: list[int], directory: int) -> None:
        """Give this process those, and the files, which are closed.  It blocks no signal from then on."""
        for standard, file in zip(STANDARD_FILES, standard_files, strict=True):
            os.dup2(file, standard)
            os.close(file)
        os.fchdir(directory)
        os.close(directory)
        self._take_on()
        signal.pthread_sigmask(signal.SIG_SETMASK, set())

    def rehearse(self) -> None:
        """Give this process, which they are those of, the same ones again: the first use takes longer after a fork."""
        self._take_on()

    def _take_on(self) -> None:
        os.umask(self.umask)
        os.environ.clear()
        os.environ.update(self.environment)
        time.tzset()
        tempfile.tempdir = None
        for number in signal.valid_signals():
            is_ignored = signal.getsignal(number) is signal.SIG_IGN
            if is_ignored != (number in self.ignored):
                signal.signal(number, signal.SIG_DFL if is_ignored else signal.SIG_IGN)
