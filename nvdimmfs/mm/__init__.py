"""Memory arithmetic: resources, ZONE_DEVICE, vmem_altmap, memmap and pages.

It depends on no device.  `nvdimmfs.mm.memory.Memory` holds all memory of one machine; the other modules are named after
their counterparts in Linux:

* `hotplug`: System RAM in blocks that are added, removed, onlined and offlined (mm/memory_hotplug.c);
* `memory_failure`: pages that user space declares bad (mm/memory-failure.c);
* `resource`: the tree behind /proc/iomem (kernel/resource.c);
* `e820`, `pc_memory_map`: the memory map, and memmap=, which changes it (arch/x86/kernel/e820.c);
* `memmap_option`: the check of memmap= for the command line;
* `zone`, `zoneinfo`: zones and /proc/zoneinfo (mm/page_alloc.c, mm/vmstat.c);
* `altmap`: allocation of a memmap in the range itself (mm/sparse-vmemmap.c);
* `ram`: allocation of a memmap in RAM;
* `sparse`: the populated sections and their memmaps (mm/sparse.c, arch/x86/mm/init_64.c);
* `memremap`: the registration of a range (mm/memremap.c);
* `address_space`, `page`: conversion between pfns, struct pages and addresses;
* `pfn_t`: pfns with flags, for memory that may lack struct pages;
* `pfn_layout`: the layout of a pfn or dax device (drivers/nvdimm/pfn_devs.c);
* `describe`, `translate`: the texts of the debug folder about memory;
* `intervals`: sets of integers, stored as intervals.

No cost grows with the size of a range: everything is arithmetic on intervals.
"""
