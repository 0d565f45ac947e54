"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import threading

import pytest

from fastbpe.files import whole_file, write_whole


def test_an_error_leaves_nothing(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_existing_file_is_kept(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_whole(path, b"new", overwrite=False)
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_an_error_names_the_file_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "no" / "a", b"")
    assert str(caught.value.filename) == str(tmp_path / "no" / "a")


def test_two_threads_write_one_file(tmp_path):
    """Each version appears whole; nothing of one is in the other."""
    path = tmp_path / "a"
    versions = [bytes([letter]) * 200_000 for letter in b"AB"]
    write_whole(path, versions[0])
    errors = []

    def write(version):
        try:
            for _ in range(30):
                write_whole(path, version)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_bytes() in versions
    assert errors == [] and os.listdir(tmp_path) == ["a"]
