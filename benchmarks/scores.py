"""A recipe's scores, seed by seed, in a table that runs of another day or machine add to; and the recipe's page from it.

    gkd reproduce alignahead_pp --only pubmed --repeat 3 dataset.dir DIR seed 3
    python benchmarks/scores.py keep alignahead_pp pubmed results/papers/alignahead_pp/pubmed.gkd
    python benchmarks/scores.py page alignahead_pp pubmed
    python benchmarks/scores.py update

``keep`` adds the finished seeds of a study to ``docs/scores/PAPER_STUDY.csv``; a seed that is there already stays as it is, and one
whose score differs is refused. ``page`` writes what ``gkd reproduce`` would of one study that had trained them all; ``update`` writes it into ``docs/results_PAPER.md``, between the
lines ``<!-- scores: STUDY -->`` and ``<!-- end of scores -->``, for every
such pair of lines. Each row says which
configuration it belongs to, so that a changed recipe does not mix with what was trained before: such rows are left out, and said.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studies import ROOT

sys.path.insert(0, str(ROOT))

FOLDER = ROOT / "docs" / "scores"
SECTION = re.compile(r"(<!-- scores: (\w+) -->\n).*?(?=<!-- end of scores -->)", re.DOTALL)
# rows about the paper: a page says them once, at its top
FACTS = re.compile(r"(?m)^\| (?:paper|it says|known|reconstructed) \|.*\n")
KEY = ["point", "answer", "seed"]
COLUMNS = (
    "role of config metric better val test teacher teacher_test parameters students seconds torch pyg commit".split()
)
ORIGIN = ["torch", "pyg", "commit"]
PLACES = set("out_dir seed num_threads num_workers device accelerator tensorboard_agg".split())  # not what is trained


def digest(values: Mapping[str, Any], recipe: Path) -> str:
    """Which configuration this is, with that of its teacher, wherever it is trained and with whatever seed."""
    from gkd_plugin.study.expand import make_digest

    return hashlib.sha256(make_digest(_drop_places(values, recipe)).encode()).hexdigest()[:12]


def _drop_places(values: Mapping[str, Any], recipe: Path) -> dict[str, Any]:
    import yaml

    kept = {key: value for key, value in values.items() if key not in PLACES}
    kept["dataset"] = {key: value for key, value in values.get("dataset", {}).items() if key != "dir"}
    if (teacher := values.get("kd", {}).get("teacher_cfg", "none")) not in ("none", None):
        kept["teacher"] = _drop_places(yaml.safe_load((recipe / teacher).read_text()), recipe)
    return kept


def keep(paper: str, study: str, folder: Path, into: Path) -> str:
    """Adds the finished seeds of a study to the table; says how many there are now."""
    import pandas as pd
    import yaml

    from gkd_plugin.papers.recipe import find_recipe
    from gkd_plugin.study.points import CONTROL, TEACHER
    from gkd_plugin.study.records import read_study
    from gkd_plugin.study.report.run_series import list_seeds
    from gkd_plugin.study.run_files import read_run
    from gkd_plugin.training.provenance import read_origin

    asked = {each.name: each for each in find_recipe(paper).studies}[study]
    answers = {row.answer for row in asked.rows} | {"mean"}
    results = read_study(folder)
    found = []
    points = {point["name"]: point for point in results.points.to_dict("records")}
    configs = {
        name: digest(yaml.safe_load(path.read_text()), asked.config.parent)
        for name in points
        if (path := results.folder / "configs" / f"{name}.yaml").is_file()
    }
    folders = [(name, folder) for name, point in points.items() for folder in list_seeds(Path(point["folder"]))]
    made = [(name, read_origin(folder) or {}) for name, folder in folders]
    origins = {(name, origin.get("seed")): origin for name, origin in made}
    for row in results.scores.to_dict("records"):
        if row["answer"] in answers and row["role"] not in (CONTROL, TEACHER):
            point = points[row["name"]]
            origin = origins.get((row["name"], row["seed"]), {})
            versions = origin.get("versions") or {}
            program = {
                "torch": versions.get("torch"),
                "pyg": versions.get("torch-geometric"),
                "commit": origin.get("commit"),
            }
            config = configs.get(row["name"], "")
            found.append({**row, "point": row["name"], "of": point["of"], "config": config, **program})
    for teacher in sorted({str(row["teacher"]) for row in found if row["teacher"]}):
        for row in read_run(results.folder.parent / teacher).rows:
            if row["answer"] == "mean":
                found.append({**row, "point": teacher, "role": TEACHER})
    new = pd.DataFrame(found)[[*KEY, *COLUMNS]]
    path = into / f"{paper}_{study}.csv"
    if path.is_file():
        old = pd.read_csv(path)
        both = old.merge(new, on=[*KEY, "config"], suffixes=("", "_new"))
        other = both[(both["test"] - both["test_new"]).abs() > 1e-9]
        if len(other):
            raise SystemExit(
                f"{path}: other scores are kept already, such as of {other.iloc[0][KEY].tolist()}. Nothing was changed."
            )
        new = pd.concat([old, new]).drop_duplicates([*KEY, "config"])
    path.parent.mkdir(parents=True, exist_ok=True)
    new.sort_values(KEY).to_csv(path, index=False)
    return f"{path}: {new.drop_duplicates(['point', 'seed']).shape[0]} runs of {new['point'].nunique()} configurations"


def write(paper: str, study: str, source: Path) -> str:
    """The page of a study from its table, in Markdown."""
    import pandas as pd

    from gkd_plugin.config.load import read_values
    from gkd_plugin.papers.compare import compare_study
    from gkd_plugin.papers.page import make_page
    from gkd_plugin.papers.recipe import find_recipe
    from gkd_plugin.study.dimensions import make_column
    from gkd_plugin.study.expand import expand
    from gkd_plugin.study.grid_file import read_grid
    from gkd_plugin.study.points import POINT, TEACHER
    from gkd_plugin.study.records import FAILURE_COLUMNS, POINT_COLUMNS, SCORE_COLUMNS, StudyResults, make_frame
    from gkd_plugin.study.report.markdown import write_markdown

    recipe = find_recipe(paper)
    asked = {each.name: each for each in recipe.studies}[study]
    path = source / f"{paper}_{study}.csv"
    rows = pd.read_csv(path).astype({"of": "object", "teacher": "object"})
    rows = rows.where(rows.notna(), None)
    grid = read_grid(asked.grid)
    expanded = expand(read_values(asked.config, asked.pairs), asked.config.stem, grid).points
    now = {point.name: digest(point.values, asked.config.parent) for point in expanded}
    stale = [row["point"] in now and row["config"] != now[row["point"]] for row in rows.to_dict("records")]
    lost, rows = sum(stale), rows[[not each for each in stale]]
    others = rows[~rows["point"].isin(list(now))].drop_duplicates("point").to_dict("records")
    listed = [{"name": point.name, "role": POINT, "folder": "", "of": None} for point in expanded]
    listed += [{"name": row["point"], "role": row["role"], "folder": "", "of": row["of"]} for row in others]
    points = make_frame(listed, POINT_COLUMNS)
    choices = [dict(point.choices) for point in expanded] + [{}] * len(others)
    for alias in grid.dimensions:
        points[alias] = make_column(choices, alias)
    scores = make_frame([{**row, "name": row["point"]} for row in rows.to_dict("records")], SCORE_COLUMNS)
    dimensions = {alias: alias for alias in grid.dimensions}
    results = StudyResults(
        study, path, "grid", {"dimensions": dimensions}, dimensions, points, scores, make_frame([], FAILURE_COLUMNS)
    )
    runs = rows[rows["role"] != TEACHER].drop_duplicates(["point", "seed"])
    made = [
        f"torch {torch}, torch-geometric {pyg}, commit {'none recorded' if pd.isna(commit) else commit} ({len(each)} runs)"
        for (torch, pyg, commit), each in runs.groupby(ORIGIN, dropna=False)
    ]
    made += [f"{lost} rows belong to other configurations than the recipe's of today and are left out"] if lost else []
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    origin = (
        f"This page: python benchmarks/scores.py page {paper} {study}, from {shown}; trained with {'; '.join(made)}."
    )
    return write_markdown(make_page(recipe, [compare_study(asked, results)], {}, False, origin))


def make_section(page: str) -> str:
    """The part of a recipe's page that is about its scores, to stand under a heading of another page."""
    body = FACTS.sub("", page[page.index("**Of ") :])
    return re.sub(r"(?m)^#", "##", body).rstrip() + "\n"


