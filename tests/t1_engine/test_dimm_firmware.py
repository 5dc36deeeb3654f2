"""What the firmware of a DIMM of a machine file answers: health, thresholds, versions and passphrases."""

import struct

import pytest
from ioctl_stories import Asker, from_hex

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.dimm_functions import Hpe1Function, HyperVFunction, IntelFunction, MicrosoftFunction
from nvdimmfs.formats.health_dsm import Hpe1Smart, Hpe1SmartThreshold, HyperVAnswer, HyperVHealth, MicrosoftHealth
from nvdimmfs.formats.intel_dsm import (
    ActivateBusInfo,
    BusFunction,
    FirmwareFinish,
    FirmwareInfo,
    Injection,
    Smart,
    SmartFlag,
    SmartInject,
    SmartSetThreshold,
    SmartThreshold,
    Status,
)
from nvdimmfs.formats.ndctl import U32, Package
from nvdimmfs.kernels.durations import FIRMWARE_ACTIVATION, FIRMWARE_VERIFY, MICROSECOND, SECOND
from nvdimmfs.kernfs.path import resolve
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import parse_machine

#: ND_IOCTL_CALL and ND_IOCTL_SMART.
CALL, SMART = 0xC0404E0A, 0xC0844E01

HEALTH = """
[bus.dimm.health]
state = "non-critical"
temperature = -3.5
controller_temperature = 36
spares = 42
life_used = 17
last_shutdown = "dirty"
alarms = ["spares", "temperature"]
temperature_threshold = 82
spares_threshold = 50
"""

#: A temperature of -3.5 degrees in sixteenths, with the sign in the top bit.
COLD = 1 << 15 | 56


def boot(dimm, *more, bus=""):
    dimms = "".join(f"[[bus.dimm]]\nsize = '1G'\n{each}\n" for each in (dimm, *more))
    text = f"[[bus]]\n{bus}\n{dimms}[[bus.range]]\ndimms = ['0x1']\n"
    return Asker(Machine.described(parse_machine(text, "test.toml"), clock=ClockMode.STEPS))


def call(asker, family, function, given=b"", size=132, device="nmem0"):
    """The outputs of a function, as many bytes as it returned."""
    package = Package(family, function, len(given), size)
    question = {"ioctl": device, "request": CALL, "memory": (package.to_bytes() + given + bytes(size)).hex()}
    answer = asker.ask(question)
    assert answer["result"] == 0
    memory = from_hex(answer["memory"])
    returned = Package.from_bytes(memory).firmware_size
    return memory[64 + len(given) :][: min(returned, size)]


def attribute(asker, path):
    return resolve(asker.machine.system.sys, f"bus/nd/devices/{path}")


def exists(asker, path):
    folder, _, name = path.rpartition("/")
    return name in [node.name for node in attribute(asker, folder)]


def read(asker, path):
    return attribute(asker, path).show().decode().rstrip("\n")


def write(asker, path, text):
    attribute(asker, path).store(text.encode())


def without_status(answer):
    """The bytes of a function's inputs: a structure without the status at its end, which is of the answer."""
    return answer.to_bytes()[: -U32.size]


def smart(asker):
    return Smart.from_bytes(call(asker, 0, IntelFunction.SMART))


def inject(asker, flags, *values):
    request = without_status(SmartInject(flags, *values, status=0))
    assert call(asker, 0, IntelFunction.SMART_INJECT, request, 4) == bytes(4)


