"""How each mistake in a machine file is named: where it is, and what would be right."""

from __future__ import annotations

import zipfile

import pytest

from nvdimmfs.machine_file.files import MachineFileError, load_machine, parse_machine

TWO_DIMMS = """
[[bus]]

[[bus.dimm]]
name = "A"
size = "1G"
label = { initialised = "1.1" }

[[bus.dimm]]
name = "B"
size = "1G"
label = { initialised = "1.1" }
"""

UUID = "01234567-89ab-cdef-0123-456789abcdef"

SHORTHANDS = {
    "TWO DIMMS": TWO_DIMMS,
    "TWO BLANK DIMMS": TWO_DIMMS.replace('"1.1"', '""'),
    "1025 LETTERS": "x" * 1025,
    "256 LETTERS": "x" * 256,
}

#: Files with a mistake each, and the line that names it.
WRONG_SHAPE = r"""
[[bus]]
[[bus.dimm]]
[[bus.dimm]]
[[bus.dimm]]
size = "12Q"
=> bus[0].dimm[2].size: "12Q" is not a size; write for example "512M" or 536870912

ram = true
=> ram: true is not a size; write for example "512M" or 536870912

ram = 1.5
=> ram: 1.5 is not a size; write for example "512M" or 536870912

ram = -5
=> ram: -5 is too small; the minimum is 0

ram_range = "4G"
=> ram_range: "4G" is not a list; write one table for each, [[...]]

[[ram_range]]
start = "4G"
=> ram_range[0].size: required key missing

distances = [10]
=> distances[0]: 10 is not a list; write [10, 20]

distances = 20
=> distances: 20 is not a list; write [[10, 20], [20, 10]]

distances = [[10, "20"]]
=> distances[0][1]: "20" is not a number; write for example 8

[[bus]]
[[bus.range]]
range_index = -1
=> bus[0].range[0].range_index: -1 is too small; the minimum is 0

[[fault]]
operation = "read"
path = "*"
uid = -1
=> fault[0].uid: -1 is too small; the minimum is 0

bus = 3
=> bus: 3 is not a list; write one table for each, [[...]]

bus = [3]
=> bus[0]: 3 is not a table; write { provider = ... }

[[bus]]
provider = 3
=> bus[0].provider: 3 is not a string; put it in quotes: "..."

memmap = ["512M!4G", "256M!6G"]
=> memmap: a list is not a string; write one: "..."

[memmap]
=> memmap: a table is not a string; write one: "..."

[[bus]]
commands = "cmd_call"
=> bus[0].commands: "cmd_call" is not a list; write ["...", "..."]

[[bus]]
scrubbing = 1
=> bus[0].scrubbing: 1 is neither true nor false

[[bus]]
test_dimms = 1
=> bus[0].test_dimms: 1 is not a list; write [0x0, 0x1]

[[bus]]
size = "1G"
=> bus[0].size: unknown key; the keys are provider, platform, parent, revision, commands, dsm_mask, hw_error_scrub,
   scrubs, scrubbing, persistence_domain, firmware_activation, test_dimms, dimm, range

[[bus]]
[[bus.dimms]]
=> bus[0].dimms: unknown key; did you mean dimm?

[[bus]]
[[bus.dimm]]
size = "64E"
=> bus[0].dimm[0].size: "64E" is too large; physical addresses end at 0x10000000000000 (4P)

[[bus]]
[[bus.dimm]]
vendor = 0x12345
=> bus[0].dimm[0].vendor: 74565 is too large; the maximum is 0xffff

[[bus]]
[[bus.dimm]]
vendor = "intel"
=> bus[0].dimm[0].vendor: "intel" is not a number; write for example 0x8680

[[bus]]
[[bus.dimm]]
flush_hints = 8190
=> bus[0].dimm[0].flush_hints: 8190 is too large; the maximum is 8189

[[bus]]
[[bus.dimm]]
health = { temperature = "warm" }
=> bus[0].dimm[0].health.temperature: "warm" is not a temperature; write for example 23.5 (degrees Celsius)

[[bus]]
[[bus.dimm]]
health = { temperature = 2048.0 }
=> bus[0].dimm[0].health.temperature: 2048.0 is too large; the maximum is 2047.94

[[bus]]
[[bus.dimm]]
health = { spares = 101 }
=> bus[0].dimm[0].health.spares: 101 is too large; the maximum is 100

[[bus]]
[[bus.range]]
start = "x"
=> bus[0].range[0].start: "x" is not an address; write for example 0x100000000 or "4G"

[[bus]]
[[bus.range]]
kind = "ram"
=> bus[0].range[0].kind: "ram" is not one of pmem, volatile, volatile-disk, volatile-cd, persistent-disk,
   persistent-cd

[[bus]]
[[bus.range]]
dimms = [7]
=> bus[0].range[0].dimms[0]: 7 is not a table; write the name of a DIMM, or { dimm = "...", dpa = "16M" }

[[unreadable]]
errno = 'EIO'
=> unreadable[0].path: required key missing
"""

