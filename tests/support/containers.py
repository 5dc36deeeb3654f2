"""Containers for tests, made by runc(8) or crun(1) of the host's own files: no image is needed.

A container is described by what the flags of docker, podman and Kubernetes change: capabilities, devices, the seccomp
profile, the paths of /proc and /sys that are covered, the user.  The defaults are those of `docker run` without flags
(oci/defaults.go and profiles/seccomp of moby 24).
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import mounting

#: What a container's root may do by default.
_CAPABILITIES = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)

_ALL_CAPABILITIES = (
    *_CAPABILITIES,
    *("DAC_READ_SEARCH", "IPC_LOCK", "LEASE", "LINUX_IMMUTABLE", "NET_ADMIN", "NET_BROADCAST", "SYS_ADMIN"),
    *("SYS_MODULE", "SYS_NICE", "SYS_PTRACE", "SYS_RAWIO", "SYS_TTY_CONFIG", "SYSLOG", "BLOCK_SUSPEND"),
)

#: System calls that the default profile permits to holders of CAP_SYS_ADMIN alone.
_FOR_ADMINISTRATORS = (
    *("mount", "umount2", "unshare", "setns", "pivot_root", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree"),
    *("move_mount", "mount_setattr", "quotactl", "sethostname", "setdomainname", "lookup_dcookie", "bpf"),
)

#: System calls that it permits to nobody.
_FOR_NOBODY = ("add_key", "keyctl", "request_key", "userfaultfd", "nfsservctl", "uselib", "vm86")

#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET, with which the profile refuses clone(2).
_NAMESPACE_FLAGS = 0x7E020000

_MASKED = (
    *("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"),
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

#: The user of the host who is root in a container with a user namespace.
_FIRST_ID = 100000

#: Numbers of devices (Documentation/admin-guide/devices.txt).
_NUMBERS = {"fuse": (10, 229), "loop-control": (10, 237)}

#: Where the nvdimmfs that is tested and its Python are, besides /usr.
_PROGRAM = tuple(dict.fromkeys((mounting.ROOT, Path(sys.prefix), Path(sys.base_prefix))))


@attrs.frozen
class Container:
    """A container, as flags of `docker run` describe it.

    Attributes:
        capabilities: --cap-add.
        devices: --device, each the name of one in /dev.
        device_rules: --device-cgroup-rule, each a type of device and a major number.
        privileged: --privileged.
        seccomp: False for --security-opt seccomp=unconfined.
        masked: False for --security-opt systempaths=unconfined.
        user: --user.
        namespace: whether the container has a user namespace, in which the user of the test is root (rootless podman).
        read_only: --read-only, with --tmpfs /tmp.
        etc: files in /etc besides those that a program needs to start; passwd and mtab by default.
        covers: files of the host that a container shows at a path, instead of the file there.
        permits_devices: False for nodes that are there although the container may not use them, as those of a volume.
    """

    capabilities: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    device_rules: tuple[tuple[str, int], ...] = ()
    privileged: bool = False
    seccomp: bool = True
    masked: bool = True
    user: int = 0
    namespace: bool = False
    read_only: bool = False
    etc: Mapping[str, str] = attrs.Factory(
        lambda: {"passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n", "mtab": "-> /proc/mounts"}
    )
    covers: Mapping[str, Path] = attrs.Factory(dict)
    permits_devices: bool = True

    @classmethod
    def from_flags(cls, words: Sequence[str]) -> Container:
        """The container for the flags of `docker run` or `podman run`, each with its value as a word of its own."""
        container = cls()
        flags = iter(words)
        for flag in flags:
            match flag:
                case "--privileged":
                    # Docker shows all devices of the host; these are the ones that matter.
                    container = attrs.evolve(container, privileged=True, devices=("fuse", "loop-control"))
                case "--read-only":
                    container = attrs.evolve(container, read_only=True)
                case _:
                    container = container._with_option(flag, next(flags))
        return container

    def _with_option(self, flag: str, value: str) -> Container:
        match flag, value:
            case "--device", device:
                return attrs.evolve(self, devices=(*self.devices, device.removeprefix("/dev/")))
            case "--device-cgroup-rule", rule:
                kind, major = rule.removesuffix(":* rmw").split()
                return attrs.evolve(self, device_rules=(*self.device_rules, (kind, int(major))))
            case "--cap-add", name:
                return attrs.evolve(self, capabilities=(*self.capabilities, name))
            case "--user", user:
                return attrs.evolve(self, user=int(user))
            case "--security-opt", "seccomp=unconfined":
                return attrs.evolve(self, seccomp=False)
            case "--security-opt", "systempaths=unconfined" | "unmask=ALL":
                return attrs.evolve(self, masked=False)
            case "--security-opt", "apparmor=unconfined" | "label=disable":
                return self  # no security module confines the containers that are made here
            case "--tmpfs", "/tmp":
                return self
        raise ValueError(f"{flag} {value}")

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the container, which is gone afterwards; `nvdimmfs` is on its PATH."""
        runtime, reason = _runtime()
        assert runtime, reason
        return self.run_with(runtime, script)

    def run_with(self, runtime: str, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the container, made by this runtime."""
        name = f"nvdimmfs-{uuid.uuid4()}"
        with tempfile.TemporaryDirectory(prefix="nvdimmfs-container-") as folder:
            bundle = Path(folder)
            bundle.chmod(0o755)
            (bundle / "rootfs").mkdir()
            self._make_root(bundle / "rootfs")
            configuration = self._configuration(bundle, script)
            (bundle / "config.json").write_text(json.dumps(configuration))
            program = (runtime, "--root", bundle / "state")
            try:
                return mounting.command(*program, "run", "--bundle", bundle, name, stdin=subprocess.DEVNULL)
            finally:
                mounting.command(*program, "delete", "--force", name)

    def _make_root(self, root: Path) -> None:
        """Make the root directory: mount points, the links of a merged /usr, and a small /etc."""
        root.chmod(0o755)
        for name in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr"):
            (root / name).mkdir()
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            if Path("/", name).is_symlink():
                (root / name).symlink_to(Path("/", name).readlink())
        for name, text in self.etc.items():
            if text.startswith("-> "):
                (root / "etc" / name).symlink_to(text.removeprefix("-> "))
            else:
                (root / "etc" / name).write_text(text)
        shutil.copy("/etc/ld.so.cache", root / "etc")
        program = root / "program" / "nvdimmfs"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m nvdimmfs "$@"\n')
        program.chmod(0o755)
        (root / "tmp").chmod(0o1777)
        for folder in _PROGRAM:
            (root / folder.relative_to("/")).mkdir(parents=True, exist_ok=True)
        for number, device in enumerate(self.devices):
            _make_node(root.parent / f"device{number}", device)
        if self.namespace:
            for path in (root, *root.rglob("*")):
                os.lchown(path, _FIRST_ID, _FIRST_ID)

    def _configuration(self, bundle: Path, script: str) -> dict[str, object]:
        held = _ALL_CAPABILITIES if self.privileged else (*_CAPABILITIES, *self.capabilities)
        capabilities = [f"CAP_{name}" for name in held]
        effective = [] if self.user else capabilities
        namespaces = ["mount", "pid", "ipc", "uts", "network", *(["user"] if self.namespace else [])]
        linux: dict[str, object] = {
            "namespaces": [{"type": each} for each in namespaces],
            "resources": {"devices": self._permitted_devices()},
        }
        if self.namespace:
            ids = [{"containerID": 0, "hostID": _FIRST_ID, "size": 65536}]
            linux |= {"uidMappings": ids, "gidMappings": ids}
        if not self.privileged:
            if self.masked:
                linux |= {"maskedPaths": _MASKED, "readonlyPaths": _READ_ONLY}
            if self.seccomp:
                linux |= {"seccomp": _seccomp_profile("SYS_ADMIN" in held)}
        return {
            "ociVersion": "1.0.2",
            "process": {
                "args": ["/bin/sh", "-c", script],
                "cwd": "/",
                "env": [
                    "PATH=/program:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    f"PYTHONPATH={mounting.ROOT}",
                    f"PYTHONPYCACHEPREFIX={mounting.BYTECODE}",  # to read: in a container, no file of it is writable
                ],
                "user": {"uid": self.user, "gid": self.user},
                "capabilities": {
                    "bounding": capabilities,
                    "permitted": effective,
                    "effective": effective,
                },
                "noNewPrivileges": False,
            },
            "root": {"path": str(bundle / "rootfs"), "readonly": self.read_only},
            "mounts": list(self._mounts(bundle)),
            "linux": linux,
        }

    def _permitted_devices(self) -> list[dict[str, object]]:
        if self.privileged:
            return [{"allow": True, "access": "rwm"}]
        own = [_NUMBERS[device] for device in self.devices if self.permits_devices]
        return [
            {"allow": False, "access": "rwm"},
            *({"allow": True, "type": "c", "major": a, "minor": b, "access": "rwm"} for a, b in own),
            *({"allow": True, "type": kind, "major": major, "access": "rwm"} for kind, major in self.device_rules),
            *({"allow": True, "type": kind, "access": "m"} for kind in "cb"),
        ]

    def _mounts(self, bundle: Path) -> Iterator[dict[str, object]]:
        yield _mount("/proc", "proc", "proc")
        yield _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755")
        yield _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
        writable = () if self.privileged else ("ro",)
        yield _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", *writable)
        yield _mount("/tmp", "tmpfs", "tmpfs", "mode=1777")
        yield _mount("/run", "tmpfs", "tmpfs", "mode=755")
        for folder in (Path("/usr"), *_PROGRAM):
            if folder == Path("/usr") or not folder.is_relative_to("/usr"):
                yield _mount(str(folder), "bind", str(folder), "rbind", "ro")
        for number, device in enumerate(self.devices):
            yield _mount(f"/dev/{device}", "bind", str(bundle / f"device{number}"), "bind")
        for path, source in self.covers.items():
            yield _mount(path, "bind", str(source), "bind")


def why_not() -> str | None:
    """The reason why no container can be made here; None when one can."""
    if os.geteuid() != 0:
        return "needs root, to make containers"
    return mounting.why_not() or _runtime()[1] or None


@functools.cache
def _runtime() -> tuple[str, str]:
    """A runtime that can make containers here; or an empty name, and the reasons why none can."""
    reasons = []
    for name in ("runc", "crun"):
        path = shutil.which(name)
        if path is None:
            reasons.append(f"{name} (Debian package of that name) is not installed")
            continue
        done = Container().run_with(path, "true")
        if done.returncode == 0:
            return path, ""
        reasons.append(f"{name}: {done.stderr.strip()}")
    return "", "; ".join(reasons)


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, object]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _make_node(path: Path, device: str) -> None:
    """A device node as most hosts have it; for the device of FUSE, udev(7) lets all users open it."""
    path.parent.chmod(0o755)
    os.mknod(path, stat.S_IFCHR, os.makedev(*_NUMBERS[device]))
    path.chmod(0o666)


def _seccomp_profile(administrator: bool) -> dict[str, object]:
    """The default profile of docker and podman, as far as it matters here."""
    refused = [*_FOR_NOBODY, *(() if administrator else _FOR_ADMINISTRATORS)]
    profile: list[dict[str, object]] = [{"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
    if not administrator:
        for flag in (bit for bit in range(32) if _NAMESPACE_FLAGS >> bit & 1):
            arguments = [{"index": 0, "value": 1 << flag, "valueTwo": 1 << flag, "op": "SCMP_CMP_MASKED_EQ"}]
            profile.append({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": arguments})
        profile.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38})
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": profile}
