"""The pytest plugin: fixtures, the mark, options and reports, without a mount.  Its runs are `pytester`'s."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mounting import environment
from plugin_runs import only_its_plugins, run_apart, run_here  # noqa: F401

from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.testing.plugin.marks import KEYS, MarkError, Selection, merged, selection, variants

HERE = Path(__file__).parent


class Mark:
    """As pytest keeps it."""

    def __init__(self, *args, **kwargs):
        self.args = args
        self.kwargs = kwargs


class TestMarks:
    def test_the_closest_mark_counts_for_each_name(self):
        marks = [Mark(machine="e820"), Mark(machine="nfit_test", kernel="4.3")]
        assert merged(marks, {"kernel": "6.1", "ram": "8G"}) == {"machine": "e820", "kernel": "4.3", "ram": "8G"}

    def test_each_name_can_be_set(self):
        assert [*Selection.__slots__][: len(KEYS)] == [*KEYS]

    def test_lists_make_a_test_for_each_combination(self):
        found = variants({"kernel": ["4.3", "6.1"], "machine": ("e820", "./dir/one.toml"), "memmap": "512M!4G"})
        assert [variant.name for variant in found] == ["e820-4.3", "e820-6.1", "one-4.3", "one-6.1"]
        assert found[1].chosen == {"machine": "e820", "kernel": "6.1"}

    def test_no_list_makes_one_test(self):
        assert variants({"machine": "e820"}) == []

    @pytest.mark.parametrize(
        ("marks", "message"),
        [
            ([Mark("e820")], "'e820' needs a name, as in machine=...; the names are machine, kernel, "),
            ([Mark(machin="e820")], "unknown name machin; the names are machine, kernel, "),
        ],
    )
    def test_a_mark_with_a_wrong_name_is_a_mistake(self, marks, message):
        with pytest.raises(MarkError, match=message):
            merged(marks, {})

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"machine": "e821"}, "e821: unknown machine; the machines are e820, "),
            ({"machine": "missing.toml"}, r"/there/missing.toml: No such file"),
            ({"machine": 820}, "machine must be a name, a path or a MachineDescription, not 820"),
            ({"machine": ["e820"]}, "not a list; only a mark of a function, class or module can have one"),
            ({"kernel": "9.9"}, "kernel 9.9: must be one of "),
            ({"kernel": 6.1}, "kernel must be a text, not 6.1"),
            ({"memmap": "512M!"}, "memmap"),
            ({"ram": True}, "ram must be a number of bytes or a text, not True"),
            ({"clock": "sundial"}, "clock sundial: must be one of "),
            ({"media": "folder"}, "media must be True or False, not 'folder'"),
        ],
    )
    def test_a_machine_that_cannot_exist_is_a_mistake(self, values, message):
        with pytest.raises(MarkError, match=message):
            selection(values, Path("/there"))

    @pytest.mark.parametrize(
        ("values", "message"),
        [({"media": [True]}, "media must be True or False, not a list"), ({"ram": []}, "ram has no value")],
    )
    def test_some_lists_are_mistakes(self, values, message):
        with pytest.raises(MarkError, match=message):
            variants(values)

    def test_a_selection_is_named_in_a_line(self):
        machine = MachineDescription(name="mine", memmap="512M!4G")
        assert str(selection({"machine": machine, "ram": 8 << 30}, HERE)) == "mine, ram=8589934592"
        assert str(Selection()) == "the default machine"


class TestFixtures:
    def test_a_test_gets_the_machine_of_its_mark(self, pytester):
        own = pytester.mkdir("own")
        own.joinpath("one.toml").write_text('ram = "8G"\nmemmap = "1G!4G"\n')
        own.joinpath("test_own.py").write_text(
            """
import pytest

SIZE = "/sys/bus/nd/devices/region0/size"

def test_the_default(nvdimm_engine):
    assert nvdimm_engine.read(SIZE) == "536870912\\n"

@pytest.mark.nvdimm(machine="one.toml")
def test_a_path_begins_at_the_file_of_the_test(nvdimm_engine):
    assert nvdimm_engine.read(SIZE) == "1073741824\\n"

@pytest.mark.nvdimm(machine=["e820", "nfit_test"], kernel=["4.3", "6.1"])
class TestAll:
    def test_each(self, nvdimm_engine, request):
        machine = "nfit_test" if nvdimm_engine.exists("/sys/bus/nd/devices/nmem0") else "e820"
        assert request.node.name == f"test_each[{machine}-{nvdimm_engine.layout['kernel']}]"

    @pytest.mark.nvdimm(machine="e820", memmap="256M!4G")
    def test_some(self, nvdimm_engine):
        assert nvdimm_engine.read(SIZE) == "268435456\\n"

    @pytest.mark.parametrize("dimms", [0, pytest.param(6, marks=pytest.mark.nvdimm(machine="nfit_test"))])
    @pytest.mark.nvdimm(machine="e820", kernel="6.1")
    def test_a_mark_of_a_parameter(self, nvdimm_engine, dimms):
        names = nvdimm_engine.ls("/sys/bus/nd/devices")
        assert len([name for name in names if name.startswith("nmem")]) == dimms
