"""The debug folder's `translate`: queries about one page frame and their answers.

A query names the page in one of four ways: `pfn 0x100000`, `phys 0x100000000`, `virt 0xffff888100000000` (an address in
the direct map) or `page 0xffffea0004000000` (the address of its struct page).  A bare number is an address: a physical
one in the lower half of the address space; in the upper half, which belongs to the kernel, that of a struct page if it
is in vmemmap, else a virtual one.  Numbers are decimal, or hexadecimal after 0x.
"""

from __future__ import annotations

import errno
import re

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.differences import NOTHING
from nvdimmfs.mm.address_space import AddressSpace
from nvdimmfs.mm.describe import facts_text
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.page import PageInfo, Pages
from nvdimmfs.mm.pfn_t import ENCODINGS, PfnFlag, PfnT
from nvdimmfs.mm.resource import Resource, ResourceDescriptor
from nvdimmfs.mm.sparse import Place
from nvdimmfs.units import PAGE_SHIFT, PAGE_SIZE, U64_MASK

#: The lowest address of the kernel's half of the address space (Documentation/x86/x86_64/mm.rst).
_UPPER_HALF = 1 << 63

_PERSISTENT = (ResourceDescriptor.PERSISTENT_MEMORY, ResourceDescriptor.PERSISTENT_MEMORY_LEGACY)

_QUERY = re.compile(r"\s*(?:(pfn|phys|virt|page)\s+)?(0[xX][0-9a-fA-F]+|[0-9]+)\s*")


@attrs.frozen
class PageQuery:
    """A query about one page frame.

    Attributes:
        kind: `pfn`, `phys`, `virt` or `page`.
        number: the page frame number or the address.
    """

    kind: str
    number: int

    @classmethod
    def parse(cls, text: str, space: AddressSpace) -> PageQuery:
        """Parse a query.  EINVAL when the syntax is wrong."""
        found = _QUERY.fullmatch(text)
        if found is None:
            raise KernelError(errno.EINVAL, f"{text!r} is not pfn, phys, virt or page followed by a number")
        digits = found[2]
        number = int(digits, 16) if digits[:2] in ("0x", "0X") else int(digits)
        if number > U64_MASK:
            raise KernelError(errno.EINVAL, f"{digits} has more than 64 bits")
        return cls(found[1] or _kind_of_address(number, space), number)

    def pfn(self, pages: Pages) -> int:
        """The page frame number.  ENXIO when no page frame has that number or address."""
        try:
            return pages.page_to_pfn(self._page(pages))
        except KernelError:
            raise KernelError(errno.ENXIO, f"there is no page {self}") from None

    def _page(self, pages: Pages) -> int:
        """The virtual address of the page's struct page."""
        match self.kind:
            case "page":
                return self.number
            case "virt":
                return pages.virt_to_page(self.number)
            case "phys":
                return pages.pfn_to_page(self.number >> PAGE_SHIFT)
        return pages.pfn_to_page(self.number)

    @property
    def offset(self) -> int:
        """Offset of the address within its page, in bytes."""
        return self.number % PAGE_SIZE if self.kind in ("phys", "virt") else 0

    def __str__(self) -> str:
        return f"{self.kind} {self.number:#x}"


def translation_text(memory: Memory, query: PageQuery) -> str:
    """Return all facts about the page, one per line.  ENXIO when there is no such page frame."""
    found = memory.pages.describe(query.pfn(memory.pages))
    device = found.pagemap.owner if found.pagemap else NOTHING
    resource = _owner(memory.iomem, found.physical)
    pfn_t, encoding = _pfn_t(found, resource), ENCODINGS.get(memory.kernel.pfn_flags)
    facts: dict[str, object] = {
        "query": query,
        "pfn": f"{found.pfn:#x}",
        "physical": f"{found.physical:#x}",
        "virtual": f"{found.virtual:#x}",
        "page": f"{found.page:#x}",
        "offset": f"{query.offset:#x}",
        "pfn_valid": int(found.valid),
        "pfn_to_online_page": f"{found.page:#x}" if found.online else NOTHING,
        "initialised": int(found.initialised),
        "zone": found.zone.name if found.zone else NOTHING,
        "node": found.zone.nid if found.zone else NOTHING,
        "device": device,
        "resource": resource.name if resource else NOTHING,
        "struct_page_in": _place(found),
        "struct_page_physical": NOTHING if found.struct_page is None else f"{found.struct_page:#x}",
        "pfn_t": _flags_text(pfn_t),
        "pfn_t_value": NOTHING if encoding is None else f"{pfn_t.encode(encoding):#x}",
    }
    return facts_text(facts.items())


def _kind_of_address(number: int, space: AddressSpace) -> str:
    if number < _UPPER_HALF:
        return "phys"
    return "virt" if space.page_to_pfn(number) is None else "page"


def _owner(iomem: Resource, address: int) -> Resource | None:
    """Return the innermost resource that contains an address."""
    holders = [resource for _, resource in iomem.walk() if resource.start <= address <= resource.end]
    return holders[-1] if holders else None


def _place(found: PageInfo) -> str:
    """Name the kind of memory; RAM allocated at boot and later have the same name."""
    if found.place is None:
        return NOTHING
    return "pmem" if found.place is Place.PMEM else "ram"


def _pfn_t(found: PageInfo, resource: Resource | None) -> PfnT:
    """The pfn_t that a driver would return: persistent memory is DEV, and also MAP if it has a usable struct page."""
    if found.pagemap is None and (resource is None or resource.desc not in _PERSISTENT):
        return PfnT(found.pfn)
    return PfnT(found.pfn, PfnFlag.DEV | PfnFlag.MAP if found.initialised else PfnFlag.DEV)


def _flags_text(pfn: PfnT) -> str:
    """The names of the flags."""
    return " ".join(str(flag.name) for flag in PfnFlag if flag in pfn.flags) or NOTHING
