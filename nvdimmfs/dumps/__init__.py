"""Dumps: what belongs to libnvdimm in a sysfs as text, and what differs between two of them in words."""
