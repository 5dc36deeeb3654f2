"""Differences between kernel releases, as data.

* `kernel`: the releases, and differences in memory management;
* `layout_rules`: differences in the layout of pfn devices;
* `device_rules`: differences in devices, attributes, drivers and info blocks;
* `differences`: the type of each entry.
"""
