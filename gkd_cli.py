"""The `gkd` command: arguments and help only. What a command does is imported when it runs, so that help is instant."""

from __future__ import annotations

import atexit
import codecs
import contextlib
import gc
import importlib
import io
import os
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from itertools import takewhile
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import click

_METHOD = "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD"  # Dask reads it when it is imported
_own_process = False  # whether this process is the command's, and no program that calls it
_LOADING = "loading torch and torch_geometric ..."
_STAND_INS = {"Σ": "sum", "←": "<-", "±": "+-", "·": "*", "─": "-"}
CONFIG = click.option("--cfg", "config", metavar="F", help="A GraphGym YAML; or name it first, without --cfg.")
OVERRIDES = {"ignore_unknown_options": True}  # a value may be a negative number


@atexit.register
def _leave() -> None:
    """Collects garbage once; Python would look through all that torch consists of four more times, for a second."""
    gc.collect()
    gc.freeze()


def start() -> None:
    """What the command ``gkd`` calls: Ctrl-C ends cleanly what has begun, a second one ends now, and neither shows a traceback."""
    global _own_process
    _own_process = True
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as behind & in a shell
        signal.signal(signal.SIGINT, _end_cleanly)
    main()


def _end_cleanly(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _end_now)
    raise KeyboardInterrupt


