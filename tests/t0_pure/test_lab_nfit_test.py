"""The modules of nfit_test: how they are built, with a makefile that only pretends."""

import shutil

import pytest

from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.kernels import GuestKernel
from nvdimmfs.lab.nfit_test import build_modules, built_modules

TEST = "tools/testing/nvdimm"

#: Makes two modules of what it finds in the sources, as Kbuild reports it.
MAKEFILE = """
modules:
\tcp {program} $(M)/nfit.ko
\t@echo '  LD [M]  $(M)/nfit.ko'
\tcp {program} $(M)/test/nfit_test.ko
\t@echo '  LD [M]  $(M)/test/nfit_test.ko'
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def kernel(tmp_path):
    """A kernel that a user has built."""
    modules = tmp_path / "lib/modules/6.1.0-own"
    for part in (f"{TEST}/test", "drivers/nvdimm", "drivers/dax", "drivers/acpi/nfit"):
        (modules / "source" / part).mkdir(parents=True)
    (modules / "build").mkdir()
    (modules / "build/.config").write_text('CONFIG_CC_VERSION_TEXT="gcc (Debian) 12.2.0"\n')
    (modules / "build/Makefile").write_text(MAKEFILE.format(program=shutil.which("true")))
    image = tmp_path / "vmlinuz-6.1.0-own"
    image.touch()
    return GuestKernel("6.1.0-own", image, modules)


def test_modules_are_built_once_and_the_sources_are_left_alone(kernel):
    steps = []
    folder = build_modules(kernel, steps.append)
    assert sorted(path.name for path in folder.iterdir()) == ["nfit.ko", "nfit_test.ko"]
    assert steps == ["compiling", "built nfit", "built nfit_test"]
    assert not list(kernel.modules.rglob("*.ko"))
    assert build_modules(kernel, steps.append) == built_modules(kernel, "own") == folder
    assert len(steps) == 3


def test_a_failure_of_make_is_one_line(kernel):
    failing = "modules:\n\t@echo '  CC [M]  core.o'; echo 'core.c:1: error: no such thing'; false\n"
    (kernel.modules / "build/Makefile").write_text(failing)
    with pytest.raises(LabError, match=r"^make failed with status 2: core.c:1: error: no such thing$"):
        build_modules(kernel, print)


def test_the_compiler_of_the_kernel_is_wanted(kernel):
    (kernel.modules / "build/.config").write_text('CONFIG_CC_VERSION_TEXT="x86_64-linux-gnu-gcc-1 (Debian) 1.0"\n')
    with pytest.raises(LabError, match=r"with x86_64-linux-gnu-gcc-1, which is not installed: apt-get install gcc-1$"):
        build_modules(kernel, print)


def test_modules_that_are_missing_are_named_with_the_command_that_builds_them(kernel):
    with pytest.raises(LabError, match=r"for 6.1.0-own: nvdimmfs lab build-nfit-test --kernel own$"):
        built_modules(kernel, "own")
