"""What a person sees of two answers that differ."""

from nvdimmfs.lab.comparing import Comparison
from nvdimmfs.lab.excerpts import both_answers, shortened
from nvdimmfs.lab.replay import Difference

LONG = 8192


def test_short_answers_are_shown_whole():
    assert both_answers({"data": "1\n"}, {"errno": "EINVAL"}) == ("{'data': '1\\n'}", "{'errno': 'EINVAL'}")


def test_a_row_that_is_not_there():
    assert both_answers({"path": "x", "mode": "-r--r--r--"}, None) == ("{'path': 'x', 'mode': '-r--r--r--'}", "None")


def test_of_many_bytes_those_around_the_first_difference_are_shown():
    before, kernel, here = "00" * 4093, "ab" * 100, "cd" + "ab" * 99
    after = "11" * (LONG - 4193)
    shown = both_answers({"hex": before + kernel + after}, {"hex": before + here + after})
    zeros, rest = "00" * 8, "ab" * 23
    assert shown == (
        f"{{'hex': 8192 bytes, from 4085 on: …{zeros}ab{rest}…}}",
        f"{{'hex': 8192 bytes, from 4085 on: …{zeros}cd{rest}…}}",
    )


def test_bytes_that_end_earlier():
    kernel, here = both_answers({"hex": "00" * LONG}, {"hex": "00" * 4096})
    assert kernel == f"{{'hex': 8192 bytes, from 4088 on: …{'00' * 32}…}}"
    assert here == f"{{'hex': 4096 bytes, from 4088 on: …{'00' * 8}}}"


def test_of_a_long_text_the_beginning_of_a_difference_is_shown():
    lines = "".join(f"line {number}\n" for number in range(100))
    kernel, here = both_answers({"data": lines}, {"data": lines.replace("line 77", "LINE 77")})
    assert kernel.startswith("{'data': 790 characters, from 590 on: …'")
    assert "line 77" in kernel
    assert "LINE 77" in here
    assert len(here) < 150


def test_long_equal_parts_are_counted():
    same = {"hex": "00" * LONG, "result": 0}
    assert both_answers(same, same | {"result": 1}) == (
        "{'hex': 8192 bytes, 'result': 0}",
        "{'hex': 8192 bytes, 'result': 1}",
    )
    assert both_answers({"hex": "00" * LONG}, {"errno": "EIO"}) == ("{'hex': 8192 bytes}", "{'errno': 'EIO'}")


def test_of_lists_only_what_one_has_is_shown():
    names = [f"name{number}" for number in range(100)]
    kernel, here = both_answers({"names": names}, {"names": [*names[:50], "other", *names[51:]]})
    assert kernel == "{'names': 100, of which only here: ['name50']}"
    assert here == "{'names': 100, of which only here: ['other']}"


def test_a_question_with_much_data_is_shortened():
    assert shortened("write bus/nd 'x'") == "write bus/nd 'x'"
    long = shortened(f"write bus/nd/uevent {'x' * 5000!r}")
    assert long.startswith("write bus/nd/uevent 'xxx")
    assert long.endswith("xxx'")
    assert len(long) < 160


def test_differences_of_replays_are_short():
    difference = Difference(3, Comparison("pread pmem0", "pmem0", {"hex": "00" * LONG}, {"hex": "01" + "00" * LONG}))
    assert max(map(len, str(difference).splitlines())) < 160