CONTRADICTIONS = r"""
kernel = "6.9"
memmap = "1G!4G"
=> kernel: "6.9" is not emulated; the emulated kernels are rfc, 4.3, 4.5, 5.10, 5.15, 6.1, 6.6, 6.8, 6.12

ram = "64M"
[[bus]]
=> ram: 64M is too small; the minimum is 128M

ram = "4P"
[[bus]]
=> ram: 4P is too large; the maximum is 4194302G

memmap = "1G"
=> memmap: memmap entry 1 '1G' (column 1): the start is missing; a size alone would remove all RAM above it;
   write SIZE!START, for example 512M!4G

name = "a\u001bb"
[[bus]]
=> name: "a\u001bb" has unprintable characters; remove them

[[bus]]
[[bus]]
=> bus[1].parent: "devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00" is also the parent of bus[0]; choose
   another device

[[bus]]
provider = "a b"
=> bus[0].provider: "a b" is not a word such as ACPI.NFIT or nfit_test.0

[[bus]]
parent = "../etc"
=> bus[0].parent: "../etc" is not a device such as devices/platform/nfit_test.0

[[bus]]
platform = "virtio-pmem"
revision = 2
[[bus.range]]
size = "1G"
=> bus[0].revision: a bus of virtio-pmem does not have it; remove it

[[bus]]
platform = "virtio-pmem"
=> bus[0]: a bus of virtio-pmem is made of ranges; add a [[bus.range]] with size = "1G"

[[bus]]
platform = "virtio-pmem"
[[bus.range]]
size = "1G"
[[bus.range]]
size = "1G"
=> bus[0].range[1]: a virtio device has one range; give the other one a [[bus]] of its own

[[bus]]
platform = "virtio-pmem"
[[bus.range]]
size = "1G"
kind = "volatile"
=> bus[0].range[0].kind: a range of virtio-pmem is pmem

[[bus]]
platform = "device-tree"
[[bus.range]]
size = "1G"
[[bus.range]]
size = "1G"
kind = "volatile"
=> bus[0].range[1].kind: all ranges of a node are of one kind; give this one a [[bus]] of its own

[[bus]]
platform = "device-tree"
parent = "devices/platform/pmem"
[[bus.range]]
size = "1G"
=> bus[0].parent: "devices/platform/pmem" is not a device such as devices/platform/180000000.pmem

[[bus]]
platform = "device-tree"
[[bus.range]]
size = "1G"
[[bus]]
[[bus.dimm]]
size = "1G"
=> bus[1].platform: buses of nfit come before those of device-tree; move it up

kernel = "4.5"
[[bus]]
platform = "virtio-pmem"
[[bus.range]]
size = "1G"
=> bus[0].platform: Linux 4.5 has no driver for virtio-pmem

[[bus]]
hw_error_scrub = 2
=> bus[0].hw_error_scrub: 2 is neither 0 nor 1

[[bus]]
scrubbing = true
=> bus[0].scrubbing: a scrub needs the commands ars_cap, ars_start, ars_status and a range; add them or omit scrubbing

[[bus]]
revision = 256
=> bus[0].revision: 256 is too large; the maximum is 255

[[bus]]
[[bus.dimm]]
handle = 3
[[bus.dimm]]
handle = 3
=> bus[0].dimm[1].handle: 0x3 is also the handle of bus[0].dimm[0]; handles must be unique on a bus

[[bus]]
[[bus.dimm]]
name = "A"
[[bus.dimm]]
name = "A"
=> bus[0].dimm[1].name: "A" is also the name of bus[0].dimm[0]; names must be unique on a bus

[[bus]]
[[bus.dimm]]
manufacturing_date = 0x1837
=> bus[0].dimm[0].manufacturing_date: the NFIT has both manufacturing_location and manufacturing_date, or
   neither; write both

[[bus]]
[[bus.dimm]]
frozen = true
=> bus[0].dimm[0].frozen: the DIMM has no security to freeze; write for example security = "disabled"

[[bus]]
[[bus.dimm]]
health = { temperature = 30 }
=> bus[0].dimm[0].health.state: a DIMM without a state reports no health; write for example state = "ok"

[[bus]]
[[bus.dimm]]
health = { state = "ok", temperature = 30, alarms = ["temperature"] }
=> bus[0].dimm[0].health.temperature_threshold: the alarm "temperature" needs a threshold; write one, or omit the alarm

[[bus]]
[[bus.dimm]]
health = { state = "ok", spares_threshold = 5, alarms = ["spares"] }
=> bus[0].dimm[0].health.spares: the alarm "spares" needs a value; write one, or omit the alarm

[[bus]]
[[bus.dimm]]
firmware = { next_version = 7 }
=> bus[0].dimm[0].firmware.version: the version that runs is missing; write for example version = 0x1

[[bus]]
[[bus.dimm]]
family = 3
firmware = { version = 7 }
=> bus[0].dimm[0].firmware: no functions of family 3 report firmware; use the family 0

[[bus]]
provider = "nfit_test.0"
[[bus.dimm]]
firmware = { version = 7 }
=> bus[0].dimm[0].firmware: nfit_test gives its DIMMs firmware of its own; omit it, or use another bus

[[bus]]
[[bus.dimm]]
label = { size = 512 }
=> bus[0].dimm[0].label.size: 512 is too small for two index blocks and labels; write 0 for none, or at least
   1K

[[bus]]
[[bus.dimm]]
label = { text = "a", hex = "00" }
=> bus[0].dimm[0].label: text and hex are mutually exclusive; keep one

[[bus]]
[[bus.dimm]]
label = { initialised = "2.0" }
=> bus[0].dimm[0].label.initialised: "2.0" is not a label version; the versions are "1.1" and "1.2"

[[bus]]
[[bus.dimm]]
label = { size = 0, initialised = "1.1" }
=> bus[0].dimm[0].label.initialised: the DIMM has no label area to initialise; give it a size

[[bus]]
[[bus.dimm]]
label = { hex = "4e4" }
=> bus[0].dimm[0].label.hex: not bytes in hexadecimal; write for example "4e 41 4d 45"

[[bus]]
[[bus.dimm]]
label = { file = "nowhere" }
=> bus[0].dimm[0].label.file: "nowhere" is not a file; the path is relative to the machine file

[[bus]]
[[bus.dimm]]
label = { size = "1K", text = "1025 LETTERS" }
=> bus[0].dimm[0].label.text: its 1025 bytes do not fit into a label area of 1024; make the area larger

[[bus]]
[[bus.range]]
=> bus[0].range[0].size: missing; give the range a size, or DIMMs

[[bus]]
[[bus.range]]
size = 5000
=> bus[0].range[0].size: 5000 is not a multiple of 4 KiB; write for example 4096

[[bus]]
[[bus.range]]
start = 0x180000800
size = "1M"
=> bus[0].range[0].start: 0x180000800 is not a multiple of 4 KiB; write for example 0x180001000

[[bus]]
[[bus.range]]
start = "3P"
size = "2P"
=> bus[0].range[0].start: range ends at 0x14000000000000; physical addresses end at 0x10000000000000 (4P)

[[bus]]
[[bus.range]]
start = "64M"
size = "1G"
=> ram: a PC needs 128M of RAM at address 0 to boot; here it has 64M

[[bus]]
[[bus.range]]
start = "1G"
size = "2560M"
=> bus[0].range[0].start: 0x40000000-0xdfffffff is partly at addresses of devices; start at 0x100000000 or above

ram = "8G"
[[ram_range]]
size = "4G"
[[bus]]
=> ram: 8G is not the sum of ram_range, 4G; omit ram

[[ram_range]]
size = "4G"
[[ram_range]]
start = "5G"
size = "4G"
[[bus]]
[[bus.range]]
start = "6G"
size = "1G"
=> bus[0].range[0].start: 0x180000000-0x1bfffffff overlaps RAM (0x140000000-0x23fffffff); start at 0x240000000,
   or omit start

[[ram_range]]
start = 0
size = "1G"
[[ram_range]]
start = "1G"
size = "2G"
[[bus]]
=> ram_range[1].start: 0x40000000-0xbfffffff has addresses of devices; RAM is below 0x80000000 or from 0x100000000 on;
   or omit start

[[ram_range]]
start = 0
size = "2G"
[[ram_range]]
start = "1G"
size = "1G"
numa_node = -1
[[bus]]
=> ram_range[1].numa_node: -1 is not a node; RAM belongs to one, such as 0

[[ram_range]]
start = 0
size = "2G"
[[ram_range]]
start = "1G"
size = "1G"
[[bus]]
=> ram_range[1].start: 0x40000000 is RAM of ram_range[0]; start at 0x80000000

[[ram_range]]
start = "4G"
size = "4G"
[[bus]]
=> ram_range: a PC needs 128M of RAM at address 0 to boot; here it has 0

[[ram_range]]
size = "5P"
[[bus]]
=> ram_range[0].size: 5P of RAM do not fit below 0x10000000000000, around the ranges

[[ram_range]]
start = 12345
size = 4096
[[bus]]
=> ram_range[0].start: 0x3039 is not a multiple of 4 KiB; write 0x3000

[[ram_range]]
start = "5P"
size = 12345
[[bus]]
=> ram_range[0].size: 12345 is not a multiple of 4 KiB; write for example 12288

[[bus]]
test_dimms = [1, 2]
=> bus[0].test_dimms: only a bus of nfit_test has such devices; remove it

[[bus]]
scrubs = 3
=> bus[0].scrubs: a bus that counts scrubs has the commands ars_cap, ars_start, ars_status; add them, or remove scrubs

[[bus]]
commands = ["cmd_call", "ars_cap", "cmd_call"]
=> bus[0].commands[2]: "cmd_call" is listed already; remove it

[[bus]]
[[bus.dimm]]
flags = ["map_fail", "map_fail"]
=> bus[0].dimm[0].flags[1]: "map_fail" is listed already; remove it

[[bus]]
[[bus.dimm]]
control_region = false
vendor = 0x1234
=> bus[0].dimm[0].vendor: a DIMM without a control region does not have it; remove one of the two

[[bus]]
[[bus.range]]
size = "1G"
cookie = 5
=> bus[0].range[0].cookie: a range without DIMMs has no interleave set; remove it, or give the range DIMMs

[[bus]]
[[bus.range]]
size = "1G"
badblocks = [{ sector = 8, count = 4 }, { sector = 11 }]
=> bus[0].range[0].badblocks[1]: it has sectors of badblocks[0]; list each sector once

memmap = "512M!4G"
[[personality]]
namespace = "namespace0.0"
kind = "btt"
uuid = "01234567-89ab-cdef-0123-456789abcdef"
memmap = "ram"
=> personality[0].memmap: a btt does not have it; remove it

memmap = "512M!4G"
[[personality]]
namespace = "namespace0.0"
kind = "pfn"
uuid = "01234567-89ab-cdef-0123-456789abcdef"
sector_size = 512
=> personality[0].sector_size: a pfn does not have it; remove it

memmap = "512M!4G"
[[unreadable]]
path = "bus/nd/devices/region0/align"
errno = "EIO"
[[unreadable]]
path = "bus/nd/devices/region0/align"
errno = "ENXIO"
=> unreadable[1].path: "bus/nd/devices/region0/align" is also that of unreadable[0]; keep one

distances = [[10, 20], [20]]
[[bus]]
=> distances: it is not a square; write 2 numbers in each of the 2 rows

distances = [[10]]
[[ram_range]]
size = "4G"
[[ram_range]]
size = "4G"
numa_node = 1
[[bus]]
=> distances: it has 1 rows, but the machine has 2 nodes; write a row for each

distances = [[20, 20], [20, 10]]
[[bus]]
=> distances[0][0]: 20 is not 10, the distance of a node to itself

[[node_access]]
node = 1
read_latency = 100
[[bus]]
=> node_access[0].node: the machine has no node 1; write 0

[[node_access]]
node = 0
read_latency = 100
[[node_access]]
node = 0
read_bandwidth = 100
[[bus]]
=> node_access[1].node: node_access[0] is about node 0, too; omit one of them

[[node_access]]
node = 0
[[bus]]
=> node_access[0]: it has no value; give read_latency or read_bandwidth

[[ram_range]]
size = "4G"
[[ram_range]]
size = "4G"
numa_node = 1
[[node_access]]
node = 0
read_latency = 80
read_bandwidth = 100001
[[node_access]]
node = 1
read_latency = 100
read_bandwidth = 100000
[[bus]]
=> node_access[0].read_bandwidth: 100001 is not a multiple of 2, the unit of a table with 100001;
   write 100000

[[node_access]]
node = 0
read_latency = 100
[[bus]]
platform = "device-tree"
[[bus.range]]
size = "1G"
=> node_access: a machine with a device tree has no HMAT; omit it

[[acpi_table]]
signature = "pcat"
[[bus]]
=> acpi_table[0].signature: "pcat" is not four capital letters or digits, such as PCAT

[[acpi_table]]
signature = "PCAT"
revision = 256
[[bus]]
=> acpi_table[0].revision: 256 is too large; the maximum is 255

[[acpi_table]]
signature = "PCAT"
body = "0"
[[bus]]
=> acpi_table[0].body: not bytes in hexadecimal; write for example "00 00 00 00"

[[acpi_table]]
signature = "HMAT"
[[bus]]
=> acpi_table[0].signature: the HMAT follows from node_access; omit it

[[acpi_table]]
signature = "PMTT"
[[acpi_table]]
signature = "PMTT"
[[bus]]
=> acpi_table[1].signature: acpi_table[0] has it, too; omit one of them

[[acpi_table]]
signature = "PCAT"
[[bus]]
platform = "device-tree"
[[bus.range]]
size = "1G"
=> acpi_table: a machine with a device tree has no ACPI tables; omit it

distances = [[10, 10], [20, 10]]
[[bus]]
=> distances[0][1]: 10 is not a distance to another node; write 11 to 255

memmap = "1G!8G"
[[bus]]
[[bus.range]]
start = "8G"
size = "1G"
=> bus[0].range[0].start: 0x200000000-0x23fffffff overlaps memmap (0x200000000-0x23fffffff); start at
   0x240000000, or omit start

[[bus]]
[[bus.range]]
size = "1G"
[[bus.range]]
start = "6G"
size = "1M"
=> bus[0].range[1].start: 0x180000000-0x1800fffff overlaps bus[0].range[0] (0x180000000-0x1bfffffff); start at
   0x1c0000000, or omit start

[[bus]]
[[bus.range]]
range_index = 0
size = "1M"
=> bus[0].range[0].range_index: 0 is not a valid index; write 1 to 65535

[[bus]]
[[bus.range]]
kind = "volatile-cd"
range_index = 2
size = "1M"
=> bus[0].range[0].range_index: 2 is for ranges with DIMMs; a volatile-cd has 0

[[bus]]
[[bus.range]]
size = "1M"
[[bus.range]]
range_index = 1
size = "1M"
=> bus[0].range[1].range_index: 1 is also the index of bus[0].range[0]; indexes must be unique on a bus

TWO DIMMS
[[bus.range]]
kind = "volatile-cd"
dimms = ["A"]
=> bus[0].range[0].dimms: the firmware creates a volatile-cd without DIMMs; remove them

TWO DIMMS
[[bus.range]]
size = "1G"
dimms = ["C"]
=> bus[0].range[0].dimms[0]: no DIMM "C" on this bus; its DIMMs are A, B

[[bus]]
[[bus.dimm]]
name = "socket0"
[[bus.range]]
size = "1G"
dimms = ["soket0"]
=> bus[0].range[0].dimms[0]: no DIMM "soket0" on this bus; did you mean "socket0"?

[[bus]]
[[bus.range]]
size = "1G"
dimms = ["A"]
=> bus[0].range[0].dimms[0]: no DIMM "A" on this bus; add a [[bus.dimm]]

[[bus]]
[[bus.dimm]]
control_region = false
[[bus.range]]
size = "1G"
dimms = ["0x1"]
=> bus[0].range[0].dimms[0]: the DIMM "0x1" has no control region, so no range can use it

TWO DIMMS
[[bus.range]]
size = "3G"
dimms = [{ dimm = "A", size = "1G" }, { dimm = "B", size = "1G" }]
=> bus[0].range[0].size: 3221225472 is not the sum of its DIMMs; write 2147483648, or omit size

TWO DIMMS
[[bus.range]]
size = "2G"
dimms = ["A"]
=> bus[0].range[0].dimms[0]: it ends at 0x80000000, but the DIMM "A" at 0x40000000; use less, or a larger DIMM

TWO DIMMS
[[bus.range]]
dimms = [{ dimm = "A", dpa = 0x800 , size = "1M" }]
=> bus[0].range[0].dimms[0].dpa: 0x800 is not a multiple of 4 KiB; write for example 0x1000

TWO DIMMS
[[bus.range]]
size = "1M"
dimms = ["A"]
[[bus.range]]
dimms = [{ dimm = "A", dpa = 0, size = "2M" }]
=> bus[0].range[1].dimms[0]: it overlaps bus[0].range[0].dimms[0] on the DIMM "A"; a dpa of 0x100000 or more avoids that

TWO DIMMS
[[bus.range]]
dimms = [{ dimm = "A", position = 1 }, { dimm = "B", region_offset = 0x2000 }]
=> bus[0].range[0].dimms[0].position: 1 does not match region_offset, which gives position 0; omit one of the two

TWO DIMMS
[[bus.range]]
dimms = [{ dimm = "A", region_offset = 1 }, { dimm = "B", region_offset = 1 }]
=> bus[0].range[0].dimms: two DIMMs have the same region_offset, which determines their order; make them unique

TWO DIMMS
[[bus.range]]
badblocks = [{ sector = 2097152 }]
dimms = ["A"]
=> bus[0].range[0].badblocks[0]: not within the 2097152 sectors of the range

TWO BLANK DIMMS
[[bus.range]]
dimms = ["A"]
[[bus.range.namespace]]
uuid = "01234567-89ab-cdef-0123-456789abcdef"
size = "1M"
=> bus[0].range[0].namespace: the label area of the DIMM "A" is not initialised; write label = { initialised =
   "1.1" }

TWO DIMMS
[[bus.range]]
dimms = ["A"]
[[bus.range.namespace]]
uuid = "01234567-89ab-cdef-0123-456789abcdef"
size = "2G"
=> bus[0].range[0].namespace[0].size: too large; the range has 1073741824 bytes left

TWO DIMMS
[[bus.range]]
dimms = ["A"]
[[bus.range.namespace]]
uuid = "x"
size = "1G"
=> bus[0].range[0].namespace[0].uuid: "x" is not a UUID such as 01234567-89ab-cdef-0123-456789abcdef

[[bus]]
parent = "devices/system/cpu"
=> bus[0].parent: "devices/system/cpu" is reserved for other devices; write for example
   devices/platform/nfit_test.0

[[bus]]
parent = "devices/platform/e820_pmem"
=> bus[0].parent: "devices/platform/e820_pmem" is reserved for other devices; write for example
   devices/platform/nfit_test.0

[[bus]]
parent = "devices/platform"
=> bus[0].parent: "devices/platform" is a folder of devices; write for example devices/platform/nfit_test.0

[[bus]]
parent = "devices/platform/a/b"
=> bus[0].parent: "devices/platform/a/b" is not directly in devices/platform; write for example
   devices/platform/nfit_test.0

[[bus]]
provider = "256 LETTERS"
=> bus[0].parent: "devices/platform/xxxxxxxxxxxxxxxxxx..." has a name of more than 255 bytes; write for example
   devices/platform/nfit_test.0

[[bus]]
parent = "devices/A/B/C"
[[bus]]
parent = "devices/A/B"
[[bus]]
parent = "devices/A/BB"
=> bus[0].parent: "devices/A/B/C" is inside the parent of bus[1]; choose another device

[[bus]]
[[bus.dimm]]
size = "1G"
label = { size = "4G" }
=> bus[0].dimm[0].label.size: 4G is too large; the maximum is 4294967295

[[bus]]
[[bus.dimm]]
size = "1G"
[[bus.range]]
start = 0xffffffffffffffff
dimms = ["0x1"]
=> bus[0].range[0].start: 0xffffffffffffffff is not a multiple of 4 KiB; write for example 0xffffffffff000

TWO DIMMS
[[bus.range]]
dimms = ["A"]
[[bus.range.namespace]]
uuid = "01234567-89ab-cdef-0123-456789abcdef"
size = "1G"
sector_size = 520
=> bus[0].range[0].namespace[0].sector_size: 520 is not one of 0, 512, 4096

memmap = "1G!4G"
[[personality]]
namespace = "pmem0"
kind = "pfn"
uuid = "01234567-89ab-cdef-0123-456789abcdef"
=> personality[0].namespace: "pmem0" is not the name of a namespace such as namespace0.0

memmap = "1G!4G"
[[personality]]
namespace = "namespace0.0"
kind = "dax"
align = 8192
uuid = "01234567-89ab-cdef-0123-456789abcdef"
=> personality[0].align: 8192 is not one of 4096, 2097152, 1073741824

memmap = "1G!4G"
[[unreadable]]
path = "/sys/x"
errno = "EIO"
=> unreadable[0].path: "/sys/x" is not a path below /sys; write for example bus/nd/devices/nmem0/state

memmap = "1G!4G"
[[unreadable]]
path = "x"
errno = "EOOPS"
=> unreadable[0].errno: "EOOPS" is not the name of an errno; write for example EIO
"""


