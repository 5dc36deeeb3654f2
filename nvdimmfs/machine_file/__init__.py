"""Machine files: their model, how they are read, completed, checked, written, drawn and recorded.

No devices here: `model` describes a machine, and the platforms build it.
"""
