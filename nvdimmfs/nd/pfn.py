"""pfn devices: a namespace mapped with struct page.  User space selects the place of the memmap.

dax devices differ from pfn devices only in the signature of the info block and in the driver.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable
from typing import Self

import attrs

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.parse import c_string, parse_unsigned, select, select_list
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.info_block import NULL_UUID, checksum_ok
from nvdimmfs.formats.pfn import DAX_SIGNATURE, INFO_BLOCK_OFFSET, PFN_SIGNATURE, PfnInfoBlock, PfnMode
from nvdimmfs.kernels.device_rules import AlignRule
from nvdimmfs.kernels.info_block_rules import Fit
from nvdimmfs.kernels.kernel import INFO_BLOCK_RESERVE
from nvdimmfs.media.base import MediaWindow
from nvdimmfs.mm.pfn_layout import Neighbourhood, PfnLayout, lay_out
from nvdimmfs.nd.claim import Personality, namespace_attribute, uuid_attribute
from nvdimmfs.nd.device import ND_DEVICE_GROUP, DeviceType
from nvdimmfs.nd.namespace import ClaimClass, NamespaceDevice
from nvdimmfs.nd.namespace_io import open_namespace_io, read_info_block
from nvdimmfs.nd.region import RegionDevice, SeedKind
from nvdimmfs.traces.effects import InfoBlockWritten
from nvdimmfs.units import (
    ALIGNMENTS,
    PAGE_SIZE,
    PMD_SIZE,
    PUD_SIZE,
    SECTION_SIZE,
    STRUCT_PAGE_SIZE,
    SUBSECTION_SIZE,
    U64_MASK,
    align_down,
    align_up,
)

#: The default alignment: a huge page.
DEFAULT_ALIGNMENT = PMD_SIZE


class PageMapPersonality(Personality):
    """The base of pfn and dax devices.

    Attributes:
        mode: the place of the memmap.
        align: the alignment of the data's start, bytes.
        layout: the layout of the namespace, as its info block records it, while the device is bound.
    """

    def __init__(self, region: RegionDevice) -> None:
        super().__init__(region)
        self.mode = PfnMode.NONE
        self.align = DEFAULT_ALIGNMENT
        self.layout: PfnLayout | None = None

    def reset(self) -> None:
        """Reset uuid and mode; the alignment stays."""
        super().reset()
        self.mode = PfnMode.NONE

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (PFN_GROUP, ND_DEVICE_GROUP, *self.numa_groups)

    def bound_layout(self) -> PfnLayout:
        """The layout of the namespace.  ENXIO unless bound."""
        if self.driver is None or self.layout is None:
            raise KernelError(errno.ENXIO, f"{self.name} is not bound")
        return self.layout

    @classmethod
    def info_offset(cls, namespace: NamespaceDevice) -> int:  # noqa: ARG003  # the same in all namespaces
        return INFO_BLOCK_OFFSET

    def adopt(self) -> None:
        """Take uuid, align and mode from the info block; errors as `validate`."""
        self.validate()

    def set_up(self) -> PfnLayout:
        """Find the info block or write a new one; `layout` is the layout that it records.

        ENODEV without uuid or namespace; else as `validate` and `mm.pfn_layout.lay_out`, and ENXIO when a block must be
        written and the region is read-only (nd_pfn_init, drivers/nvdimm/pfn_devs.c, Linux 6.1).
        """
        if self.uuid is None or self.namespace is None:
            raise KernelError(errno.ENODEV, f"{self.name} has no uuid or no namespace")
        rules = self.system.kernel.info_block
        try:
            layout = self.validate()
        except KernelError as refusal:
            if refusal.errno not in rules.overwritten:
                raise
            layout = self._initialise(self.namespace, self.uuid)
        else:
            self._clear_memmap_errors(self.namespace, layout)
        if rules.sets_mode:
            self.mode = layout.mode
        self.layout = attrs.evolve(layout, mode=self.mode)
        return self.layout

    def validate(self) -> PfnLayout:
        """Read the info block and check it, in the kernel's order (nd_pfn_validate, Linux 6.1).

        A device without uuid takes uuid, align and mode from the block.

        ENODEV: no block of this kind, checksum wrong, another parent, or another uuid than the device's.
        ENXIO: a block that cannot be read, or a mode that is neither ram nor pmem.  EOPNOTSUPP: settings that differ
        from the device's, or that do not fit this machine or this namespace.  `InfoBlockRules` lists the checks of
        other kernels and their errnos.
        """
        namespace = self.namespace
        assert namespace is not None, "only called with a namespace"
        kernel = self.system.kernel
        raw = read_info_block(namespace, INFO_BLOCK_OFFSET)
        if namespace.size < kernel.layout.minimum_size or not raw.startswith(self.signature) or not checksum_ok(raw):
            raise KernelError(errno.ENODEV, f"no info block on {namespace.name}")
        block = PfnInfoBlock.from_bytes(raw)
        if kernel.info_block.has_parent and block.parent_uuid != namespace.parent_uuid:
            raise KernelError(errno.ENODEV, "the info block belongs to another namespace")
        block = block.upgraded(kernel.layout.minor)
        if block.mode not in (PfnMode.RAM, PfnMode.PMEM):
            raise KernelError(errno.ENXIO, f"info block with mode {block.mode}")
        if block.mode == PfnMode.PMEM and kernel.info_block.pmem_errno:
            raise KernelError(kernel.info_block.pmem_errno, "info block with mode pmem")
        align = block.align or _alignment_of(block.dataoff)
        if kernel.info_block.has_page_size:
            self._check_machine(block, align)
        self._adopt_or_compare(block, align)
        layout = _recorded_layout(namespace, block)
        self._check_fit(layout, align)
        return layout

    def _check_machine(self, block: PfnInfoBlock, align: int) -> None:
        if block.mode == PfnMode.PMEM and (block.page_size > PAGE_SIZE or block.page_struct_size < STRUCT_PAGE_SIZE):
            raise KernelError(errno.EOPNOTSUPP, "the memmap on media is for pages of another size")
        if self.signature == DAX_SIGNATURE and align not in ALIGNMENTS:
            raise KernelError(errno.EOPNOTSUPP, f"alignment {align} is not supported")

    def _adopt_or_compare(self, block: PfnInfoBlock, align: int) -> None:
        rules = self.system.kernel.info_block
        if self.uuid is None:
            self.uuid = block.uuid
            if rules.settings_errno is not None:
                self.align = align
                self.mode = PfnMode(block.mode)
            return
        if self.uuid != block.uuid:
            raise KernelError(rules.uuid_errno, "the info block has another uuid")
        if rules.settings_errno is not None and (self.align != align or self.mode != block.mode):
            raise KernelError(rules.settings_errno, "the info block has the same uuid and other settings")

    def _check_fit(self, layout: PfnLayout, align: int) -> None:
        """Check that the layout fits the current place of the namespace."""
        rules = self.system.kernel.info_block
        # Kernels that do not read the alignment from the block check the device's own.
        checked_align = self.align if rules.settings_errno is None else align
        for check in rules.fit:
            if check.fit is Fit.OFFSET_IS_POWER_OF_TWO:
                self.align = _alignment_of(layout.dataoff)  # in any case
            if not _FITS[check.fit](layout, checked_align):
                raise KernelError(check.errno, f"condition not met: {check.fit.value}")

    def _initialise(self, namespace: NamespaceDevice, identity: uuid.UUID) -> PfnLayout:
        if self.region.read_only:
            raise KernelError(errno.ENXIO, f"{self.region.name} is read-only")
        rules = self.system.kernel.info_block
        layout = self._layout(namespace)
        block = PfnInfoBlock(
            signature=self.signature,
            uuid=identity,
            parent_uuid=namespace.parent_uuid if rules.has_parent else NULL_UUID,
            version_minor=layout.minor,
            dataoff=layout.dataoff,
            npfns=layout.npfns,
            mode=self.mode,
            start_pad=layout.start_pad,
            end_trunc=layout.end_trunc,
            align=self.align,
            page_size=PAGE_SIZE,
            page_struct_size=STRUCT_PAGE_SIZE,
        )
        self._clear_memmap_errors(namespace, layout)
        if rules.is_written:
            data = block.trimmed().to_bytes()
            namespace.media.write(INFO_BLOCK_OFFSET, data)
            if (trace := self.system.trace) is not None:
                trace.report(InfoBlockWritten(self.name, namespace.name, INFO_BLOCK_OFFSET, len(data)))
        return layout

    def _clear_memmap_errors(self, namespace: NamespaceDevice, layout: PfnLayout) -> None:
        """Clear the bad pages of a memmap on media by writing zeros (nd_pfn_clear_memmap_errors, Linux 6.1).

        Linux takes sectors relative to the region's start as relative to the namespace's, so that in any but the
        region's first namespace it finds none or wrong ones.  It clears whole entries of the list; EFAULT for an entry
        that reaches into the data.  Where an error stays, Linux retries forever; here it is EIO.

        EBUSY if the memmap, which has to be reserved for that, ends beyond the namespace, in memory that is not free.
        """
        if self.mode is not PfnMode.PMEM or not self.system.kernel.info_block.clears_memmap_errors:
            return
        self.region.driver_memory.check_region(namespace.start, layout.dataoff, namespace.name)
        io = attrs.evolve(open_namespace_io(namespace), media=MediaWindow(namespace.media, 0, layout.dataoff))
        bad, first, end = self.region.badblocks, INFO_BLOCK_RESERVE // SECTOR_SIZE, layout.dataoff // SECTOR_SIZE
        while entry := bad.first_between(first, end):
            sector, count = entry
            start = align_down(self.region.start + sector * SECTOR_SIZE - namespace.start, PAGE_SIZE)
            if start < 0:
                raise KernelError(errno.EFAULT, "the error lies before the namespace")
            for page in range(start, start + align_up(count * SECTOR_SIZE, PAGE_SIZE), PAGE_SIZE):
                io.zero(page, PAGE_SIZE)
            if bad.first_between(first, end) == entry:
                raise KernelError(errno.EIO, f"{namespace.name}: errors in the memmap stay")

    def _layout(self, namespace: NamespaceDevice) -> PfnLayout:
        return lay_out(
            namespace.start,
            namespace.size,
            self.align,
            self.mode,
            self.system.kernel,
            dax=self.kind is SeedKind.DAX,
            neighbourhood=Neighbourhood(self.region.memory.iomem, self.region.conflicts),
        )


class PfnDevice(PageMapPersonality):
    """A pfn device: a disk whose data can be mapped and has struct pages."""

    device_type = "nd_pfn"
    kind = SeedKind.PFN
    claim_classes = frozenset({ClaimClass.PFN})
    signature = PFN_SIGNATURE

    @property
    def modalias_type(self) -> DeviceType:
        return self.region.nstype


def _alignment_of(offset: int) -> int:
    """The alignment of an old block that records none: the largest power of two up to its data offset."""
    return 1 << (offset.bit_length() - 1) if offset else 1 << 63


def _recorded_layout(namespace: NamespaceDevice, block: PfnInfoBlock) -> PfnLayout:
    """The layout that an info block records, at the current place of its namespace."""
    return PfnLayout(
        start=namespace.start,
        size=namespace.size,
        mode=PfnMode(block.mode),
        align=block.align,
        start_pad=block.start_pad,
        dataoff=block.dataoff,
        npfns=block.npfns,
        end_trunc=block.end_trunc,
        minor=block.version_minor,
    )


#: The condition of each check, of a layout and an alignment in bytes (nd_pfn_validate, drivers/nvdimm/pfn_devs.c).
_FITS: dict[Fit, Callable[[PfnLayout, int], bool]] = {
    Fit.START_ON_SECTION: lambda layout, _: layout.range.start % SECTION_SIZE == 0,
    Fit.DATA_ON_SECTION: lambda layout, _: layout.data.start % SECTION_SIZE == 0,
    Fit.ALIGN_WITHIN_SIZE: lambda layout, align: align <= layout.size,
    Fit.OFFSET_WITHIN_SIZE: lambda layout, _: layout.dataoff < layout.size,
    # The kernel does not check the subtraction for overflow.
    Fit.OFFSET_WITHIN_REST: lambda layout, _: (
        layout.dataoff < (layout.size - layout.start_pad - layout.end_trunc) & U64_MASK
    ),
    Fit.OFFSET_IS_POWER_OF_TWO: lambda layout, _: layout.dataoff >= PAGE_SIZE and layout.dataoff.bit_count() == 1,
    Fit.OFFSET_ALIGNED: lambda layout, align: layout.dataoff % align == 0 and layout.dataoff % PAGE_SIZE == 0,
    Fit.DATA_ALIGNED: lambda layout, align: layout.data.start % align == 0 and layout.dataoff % PAGE_SIZE == 0,
    Fit.RANGE_ON_SUBSECTION: lambda layout, _: (
        layout.range.start % SUBSECTION_SIZE == 0 and (layout.range.end + 1) % SUBSECTION_SIZE == 0
    ),
}


@attribute("mode")
def mode(pfn: PageMapPersonality) -> str:
    """The place of the memmap: `none` (not selected), `ram`, or `pmem` (in the namespace itself)."""
    return f"{pfn.mode.name.lower()}\n"


@mode.on_store
def _store_mode(pfn: PageMapPersonality, data: bytes) -> None:
    """EBUSY while bound; EINVAL for an unknown word; ENOTTY for `pmem` before Linux 4.5.

    The kernel compares all but the last byte written, so that a newline may end the word: a prefix counts as the
    whole word, and any single byte as pmem (mode_store, drivers/nvdimm/pfn_devs.c, Linux 6.1).
    """
    pfn.require_unbound()
    compared = len(data) - 1
    written = (c_string(data) + b"\0")[:compared]
    for choice in (PfnMode.PMEM, PfnMode.RAM, PfnMode.NONE):
        word = choice.name.lower().encode("ascii")
        if written in ((word + b"\n\0")[:compared], (word + b"\0")[:compared]):
            _set_mode(pfn, choice)
            return
    raise KernelError(errno.EINVAL, "neither none, ram nor pmem")


def _set_mode(pfn: PageMapPersonality, choice: PfnMode) -> None:
    refusal = pfn.system.kernel.devices.mode_pmem_errno
    if choice is PfnMode.PMEM and refusal:
        raise KernelError(refusal, "this kernel cannot put the memmap into the namespace")
    pfn.mode = choice


@attribute("align", since="4.5")
def align_attribute(pfn: PageMapPersonality) -> str:
    """The alignment of the data's start, bytes; older kernels print it in hexadecimal."""
    return f"{pfn.align:{pfn.system.kernel.devices.align_format}}\n"