def mistakes(text):
    """The pairs of a file and what is wrong with it."""
    return [mistake(case) for case in text.strip().split("\n\n")]


def mistake(case):
    file, _, line = case.rpartition("=> ")
    for name, content in SHORTHANDS.items():
        file = file.replace(name, content)
    return file, " ".join(line.split())


def complaints(text):
    with pytest.raises(MachineFileError) as caught:
        parse_machine(text, "test.toml")
    return caught.value.lines


def complaint(text):
    (line,) = complaints(text)
    return line.removeprefix("test.toml: ")


@pytest.mark.parametrize(("text", "line"), mistakes(WRONG_SHAPE))
def test_a_value_of_the_wrong_shape_is_named_with_what_would_be_right(text, line):
    assert complaint(text) == line


def test_an_empty_file_is_no_machine():
    assert complaint("").startswith("the machine has no persistent memory; add a [[bus]], or memmap = ")


def test_a_syntax_error_of_toml_is_named_with_its_place():
    assert complaint("ram = = 3") == "not TOML: Invalid value (at line 1, column 7)"


def test_all_mistakes_of_a_file_are_told_at_once():
    lines = complaints('nam = "x"\nram = []\n[[bus]]\nprovider = 3\n[[bus.dimm]]\nsize = "12Q"\nflags = ["armed"]')
    assert [line.split(":")[1].strip() for line in lines] == [
        "ram",
        "bus[0].provider",
        "bus[0].dimm[0].size",
        "bus[0].dimm[0].flags[0]",
        "nam",
    ]


