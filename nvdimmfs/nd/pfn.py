"""pfn devices: a namespace mapped with struct page, and user space says where those pages' memmap lives.

The dax devices share everything here but their info block's signature and their driver.
"""

from __future__ import annotations

import errno
import uuid
from typing import ClassVar, Self

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.parse import c_string, select, select_list
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.info_block import INFO_BLOCK_SIZE, checksum_ok
from nvdimmfs.formats.pfn import DAX_SIGNATURE, INFO_BLOCK_OFFSET, PFN_SIGNATURE, PfnInfoBlock, PfnMode
from nvdimmfs.mm.pfn_layout import lay_out
from nvdimmfs.mm.units import GIB, PAGE_SIZE, PMD_SIZE, STRUCT_PAGE_SIZE, SUBSECTION_SIZE
from nvdimmfs.nd.claim import Personality, namespace_attribute, uuid_attribute
from nvdimmfs.nd.device import ND_DEVICE_GROUP, NUMA_GROUP, DeviceType
from nvdimmfs.nd.namespace import ClaimClass, NamespaceDevice
from nvdimmfs.nd.region import Kind, RegionDevice

#: What is set aside for info blocks at the start of a namespace, bytes (nd_info_block_reserve, since Linux 5.7).
INFO_BLOCK_RESERVE = 8192
#: Page, huge page and gigantic page of x86-64, bytes.
SUPPORTED_ALIGNMENTS = (PAGE_SIZE, PMD_SIZE, GIB)
#: A huge page: what the page tables map in one step by default.
DEFAULT_ALIGNMENT = PMD_SIZE


class PageMapPersonality(Personality):
    """What pfn and dax devices have in common.

    Attributes:
        signature: the first 16 bytes of the info block.
        mode: where the memmap lives.
        align: of the data's start, bytes.
        info_block: what governs the namespace while bound.
    """

    signature: ClassVar[bytes]

    def __init__(self, region: RegionDevice) -> None:
        super().__init__(region)
        self.mode = PfnMode.NONE
        self.align = DEFAULT_ALIGNMENT
        self.info_block: PfnInfoBlock | None = None

    def reset(self) -> None:
        """Forget uuid and mode; the alignment stays."""
        super().reset()
        self.mode = PfnMode.NONE

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (PFN_GROUP, ND_DEVICE_GROUP, NUMA_GROUP)

    def bound_info_block(self) -> tuple[NamespaceDevice, PfnInfoBlock]:
        """The namespace and its info block.  ENXIO unless bound."""
        if self.driver is None or self.namespace is None or self.info_block is None:
            raise KernelError(errno.ENXIO, f"{self.name} is not bound")
        return self.namespace, self.info_block

    def adopt(self) -> None:
        """Take uuid, align and mode from the info block; refusals as `validate`."""
        self.validate()

    def set_up(self) -> tuple[NamespaceDevice, PfnInfoBlock]:
        """Find the info block or write a new one; afterwards `info_block` governs the namespace.

        ENODEV without uuid or namespace; else as `validate` and `mm.pfn_layout.lay_out`, and ENXIO when the region is
        read-only and a block would have to be written (nd_pfn_init, drivers/nvdimm/pfn_devs.c, Linux 6.1).
        """
        if self.uuid is None or self.namespace is None:
            raise KernelError(errno.ENODEV, f"{self.name} has no uuid or no namespace")
        try:
            self.info_block = self.validate()
        except KernelError as refusal:
            if refusal.errno != errno.ENODEV:
                raise
            self.info_block = self._initialise(self.namespace, self.uuid)
        return self.namespace, self.info_block

    def validate(self) -> PfnInfoBlock:
        """Read the info block and check it, in the kernel's order (nd_pfn_validate, Linux 6.1).

        A device without uuid takes uuid, align and mode from the block.

        ENODEV: no block of this kind, checksum wrong, another parent, or another uuid than the device's.
        ENXIO: a mode that is neither ram nor pmem.  EOPNOTSUPP: settings that differ from the device's, or that do
        not suit this machine or this namespace.
        """
        namespace = self.namespace
        assert namespace is not None, "only called with a namespace"
        raw = namespace.media.read(INFO_BLOCK_OFFSET, INFO_BLOCK_SIZE)
        if not raw.startswith(self.signature) or not checksum_ok(raw):
            raise KernelError(errno.ENODEV, f"no info block on {namespace.name}")
        block = PfnInfoBlock.from_bytes(raw)
        if block.parent_uuid != namespace.parent_uuid:
            raise KernelError(errno.ENODEV, "the info block belongs to another namespace")
        block = block.upgraded()
        if block.mode not in (PfnMode.RAM, PfnMode.PMEM):
            raise KernelError(errno.ENXIO, f"info block with mode {block.mode}")
        align = block.align or _alignment_of(block.dataoff)
        self._check_machine(block, align)
        self._adopt_or_compare(block, align)
        _check_fit(block, align, namespace)
        return block

    def _check_machine(self, block: PfnInfoBlock, align: int) -> None:
        if block.mode == PfnMode.PMEM and (block.page_size > PAGE_SIZE or block.page_struct_size < STRUCT_PAGE_SIZE):
            raise KernelError(errno.EOPNOTSUPP, "the memmap on media is for other pages")
        if self.signature == DAX_SIGNATURE and align not in SUPPORTED_ALIGNMENTS:
            raise KernelError(errno.EOPNOTSUPP, f"alignment {align} is not supported")

    def _adopt_or_compare(self, block: PfnInfoBlock, align: int) -> None:
        if self.uuid is None:
            self.uuid = block.uuid
            self.align = align
            self.mode = PfnMode(block.mode)
            return
        if self.uuid != block.uuid:
            raise KernelError(errno.ENODEV, "the info block has another uuid")
        if self.align != align or self.mode != block.mode:
            raise KernelError(errno.EOPNOTSUPP, "the info block has the same uuid and other settings")

    def _initialise(self, namespace: NamespaceDevice, identity: uuid.UUID) -> PfnInfoBlock:
        if self.region.read_only:
            raise KernelError(errno.ENXIO, f"{self.region.name} is read-only")
        layout = lay_out(namespace.start, namespace.size, self.align, self.mode)
        block = PfnInfoBlock(
            signature=self.signature,
            uuid=identity,
            parent_uuid=namespace.parent_uuid,
            dataoff=layout.dataoff,
            npfns=layout.npfns,
            mode=self.mode,
            start_pad=layout.start_pad,
            end_trunc=layout.end_trunc,
            align=self.align,
            page_size=PAGE_SIZE,
            page_struct_size=STRUCT_PAGE_SIZE,
        )
        namespace.media.write(INFO_BLOCK_OFFSET, block.to_bytes())
        return block


