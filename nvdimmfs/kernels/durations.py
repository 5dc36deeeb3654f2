"""How long things take: every duration of the model, with its evidence.

`DURATIONS` is what the kernel, a platform or a device needs for something.  `PRICES` is what user space needs for one
act; the clock adds them up where time passes by acts alone (`core.clock.ClockMode.STEPS`).  docs/time.md shows both.
Every other module takes its durations from here.
"""

from __future__ import annotations

from attrs import frozen

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND


@frozen
class Duration:
    """How long something takes.

    Attributes:
        nanoseconds: the value.
        what: what takes so long, or is done so often.
        evidence: the constant in the kernel's source, or the measurement.
    """

    nanoseconds: int
    what: str
    evidence: str

    def __str__(self) -> str:
        return duration_text(self.nanoseconds)


#: Units of `duration_text`, the largest first.
_UNITS = {"min": MINUTE, "s": SECOND, "ms": MILLISECOND, "us": MICROSECOND, "ns": 1}


def duration_text(nanoseconds: int) -> str:
    """A duration in the largest unit that it is a multiple of: 1500 ms."""
    if nanoseconds == 0:
        return "0 s"
    name, unit = next((name, unit) for name, unit in _UNITS.items() if nanoseconds % unit == 0)
    return f"{nanoseconds // unit} {name}"


# The kernel

SCRUB_POLL = Duration(
    1 * SECOND,
    "From the start of a range's scrub until the kernel asks whether it has ended",
    "`__acpi_nfit_scrub` returns 1, and `acpi_nfit_desc_init` begins with `scrub_tmo = 1` "
    "(drivers/acpi/nfit/core.c, Linux 6.1)",
)
SCRUB_POLL_LIMIT = Duration(
    30 * MINUTE,
    "The longest wait between two such questions; while a scrub goes on, each wait is twice the last one",
    "`min(30U * 60U, tmo * 2)` in `__acpi_nfit_scrub` (drivers/acpi/nfit/core.c, Linux 6.1)",
)
OVERWRITE_POLL_STEP = Duration(
    10 * SECOND,
    "The kernel asks at once whether a DIMM has been overwritten, then after this much longer each time",
    "`tmo += 10` in `__nvdimm_security_overwrite_query` (drivers/nvdimm/security.c, Linux 6.1)",
)
OVERWRITE_POLL_LIMIT = Duration(
    15 * MINUTE,
    "The longest wait between two such questions",
    "`min(15U * 60U, tmo)` in `__nvdimm_security_overwrite_query` (drivers/nvdimm/security.c, Linux 6.1)",
)
MEMMAP_INIT = Duration(
    120 * MILLISECOND,
    "From the appearance of a dax device that was found on media until its memmap is initialised and its mapping "
    "appears; for less than 256 MiB, proportionally less",
    "Measured on the reference guest (256 MiB and 512 MiB): 40 to 210 ms. In the recorded walks the mapping is still "
    "missing after one write and 16 reads, and there after one write and 26 reads. Whether it is there after one "
    "write is a race for more than 213 MiB",
)
BOOT = Duration(
    200 * MILLISECOND,
    "From the last probe at boot until user space looks for the first time",
    "The recorded trees show what probes leave to the background as finished, and scrubs as running",
)

# The kernel's test platform, and the NFIT platform, which scrubs as it does

RANGE_SCRUB = Duration(
    1 * SECOND,
    "The scrub of a range, however large it is",
    "`deadline = jiffies + 1*HZ` in `post_ars_status` (tools/testing/nvdimm/test/nfit.c, Linux 6.1); the same call at "
    "set-up makes the test platform busy for its first second",
)
FIRMWARE_VERIFY = Duration(
    1 * SECOND,
    "The verification of a firmware update",
    "`end_time = jiffies + HZ` in `nd_intel_test_finish_fw` (tools/testing/nvdimm/test/nfit.c, Linux 6.1)",
)
FIRMWARE_ACTIVATION = Duration(
    3 * SECOND,
    "The activation of firmware: until then the bus is busy",
    "`last_activate + 3 * HZ` in tools/testing/nvdimm/test/nfit.c (Linux 6.1)",
)
OVERWRITE = Duration(
    5 * SECOND,
    "The overwriting of a DIMM",
    "`overwrite_end_time` in `nd_intel_test_cmd_overwrite` (tools/testing/nvdimm/test/nfit.c, Linux 6.1)",
)

DURATIONS = (
    SCRUB_POLL,
    SCRUB_POLL_LIMIT,
    OVERWRITE_POLL_STEP,
    OVERWRITE_POLL_LIMIT,
    MEMMAP_INIT,
    BOOT,
    RANGE_SCRUB,
    FIRMWARE_VERIFY,
    FIRMWARE_ACTIVATION,
    OVERWRITE,
)

# User space

WRITE = Duration(
    100 * MILLISECOND,
    "A write to an attribute, a module that is loaded or unloaded, and what the writer does until its next step",
    "The recordings wait 50 ms after each write. Their walks look around between two writes: on the reference "
    "guest, 62 to 64 writes and 500 reads took 6.4 to 8.6 s",
)
REGION_BIND = Duration(
    400 * MILLISECOND,
    "A write that binds a region, or the device of a bus with regions, instead of the price of other writes",
    "The kernel then probes all that is in the region. The recorded stories wait 0.3 s or longer after it, beside the "
    "price of a write",
)
MISMATCH = Duration(
    1 * MILLISECOND,
    "A write to `bind` that names a device of a kind that the driver does not handle, instead of the price of other "
    "writes",
    "Measured on the reference guest: 0.14 to 3 ms, as for a read. libndctl writes to the `bind` of each driver, in "
    "the order of the directory, until one accepts the device",
)
READ = Duration(
    1 * MILLISECOND,
    "A read of an attribute",
    "Measured on the reference guest: 0.25 to 0.9 ms",
)
IOCTL = Duration(
    1 * MILLISECOND,
    "An ioctl on ndctlN or nmemN",
    "As a read: the test platform, where alone time matters to a command, executes it without firmware. The firmware "
    "of the reference guest takes 11 to 35 ms for a label read",
)
FIRMWARE_QUERY = Duration(
    10 * MILLISECOND,
    "A query of a firmware update, instead of the price of other ioctls",
    "ndctl queries 97 times in the second in which the test platform verifies an update",
)
BLOCK_IO = Duration(
    0,
    "A request to a disk",
    "How many there are is decided by the host's page cache, which no story controls",
)
LOOKUP = Duration(
    0,
    "A name that is looked up, a stat(2), a directory that is listed",
    "How many of them reach the file system is decided by the host's caches",
)

PRICES = (WRITE, REGION_BIND, MISMATCH, READ, IOCTL, FIRMWARE_QUERY, BLOCK_IO, LOOKUP)
