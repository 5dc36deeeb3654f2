"""The pytest plugin with mounted machines.  Its runs are `pytester`'s."""

from __future__ import annotations

import mounting
import pytest
import sandboxes
from plugin_runs import only_its_plugins, run_apart, run_here  # noqa: F401

#: Makes this host one that cannot mount.
NO_FUSE = """
import pathlib
import nvdimmfs.fuse.requirements
nvdimmfs.fuse.requirements.FUSE_DEVICE = pathlib.Path("/missing/fuse")
"""


class TestMounted:
    @pytest.fixture(autouse=True)
    def can_mount(self, fuse):
        """All of it needs a mount."""

    def test_a_test_gets_a_machine_that_is_mounted_until_its_end(self, pytester):
        pytester.makepyfile(
            """
import pytest

PATHS = []

@pytest.mark.nvdimm(machine=["e820", "nfit_test"])
def test_it(nvdimm, nvdimm_factory):
    other = nvdimm_factory(memmap="256M!4G", ram="8G", machine="e820")
    PATHS.extend([nvdimm.path, other.path])
    nvdimm.write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    namespace = "bus/nd/devices/namespace0.0/driver"
    assert not (nvdimm.sys / namespace).exists()
    assert (other.sys / namespace).exists()
    assert (other.sys / "bus/nd/devices/region0/size").read_text() == "268435456\\n"

def test_afterwards():
    assert not [path for path in PATHS if path.exists()]
"""
        )
        run_here(pytester).assert_outcomes(passed=3)

    @pytest.mark.parametrize("more", ["-n0", "-n2"])
    def test_a_failing_test_shows_what_other_programs_were_refused(self, pytester, more):
        pytester.makepyfile(
            """
def test_it(nvdimm):
    file = (nvdimm.sys / "bus/nd/drivers/nd_pmem/unbind").open("wb", buffering=0)
    with file:
        file.write(b"namespace9.0")
"""
        )
        done = run_here(pytester, more, "--nvdimm-report", "pages")
        done.assert_outcomes(failed=1)
        done.stdout.fnmatch_lines(
            [
                "*- nvdimm: page -*",
                "*- nvdimm: refused by Machine (the default machine) -*",
                "*write*nd_pmem/unbind*namespace9.0*ENODEV*no device 'namespace9.0' on bus nd*",
                "*- nvdimm: memory of Machine (the default machine) -*",
                "*namespace0.0 bound to nd_pmem*",
            ]
        )
        (page,) = (pytester.path / "pages").iterdir()
        assert "no device 'namespace9.0' on bus nd" in page.read_text()
        assert "Not known." not in page.read_text()

    def test_a_traceback_ends_at_the_line_of_the_test(self, pytester):
        pytester.makepyfile(
            """
def test_write(nvdimm):
    nvdimm.write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace9.0")"""
        )
        done = run_here(pytester)
        done.stdout.fnmatch_lines(
            [
                ">*nvdimm.write(*",
                "E *No such device: '/sys/bus/nd/drivers/nd_pmem/unbind'",
                "E *no device 'namespace9.0' on bus nd",
                "",
                "test_*.py:2: OSError",
            ]
        )
        done.stdout.no_fnmatch_line("*contextlib*")

    def test_a_machine_whose_process_has_ended_says_so(self, pytester):
        pytester.makepyfile(
            """
import os, signal, select

def test_it(nvdimm):
    process = int(os.getxattr(nvdimm.path, "user.nvdimmfs.daemon").split()[0])
    pidfd = os.pidfd_open(process)
    os.kill(process, signal.SIGKILL)
    select.select([pidfd], [], [])
    os.close(pidfd)
    assert False
"""
        )
        done = run_here(pytester)
        done.assert_outcomes(failed=1)
        done.stdout.fnmatch_lines(
            ["*- nvdimm: Machine (the default machine) -*", "*the process of the machine on * has ended*"]
        )

    def test_a_machine_that_does_not_answer_holds_nothing_up(self, pytester):
        """Its process is stopped, for as long as the machine is open."""
        pytester.makeconftest("import nvdimmfs.testing.plugin.evidence as evidence\nevidence.LONGEST_ANSWER = 0.1")
        pytester.makepyfile(
            """
import os, signal

def test_it(nvdimm):
    os.kill(int(os.getxattr(nvdimm.path, "user.nvdimmfs.daemon").split()[0]), signal.SIGSTOP)
    assert False
"""
        )
        done = run_apart(pytester)
        done.assert_outcomes(failed=1)
        done.stdout.fnmatch_lines(["*- nvdimm: Machine (the default machine) -*", "it does not answer within 0.1 s"])

    def test_a_worker_that_is_killed_leaves_nothing(self, pytester, tmp_path, monkeypatch, tag):
        """xdist starts another worker, which runs the other tests."""
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        monkeypatch.setenv("TMPDIR", str(temporary))
        monkeypatch.setenv(*tag.split("="))
        pytester.makepyfile(
            """
import os, signal, pytest

@pytest.mark.parametrize("number", range(6))
def test_it(nvdimm, nvdimm_factory, number):
    nvdimm_factory()
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""
        )
        done = run_apart(pytester, "-n2")
        done.stdout.fnmatch_lines(["*worker * crashed while running *test_it?2?*"])
        done.assert_outcomes(passed=5, failed=1)
        sandboxes.wait_for_end_of(tag)
        assert not mounting.mounted_below(temporary)
        assert not [*temporary.glob("nvdimmfs*")]


class TestUnavailable:
    def test_tests_are_skipped_with_the_reason(self, pytester):
        pytester.makeconftest(NO_FUSE)
        pytester.makepyfile(
            """
def test_fixture(nvdimm): pass
def test_factory(nvdimm_factory): nvdimm_factory()
def test_engine(nvdimm_engine): pass
"""
        )
        done = run_apart(pytester, "-rs")
        done.assert_outcomes(skipped=2, passed=1)
        done.stdout.fnmatch_lines(["SKIPPED *: mount: /missing/fuse is missing; load the kernel's fuse module*"])

    @pytest.mark.parametrize("where", ["command line", "configuration"])
    def test_tests_fail_where_machines_are_required(self, pytester, where):
        pytester.makeconftest(NO_FUSE)
        if where == "configuration":
            pytester.makeini("[pytest]\nnvdimm_required = true\n")
        pytester.makepyfile("def test_fixture(nvdimm): pass\ndef test_factory(nvdimm_factory): nvdimm_factory()")
        done = run_apart(pytester, "-n2", *["--nvdimm-required"] * (where == "command line"))
        done.assert_outcomes(errors=1, failed=1)
        done.stdout.fnmatch_lines(["mount: /missing/fuse is missing; load the kernel's fuse module*"])
        done.stdout.no_fnmatch_line("*Traceback*")

    def test_other_errors_are_not_taken_for_it(self, pytester):
        pytester.makepyfile("def test_it(nvdimm_engine): raise RuntimeError('mine')")
        done = run_apart(pytester)
        done.assert_outcomes(failed=1)
        done.stdout.fnmatch_lines(["E *RuntimeError: mine"])
