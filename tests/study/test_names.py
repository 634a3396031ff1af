from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.graphgym.utils.agg_runs import agg_batch, name_to_dict

from gkd_plugin.study.expand import expand
from gkd_plugin.study.grid_file import Row, read_grid
from gkd_plugin.study.names import LONGEST, Namer, make_base, parse_name, write_value

SAFE = re.compile(r"[A-Za-z0-9_.+~,@%=-]+")  # nothing that a shell expands, a folder refuses, or a URL quotes


def make_names(base, chosen, blocks=()):
    namer = Namer(base, blocks)
    return [namer.make_name(choices) for choices in chosen]


# ---------------------------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8, "8"),
        (-1, "-1"),
        (0.5, "0.5"),
        (1e-05, "1e-05"),
        (0.1 + 0.2, "0.3"),
        (0.0012345678, "0.00123457"),
        (True, "True"),
        (None, "None"),
        ("PyG", "PyG"),
        ("gcn+gat", "gcn+gat"),
        ([8, 8], "8+8"),
        ([], "none"),
        ("a/b c", "a_b_c"),
        ("a=b", "a_b"),
        ("a*b?[c]", "a_b_c_"),
        ("$(rm)", "_rm_"),
        ("", "_"),
        ("grün", "grun"),
        ("数", "_"),
        ("3~2+4~2", "3~2+4~2"),
    ],
)
def test_values_in_names(value, text):
    assert write_value(value) == text


def test_names_are_the_hosts_where_that_is_safe():
    (name,) = make_names("example_node", [{"l_mp": 2, "agg": "max", "trans": False, "lr": 0.01}])
    assert name == "example_node-l_mp=2-agg=max-trans=False-lr=0.01"


def test_the_base_ends_where_the_host_thinks_it_does():
    (name,) = make_names("my-base v1", [{"a": 1, "b": 2}])
    assert name == "my_base_v1-a=1-b=2"
    assert name_to_dict(name) == {"a": 1, "b": "2"}
    assert make_base("..hidden") == "hidden"
    assert make_base("数") == "config"
    assert make_base("") == "config"


def test_values_that_look_alike_have_names_of_their_own():
    chosen = [{"x": value} for value in ("a/b", "a b", "A B", "a_b", 1, "1", True, "true", [1, 2], "1+2")]
    names = make_names("base", chosen)
    assert len({name.lower() for name in names}) == len(names)
    assert names[0] == "base-x=a_b"
    assert all(re.fullmatch(r"base-x=[\w+]+~[0-9a-f]{8}", name) for name in (names[1], names[2], names[3], names[9]))


def test_a_name_does_not_depend_on_which_points_are_drawn(tmp_path):
    path = tmp_path / "grid.txt"
    path.write_text("gnn.act act [relu, 'Re/lu', re_lu]\nwhen act relu\n  seed seed [1, 2]\nnum_threads t [1, 2]")
    grid = read_grid(path)
    whole = {point.name for point in expand({}, "base", grid).points}
    for seed in range(5):
        assert {point.name for point in expand({}, "base", grid, sample=4, seed=seed).points} <= whole


def test_long_values_are_cut_and_long_names_keep_what_there_is_room_for():
    assert len(write_value("x" * 100)) == 40
    assert write_value("x" * 100) != write_value("x" * 101)
    chosen = [{f"dimension_{n}": n for n in range(20)} | {"last": last} for last in (1, 2)]
    names = make_names("base", chosen)
    assert len(set(names)) == 2
    for name in names:
        assert len(name.encode()) <= LONGEST
        read = name_to_dict(name)
        assert read["dimension_0"] == 0
        assert re.fullmatch("[0-9a-f]{8}", read["id"])


