"""The tree as a FUSE mount: what Linux's sysfs answers, system call for system call.

The only importer of pyfuse3 and trio.  `operations` answers requests, `inode` and `open_file` hold what a mount knows
beyond the tree, `kernel_cache` keeps the kernel from showing what is no longer there, `mount` runs it all.
"""