def test_an_intel_dimm_reports_what_the_file_says():
    asker = boot(f"dirty_shutdown = 3\n{HEALTH}")
    answer = smart(asker)
    assert answer.flags == (
        SmartFlag.HEALTH
        | SmartFlag.SPARES
        | SmartFlag.LIFE_USED
        | SmartFlag.MEDIA_TEMPERATURE
        | SmartFlag.CONTROLLER_TEMPERATURE
        | SmartFlag.SHUTDOWN_COUNT
        | SmartFlag.ALARMS
        | SmartFlag.SHUTDOWN
    )
    assert (answer.status, answer.health, answer.spares, answer.life_used) == (0, 1, 42, 17)
    assert (answer.media_temperature, answer.controller_temperature) == (COLD, 36 * 16)
    assert (answer.alarms, answer.shutdown_count, answer.shutdown_state) == (1, 3, 1)
    thresholds = SmartThreshold.from_bytes(call(asker, 0, IntelFunction.SMART_THRESHOLD, size=12))
    assert thresholds == SmartThreshold(0, 3, 50, 82 * 16, 0)


def test_the_command_smart_is_the_function():
    asker = boot(HEALTH)
    memory = from_hex(asker.ask({"ioctl": "nmem0", "request": SMART, "memory": bytes(132).hex()})["memory"])
    assert Smart.from_bytes(memory) == smart(asker)


def test_values_that_are_not_measured_are_not_valid():
    asker = boot('health = { state = "ok" }')
    assert smart(asker).flags == SmartFlag.HEALTH | SmartFlag.ALARMS


def test_a_dimm_without_health_has_a_status_for_its_functions():
    asker = boot("dsm_mask = 0x476")
    assert call(asker, 0, IntelFunction.SMART) == U32.pack(Status.NOT_SUPPORTED)
    assert call(asker, 0, IntelFunction.ENABLE_LSS_STATUS, b"\1", 4) == U32.pack(Status.NOT_SUPPORTED)


def test_a_function_that_the_kernel_does_not_allow_is_refused_by_the_kernel():
    asker = boot(f"dsm_mask = 0x72\n{HEALTH}")
    package = Package(0, IntelFunction.SMART_THRESHOLD, 0, 12).to_bytes() + bytes(12)
    assert asker.ask({"ioctl": "nmem0", "request": CALL, "memory": package.hex()}) == {"errno": "ENOTTY"}


def test_inputs_that_are_too_short_are_a_status():
    asker = boot(HEALTH)
    assert call(asker, 0, IntelFunction.SMART_SET_THRESHOLD, bytes(3), 4) == U32.pack(Status.BAD_ARGUMENT)


def test_injected_values_replace_those_of_the_file_until_they_are_taken_back():
    asker = boot(f"dirty_shutdown = 3\n{HEALTH}")
    inject(asker, Injection.MEDIA_TEMPERATURE | Injection.SPARES, 1, 90 * 16, 1, 99, 0, 0)
    inject(asker, Injection.FATAL | Injection.SHUTDOWN, 0, 0, 0, 0, 1, 1)
    answer = smart(asker)
    assert (answer.media_temperature, answer.spares, answer.health) == (90 * 16, 99, 4)
    assert (answer.alarms, answer.shutdown_count) == (2, 4)
    inject(asker, 15, 0, 0, 0, 0, 0, 0)
    answer = smart(asker)
    assert (answer.media_temperature, answer.spares, answer.health) == (COLD, 42, 1)
    assert (answer.shutdown_state, answer.shutdown_count) == (0, 4)


def test_a_threshold_that_is_reached_raises_an_alarm_and_notifies_the_flags():
    asker = boot('health = { state = "ok", temperature = 30 }')
    flags = attribute(asker, "nmem0/nfit/flags")
    before = flags.events
    cool = without_status(SmartSetThreshold(2, 0, 31 * 16, 0))
    assert call(asker, 0, IntelFunction.SMART_SET_THRESHOLD, cool, 4) == bytes(4)
    assert (smart(asker).alarms, flags.events) == (0, before)
    warm = without_status(SmartSetThreshold(2, 0, 30 * 16, 0))
    assert call(asker, 0, IntelFunction.SMART_SET_THRESHOLD, warm, 4) == bytes(4)
    assert (smart(asker).alarms, flags.events) == (2, before + 1)


