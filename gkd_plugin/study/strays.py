"""Keys of a term in a grid that also has presets without it: a row under ``when`` keeps them apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gkd_plugin.space import axes
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.study.grid_file import Grid, Range, Row

PRESET = "kd.preset"


def find_strays(grid: Grid, base: Mapping[str, Any]) -> Iterator[str]:
    """One warning for each term whose keys also meet presets that lack it, with the rows as they should stand.

    A grid is left alone where its base weighs the term, where a weight of 0 is among its values, and where no preset has the
    term: mixtures are made so.

    Args:
        grid (Grid): The grid.
        base (mapping): The values of its base configuration.
    """
    for block in grid.blocks:
        presets = next((row for row in block if row.key == PRESET and not isinstance(row.values, Range)), None)
        if presets is None or isinstance(presets.values, Range):
            continue
        known = [word for word in presets.values if word in axes.presets and word != "none"]
        for name in axes.knowledge:
            rows = [row for row in block if row.key.startswith(f"kd_{name}.") and not _asks(row, presets)]
            weighed = [row for row in rows if _is_weight(row, axes.knowledge[name])]
            if not rows or _is_weighed(base, name) or any(_has_zero(row) for row in weighed):
                continue
            having = [word for word in known if _has_term(word, name)]
            lacking = [word for word in known if word not in having]
            if having and lacking:
                yield _describe(name, rows, weighed, presets, having, lacking)


def _asks(row: Row, presets: Row) -> bool:
    return any(condition.alias == presets.alias for condition in row.when)


def _is_weight(row: Row, term: type[Term]) -> bool:
    return row.key.partition(".")[2] in {part.weight for part in term.parts}


def _is_weighed(base: Mapping[str, Any], name: str) -> bool:
    group = base.get(f"kd_{name}") or {}
    return any(group.get(part.weight) for part in axes.knowledge[name].parts)


def _has_zero(row: Row) -> bool:
    return row.values.low == 0 if isinstance(row.values, Range) else 0 in row.values


def _has_term(preset: str, name: str) -> bool:
    keys = axes.presets[preset].groups.get(f"kd_{name}", {})
    return any(keys.get(part.weight) for part in axes.knowledge[name].parts)


def _describe(
    name: str, rows: Sequence[Row], weighed: Sequence[Row], presets: Row, having: Sequence[str], lacking: Sequence[str]
) -> str:
    keys, several = ", ".join(row.key for row in rows), len(rows) > 1
    has = "has" if len(lacking) == 1 else "have"
    if weighed:
        effect = f"{'they put' if several else 'it puts'} that term into every point"
    else:
        effect = f"{'they have' if several else 'it has'} no effect there"
    lines = [
        f"{keys} {'are' if several else 'is'} also set for {', '.join(lacking)}, which {has} no kd_{name}: {effect}. If that is not "
        f"meant, write below the row of {presets.key}:",
        f"when {presets.alias} {', '.join(having)}",
        *(f"    {row.key} {row.alias} {_show(row.values)}" for row in rows),
    ]
    return "\n    ".join(lines)


def _show(values: tuple[Any, ...] | Range) -> str:
    return str(values) if isinstance(values, Range) else f"[{', '.join(map(str, values))}]"
