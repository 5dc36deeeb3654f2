"""Block devices: the disks that drivers put in front of persistent memory."""
