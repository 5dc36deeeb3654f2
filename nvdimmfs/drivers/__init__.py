"""Drivers: probe, remove, and the disks that they create."""