def update(source: Path, pages: Path) -> list[str]:
    """Writes the section of every table into the pages of results; says which pages changed."""
    said = []
    for path in sorted(pages.glob("results_*.md")):
        paper, text = path.stem.removeprefix("results_"), path.read_text()

        def replace(found: re.Match[str], paper: str = paper) -> str:
            return f"{found[1]}\n{make_section(write(paper, found[2], source))}\n"

        new = SECTION.sub(replace, text)
        if new != text:
            path.write_text(new)
            said.append(f"{path}: written anew")
    return said or ["nothing has changed"]


def main() -> None:
    """Keeps scores, prints a page, or writes the sections of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    doing = parser.add_subparsers(dest="command", required=True)
    for name in ("keep", "page", "update"):
        own = doing.add_parser(name)
        if name != "update":
            own.add_argument("paper")
            own.add_argument("study")
        if name == "keep":
            own.add_argument("folder", type=Path, help="<study>.gkd")
        own.add_argument("--scores", type=Path, default=FOLDER, help="folder of the tables (default: docs/scores)")
    asked = parser.parse_args()
    if asked.command == "keep":
        print(keep(asked.paper, asked.study, asked.folder, asked.scores))
    elif asked.command == "update":
        print("\n".join(update(asked.scores, ROOT / "docs")))
    else:
        print(write(asked.paper, asked.study, asked.scores))


if __name__ == "__main__":
    main()
