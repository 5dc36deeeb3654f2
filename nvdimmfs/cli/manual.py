"""The parts of a command's manual that its parser does not hold.  `--help` prints some of it, the man pages all.

The module is imported only when one of these is made.
"""

from __future__ import annotations

from inspect import cleandoc

from nvdimmfs.cli.lab_manuals import LAB_MANUALS
from nvdimmfs.cli.manual_parts import COMMON_STATUSES, Entry, Example, Manual

_MEMMAP_OF_8G = "'512M!4G,256M!6G' --ram 8G"

MANUALS = {
    "nvdimmfs": Manual(
        details="""
        The mounted directory holds the /sys, /dev and /proc of a machine with persistent memory. Reads return
        what the kernel would return; writes to attributes bind drivers, create namespaces and lay out pfn, dax
        and btt devices, or fail with the errno of the kernel.

        `nvdimmfs mount` makes such a tree for programs and scripts that take a path. `nvdimmfs run` starts a
        command that finds the machine in /sys and /dev themselves, so that unmodified tools such as ndctl(1)
        and daxctl(1) work on it.

        Neither needs root or persistent memory. The host must have /dev/fuse; `nvdimmfs doctor` reports what else
        is missing.
        """,
        examples=(
            Example(f"nvdimmfs mount DIR --memmap {_MEMMAP_OF_8G}", "Mount a machine with two legacy ranges."),
            Example("echo namespace0.0 > DIR/sys/bus/nd/drivers/nd_pmem/unbind", "Unbind the driver of a namespace."),
            Example("nvdimmfs umount DIR", "Unmount it."),
            Example("nvdimmfs run --machine nfit_test -- ndctl list -RN", "List regions and namespaces with ndctl(1)."),
        ),
        see_also=("ndctl(1)", "daxctl(1)", "fusermount3(1)"),
    ),
    "nvdimmfs mount": Manual(
        details="""
        The command returns once the mount answers; a daemon serves it until it is unmounted. The machine starts
        anew with each mount. Only the bytes of its persistent memory and label areas can outlive the mount,
        with --media.

        A SIZE is a number of bytes with an optional suffix K, M, G, T, P or E, in powers of 1024. RANGES is a
        list of size!start, as for the kernel's memmap= parameter, or size%start-old+new for soft reserved
        memory. Quote it: the shell interprets the exclamation mark.
        """,
        exit_statuses=(
            Entry("0", "The machine is mounted; with --foreground, it was mounted and is unmounted now."),
            Entry("1", "It could not be mounted; one line on stderr gives the reason."),
            COMMON_STATUSES[2],
        ),
        examples=(
            Example(f"nvdimmfs mount DIR --memmap {_MEMMAP_OF_8G}", "512 MiB at 4 GiB and 256 MiB at 6 GiB."),
            Example("nvdimmfs mount DIR --machine nfit_test", "The DIMMs of the kernel's nfit_test module."),
            Example("nvdimmfs mount DIR --machine one-dimm --media ./bytes", "Keep the persistent memory in files."),
            Example("nvdimmfs mount DIR --ram 8G --log refused.log", "Log why a write is refused."),
        ),
        files=(
            Entry("DIR/sys, DIR/dev, DIR/proc", "The machine."),
            Entry(
                "DIR/sys/kernel/debug/nvdimmfs",
                "Memory zones, sections and address translation; failures can be injected here.",
            ),
        ),
        see_also=("nvdimmfs-umount(1)", "nvdimmfs-machine(1)", "nvdimmfs-show(1)", "nvdimmfs-run(1)"),
    ),
    "nvdimmfs trace": Manual(
        details="""
        Each call is a line, in the form of strace(1): the time on the host and on the machine's clock, the process,
        the call with its bytes, the answer and its reason. What the kernel did because of it follows, indented.

        A machine records only when it is asked to: by --follow, as long as the command runs; or from the moment at
        which `on` was written to the file below. It keeps the last 10000 lines.

        A machine that is followed is busy: end this command before `nvdimmfs umount`, or unmount with --lazy.
        """,
        exit_statuses=(
            Entry("0", "The trace was printed; with --follow, the machine has ended."),
            *COMMON_STATUSES[1:],
        ),
        examples=(
            Example("nvdimmfs trace DIR --follow", "Print what happens from now on."),
            Example("nvdimmfs trace DIR --follow --only writes,ioctls", "Writes and ioctls alone."),
            Example("nvdimmfs trace DIR --only refused --json", "The refused calls that are kept, for programs."),
        ),
        files=(
            Entry(
                "DIR/sys/kernel/debug/nvdimmfs/trace",
                "The trace as text; `trace.jsonl` beside it has JSON Lines. `on`, `off`, `clear` and `size N` can be "
                "written to either.",
            ),
        ),
        see_also=("nvdimmfs-mount(1)", "nvdimmfs-run(1)", "strace(1)"),
    ),
    "nvdimmfs save": Manual(
        details="""
        The file has what would survive a power cycle: the machine file, with DIMMs that were plugged in, and all
        bytes of persistent memory and label areas. They are those of one moment: a write is in the file or not,
        whole. The machine can be in use meanwhile. Bytes that are zero take no room.

        `nvdimmfs mount --restore FILE` and `nvdimmfs run --restore FILE` boot the machine again.
        """,
        examples=(Example("nvdimmfs save DIR machine.saved", "Save the machine that is mounted on DIR."),),
        files=(Entry("DIR/sys/kernel/debug/nvdimmfs/saved", "What the file gets; each open(2) starts anew."),),
        see_also=("nvdimmfs-mount(1)", "nvdimmfs-run(1)"),
    ),
    "nvdimmfs umount": Manual(
        details="""
        The command waits until the daemon has written out the media and ended. It also removes the mount that a
        killed daemon left behind.
        """,
        examples=(
            Example("nvdimmfs umount DIR", "Unmount the machine on DIR."),
            Example("nvdimmfs umount --lazy DIR", "Detach it although files in it are open."),
        ),
        see_also=("nvdimmfs-mount(1)", "fusermount3(1)", "umount(8)"),
    ),
    "nvdimmfs start": Manual(
        details="""
        The command returns once the mount answers, and prints assignments of NVDIMMFS_DIR, the directory, and of
        NVDIMMFS_SYS, NVDIMMFS_DEV and NVDIMMFS_PROC, the machine's /sys, /dev and /proc. The directory is new, in
        TMPDIR or /tmp, and only the user may enter it. It is removed when the machine is unmounted, with
        `nvdimmfs stop` or `nvdimmfs umount`.

        If it fails, or is killed before it has printed all, nothing is left; a failure prints `false`, so that
        eval fails as well.
        """,
        examples=(
            Example('eval "$(nvdimmfs start --machine nfit_test)"', "Mount a machine, and set the variables."),
            Example('ls "$NVDIMMFS_SYS/bus/nd/devices"', "Use it."),
            Example("nvdimmfs start --json", "The same for another program."),
        ),
        files=(Entry("$TMPDIR/nvdimmfs-start-*", "The directories."),),
        see_also=("nvdimmfs-stop(1)", "nvdimmfs-mount(1)", "nvdimmfs-run(1)"),
    ),
    "nvdimmfs stop": Manual(
        details="""
        The command waits until the daemon has written out the media and ended. It also removes what a killed daemon
        has left.
        """,
        examples=(Example("nvdimmfs stop", "Unmount the machine of the last `nvdimmfs start`."),),
        see_also=("nvdimmfs-start(1)", "nvdimmfs-umount(1)"),
    ),
    "nvdimmfs run": Manual(
        details="""
        The command and its children find the machine's devices, drivers and memory in /sys, /dev and /proc, and
        its modules in /lib/modules. ioctl(2) on the device nodes is answered as the kernel would answer, and
        uevents arrive over netlink. Stdin, stdout, the environment and the working directory are passed
        through. Nothing that the command started outlives it.

        Root is not needed where the host permits unprivileged user namespaces. Block devices that can be
        formatted and mounted need root.
        """,
        exit_statuses=(
            Entry("1", "The machine could not be started; one line on stderr gives the reason."),
            COMMON_STATUSES[2],
            Entry("126", "COMMAND was found, but cannot be executed."),
            Entry("127", "COMMAND was not found."),
            Entry("other", "The exit status of COMMAND. If a signal ended COMMAND, nvdimmfs ends by the same signal."),
        ),
        examples=(
            Example("nvdimmfs run -- ndctl list -RN", "List the default machine with ndctl(1)."),
            Example("nvdimmfs run --machine qemu-nfit --media ./bytes -- bash", "A shell on a machine with two DIMMs."),
            Example("nvdimmfs run --attach DIR -- daxctl list", "Use the machine that is mounted on DIR."),
        ),
        files=(Entry("/run/nvdimmfs/machine", "The mount of the machine, as COMMAND finds it."),),
        see_also=("nvdimmfs-doctor(1)", "nvdimmfs-mount(1)", "ndctl(1)", "daxctl(1)", "user_namespaces(7)"),
    ),
    "nvdimmfs serve": Manual(
        details="""
        Loading the program takes most of the time of a `nvdimmfs mount` or `nvdimmfs run`. A server loads it once.
        While it is there, they and `nvdimmfs start` let a process that the server forks do their work; output,
        exit status and effects are the same. There is one server for each user.

        A command is not left to the server, but carried out as always, where it would make a difference: when the
        caller has other credentials, capabilities, namespaces, limits, a control group or a scheduling priority of
        its own, when no_new_privs is set, or when a standard file of `run` is a terminal. Nor is it when the program
        has changed since the server was started, or when the server does not answer. NVDIMMFS_SERVE=no in the
        environment turns the use of the server off.
        """,
        exit_statuses=(
            Entry(
                "0",
                "The server is there; with --foreground, it has ended; with --stop, it accepts no commands any more.",
            ),
            Entry("1", "It could not be started, or with --stop, there is none; one line on stderr gives the reason."),
            COMMON_STATUSES[2],
        ),
        examples=(
            Example("nvdimmfs serve", "Start the server."),
            Example("nvdimmfs serve --stop", "End it."),
        ),
        files=(
            Entry("$XDG_RUNTIME_DIR/nvdimmfs/socket", "The socket; its directory must be the user's, of mode 0700."),
            Entry("/run/nvdimmfs-serve/socket", "The same for root, without XDG_RUNTIME_DIR."),
        ),
        see_also=("nvdimmfs-mount(1)", "nvdimmfs-run(1)"),
    ),
    "nvdimmfs doctor": Manual(
        details="""
        It mounts a file system on a temporary directory, and runs a command in a sandbox, in processes of their own.
        Each line is one finding: ok, limited (--) or missing (NO). A line below it names the command, setting or flag
        that would improve it.
        """,
        exit_statuses=(
            Entry("0", "`nvdimmfs mount` and `nvdimmfs run` work, perhaps with limits; with --for, the one asked for."),
            Entry("1", "At least one of them does not work on this host."),
            COMMON_STATUSES[2],
        ),
        examples=(
            Example("nvdimmfs doctor", "Check this host."),
            Example("nvdimmfs doctor --for mount", "Check it for tests that only mount."),
        ),
        see_also=("nvdimmfs-run(1)", "nvdimmfs-mount(1)"),
    ),
    "nvdimmfs show": Manual(
        details="""
        The drawing begins with the physical address map. For each namespace and label area it shows the info
        blocks, the struct pages, the data and the space that alignment wastes, with their addresses and sizes.
        --svg draws the same machine as a picture: the memory modules, the ranges that they form, and the
        namespaces.
        """,
        examples=(
            Example("nvdimmfs show DIR", "Draw the machine that is mounted on DIR."),
            Example("nvdimmfs show DIR --svg layout.svg", "Write a picture to a file."),
            Example("nvdimmfs run -- nvdimmfs show /run/nvdimmfs/machine", "Draw the machine of a command."),
        ),
        files=(Entry("DIR/sys/kernel/debug/nvdimmfs/layout", "What is drawn, as JSON."),),
        see_also=("nvdimmfs-plan(1)", "nvdimmfs-machine-show(1)"),
    ),
    "nvdimmfs dump": Manual(
        details="""
        The dump contains the buses nd and dax, the classes nd, dax and nfit_test_dimm, and their devices with all
        attributes, links and modes; disks are among them. It has one line for each, sorted, so that two dumps can
        be compared with `nvdimmfs diff` or diff(1).

        DIR is where a machine is mounted, /sys, or a copy of a /sys. Reading the attributes of a real machine
        changes nothing. A file that only root can read is in the dump of another user with the errno of the
        refusal.
        """,
        examples=(
            Example("nvdimmfs dump DIR -o before.dump", "Write the dump of a mounted machine to a file."),
            Example("nvdimmfs dump /sys", "Print the dump of this host."),
        ),
        see_also=("nvdimmfs-diff(1)", "nvdimmfs-show(1)"),
    ),
    "nvdimmfs diff": Manual(
        details="""
        Each of A and B is where a machine is mounted, /sys, a copy of a /sys, or a file that `nvdimmfs dump`
        wrote. The output has one line for each difference: a device that appeared or is gone, and for the
        devices in both, attributes, links, drivers and modes.
        """,
        exit_statuses=(
            Entry("0", "Nothing differs."),
            Entry("1", "Something differs; it is on stdout."),
            Entry("2", "A or B cannot be read; one line on stderr gives the reason."),
        ),
        examples=(
            Example("nvdimmfs diff before.dump DIR", "Report what has changed since a dump."),
            Example("nvdimmfs diff DIR /sys", "Compare a mounted machine with this host."),
        ),
        see_also=("nvdimmfs-dump(1)", "diff(1)"),
    ),
    "nvdimmfs plan": Manual(
        details="""
        The kernel needs 64 bytes of struct page for each page of 4 KiB. The table compares the two places for
        them: RAM (mode ram) and the persistent memory itself (mode pmem). Nothing is mounted.
        """,
        examples=(
            Example("nvdimmfs plan", "Compare typical capacities."),
            Example("nvdimmfs plan --size 6T --ram 192G", "One capacity beside 192 GiB of RAM."),
        ),
        see_also=("nvdimmfs-show(1)",),
    ),
    "nvdimmfs machine": Manual(
        details="""
        A machine file is TOML: the RAM, the kernel, the DIMMs with their label areas, and the ranges that are
        interleaved over them.
        """,
        examples=(
            Example("nvdimmfs machine list", "List the built-in machines."),
            Example("nvdimmfs machine check ./my-machine.toml", "Check a machine file."),
        ),
        see_also=("nvdimmfs-mount(1)", "nvdimmfs-record(1)"),
    ),
    "nvdimmfs machine list": Manual(
        examples=(Example("nvdimmfs machine list", "List the built-in machines."),),
        see_also=("nvdimmfs-machine-show(1)",),
    ),
    "nvdimmfs machine show": Manual(
        details="""
        The drawing shows the physical address map, the DIMMs with the parts that regions use, and the parts of
        DIMMs that each region is interleaved over.
        """,
        examples=(
            Example("nvdimmfs machine show two-socket-6way", "Draw a built-in machine."),
            Example("nvdimmfs machine show nfit_test --svg nfit_test.svg", "Write a picture to a file."),
        ),
        see_also=("nvdimmfs-machine-list(1)", "nvdimmfs-show(1)"),
    ),
    "nvdimmfs machine check": Manual(
        exit_statuses=(
            Entry("0", "All files describe machines that can be mounted."),
            Entry("1", "Some do not; stderr names each mistake with its place."),
            COMMON_STATUSES[2],
        ),
        examples=(Example("nvdimmfs machine check ./my-machine.toml", "Check a machine file."),),
        see_also=("nvdimmfs-machine-schema(1)",),
    ),
    "nvdimmfs machine schema": Manual(
        examples=(Example("nvdimmfs machine schema", "Print the schema, to be redirected to a file."),),
        see_also=("nvdimmfs-machine-check(1)",),
    ),
    "nvdimmfs record": Manual(
        details="""
        The machine file goes to stdout. Comments in it name what sysfs does not show. DIMMs are asked for
        their label areas, health and firmware by commands that change nothing. The contents of persistent
        memory are not read.
        """,
        exit_statuses=(
            Entry("0", "The machine file can be mounted as it is."),
            Entry("1", "There is none, or it must be corrected by hand first; stderr gives the places."),
            COMMON_STATUSES[2],
        ),
        examples=(
            Example("nvdimmfs record", "Describe this machine."),
            Example("nvdimmfs record --root ./copy-of-sys", "Describe the machine that a copy of /sys is from."),
        ),
        see_also=("nvdimmfs-machine(1)", "nvdimmfs-mount(1)"),
    ),
    **LAB_MANUALS,
}


def manual_of(prog: str) -> Manual:
    """The manual of a command, by its full name, such as `nvdimmfs machine list`."""
    return MANUALS.get(prog, Manual())


def paragraphs_of(prog: str) -> tuple[str, ...]:
    """The details of a command, a line for each paragraph."""
    text = cleandoc(manual_of(prog).details)
    return tuple(" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph)


def statuses_of(prog: str) -> tuple[Entry, ...]:
    """All exit statuses of a command."""
    return manual_of(prog).exit_statuses or COMMON_STATUSES


def help_text(prog: str) -> str:
    """What `--help` prints below the options: examples, and the exit statuses that are not the common ones."""
    manual = manual_of(prog)
    blocks = []
    if manual.examples:
        blocks.append("\n".join(("examples:", *(f"  {each.command}" for each in manual.examples))))
    if manual.exit_statuses:
        blocks.append("\n".join(("exit status:", *(f"  {each.term:<6} {each.text}" for each in manual.exit_statuses))))
    return "".join(f"\n{block}\n" for block in blocks)
