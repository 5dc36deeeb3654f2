"""The folders of examples/ whose tests need a mount or a sandbox run as they stand."""

import pytest
from example_folders import run_as_it_stands
from sandboxes import needs

pytestmark = pytest.mark.usefixtures("sandbox")


def test_a_pytest_suite_of_a_tool(tmp_path):
    run_as_it_stands("pytest", tmp_path)


@needs("make")
@needs("cc")
def test_a_c_program_with_raw_system_calls(tmp_path):
    run_as_it_stands("c", tmp_path)


@needs("go")
def test_a_go_package_that_reads_attributes(tmp_path, monkeypatch):
    monkeypatch.setenv("GOCACHE", str(tmp_path / "cache"))
    run_as_it_stands("go", tmp_path)


def test_a_suite_of_unittest(tmp_path):
    run_as_it_stands("unittest", tmp_path)


@needs("bats")
@needs("ndctl")
def test_shell_tests_that_call_ndctl(tmp_path):
    run_as_it_stands("bats", tmp_path)
