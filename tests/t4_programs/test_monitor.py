"""`ndctl monitor` on DIMMs whose notifications come without a reason, not at all, or late."""

from __future__ import annotations

import select
import threading

import pytest
import sandboxes

from nvdimmfs.testing import Machine

pytestmark = [pytest.mark.usefixtures("sandbox"), sandboxes.needs("ndctl")]

FLAGS = "nmem0/nfit/flags"
PATTERN = f"sys/bus/nd/devices/{FLAGS}"

#: Monitors a DIMM until a file is there.
MONITOR = 'ndctl monitor --dimm=nmem0 --log="$0" & until test -e "$1"; do sleep 0.05; done; kill $!; wait $!'


class Monitor:
    """A running `ndctl monitor`."""

    def __init__(self, machine, folder):
        self.machine = machine
        self.log, self.end = folder / "log", folder / "end"
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.touch()
        self.thread.join()

    def run(self):
        self.machine.run(["sh", "-c", MONITOR, self.log, self.end])

    @property
    def reports(self):
        """How often it has reported the health of the DIMM."""
        return self.log.read_text().count('"dev":"nmem0"') if self.log.exists() else 0

    @property
    def is_waiting(self):
        """Whether it has read the file since it was woken, and polls again; until then it would miss a notification."""
        calls = [call for call in self.machine.trace if call.op in ("read", "poll") and call.path.endswith(FLAGS)]
        own = {call.pid for call in calls if call.op == "poll"}  # the program that overheats the DIMM reads it, too
        last = next((call for call in reversed(calls) if call.pid in own), None)
        return last is not None and last.op == "poll" and not last.result & select.POLLPRI

    def wait_for(self, reports):
        sandboxes.wait_until(lambda: self.reports >= reports and self.is_waiting)
        assert self.reports == reports

    def overheat(self):
        """Have the DIMM notify of its temperature."""
        self.machine.run(["ndctl", "inject-smart", "--media-temperature=99", "nmem0"], check=True)


@pytest.fixture
def monitor(tmp_path):
    """It has reported the alarms that the DIMM has, and waits."""
    with Machine("nfit_test", clock="manual") as machine, Monitor(machine, tmp_path) as monitor:
        monitor.wait_for(1)
        yield monitor


def test_it_reports_each_notification(monitor):
    for reports in (2, 3):
        monitor.overheat()
        monitor.wait_for(reports)


def test_it_reports_again_when_it_wakes_for_nothing(monitor):
    with monitor.machine.fail(PATTERN, "poll", notified=True, times=1, comm="ndctl") as fault:
        monitor.wait_for(2)
        assert fault.hits == 1


def test_it_misses_a_notification_that_is_lost_and_reports_the_next(monitor):
    with monitor.machine.fail(PATTERN, "poll", lost=True, times=1, comm="ndctl") as fault:
        monitor.overheat()
        sandboxes.wait_until(lambda: fault.hits == 1)
        monitor.overheat()
        monitor.wait_for(2)


def test_it_reports_a_late_notification_when_it_comes(monitor):
    with monitor.machine.fail(PATTERN, "poll", delay=60, times=1, comm="ndctl") as fault:
        monitor.overheat()
        sandboxes.wait_until(lambda: fault.hits == 1)
        assert monitor.reports == 1
        monitor.machine.clock.advance(60)
        monitor.wait_for(2)
