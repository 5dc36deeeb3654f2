"""The conformance lab: what a real Linux kernel answers, in a virtual machine of QEMU with persistent memory."""
