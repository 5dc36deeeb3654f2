"""How snippets of the documentation are read and compared (`tests/support/snippets.py`)."""

import pytest
import snippets
from snippets import SnippetError, Step, matches


@pytest.mark.parametrize(
    ("expected", "output", "equal"),
    [
        ((), "", True),
        ((), "text", False),
        (("text",), "text", True),
        (("text",), "text  ", True),
        (("text",), "text\nmore", False),
        (("a ... z",), "a b c z", True),
        (("a ... z",), "a\nz", False),
        (("...",), "", True),
        (("...",), "any\nnumber", True),
        (("first", "...", "last"), "first\nlast", True),
        (("first", "...", "last"), "first\na\nb\nlast", True),
        (("first", "...", "last"), "first\na\nb", False),
        (("  ...",), "one", True),
        (("[a]*",), "[a]*", True),
    ],
)
def test_output_is_compared(expected, output, equal):
    assert matches(expected, output) is equal


def page(tmp_path, text):
    """A page of documentation."""
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


def plan(path):
    """The commands of a page."""
    found = []
    for block in snippets.blocks(path):
        snippets.steps(block, found)
    return found


def test_prompts_tell_commands_from_their_output(tmp_path):
    text = "```console\n$ cat <<END\n> one\n> END\none\n$ bash\n# ls\nfile\n```\n\n```console\n# exit\n$ true\n```\n"
    ls, end = Step("ls", ("file",), 7), Step("exit", (), 12)
    assert plan(page(tmp_path, text)) == [
        Step("cat <<END\none\nEND", ("one",), 2),
        Step("bash", (), 6, (ls, end)),
        Step("true", (), 13),
    ]


def test_comments_concern_the_next_block(tmp_path):
    text = "<!-- skip: because -->\n<!-- needs: root -->\n```console\n$ ls\n```\n\n```console\n$ ls\n```\n"
    first, second = snippets.blocks(page(tmp_path, text))
    assert first.directives == (("skip", "because"), ("needs", "root"))
    assert second.directives == ()


@pytest.mark.parametrize("text", ["<!-- skip: why -->\n\nwords\n", "    $ indented\n"])
def test_a_block_that_would_not_be_run_is_refused(text, tmp_path):
    with pytest.raises(SnippetError):
        snippets.blocks(page(tmp_path, text))


def test_a_block_begins_with_a_prompt(tmp_path):
    with pytest.raises(SnippetError):
        plan(page(tmp_path, "```console\noutput\n```\n"))


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_a_session_keeps_its_folder_and_variables(tmp_path, scratch):
    text = (
        "```console\n$ mkdir a; cd a; x=1\n```\n\n```console\n$ echo $x ${PWD##*/}\n1 a\n$ bash\n# echo in\nin\n```\n"
    )
    assert snippets.run(page(tmp_path, text), scratch) == []


@pytest.mark.parametrize(
    "block", ["$ echo one\ntwo", "$ false", "$ exit 0\n$ echo one\none", "$ bash\n# echo one\ntwo"]
)
def test_another_answer_fails(block, tmp_path, scratch):
    with pytest.raises(SnippetError):
        snippets.run(page(tmp_path, f"```console\n{block}\n```\n"), scratch)


def test_files_are_provided_and_blocks_left_out(tmp_path, scratch):
    text = (
        '<!-- file: a.toml -->\n```toml\nram = "4G"\n```\n\n```console\n$ cat a.toml\nram = "4G"\n```\n\n'
        "<!-- skip: because -->\n```console\n$ false\n```\n"
    )
    assert snippets.run(page(tmp_path, text), scratch) == ["line 13: because"]
