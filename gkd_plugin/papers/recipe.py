"""A recipe: which studies repeat a paper, which rows of its tables they answer, and what it printed there."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from gkd_plugin.commands.init import packed_configs
from gkd_plugin.config.files import read_file
from gkd_plugin.errors import UserError, cut, nearest

FILE = "recipe.yaml"
_NUMBER, _TEXT = (int, float), (str,)
_RECIPE = {
    "title": _TEXT,
    "link": _TEXT,
    "claim": _TEXT,
    "known": (list,),
    "reconstructed": (list,),
    "studies": (dict,),
    "quick": (dict,),
}
_STUDY = {
    "config": _TEXT,
    "grid": _TEXT,
    "seeds": (int,),
    "overrides": (dict,),
    "placebo": (bool,),
    "source": _TEXT,
    "rows": (list,),
    "notes": (list,),
    "needs": _TEXT,
}
_ROW = {
    "name": _TEXT,
    "where": (dict,),
    "teacher": (bool,),
    "answer": _TEXT,
    "over": (str, list),
    "published": _NUMBER,
    "spread": _NUMBER,
    "each": (dict,),
}
_ANSWER = re.compile(r"mean|best|first|ensemble|s[1-9]\d*")
_QUICK = {"seeds": (int,), "overrides": (dict,)}
_NEEDED = {"recipe": ("title", "link", "claim", "studies", "quick"), "study": ("config", "grid", "seeds", "rows")}


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        name (str): What the table calls it.
        where (mapping): The choices that its points have, by alias; ``None`` for a dimension that they do not have. Of
            several points, validation selects one.
        teacher (bool): The row of the teacher instead.
        answer (str): Whose score it is: ``mean`` over students, ``best``, ``first``, ``ensemble``.
        over (tuple of str): The rows that it is compared with.
        published, spread (float): What was printed, in the table's unit; NaN where nothing was.
    """

    name: str
    where: Mapping[str, Any] = field(default_factory=dict)
    teacher: bool = False
    answer: str = "mean"
    over: tuple[str, ...] = ()
    published: float = math.nan
    spread: float = math.nan


@dataclass(frozen=True)
class RecipeStudy:
    """One study of a recipe.

    Args:
        name (str): Its name.
        config, grid (Path): The base and the grid.
        seeds (int): Seeds of a full run.
        overrides (mapping): Keys that it changes in the base.
        placebo (bool): Also trains with a shuffled teacher, and with label smoothing instead.
        source (str): Where the published numbers stand.
        rows (tuple of Row): The rows.
        notes (tuple of str): Why numbers may differ from the published ones.
        needs (str): A package that its data need and that is not there by default.
    """

    name: str
    config: Path
    grid: Path
    seeds: int
    overrides: Mapping[str, Any]
    placebo: bool
    source: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    needs: str = ""

    @property
    def pairs(self) -> list[Any]:
        """The overrides as ``key value`` pairs."""
        return flatten(self.overrides)


@dataclass(frozen=True)
class Recipe:
    """What is known of a paper, and the studies that repeat it.

    Args:
        name (str): The paper's name, that of its folder.
        folder (Path): The folder.
        title, link (str): Of the paper.
        claim (str): What it says, in a sentence.
        known, reconstructed (tuple of str): What its text and code say; what had to be chosen.
        studies (tuple of RecipeStudy): The studies.
        quick_seeds (int): Seeds of a quick run.
        quick_overrides (mapping): Keys that a quick run changes.
    """

    name: str
    folder: Path
    title: str
    link: str
    claim: str
    known: tuple[str, ...]
    reconstructed: tuple[str, ...]
    studies: tuple[RecipeStudy, ...]
    quick_seeds: int
    quick_overrides: Mapping[str, Any]


def flatten(overrides: Mapping[str, Any]) -> list[Any]:
    """Keys and their values, one after the other, as commands take them."""
    return [part for pair in overrides.items() for part in pair]


def list_papers() -> dict[str, Path]:
    """The folders of the recipes that come with the package, by the name of the paper."""
    return {path.parent.name: path.parent for path in sorted(packed_configs().glob(f"papers/*/{FILE}"))}


def find_recipe(paper: str) -> Recipe:
    """The recipe of a paper, by its name or by a folder that holds a ``recipe.yaml`` of your own.

    Args:
        paper (str): The name or the folder.

    Raises:
        UserError: If there is none, with those that are there; or with all mistakes of the file.
    """
    papers = list_papers()
    if paper in papers:
        return read_recipe(papers[paper])
    if (Path(paper) / FILE).is_file():
        return read_recipe(Path(paper))
    raise UserError(
        f"{cut(paper)} is not a paper with a recipe. {nearest(paper, papers)}There are {', '.join(papers)}; or name a folder "
        f"with a {FILE} of your own."
    )


def read_recipe(folder: Path) -> Recipe:
    """Reads the ``recipe.yaml`` in a folder.

    Args:
        folder (Path): The folder; bases and grids lie in it.

    Raises:
        UserError: With all mistakes at once.
    """
    path = folder / FILE
    problems: list[str] = []
    recipe = _Reader(folder, problems).recipe(read_file(path))
    if recipe is None or problems:
        raise UserError("\n".join([f"{path}: {len(problems)} mistake{'s' if len(problems) > 1 else ''}", *problems]))
    return recipe


