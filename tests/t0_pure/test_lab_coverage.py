"""What recordings cover: recordings of each form, and what is declared and shown by none."""

import json

import pytest

from nvdimmfs.cli.main import main
from nvdimmfs.lab.attribute_tables import attribute_at
from nvdimmfs.lab.coverage import coverage, errnos_in, uncovered, undeclared
from nvdimmfs.lab.evidence import shown_by

HEADER = {"machine": {"machine": "qemu-nfit"}, "kernel": "6.1.0-57-amd64"}
BTT_SIZE = ("BTTs", "sector_size")
PACKAGE = "0000000000000000 0b00000000000000 00*48"


def written(tmp_path, name, first, *lines):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in (first, *lines)))
    return path


def facts(path):
    return sorted((fact.subject.name, fact.act, fact.outcome) for fact in shown_by(path).facts)


def test_a_recording_shows_reads_writes_and_refusals(tmp_path):
    story = written(
        tmp_path,
        "story.recording",
        {"recording": 1, **HEADER, "skips": [[]]},
        ["read", "bus/nd/devices/region0/size", "1\n"],
        ["write", "bus/nd/devices/region0/size", "1", {"errno": "EACCES"}],
        ["write", "bus/nd/devices/region0/read_only", "1", 1],
        ["write", "bus/nd/devices/region0/read_only", "x", {"errno": "EINVAL"}, {"unstable": True}],
        ["ioctl", "pmem0", 0x125E, "00*4", [0, "01000000"]],
        ["ioctl", "pmem0", 0x1260, "", {"errno": "EFAULT"}],
        ["dump", "devices/platform/x/ndbus0/region0", {}],
    )
    rows = [
        [".", "drwxr-xr-x"],
        ["mapping3", "-r--r--r--", 4096, "nmem3,0,1,0\n"],
        ["deep_flush", "--w-------", 4096],
        ["resource", "-r--------", 4096, "0x1\n", {"unstable": True}],
        ["numa_node", "-r--r--r--", 4096, {"errno": "EIO"}],
    ]
    with story.open("a") as file:
        file.writelines(f" {json.dumps(row)}\n" for row in rows)
    assert facts(story) == [
        ("BLKGETSIZE", "ioctl", "EFAULT"),
        ("BLKROGET", "ioctl", ""),
        ("any request", "ioctl", ""),
        ("any request", "ioctl", "EFAULT"),
        ("mappingN", "read", ""),
        ("numa_node", "read", "EIO"),
        ("read_only", "write", ""),
        ("size", "read", ""),
        ("size", "write", "EACCES"),
    ]
    assert shown_by(story).kernel == "6.1"


def test_lists_of_calls_show_ioctls(tmp_path):
    story = written(
        tmp_path,
        "ioctls.jsonl",
        HEADER,
        {"ioctl": "nmem0", "request": 0xC0404E0A, "memory": PACKAGE.replace("0b", "01"), "answer": {"result": 0}},
        {"ioctl": "ndctl0", "request": 0xC0204E01, "answer": {"errno": "EFAULT"}},
        {"ioctl": "pmem0", "request": 0x1260, "answer": {"result": 0, "memory": "00*8"}},
        {"write": "bus/nd/devices/{region of nmem0}/read_only", "data": "1", "answer": {"wrote": 1}},
        {"sleep": 1, "answer": {}},
    )
    assert facts(story) == [
        ("ARS_CAP", "ioctl", "EFAULT"),
        ("BLKGETSIZE", "ioctl", ""),
        ("CMD_CALL", "ioctl", ""),
        ("SMART", "ioctl", ""),
        ("any request", "ioctl", ""),
        ("any request", "ioctl", ""),
        ("any request", "ioctl", "EFAULT"),
        ("read_only", "write", ""),
    ]


def test_calls_in_words_show_ioctls(tmp_path):
    story = written(
        tmp_path,
        "calls.jsonl",
        HEADER,
        ["GET_SIZE at NULL", "EFAULT"],
        ["pmem0: BLKROGET", [0, "00000000"]],
        ["/dev/nmem0: ioctl 0xc00c4e05, r", "EPERM"],
        ["delete_module at NULL", "EFAULT"],
    )
    named = [fact for fact in facts(story) if fact[0] != "any request"]
    assert named == [("BLKROGET", "ioctl", ""), ("GET_DATA", "ioctl", "EPERM"), ("GET_SIZE", "ioctl", "EFAULT")]


def test_uevents_and_modules_show_writes_and_reads(tmp_path):
    first = {"uevents": 1, "note": "", **HEADER}
    write = ["write", "bus/nd/drivers/nd_pmem/bind", "namespace0.0", "ENXIO"]
    assert facts(written(tmp_path, "a.uevents", first, write)) == [("bind", "write", "ENXIO")]
    refcnt = ["libnvdimm/refcnt", "-r--r--r--", 4096, "5\n"]
    folder = ["libnvdimm/holders", "drwxr-xr-x", 0, None]
    assert facts(written(tmp_path, "modules.jsonl", HEADER, refcnt, folder)) == [("refcnt", "read", "")]


