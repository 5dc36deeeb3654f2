"""The kernel's modules as files: /lib/modules."""
