"""Differences between kernel releases, as data.

* `kernel`: the releases, and differences in memory management;
* `layout_rules`: differences in the layout of pfn devices;
* `info_block_rules`: differences in their info blocks;
* `device_rules`: differences in devices and drivers;
* `disk_rules`: differences in disks;
* `differences`: the type of each entry.
"""
