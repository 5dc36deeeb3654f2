"""Traces: what programs ask of a machine, what it answers, and what its kernel does because of it.

`event` and `effects` are the model, `text` and `json_lines` its two forms, `selection` picks events.  `core.trace`
records them.
"""
