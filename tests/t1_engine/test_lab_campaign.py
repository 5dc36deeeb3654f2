"""Campaigns of walks, which go on after they were ended."""

import pytest

from nvdimmfs.cli import lab_fuzz
from nvdimmfs.cli.main import main
from nvdimmfs.lab.campaign import Campaign, Made
from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.fuzz import Walked

SETTINGS = {"shape": "nfit", "kernel": "6.1", "moves": 400}
FIRST, SECOND = Made(1, 1000, differs=False), Made(2, 2000, differs=True)


def test_a_campaign_has_the_walks_that_were_added(tmp_path):
    campaign = Campaign.resumed(tmp_path, SETTINGS)
    campaign.add(FIRST)
    campaign.add(SECOND)
    assert Campaign.resumed(tmp_path, SETTINGS).made == {1: FIRST, 2: SECOND}


def test_a_line_that_was_not_written_completely_is_removed(tmp_path):
    Campaign.resumed(tmp_path, SETTINGS).add(FIRST)
    file = tmp_path / "walks.jsonl"
    whole = file.read_text()
    file.write_text(whole + '{"seed":2,"ans')
    campaign = Campaign.resumed(tmp_path, SETTINGS)
    assert campaign.made == {1: FIRST}
    assert file.read_text() == whole
    campaign.add(SECOND)
    assert Campaign.resumed(tmp_path, SETTINGS).made == {1: FIRST, 2: SECOND}


def test_walks_with_other_settings_are_refused(tmp_path):
    Campaign.resumed(tmp_path, SETTINGS)
    with pytest.raises(LabError, match=r'walks.jsonl: has walks with other settings: .*"moves": 400.*"moves": 50'):
        Campaign.resumed(tmp_path, SETTINGS | {"moves": 50})


@pytest.mark.parametrize("text", ["", "x", "x\n", "[]\n", '{"campaign":2,"settings":{}}\n', '{"campaign":1}\n'])
def test_another_file_is_refused_and_kept(tmp_path, text):
    file = tmp_path / "walks.jsonl"
    file.write_text(text)
    with pytest.raises(LabError, match=r"walks.jsonl: not the walks of a campaign$"):
        Campaign.resumed(tmp_path, SETTINGS)
    assert file.read_text() == text


def test_walks_that_were_made_are_not_made_again(tmp_path, monkeypatch, capsys):
    walked = []

    def walk(_walks, seed):
        walked.append(seed)
        return Walked(seed, 100 * seed, None)

    monkeypatch.setattr(lab_fuzz._Walks, "walk", walk)
    command = ["lab", "fuzz", "--shape", "nfit", "--out", str(tmp_path), "--resume", "--walks"]
    assert main([*command, "2"]) == 0
    assert main([*command, "3"]) == 0
    assert walked == [1, 2, 3]
    assert capsys.readouterr().out.splitlines()[-1] == "3 walks, 600 answers, 0 walks with a difference"
