"""What happens when a device is bound: probe, remove, and the disks they make."""
