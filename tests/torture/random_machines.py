"""Machines of all platforms, each described by a text, so that a failure can name the machine that it needs."""

from __future__ import annotations

import random

from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.files import load_machine, parse_machine
from nvdimmfs.mm.e820 import memparse
from nvdimmfs.testing.values import MEMMAPS

NAMED = ("nfit_test", "qemu-nfit", "qemu-nfit-labelled", "one-dimm", "two-socket-6way", "unarmed-and-map-failed")
KERNELS = ("rfc", "4.3", "4.5")


def random_machine(chance: random.Random) -> str:
    """The text of a machine: the name of one, TOML, or `memmap=` with `ram=` and `kernel=`."""
    kind = chance.random()
    if kind < 0.35:
        kernel = chance.choice(KERNELS) if chance.random() < 0.2 else "6.1"
        return f"memmap={chance.choice(MEMMAPS)} ram={chance.choice(('4G', '8G', '16G'))} kernel={kernel}"
    if kind < 0.7:
        return chance.choice(NAMED)
    return _generated(chance)


def boot(machine: str) -> Machine:
    """Boot the machine of a text; its clock moves with the steps that it takes."""
    if machine.startswith("memmap="):
        values = dict(word.split("=", 1) for word in machine.split(" "))
        toml = f"memmap = {values['memmap']!r}\nram = {memparse(values['ram'])[0]}\nkernel = {values['kernel']!r}\n"
        return Machine.described(parse_machine(toml, "machine"), clock="steps")
    if "\n" in machine:
        return Machine.described(parse_machine(machine, "machine"), clock="steps")
    return Machine.described(load_machine(machine), clock="steps")


def _generated(chance: random.Random) -> str:
    """One bus with up to six DIMMs, and ranges over all or some of them."""
    count = chance.randint(1, 6)
    lines = ["ram = '4G'", "[[bus]]"]
    if chance.random() < 0.5:
        lines += ["commands = ['ars_cap', 'ars_start', 'ars_status', 'clear_error', 'cmd_call']", "dsm_mask = 0x3a0"]
    for number in range(1, count + 1):
        label = chance.choice(("initialised = '1.1'", "initialised = '1.2'", "size = 0", "size = '1K'", "text = 'x'"))
        lines += ["[[bus.dimm]]", f"handle = {number}", f"label = {{ {label} }}"]
    sizes = ("16M", "48M", "64M", "512M", "1G")
    for _ in range(chance.randint(1, 3)):
        chosen = chance.sample(range(1, count + 1), chance.randint(1, count))
        size = chance.choice(sizes)
        mappings = ", ".join(f"{{ dimm = '{number:#x}', size = '{size}' }}" for number in chosen)
        lines += ["[[bus.range]]", f"dimms = [{mappings}]"]
        if chance.random() < 0.3:
            lines.append("badblocks = [{ sector = 8, count = 3 }]")
    return "\n".join(lines) + "\n"
