"""A private /sys, /dev and /proc for one command: what it needs besides the tree.

Plain system calls, no FUSE library: the command and its surroundings live in other processes than the mount.
"""
