"""Malformed messages and texts: ioctls, the control channel, machine files, recordings, memmap=, attributes."""

from __future__ import annotations

import contextlib
import random
import re
from pathlib import Path

import attrs
import books
import machine_keys
import random_machines
from mutating import Subject

from nvdimmfs.block.disk import Disk
from nvdimmfs.block.ioctl import block_ioctl
from nvdimmfs.core.device_number import Numbered
from nvdimmfs.errors import KernelError
from nvdimmfs.formats import control
from nvdimmfs.formats.dimm_functions import IntelFunction
from nvdimmfs.formats.elf_module import ModuleInfo, elf_module, module_name
from nvdimmfs.formats.intel_dsm import BusFunction
from nvdimmfs.formats.ndctl import BUS_FORMATS, CALL, DIMM_FORMATS, Package
from nvdimmfs.formats.nfit_dsm import Function
from nvdimmfs.kernfs import ATTRIBUTE_SIZE, Attribute, Channel, Directory
from nvdimmfs.lab import recording_text
from nvdimmfs.machine.caller_memory import UserMemory
from nvdimmfs.machine.first_boot import NewMachineError
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import MachineFileError, load_machine, machines, parse_machine
from nvdimmfs.mm.e820 import KernelPanic
from nvdimmfs.mm.memmap_option import MemmapError, check_memmap
from nvdimmfs.mm.memory import Memory
from nvdimmfs.nd.ioctl import ioctl_target, nd_ioctl
from nvdimmfs.testing import Engine
from nvdimmfs.units import GIB, TIB

#: More bytes than any field's offset in an argument.
ARGUMENT = 512

_ND = "/sys/bus/nd"
_FAULTS = "/sys/kernel/debug/nvdimmfs/faults"

#: ND_IOCTL_GET_CONFIG_SIZE (include/uapi/linux/ndctl.h).
_GET_CONFIG_SIZE = 0xC00C4E04

#: A rule that has requests wait, in real time.
_WAITS = re.compile(r"^add (?:open|read|write|ioctl) .* delay=", re.MULTILINE)

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"


class NdIoctls(Subject):
    """ioctls on the DIMMs and buses of the test platform: the device, the command, the argument."""

    places = (2, 6, 10, 66, 70)
    machine = "nfit_test"

    def __init__(self) -> None:
        super().__init__()
        self._machine = Machine.described(load_machine(self.machine), clock="steps")
        numbered = self._machine.system.numbered.values()
        self._targets = [target for device in numbered if (target := ioctl_target(device)) is not None]
        for number, target in enumerate(self._targets):
            is_dimm = target.name.startswith("nmem")
            for command in DIMM_FORMATS if is_dimm else BUS_FORMATS:
                self.samples.append(bytes([number, command]) + bytes(ARGUMENT))
                self.samples.append(bytes([number, command]) + bytes(4) + (128).to_bytes(4, "little") + bytes(ARGUMENT))
            functions = list(IntelFunction) if is_dimm else [*Function, *BusFunction]
            for family, function in ((family, function) for family in (0, 1) for function in functions):
                package = Package(family, function, 16, 128).to_bytes()
                self.samples.append(bytes([number, CALL]) + package + bytes(ARGUMENT))

    def feed(self, data: bytes) -> None:
        target = self._targets[data[0] % len(self._targets)] if data else self._targets[0]
        command = data[1] if len(data) > 1 else 0
        try:
            UserMemory(bytearray(data[2:])).run(nd_ioctl(target, command, writable=True))
        except KernelError:
            return
        wrong = next(books.problems(self._machine), "")
        if wrong:
            raise AssertionError(wrong)


class NfitIoctls(NdIoctls):
    """As `NdIoctls`, on an ACPI NFIT."""

    machine = "two-socket-6way"


class BlockIoctls(Subject):
    """ioctls on disks: the request's number, the argument."""

    places = (4, 8, 16, 24)
    _ADDRESS = 0x1000

    def __init__(self) -> None:
        super().__init__()
        self._machine = Machine.legacy("64M!4G", 4 * GIB, clock="steps")
        for request in (0x1269, 0x125D, 0x125E, 0x125F, 0x1260, 0x1268, 0x1277, 0x127F, 0x80081272):
            for operation in (1, 2, 3):
                pointer = (self._ADDRESS + 24).to_bytes(8, "little")
                head = operation.to_bytes(4, "little") + bytes(4) + (152).to_bytes(4, "little") + bytes(4) + pointer
                span = (1 << 20).to_bytes(8, "little") * 2 + (1).to_bytes(4, "little")
                self.samples.append(request.to_bytes(4, "little") + head + span + bytes(160))

    def feed(self, data: bytes) -> None:
        for disk in [device for device in self._machine.system.numbered.values() if isinstance(device, Disk)]:
            request = int.from_bytes(data[:4], "little")
            try:
                UserMemory(bytearray(data[4:])).run(block_ioctl(disk, request, self._ADDRESS, privileged=True))
            except KernelError:
                continue
        wrong = next(books.problems(self._machine), "")
        if wrong:
            raise AssertionError(wrong)


