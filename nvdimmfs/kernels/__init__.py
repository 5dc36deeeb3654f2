"""What differs between releases of the kernel, as data.

* `kernel`: the releases, and what differs in the page engine;
* `layout_rules`: what differs in the layout of pfn devices;
* `device_rules`: what differs in devices;
* `differences`: the type of each entry.
"""
