"""Recipes: what a file says, and every mistake at once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gkd_plugin.errors import UserError
from gkd_plugin.papers.recipe import find_recipe, list_papers, read_recipe

WHOLE = """
title: A paper
link: https://example.org
claim: It helps.
known: [the loss]
quick: {seeds: 2, overrides: {optim.max_epoch: 3}}
studies:
  first:
    config: base.yaml
    grid: grid.txt
    seeds: 5
    source: Table 1
    rows:
      - {name: labels, where: {preset: supervised}, published: 60, spread: 1.5}
      - {name: "ours, {width} wide", where: {preset: oc}, each: {width: [4, 8]}, over: labels}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "paper"
    path.mkdir()
    (path / "base.yaml").write_text("seed: 1\n")
    (path / "grid.txt").write_text("seed seed [1]\n")
    (path / "recipe.yaml").write_text(WHOLE)
    return path


def rewrite(folder: Path, old: str, new: str) -> None:
    assert old in WHOLE
    (folder / "recipe.yaml").write_text(WHOLE.replace(old, new))


def test_a_recipe_is_what_its_file_says(folder):
    recipe = read_recipe(folder)
    assert (recipe.name, recipe.claim, recipe.known, recipe.quick_seeds) == ("paper", "It helps.", ("the loss",), 2)
    (study,) = recipe.studies
    assert (study.name, study.config, study.seeds, study.source) == ("first", folder / "base.yaml", 5, "Table 1")
    labels, *ours = study.rows
    assert (labels.published, labels.spread, labels.answer, labels.over) == (60.0, 1.5, "mean", ())
    assert [row.name for row in ours] == ["ours, 4 wide", "ours, 8 wide"]
    assert [row.where for row in ours] == [{"preset": "oc", "width": 4}, {"preset": "oc", "width": 8}]
    assert all(row.over == ("labels",) and math.isnan(row.published) for row in ours)


def test_a_folder_of_ones_own_is_a_paper(folder):
    assert find_recipe(str(folder)).title == "A paper"
    with pytest.raises(UserError, match=r"glnm is not a paper with a recipe. Did you mean 'glnn'\? There are abkd, "):
        find_recipe("glnm")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("claim: It helps.", "clam: It helps.", ["clam is not a valid key. Did you mean 'claim'?", "claim is missing"]),
        ("seeds: 5", "seeds: five", ["studies.first: seeds is 'five', and must be int"]),
        ("seeds: 5", "seeds: true", ["studies.first: seeds is True"]),
        ("seeds: 5", "seeds: 0", ["must be at least 1"]),
        ("grid: grid.txt", "grid: ../grid.txt", ["../grid.txt lies outside the recipe's folder"]),
        ("grid: grid.txt", "grid: no.txt", ["no.txt is not a file"]),
        ("over: labels", "over: label", ["is over label, which is not a row. Did you mean 'labels'?"]),
        ("{width} wide", "{depth} wide", ["a name may have the dimensions of each in braces"]),
        ("{width} wide", "wide", ["two rows are called ours, wide"]),
        ("  first:", "  a-b:", ["letters, digits and _ only"]),
        ("known: [the loss]", "known: the loss", ["known is 'the loss', and must be list"]),
        ("name: labels", "name: ' '", ["its name must be one line"]),
        ("over: labels", "over: [labels, labels]", ["is over labels twice"]),
        ("over: labels", "over: 'ours, {width} wide'", ["is over itself"]),
        ("published: 60", "published: .inf", ["published is inf, and must be a number"]),
        ("published: 60", "answer: median", ["answer is median, and must be mean, best"]),
        ("published: 60", "answer: best, teacher: true", ["a teacher has no answer"]),
        ("width: [4, 8]", "width: []", ["each has no value for width"]),
        ("width: [4, 8]", "preset: [lsp]", ["preset stands in where and in each"]),
        ("preset: oc", "preset: [oc]", ["several values for preset; write them under each"]),
        ("quick: {seeds: 2", "quick: {seeds: 0", ["quick: seeds is 0"]),
        ("rows:", "row:", ["row is not a valid key. Did you mean 'rows'?", "rows is missing"]),
    ],
)
def test_every_mistake_is_said(folder, old, new, told):
    rewrite(folder, old, new)
    with pytest.raises(UserError) as error:
        read_recipe(folder)
    for text in told:
        assert text in str(error.value)


@pytest.mark.parametrize("text", ["", "title", "studies: []", "studies: {}", "studies: {a: 1}", "[1, 2]", "quick: 3"])
def test_what_is_no_recipe_is_refused(folder, text):
    (folder / "recipe.yaml").write_text(text)
    with pytest.raises(UserError):
        read_recipe(folder)


def test_a_link_out_of_the_folder_is_no_way_out(folder):
    (folder.parent / "secret.txt").write_text("kd.students s [2]\n")
    (folder / "grid.txt").unlink()
    (folder / "grid.txt").symlink_to(folder.parent / "secret.txt")
    with pytest.raises(UserError, match="outside the recipe's folder"):
        read_recipe(folder)


def test_the_papers_that_come_with_the_package():
    assert set(list_papers()) == {"abkd", "alignahead", "alignahead_pp", "gcrd", "gkd", "glnn", "lsp"}
