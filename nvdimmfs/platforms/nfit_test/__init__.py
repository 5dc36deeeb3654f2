"""Buses of the kernel's test platform (tools/testing/nvdimm)."""
