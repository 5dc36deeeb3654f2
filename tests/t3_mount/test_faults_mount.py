"""Fault rules on a real mount: the debug file, delays, callers, sandboxes, and a rule that stays."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import threading

import pytest
from watchdog import WATCHDOG

from nvdimmfs.testing import Machine, UnavailableError

FAULTS = "/sys/kernel/debug/nvdimmfs/faults"
SIZE = "sys/bus/nd/devices/region0/size"
DRIVER = "sys/bus/nd/drivers/nd_pmem"

#: ND_IOCTL_GET_CONFIG_SIZE (include/uapi/linux/ndctl.h), as a program in a sandbox sends it.
GET_SIZE = "import fcntl, sys; fcntl.ioctl(open(sys.argv[1], 'r+b', 0), 0xC00C4E04, bytes(12)); print('ok')"


@pytest.fixture(scope="module")
def shared(fuse):
    with Machine(memmap="512M!4G") as machine:
        yield machine


@pytest.fixture
def machine(shared):
    with shared.checkpoint():
        yield shared


@pytest.fixture(scope="module")
def dimms(fuse):
    with Machine("qemu-nfit") as machine:
        yield machine


def errno_of(call, *arguments):
    try:
        call(*arguments)
    except OSError as refusal:
        return refusal.errno
    return 0


def until(is_reached):
    """Wait for a condition; a test that waits for ever ends with the watchdog."""
    ended = threading.Event()
    for _ in range(int(WATCHDOG * 100)):
        if is_reached():
            return
        ended.wait(0.01)
    pytest.fail("it is never reached")


def test_a_rule_is_declared_with_echo_and_listed_with_cat(machine):
    rule = "read sys/bus/nd/devices/*/size errno=EIO times=1"
    script = f"""
        cd {machine.sys}
        echo 'add {rule}' > kernel/debug/nvdimmfs/faults
        cat bus/nd/devices/region0/size bus/nd/devices/region0/size
        cat kernel/debug/nvdimmfs/faults
        echo clear > kernel/debug/nvdimmfs/faults
    """
    done = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True, timeout=WATCHDOG)
    assert done.stdout == f"536870912\nadd {rule}  # rule 1, hits 1\n"
    assert done.stderr.count("Input/output error") == 1


def test_a_write_that_python_repeats_fails_twice_while_the_rule_stays(machine):
    (machine.path / DRIVER / "unbind").write_text("namespace0.0")
    with machine.fail("namespace*", "register", errno.ENOMEM) as fault:
        assert errno_of((machine.path / DRIVER / "bind").write_text, "namespace0.0") == errno.ENOMEM
        assert fault.hits == 2
        assert not (machine.path / DRIVER / "namespace0.0").exists()
    assert fault.hits == 2
    (machine.path / DRIVER / "bind").write_text("namespace0.0")


def test_the_reason_of_a_refusal_names_the_rule(machine):
    with machine.fail(SIZE, "read", "EIO"), pytest.raises(OSError, match="Input/output error") as refusal:
        machine.read(SIZE)
    (note,) = refusal.value.__notes__
    assert note.startswith(f"fault rule 1: read {SIZE} errno=EIO name=fault-")


@pytest.mark.parametrize(
    ("arguments", "details", "message"),
    [
        (("sys/x", "reed", "EIO"), {}, 'operation: "reed"'),
        (("sys/x", "read"), {"short": 1, "garbage": 1}, "not short and"),
    ],
)
def test_a_rule_that_cannot_be_is_a_value_error(machine, arguments, details, message):
    with pytest.raises(ValueError, match=message):
        machine.fail(*arguments, **details)


def test_two_rules_have_two_names(machine):
    machine.fail(SIZE, "read", short=1, name="one")
    with pytest.raises(ValueError, match="another fault rule has the name one"):
        machine.fail(SIZE, "read", short=1, name="one")


def test_a_delayed_request_holds_up_no_other(fuse):
    """One process waits for an hour, and the others are answered; the end of the machine ends the wait."""
    with Machine(memmap="512M!4G") as machine, contextlib.ExitStack() as readers:
        fault = machine.fail(SIZE, "read", delay=3600, times=1)
        reader = subprocess.Popen(["cat", machine.path / SIZE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        readers.callback(reader.wait, WATCHDOG)
        readers.callback(reader.kill)
        until(lambda: fault.hits == 1)
        assert (machine.path / SIZE).read_text() == "536870912\n"
        (machine.path / DRIVER / "unbind").write_text("namespace0.0")
        assert reader.poll() is None
        machine.close()
        reader.communicate(timeout=WATCHDOG)


@pytest.mark.parametrize("operation", ["open", "read"])
def test_a_process_that_waits_can_be_killed(machine, operation):
    with machine.fail(SIZE, operation, delay=3600, times=1) as fault:
        reader = subprocess.Popen(["cat", machine.path / SIZE], stdout=subprocess.DEVNULL)
        until(lambda: fault.hits == 1)
        reader.kill()
        assert reader.wait(WATCHDOG) == -signal.SIGKILL
    assert (machine.path / SIZE).read_text() == "536870912\n"


def test_a_rule_can_be_about_one_program(machine):
    with machine.fail(SIZE, "read", "EIO", comm="head") as fault:
        assert subprocess.run(["cat", machine.path / SIZE], check=True, capture_output=True).stdout == b"536870912\n"
        refused = subprocess.run(["head", machine.path / SIZE], check=False, capture_output=True, text=True)
        assert "Input/output error" in refused.stderr
    assert fault.hits == 1


def test_a_disk_fails_behind_the_page_cache(machine):
    with machine.fail("dev/pmem0", "read", "EIO") as fault:
        assert errno_of(machine.read_bytes, "dev/pmem0", 0, 4096) == errno.EIO
        assert fault.hits > 0
    assert machine.read_bytes("dev/pmem0", 0, 4096) == bytes(4096)
    with machine.fail("dev/pmem0", "write", "ENOSPC"):
        assert errno_of(machine.write, "dev/pmem0", bytes(4096)) == errno.ENOSPC


def in_sandbox(machine, *command):
    try:
        return machine.run(command)
    except UnavailableError as reason:
        pytest.skip(str(reason))


def test_an_ioctl_in_a_sandbox_fails_for_the_program_that_is_meant(dimms):
    ask = ["python3", "-c", GET_SIZE]
    assert in_sandbox(dimms, *ask, "/dev/nmem0").stdout == "ok\n"
    with dimms.fail("dev/nmem1", "ioctl", "EINTR"), dimms.fail("dev/nmem0", "ioctl", "EPERM", comm="none"):
        refused = in_sandbox(dimms, *ask, "/dev/nmem1")
        assert "InterruptedError" in refused.stderr
        assert in_sandbox(dimms, *ask, "/dev/nmem0").stdout == "ok\n"
    with dimms.fail("dev/nmem*", "ioctl", "EPERM", comm="a-program") as fault:
        renamed = "open('/proc/self/comm', 'w').write('a-program'); "
        refused = in_sandbox(dimms, "python3", "-c", renamed + GET_SIZE, "/dev/nmem0")
        assert "PermissionError" in refused.stderr
        assert fault.hits == 1


def test_a_delayed_ioctl_is_carried_out(dimms):
    with dimms.fail("dev/nmem0", "ioctl", delay=0.001) as fault:
        assert in_sandbox(dimms, "python3", "-c", GET_SIZE, "/dev/nmem0").stdout == "ok\n"
        assert dimms.ioctl("/dev/nmem0", 0xC00C4E04, bytes(12))
        assert fault.hits == 2


def test_a_delayed_ioctl_holds_up_no_other(dimms):
    """The first one waits in a sandbox for an hour, while others are answered; the end of its sandbox ends it."""
    with dimms.fail("dev/nmem0", "ioctl", delay=3600, times=1) as fault:
        script = f'python3 -c "{GET_SIZE}" /dev/nmem0 & '
        script += f"while ! grep -q 'hits 1' {FAULTS}; do :; done; "
        script += f'python3 -c "{GET_SIZE}" /dev/nmem0; kill -KILL $!'
        done = in_sandbox(dimms, "sh", "-c", script)
        assert (done.stdout, done.returncode) == ("ok\n", 0)
        assert fault.hits == 1


# poll(2)


SCRUB = "sys/devices/platform/nfit_test.0/ndbus0/nfit/scrub"


class Poller(threading.Thread):
    """Waits in poll(2) until a file is notified, as a daemon does; `woken` is set then."""

    def __init__(self, machine):
        super().__init__(daemon=True)
        self.file = os.open(machine.path / SCRUB, os.O_RDONLY | os.O_CLOEXEC)
        os.pread(self.file, 4096, 0)
        self.woken = threading.Event()

    def run(self):
        poller = select.poll()
        poller.register(self.file, select.POLLPRI)
        poller.poll()
        self.woken.set()

    def ask(self):
        """What poll(2) reports at once."""
        poller = select.poll()
        poller.register(self.file, select.POLLPRI)
        return bool(poller.poll(0))

    def end(self):
        self.join()
        os.close(self.file)


@pytest.fixture
def manual(fuse):
    with Machine("nfit_test", clock="manual") as machine:
        machine.clock.advance(600)  # scrubs of the boot end
        yield machine


def polls_of(machine):
    return [event for event in machine.trace if event.op == "poll"]


def test_a_process_that_waits_wakes_without_a_notification(manual):
    poller = Poller(manual)
    poller.start()
    until(lambda: polls_of(manual))
    fault = manual.fail(SCRUB, "poll", notified=True, times=1)
    assert poller.woken.wait(WATCHDOG)
    assert fault.hits == 1
    assert poller.ask()
    os.pread(poller.file, 4096, 0)
    assert not poller.ask()
    assert any("poll" in str(effect) for event in polls_of(manual) for effect in event.effects)
    poller.end()


def test_a_lost_notification_wakes_no_process(manual):
    """The scrub that ends first is the one that is lost; that of another one wakes it."""
    poller = Poller(manual)
    fault = manual.fail(SCRUB, "poll", lost=True, times=1)
    poller.start()
    until(lambda: polls_of(manual))
    manual.write(SCRUB, "1")
    manual.clock.advance(60)
    until(lambda: fault.hits == 1)
    assert not poller.ask()
    assert not poller.woken.is_set()
    manual.write(SCRUB, "1")
    manual.clock.advance(60)
    assert poller.woken.wait(WATCHDOG)
    poller.end()


def test_a_late_notification_wakes_a_process_when_it_is_due(manual):
    poller = Poller(manual)
    fault = manual.fail(SCRUB, "poll", delay=90)
    poller.start()
    until(lambda: polls_of(manual))
    manual.write(SCRUB, "1")
    manual.clock.advance(60)
    until(lambda: fault.hits == 1)
    assert "a late notification" in [event.what for event in manual.clock.pending]
    assert not poller.ask()
    assert not poller.woken.is_set()
    manual.clock.advance(90)
    assert poller.woken.wait(WATCHDOG)
    assert fault.hits == 1
    poller.end()


@pytest.mark.usefixtures("fuse")
def test_a_process_that_only_waits_waits_for_a_late_notification():
    """With a clock that steps, time passes for it."""
    with Machine("nfit_test") as machine, machine.fail(SCRUB, "poll", delay=90) as fault:
        machine.clock.advance(600)
        poller = Poller(machine)
        machine.write(SCRUB, "1")
        poller.start()
        assert poller.woken.wait(WATCHDOG)
        assert fault.hits == 1
        poller.end()


def test_epoll_reports_a_notification_until_the_file_is_read(manual):
    file = os.open(manual.path / SCRUB, os.O_RDONLY | os.O_CLOEXEC)
    os.pread(file, 4096, 0)
    with manual.fail(SCRUB, "poll", notified=True, times=1) as fault, select.epoll() as epoll:
        epoll.register(file, select.EPOLLPRI)
        for _ in range(3):
            assert epoll.poll(0) == [(file, select.EPOLLPRI | select.EPOLLERR)]
        assert fault.hits == 1
        os.pread(file, 4096, 0)
        assert epoll.poll(0) == []
    os.close(file)
