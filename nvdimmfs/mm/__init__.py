"""Memory arithmetic: resources, ZONE_DEVICE, vmem_altmap, memmap and pages.

It knows no device.  `nvdimmfs.mm.memory.Memory` is the whole of one machine's memory; the other modules carry the names
that the same things have in Linux:

* `hotplug`: System RAM in blocks that come and go (mm/memory_hotplug.c);
* `memory_failure`: pages that are declared bad (mm/memory-failure.c);
* `resource`: the tree behind /proc/iomem (kernel/resource.c);
* `e820`, `pc_memory_map`, `memmap_option`: memmap=, the memory map that it changes, what a command line accepts of it;
* `zone`, `zoneinfo`: zones and /proc/zoneinfo (mm/page_alloc.c, mm/vmstat.c);
* `altmap`: where a memmap in the range itself is allocated (mm/sparse-vmemmap.c);
* `ram`: where a memmap in RAM is allocated;
* `sparse`: which sections are populated and with what (mm/sparse.c, arch/x86/mm/init_64.c);
* `memremap`: a range's registration (mm/memremap.c);
* `address_space`, `page`: pfns, struct pages and addresses, one into the other;
* `pfn_t`: pfns with flags, for memory that may have no struct page;
* `pfn_layout`: where a pfn or dax device puts its parts (drivers/nvdimm/pfn_devs.c);
* `describe`, `translate`: all of that in words, for the debug folder;
* `intervals`: sets of ranges.

No cost grows with the size of a range: everything is arithmetic over intervals.
"""
