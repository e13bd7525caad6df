"""Machine code on disk: what is found again, what is recompiled, and folders that are not writable."""

import errno
import importlib.metadata
import os
import tempfile
from pathlib import Path

import pytest

import toolkit

if reason := toolkit.missing():
    pytest.skip(reason, allow_module_level=True)

from jitloss.compilers.cuda import compile as compiler
from jitloss.compilers.cuda import launch
from kernels import CAPABILITY, OLDEST

CODE = b"\x7fELF" + bytes(range(256))


@pytest.fixture
def asked(monkeypatch):
    """A log of the capabilities that kernels are compiled for."""
    found = []
    monkeypatch.setattr(launch, "ptx", lambda source, capability: "")
    monkeypatch.setattr(launch, "machine_code", lambda text, capability: (found.append(capability) or CODE, ""))
    return found


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "cache_folder", lambda: tmp_path / "kept")
    return tmp_path / "kept"


SOURCE = compiler.total(1024, "float32", False)


def kept(capability=CAPABILITY):
    return launch.cubin(SOURCE, capability)


def test_each_kind_of_device_is_compiled_for_once(asked, folder):
    assert {kept(one) for one in (CAPABILITY, OLDEST, CAPABILITY, OLDEST)} == {CODE}
    assert asked == [CAPABILITY, OLDEST]
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda code: b"",
        lambda code: code[:7],
        lambda code: code[:-1],
        lambda code: code[:40] + b"?" + code[41:],
        lambda code: CODE,
    ],
    ids=["nothing", "a few bytes", "one less", "another byte", "no seal"],
)
def test_what_is_damaged_is_compiled_anew_and_replaced(damage, asked, folder):
    kept()
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert kept() == kept() == CODE
    assert asked == [CAPABILITY] * 2


@pytest.mark.parametrize("package", ["numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink", "nvidia-nvjitlink-cu12"])
def test_other_compilers_find_nothing(package, asked, folder, monkeypatch):
    """The extras ``cuda`` and ``cuda12`` may share a home directory, but not machine code."""
    kept()
    version = importlib.metadata.version
    with monkeypatch.context() as patched:
        patched.setattr(importlib.metadata, "version", lambda name: "12.9.86" if name == package else version(name))
        launch.fingerprint.cache_clear()
        kept()
    launch.fingerprint.cache_clear()
    kept()
    assert asked == [CAPABILITY] * 2


def homeless():
    raise RuntimeError("Could not determine home directory.")


HOMES = {
    "placed": ({"NUMBA_CACHE_DIR": "/n", "XDG_CACHE_HOME": "/x"}, lambda: Path("/h"), "/n/jitloss-cuda"),
    "caches": ({"XDG_CACHE_HOME": "/x"}, homeless, "/x/jitloss/cuda"),
    "home": ({}, lambda: Path("/h"), "/h/.cache/jitloss/cuda"),
    "empty": ({"XDG_CACHE_HOME": ""}, lambda: Path("/h"), "/h/.cache/jitloss/cuda"),
    "relative": ({"XDG_CACHE_HOME": "x"}, lambda: Path("/h"), "/h/.cache/jitloss/cuda"),
}


@pytest.mark.parametrize("how", HOMES)
def test_where_it_is_kept(how, monkeypatch):
    said, home, folder = HOMES[how]
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Path, "home", home)
    assert launch.cache_folder() == Path(folder)


def test_without_a_home_nothing_is_kept(asked, monkeypatch):
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert launch.cache_folder() is None
    assert kept() == kept() == CODE
    assert asked == [CAPABILITY] * 2


def no_space(*given):
    raise OSError(errno.ENOSPC, "No space left on device")


def full(monkeypatch):
    real = tempfile.NamedTemporaryFile

    def unwritable(**options):
        file = real(**options)
        file.write = no_space
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", unwritable)


def unmovable(monkeypatch):
    monkeypatch.setattr(os, "replace", no_space)


@pytest.mark.parametrize("happens", [full, unmovable])
def test_a_full_disk_is_not_filled_further(happens, asked, folder, monkeypatch):
    happens(monkeypatch)
    assert kept() == kept() == CODE
    assert asked == [CAPABILITY] * 2
    assert not list(folder.iterdir())