def test_all_contradictions_of_a_file_are_told_at_once():
    lines = complaints(
        'kernel = "2.4"\nram = "1M"\n[[bus]]\n[[bus.dimm]]\nhandle = 1\nfrozen = true\n[[bus.dimm]]\nhandle = 1'
    )
    assert [line.split(":")[1].strip() for line in lines] == [
        "kernel",
        "ram",
        "bus[0].dimm[0].frozen",
        "bus[0].dimm[1].handle",
    ]


@pytest.mark.parametrize(("text", "line"), mistakes(CONTRADICTIONS))
def test_a_contradiction_is_named_with_its_remedy(text, line):
    assert complaint(text) == line


def test_two_dimms_of_a_set_need_serial_numbers_of_their_own():
    text = TWO_DIMMS.replace('size = "1G"', 'size = "1G"\nserial = 7') + '[[bus.range]]\ndimms = ["A", "B"]'
    assert complaint(text) == (
        'bus[0].range[0].dimms[1]: the DIMMs "A" and "B" have the same serial number; give each its own'
    )


def test_a_range_has_no_more_than_32_dimms():
    text = "[[bus]]\n" + "[[bus.dimm]]\n" * 33 + '[[bus.range]]\nsize = "132K"\ndimms = ["0x1"'
    text += "".join(f', "{handle:#x}"' for handle in range(2, 34)) + "]"
    assert complaint(text) == "bus[0].range[0].dimms: 33 DIMMs are too many; the kernel's maximum is 32"