"""
        )
        run_here(pytester).assert_outcomes(passed=10)

    def test_the_factory_makes_several_machines_and_closes_them(self, pytester):
        pytester.makepyfile(
            """
import pytest

ENGINES = []
UNBIND = "/sys/bus/nd/drivers/nd_pmem/unbind"

@pytest.mark.nvdimm(memmap="512M!4G", media=True)
def test_several(nvdimm_engine, nvdimm_factory, tmp_path):
    ENGINES.extend([
        nvdimm_engine, nvdimm_factory.engine(), nvdimm_factory.engine("e820", kernel="6.1", media=False),
        nvdimm_factory.engine(media=tmp_path / "media")])
    ENGINES[0].write(UNBIND, "namespace0.0")
    assert [engine.exists("/dev/pmem0") for engine in ENGINES] == [False, True, True, True]
    assert any((tmp_path / "media").iterdir())
    ENGINES[2].checkpoint()  # which a machine with media refuses
    with pytest.raises(ValueError):
        ENGINES[1].checkpoint()

def test_afterwards():
    for engine in ENGINES:
        with pytest.raises(ValueError, match="closed"):
            engine.ls()
"""
        )
        run_here(pytester).assert_outcomes(passed=2)

    def test_media_in_memory_leave_no_folder(self, pytester, tmp_path):
        pytester.makepyfile("def test_it(nvdimm_engine): pass")
        run_here(pytester, "--basetemp", tmp_path / "base").assert_outcomes(passed=1)
        assert not [*tmp_path.glob("base/nvdimm*")]


class TestMistakes:
    def test_a_wrong_mark_is_an_error_that_names_the_test(self, pytester):
        pytester.makepyfile(
            test_key="import pytest\n@pytest.mark.nvdimm(machin='e820')\ndef test_it(nvdimm_engine): pass",
            test_name="import pytest\n@pytest.mark.nvdimm(machine=['e820', 'e821'])\ndef test_it(nvdimm_factory): pass",
        )
        done = run_here(pytester, "-n0")
        done.assert_outcomes(errors=2)
        assert done.ret == pytest.ExitCode.INTERRUPTED
        done.stdout.fnmatch_lines(
            [
                "test_key.py::test_it: mark nvdimm: unknown name machin; the names are machine, *",
                "test_name.py::test_it: mark nvdimm: e821: unknown machine; the machines are e820, *",
            ]
        )
        done.stdout.no_fnmatch_line("*Traceback*")
        done.stdout.no_fnmatch_line("*MarkError*")

    def test_a_wrong_mark_of_a_parameter_names_the_test(self, pytester):
        pytester.makepyfile(
            """
import pytest
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.nvdimm(machine=["e820"]))])
def test_it(nvdimm_engine, x): pass
"""
        )
        done = run_here(pytester)
        done.assert_outcomes(errors=1)
        done.stdout.fnmatch_lines(["test_*.py::test_it?1?: mark nvdimm: machine must be *, not a list; *"])
        done.stdout.no_fnmatch_line("*another exception*")

    @pytest.mark.parametrize("more", [(), ("-n2",)])
    def test_a_wrong_option_is_a_usage_error(self, pytester, more):
        pytester.makepyfile("def test_it(nvdimm_engine): pass")
        done = run_here(pytester, "--nvdimm-kernel", "9.9", *more)
        assert done.ret == pytest.ExitCode.USAGE_ERROR
        done.stderr.fnmatch_lines(["ERROR: --nvdimm-kernel: kernel 9.9: must be one of *"])

    def test_a_wrong_line_in_the_configuration_names_the_file(self, pytester):
        pytester.makeini("[pytest]\nnvdimm_machine = e821\n")
        pytester.makepyfile("def test_it(nvdimm_engine): pass")
        done = run_here(pytester)
        done.assert_outcomes(errors=1)
        done.stdout.fnmatch_lines(["tox.ini: nvdimm_machine: e821: unknown machine; *"])

    def test_it_does_not_matter_where_no_test_uses_it(self, pytester):
        pytester.makeini("[pytest]\nnvdimm_machine = e821\n")
        pytester.makepyfile("def test_it(): pass")
        run_here(pytester).assert_outcomes(passed=1)


class TestOptions:
    def test_options_set_what_no_mark_sets(self, pytester):
        pytester.makeini("[pytest]\nnvdimm_machine = folder/one.toml nfit_test\n")
        pytester.mkdir("folder").joinpath("one.toml").write_text('ram = "8G"\nmemmap = "1G!4G"\n')
        pytester.makepyfile(
            """
