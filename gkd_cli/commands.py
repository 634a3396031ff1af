"""Every command, its arguments and its help. What a command does is imported when it runs, so that help is instant."""

from __future__ import annotations

import os
import shlex
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import click

from gkd_cli.arguments import CONFIG, OVERRIDES, imports, is_config, pairs, resources, split_config, stack
from gkd_cli.loading import brings_code, loading, warm_up
from gkd_cli.process import Commands, show, write_what_can_be_written


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