def _end_now(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


class Commands(click.Group):
    """Exit codes: 0 done, 1 a run failed, 2 the user's mistake, 130 interrupted."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.exceptions.Abort):  # RuntimeErrors too
            raise
        except KeyboardInterrupt as stop:
            what = f", but {stop}" if str(stop) else " with what was kept"  # said where that is not the whole truth
            click.echo(f"interrupted; the same command continues{what}", err=True)
            ctx.exit(130)
        except (ValueError, RuntimeError) as error:
            from gkd_plugin.errors import RunFailed, UserError

            if not isinstance(error, (UserError, RunFailed)):
                raise
            click.echo(f"{ctx.command_path}: {error}", err=True)
            ctx.exit(2 if isinstance(error, UserError) else 1)


def pairs(words: tuple[str, ...]) -> list[str]:
    """``key value`` pairs from the command line, checked for their form."""
    for key in words[::2]:
        if key.startswith("-"):
            raise click.UsageError(f"No such option: {key}. Overrides are pairs: key value.")
    if len(words) % 2:
        raise click.UsageError(f"'{words[-1]}' has no value. Overrides are pairs: key value.")
    return list(words)


def is_config(word: str) -> bool:
    """Whether a word names a configuration rather than a key."""
    return word.endswith((".yaml", ".yml")) or os.path.isfile(word)


def split_config(config: str | None, words: tuple[str, ...]) -> tuple[str, list[str]]:
    """The configuration, named by ``--cfg`` or by the first word, and the overrides."""
    if config is None:
        if not words or not is_config(words[0]):
            found = f"'{words[0]}' is not a file. " if words else ""
            raise click.UsageError(f"{found}Name a configuration first: F, or --cfg F.")
        config, words = words[0], words[1:]
    return config, pairs(words)


def show(result: Any) -> None:
    """Prints what a command returned: with colours on a terminal, as plain text elsewhere.

    What was done stays done where nobody reads: a closed or full output is no mistake.
    """
    try:
        if sys.stdout is not None and sys.stdout.isatty():
            from rich.console import Console

            Console().print(result, highlight=False)
        else:
            click.echo(str(result))
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        sys.stdout = open(os.devnull, "w")
        if not isinstance(error, BrokenPipeError):
            click.echo(f"the result could not be printed: {error.strerror}", err=True)


def write_what_can_be_written() -> None:
    """Output in a narrow encoding (cp1252, say) shows its stand-in for a letter that it lacks, where it would crash."""
    codecs.register_error("gkd_plugin", _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not str(stream.encoding).lower().startswith("utf"):
            stream.reconfigure(errors="gkd_plugin")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = "".join(_STAND_INS.get(letter, "?") for letter in error.object[error.start : error.end])
    return found.encode(error.encoding, "replace").decode(error.encoding), error.end


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
    ours = signal.getsignal(signal.SIGINT) is _end_cleanly
    if ours:
        signal.signal(signal.SIGINT, _end_now)  # nothing has begun, and what is being imported would print tracebacks
    try:
        if needs != "everything" and _own_process:  # which ends with the command
            import_lightly(trains=needs == "training")
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, _end_cleanly)
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


def _import(_context: click.Context, _option: click.Parameter, names: tuple[str, ...]) -> None:
    if names:
        with loading():
            from gkd_plugin.commands.imports import import_modules

        import_modules(names)


imports = click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    expose_value=False,
    callback=_import,
    help="Import MODULE first, for what it registers (from the working folder; several times for several).",
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gkd_plugin")
def main() -> None:
    """Graph knowledge distillation in GraphGym: a few lines of YAML are a method."""
    write_what_can_be_written()


@main.command(context_settings=OVERRIDES)
@CONFIG
@click.option("--repeat", default=1, show_default=True, type=click.IntRange(min=1), help="Number of seeds.")
@click.option("--name", help="Name of the run's folder.  [default: the file's name]")
@click.option("--control", is_flag=True, help="Also train the same students without distillation.")
@click.option("--fresh", is_flag=True, help="Start anew; an existing run is kept under a dated name.")
@imports
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="F [KEY VALUE]...")
def run(
    config: str | None, repeat: int, name: str | None, control: bool, fresh: bool, overrides: tuple[str, ...]
) -> None:
    """Train a configuration; finished seeds are kept, interrupted ones resume."""
    config, words = split_config(config, overrides)
    with loading("everything" if brings_code(config, words) else "training"):
        from gkd_plugin.commands.run import run as command

    report = command(config, repeat=repeat, overrides=words, name=name, control=control, fresh=fresh)
    show(report)
    if report.failures or (report.control is not None and report.control.failures):
        click.get_current_context().exit(1)


@main.command(context_settings=OVERRIDES)
@imports
@click.option("--cfg", "named", multiple=True, metavar="F", help="A GraphGym YAML; or name it first, without --cfg.")
@click.option("--data", is_flag=True, help="Also load the data; look at splits, labels and classes.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="F... [KEY VALUE]...")
def check(named: tuple[str, ...], data: bool, words: tuple[str, ...]) -> None:
    """Find every mistake in configurations, and all that a run would refuse, without training."""
    first = list(takewhile(is_config, words))
    files = [*named, *first]
    if not files:
        found = f"'{words[0]}' is not a file. " if words else ""
        raise click.UsageError(f"{found}Name at least one configuration first: F, or --cfg F.")
    overrides = pairs(words[len(first) :])
    with loading("everything" if data else "checks"):
        from gkd_plugin.commands.check import check as command

    checks = command(files, overrides, data=data)
    show(checks)
    if not checks.ok:
        click.get_current_context().exit(2)


@main.command(context_settings=OVERRIDES)
@imports
@CONFIG
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="F [KEY VALUE]...")
def explain(config: str | None, overrides: tuple[str, ...]) -> None:
    """Explain a configuration: every key with its origin, and the loss as a formula."""
    config, words = split_config(config, overrides)
    with loading("checks"):
        from gkd_plugin.commands.explain import explain as command

    show(command(config, words))


@main.command("list")
@imports
@click.argument("axis", required=False)
def list_(axis: str | None) -> None:
    """List the answers to every AXIS, or to one."""
    with loading("checks"):
        from gkd_plugin.commands.list import list_answers

    show(list_answers(axis))


@main.command(context_settings=OVERRIDES)
@imports
@click.option("--dir", default="./datasets", show_default=True, metavar="DIR", help="Where data lie (dataset.dir).")
@click.argument("name", required=False, metavar="[NAME | F]")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[KEY VALUE]...")
def data(name: str | None, dir: str, overrides: tuple[str, ...]) -> None:
    """Describe the data set NAME, or that of a configuration; list all names without one."""
    words = pairs(overrides)
    with loading():
        from gkd_plugin.commands.data import describe_data

    found = describe_data(name, dir, words)
    show(found)
    if getattr(found, "refusal", None):  # a list of names has none
        click.get_current_context().exit(2)


@main.command()
@imports
def plugins() -> None:
    """List the plugins, what they registered, and the errors of broken ones."""
    with loading("checks"):
        from gkd_plugin.commands.plugins import list_plugins

    show(list_plugins())


def resources(command: Any) -> Any:
    """The options of commands that train many runs: where, how many at a time, how long."""
    for option in (
        click.option(
            "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Give a run up after S seconds."
        ),
        click.option("--memory", metavar="SIZE", help="Largest memory of a worker, such as 4GB."),
        click.option(
            "--per-gpu",
            default=1,
            type=click.IntRange(min=1),
            metavar="N",
            help="Workers that share one GPU: small networks leave most of it idle.",
        ),
        click.option("--threads", type=click.IntRange(min=1), help="Threads of each run.  [default: cores / workers]"),
        click.option("--scheduler", metavar="ADDRESS", help="Use a running Dask cluster, such as tcp://node:8786."),
        click.option(
            "--workers", type=click.IntRange(min=0), metavar="N", help="Processes; 0: this one.  [default: one a core]"
        ),
    ):
        command = option(command)
    return command


stack = click.option(
    "--stack",
    default=1,
    type=click.IntRange(min=1),
    metavar="N",
    help="Train up to N like networks in one pass: runs that differ in seed, rates, dropout or kd keys only.",
)


@main.command(context_settings=OVERRIDES)
@click.option("--config", "--cfg", "config", metavar="BASE", help="The base configuration, a GraphGym YAML.")
@click.option("--grid", "file", metavar="GRID", help="The grid file.")
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(min=1), help="Seeds of each configuration.")
@click.option("--name", help="Name of the study.  [default: BASE_grid_GRID]")
@resources
@stack
@click.option("--no-controls", is_flag=True, help="Do not train the controls (the same students without distillation).")
@click.option("--placebo", is_flag=True, help="Also train with a shuffled teacher, and with label smoothing instead.")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Only N random configurations of the grid.")
@click.option("--sample-alias", metavar="A,B", help="Vary only these dimensions around each of the N.")
@click.option("--budget", metavar="N|F", help="Give every student about N parameters, or those of the student in F.")
@click.option("--retry-failed", is_flag=True, help="Run again what failed before.")
@click.option("--dry-run", is_flag=True, help="Only write the configurations, count them, and estimate the time.")
@imports
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[DIR] [KEY VALUE]...")
def grid(config: str | None, file: str | None, overrides: tuple[str, ...], **options: Any) -> None:
    """Train every configuration of a grid beside its control, or every one in DIR; the same command continues."""
    words = list(overrides)
    if words and os.path.isdir(words[0]):
        if config is not None or file is not None:
            raise click.UsageError(f"Name a folder of configurations ({words[0]}), or --config and --grid: not both.")
        config = words.pop(0)
    if config is None:
        raise click.UsageError(
            "Name a base and a grid (--config BASE --grid GRID), or a folder of configurations that is there."
        )
    values = pairs(tuple(words))
    if not options["dry_run"]:
        warm_up(options["workers"], options["scheduler"])
    with loading():
        from gkd_plugin.study.execute import Resources
        from gkd_plugin.study.grid import run_grid

    means = Resources(
        **{
            key: options.pop(key)
            for key in ("workers", "scheduler", "threads", "memory", "timeout", "stack", "per_gpu")
        }
    )
    options["controls"] = not options.pop("no_controls")
    options["sample_alias"] = [part for part in (options["sample_alias"] or "").split(",") if part]
    result = run_grid(
        config, file, overrides=values, resources=means, command=shlex.join(["gkd", *sys.argv[1:]]), **options
    )
    show(result)
    if result.failed:
        click.get_current_context().exit(1)


@main.command(context_settings=OVERRIDES)
@click.option("--config", "--cfg", "config", required=True, metavar="BASE", help="The base configuration.")
@click.option("--space", required=True, metavar="GRID", help="A grid file; ranges (0.001~0.1 log) are allowed.")
@click.option("--runs", type=click.IntRange(min=1), metavar="N", help="Points to try in all.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), metavar="H", help="Begin no run after H hours.")
@click.option(
    "--method",
    default="tpe",
    show_default=True,
    type=click.Choice(["tpe", "random", "halving"]),
    help="halving: random points, of which the better train longer.",
)
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(min=1), help="Seeds of each point.")
@click.option("--name", help="Name of the study.  [default: BASE_search_GRID]")
@resources
@click.option("--no-controls", is_flag=True, help="Do not train the controls of the best points.")
@click.option("--retry-failed", is_flag=True, help="Run again what failed before.")
@imports
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[KEY VALUE]...")
def search(config: str, space: str, overrides: tuple[str, ...], **options: Any) -> None:
    """Search a space for what validates best, then train the controls of the best; the same command continues."""
    words = pairs(overrides)
    warm_up(options["workers"], options["scheduler"])
    with loading():
        from gkd_plugin.study.execute import Resources
        from gkd_plugin.study.search import run_search

    means = Resources(
        **{key: options.pop(key) for key in ("workers", "scheduler", "threads", "memory", "timeout", "per_gpu")}
    )
    options["controls"] = not options.pop("no_controls")
    line = shlex.join(["gkd", *sys.argv[1:]])
    result = run_search(config, space, overrides=words, resources=means, command=line, **options)
    show(result)
    if result.failed:
        click.get_current_context().exit(1)


@main.command(context_settings=OVERRIDES)
@click.option("--quick", is_flag=True, help="Few seeds and epochs, to see in minutes that it runs.")
@click.option("--only", multiple=True, metavar="STUDY", help="Run only this study (several times for several).")
@click.option("--repeat", type=click.IntRange(min=1), metavar="N", help="Seeds.  [default: as the recipe says]")
@resources
@stack
@click.option("--retry-failed", is_flag=True, help="Run again what failed before.")
@click.option("--dry-run", is_flag=True, help="Only check every configuration and estimate the time.")
@imports
@click.argument("paper", required=False, metavar="[PAPER | DIR]")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[KEY VALUE]...")
def reproduce(paper: str | None, overrides: tuple[str, ...], **options: Any) -> None:
    """Run the studies of PAPER and set what comes out beside what was printed; list all papers without one."""
    values = pairs(overrides)
    if paper is not None and not options["dry_run"]:
        warm_up(options["workers"], options["scheduler"])
    with loading():
        from gkd_plugin.papers.reproduce import list_recipes
        from gkd_plugin.papers.reproduce import reproduce as command
        from gkd_plugin.study.execute import Resources
    if paper is None:
        show(list_recipes())
        return
    means = Resources(
        **{
            key: options.pop(key)
            for key in ("workers", "scheduler", "threads", "memory", "timeout", "stack", "per_gpu")
        }
    )
    result = command(paper, overrides=values, resources=means, command=shlex.join(["gkd", *sys.argv[1:]]), **options)
    show(result)
    if not result.complete:
        click.get_current_context().exit(1)


@main.command()
@click.argument("folder", metavar="DIR")
def status(folder: str) -> None:
    """Show what of a study is done, what runs, and what failed and why."""
    with loading("checks"):
        from gkd_plugin.study.status import read_status

    show(read_status(folder))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--out", type=click.Path(path_type=Path), metavar="F", help="The HTML file.  [default: in <study>.gkd]")
@click.option("--open", "open_page", is_flag=True, help="Also open the page in a browser.")
def report(folder: Path, out: Path | None, open_page: bool) -> None:
    """Write what a study, a folder of runs, or one run showed: one HTML page, and Markdown."""
    from gkd_plugin.study.report.write import write_report

    show(write_report(folder, out, open_page))


@main.command("export")
@imports
@click.argument("run", metavar="RUN")
@click.option("--out", required=True, metavar="DIR", help="A folder that is not there, or empty.")
@click.option("--seed", type=int, metavar="N", help="The number of a seed's folder.  [default: the best by validation]")
def export_(run: str, out: str, seed: int | None) -> None:
    """Write the selected student of RUN alone: weights, configuration, model card, programs for torch and ONNX."""
    with loading():
        from gkd_plugin.commands.export import export

    show(export(run, out, seed))


@main.command()
@imports
@click.argument("folder", metavar="RUN | DIR")
@click.option(
    "--teacher", metavar="NAME", help="The run beside which it is measured.  [default: the run's own teacher]"
)
@click.option("--seed", type=int, metavar="N", help="The number of a seed's folder.  [default: the best by validation]")
@click.option("--out", metavar="F", help="Also write the numbers to a JSON file that is not there yet.")
def card(folder: str, teacher: str | None, seed: int | None, out: str | None) -> None:
    """Measure what the student of RUN costs beside its teacher, or the runs of a study in DIR beside one another."""
    with loading():
        from gkd_plugin.study.card import make_card, write_numbers

    result = make_card(folder, teacher, seed)
    show(result)
    if out is not None:
        write_numbers(result, out)


@main.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path), metavar="[DIR]")
@click.option("--configs", is_flag=True, help="Also copy our configurations and grids into DIR/graphgym_configs.")
@click.option("--create", is_flag=True, help="Also create custom_graphgym where it is missing.")
def init(folder: Path, configs: bool, create: bool) -> None:
    """Add distillation to the GraphGym program in DIR (main.py and custom_graphgym)."""
    with loading("checks"):
        from gkd_plugin.commands.init import init as command

    click.echo(command(folder, configs, create))


if __name__ == "__main__":
    start()
