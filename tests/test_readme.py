"""The examples of the documentation do what it shows.  Oracle: the output printed beside them."""

from __future__ import annotations

import doctest
import lzma
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NOVEL, ROOT

DOCUMENTS = ("README.md", "DESIGN.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "OPTIMIZATION_LOG.md")
MAKE = re.compile(r"((?:\w+=\S+ +)*)make (.*)")
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(document: str, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language, each with the line it begins at."""
    text = (ROOT / document).read_text("utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start(1)), block[1]) for block in found]


def commands(document: str) -> list[tuple[str, str]]:
    """The commands of the console blocks, each with the output shown under it."""
    parts = [part for _, block in blocks(document, "console") for part in re.split(r"^\$ ", block, flags=re.M)]
    assert not any(parts[:1]), f"{document}: a console block begins with a command"
    return [tuple(part.split("\n", 1)) for part in parts if part]  # type: ignore[misc]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the novel, as the working directory."""
    (tmp_path / "novel.txt").write_bytes(lzma.decompress(NOVEL.read_bytes()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_examples(folder, capsys):
    names: dict[str, object] = {"__name__": "__main__"}
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    examples = blocks("README.md", "python")
    assert len(examples) > 5
    for line, block in examples:
        test = doctest.DocTestParser().get_doctest(block, names, "README.md", str(ROOT / "README.md"), line)
        runner.run(test, clear_globs=False)
        names = test.globs
    assert runner.summarize(verbose=False).failed == 0, capsys.readouterr().out


@pytest.mark.native_only  # the command line is tested on both in test_cli.py; whole files take long on the Python one
def test_console_examples(folder):
    programs = folder / "bin"
    programs.mkdir()
    for name, arguments in (("python", ""), ("fastbpe", "-m fastbpe ")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    places = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": places}
    ran = 0
    for command, shown in commands("README.md"):
        if not re.match("make |pip ", command):
            done = subprocess.run(command, shell=True, env=environment, capture_output=True)
            output = done.stdout.decode()
            assert done.returncode == 0, (command, done.stderr.decode())
            assert not shown or doctest.OutputChecker().check_output(shown, output, OPTIONS), (command, output)
            ran += 1
    assert ran > 4


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_commands_for_a_checkout_exist(document):
    """What builds, installs or takes hours is not run: `make -n` finds each target, pip each extra."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for command, _ in commands(document):
        made = MAKE.fullmatch(command)
        if made and shutil.which("make"):
            assignments = dict(item.split("=", 1) for item in made[1].split())
            subprocess.run(
                ["make", "-n", *made[2].split()],
                cwd=ROOT,
                env={**os.environ, **assignments},
                capture_output=True,
                check=True,
            )
        elif command.startswith("pip "):
            extras = re.fullmatch(r"pip install '?\.(?:\[([\w,]+)\])?'?", command)
            assert extras, command
            for extra in (extras[1] or "").split(","):
                assert not extra or f"\n{extra} = [" in project, command


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text("utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in target]
    assert [target for target in targets if not (ROOT / Path(document).parent / target).exists()] == []