class ControlMessages(Subject):
    """Messages to the control channel, of one session after the other."""

    _LONGEST_SESSION = 20

    def __init__(self) -> None:
        super().__init__()
        self._machine = Machine.described(load_machine("nfit_test"), clock="steps")
        channel = self._machine.system.sys.find("kernel/debug/nvdimmfs/control")
        assert isinstance(channel, Channel)
        self._channel = channel
        self._session = channel.open_session(channel)
        self._messages = 0
        devices: list[Numbered] = list(self._machine.system.numbered.values())
        for device in devices[:6]:
            assert device.number is not None
            number = device.number
            for request in (4, 5, 10, 0x1269, 0x125F):
                message = control.Ioctl(number.kind, number.major, number.minor, request, 4096, True, True)
                self.samples += [control.encode(each) for each in (message, attrs.evolve(message, ahead=bytes(300)))]
            for kind, shared in ((number.kind, True), ("char", False)):
                message = control.Map(kind, number.major, number.minor, 1 << 21, 1 << 21, shared)
                self.samples.append(control.encode(message))
            self.samples.append(control.encode(control.Find(device.name)))
            self.samples.append(
                control.encode(control.Renumber(number.kind, number.major, number.minor, number.major, 77))
            )
        for other in (
            control.Copied(bytes(12)),
            control.Copied(bytes(4), bytes(8)),
            control.ListNodes(),
            control.Copied(b""),
            control.Fault(),
            control.Load("nd_pmem"),
            control.Unload("kmem"),
            control.Unload("device_dax", 1, ("dax0.0", "pmem0", "ndctl0")),
            control.List(("", "bus/nd/devices", "class/block")),
            control.Listen(),
            control.Waited(),
            control.Watch(("", "bus/nd/devices")),
            control.Done(1 << 70),
        ):
            self.samples.append(control.encode(other))

    def feed(self, data: bytes) -> None:
        with contextlib.suppress(KernelError):
            self._session.write(data)
        while self._session.has_message:
            control.decode(self._session.read())
        self._messages += 1
        if self._messages % self._LONGEST_SESSION == 0:
            self._session.close()
            self._session = self._channel.open_session(self._channel)


class MachineFiles(Subject):
    """Machine files.  Small machines are booted."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = [file.read_bytes() for file in machines().values()]
        chance = random.Random(1)
        texts = (random_machines.random_machine(chance) for _ in range(60))
        self.samples += [text.encode() for text in texts if "\n" in text]

    def feed(self, data: bytes) -> None:
        try:
            machine = parse_machine(data.decode("utf-8", "replace"), "machine")
        except MachineFileError as error:
            _require_lines(error.lines)
            return
        if machine.ram > TIB or len(data) > 4096 or any(dimm.label.file for bus in machine.buses for dimm in bus.dimms):
            return
        try:
            Machine.described(machine, clock="steps").close()
        except (NewMachineError, KernelPanic) as error:
            _require_lines([str(error)])


class MachineKeys(MachineFiles):
    """Machine files with keys of all kinds (`machine_keys`).  An input is the seed of a file."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = [bytes(8)]

    def feed(self, data: bytes) -> None:
        text = machine_keys.random_keys(random.Random(data))
        try:
            super().feed(text.encode())
        except Exception as bug:
            bug.args = (*bug.args, text)
            raise


class Recordings(Subject):
    """Recordings of answers."""

    _LONGEST = 3000

    def __init__(self) -> None:
        super().__init__()
        texts = [path.read_bytes() for path in sorted(RECORDINGS.glob("e820/*/*.recording"))[::7]]
        self.samples = [text[: text.rindex(b"\n", 0, self._LONGEST) + 1] for text in texts if b"\n" in text[:3000]]

    def feed(self, data: bytes) -> None:
        try:
            recording_text.loads(data.decode("latin-1"))
        except ValueError:
            return


class ModuleImages(Subject):
    """Images that a program passes to init_module(2)."""

    places = (0, 40, 58)

    def __init__(self) -> None:
        super().__init__()
        info = ModuleInfo("nd_pmem", (("libnvdimm", "nd_region"),), ("nd:t5*",), (("x", "int"),))
        self.samples = [elf_module(info, "6.1 SMP", ("symbol",)), elf_module(ModuleInfo("kmem"), "6.1 SMP")]

    def feed(self, data: bytes) -> None:
        try:
            module_name(data)
        except ValueError:
            return