def test_the_kernel_learns_of_a_dirty_shutdown_at_boot():
    asker = boot(f'flags = ["save_fail"]\ndirty_shutdown = 3\n{HEALTH}')
    assert read(asker, "nmem0/nfit/flags") == "save_fail flush_fail "
    assert read(asker, "nmem0/nfit/dirty_shutdown") == "3"


def test_the_kernel_asks_only_intels_dimms_for_a_dirty_shutdown():
    asker = boot(f"family = 1\ndirty_shutdown = 3\n{HEALTH}")
    assert read(asker, "nmem0/nfit/flags") == ""
    assert not exists(asker, "nmem0/nfit/dirty_shutdown")


@pytest.mark.parametrize(
    ("family", "mask", "commands"),
    [
        (0, 0x60476, "smart smart_thresh get_size get_data set_data cmd_call "),
        (1, 0x76, "get_size get_data set_data cmd_call "),
        (3, 0x800, "get_size get_data set_data cmd_call "),
        (4, 0x6, "get_size get_data set_data cmd_call "),
    ],
)
def test_functions_and_commands_follow_from_the_family(family, mask, commands):
    asker = boot(f"family = {family}\n{HEALTH}")
    assert read(asker, "nmem0/nfit/family") == str(family)
    assert read(asker, "nmem0/nfit/dsm_mask") == f"{mask:#x}"
    assert read(asker, "nmem0/commands") == commands


def test_hpes_first_family():
    asker = boot(f"family = 1\n{HEALTH}")
    answer = Hpe1Smart.from_bytes(U32.pack(0x3F) + call(asker, 1, Hpe1Function.SMART, U32.pack(0x3F), 128))
    assert (answer.valid, answer.health, answer.temperature) == (0x3F, 1, COLD)
    assert (answer.spares, answer.alarms, answer.life_used, answer.last_shutdown) == (42, 2, 17, 0)
    thresholds = Hpe1SmartThreshold.from_bytes(call(asker, 1, Hpe1Function.SMART_THRESHOLD))
    assert thresholds == Hpe1SmartThreshold(0, 3, 82 * 16, 50)


def test_hpes_first_family_returns_what_is_wanted():
    asker = boot(f"family = 1\n{HEALTH}")
    answer = Hpe1Smart.from_bytes(U32.pack(2) + call(asker, 1, Hpe1Function.SMART, U32.pack(2), 128))
    assert answer.valid == 2


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ('state = "ok", life_used = 5', MicrosoftHealth(temperature=255, lifetime=95)),
        ('state = "non-critical", temperature = 40.5', MicrosoftHealth(temperature=40, warnings=2, lifetime=100)),
        ('state = "critical", temperature = -4', MicrosoftHealth(health=1, lifetime=100)),
        ('state = "fatal", life_used = 5', MicrosoftHealth(temperature=255)),
        (
            'state = "non-critical", spares = 1, alarms = ["spares"], spares_threshold = 3',
            MicrosoftHealth(temperature=255, warnings=1, lifetime=100),
        ),
    ],
)
def test_microsofts_family(health, expected):
    asker = boot(f"family = 3\nhealth = {{ {health} }}")
    assert MicrosoftHealth.from_bytes(call(asker, 3, MicrosoftFunction.NVDIMM_HEALTH)) == expected


@pytest.mark.parametrize(
    ("state", "bits"),
    [
        ("ok", 0),
        ("non-critical", HyperVHealth.NON_CRITICAL),
        ("critical", HyperVHealth.CRITICAL),
        ("fatal", HyperVHealth.FATAL),
    ],
)
def test_hyper_vs_family(state, bits):
    asker = boot(f'family = 4\ndirty_shutdown = 7\nhealth = {{ state = "{state}" }}')
    assert call(asker, 4, HyperVFunction.HEALTH) == HyperVAnswer(value=bits).to_bytes()
    assert call(asker, 4, HyperVFunction.SHUTDOWN_COUNT) == HyperVAnswer(value=7).to_bytes()


