"""The command line, and its errors."""

from __future__ import annotations

import errno
import os
import re
import signal
import textwrap
import tomllib
from pathlib import Path

import mounting
import pytest
import sandboxes
from mounting import MACHINE, QUIET, TOY, cli, command, in_private_namespace, is_mounted, refusal, warm_cli

from nvdimmfs.fuse import requirements

# The command line itself


def test_version():
    done = cli("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"nvdimmfs \d+\.\d+\.\d+(rc\d+)?\n", done.stdout)


@pytest.mark.parametrize("arguments", [("--help",), ("mount", "--help"), ("umount", "--help")])
def test_help(arguments):
    done = cli(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: nvdimmfs" in done.stdout


def test_help_into_a_closed_pipe_is_silent():
    done = command("sh", "-c", f"{MACHINE[0]} -m nvdimmfs --help | true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("mount",),
        ("umount",),
        ("frobnicate",),
        ("mount", "--frobnicate", "x"),
        ("mount", "a", "b"),
        ("mount", ""),
        ("umount", ""),
        ("show", ""),
        ("trace", ""),
        ("dump", ""),
        ("save", "/sys", ""),
        ("mount", "a", "--media", ""),
        ("mount", "a", "--restore", ""),
        ("record", "--root", ""),
        ("run", "--media", "", "--", "true"),
        ("run", "--attach", "", "--", "true"),
    ],
)
def test_misuse_is_one_line(arguments, tmp_path):
    refusal(cli(*arguments, cwd=tmp_path), status=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", ["--help", "--version", "plan --help", "plan", "machine schema"])
@pytest.mark.parametrize(
    ("stdout", "reason"), [("/dev/full", "No space left on device"), ("&-", "Bad file descriptor")]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stdout_that_cannot_be_written_is_reported_in_one_line(arguments, stdout, reason, unbuffered):
    environment = mounting.environment() | {"PYTHONUNBUFFERED": unbuffered}
    done = command("sh", "-c", f"{' '.join(MACHINE)} {arguments} >{stdout}", env=environment)
    assert refusal(done) == f"cannot write to stdout: {reason}"


@pytest.mark.parametrize("words", ["machine schema", "lab coverage ."])
def test_commands_that_print_docstrings_need_them(words):
    done = cli(*words.split(), env=mounting.environment() | {"PYTHONOPTIMIZE": "2"})
    assert refusal(done).endswith(" is made of docstrings: run it without `python -OO` or PYTHONOPTIMIZE=2")


def test_a_limit_of_open_files_is_reported_with_a_remedy(tmp_path):
    done = command("sh", "-c", f"ulimit -n 8; exec {' '.join(MACHINE)} mount {tmp_path}")
    assert refusal(done).endswith("Too many open files; `ulimit -n 1024` in the shell raises the limit")


@pytest.mark.parametrize("module", ["nvdimmfs.cli.main", "argparse", "nvdimmfs.cli.machine", "cattrs"])
@pytest.mark.parametrize("entry", ["run_module('nvdimmfs', run_name='__main__')", "run_path('nvdimmfs')"])
def test_ctrl_c_during_start_up_exits_quietly_by_the_signal(module, entry, tmp_path):
    """It arrives during an import; `entry` is `python -m nvdimmfs`, or the script that pip makes of the entry point."""
    (point,) = tomllib.loads((mounting.ROOT / "pyproject.toml").read_text())["project"]["scripts"].values()
    (tmp_path / "nvdimmfs").write_text("from {} import {} as main\nmain()".format(*point.split(":")))
    script = f"""
        import os, runpy, signal, sys
        class Finder:
            def find_spec(self, name, *_):
                if name == {module!r}:
                    print("interrupted", flush=True)
                    os.kill(os.getpid(), signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # in case the tests were started with it ignored
        sys.meta_path.insert(0, Finder())
        runpy.{entry}
    """
    done = command(MACHINE[0], "-c", textwrap.dedent(script), "machine", "show", "one-dimm", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "interrupted\n", "")


def test_large_modules_are_imported_only_when_needed():
    script = (
        "import sys; sys.argv[1:] = ['umount', '/']; from nvdimmfs.cli.main import main; main(); print(*sys.modules)"
    )
    loaded = command(MACHINE[0], "-c", script).stdout.split()
    assert "nvdimmfs.cli.umount" in loaded
    assert not {"pyfuse3", "trio", "attrs", "nvdimmfs.cli.mount"} & set(loaded)


# Mounts that are refused


@pytest.mark.parametrize("option", ["--media", "--log", "--trace"])
@pytest.mark.parametrize("place", ["m", "m/media", "link", "./m/../m/x"])
def test_a_path_that_the_mount_would_cover_is_refused(option, place, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "link").symlink_to("m")
    line = refusal(cli("mount", "m", option, place, cwd=tmp_path), status=2)
    assert line.startswith(f"{option} /")
    assert line.endswith(": the mount would cover it; choose another place")
    assert list((tmp_path / "m").iterdir()) == []


@pytest.mark.parametrize("words", ["mount DIR", "umount DIR", "run -- true", "run --attach DIR -- true", "dump ."])
def test_a_removed_working_directory_is_reported(words, tmp_path):
    (tmp_path / "gone").mkdir()
    done = command("sh", "-c", f"cd {tmp_path}/gone; rmdir {tmp_path}/gone; exec {' '.join(MACHINE)} {words}")
    assert refusal(done) == "the working directory has been removed"


@pytest.mark.parametrize("sub_command", ["mount", "umount"])
def test_a_missing_directory(sub_command, tmp_path):
    assert refusal(cli(sub_command, tmp_path / "missing")) == f"{tmp_path / 'missing'} does not exist"


def test_control_characters_in_a_name_are_escaped(tmp_path):
    assert refusal(cli("mount", "a\nb\x1b[31m\udcff", cwd=tmp_path)) == f"{tmp_path}/a\\nb\\x1b[31m\\xff does not exist"


def test_control_characters_in_the_name_of_a_machine_file_are_escaped(tmp_path):
    done = cli("machine", "check", "a\x1b[31m\udcff", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("a\\x1b[31m\\xff: unknown machine; ")
    assert done.stderr.count("\n") == 1


def test_a_file_is_not_a_mount_point(tmp_path):
    (tmp_path / "file").touch()
    assert refusal(cli("mount", tmp_path / "file")) == f"{tmp_path / 'file'} is not a directory"


def test_a_directory_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert refusal(cli("mount", tmp_path)) == f"{tmp_path} is not empty"


@pytest.mark.parametrize("memmap", ["512M!", "512M@4G@", "banana", "512M!4G,", "0!4G", "512M"])
def test_a_memmap_that_the_kernel_would_ignore_is_refused(memmap, tmp_path):
    assert "memmap" in refusal(warm_cli("mount", tmp_path, "--memmap", memmap), status=2)


@pytest.mark.parametrize("ram", ["", "0", "4Q", "-1", "G", "4 G"])
def test_a_malformed_ram_size_is_refused(ram, tmp_path):
    assert "--ram" in refusal(warm_cli("mount", tmp_path, f"--ram={ram}"), status=2)


@pytest.mark.parametrize(
    ("ram", "limit"), [("1", "minimum is 128 MiB"), ("127M", "minimum is 128 MiB"), ("4P", "maximum is 4194302 GiB")]
)
@pytest.mark.parametrize("machine", [(), ("--machine", "qemu-nfit")])
def test_a_ram_size_out_of_range_is_refused(ram, limit, machine, tmp_path):
    assert f"--ram {ram}: " in (line := refusal(warm_cli("mount", tmp_path, f"--ram={ram}", *machine), status=2))
    assert line.endswith(limit)


def test_a_mount_of_another_file_system(fuse):
    assert refusal(cli("mount", "/proc")) == "/proc is already a mount point (of proc)"
    assert refusal(cli("umount", "/proc")) == "/proc is a mount of proc, not of nvdimmfs"


def test_umount_of_a_directory_without_a_mount(tmp_path):
    assert refusal(cli("umount", tmp_path)) == f"{tmp_path} is not mounted"


def test_a_second_mount_on_the_same_directory_is_refused(mount):
    assert refusal(cli("mount", mount.directory)) == f"{mount.directory} is already a mount of nvdimmfs"
    assert (mount.directory / "sys/plain/value").read_text() == "hello\n"


def test_a_log_that_cannot_be_opened_is_reported(fuse, tmp_path):
    (tmp_path / "m").mkdir()
    done = command(*TOY, "mount", tmp_path / "m", "--log", tmp_path / "missing" / "log", *QUIET)
    assert refusal(done) == f"{tmp_path}/missing/log: No such file or directory"
    assert not is_mounted(tmp_path / "m")


def test_without_dev_fuse(fuse, tmp_path):
    done = in_private_namespace("mount -t tmpfs none /dev", f"exec {' '.join(MACHINE)} mount {tmp_path}")
    assert refusal(done).startswith("/dev/fuse is missing; ")


def without_fusermount3(tmp_path, *arguments):
    """Run an ordinary user's command where the helper is not installed."""
    reason = sandboxes.why_no_ordinary_user()
    if reason:
        pytest.skip(reason)
    mountpoint = tmp_path / "m"
    mountpoint.mkdir()
    for folder in (tmp_path, mountpoint):
        folder.chmod(0o777)
    environment = mounting.environment() | {"PATH": str(tmp_path)}
    return command(*sandboxes.as_ordinary_user(tmp_path), *MACHINE, *arguments, env=environment)


def test_without_fusermount3_only_root_can_mount(fuse, tmp_path):
    assert refusal(without_fusermount3(tmp_path, "mount", tmp_path / "m")).startswith("fusermount3 is missing")


def test_without_fusermount3_an_ordinary_user_can_run_a_command(fuse, tmp_path):
    done = without_fusermount3(tmp_path, "run", "--", "/bin/sh", "-c", "exit 3")
    assert (done.returncode, done.stderr) == (3, "")


def test_the_helper_is_required_only_of_ordinary_users(monkeypatch, tmp_path):
    monkeypatch.setattr(requirements, "FUSE_DEVICE", Path(os.devnull))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(requirements.MountError, match="fusermount3 is missing"):
        requirements.require_fuse()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    requirements.require_fuse()


def test_the_helper_does_not_replace_permission_for_the_device(monkeypatch, tmp_path):
    helper = tmp_path / "fusermount3"
    helper.touch()
    helper.chmod(0o4755)

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(requirements.MountError, match=r"no permission to use .* chmod 666"):
        requirements.require_fuse()
