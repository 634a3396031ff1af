"""Names of runs as the host reads them, configurations that differ, and the types of columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from torch_geometric.graphgym.utils.agg_runs import name_to_dict

from gkd_plugin.study.dimensions import compare_configs, make_column, parse_name


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("cora-width=8-preset=lsp", {"width": 8, "preset": "lsp"}),
        ("my-base-width=8", {"width": 8}),
        ("cora-lr=1e-05-drop=0.5", {"lr": 1e-05, "drop": 0.5}),
        ("cora-shift=-1-act=relu", {"shift": -1, "act": "relu"}),
        ("cora-map=same-depth-gain=True", {"map": "same-depth", "gain": True}),
        ("cora-knowledge=gcn+gat-a.b=x~y", {"knowledge": "gcn+gat", "a.b": "x~y"}),
        ("cora-last=a-b", {"last": "a-b"}),
        ("cora-teacher=None", {"teacher": None}),
        ("cora", {}),
        ("cora-control", {}),
        ("a==b", {}),
        ("=", {}),
    ],
)
def test_names(name: str, choices: dict[str, Any]) -> None:
    assert parse_name(name) == choices


@pytest.mark.parametrize("name", ["cora-width=8-preset=lsp", "cora-lr=0.5-shift=-1-act=relu-last=a-b", "c-x=a-b-y=2"])
def test_names_are_read_as_the_host_reads_them(name: str) -> None:
    assert {key: str(value) for key, value in parse_name(name).items()} == {
        key: str(value) for key, value in name_to_dict(name).items()
    }


def test_keys_in_which_configurations_differ(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"gnn": {"act": "relu", "dim_inner": 8}, "kd": {"preset": None}}
    contents = {
        "a": {**shared, "out_dir": "one", "seed": 1, "share": {"dim_in": 5}},
        "b": {**shared, "gnn": {"act": "relu", "dim_inner": 16}, "out_dir": "two", "seed": 2, "share": {"dim_in": 6}},
        "c": {**shared, "kd": {"preset": "lsp"}},
    }
    for name, values in contents.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "config.yaml").write_text("{ half")
    dimensions, choices = compare_configs({name: tmp_path / name for name in "abcd"})
    assert dimensions == {"gnn.dim_inner": "gnn.dim_inner", "kd.preset": "kd.preset"}
    assert choices == {
        "a": {"gnn.dim_inner": 8, "kd.preset": None},
        "b": {"gnn.dim_inner": 16, "kd.preset": None},
        "c": {"gnn.dim_inner": 8, "kd.preset": "lsp"},
    }


@pytest.mark.parametrize(
    ("values", "kind", "column"),
    [
        ([8, 16], "int64", [8, 16]),
        ([8, ...], "Int64", [8, None]),
        ([8, 0.5], "float64", [8.0, 0.5]),
        ([8, None], "object", ["8", "none"]),
        ([True, False], "object", ["true", "false"]),
        (["lsp", ...], "object", ["lsp", None]),
        ([[1, 2], [3]], "object", ["[1, 2]", "[3]"]),
        (["3", "x"], "object", ["3", "x"]),
        ([...], "object", [None]),
    ],
)
def test_columns_are_numbers_where_all_values_are(values: list[Any], kind: str, column: list[Any]) -> None:
    found = make_column([{} if value is ... else {"x": value} for value in values], "x")
    assert found.dtype == kind
    assert found.astype(object).where(found.notna(), None).tolist() == column


@pytest.mark.parametrize(
    ("text", "value"), [("[1,2]", "[1,2]"), ("007", "007"), ("nan", "nan"), ("-1", -1), ("1e-05", 1e-05)]
)
def test_one_cell_holds_one_value(text: str, value: Any) -> None:
    assert parse_name(f"cora-x={text}") == {"x": value}
