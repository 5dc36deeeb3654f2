"""Memory arithmetic: resources, ZONE_DEVICE, vmem_altmap, memmap and pages.

It knows no device.  `nvdimmfs.mm.memory.Memory` is the whole of one machine's memory; the other modules carry the names
that the same things have in Linux:

* `resource`: the tree behind /proc/iomem (kernel/resource.c);
* `e820`: memmap= and the firmware's memory map (arch/x86/kernel/e820.c);
* `zone`: zones and /proc/zoneinfo (mm/page_alloc.c, mm/vmstat.c);
* `altmap`: where a memmap in the range itself is allocated (mm/sparse-vmemmap.c);
* `sparse`: which sections are populated and with what (mm/sparse.c, arch/x86/mm/init_64.c);
* `memremap`: registering a range's memmap (mm/memremap.c);
* `page`: pfns, struct pages and addresses, one into the other;
* `pfn_layout`: where a pfn or dax device puts its parts (drivers/nvdimm/pfn_devs.c);
* `kernel`: what differs between kernel versions, as data.

No cost grows with the size of a range: everything is arithmetic over intervals.
"""
