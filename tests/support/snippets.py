"""Snippets of the documentation, run as they stand.

A page is one session: its `console` blocks are run in order by one bash in an empty scratch directory, with `nvdimmfs`
on PATH, and what each command prints (stdout and stderr together) is compared with the lines below it.  In a block

- `$ COMMAND` is run.  The lines after it, up to the next prompt, are its output.
- `> LINE` continues the command above, as in a shell's here-document.
- `# COMMAND` is typed into the shell that the last `$ ` line started (`$ nvdimmfs run -- bash`), also in a later block.
- `...` stands for what varies: on a line of its own for any number of lines, within a line for any text.

A command that fails must have output, so that a page never passes over an error.

Comments in the page's source give further instructions.  Each concerns the block that follows it:

- `<!-- file: NAME -->` writes the block to a file of the scratch directory instead.
- `<!-- needs: WORD ... -->` runs it only where the host has all of that (`NEEDS`); `<!-- page needs: WORD ... -->`
  does so for the whole page.
- `<!-- skip: REASON -->` does not run it.
- `<!-- run: COMMAND -->` runs a command that readers are not shown, such as one that provides a file of theirs; $SOURCE
  is this repository.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import markdown_it
import mounting
import sandboxes
from warm import WarmServer

ROOT = mounting.ROOT

#: Every page.  What stands in the changelog was true once, so it is not run.
PAGES = tuple(
    path for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))) if path.name != "CHANGELOG.md"
)

_DIRECTIVE = re.compile(r"<!-- (file|needs|skip|run): (.*?) -->", re.DOTALL)
_PAGE_NEEDS = re.compile(r"<!-- page needs: (.*?) -->")
_ANYTHING = "..."
#: Standard error of a bash that reads its commands from a pipe has a line number that an interactive one has not.
_LINE_NUMBER = re.compile(r"^bash: line \d+: ", re.MULTILINE)
#: Ends an inner shell, which the end of its input does here.
_END = "exit"
#: Begins the line behind a command's output, and is followed by its exit status.
_MARK = "=snippet="
_LOCALE = "C.UTF-8"
#: Plugins of this environment that no page uses; to load them takes longer than the runs of pytest last.
_UNUSED_PLUGINS = ("trio", "hypothesispytest", "xdist", "xdist.looponfail")


class SnippetError(Exception):
    """A page that does not keep the rules, or whose snippet printed something else."""


@attrs.frozen
class Block:
    """A fenced block.

    Attributes:
        language: the word on the fence; empty for none.
        text: what stands in it.
        line: the number of its first line.
        directives: those directly above it, in order.
    """

    language: str
    text: str
    line: int
    directives: tuple[tuple[str, str], ...]

    def values(self, directive: str) -> list[str]:
        return [value for name, value in self.directives if name == directive]


@attrs.frozen
class Step:
    """A command and what it prints.

    Attributes:
        command: for bash, possibly of several lines.
        output: the lines expected, with `...` in them.
        line: its number.
        inner: the commands for the shell that this one starts.
    """

    command: str
    output: tuple[str, ...]
    line: int
    inner: tuple[Step, ...] = ()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    found: list[Block] = []
    directives: list[tuple[str, str]] = []
    for token in markdown_it.MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        line = (token.map or [0])[0] + 1
        if token.type == "html_block":
            directives += [(match[1], match[2].strip()) for match in _DIRECTIVE.finditer(token.content)]
        elif token.type == "fence":
            found.append(Block(token.info.strip(), token.content, line + 1, tuple(directives)))
            directives = []
        elif token.type == "code_block":
            raise SnippetError(f"{page.name}:{line}: use a fenced block with a language instead of an indented one")
        elif directives and token.level == 0:
            raise SnippetError(f"{page.name}:{line}: a comment concerns the block that follows it; here none does")
    return found


def steps(block: Block, before: list[Step]) -> None:
    """Append the commands of a console block to those before it."""
    fresh = True
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            before.append(Step(line[2:], (), number))
        elif line.startswith("# ") and before:
            before[-1] = attrs.evolve(before[-1], inner=(*before[-1].inner, Step(line[2:], (), number)))
        elif fresh:
            raise SnippetError(f"line {number}: a console block begins with a prompt")
        elif before[-1].inner:
            before[-1] = attrs.evolve(
                before[-1], inner=(*before[-1].inner[:-1], _continued(before[-1].inner[-1], line))
            )
        else:
            before[-1] = _continued(before[-1], line)
        fresh = False


def _continued(step: Step, line: str) -> Step:
    if line.startswith("> ") and not step.output:
        return attrs.evolve(step, command=f"{step.command}\n{line[2:]}")
    return attrs.evolve(step, output=(*step.output, line))


# What a host may lack


def _sandbox() -> bool:
    return sandboxes.why_not() is None


def _mount() -> bool:
    return mounting.why_not() is None


def _set_up() -> bool:
    """Whether `scripts/setup` was run since it changed, so that it has nothing to do now."""
    stamps = [
        stamp.stat().st_mtime for group in ("test", "dev") for stamp in (ROOT / ".venv").glob(f".nvdimmfs-*-{group}")
    ]
    return max(stamps, default=0) > max((ROOT / name).stat().st_mtime for name in ("pyproject.toml", "scripts/setup"))


def _tool(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


NEEDS: Mapping[str, Callable[[], bool]] = {
    "mount": _mount,
    "sandbox": _sandbox,
    "root": lambda: os.geteuid() == 0,
    "setup": _set_up,
    **{name: _tool(name) for name in ("ndctl", "daxctl", "modprobe", "udevadm", "lsmem", "mkfs.ext4", "fuse2fs")},
}


def page_needs(page: Path) -> list[str]:
    """What the snippets of a page need that this host lacks."""
    return missing(_PAGE_NEEDS.findall(page.read_text()))


def missing(words: list[str]) -> list[str]:
    """Which of the things that `needs:` names this host lacks."""
    return [word for word in dict.fromkeys(" ".join(words).split()) if not NEEDS[word]()]


# Running


def run(page: Path, scratch: Path) -> list[str]:
    """Run a page's snippets.  Returns what was left out, a line each.

    Raises:
        SnippetError: a command printed something else; the message has the place, the expected and the actual output.
    """
    plan: list[Step] = []
    left_out: list[str] = []
    for block in blocks(page):
        if block.values("skip"):
            left_out.append(f"line {block.line}: {block.values('skip')[0]}")
            continue
        if lacks := missing(block.values("needs")):
            left_out.append(f"line {block.line}: this host lacks {', '.join(lacks)}")
            continue
        plan += [Step(command, ("...",), block.line) for command in block.values("run")]
        for name in block.values("file"):
            plan.append(Step(f"cat > {name} <<'END-OF-FILE'\n{block.text}END-OF-FILE", (), block.line))
        if block.language == "console":
            steps(block, plan)
    if plan:
        _compare(page, plan, _session(plan, scratch))
    return left_out


def _session(plan: list[Step], scratch: Path) -> str:
    """Everything that the commands print, each followed by a mark."""
    path = mounting.path_with_nvdimmfs(scratch.with_name(f"{scratch.name}-bin"))
    own = {"PATH": path, "LC_ALL": _LOCALE, "COLUMNS": "120", "SOURCE": str(ROOT)}
    own["PYTEST_ADDOPTS"] = " ".join(f"-p no:{plugin}" for plugin in _UNUSED_PLUGINS)
    environment = mounting.environment() | _server().variables | own
    done = mounting.command(
        "bash", input="exec 2>&1\n" + "".join(map(_script, plan)), cwd=scratch, env=environment, timeout=None
    )
    return done.stdout


@functools.cache
def _server() -> WarmServer:
    """The server of all pages; it has their locale."""
    return WarmServer(mounting.ON_PATH, mounting.environment() | {"LC_ALL": _LOCALE})


def _script(step: Step) -> str:
    mark = f"printf '\\n{_MARK}%d\\n' $?\n"
    if step.command == _END:
        return ""
    if not step.inner:
        return f"{step.command}\n{mark}"
    inner = "exec 2>&1\n" + "".join(map(_script, step.inner))
    return f"{step.command} <<'END-OF-SHELL'\n{inner}END-OF-SHELL\n{mark}"


def _flat(plan: list[Step]) -> Iterator[Step]:
    """The commands in the order in which they end."""
    for step in plan:
        yield from (inner for inner in step.inner if inner.command != _END)
        yield step


def _compare(page: Path, plan: list[Step], printed: str) -> None:
    parts = re.split(rf"\n{_MARK}(\d+)\n", printed)
    results = list(zip(parts[::2], parts[1::2], strict=False))
    for number, step in enumerate(_flat(plan)):
        place = f"{page.name}:{step.line}: {step.command.splitlines()[0]}"
        if number >= len(results):
            raise SnippetError(f"{place}: the shell ended before it\n{printed[-2000:]}")
        output, status = results[number]
        output = _LINE_NUMBER.sub("bash: ", output).rstrip("\n")
        if not matches(step.output, output):
            expected = "\n".join(step.output)
            raise SnippetError(f"{place}\n--- the page has\n{expected}\n--- it printed (status {status})\n{output}")
        if status != "0" and not step.output and not step.inner:
            raise SnippetError(f"{place}: failed with status {status}, which the page does not show")


def matches(expected: tuple[str, ...], output: str) -> bool:
    """Whether output is that on the page."""
    lines = [line.rstrip() for line in expected]
    while lines and not lines[-1]:
        lines.pop()
    pattern = ""
    for line in lines:
        if line.strip() == _ANYTHING:
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += r"[^\n]*".join(re.escape(part) for part in line.split(_ANYTHING)) + r"\n"
    actual = "".join(f"{line.rstrip()}\n" for line in output.splitlines())
    return re.fullmatch(pattern, actual) is not None