def test_no_two_uuids_are_the_same():
    text = (
        TWO_DIMMS + '[[bus.range]]\ndimms = ["A"]\n' + f'[[bus.range.namespace]]\nuuid = "{UUID}"\nsize = "16M"\n' * 2
    )
    assert complaint(text) == (
        f'bus[0].range[0].namespace[1].uuid: "{UUID}" is also the uuid of bus[0].range[0].namespace[0];'
        " uuids must be unique"
    )


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MachineFileError) as caught:
        load_machine(tmp_path / "nowhere.toml")
    assert caught.value.lines == [f"{tmp_path}/nowhere.toml: No such file or directory"]


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"ram = \xff")
    with pytest.raises(MachineFileError) as caught:
        load_machine(tmp_path / "x.toml")
    assert caught.value.lines == [f"{tmp_path}/x.toml: not UTF-8 text: byte 6 is 0xff"]


def test_a_saved_machine_is_named_as_such(tmp_path):
    with zipfile.ZipFile(tmp_path / "saved", "w") as file:
        file.writestr("description.toml", "")
    with pytest.raises(MachineFileError) as caught:
        load_machine(tmp_path / "saved")
    assert caught.value.lines == [
        f"{tmp_path}/saved: not a machine file, but an archive; a saved machine needs --restore"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('\ufeffmemmap = "1G!4G"', "not TOML: it begins with a byte order mark; save it without one"),
        (f"ram = {'9' * 5000}", "not a machine file: a number has thousands of digits"),
        (
            f"ram = 0x{'f' * 5000}",
            f"ram: 0x{'f' * 38}... is too large; physical addresses end at 0x10000000000000 (4P)",
        ),
    ],
)
def test_texts_that_python_cannot_parse_are_named(text, line):
    assert complaint(text) == line


