"""Block devices: the disks that drivers register for persistent memory, their partitions and request queues."""
