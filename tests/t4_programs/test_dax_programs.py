"""Programs that map persistent memory, on the dax devices of a machine: each prints what it prints on a real one."""

from __future__ import annotations

import pytest
import sandboxes
from sandboxes import TWO_RANGES, sh

pytestmark = [
    pytest.mark.usefixtures("sandbox"),
    sandboxes.needs_block_devices,
    sandboxes.needs("ndctl"),
]

#: Makes /dev/dax0.0.
MAKE_DEVICE = "ndctl create-namespace -f -e namespace0.0 -m devdax >/dev/null"

JOB = """
[global]
ioengine=dev-dax
direct=0
filename=/dev/dax0.0
bs=2m
size=16m
verify=crc32c

[all]
rw=write
"""


def said(script: str, **options: str) -> list[str]:
    """What a script prints on a machine with /dev/dax0.0, line by line."""
    return sh(f"{MAKE_DEVICE}\n{script}", *TWO_RANGES, **options).stdout.splitlines()


@sandboxes.needs("daxio")
def test_daxio_copies_to_and_from_the_device():
    script = """
        head -c 100000 /dev/urandom > /run/in
        daxio -i /run/in -o /dev/dax0.0 -l 100000 2>&1; daxio -i /dev/dax0.0 -o /run/out -l 100000 2>&1
        cmp /run/in /run/out
        daxio -z -o /dev/dax0.0 2>&1; daxio -i /dev/dax0.0 -l 100000 2>/dev/null > /run/zeros
        wc -c < /run/zeros; tr -d '\\0' < /run/zeros | wc -c
    """
    assert said(script) == [
        'daxio: copied 100000 bytes to device "/dev/dax0.0"',
        'daxio: copied 100000 bytes to device "/run/out"',
        'daxio: copied 526385152 bytes to device "/dev/dax0.0"',
        "100000",
        "0",
    ]


@sandboxes.needs("pmempool")
def test_a_pool_of_pmdk_fills_the_device():
    script = """
        pmempool create obj /dev/dax0.0
        pmempool info /dev/dax0.0 | sed -n 's/^Signature *: *//p'; pmempool check -v /dev/dax0.0 | tail -n 1
    """
    assert said(script) == ["PMEMOBJ", "/dev/dax0.0: consistent"]


@sandboxes.needs("fio", "jq")
def test_fio_finds_what_it_has_written():
    script = "fio - --output-format=json | jq -r '.jobs[0] | .error, .write.io_bytes, .read.io_bytes'"
    assert said(script, input=JOB) == ["0", str(16 << 20), str(16 << 20)]
