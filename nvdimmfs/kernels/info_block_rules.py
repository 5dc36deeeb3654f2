"""Differences between kernels in the info blocks of pfn and dax devices."""

from __future__ import annotations

import enum
import errno

import attrs

from nvdimmfs.kernels.differences import Difference, Rules, errno_name, errno_names

_VALIDATE = "nd_pfn_validate, drivers/nvdimm/pfn_devs.c"


class Fit(enum.Enum):
    """A condition that an info block must meet to be valid for the current address and size of its namespace."""

    START_ON_SECTION = "the namespace begins a section"
    DATA_ON_SECTION = "the data begins a section"
    ALIGN_WITHIN_SIZE = "the alignment is no larger than the namespace"
    OFFSET_WITHIN_SIZE = "the data begins within the namespace"
    OFFSET_WITHIN_REST = "the data's offset is less than the size of the namespace without the unused bytes at its ends"
    OFFSET_IS_POWER_OF_TWO = (
        "the data's offset is a power of two of at least a page, and becomes the device's alignment"
    )
    OFFSET_ALIGNED = "the data's offset is a multiple of the alignment and of a page"
    DATA_ALIGNED = "the data's address is a multiple of the alignment, its offset of a page"
    RANGE_ON_SUBSECTION = "the mapped range begins and ends at a multiple of 2 MiB"


@attrs.frozen
class FitCheck:
    """One check of an info block, and the errno when the block fails it."""

    fit: Fit
    errno: int

    def __str__(self) -> str:
        return f"{self.fit.value}, or {errno_name(self.errno)}"


def _checks(checks: object) -> str:
    assert isinstance(checks, tuple)
    return "; ".join(map(str, checks))


def _compared(number: int | None) -> str:
    return "not compared" if number is None else errno_name(number)


@attrs.frozen
class InfoBlockRules(Rules):
    """How a kernel reads and writes the info block of pfn and dax devices."""

    overwritten = Difference(
        "Errors of the block on the media on which a bind writes a new block instead of failing",
        "nd_pfn_init, drivers/nvdimm/pfn_devs.c (pmem.c before 4.9)",
        {
            "rfc": frozenset({errno.ENODEV, errno.ENXIO, errno.ENOTTY, errno.EINVAL}),
            "4.5": frozenset({errno.ENODEV}),
        },
        show=errno_names,
    )
    is_written = Difference(
        "A new block is written to the media",
        "nd_pfn_init, drivers/nvdimm/pmem.c of the RFC's patch 7, which omits the write",
        {"rfc": False, "4.3": True},
    )
    clears_memmap_errors = Difference(
        "A bind clears bad blocks in a memmap on media",
        "nd_pfn_clear_memmap_errors, drivers/nvdimm/pfn_devs.c",
        {"rfc": False, "4.20": True},
    )
    has_parent = Difference(
        "The block holds the namespace's uuid, which is compared (else the field is zero and not checked)",
        _VALIDATE,
        {"rfc": False, "4.5": True},
    )
    pmem_errno = Difference(
        "Errno for a block on the media whose mode is pmem",
        _VALIDATE,
        {"rfc": 0, "4.3": errno.ENOTTY, "4.5": 0},
        show=errno_name,
    )
    uuid_errno = Difference(
        "Errno for a block whose uuid differs from the device's",
        _VALIDATE,
        {"rfc": errno.EINVAL, "4.6": errno.ENODEV},
        show=errno_name,
    )
    sets_mode = Difference(
        "On bind, the device's mode is set from the block",
        "nvdimm_namespace_attach_pfn, drivers/nvdimm/pmem.c",
        {"rfc": False, "4.3": True},
    )
    settings_errno = Difference[int | None](
        "Errno for a block with the device's uuid but another mode or align; kernels that compare them set both from "
        "the block when they create a device for it",
        _VALIDATE,
        {"rfc": None, "4.9": errno.EINVAL, "5.7": errno.EOPNOTSUPP},
        show=_compared,
    )
    has_page_size = Difference(
        "The page sizes in the block and the alignment of a dax device are checked; a mismatch is EOPNOTSUPP",
        _VALIDATE,
        {"rfc": False, "5.7": True},
    )
    fit = Difference(
        "Further conditions that a block must meet",
        f"{_VALIDATE}; for the RFC that of v2 of its patch 6",
        {
            "rfc": (FitCheck(Fit.DATA_ON_SECTION, errno.EBUSY), FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EBUSY)),
            "4.3": (FitCheck(Fit.START_ON_SECTION, errno.EBUSY), FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EBUSY)),
            "4.5": (
                FitCheck(Fit.ALIGN_WITHIN_SIZE, errno.EINVAL),
                FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EBUSY),
                FitCheck(Fit.OFFSET_IS_POWER_OF_TWO, errno.ENXIO),
            ),
            "4.9": (
                FitCheck(Fit.ALIGN_WITHIN_SIZE, errno.EINVAL),
                FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EBUSY),
                FitCheck(Fit.OFFSET_ALIGNED, errno.ENXIO),
            ),
            "4.15": (
                FitCheck(Fit.ALIGN_WITHIN_SIZE, errno.EINVAL),
                FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EBUSY),
                FitCheck(Fit.DATA_ALIGNED, errno.ENXIO),
            ),
            "5.7": (
                FitCheck(Fit.ALIGN_WITHIN_SIZE, errno.EOPNOTSUPP),
                FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EOPNOTSUPP),
                FitCheck(Fit.DATA_ALIGNED, errno.EOPNOTSUPP),
                FitCheck(Fit.RANGE_ON_SUBSECTION, errno.EOPNOTSUPP),
            ),
            "6.6": (
                FitCheck(Fit.ALIGN_WITHIN_SIZE, errno.EOPNOTSUPP),
                FitCheck(Fit.OFFSET_WITHIN_REST, errno.EOPNOTSUPP),
                FitCheck(Fit.DATA_ALIGNED, errno.EOPNOTSUPP),
                FitCheck(Fit.RANGE_ON_SUBSECTION, errno.EOPNOTSUPP),
            ),
        },
        show=_checks,
        commit="e96d9a938e89 nvdimm/pfn_dev: Prevent the creation of zero-sized namespaces",
    )
