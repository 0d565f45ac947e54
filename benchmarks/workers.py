"""The processes of benchmarks.rivals: what they load, how they are started and asked."""

from __future__ import annotations

import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastbpe
from benchmarks.rivals import FAMILIES, OURS, reference

Answer = dict[str, Any]


class Worker:
    """One library in a process of its own, asked one task after another."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            encoding="utf-8",
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def ask(self, task: str, texts: Path | None = None, limit: float | None = None, **options: Any) -> Answer:
        """Return the answer, or {"error": reason}.  A process that takes more than `limit` seconds is killed."""
        assert self._process.stdin and self._process.stdout
        job = json.dumps({"task": task, "texts": str(texts) if texts else None, **options})
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(limit or 0, give_up)
        if limit:
            timer.start()
        try:
            print(job, file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        timer.cancel()
        if late.is_set():
            self._process.wait()
            return {"error": f"over {limit:g} s"}
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            return {"error": (self._errors.read().strip().splitlines() or [f"ended with status {status}"])[-1]}
        return json.loads(line)  # type: ignore[no-any-return]


class Workers:
    """Starts workers; holds the files that the libraries load and the texts they are asked about."""

    def __init__(self, folder: Path, encodings: list[str], vocabs: Path | None = None, rc: Path | None = None) -> None:
        self._folder = folder
        self._rc = rc
        for name in encodings:
            self._prepare(name, vocabs)

    def _prepare(self, name: str, vocabs: Path | None) -> None:
        path = self._folder / f"{name}.json"
        if name in FAMILIES:
            assert vocabs
            shutil.copyfile(vocabs / name / "tokenizer.json", path)
            tok = fastbpe.load(path)
        else:
            tok = fastbpe.get_encoding(name)
            tok.save(path)
        if name in ("gpt2", "cl100k_base"):  # tokenizers 1.0 knows these splits by their published spelling alone
            file = json.loads(path.read_text(encoding="utf-8"))
            split, letters = file["pre_tokenizer"]["pretokenizers"]
            if name == "gpt2":
                file["pre_tokenizer"] = {**letters, "use_regex": True}
            else:
                split["pattern"]["Regex"] = fastbpe.patterns["llama3"]
            path.write_text(json.dumps(file), encoding="utf-8")
        ranks = sorted(tok.vocab.items(), key=lambda item: item[1])
        lines = (b"%s %d\n" % (base64.b64encode(token), id) for token, id in ranks)
        path.with_suffix(".tiktoken").write_bytes(b"".join(lines))
        extra = {
            "pattern": tok.spec.splits[0].pattern,
            "special_tokens": tok.special_tokens,
            "nfc": tok.spec.normalizer is not None,
        }
        path.with_suffix(".extra.json").write_text(json.dumps(extra), encoding="utf-8")

    def start(self, rival: str, encoding: str, threads: int = 0) -> Worker:
        # The idle threads of numpy's algebra would count as CPU time, and so would compiling modules again; tiktoken
        # would keep a copy of its file.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TIKTOKEN_CACHE_DIR": ""}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["RAYON_NUM_THREADS"] = str(threads or 1)
        environment["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
        if rival == "tokenizers-rc":
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(self._rc), environment.get("PYTHONPATH")]))
        return Worker([sys.executable, "-m", "benchmarks.rivals", rival, encoding, str(self._folder)], environment)

    def write(self, texts: list[str]) -> Path:
        """Write the texts of the next jobs."""
        path = self._folder / "texts"
        path.write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
        return path

    def write_long(self, texts: Iterator[str], size: int) -> tuple[Path, int]:
        """Write texts, one after another and again from the first, up to `size` bytes; return the bytes of one turn."""
        path, written, once = self._folder / "long", 0, 0
        with path.open("wb") as file:
            for text in texts:
                once += file.write(text.encode() + b"\n")
                if once >= size:
                    break
            written = once
        with path.open("r+b") as file:
            while written < size:  # copies of the first turn
                file.seek(written - once)
                block = file.read(min(once, size - written, 1 << 24))
                file.seek(written)
                written += file.write(block)
        return path, once

    def able(self, rivals: list[str], encoding: str) -> list[str]:
        """Return those that load the encoding; say why the others do not."""
        found = []
        for name in rivals:
            with self.start(name, encoding) as worker:
                reason = worker.ask("load").get("error")
            if reason:
                print(f"{encoding}: {name} left out ({reason[:110]})")
            else:
                found.append(name)
        return found

    def expected(self, encoding: str, task: str, texts: list[str]) -> str | None:
        """Return the sha256 of the ids (of what is decoded) that the reference gives; None where it is missing."""
        with self.start(reference(encoding), encoding) as worker:
            return worker.ask(task, self.write(texts)).get("sha256")

    def interleaved(
        self,
        rivals: list[str],
        encoding: str,
        task: str,
        texts: list[str],
        rounds: int,
        threads: int = 0,
        **options: Any,
    ) -> dict[str, Answer]:
        """Run a task of all libraries in turn, a process each; return the medians.  Those that fail are left out."""
        if threads:
            options["threads"] = threads
        path = self.write(texts)
        answers: dict[str, list[Answer]] = {name: [] for name in rivals}
        for _ in range(rounds):
            for name in list(answers):
                with self.start(name, encoding, threads) as worker:
                    answer = worker.ask(task, path, **options)
                if "error" in answer:
                    print(f"{encoding}: {name} left out ({answer['error'][:110]})")
                    del answers[name]
                else:
                    answers[name].append(answer)
        return {name: middle(each) for name, each in answers.items()}


def against_fastest(seconds: dict[str, float]) -> str:
    """Our speed as a multiple of the fastest other one's."""
    others = {name: each for name, each in seconds.items() if name != OURS}
    fastest = min(others, key=others.__getitem__, default=None)
    return "alone" if fastest is None else f"{others[fastest] / seconds[OURS]:5.2f} x {fastest}"


def middle(answers: list[Any]) -> Any:
    """The medians of equal structures of numbers; of texts, the common one or all of them."""
    first = answers[0]
    if isinstance(first, dict):
        return {key: middle([each[key] for each in answers]) for key in first}
    if isinstance(first, str):
        return " ".join(sorted(set(answers)))
    return statistics.median(answers)