# the host's grids know these kinds of values
VALUES = st.one_of(
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(max_size=30),
    st.text(max_size=300),
    st.lists(st.one_of(st.integers(-9, 9), st.text(max_size=5)), max_size=4),
)
ALIASES = st.text("abcXYZ019_.", min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    base=st.text(max_size=80),
    rows=st.dictionaries(ALIASES, st.lists(VALUES, min_size=1, max_size=4, unique_by=repr), min_size=1, max_size=8),
    data=st.data(),
)
def test_names_are_unique_safe_and_read_by_the_host(base, rows, data):
    rows = {alias: values for alias, values in rows.items() if [a.lower() for a in rows].count(alias.lower()) == 1}
    if not rows:
        return
    block = [Row(f"gnn.{alias}", alias, tuple(values), 1) for alias, values in rows.items()]
    drawn = data.draw(st.lists(st.fixed_dictionaries({a: st.sampled_from(v) for a, v in rows.items()}), max_size=6))
    chosen = list({repr(choices): choices for choices in drawn}.values())
    names = make_names(base, chosen, [block])
    assert len({name.lower() for name in names}) == len(chosen), "unique, also without upper case"
    for name, choices in zip(names, chosen, strict=True):
        assert SAFE.fullmatch(name)
        assert not name.startswith((".", "-"))
        assert len(name.encode()) <= LONGEST
        assert Path(name).name == name
        read = name_to_dict(name)
        found_base, found = parse_name(name)
        assert found_base == make_base(base)
        assert found.keys() == read.keys()
        if "id" not in read or "id" in rows:
            assert list(read) == list(choices)
        for alias, value in choices.items():
            if alias in read and isinstance(value, (int, bool)) and list(read)[-1] != alias and alias != "id":
                assert read[alias] == value == found[alias]


# ------------------------------------------------------------------------------------------------- the host's programs
@pytest.mark.parametrize(
    "text",
    [
        "kd.preset preset [supervised, mutual]\nkd.students students [1, 2]\n\nkd.preset preset [oc]\nkd.students students [2]\n"
        "kd_structure.weight weight [1, 10]",
        "gnn.layers_mp layers [2, 4]\n\ngnn.layers_mp layers [2, 4]\nkd_auxiliary.weight weight [0.5, 1]",
        "kd.preset preset [supervised, lsp]\ngnn.dim_inner width [8, 16]\nwhen preset lsp\n  kd_structure.weight w [1, 10]",
        "kd.preset preset [supervised]\ngnn.dim_inner width [8, 16]\n\nkd.students students [2]\ngnn.dim_inner width [8]\n"
        "gnn.act act [relu]",
        "gnn.dim_inner width [8, 16]\ngnn.act act ['re lu', a/b, 1=2, 'x*', [1, 2]]",
    ],
)
@pytest.mark.parametrize("last", [min, max])
def test_agg_batch_reads_runs_of_every_grid(text, last, tmp_path, monkeypatch):
    """It sorts by the dimensions of the run that the folder lists last."""
    (tmp_path / "grid.txt").write_text(text)
    points = expand({}, "my-base", read_grid(tmp_path / "grid.txt")).points
    for number, point in enumerate(points):
        for split in ("train", "val"):
            folder = tmp_path / "runs" / point.name / "agg" / split
            folder.mkdir(parents=True)
            row = json.dumps({"epoch": 3, "loss": 0.1, "accuracy": number, "params": 5})
            (folder / "best.json").write_text(row)
            (folder / "stats.json").write_text(row)
    final = last((point.name for point in points), key=lambda name: name.count("="))
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: sorted(listed(folder), key=lambda name: name == final))
    agg_batch(str(tmp_path / "runs"))
    head, *lines = (tmp_path / "runs" / "agg" / "val_best.csv").read_text().splitlines()
    assert len(lines) == len(points)
    assert {alias for point in points for alias in point.choices} <= set(head.split(","))


def test_the_hosts_shell_opens_every_name(tmp_path, host_dir):
    """`parallel.sh` leaves file names unquoted."""
    (tmp_path / "grid.txt").write_text("gnn.act act ['a b', a/b, '$HOME', '*', 'a;b', 'a&b', \"it's\", 数, (1)]")
    points = expand({}, "base", read_grid(tmp_path / "grid.txt")).points
    (tmp_path / "configs").mkdir()
    for point in points:
        (tmp_path / "configs" / f"{point.name}.yaml").write_text("x")
    (tmp_path / "python").write_text('#!/bin/sh\n[ -f "$3" ] && [ $# = 6 ] && echo "$3" >> opened\n')
    (tmp_path / "python").chmod(0o755)
    command = ["bash", str(host_dir / "parallel.sh"), "configs", "1", "1", "0"]
    subprocess.run(command, cwd=tmp_path, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True)
    opened = (tmp_path / "opened").read_text().splitlines()
    assert sorted(opened) == sorted(f"configs/{point.name}.yaml" for point in points)