import pytest

def test_free(nvdimm_engine): pass

@pytest.mark.nvdimm(machine="e820")
def test_marked(nvdimm_engine): pass
"""
        )
        done = run_here(pytester, "-v", "--nvdimm-kernel", "4.3", "--nvdimm-kernel=6.1")
        done.assert_outcomes(passed=6)
        names = [f"test_free[[]{machine}-{kernel}[]]" for machine in ("one", "nfit_test") for kernel in ("4.3", "6.1")]
        done.stdout.fnmatch_lines(
            [f"*::{name} PASSED*" for name in (*names, "test_marked[[]4.3[]]", "test_marked[[]6.1[]]")]
        )

    def test_workers_have_them_too(self, pytester):
        pytester.makepyfile("def test_it(nvdimm_engine): assert nvdimm_engine.layout['kernel'] == '4.3'")
        run_here(pytester, "-n2", "--nvdimm-kernel", "4.3").assert_outcomes(passed=1)

    def test_it_is_loaded_where_it_is_installed_and_the_mark_is_known(self, pytester, monkeypatch):
        monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
        pytester.makepyfile("import pytest\n@pytest.mark.nvdimm(kernel='4.3')\ndef test_it(nvdimm_engine): pass")
        done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers")
        done.assert_outcomes(passed=1)


FAILING = """
def test_it(nvdimm_engine):
    nvdimm_engine.write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    nvdimm_engine.write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace9.0")
"""


FUNCTION = """
from nvdimmfs.testing.commands import CommandResult

def test_it(nvdimm_factory):
    {}
"""

METHOD = """
import unittest
import pytest
from nvdimmfs.testing.commands import CommandResult

