"""The completions, loaded into the shells that they are for."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from nvdimmfs.machine_file.files import machines

#: What each shell is asked, by the words of the command line, of which the last one is being typed.
BASH = """
source "$1"
shift
COMP_WORDS=(nvdimmfs "$@")
COMP_CWORD=$#
_shtab_nvdimmfs 2>&1
printf '%s\\n' "${COMPREPLY[@]}"
"""

FISH = """
source $argv[1]
complete -C (string join ' ' -- nvdimmfs (string escape -n -- $argv[2..-1]))
"""

#: zsh completes only on a terminal, so one zsh gives another one a pseudoterminal; `compadd` prints what it would add.
ZSH = """
zmodload zsh/zpty
zpty shell "zsh -f -i"
zpty -w shell "PS1=; fpath=($1 \\$fpath); autoload -Uz compinit; compinit -u -D; bindkey '^I' complete-word"
zpty -w shell 'zstyle ":completion:*" completer _complete
compadd() {
  if [[ $@[1,(i)(-|--)] != *-[OAD]* ]]; then
    local -a found
    builtin compadd -A found "$@"
    (( $#found )) && print -rl -- "<"$^found">"
  fi
  builtin compadd "$@"
}
null-line() { print -r -- "END-OF-ANSWER"; zle kill-buffer }
zle -N null-line
bindkey "^G" null-line
print -r -- READY-"FOR"-WORDS'
while zpty -r shell line && [[ $line != *READY-FOR-WORDS* ]]; do :; done
shift
zpty -w -n shell "nvdimmfs $*"$'\\t\\a'
while zpty -r shell line; do
  print -r -- "$line"
  [[ $line == *END-OF-ANSWER* ]] && break
done
zpty -d shell
"""


def ask_bash(share, words):
    script = share / "bash-completion/completions/nvdimmfs"
    return run("bash", "--norc", "-c", BASH, "bash", script, *words).split("\n")


def ask_fish(share, words):
    script = share / "fish/vendor_completions.d/nvdimmfs.fish"
    return [line.split("\t")[0] for line in run("fish", "--no-config", "-c", FISH, script, *words).split("\n")]


def ask_zsh(share, words):
    answer = run("zsh", "-f", "-c", ZSH, "zsh", share / "zsh/site-functions", *words)
    return re.findall(r"<(\S+?)>", answer)


def run(shell, *arguments):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, *arguments], capture_output=True, text=True, check=True, timeout=100)
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(params=[ask_bash, ask_zsh, ask_fish], ids=["bash", "zsh", "fish"])
def ask(request, share, tmp_path, monkeypatch):
    """Complete in a folder that holds `folder` and `file.toml`."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    (work / "folder").mkdir(parents=True)
    (work / "file.toml").touch()
    monkeypatch.chdir(work)
    return lambda *words: {word.rstrip("/") for word in request.param(share, words) if word}


def test_commands(ask):
    assert ask("ma") == {"machine"}
    assert {"mount", "umount", "run", "doctor", "show", "plan", "machine", "record"} <= ask("")


def test_actions(ask):
    assert {"list", "show", "check", "schema"} <= ask("machine", "")


def test_options(ask):
    assert ask("mount", "--mac") == {"--machine"}
    assert {"--lazy", "--help"} <= ask("umount", "--")


def test_choices(ask):
    assert ask("run", "--net", "") == {"private", "host"}


def test_machines_and_files(ask):
    assert {*machines(), "file.toml", "folder"} <= ask("mount", "--machine", "")
    assert ask("machine", "show", "two") == {"two-socket-6way"}


def test_folders_and_no_files(ask):
    found = ask("mount", "")
    assert "folder" in found
    assert "file.toml" not in found


def test_the_command_to_run(ask):
    assert {"true", "truncate"} <= ask("run", "--machine", "nfit_test", "--", "tru")
