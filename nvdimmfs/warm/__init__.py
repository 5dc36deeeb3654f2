"""Processes that have loaded everything already, and fork for each request.

A machine takes a few milliseconds to boot, but the modules that serve it a few hundred to load.  A warm process loads
them once.  It has a single thread, since a fork copies no other.
"""