class TestIt(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def keep(self, nvdimm_factory):
        self.factory = nvdimm_factory

    def test_it(self):
        nvdimm_factory = self.factory
        {}
"""


class TestReports:
    @pytest.mark.parametrize("more", ["-n0", "-n2"])
    def test_a_failing_test_shows_its_machine(self, pytester, more):
        pytester.makepyfile(FAILING)
        done = run_here(pytester, more)
        done.assert_outcomes(failed=1)
        done.stdout.fnmatch_lines(
            [
                ">*nvdimm_engine.write(*",
                "E *No such device: '/sys/bus/nd/drivers/nd_pmem/unbind'",
                "E *no device 'namespace9.0' on bus nd",
                "*: OSError",
                "*- nvdimm: refused by Engine (the default machine) -*",
                "* write(*, \"namespace9.0\", 12) = -1 ENODEV (no device 'namespace9.0' on bus nd)",
                "*- nvdimm: the last calls of Engine (the default machine) -*",
                '* write(*, "namespace0.0", 12) = 12',
                "    nd_pmem is unbound from namespace0.0",
                "*- nvdimm: memory of Engine (the default machine) -*",
                "physical addresses",
                "  bound to no driver",
            ]
        )
        done.stdout.no_fnmatch_line("*as_os_error*")

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ("nvdimm_factory.engine('nosuch')", "MachineFileError"),
            ("nvdimm_factory.engine(memmap='512M')", "SelectionError"),
            ("nvdimm_factory.engine(ram=1.5)", "TypeError"),
            ("nvdimm_factory.engine().write('/sys/x', None)", "TypeError"),
            ("nvdimm_factory.engine().diff('x')", "DumpError"),
            ("CommandResult(('true',), 0, 'x', '').json()", "JSONDecodeError"),
        ],
    )
    @pytest.mark.parametrize("form", [FUNCTION, METHOD])
    def test_tracebacks_of_all_mistakes_end_at_the_line_of_the_test(self, pytester, form, line, error):
        pytester.makepyfile(form.format(line))
        done = run_here(pytester)
        done.assert_outcomes(failed=1)
        done.stdout.fnmatch_lines([f">*{line.partition('(')[0]}(*", f"E *{error}: *", f"test_*.py:*: {error}"])
        done.stdout.no_fnmatch_line("*/nvdimmfs/*.py:*")

    def test_the_whole_traceback_is_there_on_request(self, pytester):
        pytester.makepyfile(FAILING)
        run_here(pytester, "--full-trace").stdout.fnmatch_lines(["*def as_os_error*"])

    def test_each_machine_is_shown_and_one_that_cannot_be_shown_says_why(self, pytester):
        pytester.makepyfile(
            """
def test_it(nvdimm_factory):
    nvdimm_factory.engine("e820")
    nvdimm_factory.engine("nfit_test").close()
    assert False
"""
        )
        done = run_here(pytester)
        done.stdout.fnmatch_lines(
            ["*- nvdimm: memory of Engine (e820) -*", "*- nvdimm: Engine (nfit_test) -*", "the engine is closed"]
        )

    def test_writes_are_shown_before_many_reads(self, pytester):
        pytester.makepyfile(
            """
def test_it(nvdimm_engine):
    nvdimm_engine.write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
    for _ in range(20):
        nvdimm_engine.read("/sys/bus/nd/devices/region0/size")
    assert False
"""
        )
        run_here(pytester).stdout.fnmatch_lines(
            [
                "*- nvdimm: what has acted on Engine (the default machine) -*",
                '* write(*, "namespace0.0", 12) = 12',
                "    nd_pmem is unbound from namespace0.0",
                "*- nvdimm: the last calls of Engine (the default machine) -*",
                "26 calls before these are left out",
                "* read(*",
            ]
        )

    def test_a_test_that_passes_shows_none(self, pytester):
        pytester.makepyfile("def test_it(nvdimm_engine): pass")
        run_here(pytester, "-rA").stdout.no_fnmatch_line("*memory of*")

    def test_many_namespaces_are_cut(self, pytester):
        pytester.makepyfile(
            """
import pytest

@pytest.mark.nvdimm(memmap=",".join(f"16M!{4096 + 16 * number}M" for number in range(100)), ram="8G")
def test_it(nvdimm_engine):
    assert False
"""
        )
        run_here(pytester).stdout.fnmatch_lines(["... and * more lines"])


class TestPages:
    @pytest.mark.parametrize("where", ["command line", "configuration"])
    def test_each_failing_test_has_a_page(self, pytester, where):
        pages = pytester.mkdir("pages")
        (pages / "old.nvdimm.html").touch()
        if where == "configuration":
            pytester.makeini("[pytest]\nnvdimm_report = pages\n")
        pytester.makepyfile(
            """
import pytest

@pytest.mark.parametrize("name", ["</script>", "a b", "x" * 300])
def test_call(nvdimm_engine, name): assert False

@pytest.fixture
def broken(nvdimm_engine): assert False

def test_setup(broken): pass
def test_pass(nvdimm_engine): pass
def test_other(): assert False
"""
        )
        done = run_here(pytester, "-n2", *["--nvdimm-report", "pages"] * (where == "command line"))
        done.assert_outcomes(failed=4, errors=1, passed=1)
        written = sorted(page.name for page in pages.iterdir())
        assert len(written) == 4
        for name in written:
            done.stdout.fnmatch_lines([f"{pages}/{name}"])
            page = (pages / name).read_text()
            assert "E   assert False" in page
            assert re.search(r"failed in its (call|setup) after [0-9.]+ s in worker gw[01];", page)

    @pytest.mark.parametrize(
        ("folder", "reason"),
        [
            ("file/pages", "*/file/pages: Not a directory"),
            ("file", "*/file: Not a directory"),
            ("", "the name of the folder is empty"),
        ],
    )
    def test_a_folder_that_cannot_be_made_is_a_usage_error(self, pytester, folder, reason):
        pytester.makepyfile(FAILING).rename("file")
        done = run_here(pytester, "--nvdimm-report", folder)
        assert done.ret == pytest.ExitCode.USAGE_ERROR
        done.stderr.fnmatch_lines([f"ERROR: --nvdimm-report: {reason}"])

    def test_a_page_that_cannot_be_written_is_reported(self, pytester):
        pytester.makepyfile(
            """
import pathlib

def test_it(nvdimm_engine):
    pathlib.Path("pages").rmdir()
    pathlib.Path("pages").touch()
    assert False
"""
        )
        done = run_here(pytester, "--nvdimm-report", "pages")
        done.assert_outcomes(failed=1)
        done.stdout.fnmatch_lines(["it cannot be written to */pages: File exists"])

    def test_a_bug_in_the_report_does_not_end_the_run(self, pytester):
        pytester.makeconftest(
            """
import nvdimmfs.testing.plugin.evidence

def broken(*_, **__):
    raise KeyError("broken")

nvdimmfs.testing.plugin.evidence.evidence_of = broken
"""
        )
        pytester.makepyfile(FAILING, test_second="def test_it(): pass")
        done = run_apart(pytester)
        done.assert_outcomes(failed=1, passed=1)
        done.stdout.fnmatch_lines(["*- nvdimm: a bug in nvdimmfs -*", "KeyError: 'broken'"])


def test_a_run_that_does_not_use_it_loads_nothing_else():
    script = (
        "import sys, pytest; before = {*sys.modules}; import nvdimmfs.testing.pytest_plugin; "
        "print(*sorted({*sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["nvdimmfs", "nvdimmfs.testing", "nvdimmfs.testing.pytest_plugin"]
