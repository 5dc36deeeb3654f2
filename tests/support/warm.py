"""Warm servers for the commands of a test process: they mount and run in a tenth of the processor time.

Their answers are those of a process of its own (tests/t3_mount/test_serve.py), so a test that needs a machine, and not
the start of one, uses a server.  What it cannot do for a caller, as in another namespace, the command does itself.
"""

from __future__ import annotations

import atexit
import functools
import subprocess
import tempfile
from collections.abc import Mapping

from watchdog import WATCHDOG

#: Waits for the end of its standard input, then stops the server with this command line and removes its folder.
_GUARD = 'cat; "$@"; rm -r "$XDG_RUNTIME_DIR"'


class WarmServer:
    """A warm server that lives until this process ends, however it ends.

    Args:
        program: the command line that starts it, up to the sub-command; it serves the same program alone.
        environment: what it is started with.
    """

    def __init__(self, program: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._program = program
        self._environment = environment

    @property
    def variables(self) -> dict[str, str]:
        """What leads a command to the server, which is started when it is first asked for."""
        return {"XDG_RUNTIME_DIR": self._place, "NVDIMMFS_SERVE": "yes"}

    @functools.cached_property
    def _place(self) -> str:
        folder = tempfile.mkdtemp(prefix="nvdimmfs-warm-")  # of mode 0700, as a server requires
        serve = (*self._program, "serve")
        environment = {**self._environment, "XDG_RUNTIME_DIR": folder}
        guard = subprocess.Popen(
            ("sh", "-c", _GUARD, "sh", *serve, "--stop"),
            env=environment,
            cwd="/",
            stdin=subprocess.PIPE,  # which the kernel closes if this process is killed
            start_new_session=True,
        )
        atexit.register(guard.communicate, timeout=WATCHDOG)
        subprocess.run(serve, env=environment, cwd="/", timeout=WATCHDOG, check=True)
        return folder
