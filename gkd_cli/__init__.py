"""The `gkd` command: arguments and help only. It imports nothing but click before a command runs."""

from gkd_cli.commands import main
from gkd_cli.process import take_over

__all__ = ["main", "start"]


def start() -> None:
    """What the command ``gkd`` calls."""
    take_over()
    main()
