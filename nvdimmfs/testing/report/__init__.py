"""The page of a failing test: one HTML file that needs nothing else, for `pytest --nvdimm-report DIR`."""
