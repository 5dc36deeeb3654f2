"""A private /sys, /dev and /proc for one command, filled from a machine's mount.

Plain system calls, no FUSE library: the command and its surroundings live in other processes than the mount.
"""
