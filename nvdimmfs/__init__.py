"""Linux's libnvdimm in user space: a mountable, writable, kernel-true emulation of persistent memory."""

__version__ = "1.0.0rc1"
