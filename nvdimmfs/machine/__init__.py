"""A whole machine: memory, modules and devices, with the debug folder and the files of /proc that show them."""
