"""A tool's property tests with Hypothesis and pytest.

Run it in this folder: python3 -m pytest
"""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.testing import Engine
from nvdimmfs.testing.strategies import label_areas, machine_files, machines, writes

DEVICES = "/sys/bus/nd/devices"


def capacity(engine: Engine) -> dict[str, int]:
    """The code under test: the size of each region.  It would usually be imported from the tool."""
    regions = [name for name in engine.ls(DEVICES) if name.startswith("region")]
    return {name: int(engine.read(f"{DEVICES}/{name}/size")) for name in regions}


@settings(max_examples=20, deadline=None)
@given(machines())
def test_regions_have_a_size_on_any_machine(machine):
    with Engine(machine) as engine:
        assert all(size > 0 for size in capacity(engine).values())


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_no_write_changes_the_size_of_a_region(data):
    with Engine("qemu-nfit-labelled") as engine:
        before = capacity(engine)
        for _ in range(data.draw(st.integers(1, 10))):
            write = data.draw(writes(engine))
            try:
                engine.write(*write)
            except OSError:
                continue  # the machine refused it; the kernel would have done so, too
        assert capacity(engine) == before


@settings(max_examples=10, deadline=None)
@given(machine_files())
def test_a_machine_file_keeps_what_it_describes(tmp_path_factory, text):
    file = Path(tmp_path_factory.mktemp("machine"), "machine.toml")
    file.write_text(text)
    with Engine(file) as engine:
        assert engine.exists("/sys/devices")


MACHINE = """
ram = "4G"
[[bus]]
[[bus.dimm]]
size = "1G"
label = { file = "labels", size = "4K" }
[[bus.range]]
size = "1G"
dimms = ["0x1"]
"""


@settings(max_examples=10, deadline=None)
@given(label_areas(damaged=True))
def test_a_damaged_label_area_does_not_hide_the_dimm(tmp_path_factory, area):
    folder = tmp_path_factory.mktemp("machine")
    (folder / "labels").write_bytes(area)
    (folder / "machine.toml").write_text(MACHINE)
    with Engine(folder / "machine.toml") as engine:
        assert engine.read(f"{DEVICES}/nmem0/state") in ("active\n", "idle\n")
        assert capacity(engine) == {"region0": 1 << 30}
