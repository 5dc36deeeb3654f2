"""What the documentation names is there: modules and their contents, files, chapters, commands."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import snippets
from markdown_it import MarkdownIt

from nvdimmfs.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
PACKAGES = {path.name for path in (ROOT / "nvdimmfs").iterdir() if (path / "__init__.py").exists()}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def resolved(name):
    """What a dotted name below the package stands for.  ImportError or AttributeError for nothing."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(("nvdimmfs", *parts[:length])))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ImportError(name)


@pages
def test_names_of_the_source_exist(page):
    for name in re.findall(r"`(?:nvdimmfs\.)?([a-z_]+(?:\.[A-Za-z_]+)+)`", page.read_text()):
        package, module, *_ = name.split(".")
        if package == "fuse":  # which needs the library
            assert (ROOT / "nvdimmfs" / package / f"{module}.py").is_file(), name
        elif package in PACKAGES:
            assert resolved(name) is not None


def anchors(text):
    """The chapters of a page as links name them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pages
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.resolve().is_relative_to(ROOT), f"{target}: not in the repository"
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


@pages
def test_rows_of_tables_belong_to_tables(page):
    """A blank line ends a table: the rows behind it would be shown as text."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text())
    texts = [token for token in tokens if token.type == "inline" and token.content.startswith("|")]
    assert not texts, f"line {texts[0].map[0] + 1}"


@pages
def test_scripts_and_commands_exist(page):
    text = page.read_text()
    for name in re.findall(r"\bscripts/([a-z-]+)", text):
        assert (ROOT / "scripts" / name).exists(), name
    known = {command.name for command in COMMANDS}
    for name in re.findall(r"^[$#] nvdimmfs ([a-z]+)\b", text, re.MULTILINE):
        assert name in known
    for name in re.findall(r"`nvdimmfs ([a-z]+)\b", text):
        assert name in known


@pytest.mark.parametrize("page", snippets.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_run_or_is_no_snippet(page):
    """Commands stand in `console` blocks, which `tests/t3_mount/test_snippets.py` runs."""
    plan = []
    for block in snippets.blocks(page):
        assert block.language in {"console", "python", "toml", "yaml", "json", "diff", "text", ""}, (
            f"line {block.line}: {block.language}"
        )
        if block.language == "console":
            snippets.steps(block, plan)
        assert "\n$ " not in f"\n{block.text}" or block.language == "console", (
            f"line {block.line}: make it a console block"
        )
        assert not set(" ".join(block.values("needs")).split()) - set(snippets.NEEDS), f"line {block.line}"


def test_every_page_is_listed_in_the_index():
    docs = ROOT / "docs"
    index = docs / "README.md"
    text = index.read_text()
    for page in sorted(docs.rglob("*.md")):
        assert page == index or f"({page.relative_to(docs)})" in text, page
    assert "(docs/README.md)" in (ROOT / "README.md").read_text()


def behaviours():
    """The rows of the table in CONTRIBUTING.md: what a reader looks for, in which file it is, and its name there."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text.partition("<!-- behaviours -->")[2].partition("<!-- end of behaviours -->")[0]
    for row in table.strip().splitlines()[2:]:
        behaviour, _, file, name = (cell.strip() for cell in row.strip("|").split("|"))
        yield pytest.param(file.strip("`"), name.strip("`"), id=behaviour)


@pytest.mark.parametrize(("file", "name"), list(behaviours()))
def test_behaviours_are_where_the_table_says(file, name):
    tree = ast.parse((ROOT / file).read_text())
    for part in name.split("."):
        found = [node for node in tree.body if isinstance(node, DEFINITIONS) and node.name == part]
        assert found, f"{file} defines no {name}"
        tree = found[0]


def test_the_table_has_twenty_behaviours():
    assert len(list(behaviours())) >= 20