def test_a_description_names_errnos():
    text = "EBUSY while bound; EINVAL or EOPNOTSUPP; ENOTTY for x before Linux 4.5.  EHWPOISON; EIO, EIO, not -EPERM."
    assert errnos_in(text) == ["EBUSY", "EINVAL", "ENOTSUP", "133", "EIO"]


def test_a_declared_fact_that_no_recording_shows_is_uncovered(tmp_path):
    sector_size = ["write", "bus/nd/devices/btt0.0/sector_size", "513", {"errno": "EINVAL"}]
    story = written(tmp_path, "story.recording", {"recording": 1, **HEADER}, sector_size)
    covered = coverage({"story": shown_by(story)})
    missing = [each.words for each in uncovered(covered) if each.fact.subject.name == "log_zero_flags"]
    assert missing == ["read"]
    of_size = [
        each.words for each in uncovered(covered) if (each.fact.subject.title, each.fact.subject.name) == BTT_SIZE
    ]
    assert of_size == ["read", "written", "EBUSY when written", "ERANGE when written"]
    (shown,) = [each for each in covered if each.stories]
    assert (shown.words, shown.stories) == ("EINVAL when written", {"6.1": ("story",)})
    assert undeclared(covered) == []


def test_a_refusal_without_a_description_is_found(tmp_path):
    write = ["write", "bus/nd/devices/btt0.0/sector_size", "513", {"errno": "EPERM"}]
    story = written(tmp_path, "story.recording", {"recording": 1, **HEADER}, write)
    (found,) = undeclared(coverage({"story": shown_by(story)}))
    assert (found.fact.subject.name, found.words) == ("sector_size", "EPERM when written")


def test_the_command(tmp_path, capsys):
    read = ["read", "bus/nd/devices/region0/size", "1\n"]
    written(tmp_path, "in/story.recording", {"recording": 1, **HEADER}, read)
    assert main(["lab", "coverage", str(tmp_path)]) == 0
    assert "\n  size: read 6.1 (1)\n" in capsys.readouterr().out
    assert main(["lab", "coverage", "--uncovered", str(tmp_path)]) == 1
    assert "Regions, align: read\n" in capsys.readouterr().out
    for kernel, is_missing in (("6.1", False), ("6.12", True)):
        assert main(["lab", "coverage", "--uncovered", "--kernel", kernel, str(tmp_path)]) == 1
        assert ("Regions, size: read\n" in capsys.readouterr().out) == is_missing
    assert main(["lab", "coverage", "--kernel", "6.1", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "nvdimmfs: --kernel needs --uncovered; give both\n"
    assert main(["lab", "coverage", "--json", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)["coverage"]
    (shown,) = [row for row in rows if row["recordings"]]
    assert shown == {
        "kind": "attribute",
        "of": "Regions",
        "name": "size",
        "act": "read",
        "errno": None,
        "declared": True,
        "kernels": ["5.10", "6.1", "6.12"],
        "covered": True,
        "recordings": {"6.1": ["in/story.recording"]},
    }


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("", "", "there is no recording below it"),
        ("a.recording", "{}\n", "a.recording: line 1 is not one of a recording: a recording of format 1 was expected"),
        ("a.jsonl", '{"a": 1}\n', "a.jsonl: line 1 names no kernel"),
        ("a.jsonl", "", "a.jsonl: line 1 names no kernel"),
        ("a.jsonl", "x\n", "a.jsonl: line 1 is not JSON"),
    ],
)
def test_a_path_without_recordings_is_refused_in_one_line(name, text, complaint, tmp_path, capsys):
    if name:
        (tmp_path / name).write_text(text)
    assert main(["lab", "coverage", str(tmp_path)]) != 0
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("bus/nd/devices/dax0.0/align", "pfn and dax devices of a region"),
        ("bus/nd/devices/dax0.0/dax0.0/align", "Devices of the dax bus"),
        ("bus/dax/devices/dax0.0/align", "Devices of the dax bus"),
        ("bus/nd/devices/dax0.0/dax_region/align", "Regions of the dax bus"),
        ("bus/acpi/devices/device:05//path", "ACPI devices of DIMMs"),
        ("bus/acpi/devices/ACPI0012:00/path", "Platform and ACPI devices"),
        ("block/pmem0s/size", "Disks"),
        ("class/block/pmem0s1/size", "Partitions"),
        ("class/block/pmem0.1p2/trace/pid", "Partitions"),
        ("class/block/pmem0/bdi/max_ratio", "Backing device infos"),
        ("bus/nd/devices/region0/driver/unbind", "Drivers"),
        ("bus/nd/devices/region0/power/control", "Every device"),
    ],
)
def test_a_path_leads_to_the_attribute_of_its_device(path, title):
    subject = attribute_at(path)
    assert subject is not None
    assert subject.title == title


@pytest.mark.parametrize(
    "path", ["bus/nd/devices", "bus/nd/devices/region0", "kernel/debug/nvdimmfs/clock", "size", ""]
)
def test_other_paths_lead_to_no_attribute(path):
    assert attribute_at(path) is None
