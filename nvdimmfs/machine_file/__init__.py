"""Machine files: their model, and functions to read, complete, check, write, draw and record them.

This package has no devices: `model` describes a machine, and the platforms build it.
"""
