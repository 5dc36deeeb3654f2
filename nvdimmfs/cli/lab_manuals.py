"""The manuals of the actions of `nvdimmfs lab`, see `manual`."""

from __future__ import annotations

from nvdimmfs.cli.manual_parts import COMMON_STATUSES, Entry, Example, Manual

LAB_MANUALS = {
    "nvdimmfs lab": Manual(
        examples=(
            Example("nvdimmfs lab ask --shell 'ndctl list -RN'", "Run ndctl(1) on a real kernel."),
            Example("nvdimmfs lab record steps.jsonl story.recording", "Record the answers of a real kernel."),
            Example("nvdimmfs lab replay story.recording", "Compare the answers of nvdimmfs."),
        ),
        see_also=("nvdimmfs-lab-ask(1)", "nvdimmfs-lab-record(1)", "nvdimmfs-lab-replay(1)", "nvdimmfs-lab-fuzz(1)"),
    ),
    "nvdimmfs lab ask": Manual(
        details="""
        A guest is a virtual machine of QEMU with a kernel of Debian, the programs of this host that it needs (ndctl,
        daxctl, strace, bash, Python), and the DIMMs, legacy ranges and nodes of the machine. What QEMU cannot give
        is refused, with the key of the machine file. Nothing needs root.

        The first question to a machine boots a guest, which takes seconds or, without KVM on a busy host, a minute.
        The guest is saved, and resumed for each question, so that each finds a machine that has just booted.

        STEPS has one question on each line: {"op": "read", "path": "bus/nd/devices/region0/size"}. The answer is the
        same line with its "result".

        With --media, a guest boots on the persistent memory of a folder of `nvdimmfs mount --media`, or of a new one,
        and what it writes is there when it has ended. It shuts down after its last answer; with --power-cut, it loses
        what it has cached and not written.
        """,
        exit_statuses=(
            Entry("0", "The questions were asked; with --shell, the line succeeded."),
            Entry("1", "The guest cannot be made, or ended; with --shell, also the status of the line."),
            COMMON_STATUSES[2],
        ),
        examples=(
            Example("nvdimmfs lab ask --machine one-dimm --shell 'ndctl list -DR'", "Run a shell line."),
            Example("nvdimmfs lab ask --memmap '512M!4G' --ram 4G steps.jsonl", "Ask questions."),
            Example("nvdimmfs lab ask --kernel 6.12 --shell 'uname -r'", "Ask another kernel."),
            Example(
                "nvdimmfs lab ask --machine one-dimm --media media --shell 'ndctl create-namespace'",
                "Keep what the guest's kernel writes.",
            ),
        ),
        files=(
            Entry("$XDG_CACHE_HOME/nvdimmfs/lab", "Kernels, images and saved guests; it can be deleted at any time."),
        ),
        see_also=("nvdimmfs-machine(1)", "ndctl(1)"),
    ),
    "nvdimmfs lab record": Manual(
        details="""
        The questions are asked several times, each time of a guest that has just booted. A step whose answers differ,
        or a row of a dump, is marked as unstable, and no replay compares it. The recording names its machine: a
        built-in one, or a machine file that must be in the folder of the recording or above it.
        """,
        examples=(
            Example("nvdimmfs lab record --machine qemu-nfit steps.jsonl story.recording", "Record a story."),
            Example("nvdimmfs lab record --memmap '512M!4G' --runs 3 - story.recording", "Ask three guests."),
        ),
        see_also=("nvdimmfs-lab-ask(1)", "nvdimmfs-lab-replay(1)"),
    ),
    "nvdimmfs lab replay": Manual(
        details="""
        Each recording is a story that begins with the boot of a machine, so each is asked of a new machine. What
        differs is printed, then how many answers agree: by kind of answer and by attribute where some differ, and of
        each recording. Stories about programs need a machine that programs find in /sys: that of --guest, or --sys /sys
        in a sandbox.

        A guest is not asked a story whose machine QEMU cannot give, one that goes on after another, or one that uses
        files of nvdimmfs's own, in /sys/kernel/debug/nvdimmfs, other than modules and plug. Each is named with the
        reason.
        """,
        exit_statuses=(
            Entry("0", "All answers that were compared agree."),
            Entry("1", "Some differ, a recording cannot be read, or a guest cannot be made or ended."),
            COMMON_STATUSES[2],
        ),
        examples=(
            Example("nvdimmfs lab replay tests/recordings/e820", "Replay all recordings in a folder."),
            Example("nvdimmfs lab replay --guest --kernel 6.12 story.recording", "Ask another kernel."),
            Example(
                "nvdimmfs run --machine qemu-nfit -- nvdimmfs lab replay --sys /sys story.recording",
                "Replay a story about programs.",
            ),
        ),
        see_also=("nvdimmfs-lab-record(1)", "nvdimmfs-run(1)"),
    ),
    "nvdimmfs lab fuzz": Manual(
        details="""
        A walk is a random sequence of writes, sense and nonsense mixed, with questions between them. It is chosen on
        an emulated machine, by its seed. A guest is asked the same. If an answer differs, guests are asked at other
        speeds of the processor, at which races of the kernel end otherwise: one that agrees to the end is enough. If
        two give the same answers up to one that differs from the emulated machine's, the writes that matter are found,
        and the shortest story that shows the difference is written as a recording, FOLDER/fuzz-SEED.recording. What
        remains after a race that never ends as in the emulated machine is left out, and so are writes at which the
        kernel panics; both are counted.
        """,
        exit_statuses=(
            Entry("0", "All answers agree."),
            Entry("1", "Some differ, or no guest can be made."),
            COMMON_STATUSES[2],
        ),
        examples=(
            Example("nvdimmfs lab fuzz --machine qemu-nfit --moves 100 --seed 4711", "Make one walk."),
            Example("nvdimmfs lab fuzz --memmap '512M!4G' --walks 100 --jobs 4 --out found", "Make a hundred."),
            Example("nvdimmfs lab fuzz --shape nfit --moves 400 --walks 20", "Make twenty, on twenty machines."),
        ),
        files=(
            Entry("FOLDER/fuzz-SEED.recording", "The story of a walk on which an answer differs."),
            Entry("FOLDER/fuzz-SEED.toml", "With --shape: the machine of that walk."),
        ),
        see_also=("nvdimmfs-lab-replay(1)",),
    ),
    "nvdimmfs lab coverage": Manual(
        details="""
        Prints for each attribute and each ioctl what recordings show of it, with the kernels and the number of
        recordings, then what is declared, but shown by none.
        """,
        examples=(Example("nvdimmfs lab coverage --uncovered tests/recordings", "Find what is still to be asked."),),
        see_also=("nvdimmfs-lab-record(1)",),
    ),
    "nvdimmfs lab build-nfit-test": Manual(
        details="""
        The kernel's own test platform is the module nfit_test in tools/testing/nvdimm. Debian does not build it, nor
        the variants of libnvdimm, nfit, nd_pmem, nd_btt, nd_e820, device_dax and dax_pmem that it needs. This command
        does, for one kernel, in a minute or two; afterwards, the other actions of `nvdimmfs lab` accept --machine
        nfit_test with that kernel.

        For a kernel of Debian's, the packages linux-headers-RELEASE, those that it depends on, and linux-source of the
        same version are downloaded by `apt-get download`, about 170 MB, and unpacked into the cache; nothing is
        installed. Of a kernel that the user has built, lib/modules/RELEASE/build and source are used. The compiler is
        that with which the kernel was built, such as gcc-12.
        """,
        exit_statuses=(
            Entry("0", "The modules are there, in the folder that was printed."),
            Entry("1", "A package or a program is missing, or make failed; one line names the reason."),
            COMMON_STATUSES[2],
        ),
        examples=(Example("nvdimmfs lab build-nfit-test --kernel 6.12", "Build them for Debian's 6.12."),),
        files=(Entry("$XDG_CACHE_HOME/nvdimmfs/lab/nfit_test-*", "The modules; they can be deleted at any time."),),
        see_also=("nvdimmfs-lab-ask(1)", "nvdimmfs-lab-replay(1)"),
    ),
}
