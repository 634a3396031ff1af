from __future__ import annotations

import copy
import itertools
import random
import subprocess
import sys
from collections import Counter

import pytest
import yaml

from gkd_plugin.errors import UserError
from gkd_plugin.study import expand as module
from gkd_plugin.study.expand import count_points, expand, make_digest
from gkd_plugin.study.grid_file import read_grid

CONDITIONAL = """
kd.preset preset [supervised, lsp, gsp]
gnn.dim_inner width [8, 16]
when preset lsp, gsp
    kd_structure.weight weight [1, 10, 100]
    when preset gsp
        kd_structure.samples samples [64, 128]

kd.preset preset [mutual]
kd.students students [2, 3]
"""


@pytest.fixture
def grid(tmp_path):
    def write(text):
        path = tmp_path / "grid.txt"
        path.write_text(text)
        return read_grid(path)

    return write


def chosen(expansion):
    return [dict(point.choices) for point in expansion.points]


# ---------------------------------------------------------------------------------------------------------- all points
def test_the_product_is_the_hosts_configurations_by_configuration(grid, host_dir, tmp_path):
    """One block: the host leaks values from block to block."""
    base = {"out_dir": "results", "gnn": {"act": "relu", "dropout": 0.5}, "optim": {"max_epoch": 3}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    made = grid("gnn.dim_inner width [8,16,32]\ngnn.act act ['relu','prelu']\nseed seed [1,2]\n")
    words = ["configs_gen.py", "--config", tmp_path / "base.yaml", "--grid", made.path, "--out_dir", tmp_path / "made"]
    subprocess.run([sys.executable, *map(str, words)], cwd=host_dir, check=True, capture_output=True)
    theirs = {
        path.stem: yaml.safe_load(path.read_text()) | {"out_dir": "results"}
        for path in (tmp_path / "made" / "base_grid_grid").glob("*.yaml")
    }
    ours = expand(base, "base", made).points
    assert {point.name: point.values for point in ours} == theirs
    assert len(ours) == 12
    assert [point.choices["width"] for point in ours[:4]] == [8, 16, 32, 8], "the first dimension changes fastest"


def test_rows_count_where_their_condition_holds(grid):
    made = grid(CONDITIONAL)
    by_hand = [
        {"preset": "supervised", "width": width} for width in (8, 16)
    ] + [
        {"preset": "lsp", "width": width, "weight": weight} for width in (8, 16) for weight in (1, 10, 100)
    ] + [
        {"preset": "gsp", "width": width, "weight": weight, "samples": samples}
        for width in (8, 16) for weight in (1, 10, 100) for samples in (64, 128)
    ] + [
        {"preset": "mutual", "students": students} for students in (2, 3)
    ]  # fmt: skip
    found = chosen(expand({}, "base", made))
    assert sorted(map(make_digest, found)) == sorted(map(make_digest, by_hand))
    assert count_points(made) == len(by_hand) == 22


def test_values_do_not_leak_between_points_or_into_the_base(grid):
    base = {"gnn": {"dropout": 0.1, "list": [1]}, "kd": None}
    before = copy.deepcopy(base)
    points = expand(
        base, "base", grid("gnn.dropout drop [0.5, 0.6]\nkd.pairs pairs [[1, 2]]\n\ngnn.act act [relu]")
    ).points
    assert base == before
    assert [point.values["gnn"]["dropout"] for point in points] == [0.5, 0.6, 0.1]
    assert [point.values["kd"] for point in points] == [{"pairs": [1, 2]}, {"pairs": [1, 2]}, None]
    points[0].values["gnn"]["list"].append(2)
    points[0].values["kd"]["pairs"].append(3)
    assert points[1].values["gnn"]["list"] == points[2].values["gnn"]["list"] == [1]
    assert points[1].values["kd"]["pairs"] == [1, 2]


def test_equal_configurations_are_one_point(grid):
    found = expand(
        {"gnn": {"act": "relu"}}, "base", grid("gnn.act act [relu, prelu, relu]\n\nseed seed [1]\n\nseed s [1]")
    )
    assert chosen(found) == [{"act": "relu"}, {"act": "prelu"}, {"seed": 1}]
    assert found.duplicates == 2
    assert found.dimensions == {"act": "gnn.act", "seed": "seed", "s": "seed"}


def test_numbers_of_other_types_are_other_values(grid):
    assert chosen(expand({}, "base", grid("gnn.dropout d [1, 1.0, true]"))) == [{"d": 1}, {"d": 1.0}, {"d": True}]


def test_a_key_below_a_plain_value_is_refused(grid):
    with pytest.raises(UserError, match=r"grid.txt, line 2: gnn.act cannot be set, as gnn is 5"):
        expand({"gnn": 5}, "base", grid("\ngnn.act act [relu]"))


def test_a_large_grid_is_counted_not_made(grid):
    rows = "\n".join(f"gnn.k{number} k{number} [1,2,3,4,5,6,7,8,9,10]" for number in range(30))
    made = grid(rows + "\nwhen k0 1\n  gnn.more more [1, 2]")
    assert count_points(made) == 10**30 + 10**29
    with pytest.raises(UserError, match=r"has 1,100,000,\S* points; .* --sample N"):
        expand({}, "base", made)
    assert len(expand({}, "base", made, sample=20).points) == 20


def test_a_range_is_refused(tmp_path):
    path = tmp_path / "space.txt"
    path.write_text("optim.base_lr lr 0.1~1.0")
    with pytest.raises(UserError, match="line 1: lr is a range"):
        expand({}, "base", read_grid(path, ranges=True))


# -------------------------------------------------------------------------------------------------------------- samples
@pytest.mark.parametrize("count", [1, 5, 21, 22, 1000])
def test_samples_are_different_points_of_the_grid(grid, count):
    made = grid(CONDITIONAL)
    whole = {point.name: point.values for point in expand({}, "base", made).points}
    sample = expand({}, "base", made, sample=count).points
    assert len(sample) == min(count, 22) == len({point.name for point in sample})
    assert all(whole[point.name] == point.values for point in sample)


def test_a_sample_is_the_seeds(grid):
    made = grid(CONDITIONAL)
    random.seed(0)
    first, again, other = (chosen(expand({}, "base", made, sample=8, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other
    state = random.getstate()
    expand({}, "base", made, sample=8)
    assert random.getstate() == state


def test_blocks_have_their_share_of_a_sample(grid):
    rows = "\n\n".join(f"gnn.k{size} k{size} {list(range(size))}" for size in (10, 60, 30))
    found = chosen(expand({}, "base", grid(rows), sample=10))
    assert Counter(alias for choices in found for alias in choices) == {"k10": 1, "k60": 6, "k30": 3}
    for sizes, count in itertools.product(([1, 1, 1], [5, 1, 90], [2, 3]), range(1, 10)):
        shares = module._share(sizes, count)
        assert sum(shares) == min(count, sum(sizes))
        assert all(
            abs(share - size * min(count, sum(sizes)) / sum(sizes)) < 1
            for share, size in zip(shares, sizes, strict=True)
        )


# -------------------------------------------------------------------------------------------------- one dimension varied
def test_a_dimension_is_varied_alone(grid):
    made = grid("gnn.act act [relu, prelu]\ngnn.dim_inner width [8, 16, 32]\nseed seed [1, 2, 3, 4]")
    found = chosen(expand({}, "base", made, sample=3, sample_alias=["width"]))
    assert len(found) == 9
    groups = [found[start : start + 3] for start in (0, 3, 6)]
    rest = [{(c["act"], c["seed"]) for c in group} for group in groups]
    assert all(len(each) == 1 for each in rest), "all else stays"
    assert len(set.union(*rest)) == 3, "three different samples"
    assert all([c["width"] for c in group] == [8, 16, 32] for group in groups)


def test_several_dimensions_are_varied_each_by_itself_and_equal_points_count_once(grid):
    made = grid("gnn.act act [relu, prelu]\ngnn.dim_inner width [8, 16]")
    found = expand({}, "base", made, sample=2, sample_alias=["act", "width"])
    assert len(found.points) == 4
    assert found.duplicates == 4


def test_rows_under_a_condition_come_and_go_as_the_dimension_varies(grid):
    found = chosen(expand({}, "base", grid(CONDITIONAL), sample=4, sample_alias=["preset"]))
    assert {"preset": "supervised", "width": 8} in found or {"preset": "supervised", "width": 16} in found
    assert all(("weight" in choices) == (choices["preset"] in ("lsp", "gsp")) for choices in found)
    varied = chosen(expand({}, "base", grid(CONDITIONAL), sample=100, sample_alias=["weight"]))
    assert {choices["preset"] for choices in varied} == {"lsp", "gsp"}, "only where it applies"
    assert len(varied) == 18, "as many as there are"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": 0}, "--sample 0"),
        ({"sample": -3}, "--sample -3"),
        ({"sample_alias": ["wdth"]}, r"no dimension of .* is called 'wdth'. Did you mean 'width'\?"),
    ],
)
def test_wrong_samples(grid, options, message):
    with pytest.raises(UserError, match=message):
        expand({}, "base", grid("gnn.dim_inner width [8, 16]"), **options)
