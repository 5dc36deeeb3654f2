"""Faults: the rules that make something fail on order, and which of them a request or an act of the kernel meets."""
