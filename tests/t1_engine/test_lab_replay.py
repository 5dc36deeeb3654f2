"""`nvdimmfs lab replay` without a guest."""

import contextlib
import json
from pathlib import Path

import pytest

from nvdimmfs.cli import lab_options, lab_replay
from nvdimmfs.cli.main import main
from nvdimmfs.lab.errors import LabError

RECORDINGS = Path(__file__).parent.parent / "recordings"
TREE = RECORDINGS / "virtio/one.recording"


@pytest.fixture
def wrong(tmp_path):
    """A recording with an answer that no kernel gives."""
    file = tmp_path / "wrong.recording"
    header, *steps = TREE.read_text().splitlines()
    file.write_text("\n".join([header, '["read","bus/nd/devices/region0/size","7\\n"]', *steps]) + "\n")
    return file


def test_a_recording_is_replayed_in_the_process(capsys):
    assert main(["lab", "replay", str(TREE)]) == 0
    name, agreement = capsys.readouterr().out.removesuffix(" agree\n").rsplit(": ", 1)
    same, total = agreement.split("/")
    assert name == str(TREE)
    assert int(same) == int(total) > 0


def test_a_story_finds_the_memory_that_the_one_before_it_left(capsys):
    assert main(["lab", "replay", str(RECORDINGS / "nfit/boots/labels-again.recording")]) == 0
    assert capsys.readouterr().out.endswith(" agree\n")


def test_a_difference_fails_and_is_printed(wrong, capsys, tmp_path):
    junit = tmp_path / "junit.xml"
    assert main(["lab", "replay", str(wrong), "--junit", str(junit)]) == 1
    printed = capsys.readouterr().out
    assert f"{wrong}: step 1: read bus/nd/devices/region0/size\n    kernel {{'data': '7\\n'}}\n" in printed
    assert "kind read: " in printed
    assert "attribute size: " in printed
    assert 'tests="1"' in junit.read_text()


def test_json_has_all_recordings_below_a_folder(wrong, capsys):
    assert main(["lab", "replay", "--json", str(wrong.parent)]) == 1
    (recording,) = json.loads(capsys.readouterr().out)["recordings"]
    assert [difference["step"] for difference in recording["differences"]] == [1]