def test_labels_of_other_families_are_not_functions():
    asker = boot('family = 3\ndsm_mask = 0x870\nhealth = { state = "ok" }')
    assert call(asker, 3, 4, size=12) == U32.pack(1)
    assert asker.ask({"ioctl": "nmem0", "request": 0xC00C4E04, "memory": bytes(12).hex()})["result"] == 0


# Firmware

UPDATABLE = "firmware = { version = 3 }\n"


def info(asker, device="nmem0"):
    return FirmwareInfo.from_bytes(call(asker, 0, IntelFunction.FW_GET_INFO, size=44, device=device))


def update(asker, device="nmem0"):
    status, context = struct.unpack("<II", call(asker, 0, IntelFunction.FW_START_UPDATE, size=8, device=device))
    assert status == 0
    piece = struct.pack("<III4s", context, 0, 4, b"code")
    assert call(asker, 0, IntelFunction.FW_SEND_DATA, piece, 4, device) == bytes(4)
    finish = without_status(FirmwareFinish(0, bytes(3), context, 0))
    assert call(asker, 0, IntelFunction.FW_FINISH_UPDATE, finish, 4, device) == bytes(4)
    asker.machine.system.clock.advance(FIRMWARE_VERIFY.nanoseconds)
    return struct.unpack("<IQ", call(asker, 0, IntelFunction.FW_FINISH_QUERY, U32.pack(context), 12, device))


def test_an_update_is_staged_until_it_is_activated():
    asker = boot(UPDATABLE, "firmware = { version = 9 }", bus='firmware_activation = "quiesce"')
    assert (info(asker).run_version, info(asker).updated_version) == (3, 0)
    assert update(asker) == (0, 4)
    assert (info(asker).run_version, info(asker).updated_version) == (3, 4)
    write(asker, "nmem0/firmware/activate", "arm")
    assert read(asker, "ndbus0/firmware/activate") == "armed"
    write(asker, "ndbus0/firmware/activate", "live")
    assert read(asker, "nmem0/firmware/activate") == "busy"
    asker.machine.system.clock.advance(FIRMWARE_ACTIVATION.nanoseconds)
    assert (read(asker, "nmem0/firmware/activate"), read(asker, "nmem0/firmware/result")) == ("idle", "success")
    assert (info(asker).run_version, info(asker).updated_version) == (4, 0)
    assert info(asker, "nmem1").run_version == 9
    assert update(asker) == (0, 5)


def test_a_staged_update_of_the_file_and_the_version_of_the_next():
    asker = boot(
        "firmware = { version = 3, next_version = 0x20, update_version = 0x30 }",
        bus='firmware_activation = "live"',
    )
    assert (info(asker).run_version, info(asker).updated_version) == (3, 0x20)
    write(asker, "nmem0/firmware/activate", "arm")
    write(asker, "ndbus0/firmware/activate", "live")
    asker.machine.system.clock.advance(FIRMWARE_ACTIVATION.nanoseconds)
    assert (info(asker).run_version, info(asker).updated_version) == (0x20, 0)


def test_without_activation_by_the_bus_there_are_no_attributes():
    asker = boot(UPDATABLE)
    assert not exists(asker, "nmem0/firmware/activate")
    assert update(asker) == (0, 4)


def test_functions_of_intels_family_are_not_those_of_the_nfit():
    asker = boot(UPDATABLE, bus='commands = ["ars_cap", "cmd_call"]\nfirmware_activation = "live"')
    answer = ActivateBusInfo.from_bytes(call(asker, 1, BusFunction.FW_ACTIVATE_BUS_INFO, size=40, device="ndctl0"))
    assert (answer.status, answer.state) == (0, 0)
    assert answer.max_quiesce_time == FIRMWARE_ACTIVATION.nanoseconds // MICROSECOND
    assert read(asker, "ndbus0/firmware/activate") == "idle"


# Security


