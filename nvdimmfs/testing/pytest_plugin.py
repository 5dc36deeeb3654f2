"""The pytest plugin: machines as fixtures, the mark `nvdimm`, and what a report of a failing test has of a machine.

docs/how-to/testing.md introduces it, and docs/reference/testing-api.md lists all of it.  pytest loads this module in
every run, also in those that use none of it.  So it imports the rest of nvdimmfs where a test uses a fixture, and no
other module of the package imports pytest.
"""

from __future__ import annotations

import contextlib
import subprocess
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

TYPE_CHECKING = False  # a type checker takes it for True
if TYPE_CHECKING:
    from nvdimmfs.testing.engine import Engine
    from nvdimmfs.testing.machine import Machine
    from nvdimmfs.testing.plugin.evidence import Evidence
    from nvdimmfs.testing.plugin.factory import Factory
    from nvdimmfs.testing.plugin.marks import Selection

MARK = "nvdimm"

#: The package of the Python API, and what its functions raise beside bugs.
_PACKAGE = f"{Path(__file__).parent}/"
_DOCUMENTED = (OSError, ValueError, TypeError, AssertionError, subprocess.SubprocessError)

#: Where arguments are checked that machine files have, too.
_CHECKS = str(Path(__file__).parent.parent / "machine_file" / "type_checks.py")

#: The fixture that all others need, and that a mark with lists parametrises.
_SELECTION = "_nvdimm_selection"

#: The options that set what no mark sets, and what they set.
_DEFAULTS = {"nvdimm_machine": "machine", "nvdimm_kernel": "kernel"}

#: The machines of a test.
_FACTORY = pytest.StashKey["Factory"]()

