"""The process of the command: how it ends, with which exit code, and what it prints."""

from __future__ import annotations

import atexit
import codecs
import gc
import io
import os
import signal
import sys
from types import FrameType
from typing import Any

import click

_STAND_INS = {"Σ": "sum", "←": "<-", "±": "+-", "·": "*", "─": "-"}
_own_process = False  # whether this process is the command's, and no program that calls it


def take_over() -> None:
    """This process is the command's: Ctrl-C ends cleanly what has begun, a second one ends now, and neither shows a traceback."""
    global _own_process
    _own_process = True
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as behind & in a shell
        signal.signal(signal.SIGINT, end_cleanly)


def is_own() -> bool:
    """Whether this process is the command's, and ends with it."""
    return _own_process


@atexit.register
def _leave() -> None:
    """Collects garbage once; Python would look through all that torch consists of four more times, for a second."""
    gc.collect()
    gc.freeze()


def end_cleanly(number: int, frame: FrameType | None) -> None:
    """The first Ctrl-C: whoever trains keeps what is done."""
    signal.signal(signal.SIGINT, end_now)
    raise KeyboardInterrupt


def end_now(number: int, frame: FrameType | None) -> None:
    """The second one: the process ends at once."""
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
