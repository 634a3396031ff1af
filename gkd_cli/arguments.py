"""Arguments that several commands have, and how a line's words are read."""

from __future__ import annotations

import os
from typing import Any

import click

from gkd_cli.loading import loading

CONFIG = click.option("--cfg", "config", metavar="F", help="A GraphGym YAML; or name it first, without --cfg.")
OVERRIDES = {"ignore_unknown_options": True}  # a value may be a negative number


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


def resources(command: Any) -> Any:
    """The options of commands that train many runs: where, how many at a time, how long."""
    for option in (
        click.option(
            "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Stop a run after S seconds."
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
    help="Train up to N similar networks in one pass: runs that differ in seed, rates, dropout or kd keys only.",
)
