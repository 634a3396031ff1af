"""``gkd plugins``: the loaded plugins, their distributions, what they registered, and the errors of disabled ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from gkd_plugin import plugins
from gkd_plugin.plugins import Loaded
from gkd_plugin.printing import Printable
from gkd_plugin.space import axes


@dataclass(frozen=True, repr=False)
class Plugins(Printable):
    """What ``gkd plugins`` shows; ``rows`` for programs, text for people.

    Args:
        rows (tuple of Loaded): The plugins in the order in which they were loaded, the broken ones with their error.
    """

    rows: tuple[Loaded, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for plugin in self.rows:
            state = "" if plugin.error is None else "  [red]disabled[/]"
            yield f"[bold]{escape(plugin.name)}[/]  {escape(plugin.package)}{state}"
            grid = Table.grid(padding=(0, 2))
            grid.add_column(style="cyan", no_wrap=True)
            grid.add_column()
            if plugin.error is not None:
                grid = Table.grid()
                grid.add_row(escape(plugin.error))
            for hook, names in list_registered(plugin):
                grid.add_row(hook, ", ".join(names) or "-")
            yield Padding(grid, (0, 0, 0, 4))
        broken = [plugin.name for plugin in self.rows if plugin.error is not None]
        if broken:
            sound = ",".join(plugin.name for plugin in self.rows[1:] if plugin.error is None)
            yield f"Without {', '.join(broken)}: GKD_LOAD_PLUGINS={sound} (names to load, comma separated)"


def list_registered(plugin: Loaded) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The hooks of a plugin in the order of the axes, each with the names it registered."""
    for axis in axes.ALL:
        hook = f"gkd_register_{axis.name}"
        if hook in plugin.hooks:
            yield hook, tuple(name for name in axis if axis.origin(name) == plugin.name)


def list_plugins() -> Plugins:
    """The plugins of this program; see :func:`gkd_plugin.plugins.load`."""
    return Plugins(plugins.loaded())
