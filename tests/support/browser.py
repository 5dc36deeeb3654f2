"""A headless browser: what a page is once its script has run, and what the browser fetched for it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
from watchdog import WATCHDOG

#: The names of programs that take these options.
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_OPTIONS = (
    "--headless",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--virtual-time-budget=5000",  # the page's own time: the browser waits for nothing
)


def why_not() -> str | None:
    """The reason why there is no browser; None when there is one."""
    return None if _program() else f"no browser is installed: {', '.join(_PROGRAMS)}"


def dumped(url: str, folder: Path) -> str:
    """The elements of a page as HTML, after its script has run.

    Args:
        url: the address, with its fragment.
        folder: for what the browser keeps.
    """
    return _run(folder, "--dump-dom", url)


def photographed(url: str, folder: Path, picture: Path) -> bytes:
    """A picture of the page, as PNG."""
    _run(folder, f"--screenshot={picture}", "--window-size=1200,2400", url)
    return picture.read_bytes()


@attrs.frozen
class Served:
    """A folder that is served on the loopback interface.

    Attributes:
        url: its address, with a slash at the end.
        requested: the paths that were requested, in order.
    """

    url: str
    requested: list[str]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve the files of a folder."""
    requested: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            requested.append(self.path)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Served(f"http://127.0.0.1:{server.server_port}/", requested)
        finally:
            server.shutdown()
            thread.join()


def _program() -> str | None:
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


def _run(folder: Path, *arguments: str) -> str:
    """Run the browser to its end; none of its processes remains."""
    program = _program()
    assert program is not None, "why_not() was asked"
    process = subprocess.Popen(
        (program, *_OPTIONS, f"--user-data-dir={folder}", *arguments),
        env=os.environ | {"HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=WATCHDOG)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0, f"{program} ended with status {process.returncode}"
    return output
