"""The kinds of object on an nvdimm bus: one module a kind, as in drivers/nvdimm."""
