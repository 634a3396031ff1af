"""A study in a notebook: its tables as pandas frames, and one figure."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gkd_plugin.study.effects import interact, rank
from gkd_plugin.study.extras import load_extra
from gkd_plugin.study.records import StudyResults, read_study
from gkd_plugin.study.tables import compare, pareto, select, summarise
from gkd_plugin.training.metrics import PERCENT

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SHOWN = 30  # rows of a table, points of a figure; the frames have all


def make_overview(folder: str | Path, answer: str = "mean") -> Overview:
    """Reads a study, a folder of runs, or one run.

    Args:
        folder (str or Path): The folder.
        answer (str): What is compared: ``mean`` (over students), ``best``, ``first``, ``ensemble`` or ``s1`` ...

    Raises:
        UserError: If there are no runs in it, or pandas is not installed.
    """
    return Overview(read_study(folder), answer)


@dataclass(frozen=True, eq=False, repr=False)
class Overview:
    """What ``gkd_plugin.report`` returns. A notebook shows its figure and its main table.

    Args:
        results (StudyResults): What was read: ``points``, ``scores`` and ``failures`` as frames.
        answer (str): The answer that counts.
    """

    results: StudyResults
    answer: str = "mean"

    @cached_property
    def runs(self) -> pd.DataFrame:
        """Every point, the best by validation first; see :func:`gkd_plugin.study.tables.summarise`."""
        return summarise(self.results, self.answer)

    @cached_property
    def comparison(self) -> pd.DataFrame:
        """Every point beside its control; see :func:`gkd_plugin.study.tables.compare`."""
        return compare(self.results, self.answer)

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """Every value of every dimension; see :func:`gkd_plugin.study.effects.rank`."""
        return rank(self.results, self.answer)

    @cached_property
    def interactions(self) -> pd.DataFrame:
        """Every pair of dimensions; see :func:`gkd_plugin.study.effects.interact`."""
        return interact(self.results, self.answer)

    @cached_property
    def pareto(self) -> pd.DataFrame:
        """Points by their size; see :func:`gkd_plugin.study.tables.pareto`."""
        return pareto(self.results, self.answer)

    @cached_property
    def selected(self) -> pd.DataFrame:
        """The point that validation selects; see :func:`gkd_plugin.study.tables.select`."""
        return select(self.results, self.answer)

    @property
    def figure(self) -> Figure:
        """Paired differences to the control with their intervals; without controls the test scores.

        Raises:
            UserError: If matplotlib is not installed.
        """
        table, scale = self._drawn, 100.0 if self.results.metric in PERCENT else 1.0
        size = (8, 1.2 + 0.28 * len(table))
        figure: Figure = load_extra("matplotlib.figure").Figure(figsize=size, layout="constrained")
        axis = figure.subplots()
        columns = ("difference", "low", "high") if len(self.comparison) else ("test", "test_low", "test_high")
        middle, low, high = (scale * table[name] for name in columns)
        places = list(range(len(table)))
        axis.hlines(places, low.fillna(middle), high.fillna(middle), colors="tab:blue", linewidth=2)
        axis.plot(middle, places, "o", color="tab:blue")
        axis.set_yticks(places, [str(name).replace("$", r"\$") for name in table["name"]], fontsize=8)
        axis.invert_yaxis()
        unit = " (percentage points)" if scale == 100.0 else ""
        interval = ", 95 % interval" if low.notna().any() else ""
        if len(self.comparison):
            axis.axvline(0, color="grey", linewidth=1)
            axis.set_xlabel(f"test {self.results.metric}: difference to the control{interval}{unit}")
        else:
            axis.set_xlabel(f"test {self.results.metric}{' %' if unit else ''}{interval}")
        return figure

    @property
    def _drawn(self) -> pd.DataFrame:
        """The first rows of the main table, the best by validation first."""
        table = self.comparison if len(self.comparison) else self.runs
        return table[table["val"].notna()].head(_SHOWN)

    def __repr__(self) -> str:
        points, failed = self.results.points, len(self.results.failures)
        compared = f", {len(self.comparison)} compared with a control" if len(self.comparison) else ""
        trouble = f", {failed} failure{'s' if failed > 1 else ''}" if failed else ""
        count = f"{len(points)} point{'s' if len(points) != 1 else ''}"
        return f"<report of {self.results.name}: {count}{compared}{trouble}>"

    def _repr_html_(self) -> str:
        table = self.comparison if len(self.comparison) else self.runs
        shown = table.head(_SHOWN).dropna(axis="columns", how="all")
        more = f"<p>{len(table) - _SHOWN} more rows in the frame.</p>" if len(table) > _SHOWN else ""
        parts: list[Any] = [f"<p>{html.escape(repr(self)[1:-1])}</p>", self._draw(), shown.to_html(index=False), more]
        return "\n".join(parts)

    def _draw(self) -> str:
        if not len(self._drawn) or find_spec("matplotlib") is None:
            return ""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=110)
        return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
