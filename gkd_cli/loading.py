"""Imports that take seconds: only what a command needs, with a word on the terminal, and ahead of time for its workers."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from gkd_cli.process import end_cleanly, end_now, is_own

_METHOD = "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD"  # Dask reads it when it is imported
_LOADING = "loading torch and torch_geometric ..."


class _Late(ModuleType):
    """Stands for a module that takes seconds to import, until something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # who only looks through the modules that are there
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def import_lightly(trains: bool = False) -> None:
    """Imports the host without Lightning, which it does without by itself, and what only Lightning needs.

    Args:
        trains (bool): Whether the process trains, by our loop; if not, torch's compiler and numba are left out, too.
    """
    import torch

    if "torch_geometric" in sys.modules or "torch._dynamo" in sys.modules:
        return
    left_out = ["lightning", "pytorch_lightning", "pandas"]
    if not trains:
        compiler = _Late("torch._dynamo")  # the host compares with one of its classes
        sys.modules[compiler.__name__] = torch._dynamo = compiler
        left_out.append("numba")  # one of the host's transforms asks whether it is there
    absent = [name for name in left_out if name not in sys.modules]
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(absent))  # None: it cannot be imported
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*install 'pytorch_lightning'.*")
            importlib.import_module("torch_geometric.graphgym")
        vars(importlib.import_module("torch_geometric.graphgym.imports"))["pl"] = _Late("pytorch_lightning")
    finally:
        for name in absent:
            del sys.modules[name]


def brings_code(config: str, words: Sequence[str]) -> bool:
    """Whether a run imports code of others, which may ask the host for Lightning: an installed plugin, or a function that makes
    the data (``module:function``); where a configuration only looks like it, no more than time is lost.
    """
    texts = list(map(str, words))
    with contextlib.suppress(OSError, ValueError):  # what is wrong with the file is said later
        texts.append(Path(config).read_text(encoding="utf-8"))
    return any(re.search(r"\w:\w", text) for text in texts) or bool(entry_points(group="gkd_plugin"))


@contextlib.contextmanager
def loading(needs: str = "everything") -> Iterator[None]:
    """Says on a terminal that torch is being imported, which takes seconds; the line goes when it is there.

    Args:
        needs (str): ``everything``; ``training``, by our own loop and in this process; or ``checks``, and nothing is trained.
    """
    waits = "torch" not in sys.modules and sys.stderr.isatty()
    if waits:
        click.echo(_LOADING, err=True, nl=False)
    ours = signal.getsignal(signal.SIGINT) is end_cleanly
    if ours:
        signal.signal(signal.SIGINT, end_now)  # nothing has begun, and what is being imported would print tracebacks
    try:
        if needs != "everything" and is_own():  # which ends with the command
            import_lightly(trains=needs == "training")
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, end_cleanly)
        if waits:
            click.echo("\r" + " " * len(_LOADING) + "\r", err=True, nl=False)


def warm_up(workers: int | None, scheduler: str | None) -> None:
    """Starts the process of which workers will be copies, so that it imports what they need while this one does.

    They then start at once, share its memory, and one that died is back at once. Dask finds the server running, and its
    own setting tells it to use it. Without a warm server (other systems; before Python 3.11 it would import modules from
    the working folder first) every worker imports everything itself.
    """
    if workers == 0 or scheduler is not None or sys.platform != "linux" or sys.version_info < (3, 11):
        return
    if os.environ.setdefault(_METHOD, "forkserver") != "forkserver":
        return
    import multiprocessing
    from multiprocessing import forkserver

    multiprocessing.get_context("forkserver").set_forkserver_preload(["gkd_plugin.study.original"])
    before = dict(os.environ)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # a run sets its own
    os.environ |= {**threads, "OMP_WAIT_POLICY": "passive", "PYTHONSAFEPATH": "1"}
    # a command that is killed cannot tidy up, and need not be told so
    os.environ["PYTHONWARNINGS"] = ",".join([*filter(None, [before.get("PYTHONWARNINGS")]), "ignore:resource_tracker"])
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command; the server inherits this
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler)
        os.environ.clear()
        os.environ.update(before)
