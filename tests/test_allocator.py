"""Freed memory stays with the process, unless the environment says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from gkd_plugin import allocator

PROGRAM = """
import importlib.util, resource, sys
import numpy

spec = importlib.util.spec_from_file_location("allocator", sys.argv[2])  # without torch, which takes seconds
allocator = importlib.util.module_from_spec(spec)
spec.loader.exec_module(allocator)
kept = allocator.keep_memory() if sys.argv[1] == "keep" else None
numpy.ones(4 << 20)  # 32 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    numpy.ones(4 << 20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")


def count_faults(what: str, **env: str) -> tuple[str, int]:
    """What ``keep_memory`` returned, and how many pages the system had to clear."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PROGRAM, what, allocator.__file__]
    done = subprocess.run(command, env={**plain, **env}, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@glibc
def test_pages_are_cleared_once() -> None:
    kept, faults = count_faults("keep")
    _, given_back = count_faults("not")
    assert kept == "True"
    assert faults < given_back / 10


@glibc
@pytest.mark.parametrize("env", [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}])
def test_who_has_chosen_keeps_the_choice(env: dict[str, str]) -> None:
    assert count_faults("keep", **env)[0] == "False"


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not allocator.keep_memory()
