"""Fixtures for all tiers."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import mounting
import pytest
import sandboxes

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(mounting.BYTECODE))

# A shell ignores SIGINT in what it runs in the background, and programs inherit that, which some tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: Runs pytest in a process, for the tests of the plugin.
pytest_plugins = ["pytester"]

#: Property tests use the same examples in each run, and have no deadline that a loaded machine could miss.
hypothesis.settings.register_profile("deterministic", derandomize=True, deadline=None)
hypothesis.settings.load_profile("deterministic")

#: With --hypothesis-profile=long they use others each time, for minutes.
hypothesis.settings.register_profile(
    "long",
    derandomize=False,  # else that of the profile that is loaded
    deadline=None,
    max_examples=500,
    stateful_step_count=60,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure no coverage of property tests: of their many examples it doubles the processor time, and adds no line."""
    for item in items:
        if isinstance(item, pytest.Function) and hypothesis.is_hypothesis_test(item.obj):
            item.add_marker("no_cover")


class LogWatch:
    """Fails a test that logs a warning or an error without having announced it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self._announced: list[re.Pattern[str]] = []

    def expect(self, pattern: str) -> None:
        """Announce a message; the test also fails when the message is not logged."""
        self._announced.append(re.compile(pattern))

    def check(self) -> None:
        records = [record for record in self._caplog.get_records("call") if record.levelno >= logging.WARNING]
        messages = [record.getMessage() for record in records]
        unexpected = [text for text in messages if not any(pattern.search(text) for pattern in self._announced)]
        missing = [each.pattern for each in self._announced if not any(map(each.search, messages))]
        assert not unexpected, f"unexpected in the log: {unexpected}"
        assert not missing, f"missing from the log: {missing}"


@pytest.fixture(autouse=True)
def log_watch(caplog: pytest.LogCaptureFixture) -> Iterator[LogWatch]:
    """Fail a test that logs a warning or an error; `log_watch.expect(pattern)` announces one."""
    watch = LogWatch(caplog)
    yield watch
    watch.check()


@pytest.fixture(scope="session")
def fuse() -> None:
    """Skip where nothing can be mounted."""
    reason = mounting.why_not()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Skip where no command can be run in a sandbox."""
    reason = sandboxes.why_not()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def new_mount(fuse: None, tmp_path: Path) -> Iterator[Callable[..., mounting.Mount]]:
    """Make mounts, which are unmounted at the end.  The test fails when a daemon logged a warning or an error.

    `new_mount()` serves the toy tree, `new_mount(mounting.MACHINE, "--memmap", ...)` a machine.
    """
    made: list[mounting.Mount] = []

    def make(program: tuple[str, ...] = mounting.TOY, *options: str | Path) -> mounting.Mount:
        number = len(made)
        directory = tmp_path / f"mount-{number}"
        directory.mkdir()
        mount = mounting.Mount(program, directory, tmp_path / f"log-{number}")
        made.append(mount)
        mount.start(*options)
        return mount

    yield make
    for mount in made:
        mount.dispose()
    for mount in made:
        assert mount.may_log_warnings or not mount.unexpected_lines(), mount.log.read_text()


@pytest.fixture
def mount(new_mount: Callable[..., mounting.Mount]) -> mounting.Mount:
    """A mount of the toy tree."""
    return new_mount()