def test_several_recordings_at_the_same_time_are_reported_in_the_order_of_their_names(wrong, capsys):
    assert main(["lab", "replay", "--jobs", "2", str(TREE), str(wrong), str(TREE)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{wrong}: step 1: read bus/nd/devices/region0/size"
    assert [line.rsplit(": ", 1)[0] for line in lines[-4:]] == [str(TREE), str(wrong), str(TREE), "all"]


def test_a_story_about_programs_is_not_replayed(capsys):
    assert main(["lab", "replay", str(RECORDINGS / "e820/ndctl-modes.recording")]) == 0
    assert ": not replayed: a story about programs; run `nvdimmfs run" in capsys.readouterr().out


HEADER = '{"recording":1,"machine":{"memmap":"512M!4G","memory":"4G"},"kernel":"6.1"}'
CHANGES = '{"changes":1,"of":"story","kernel":"6.12.1","emulated":"6.12"}'


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.recording", HEADER + '\n["raed","x"]', "line 2 is not one of a recording: not a step: ['raed', 'x']"),
        ("a.recording", HEADER.replace('"memmap"', '"map"'), "line 1 is not one of a recording: "),
        ("a.recording", HEADER.replace('{"memmap":"512M!4G","memory":"4G"}', '"e820"'), "line 1 is not one of a "),
        ("a.recording", HEADER[:-1] + ',"settle":"long"}', 'line 1 is not one of a recording: "settle" '),
        ("a.changes", '{"changes":1}', "line 1 is not one of changes: "),
        ("a.changes", CHANGES + '\n["x"]', "line 2 is not one of changes: "),
        ("a.changes", CHANGES + '\n[1,"x"]', "line 2 is not one of changes: "),
        ("a.changes", CHANGES + '\n[1,{"rows":{"a":null}}]', "line 2 is not one of changes: "),
    ],
)
@pytest.mark.parametrize("way", ["--in-process", "--mounted", "--guest"])
def test_a_recording_that_cannot_be_decoded_fails(name, text, problem, way, tmp_path, capsys):
    (tmp_path / "story.recording").write_text(HEADER + '\n["ls","bus/nd/devices",[]]\n')
    (tmp_path / name).write_text(text + "\n")
    assert main(["lab", "replay", way, str(tmp_path / name)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"nvdimmfs: {tmp_path / name}: {problem}")
    assert (printed.out, printed.err.count("\n")) == ("", 1)


class SilentGuest:
    """A guest that answers nothing."""

    def ask(self, calls, settle, together):
        return ({} for _ in calls)


@pytest.fixture
def kernels(monkeypatch):
    """The kernels of the guests that are asked, instead of guests."""
    asked = []

    @contextlib.contextmanager
    def resumed(plan, timeout):
        asked.append(plan.kernel)
        yield SilentGuest()

    monkeypatch.setattr(lab_options, "find_kernel", lambda name: name)
    monkeypatch.setattr(lab_options, "guest_image", lambda kernel, modules: Path())
    monkeypatch.setattr(lab_replay, "resumed", resumed)
    return asked


def test_each_recording_is_asked_of_its_own_kernel(kernels, capsys):
    newer, own = RECORDINGS / "linux-6.12/e820/btt-4k.changes", RECORDINGS / "e820/btt-4k.recording"
    assert main(["lab", "replay", "--guest", str(newer), str(own)]) == 1
    assert kernels == ["6.12", "6.1"]
    assert main(["lab", "replay", "--guest", "--kernel", "6.6", str(newer)]) == 1
    assert kernels[2:] == ["6.6"]


def test_a_story_that_writes_files_of_nvdimmfs_is_not_asked_of_a_kernel(kernels, capsys, tmp_path):
    """Apart from those that stand for what a guest does in another way, as plug."""
    story, file = tmp_path / "a.recording", "kernel/debug/nvdimmfs/faults"
    story.write_text(
        f'{{"recording":1,"machine":{{"machine":"e820"}},"kernel":"","note":""}}\n["write","{file}","x",1]\n'
    )
    assert main(["lab", "replay", "--guest", str(story)]) == 0
    reason = f"it asks for {file}, a file that nvdimmfs alone has"
    assert capsys.readouterr().out == f"{story}: not replayed: {reason}\n"
    assert kernels == []


def test_the_agent_of_a_guest_loads_modules_in_place_of_the_file(kernels, capsys):
    main(["lab", "replay", "--guest", str(RECORDINGS / "e820/hmem.recording")])
    assert kernels == ["6.1"]
    assert "not replayed" not in capsys.readouterr().out


def test_a_machine_that_qemu_cannot_give_is_not_replayed(kernels, capsys):
    story = RECORDINGS / "nfit/intel-dimm.recording"
    assert main(["lab", "replay", "--guest", str(story)]) == 0
    assert ": not replayed: QEMU cannot give this machine: " in capsys.readouterr().out


def test_a_guest_that_fails_is_a_failure(kernels, monkeypatch, capsys, tmp_path):
    def fail(name):
        raise LabError("the guest ended")

    monkeypatch.setattr(lab_options, "find_kernel", fail)
    junit = tmp_path / "junit.xml"
    assert main(["lab", "replay", "--guest", "--junit", str(junit), str(TREE)]) == 1
    assert capsys.readouterr().out == f"{TREE}: not replayed: the guest ended\n"
    assert '<error message="the guest ended"' in junit.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kernel", "5.0", str(TREE)], "--kernel 5.0: must be one of "),
        (["--jobs", "2", "--sys", "/sys", str(TREE)], "--sys asks one machine, one recording after the other"),
        (
            ["--jobs", "2", str(RECORDINGS / "README.md")],
            f"{RECORDINGS / 'README.md'}: line 1 is not one of a recording",
        ),
        (["nowhere.recording"], "nowhere.recording: No such file or directory"),
        ([str(Path(__file__).parent)], f"{Path(__file__).parent}: there is no file NAME.recording below it"),
        ([str(RECORDINGS / "README.md")], f"{RECORDINGS / 'README.md'}: line 1 is not one of a recording"),
    ],
)
def test_mistakes_are_reported_in_one_line(words, message, capsys):
    assert main(["lab", "replay", *words]) in (1, 2)
    printed = capsys.readouterr().err
    assert printed.startswith(f"nvdimmfs: {message}")
    assert printed.count("\n") == 1
