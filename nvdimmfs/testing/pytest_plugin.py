"""The pytest plugin: machines as fixtures, the mark `nvdimm`, and what a report of a failing test has of a machine.

docs/how-to/testing.md introduces it, and docs/reference/testing-api.md lists all of it.  pytest loads this module in
every run, also in those that use none of it.  So it imports the rest of nvdimmfs where a test uses a fixture, and no
other module of the package imports pytest.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest

TYPE_CHECKING = False  # a type checker takes it for True
if TYPE_CHECKING:
    from nvdimmfs.testing.engine import Engine
    from nvdimmfs.testing.plugin.factory import Factory
    from nvdimmfs.testing.plugin.marks import Selection

MARK = "nvdimm"

#: The package of the Python API, and the file in it that makes an OSError of each refusal.
_PACKAGE = f"{Path(__file__).parent}/"
_REFUSALS = f"{_PACKAGE}refusals.py"

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
    parser.addini("nvdimm_machine", "as --nvdimm-machine, several separated by blanks", type="args")
    parser.addini("nvdimm_kernel", "as --nvdimm-kernel, several separated by blanks", type="args")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark, and check the command line."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(machine=None, kernel=None, memmap=None, ram=None, clock=None, media=False): which machine the "
        "fixtures nvdimm_engine and nvdimm_factory make; a list makes a test for each value (nvdimmfs)",
    )
    if any(config.getoption(name) for name in _DEFAULTS) and not hasattr(config, "workerinput"):
        _require_known(config)


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

    factory = Factory(_nvdimm_selection, lambda: tmp_path_factory.mktemp("nvdimm-media"))
    request.node.stash[_FACTORY] = factory
    yield factory
    factory.close()


@pytest.fixture
def nvdimm_engine(nvdimm_factory: Factory) -> Engine:
    """A machine with persistent memory in the process of the test, without a mount."""
    return nvdimm_factory.engine()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failing test what its machines show."""
    factory = item.stash.get(_FACTORY, None)
    if factory is not None and call.excinfo is not None and not item.config.getoption("fulltrace"):
        _cut_traceback(call.excinfo)
    report = yield
    if factory is not None and report.failed:
        from nvdimmfs.testing.plugin.evidence import evidence_of
        from nvdimmfs.testing.plugin.sections import sections_of

        for each in map(evidence_of, factory):
            report.sections += sections_of(each)
    return report


def _marks(item: pytest.Function) -> Iterator[pytest.Mark]:
    """The marks of a test, the closest first: those of its parameters, which pytest lists last."""
    if callspec := getattr(item, "callspec", None):
        yield from (mark for mark in callspec.marks if mark.name == MARK)
    yield from item.iter_markers(MARK)


def _cut_traceback(error: pytest.ExceptionInfo[BaseException]) -> None:
    """End the traceback of a refusal at the line of the test that was refused, as for a function written in C."""
    entries = [error.tb]
    while following := entries[-1].tb_next:
        entries.append(following)
    files = [entry.tb_frame.f_code.co_filename for entry in entries]
    if files[-1] == _REFUSALS:
        own = next(number for number, file in enumerate(files) if file.startswith(_PACKAGE))
        entries[own - 1].tb_next = None


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


def _option(config: pytest.Config, name: str) -> tuple[list[str], str, Path]:
    """The values of an option, where they stand, and the folder in which relative paths begin."""
    given: list[str] | None = config.getoption(name)
    if given:
        return given, f"--{name.replace('_', '-')}", config.invocation_params.dir
    file = config.inipath
    return config.getini(name), f"{file.name}: {name}" if file else name, file.parent if file else config.rootpath
