"""A tree of nodes as a FUSE mount that answers each system call as Linux's sysfs does.

This package alone imports pyfuse3 and trio.  `operations` answers the requests, and `handler` turns exceptions into
errnos.  `inode` and `open_file` hold the state that a mount adds to the tree.  `kernel_cache` invalidates the names and
attributes that the kernel caches.  `mount` runs the event loop.
"""
