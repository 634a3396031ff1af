"""Draws the pictures of docs/space.md: python docs/make_figures.py

Layer maps and schedules are drawn from the functions that a run calls, everything else by hand. Each picture is an SVG
with a background of its own, so that it can be read on light and on dark pages.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from gkd_plugin.space.layer_maps import weigh_layers  # noqa: E402
from gkd_plugin.space.schedules import factor  # noqa: E402

STYLE = """\
text { font: 14px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: var(--ink); }
.mono { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 13.5px; font-weight: 600; }
.soft { fill: var(--soft); font-size: 12.5px; }
.paper { fill: var(--paper); stroke: var(--faint); }
.learner { fill: var(--learner); } .source { fill: var(--source); }
.open { fill: var(--paper); stroke: var(--soft); stroke-width: 1.5; }
.in { fill: var(--paper); font-weight: 600; }
.line { fill: none; stroke: var(--soft); stroke-width: 1.5; }
.faint { fill: none; stroke: var(--faint); stroke-width: 1.5; }
.hot { fill: none; stroke: var(--source); stroke-width: 2.5; }
.curve { fill: none; stroke: var(--learner); stroke-width: 2.5; }
.head { fill: var(--source); stroke: none; }
svg { color-scheme: light dark; --ink: #1f2937; --soft: #667085; --faint: #d5dae2; --paper: #ffffff; --learner: #2f62d9; --source: #c2620c; }
@media (prefers-color-scheme: dark) {
svg { --ink: #e6e9ef; --soft: #9aa4b5; --faint: #3b4354; --paper: #1c212d; --learner: #86abff; --source: #f2a65a; } }
"""


class Picture:
    """An SVG that grows by what is drawn.

    Args:
        title (str): What it shows, for readers who do not see it.
        width, height (int): Its size in pixels, which phones scale down a little.
    """

    def __init__(self, title: str, height: int, width: int = 440) -> None:
        self.title, self.width, self.height = title, width, height
        self.parts = [f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>']

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        named = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text{named} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>')

    def box(self, x: float, y: float, words: str, kind: str, width: float = 76, height: float = 26) -> None:
        """A box around its centre, with words in it."""
        left, top = x - width / 2, y - height / 2
        self.parts.append(
            f'<rect class="{kind}" x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="5"/>'
        )
        self.text(x, y + 5, words, "in" if kind in ("learner", "source") else "")

    def dot(self, x: float, y: float, kind: str, radius: float = 8) -> None:
        self.parts.append(f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>')

    def path(self, way: str, kind: str, strength: float | None = None) -> None:
        style = "" if strength is None else f' style="stroke-width: {strength:.2f}"'
        self.parts.append(f'<path class="{kind}" d="{way}"{style}/>')

    def line(self, x: float, y: float, to_x: float, to_y: float, kind: str, strength: float | None = None) -> None:
        self.path(f"M{x:g} {y:g}L{to_x:g} {to_y:g}", kind, strength)

    def head(self, x: float, y: float, angle: float, size: float = 9) -> None:
        """The head of an arrow: its point, and where it comes from as an angle."""
        ends = [(x + size * math.cos(angle + turn), y + size * math.sin(angle + turn)) for turn in (0.42, -0.42)]
        (a, b), (c, d) = ends
        self.parts.append(f'<path class="head" d="M{x:.1f} {y:.1f}L{a:.1f} {b:.1f}L{c:.1f} {d:.1f}Z"/>')

    def arrow(self, x: float, y: float, to_x: float, to_y: float, strength: float = 2.5) -> None:
        angle = math.atan2(y - to_y, x - to_x)
        self.line(x, y, to_x + 5 * math.cos(angle), to_y + 5 * math.sin(angle), "hot", strength)
        self.head(to_x, to_y, angle, 7 + strength)

    def bow(self, x: float, y: float, to_y: float, out: float) -> None:
        """An arrow between two places one above the other, around what stands there."""
        self.path(f"M{x:g} {y:g}C{x + out:g} {y:g} {x + out:g} {to_y:g} {x + 4:g} {to_y:g}", "hot")
        self.head(x, to_y, 0.0)

    def write(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img"><title>{escape(self.title)}</title>\n<style>\n{STYLE}</style>\n'
        )
        return head + "\n".join(self.parts) + "\n</svg>\n"


def columns(
    picture: Picture, depths: Sequence[int], x: Sequence[float], top: float, step: float = 38
) -> list[list[float]]:
    """Two columns of layers, the first one a source and the other a learner; where each layer stands, from below."""
    heights = [[top + step * (max(depths) - 1 - layer) for layer in range(depth)] for depth in depths]
    for at, kind, ys in zip(x, ("source", "learner"), heights, strict=True):
        for number, y in enumerate(ys, 1):
            picture.box(at, y, f"layer {number}", kind)
    return heights


# ------------------------------------------------------------------------------------------------------ the pictures
def questions() -> Picture:
    """A source beside a learner, with the five questions where they belong."""
    picture = Picture("A source with four layers beside a learner with three, and the five questions between them", 420)
    picture.text(86, 30, "source")
    picture.text(86, 48, "1  who teaches?", "soft")
    picture.text(354, 30, "learner")
    picture.text(354, 48, "the student", "soft")
    source, learner = columns(picture, (4, 3), (86, 354), 116)
    for row in range(3):
        for column in range(4):
            if weigh_layers("proportional", 3, 4, {}, False)[row, column]:
                picture.arrow(128, source[column], 312, learner[row])
    picture.dot(220, 135, "open", 17)
    picture.text(220, 140, "D")
    picture.text(220, 104, "3  what is compared?", "soft")
    picture.text(220, 246, "2  which layer listens", "soft")
    picture.text(220, 262, "to which?", "soft")
    for x, kind in ((86, "source"), (354, "learner")):
        picture.box(x, 78, "logits", kind)
    picture.text(112, 284, "4  on which nodes or edges?", "soft")
    for a, b in GRAPH_EDGES:
        picture.line(*place(a, 40, 296), *place(b, 40, 296), "hot" if (a, b) in ((0, 1), (1, 2)) else "line")
    for node in range(len(GRAPH)):
        picture.dot(*place(node, 40, 296), "learner" if node < 3 else "open", 7)
    picture.text(330, 284, "5  when?", "soft")
    curve(picture, "rampup_80", 260, 300, 140, 74)
    picture.text(330, 398, "weight over the epochs", "soft")
    return picture


def sources() -> Picture:
    """The six sources: who teaches the blue student."""
    picture = Picture(
        "Six sources: a teacher, peers, the network itself, the cohort, a moving average, a uniform prior", 402
    )
    for number, (name, what) in enumerate(SOURCES.items()):
        x, y = 74 + 146 * (number % 3), 20 + 192 * (number // 3)
        picture.text(x, y + 10, name, "mono")
        for line, words in enumerate(what):
            picture.text(x, y + 136 + 17 * line, words, "soft")
        middle = y + 68
        if name == "teacher":
            picture.box(x - 30, middle, "", "source", 44, 84)
            picture.arrow(x - 6, middle, x + 24, middle)
            picture.box(x + 38, middle, "", "learner", 24, 48)
        elif name == "peers":
            spots = [(x, middle - 32), (x - 36, middle + 26), (x + 36, middle + 26)]
            for a, b in ((0, 1), (1, 2), (2, 0)):
                both(picture, *spots[a], *spots[b], 16)
            for spot in spots:
                picture.dot(*spot, "learner", 14)
        elif name == "self":
            for layer in range(3):
                picture.box(x - 8, middle + 32 - 32 * layer, "", "learner", 52, 22)
            picture.bow(x + 19, middle - 32, middle, 30)
            picture.bow(x + 19, middle - 32, middle + 32, 50)
        elif name == "cohort":
            spots = [(x - 46, middle + 30), (x, middle + 30), (x + 46, middle + 30)]
            for spot in spots:
                both(picture, *spot, x, middle - 30, 16)
                picture.dot(*spot, "learner", 14)
            picture.box(x, middle - 32, "mean", "source", 62, 26)
        elif name == "ema":
            picture.dot(x - 34, middle, "source", 22)
            picture.arrow(x - 10, middle - 9, x + 18, middle - 9)
            picture.path(f"M{x + 18:g} {middle + 9:g}L{x - 10:g} {middle + 9:g}", "line")
            picture.dot(x + 36, middle, "learner", 18)
        else:
            for bar in range(5):
                picture.box(x - 52 + 12 * bar, middle, "", "source", 8, 44)
            picture.arrow(x + 4, middle, x + 28, middle)
            picture.dot(x + 46, middle, "learner", 16)
    return picture


SOURCES = {
    "teacher": ("trained before,", "frozen; or several"),
    "peers": ("students trained", "at the same time"),
    "self": ("deeper layers teach", "earlier ones"),
    "cohort": ("the mean prediction", "of all students"),
    "ema": ("the moving average", "of its own weights"),
    "uniform_prior": ("nobody: all", "classes alike"),
}


def both(picture: Picture, x: float, y: float, to_x: float, to_y: float, gap: float) -> None:
    """An arrow with two heads that stops before both ends."""
    angle = math.atan2(to_y - y, to_x - x)
    ax, ay = x + gap * math.cos(angle), y + gap * math.sin(angle)
    bx, by = to_x - gap * math.cos(angle), to_y - gap * math.sin(angle)
    picture.line(ax, ay, bx, by, "hot", 2)
    picture.head(ax, ay, angle)
    picture.head(bx, by, angle + math.pi)


def layer_maps() -> Picture:
    """Every fixed map, by the function that a run calls, for a source of four layers."""
    picture = Picture("Which layer of the learner listens to which layer of the source, under six layer maps", 578)
    for number, (label, name, depth, values) in enumerate(MAPS):
        x, y = 110 + 220 * (number % 2), 20 + 190 * (number // 2)
        picture.text(x, y + 10, label, "mono")
        weights = weigh_layers(name, depth, 4, values, False)
        heights = [[y + 42 + 32 * (3 - layer) for layer in range(count)] for count in (4, depth)]
        for row in range(depth):
            for column in range(4):
                if weights[row, column] > 0:
                    strength = max(1.2, 2.5 * float(weights[row, column]))
                    picture.arrow(x - 32, heights[0][column], x + 32, heights[1][row], strength)
        for at, kind, ys in ((x - 56, "source", heights[0]), (x + 56, "learner", heights[1])):
            for layer, height in enumerate(ys, 1):
                picture.box(at, height, str(layer), kind, 48, 22)
    return picture


MAPS: tuple[tuple[str, str, int, dict[str, object]], ...] = (
    ("last", "last", 3, {}),
    ("one_to_one", "one_to_one", 4, {}),
    ("shift: 1", "shift", 4, {"shift": 1}),
    ("proportional", "proportional", 2, {}),
    ("uniform", "uniform", 3, {}),
    ("pairs: 2~1+3~4", "pairs", 3, {"pairs": ((2, 1), (3, 4))}),
)


def ahead() -> Picture:
    """Two students that align ahead: shift 1, both ways."""
    picture = Picture(
        "Aligning ahead: layer l of each student listens to layer l + 1 of its peer, the last to the first", 232
    )
    weights = weigh_layers("shift", 4, 4, {"shift": 1}, False)
    for x, first, second in ((122, "student 2", "student 1"), (330, "student 1", "student 2")):
        left, right = x - 62, x + 62
        picture.text(left, 26, first, "soft")
        picture.text(right, 26, second, "soft")
        heights = [60 + 44 * (3 - layer) for layer in range(4)]
        for row in range(4):
            for column in range(4):
                if weights[row, column]:
                    picture.arrow(left + 28, heights[column], right - 28, heights[row])
        for layer, y in enumerate(heights, 1):
            picture.box(left, y, str(layer), "source", 48)
            picture.box(right, y, str(layer), "learner", 48)
    return picture


def attention() -> Picture:
    """A learned map as a matrix; the numbers are made up."""
    picture = Picture("A learned layer map: a weight for each pair of a learner layer and a source layer", 216)
    rows = ((0.46, 0.30, 0.16, 0.08), (0.14, 0.42, 0.28, 0.16), (0.05, 0.13, 0.26, 0.56))
    picture.text(250, 28, "source layer")
    for column in range(4):
        picture.text(163 + 58 * column, 50, str(column + 1), "soft")
    for row, weights in enumerate(reversed(rows)):
        y = 60 + 48 * row
        picture.text(88, y + 27, f"learner layer {3 - row}", "soft")
        for column, weight in enumerate(weights):
            x = 136 + 58 * column
            picture.parts.append(
                f'<rect class="source" x="{x}" y="{y}" width="54" height="44" rx="4" fill-opacity="{weight:.2f}"/>'
            )
            picture.text(x + 27, y + 27, f"{weight:.2f}")
    return picture


GRAPH = ((8, 28), (50, 6), (52, 54), (96, 30), (132, 6), (136, 58))
GRAPH_EDGES = ((0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (3, 5))
MORE_EDGES = ((1, 4), (2, 5))  # those of the source's graph


def place(node: int, x: float, y: float) -> tuple[float, float]:
    return x + GRAPH[node][0], y + GRAPH[node][1]


def domain() -> Picture:
    """Nodes and edges that are compared, on one small graph whose nodes 0 to 2 have labels."""
    picture = Picture("The same graph of six nodes seven times, with the nodes or edges that are compared", 488)
    pairs = tuple((a, b) for a in range(6) for b in range(a + 1, 6))
    every, edges = tuple(range(6)), GRAPH_EDGES
    panels = (
        ("nodes: train", (0, 1, 2), ()),
        ("nodes: unlabeled", (3, 4, 5), ()),
        ("nodes: all", every, ()),
        ("domain: edges", (), edges),
        ("domain: train_edges", (), edges[:3]),
        ("domain: union", (), edges + MORE_EDGES),
        ("domain: all_pairs", (), pairs),
    )
    for number, (label, nodes, compared) in enumerate(panels):
        x, y = 40 + 216 * (number % 2), 20 + 118 * (number // 2)
        picture.text(x + 70, y + 8, label, "mono")
        for a, b in {*edges, *compared}:
            picture.line(*place(a, x, y + 24), *place(b, x, y + 24), "hot" if (a, b) in compared else "faint")
        for node in range(6):
            picture.dot(*place(node, x, y + 24), "learner" if node in nodes else "open", 8)
    return picture


def curve(picture: Picture, word: str, x: float, y: float, width: float, height: float) -> None:
    """A schedule over 100 epochs, with its axes."""
    picture.path(f"M{x:g} {y:g}V{y + height:g}H{x + width:g}", "faint")
    values = [(epoch, factor(word, epoch)) for epoch in range(101)]
    spots = []
    for (epoch, value), (_, before) in zip(values, [values[0], *values[:-1]], strict=True):
        if abs(value - before) == 1:  # a step, not a slope
            spots.append((epoch, before))
        spots.append((epoch, value))
    way = "L".join(f"{x + width * epoch / 100:.1f} {y + height * (1 - value):.1f}" for epoch, value in spots)
    picture.path(f"M{way}", "curve")


def schedules() -> Picture:
    """Every schedule, by the function that a run calls."""
    picture = Picture("The factor on a term's weight over 100 epochs, under five schedules", 412)
    for number, word in enumerate(SCHEDULES):
        x, y = 30 + 212 * (number % 2), 20 + 132 * (number // 2)
        picture.text(x + 84, y + 8, word, "mono")
        curve(picture, word, x, y + 26, 168, 66)
        picture.text(x, y + 108, "epoch 0", "soft", "start")
        picture.text(x + 168, y + 108, "100", "soft", "end")
    return picture


SCHEDULES = ("constant", "warmup_30", "window_20_60", "linear_10_50", "rampup_80")


def updates() -> Picture:
    """Who steps when, of two students with three batches in an epoch."""
    picture = Picture("Three update orders: which of two students takes its step when", 284)
    orders = (
        ("epoch_alternate", ((1, 0), (1, 1), (1, 2), (2, 3), (2, 4), (2, 5))),
        ("step_alternate", ((1, 0), (2, 1), (1, 2), (2, 3), (1, 4), (2, 5))),
        ("joint", ((1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (2, 2))),
    )
    for number, (label, steps) in enumerate(orders):
        y = 20 + 80 * number
        picture.text(24, y + 8, label, "mono", "start")
        for student, slot in steps:
            kind = "learner" if student == 1 else "source"
            picture.box(52 + 66 * slot, y + (29 if student == 1 else 55), str(student), kind, 58, 22)
    picture.text(220, 270, "time; one box is one step of student 1 or 2", "soft")
    return picture


PICTURES = (questions, sources, layer_maps, ahead, attention, domain, schedules, updates)


def pictures() -> dict[str, str]:
    """The pictures by file name."""
    return {f"{draw.__name__}.svg": draw().write() for draw in PICTURES}


if __name__ == "__main__":
    for file, text in pictures().items():
        (DOCS / "figures" / file).write_text(text, encoding="utf-8")
