"""What the console of a guest that ended prints about its end."""

import pytest

from nvdimmfs.lab.console import ending, has_panicked

HUNG = """\
[   11.512000] EXT4-fs (pmem0): mounting ext2 file system using the ext4 subsystem
[  243.109000] INFO: task touch:100 blocked for more than 120 seconds.
[  243.109100]       Not tainted 6.1.0-57-amd64 #1 Debian 6.1.192-3
[  243.109800] Kernel panic - not syncing: hung_task: blocked tasks
[  243.109900] Call Trace:
[  243.109918] Kernel Offset: 0x5400000 from 0xffffffff81000000"""

OOPS = """\
[    9.100000] BUG: scheduling while atomic: dd/97/0x00000002
[   12.700000] BUG: kernel NULL pointer dereference, address: 0000000000000048
[   12.700100] Oops: 0000 [#1] PREEMPT SMP NOPTI
[   12.700300] Kernel panic - not syncing: Fatal exception"""

LOOPING = """\
[   31.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [python3:1]
[   31.000900] Kernel panic - not syncing: softlockup: hung tasks"""


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (HUNG, "hung_task: blocked tasks, after: INFO: task touch:100 blocked for more than 120 seconds."),
        (OOPS, "Fatal exception, after: BUG: kernel NULL pointer dereference, address: 0000000000000048"),
        (LOOPING, "softlockup: hung tasks, after: watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [python3:1]"),
        ("[    3.1] Kernel panic - not syncing: sysrq triggered crash", "sysrq triggered crash"),
        (f"{HUNG}\n[    1.0] Kernel panic - not syncing: No working init found.", "No working init found."),
    ],
)
def test_a_panic_is_named_with_what_caused_it(printed, expected):
    lines = printed.splitlines()
    assert has_panicked(lines)
    assert ending(lines) == f"the guest's kernel panicked: {expected}"


@pytest.mark.parametrize(("lines", "last"), [([], "(nothing)"), (["[ 1.0] one", "[ 2.0] two"], "[ 2.0] two")])
def test_without_a_panic_the_last_line_is_shown(lines, last):
    assert not has_panicked(lines)
    assert ending(lines) == f"the guest ended; its console ends in: {last}"
