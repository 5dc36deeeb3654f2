"""A whole machine: memory, modules, devices, and what its debug folder and /proc show."""