class PfnDevice(PageMapPersonality):
    """A pfn device: a disk whose data can be mapped and has struct pages."""

    device_type = "nd_pfn"
    kind = Kind.PFN
    claim_classes = frozenset({ClaimClass.PFN})
    signature = PFN_SIGNATURE

    @property
    def modalias_type(self) -> DeviceType:
        return self.region.nstype


def _alignment_of(offset: int) -> int:
    """What an old block without an alignment was aligned to: the largest power of two up to its data offset."""
    return 1 << (offset.bit_length() - 1) if offset else 1 << 63


def _check_fit(block: PfnInfoBlock, align: int, namespace: NamespaceDevice) -> None:
    """EOPNOTSUPP when the block does not suit the place where the namespace lies now."""
    start = namespace.start + block.start_pad
    data = start + block.dataoff
    end = namespace.end + 1 - block.end_trunc
    if align > namespace.size:
        raise KernelError(errno.EOPNOTSUPP, "alignment exceeds capacity")
    if block.dataoff >= namespace.size:
        raise KernelError(errno.EOPNOTSUPP, "the data would start behind the namespace's end")
    if data % align or block.dataoff % PAGE_SIZE:
        raise KernelError(errno.EOPNOTSUPP, "the data's start is not aligned")
    if start % SUBSECTION_SIZE or end % SUBSECTION_SIZE:
        raise KernelError(errno.EOPNOTSUPP, "the mapped range is not aligned to 2 MiB")


@attribute("mode")
def mode(pfn: PageMapPersonality) -> str:
    """Where the memmap lives: none (not chosen), ram, or pmem (in the namespace itself)."""
    return f"{pfn.mode.name.lower()}\n"


@mode.on_store
def _store_mode(pfn: PageMapPersonality, data: bytes) -> None:
    """EBUSY while bound; EINVAL for an unknown word.

    The kernel compares all but the last byte written, so that a newline may end the word: prefixes count as the
    whole, and any single byte means pmem (mode_store, drivers/nvdimm/pfn_devs.c, Linux 6.1).
    """
    pfn.require_unbound()
    compared = len(data) - 1
    written = (c_string(data) + b"\0")[:compared]
    for choice in (PfnMode.PMEM, PfnMode.RAM, PfnMode.NONE):
        word = choice.name.lower().encode("ascii")
        if written in ((word + b"\n\0")[:compared], (word + b"\0")[:compared]):
            pfn.mode = choice
            return
    raise KernelError(errno.EINVAL, "neither none, ram nor pmem")


@attribute("align")
def align_attribute(pfn: PageMapPersonality) -> str:
    """What the data's start is aligned to, bytes.  Since Linux 4.5; hexadecimal up to 4.9."""
    return f"{pfn.align}\n"


@align_attribute.on_store
def _store_align(pfn: PageMapPersonality, data: bytes) -> None:
    """EBUSY while bound, EINVAL for an alignment that is not supported."""
    pfn.require_unbound()
    pfn.align = select(data, SUPPORTED_ALIGNMENTS)


@attribute("supported_alignments")
def supported_alignments(_pfn: PageMapPersonality) -> str:
    """The alignments to choose from.  Since Linux 4.15."""
    return select_list(SUPPORTED_ALIGNMENTS, 0)


@attribute("resource", 0o400)
def resource(pfn: PageMapPersonality) -> str:
    """Physical address of the data.  ENXIO unless bound.  Since Linux 4.6."""
    namespace, block = pfn.bound_info_block()
    return f"{namespace.start + block.start_pad + block.dataoff:#x}\n"


@attribute("size")
def size(pfn: PageMapPersonality) -> str:
    """Bytes of data.  ENXIO unless bound.  Since Linux 4.6."""
    namespace, block = pfn.bound_info_block()
    return f"{namespace.size - block.start_pad - block.end_trunc - block.dataoff}\n"


PFN_GROUP: AttributeGroup[PageMapPersonality] = AttributeGroup(
    (mode, namespace_attribute, uuid_attribute, align_attribute, resource, size, supported_alignments)
)