@align_attribute.on_store
def _store_align(pfn: PageMapPersonality, data: bytes) -> None:
    """EBUSY while bound; EINVAL for an alignment that is not supported, ERANGE past 64 bits.

    Before Linux 4.15 any power of two from 4 KiB to 1 GiB is accepted, and EINVAL comes before EBUSY.
    """
    if pfn.system.kernel.devices.align_rule is AlignRule.LISTED:
        pfn.require_unbound()
        pfn.align = select(data, ALIGNMENTS)
        return
    value = parse_unsigned(data)
    if value.bit_count() != 1 or not PAGE_SIZE <= value <= PUD_SIZE:
        raise KernelError(errno.EINVAL, f"{value} is not a power of two from a page to 1 GiB")
    pfn.require_unbound()
    pfn.align = value


@attribute("supported_alignments", since="4.15")
def supported_alignments(_pfn: PageMapPersonality) -> str:
    """The supported alignments."""
    return select_list(ALIGNMENTS, 0)


@attribute("resource", 0o400, since="4.6", private_since="4.15")
def resource(pfn: PageMapPersonality) -> str:
    """Physical address of the data.  ENXIO unless bound."""
    return f"{pfn.bound_layout().data.start:#x}\n"


@attribute("size", since="4.6")
def size(pfn: PageMapPersonality) -> str:
    """Bytes of data.  ENXIO unless bound."""
    return f"{pfn.bound_layout().data_size}\n"


PFN_GROUP: AttributeGroup[PageMapPersonality] = AttributeGroup(
    (mode, namespace_attribute, uuid_attribute, align_attribute, resource, size, supported_alignments)
)