#: What the options set, checked.
_CHECKED = pytest.StashKey[Mapping[str, object]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options, on the command line and in the configuration file."""
    group = parser.getgroup("nvdimm", "persistent memory (nvdimmfs)")
    group.addoption(
        "--nvdimm-machine",
        action="append",
        metavar="MACHINE",
        help="the machine of tests whose mark names none: a name of `nvdimmfs machine list` or a machine file; repeat "
        "it to run each test on several",
    )
    group.addoption(
        "--nvdimm-kernel",
        action="append",
        metavar="KERNEL",
        help="the kernel of tests whose mark names none, such as 4.3; repeat it to run each test with several",
    )
    group.addoption(
        "--nvdimm-required",
        action="store_true",
        help="fail tests instead of skipping them where this host cannot mount a machine or run commands on one",
    )
    group.addoption(
        "--nvdimm-report",
        metavar="DIR",
        help="write an HTML page for each failing test that uses a machine to DIR; pages of an earlier run are removed",
    )
    parser.addini("nvdimm_machine", "as --nvdimm-machine, several separated by blanks", type="args")
    parser.addini("nvdimm_kernel", "as --nvdimm-kernel, several separated by blanks", type="args")
    parser.addini("nvdimm_required", "as --nvdimm-required", type="bool", default=False)
    parser.addini("nvdimm_report", "as --nvdimm-report; a relative path begins at this file")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark, and check the command line."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(machine=None, kernel=None, memmap=None, ram=None, clock=None, media=False): which machine the "
        "fixtures nvdimm, nvdimm_engine and nvdimm_factory make; a list makes a test for each value (nvdimmfs)",
    )
    config.pluginmanager.register(_Tracebacks(), f"{__name__}.tracebacks")
    if hasattr(config, "workerinput"):
        return
    if any(config.getoption(name) for name in _DEFAULTS):
        _require_known(config)
    if not config.option.collectonly and (folder := _report_folder(config)) is not None:
        _prepare(folder)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test for each combination of the lists in its marks, and check them all."""
    if _SELECTION not in metafunc.fixturenames:
        return
    from nvdimmfs.testing.plugin.marks import MarkError, merged, selection, variants

    definition = metafunc.definition
    try:
        values = merged(definition.iter_markers(MARK), _defaults(metafunc.config))
        found = variants(values)
        for chosen in [variant.chosen for variant in found] or [{}]:
            selection({**values, **chosen}, definition.path.parent)
    except MarkError as error:
        raise pytest.Collector.CollectError(f"{definition.nodeid}: mark {MARK}: {error}") from None
    if found:
        names = [variant.name for variant in found]
        metafunc.parametrize(_SELECTION, [variant.chosen for variant in found], indirect=True, ids=names)


@pytest.fixture
def _nvdimm_selection(request: pytest.FixtureRequest) -> Selection:
    """What the marks of the test select."""
    from nvdimmfs.testing.plugin.marks import MarkError, merged, selection

    node = request.node
    chosen: Mapping[str, object] = getattr(request, "param", {})
    try:
        values = merged(_marks(node), _defaults(request.config))
        values |= {key: value for key, value in chosen.items() if isinstance(values[key], list | tuple)}
        return selection(values, node.path.parent)
    except MarkError as error:
        mistake = error
    pytest.fail(f"{node.nodeid}: mark {MARK}: {mistake}", pytrace=False)


@pytest.fixture
def nvdimm_factory(
    request: pytest.FixtureRequest, _nvdimm_selection: Selection, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Factory]:
    """Makes machines, and closes all of them at the end of the test."""
    from nvdimmfs.testing.plugin.factory import Factory

    watching = _report_folder(request.config) is not None
    factory = Factory(_nvdimm_selection, lambda: tmp_path_factory.mktemp("nvdimm-media"), watching=watching)
    request.node.stash[_FACTORY] = factory
    yield factory
    factory.close()


@pytest.fixture
def nvdimm(nvdimm_factory: Factory) -> Machine:
    """A mounted machine with persistent memory, in a process of its own."""
    return nvdimm_factory()


@pytest.fixture
def nvdimm_engine(nvdimm_factory: Factory) -> Engine:
    """A machine with persistent memory in the process of the test, without a mount."""
    return nvdimm_factory.engine()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Skip a test whose machine cannot be mounted here."""
    with _skipping(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Skip a test that makes such a machine, or runs a command where none can be run."""
    with _skipping(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failing test what its machines show."""
    factory = item.stash.get(_FACTORY, None)
    report = yield
    if factory is not None and report.failed:
        try:
            _explain(report, factory, item.config)
        except Exception:  # the failure of the test matters more; pytest would end the run
            report.sections.append(("nvdimm: a bug in nvdimmfs", traceback.format_exc()))
    return report


class _Tracebacks:
    """Cuts tracebacks before pytest makes reports of them, and after it has taken those of unittest's tests."""

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Cut that of a test with a machine."""
        if _FACTORY in item.stash and call.excinfo is not None and not item.config.getoption("fulltrace"):
            _cut_traceback(call.excinfo)


@contextlib.contextmanager
def _skipping(item: pytest.Item) -> Iterator[None]:
    """Skip a test with a fixture of this plugin where the host does not permit it, or fail it with the reason."""
    try:
        yield
    except RuntimeError as error:
        if _FACTORY not in item.stash or not _is_of_the_host(error):
            raise
        reason = str(error)
    else:
        return
    if item.config.getoption("nvdimm_required") or item.config.getini("nvdimm_required"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _is_of_the_host(error: RuntimeError) -> bool:
    from nvdimmfs.testing.errors import UnavailableError

    return isinstance(error, UnavailableError)


def _explain(report: pytest.TestReport, factory: Factory, config: pytest.Config) -> None:
    """Add sections with what the machines of a failing test show, and write its page."""
    from nvdimmfs.testing.plugin.evidence import evidence_of
    from nvdimmfs.testing.plugin.sections import sections_of

    folder = _report_folder(config)
    shown = [evidence_of(made, compared=folder is not None) for made in factory]
    if folder is not None:
        worker = getattr(config, "workerinput", {}).get("workerid", "")
        report.sections.append(("nvdimm: page", _written(report, shown, folder, worker)))
    for each in shown:
        report.sections += sections_of(each)


def _written(report: pytest.TestReport, shown: Sequence[Evidence], folder: Path, worker: str) -> str:
    """Write the page of a failing test; the line that names it, or that gives the reason why it is not there."""
    from nvdimmfs.testing.report.folder import write_page
    from nvdimmfs.testing.report.page import Failure, page_of

    facts = [f"after {report.duration:.2f} s", *([f"in worker {worker}"] if worker else [])]
    page = page_of(Failure(report.nodeid, report.when, report.longreprtext, facts), shown)
    try:
        return str(write_page(folder, report.nodeid, page))
    except OSError as error:
        return f"it cannot be written to {folder}: {error.strerror}"


def _report_folder(config: pytest.Config) -> Path | None:
    """The folder of the pages; None where none are wanted.  UsageError."""
    folder: str | None = config.getoption("nvdimm_report")
    if folder == "":
        raise pytest.UsageError("--nvdimm-report: the name of the folder is empty")
    if folder is not None:
        return config.invocation_params.dir / folder
    line = config.getini("nvdimm_report")
    return (config.inipath.parent if config.inipath else config.rootpath) / line if line else None


def _marks(item: pytest.Function) -> Iterator[pytest.Mark]:
    """The marks of a test, the closest first: those of its parameters, which pytest lists last."""
    if callspec := getattr(item, "callspec", None):
        yield from (mark for mark in callspec.marks if mark.name == MARK)
    yield from item.iter_markers(MARK)


def _cut_traceback(error: pytest.ExceptionInfo[BaseException]) -> None:
    """End the traceback of an exception that the Python API documents at the line of the test, as for a C function."""
    entries = [error.tb]
    while following := entries[-1].tb_next:
        entries.append(following)
    files = [entry.tb_frame.f_code.co_filename for entry in entries]
    first = next((place for place, file in enumerate(files) if _is_own(file)), 0)
    if first and isinstance(error.value, _DOCUMENTED) and _is_deliberate(error.value, files[-1]):
        entries[first - 1].tb_next = None


def _is_deliberate(error: BaseException, file: str) -> bool:
    """Whether nvdimmfs raises an exception in a file for its caller, rather than by a bug."""
    return _is_own(file) or file == _CHECKS or type(error).__module__.startswith("nvdimmfs.")


def _is_own(file: str) -> bool:
    return file.startswith(_PACKAGE) and file != __file__


def _defaults(config: pytest.Config) -> Mapping[str, object]:
    """What the options set; a list where one has several values.  CollectError."""
    if _CHECKED not in config.stash:
        try:
            _require_known(config)
        except pytest.UsageError as error:
            raise pytest.Collector.CollectError(str(error)) from None
    return config.stash[_CHECKED]


def _require_known(config: pytest.Config) -> None:
    """Check and keep what the options set.  UsageError for an unknown machine or kernel."""
    from nvdimmfs.testing.plugin.marks import MarkError, located, selection

    found: dict[str, object] = {}
    for name, key in _DEFAULTS.items():
        given, place, folder = _option(config, name)
        values = [str(located(value, folder)) if key == "machine" else value for value in given]
        for value in values:
            try:
                selection({key: value}, folder)
            except MarkError as error:
                raise pytest.UsageError(f"{place}: {error}") from None
        if values:
            found[key] = values if len(values) > 1 else values[0]
    config.stash[_CHECKED] = found


def _prepare(folder: Path) -> None:
    """Make the folder of the pages empty of them.  UsageError."""
    from nvdimmfs.testing.report.folder import prepare

    try:
        prepare(folder)
    except OSError as error:
        raise pytest.UsageError(f"--nvdimm-report: {error.filename or folder}: {error.strerror}") from None


def _option(config: pytest.Config, name: str) -> tuple[list[str], str, Path]:
    """The values of an option, where they stand, and the folder in which relative paths begin."""
    given: list[str] | None = config.getoption(name)
    if given:
        return given, f"--{name.replace('_', '-')}", config.invocation_params.dir
    file = config.inipath
    return config.getini(name), f"{file.name}: {name}" if file else name, file.parent if file else config.rootpath