class MemmapOptions(Subject):
    """Texts of memmap=.  A machine boots with those that are accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = [text.encode() for text in random_machines.MEMMAPS]
        self.samples += [
            b"exactmap,640K@0,4G@1M,1G!8G",
            b"64K$0x18690000",
            b"1G%4G-1+2",
            b"0x10000000!0x100000000",
            b"16M#1G",
        ]

    def feed(self, data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        try:
            check_memmap(text, 4 * GIB)
        except MemmapError as error:
            _require_lines([str(error)])
            return
        Memory.boot(text, 4 * GIB)


class AttributeValues(Subject):
    """Values for all attributes that can be written: which one, the value."""

    def __init__(self) -> None:
        super().__init__()
        self._machine = Machine.described(load_machine("nfit_test"), clock="steps")
        paths = [path for path in _writable(self._machine.system.sys) if "/unbind" not in path]
        self._paths = paths
        for index in range(len(paths)):
            for value in (b"1\n", b"0x1000000", b"pmem", b"00000000-1111-2222-3333-444444444444", b"add", b"freeze"):
                self.samples.append(index.to_bytes(2, "little") + value)

    def feed(self, data: bytes) -> None:
        path = self._paths[int.from_bytes(data[:2], "little") % len(self._paths)]
        try:
            node = self._machine.tree.root.find(path[1:])
            assert isinstance(node, Attribute)
            if node.mode & 0o222:
                node.store(data[2:])
            if node.mode & 0o444 and node.parent:
                node.show()
        except KernelError:
            return


class FaultRules(Subject):
    """What is written to the debug file `faults`; then the machine is used, and what failed must be no bug."""

    _RULES = (
        b"add open sys/bus/nd/devices/*/size errno=EACCES times=2",
        b"add read sys/bus/nd/devices/region?/* short=3 after=1",
        b"add read sys/bus/nd/devices/namespace0.0/../x garbage=7",
        b'add write sys/bus/nd/drivers/*/bind errno=ENOMEM comm="a b" uid=0',
        b"add write dev/pmem[0-9] short=5",
        b"add read dev/* garbage=1",
        b"add ioctl dev/nmem* errno=EINTR",
        b"add register namespace* errno=ENOMEM times=1 name=pages",
        b"add altmap * errno=ENOMEM",
        b"add media-read nmem0 errno=EIO after=2",
        b"add media-read region0 sectors=8+3",
        b"add media-write * power-cut after=3",
        b"add media-write labels-* short=9 times=1",
        b"add media-write * garbage=0x7",
        b"add command nmem* command=get_data,5,cmd_call:3 status=0x5",
        b"add command ndbus0 result=-16",
        b"add command test_dimm* result=3",
        b"add command * delay=90s",
        b"remove 1",
        b"remove pages # and a remark",
        b"clear",
    )

    def __init__(self) -> None:
        super().__init__()
        self.samples = [*self._RULES, *(b"\n".join(self._RULES[start::3]) for start in range(3))]
        self._engine = Engine("nfit_test")
        self._before = self._engine.checkpoint()
        self._devices = self._engine.ls(f"{_ND}/devices")

    def feed(self, data: bytes) -> None:
        try:
            self._engine.write(_FAULTS, data)
        except OSError as refusal:
            _require_lines(refusal.__notes__)
        listed = self._engine.read(_FAULTS)
        if not all(line.isprintable() for line in listed.splitlines()):
            raise AssertionError(f"not printable: {listed}")
        if not _WAITS.search(listed):
            self._use()
        self._before.reset()
        if len(listed) < ATTRIBUTE_SIZE:
            self._engine.write(_FAULTS, listed)
        self._before.reset()

    def _use(self) -> None:
        for device in self._devices:
            with contextlib.suppress(OSError):
                self._engine.read(f"{_ND}/devices/{device}/size")
        for path, value in (
            ("drivers/nd_region/unbind", "region0"),
            ("drivers/nvdimm/unbind", "nmem0"),
            ("drivers/nvdimm/bind", "nmem0"),
            ("drivers/nd_region/bind", "region0"),
        ):
            with contextlib.suppress(OSError):
                self._engine.write(f"{_ND}/{path}", value)
        for disk in ("pmem0", "pmem1"):
            with contextlib.suppress(OSError):
                self._engine.write(f"/dev/{disk}", bytes(4096), offset=4096)
            with contextlib.suppress(OSError):
                self._engine.read_bytes(f"/dev/{disk}", 0, 4096)
        with contextlib.suppress(OSError):
            self._engine.ioctl("/dev/nmem0", _GET_CONFIG_SIZE, bytes(12))


def _require_lines(lines: list[str]) -> None:
    """Errors reach a person as lines that a terminal can show."""
    if not lines or not all(line.isprintable() for line in lines):
        raise AssertionError(f"not printable: {lines}")


def _writable(directory: Directory) -> list[str]:
    """The paths of all attributes that can be written, but those that advance the clock."""
    found: list[str] = []
    for node in directory:
        if isinstance(node, Directory):
            found += _writable(node)
        elif isinstance(node, Attribute) and node.mode & 0o222 and node.name != "clock":
            found.append(node.path)
    return found