class _Reader:
    """Reads one file and notes every mistake."""

    def __init__(self, folder: Path, problems: list[str]) -> None:
        self.folder, self.problems = folder, problems

    def recipe(self, values: Any) -> Recipe | None:
        known = self._check("the file", values, _RECIPE, _NEEDED["recipe"])
        if known is None:
            return None
        quick = self._check("quick", known["quick"], _QUICK, ("seeds",)) if "quick" in known else {}
        if quick and isinstance(quick.get("seeds"), int) and quick["seeds"] < 1:
            self.problems.append(f"quick: seeds is {quick['seeds']}, and must be at least 1.")
        listed = known.get("studies")
        if listed == {}:
            self.problems.append("the file: studies has none.")
        listed = listed if isinstance(listed, dict) else {}  # another kind is noted already
        studies = [self._study(str(name), part) for name, part in listed.items()]
        if self.problems or not quick:
            return None
        return Recipe(
            self.folder.resolve().name,
            self.folder,
            known["title"],
            known["link"],
            known["claim"],
            tuple(map(str, known.get("known", ()))),
            tuple(map(str, known.get("reconstructed", ()))),
            tuple(study for study in studies if study is not None),
            quick["seeds"],
            quick.get("overrides", {}),
        )

    def _check(
        self, where: str, values: Any, allowed: Mapping[str, tuple[type, ...]], needed: Sequence[str]
    ) -> dict[str, Any] | None:
        """The values of one block; what is unknown, of another kind or missing is noted."""
        if not isinstance(values, dict):
            self.problems.append(f"{where}: {cut(repr(values))} is not a block of keys.")
            return None
        for key, value in values.items():
            if key not in allowed:
                self.problems.append(
                    f"{where}: {cut(str(key))} is not a valid key. {nearest(str(key), allowed)}Known are {', '.join(allowed)}."
                )
            elif not isinstance(value, allowed[key]) or (isinstance(value, bool) and bool not in allowed[key]):
                kinds = " or ".join(kind.__name__ for kind in allowed[key])
                self.problems.append(f"{where}: {key} is {cut(repr(value))}, and must be {kinds}.")
        for key in needed:
            if key not in values:
                self.problems.append(f"{where}: {key} is missing.")
        return values

    def _study(self, name: str, values: Any) -> RecipeStudy | None:
        where, before = f"studies.{cut(name)}", len(self.problems)
        if not name.isidentifier():
            self.problems.append(f"{where}: a study's name has letters, digits and _ only.")
        known = self._check(where, values, _STUDY, _NEEDED["study"])
        if known is None or len(self.problems) > before:
            return None
        rows = [
            row for number, part in enumerate(known["rows"], 1) for row in self._rows(f"{where}, row {number}", part)
        ]
        names = [row.name for row in rows]
        for name_of_row in dict.fromkeys(each for each in names if names.count(each) > 1):
            self.problems.append(f"{where}: two rows are called {name_of_row}.")
        for row in rows:
            for other in row.over:
                if other == row.name or row.over.count(other) > 1:
                    why = "itself" if other == row.name else f"{other} twice"
                    self.problems.append(f"{where}: {row.name} is over {why}.")
                elif other not in names:
                    self.problems.append(
                        f"{where}: {row.name} is over {cut(other)}, which is not a row. {nearest(other, names)}".rstrip()
                    )
        if known["seeds"] < 1:
            self.problems.append(f"{where}: seeds is {known['seeds']}, and must be at least 1.")
        return RecipeStudy(
            name,
            self._file(where, known["config"]),
            self._file(where, known["grid"]),
            known["seeds"],
            known.get("overrides", {}),
            known.get("placebo", False),
            known.get("source", ""),
            tuple(rows),
            tuple(map(str, known.get("notes", ()))),
            known.get("needs", ""),
        )

    def _rows(self, where: str, values: Any) -> Iterator[Row]:
        """One row, or one for each combination of ``each``."""
        before = len(self.problems)
        known = self._check(where, values, _ROW, ("name",))
        if known is None or len(self.problems) > before:
            return
        each: dict[str, Any] = known.get("each", {})
        problems = list(_find_problems(known))
        if problems:
            self.problems += [f"{where}: {problem}" for problem in problems]
            return
        lists = [value if isinstance(value, list) else [value] for value in each.values()]
        over = known.get("over", [])
        for combination in product(*lists):
            choices = dict(zip(each, combination, strict=True))
            try:
                name, *others = (
                    str(text).format(**choices)
                    for text in (known["name"], *([over] if isinstance(over, str) else over))
                )
            except (KeyError, IndexError, ValueError, AttributeError):
                self.problems.append(f"{where}: a name may have the dimensions of each in braces, and no others.")
                return
            yield Row(
                name,
                {**known.get("where", {}), **choices},
                known.get("teacher", False),
                known.get("answer", "mean"),
                tuple(others),
                float(known.get("published", math.nan)),
                float(known.get("spread", math.nan)),
            )

    def _file(self, where: str, name: str) -> Path:
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            self.problems.append(f"{where}: {cut(name)} lies outside the recipe's folder.")
        elif not path.is_file():
            self.problems.append(f"{where}: {path} is not a file.")
        return path


def _find_problems(values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong in a row whose keys and kinds are right."""
    if not values["name"].strip() or "\n" in values["name"]:
        yield "its name must be one line of text."
    if not _ANSWER.fullmatch(values.get("answer", "mean")):
        yield f"answer is {cut(values['answer'])}, and must be mean, best, first, ensemble, or s1, s2 ..."
    if values.get("teacher") and "answer" in values:
        yield "a teacher has no answer; remove the key."
    for key in ("published", "spread"):
        if key in values and not math.isfinite(values[key]):
            yield f"{key} is {values[key]}, and must be a number."
    each, where = values.get("each", {}), values.get("where", {})
    for alias, value in each.items():
        if value == []:
            yield f"each has no value for {alias}."
        if alias in where:
            yield f"{alias} stands in where and in each."
    for alias, value in where.items():
        if isinstance(value, (list, dict)):
            yield f"where has several values for {alias}; write them under each, which makes a row of every one."