def refused(asker, text):
    with pytest.raises(KernelError) as refusal:
        write(asker, "nmem0/security", text)
    return refusal.value.code


def secured(security):
    asker = boot(f'{security}\nlabel = {{ initialised = "1.2" }}')
    asker.keys.make("one", 32)
    asker.keys.make("two", 32)
    return asker, asker.keys.serials["one"], asker.keys.serials["two"]


def test_a_passphrase_is_set_changed_and_removed():
    asker, one, two = secured('security = "disabled"')
    assert (read(asker, "nmem0/security"), read(asker, "nmem0/frozen")) == ("disabled", "0")
    write(asker, "nmem0/security", f"update 0 {one}")
    assert read(asker, "nmem0/security") == "unlocked"
    assert refused(asker, f"update {two} {one}") == "EINVAL"
    write(asker, "nmem0/security", f"update {one} {two}")
    assert refused(asker, f"disable {one}") == "EINVAL"
    write(asker, "nmem0/security", f"disable {two}")
    assert read(asker, "nmem0/security") == "disabled"


def test_a_bound_region_keeps_a_dimm_from_being_erased():
    asker, one, _ = secured('security = "disabled"')
    write(asker, "nmem0/security", f"update 0 {one}")
    assert refused(asker, f"erase {one}") == "EBUSY"
    write(asker, "region0/driver/unbind", "region0")
    write(asker, "nmem0/security", f"erase {one}")
    assert read(asker, "nmem0/security") == "disabled"


def test_an_overwrite_ends_after_a_while():
    asker, one, _ = secured('security = "disabled"')
    write(asker, "nmem0/security", f"update 0 {one}")
    write(asker, "region0/driver/unbind", "region0")
    write(asker, "nmem0/security", f"overwrite {one}")
    assert read(asker, "nmem0/security") == "overwrite"
    assert refused(asker, f"update {one} {one}") == "EBUSY"
    asker.machine.system.clock.advance(10 * SECOND)
    assert read(asker, "nmem0/security") == "unlocked"


def test_frozen_security_refuses_until_the_next_boot():
    asker, one, _ = secured('security = "unlocked"')
    write(asker, "nmem0/security", "freeze")
    assert read(asker, "nmem0/frozen") == "1"
    assert refused(asker, f"update 0 {one}") == "EIO"


def test_a_dimm_that_was_locked_before_the_boot_stays_locked_without_its_key():
    asker, one, two = secured('security = "locked"')
    assert (read(asker, "nmem0/security"), read(asker, "nmem0/flags")) == ("locked", "label lock ")
    assert refused(asker, f"disable {one}") == "EINVAL"
    write(asker, "region0/driver/unbind", "region0")
    write(asker, "nmem0/security", f"master_update 0 {two}")
    write(asker, "nmem0/security", f"master_erase {two}")
    assert read(asker, "nmem0/security") == "disabled"


def test_the_master_passphrase_erases():
    asker, one, two = secured('security = "unlocked"')
    write(asker, "region0/driver/unbind", "region0")
    write(asker, "nmem0/security", f"master_update 0 {two}")
    assert refused(asker, f"master_erase {one}") == "EINVAL"
    write(asker, "nmem0/security", f"master_erase {two}")
    assert read(asker, "nmem0/security") == "disabled"


def test_a_dimm_keeps_its_passphrase_while_no_driver_is_loaded():
    asker, one, _ = secured('security = "disabled"')
    write(asker, "nmem0/security", f"update 0 {one}")
    for name in ("unbind", "bind"):
        asker.machine.system.sys.find(f"bus/acpi/drivers/nfit/{name}").store(b"ACPI0012:00")
    assert read(asker, "nmem0/security") == "unlocked"


def test_security_without_functions_is_a_word():
    asker, one, _ = secured('security = "disabled"\ndsm_mask = 0x70')
    assert read(asker, "nmem0/security") == "disabled"
    assert refused(asker, f"update 0 {one}") == "EIO"
