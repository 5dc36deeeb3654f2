"""A private /sys, /dev and /proc for one command, filled from a machine's mount.

Five processes work together:

- The *server* builds the machine, joins the sandbox and serves the machine's FUSE mount there (`machine_server`).  With
  --attach it is the daemon that `nvdimmfs mount` left running, and no server is started.
- The *front* is the process of `nvdimmfs run` itself (`front`).  It forwards signals to the supervisor and ends with
  the result that the supervisor reports.
- The *supervisor* enters new namespaces (`namespaces`), fills them (`sandbox`), and then serves the command
  (`supervisor`): it follows the machine's events over the control channel (`control_client`), creates and removes nodes
  in /dev (`dev_directory`, `loop_devices`), keeps /sys current (`merged_view`, `merged_sysfs`), sends uevents
  (`uevents`), answers system calls (`call_threads`, `call_limits`, `syscall_dispatch`) and forwards signals
  (`signals`).
- *init* is process 1 of the sandbox's PID namespace (`command`).  It installs a seccomp filter on itself (`seccomp`),
  starts the command, reaps orphans, and reports how the command ended.  When it exits, the kernel kills everything that
  the command left running.
- The *command* is what the user asked to run.  The filter notifies the supervisor of its ioctls on libnvdimm's and
  block devices and of module loading, and lets every other call pass.

As root there is one more: the *reaper* (`reaper`) outlives the supervisor and deletes its loop devices
(`loop_records`).

This package makes plain system calls (`libc`) and uses no FUSE library, because only the server needs one.
"""
