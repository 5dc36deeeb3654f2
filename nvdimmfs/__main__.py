"""The entry point of `nvdimmfs` and `python -m nvdimmfs`.

It sets up the handling of Ctrl-C before it imports anything else.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# After an uncaught KeyboardInterrupt Python exits by the signal, as the parent process expects.
sys.excepthook = lambda kind, error, frames: (
    None if issubclass(kind, KeyboardInterrupt) else sys.__excepthook__(kind, error, frames)
)


def main() -> "NoReturn":
    """Run the command line of this process, and exit with its status."""
    _drop_coerced_locale()
    from nvdimmfs.warm.client import carry_out

    carry_out(sys.argv[1:])
    from nvdimmfs.cli.main import main as command_line

    _leave(command_line())


def _drop_coerced_locale() -> None:
    """Remove the LC_CTYPE that the interpreter sets where it finds the locale C (PEP 538), so that `run` has none."""
    import os

    if os.environ.get("LC_CTYPE") not in ("C.UTF-8", "C.utf8", "UTF-8"):
        return
    try:
        with open("/proc/self/environ", "rb") as file:  # what the process was started with  # noqa: PTH123
            given = file.read().split(b"\0")
    except OSError:
        return
    if not any(variable.startswith(b"LC_CTYPE=") for variable in given):
        del os.environ["LC_CTYPE"]


def _leave(status: int) -> "NoReturn":
    """End this process as the interpreter does, but leave its memory to the kernel, which frees it in less time."""
    import atexit
    import contextlib
    import os

    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            file.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
