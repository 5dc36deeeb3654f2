"""Machine files: their model, and functions to read, complete, check, write, draw and record them.

This package has no devices: `model` describes a machine, and the platforms build it.
"""

#: The legacy ranges of the machine that is meant where none is named.
DEFAULT_MEMMAP = "512M!4G,256M!6G"
