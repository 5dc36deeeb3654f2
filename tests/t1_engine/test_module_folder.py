"""The folder of modules, shown to the real kmod: modprobe, modinfo and depmod find in it what a kernel's has."""

import os
import shutil
import subprocess

import attrs
import pytest
from kmod_index_reader import read_index

from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.modules.module_files import STOCK_MODULES, TEST_MODULES
from nvdimmfs.modules.module_folder import module_folder, write_module_folder
from nvdimmfs.sandbox.lib_modules import preload_module_folders

RELEASE = "6.1.0-56-amd64"

#: What depmod(8) reads and does not make.
GIVEN = {"modules.order", "modules.builtin", "modules.builtin.modinfo"}

#: What only kmod 33 and later makes, which arranges the indexes in its own way, too.
NEWER = {"modules.weakdep"}


@pytest.fixture(params=[STOCK_MODULES, TEST_MODULES], ids=["stock", "test"])
def files(request):
    return request.param


@pytest.fixture
def kmod(tmp_path, monkeypatch):
    """Call one of kmod's programs on a folder below `tmp_path`, without the configuration of the host."""
    monkeypatch.setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
    if shutil.which("modprobe") is None:
        pytest.skip("kmod is not there (Debian package kmod)")
    (tmp_path / "no-configuration").mkdir()

    def call(*words):
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), words
        return done.stdout.splitlines()

    return call


def folder_below(base, files):
    folder = base / "lib" / "modules" / RELEASE
    write_module_folder(folder, files, RELEASE)
    return folder


def modprobe(base, *words):
    return ["modprobe", "-C", base / "no-configuration", "-d", base, "-S", RELEASE, *words]


def test_every_module_is_in_the_index_of_dependencies(tmp_path, files):
    folder = folder_below(tmp_path, files)
    entries = {entry.key: entry.value for entry in read_index((folder / "modules.dep.bin").read_bytes())}
    assert set(entries) == {file.name for file in files}
    assert sorted(entries.values()) == sorted((folder / "modules.dep").read_text().splitlines())
    assert all((folder / path.rstrip(":")).is_file() for line in entries.values() for path in line.split())


@pytest.mark.parametrize(
    ("name", "kernel"), [("e820", "6.1"), ("nfit_test", "6.1"), ("qemu-nfit", "6.1"), ("e820", "4.3")]
)
def test_the_folder_of_a_machine_has_the_modules_that_it_can_load(name, kernel):
    description = attrs.evolve(load_machine(name), kernel=kernel)
    machine = Machine.described(description, clock="steps")
    names = [file.name for file in machine.persistent_memory.module_files]
    assert names == list(machine.persistent_memory.modules.known)
    machine.close()


def test_modprobe_loads_what_nfit_test_needs_in_the_kernels_order(tmp_path, kmod):
    """The order is that of the reference machine."""
    folder = folder_below(tmp_path, TEST_MODULES)
    order = ["nfit_test_iomap", "libnvdimm", "nfit", "nd_btt", "nd_pmem", "device_dax", "dax_pmem", "nfit_test"]
    lines = kmod(*modprobe(tmp_path, "--show-depends", "nfit_test"))
    assert [line.split() for line in lines] == [["insmod", f"{folder}/extra/{name}.ko"] for name in order]


@pytest.mark.parametrize(
    ("alias", "names"),
    [
        ("nd:t1", ["libnvdimm"]),
        ("nd:t2", ["libnvdimm"]),
        ("nd:t4", ["nd_pmem"]),
        ("nd:t5", ["nd_pmem"]),
        ("nd:t7", ["dax_pmem"]),
        ("dax:t0", ["device_dax", "kmem"]),
        ("platform:e820_pmem", ["nd_e820"]),
        ("acpi:ACPI0012:", ["nfit"]),
        ("symbol:__nd_driver_register", ["libnvdimm"]),
        ("dax", ["dax"]),
    ],
)
def test_modprobe_resolves_what_the_kernel_asks_for(tmp_path, kmod, alias, names):
    folder_below(tmp_path, STOCK_MODULES)
    assert kmod(*modprobe(tmp_path, "-R", alias)) == names


def test_modinfo_tells_what_the_kernels_own_modules_tell(tmp_path, kmod):
    """All but its author, its build id and its signature."""
    folder = folder_below(tmp_path, TEST_MODULES)
    printed = kmod("modinfo", "-b", tmp_path, "-k", RELEASE, "nd_pmem")
    assert [line.split(maxsplit=1) for line in printed] == [
        ["filename:", f"{folder}/extra/nd_pmem.ko"],
        ["license:", "GPL v2"],
        ["alias:", "nd:t5*"],
        ["alias:", "nd:t4*"],
        ["alias:", "pmem"],
        ["depends:", "libnvdimm,nfit_test_iomap,nd_btt"],
        ["retpoline:", "Y"],
        ["name:", "nd_pmem"],
        ["vermagic:", f"{RELEASE} SMP preempt mod_unload modversions "],
    ]


def test_modinfo_knows_those_of_the_tree_and_their_parameters(tmp_path, kmod):
    folder_below(tmp_path, STOCK_MODULES)
    assert kmod("modinfo", "-b", tmp_path, "-k", RELEASE, "-F", "intree", "nfit") == ["Y"]
    assert "no_init_ars: (bool)" in kmod("modinfo", "-b", tmp_path, "-k", RELEASE, "-F", "parm", "nfit")
    assert kmod("modinfo", "-b", tmp_path, "-k", RELEASE, "-F", "filename", "dax") == ["(builtin)"]


def test_depmod_finds_the_same_in_the_modules_themselves(tmp_path, files, kmod):
    ours = folder_below(tmp_path, files)
    theirs = tmp_path / "depmod" / "lib" / "modules" / RELEASE
    shutil.copytree(ours, theirs)
    made = {path.name for path in theirs.glob("modules.*")} - GIVEN
    for name in made:
        (theirs / name).unlink()
    kmod("depmod", "-C", tmp_path / "no-configuration", "-b", tmp_path / "depmod", RELEASE)
    assert {path.name for path in theirs.glob("modules.*")} - GIVEN - NEWER == made
    indexes = {name for name in made if name.endswith(".bin")}
    for name in indexes:
        assert read_index((ours / name).read_bytes()) == read_index((theirs / name).read_bytes())
    for name in made - indexes:
        assert sorted_lines(ours / name) == sorted_lines(theirs / name)
    if not (theirs / "modules.weakdep").exists():
        different = {name for name in made if (ours / name).read_bytes() != (theirs / name).read_bytes()}
        assert different == {"modules.alias", "modules.softdep", "modules.symbols"}, "only what is text has a heading"


def sorted_lines(path):
    return sorted(line for line in path.read_text().splitlines() if not line.startswith("#"))


@pytest.mark.parametrize(("name", "kernel"), [("e820", "6.1"), ("nfit_test", "6.1"), ("e820", "4.3")])
def test_a_warm_process_has_computed_the_folder_of_every_machine(name, kernel):
    module_folder.cache_clear()
    preload_module_folders()
    computed = module_folder.cache_info().misses
    machine = Machine.described(attrs.evolve(load_machine(name), kernel=kernel), clock="steps")
    assert module_folder(tuple(machine.persistent_memory.module_files), os.uname().release)
    assert module_folder.cache_info().misses == computed
