"""Matplotlib figures as SVG that stands inside a page: the page's text colour and palette, no ids in common."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from gkd_plugin.study.extras import load_extra
from gkd_plugin.study.report.parts import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

DPI = 96  # a page's pixels in an inch
HALF = 5.8  # inches: two figures stand beside each other on a wide page, one fills a narrow one
# Colours that stand for what the page decides. Okabe and Ito's palette is told apart by colour-blind readers and has
# enough contrast on white and on near-black.
INK = "#010203"
SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)))  # so that lines differ in print, too
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: it is found, copied, and takes the page's colour
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.7,
    "lines.color": INK,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "path.simplify": True,
    "axes.unicode_minus": True,
    "text.parse_math": False,  # a name may have dollars in it
}
EMPTY_META = {"Creator": None, "Date": None, "Format": None, "Type": None}


def styled(draw: Callable[P, Picture]) -> Callable[P, Picture]:
    """A function that draws, under :data:`STYLE`."""

    @functools.wraps(draw)
    def drawing(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with load_extra("matplotlib").rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawing


def new_figure(width: float, height: float) -> Figure:
    """A figure of this many inches, which needs no display."""
    load_extra("matplotlib")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def make_picture(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """A drawn figure as a part of a report.

    Args:
        figure (Figure): The figure.
        name (str): A word that no other figure of the page has.
        title (str): Its heading.
        caption (str): What it shows and from which file.
    """
    return Picture(name, title, caption, write_svg(figure, name))


def write_svg(figure: Figure, name: str) -> str:
    """A figure as an ``<svg>`` element for a page.

    Args:
        figure (Figure): The figure, drawn under :data:`STYLE`.
        name (str): A word that no other figure of the page has; ids begin with it.
    """
    text = io.StringIO()
    with load_extra("matplotlib").rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata=EMPTY_META)
    width, height = (round(size * DPI) for size in figure.get_size_inches())
    _, _, body = text.getvalue().partition("<svg ")
    opening, _, body = body.partition(">")
    box = re.search(r'viewBox="[^"]+"', opening)
    assert box is not None
    body = re.sub(r"<style.*?</style>|<metadata.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))  # the rest is not needed, and images share theirs
    body = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r'url\(#|href="#', lambda found: f"{found[0]}{name}-", body)
    body = re.sub(r"font-family: [^;\"]*;?", "", body).replace(INK, "currentColor")
    for number, colour in enumerate(SERIES):
        body = body.replace(colour, f"var(--s{number}, {colour})")  # the page makes them lighter on a dark ground
    body = re.sub(r"\s*\n\s*", "\n", body)
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    size = f'{box[0]} width="{width}" height="{height}"'
    return f'<svg {names} {size} role="img" aria-labelledby="{name}-title">{body}'.strip()


def paint_cells(axes: Axes, values: Any, colours: tuple[str, str], high: float) -> None:
    """A heat map whose colour fades into the page at 0.

    Args:
        axes (Axes): Where.
        values (array): Two-dimensional; NaN stays empty.
        colours (tuple): The colour of values above 0, and that of those below.
        high (float): The absolute value that gets the full colour.
    """
    from matplotlib.colors import to_rgb

    values = np.asarray(values, dtype=float)
    cells = np.zeros((*values.shape, 4))
    cells[..., :3] = np.where((values >= 0)[..., None], to_rgb(colours[0]), to_rgb(colours[1]))
    cells[..., 3] = 0.75 * np.clip(np.nan_to_num(np.abs(values)) / (high or 1.0), 0, 1)  # writing stays readable
    axes.imshow(cells, aspect="auto", interpolation="none")
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_alpha(0.4)


def shorten(text: str, longest: int) -> str:
    """A label that is no longer than this."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def write_file(svg: str) -> str:
    """The same as a file of its own: dark on white, wherever it is shown."""
    svg = re.sub(r"var\(--s\d, (#\w+)\)", r"\1", svg)
    start = svg.index(">") + 1
    style = (
        "<style>svg{color:#1f2328;background:#fff;font-family:sans-serif}"
        "*{stroke-linejoin:round;stroke-linecap:butt}</style>"
    )
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg[:start]}{style}{svg[start:]}\n'
