"""Drawings of a machine's memory: one model, drawn as text and as SVG.

`model` has the classes.  `described` makes a drawing of a machine file, `mounted` of a mounted machine.
"""