@pytest.mark.parametrize("name", ["x" * 300, "a/" + "x" * 5000, "a\\u0000b"])
def test_a_label_file_that_cannot_be_is_named_with_its_place(name):
    line = complaint(f'[[bus]]\n[[bus.dimm]]\nlabel = {{ file = "{name}" }}')
    assert line.startswith("bus[0].dimm[0].label.file: ")
    assert line.endswith(" is not a file; the path is relative to the machine file")


def test_an_unknown_name_is_told_the_names_that_there_are():
    with pytest.raises(MachineFileError, match="nosuch: unknown machine; the machines are e820, nfit_test, "):
        load_machine("nosuch")


@pytest.mark.parametrize(
    ("key", "shown"), [("", '""'), ("a b", '"a b"'), ("k" * 5000, f'"{"k" * 35}..."'), ("dimm-size", "dimm-size")]
)
def test_an_unknown_key_is_told_from_the_message(key, shown):
    assert complaint(f'"{key}" = 1').startswith(f"{shown}: unknown key; the keys are name, ")


def test_a_complaint_does_nothing_to_the_terminal():
    assert complaint('[[bus]]\n"\\u001b[31m" = 1\n').startswith('bus[0]."\\u001b[31m": unknown key')
    assert complaint('ram = "\\u009b31m\\n"').startswith('ram: "\\x9b31m\\n" is not a size')
