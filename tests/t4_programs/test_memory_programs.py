"""Programs that show memory, its nodes and the firmware's tables: each prints what it prints on a real machine."""

from __future__ import annotations

import pytest
import sandboxes
from sandboxes import sh

pytestmark = pytest.mark.usefixtures("sandbox")

#: Two sockets, and memory of two more nodes in persistent memory.
SERVER = ("--machine", "two-socket-6way")

#: Makes 4 GiB of a region System RAM, as node 3.
ADD_MEMORY = """
    ndctl create-namespace -m devdax -r region1 -s 6G >/dev/null
    daxctl reconfigure-device -m system-ram dax1.0 2>/dev/null >/dev/null
"""


def said(script: str, *machine: str) -> list[str]:
    """What a script prints on a machine, SERVER by default, line by line, its columns separated by one space."""
    return [" ".join(line.split()) for line in sh(script, *(machine or SERVER)).stdout.splitlines()]


@sandboxes.needs("ndctl", "daxctl", "numactl", "lscpu")
def test_a_node_without_processors_is_complete():
    script = f"""
        {ADD_MEMORY}
        lscpu | grep '^NUMA node[13]'; numactl -H | grep '^available\\|^node 3\\|^  3'
        numastat -m 2>/dev/null | grep MemTotal | tr -s ' ' | cut -d ' ' -f 4
        cat /sys/devices/system/node/has_memory
    """
    assert said(script) == [
        "NUMA node1 CPU(s):",
        "NUMA node3 CPU(s):",
        "available: 3 nodes (0-1,3)",
        "node 3 cpus:",
        "node 3 size: 4096 MB",
        "node 3 free: 4096 MB",
        "3: 20 20 10",
        "4096.00",
        "0,3",
    ]


@sandboxes.needs("ndctl", "daxctl", "lstopo-no-graphics")
def test_hwloc_shows_the_memory_of_a_node():
    """The host itself lacks the node, so that no program of it may use the memory."""
    lines = said(f"{ADD_MEMORY} lstopo-no-graphics --disallowed --of console 2>/dev/null")
    assert [line for line in lines if "P#3 4096MB" in line]


@sandboxes.needs("acpidump", "iasl")
def test_the_tables_of_the_firmware_are_disassembled():
    script = """
        acpidump -b -n NFIT >/dev/null 2>&1; iasl -d nfit.dat >/dev/null 2>&1
        sed -n 's/.*Subtable Type : 000. //p' nfit.dsl | sort | uniq -c
        acpidump -s 2>&1 | grep -c -e SRAT -e NFIT
    """
    assert said(script) == [
        "8 [Flush Hint Address]",
        "8 [Interleave Info]",
        "8 [Memory Range Map]",
        "8 [NVDIMM Control Region]",
        "1 [Platform Capabilities]",
        "2 [System Physical Address Range]",
        "2",
    ]


#: How fast the memory of the first node is.
SPEEDS = """
[[bus]]
[[bus.dimm]]
size = "1G"
[[bus.range]]
dimms = ["0x1"]
[[node_access]]
node = 0
read_latency = 80
read_bandwidth = 100000
"""


@sandboxes.needs("acpidump", "iasl", "lstopo-no-graphics")
def test_how_fast_memory_is_can_be_disassembled_and_hwloc_shows_it(tmp_path):
    script = """
        acpidump -b -n HMAT >/dev/null 2>&1; iasl -d hmat.dat >/dev/null 2>&1
        sed -n 's/.*Data Type : //p; s/.*Entry Base Unit : //p; s/.* Entry : //p' hmat.dsl
        lstopo-no-graphics --memattrs --of console | grep -A 1 "name .\\(Bandwidth\\|Latency\\)" | sed -n 's/ from.*//p'
    """
    (tmp_path / "speeds.toml").write_text(SPEEDS)
    lines = sh(script, "--machine", tmp_path / "speeds.toml").stdout.splitlines()
    # Of latency and bandwidth, the type, the base (picoseconds or MB/s), and the value of the only node.
    table, shown = lines[:6], lines[6:]
    assert [int(word, 16) for word in table] == [0, 10_000, 8, 3, 32, 3125]
    assert [line.strip() for line in shown] == ["NUMANode L#0 = 100000", "NUMANode L#0 = 80"]


@sandboxes.needs("ndctl", "daxctl", "memkind-auto-dax-kmem-nodes")
def test_memkind_finds_the_node_of_a_dax_device():
    """The nodes from which the kinds DAX_KMEM allocate; the program exits with 1 while there is none."""
    script = f"""
        not memkind-auto-dax-kmem-nodes >/dev/null 2>&1
        {ADD_MEMORY}
        memkind-auto-dax-kmem-nodes
    """
    assert said(script) == ["3"]


#: ipmctl writes its settings, which are then the sandbox's.
OWN_SETTINGS = "mount -t tmpfs none /usr/share/ipmctl"


@sandboxes.needs("ipmctl")
def test_ipmctl_asks_for_dimms_only_where_there_is_a_pcat():
    """QEMU's machines have none."""
    script = f"""
        {OWN_SETTINGS}
        ipmctl version | cut -d ' ' -f 1-4; not ipmctl show -dimm; not ipmctl show -memoryresources
    """
    refusal = "Initialization failed. No PMem modules in the system."
    assert said(script, "--machine", "one-dimm") == ["Intel(R) Optane(TM) Persistent Memory", refusal, refusal]


@sandboxes.needs("ipmctl")
def test_ipmctl_lists_the_dimms_of_a_machine_with_a_pcat():
    """By their handles, and what the NFIT has of them; it can manage none, as none has the command `vendor`."""
    script = f"""
        {OWN_SETTINGS}
        ipmctl show -dimm | grep 0x; ipmctl show -system PCAT | grep -e Signature: -e 'Revision: 0x2'
        ipmctl show -system NFIT | grep -c 'TypeEquals: NvDimmRegion'
    """
    handles = ("0x0001", "0x0011", "0x0021", "0x0101", "0x0111", "0x0121", "0x1001", "0x1101")
    listed = [f"{handle} | 0.000 GiB | Unknown | Unmanageable | N/A" for handle in handles]
    assert said(script) == [*listed, "Signature: PCAT", "Revision: 0x2", "8"]
