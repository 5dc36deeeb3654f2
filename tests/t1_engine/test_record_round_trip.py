"""A machine made of a recorded one is the recorded one: the same tree, and the same answers to commands."""

from __future__ import annotations

import attrs
from engine_sysfs import EngineDevices, EngineSysfs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvdimmfs.dumps.dump import dump_of_machine
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.checks import problems
from nvdimmfs.machine_file.defaults import abridged, completed
from nvdimmfs.machine_file.files import load_machine, parse_machine
from nvdimmfs.machine_file.model import (
    AcpiTableDescription,
    BusDescription,
    DimmDescription,
    FirmwareDescription,
    HealthDescription,
    LabelAreaDescription,
    MachineDescription,
    MappingDescription,
    NamespaceDescription,
    NodeAccessDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.record import record_machine
from nvdimmfs.machine_file.values import NO_TEMPERATURE
from nvdimmfs.machine_file.words import (
    AlarmKind,
    BusPlatform,
    DimmFlag,
    FirmwareActivation,
    HealthState,
    PersistenceDomain,
    RangeKind,
    SecurityState,
    ShutdownState,
)
from nvdimmfs.machine_file.writer import machine_text
from nvdimmfs.mm.pc_memory_map import user_table
from nvdimmfs.units import GIB, KIB, MIB

#: Families, with the values of health that each has a field for.
FAMILIES = {
    0: {"temperature", "controller_temperature", "spares", "life_used", "last_shutdown", "alarms"},
    1: {"temperature", "spares", "life_used", "last_shutdown", "alarms"},
    3: {"life_used"},
    4: set(),
}

TEMPERATURES = st.integers(-40 * 16, 120 * 16)


@st.composite
def healths(draw: st.DrawFn, family: int) -> HealthDescription:
    """What a DIMM of a family can report."""
    fields = FAMILIES[family]
    alarms = {
        AlarmKind.SPARES: ("spares", st.integers(0, 100)),
        AlarmKind.TEMPERATURE: ("temperature", TEMPERATURES),
        AlarmKind.CONTROLLER_TEMPERATURE: ("controller_temperature", TEMPERATURES),
    }
    values: dict[str, object] = {"state": draw(st.sampled_from([each for each in HealthState if each.value != "none"]))}
    for name in fields & {"temperature", "controller_temperature"}:
        values[name] = draw(st.one_of(st.just(NO_TEMPERATURE), TEMPERATURES))
    for name in fields & {"spares", "life_used"}:
        values[name] = draw(st.integers(-1 if family != 3 else 0, 99))
    if "last_shutdown" in fields:
        values["last_shutdown"] = draw(st.sampled_from(ShutdownState))
    if "alarms" in fields:
        known = [kind for kind, (name, _) in alarms.items() if values.get(name, -1) not in (-1, NO_TEMPERATURE)]
        chosen = draw(st.lists(st.sampled_from(known), unique=True)) if known else []
        values["alarms"] = tuple(kind for kind in AlarmKind if kind in chosen)
        for kind in chosen:
            name, thresholds = alarms[kind]
            values[f"{name}_threshold"] = draw(thresholds)
    if family == 3 and values["state"] is HealthState.FATAL:
        values["life_used"] = 100
    return HealthDescription(**values)  # type: ignore[arg-type]


@st.composite
def dimms(draw: st.DrawFn, number: int, family: int) -> DimmDescription:
    """A DIMM with functions of a family."""
    label = LabelAreaDescription(
        size=draw(st.sampled_from((8 * KIB, 64 * KIB, 128 * KIB, 256 * KIB))),
        initialised=draw(st.sampled_from(("", "1.1", "1.2"))),
    )
    has_firmware = family == 0 and draw(st.booleans())
    security = draw(st.sampled_from(SecurityState)) if family == 0 else SecurityState.NONE
    return DimmDescription(
        handle=number,
        size=GIB,
        serial=draw(st.integers(0, 0xFFFF_FFFF)),
        manufacturing_location=number,
        manufacturing_date=0x1837,
        family=family,
        flags=tuple(flag for flag in DimmFlag if flag is not DimmFlag.FLUSH_FAIL and draw(st.booleans())),
        label=label,
        security=security,
        frozen=security in (SecurityState.UNLOCKED, SecurityState.LOCKED) and draw(st.booleans()),
        dirty_shutdown=draw(st.integers(-1, 9)) if family == 0 else draw(st.integers(0, 9)) if family == 4 else -1,
        health=draw(healths(family)),
        firmware=FirmwareDescription(draw(st.integers(0, 99)), draw(st.integers(0, 99)))
        if has_firmware
        else FirmwareDescription(),
    )


@st.composite
def servers(draw: st.DrawFn) -> MachineDescription:
    """Machines with DIMMs of one family, interleaved with odd offsets, and with namespaces of labels."""
    family = draw(st.sampled_from(sorted(FAMILIES)))
    members = tuple(draw(dimms(number, family)) for number in range(1, draw(st.integers(1, 3)) + 1))
    unit = draw(st.sampled_from((0, 64, 4 * KIB, 1)))
    mappings = tuple(
        MappingDescription(f"{dimm.handle:#x}", size=256 * MIB, region_offset=number * unit or number << 20)
        for number, dimm in enumerate(members)
    )
    versions = {dimm.label.initialised for dimm in members}
    blocked = any(DimmFlag.NOT_ARMED in dimm.flags or dimm.security is SecurityState.LOCKED for dimm in members)
    namespaces = ()
    if (versions <= {"1.1"} or versions <= {"1.2"}) and not blocked and draw(st.booleans()):
        namespaces = (NamespaceDescription("01234567-89ab-cdef-0123-456789abcdef", 64 * MIB * len(members)),)
    ranges = (RangeDescription(mappings=mappings, namespaces=namespaces),) if draw(st.booleans()) else ()
    bus = BusDescription(
        persistence_domain=draw(st.sampled_from(PersistenceDomain)),
        firmware_activation=draw(st.sampled_from(FirmwareActivation)),
        dimms=members,
        ranges=ranges,
    )
    speeds = st.integers(1, 60_000)
    accesses = (NodeAccessDescription(0, draw(speeds), draw(speeds), draw(speeds), draw(speeds)),)
    tables = tuple(
        AcpiTableDescription(signature, draw(st.integers(0, 255)), draw(st.binary(max_size=40)).hex())
        for signature in ("PCAT", "PMTT")
        if draw(st.booleans())
    )
    return completed(
        MachineDescription(buses=(bus,), node_accesses=accesses if draw(st.booleans()) else (), acpi_tables=tables)
    )


@st.composite
def virtual_machines(draw: st.DrawFn) -> MachineDescription:
    """Machines whose memory no NFIT announces."""
    sizes = st.sampled_from((16 * MIB, 64 * MIB, GIB))
    buses = [
        BusDescription(
            platform=BusPlatform.VIRTIO_PMEM,
            ranges=(RangeDescription(size=draw(sizes), read_only=draw(st.booleans())),),
        )
        for _ in range(draw(st.integers(0, 2)))
    ]
    for _ in range(draw(st.integers(0 if buses else 1, 2))):
        kind = draw(st.sampled_from((RangeKind.PMEM, RangeKind.VOLATILE)))
        ranges = tuple(RangeDescription(size=draw(sizes), kind=kind) for _ in range(draw(st.integers(1, 2))))
        buses.append(BusDescription(platform=BusPlatform.DEVICE_TREE, ranges=ranges))
    return completed(MachineDescription(buses=tuple(buses)))


@st.composite
def legacy_machines(draw: st.DrawFn) -> MachineDescription:
    """Machines of which memmap= marks parts of RAM as persistent or as soft reserved, in that order."""
    places = draw(st.permutations([4 * GIB, 5 * GIB, 6 * GIB, 7 * GIB]))
    sizes = [draw(st.sampled_from((64 * MIB, 256 * MIB, GIB - 2 * MIB, GIB))) for _ in places]
    count = draw(st.integers(0, 2))
    reserved = draw(st.integers(0 if count else 1, 2))
    persistent = [f"{size}!{start}" for size, start in sorted(zip(sizes, places, strict=True))[:count]]
    others = list(zip(sizes, places, strict=True))
    left = [each for each in others if f"{each[0]}!{each[1]}" not in persistent][:reserved]
    soft = [f"{size}%{start}-1+0xefffffff" for size, start in left]
    return completed(MachineDescription(memmap=",".join((*persistent, *soft)), ram=8 * GIB))


def boot(description: MachineDescription) -> Machine:
    return Machine.described(description, clock="steps")


def recorded(machine: Machine) -> MachineDescription:
    return record_machine(EngineSysfs(machine.system.sys), EngineDevices(machine)).machine


def written(machine: MachineDescription) -> MachineDescription:
    """The machine of the file that is printed."""
    return attrs.evolve(parse_machine(machine_text(abridged(machine)), "recorded.toml"), name="")


def check(description: MachineDescription) -> MachineDescription:
    """Boot, record, and boot what was recorded; returns that."""
    machine = boot(description)
    try:
        first = recorded(machine)
        assert list(problems(first)) == []
        assert written(first) == first
        again = boot(first)
        try:
            assert dump_of_machine(again.system) == dump_of_machine(machine.system)
            assert recorded(again) == first
        finally:
            again.close()
    finally:
        machine.close()
    return first


def shown(dimm: DimmDescription) -> tuple[object, ...]:
    """What commands show of a DIMM."""
    label = dimm.label
    return dimm.health, dimm.firmware, label.size, label.initialised, dimm.dirty_shutdown, dimm.dsm_mask, dimm.commands


FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@FEW
@given(servers())
def test_a_server(server):
    found = check(server)
    assert [shown(dimm) for dimm in found.buses[0].dimms] == [shown(dimm) for dimm in server.buses[0].dimms]
    assert found.node_accesses == server.node_accesses
    assert found.acpi_tables == server.acpi_tables


@FEW
@given(virtual_machines())
def test_memory_that_no_nfit_announces(machine):
    found = check(machine)
    assert attrs.evolve(found, ram=0) == attrs.evolve(machine, ram=0)


@FEW
@given(legacy_machines())
def test_legacy_and_soft_reserved_memory(machine):
    found = check(machine)
    table, again = (user_table(each.memmap, each.ram).entries for each in (machine, found))
    assert again == table


def test_each_dimm_of_a_server_keeps_its_health():
    server = load_machine("two-socket-6way")
    found = check(server)
    assert [shown(dimm) for dimm in found.buses[0].dimms] == [shown(dimm) for dimm in server.buses[0].dimms]


def test_the_cookie_of_labels_of_either_version_is_kept():
    for version in ("1.1", "1.2"):
        text = (
            f'[[bus]]\n[[bus.dimm]]\nlabel = {{ initialised = "{version}" }}\n'
            '[[bus.range]]\nsize = "64M"\ncookie = 0x1234\ndimms = ["0x1"]\n'
        )
        assert check(parse_machine(text, "test.toml")).buses[0].ranges[0].cookie == 0x1234
