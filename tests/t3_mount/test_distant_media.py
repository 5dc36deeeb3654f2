"""`--media` on a file system like one on a network: requests fail, are answered late, or never."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import mounting
import pytest
from mounting import MACHINE, ROOT, Mount

NAMESPACE = "sys/bus/nd/devices/namespace0.0"
ND_PMEM = "sys/bus/nd/drivers/nd_pmem"

#: The requests of which each may fail.
REQUESTS = (
    "lookup",
    "getattr",
    "setattr",
    "statfs",
    "open",
    "create",
    "read",
    "write",
    "fsync",
    "flush",
    "unlink",
    "rename",
    "mkdir",
    "fsyncdir",
    "all",
)


@attrs.define
class Distant:
    """The file system, and a mount of a machine whose media are on it.

    Attributes:
        place: a folder of this test.
        server: of the file system.
        mount: of the machine.
    """

    place: Path
    server: subprocess.Popen[str]
    mount: Mount

    def order(self, faults: str = "") -> None:
        """From now on, requests meet these faults, and no others."""
        new = self.place / "new"
        new.write_text(faults)
        new.rename(self.place / "faults")

    def start(self) -> subprocess.CompletedProcess[str]:
        """Mount the machine."""
        options = ("--machine", "one-dimm", "--media", self.place / "far/media", "--log", self.mount.log)
        done = mounting.cli("mount", self.mount.directory, *options, env=mounting.warm_environment())
        if not done.returncode:
            self.mount.find_daemon()
        return done

    def umount(self) -> subprocess.CompletedProcess[str]:
        done = self.mount.umount()
        self.mount.dispose()
        return done

    def store(self, path: str, text: str) -> int:
        """Write once.  Returns the errno; 0 for success."""
        try:
            file = os.open(self.mount.directory / path, os.O_WRONLY)
        except OSError as failure:
            return failure.errno
        try:
            os.write(file, text.encode())
            os.fsync(file)
        except OSError as failure:
            return failure.errno
        finally:
            os.close(file)
        return 0

    def name(self) -> str:
        return (self.mount.directory / NAMESPACE / "alt_name").read_text()

    def bugs(self) -> list[str]:
        return [line for line in self.mount.log.read_text().splitlines() if "Traceback" in line or "a bug" in line]


@pytest.fixture
def distant(fuse: None, tmp_path: Path) -> Iterator[Distant]:
    for name in ("near", "far", "mount"):
        (tmp_path / name).mkdir()
    (tmp_path / "faults").write_text("")
    program = (sys.executable, ROOT / "tests/support/distant_files.py")
    argv = (*program, tmp_path / "near", tmp_path / "far", tmp_path / "faults")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        distant = Distant(tmp_path, server, Mount(MACHINE, tmp_path / "mount", tmp_path / "log"))
        distant.mount.log.touch()
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "mounted\n"
            yield distant
        finally:
            server.kill()
            server.wait()
            distant.mount.dispose()
            mounting.detach(tmp_path / "far")


def create(distant: Distant) -> None:
    """A namespace with a label."""
    assert distant.start().returncode == 0
    assert distant.store(f"{NAMESPACE}/uuid", "00000001-1111-2222-3333-444444444444") == 0
    assert distant.store(f"{NAMESPACE}/size", str(64 << 20)) == 0
    assert distant.store(f"{NAMESPACE}/alt_name", "first") == 0


def test_a_machine_finds_what_it_has_stored(distant: Distant) -> None:
    create(distant)
    assert distant.store(f"{ND_PMEM}/bind", "namespace0.0") == 0
    assert distant.store("dev/pmem0", "hello") == 0
    assert distant.umount().returncode == 0
    assert distant.start().returncode == 0
    assert distant.name() == "first\n"
    with (distant.mount.directory / "dev/pmem0").open("rb") as disk:
        assert disk.read(5) == b"hello"
    assert distant.umount().returncode == 0


def test_a_daemon_that_is_killed_loses_nothing(distant: Distant) -> None:
    create(distant)
    distant.mount.kill(signal.SIGKILL)
    distant.mount.dispose()
    assert distant.start().returncode == 0
    assert distant.name() == "first\n"
    assert distant.umount().returncode == 0


def test_late_answers_are_waited_for(distant: Distant) -> None:
    distant.order("all late")
    create(distant)
    assert distant.umount().returncode == 0


def test_a_boot_that_fails_says_why(distant: Distant) -> None:
    for request_ in REQUESTS:
        distant.order(f"{request_} EIO")
        done = distant.start()
        assert done.returncode == 0 or mounting.ONE_LINE.fullmatch(done.stderr), (request_, done.stderr)
        assert "a bug" not in done.stderr, request_
        distant.order()
        if not done.returncode:
            assert distant.umount().returncode == 0
    create(distant)
    assert distant.umount().returncode == 0


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.ESTALE], ids=errno.errorcode.get)
def test_a_store_that_fails_can_be_done_again(distant: Distant, number: int) -> None:
    """A store fails with the errno of the file system, or does not need the request that fails."""
    create(distant)
    for request_ in REQUESTS:
        distant.order(f"{request_} {errno.errorcode[number]}")
        assert distant.store(f"{NAMESPACE}/alt_name", request_) in (0, number), request_
        distant.order()
        assert distant.store(f"{NAMESPACE}/alt_name", f"{request_} again") == 0, request_
    assert distant.umount().returncode == 0
    assert distant.start().returncode == 0
    assert distant.name() == f"{REQUESTS[-1]} again\n"
    assert distant.umount().returncode == 0
    assert distant.bugs() == []


@pytest.mark.parametrize("request_", ["setattr", "fsync", "flush", "unlink", "all"])
def test_an_end_that_fails_loses_nothing(distant: Distant, request_: str) -> None:
    create(distant)
    distant.order(f"{request_} EIO")
    done = distant.umount()
    assert done.returncode == 0 or mounting.ONE_LINE.fullmatch(done.stderr), done.stderr
    distant.order()
    assert distant.start().returncode == 0
    assert distant.name() == "first\n"
    assert distant.umount().returncode == 0
    assert distant.bugs() == []


def test_a_daemon_that_waits_for_ever_is_reported_and_can_be_ended(distant: Distant) -> None:
    """It answers nobody meanwhile, and ends with the file system that does not answer."""
    create(distant)
    distant.order("fsync never")
    path = distant.mount.directory / NAMESPACE / "alt_name"
    with subprocess.Popen(["sh", "-c", f"echo second > {path}"], stderr=subprocess.DEVNULL) as writer:
        assert distant.server.stdout is not None
        assert distant.server.stdout.readline() == "fsync\n"
        shown = mounting.cli("show", distant.mount.directory)
        assert mounting.refusal(shown).endswith("does not answer: it is stopped, or hangs")
        distant.mount.kill(signal.SIGKILL)
        distant.server.kill()
        assert distant.mount.has_ended()
        assert writer.wait() != 0
