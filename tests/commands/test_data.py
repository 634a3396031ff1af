from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import gkd_cli
import gkd_plugin
from gkd_plugin.commands.data import DataDescription, DataListing, describe_data
from gkd_plugin.config.load import read_config
from gkd_plugin.data.load import load_whole
from gkd_plugin.data.names import DATA_SETS
from gkd_plugin.errors import UserError


def test_digits(tmp_path: Path) -> None:
    found = describe_data("digits", str(tmp_path))
    assert isinstance(found, DataDescription)
    assert (found.summary.nodes, found.summary.labels.width, found.refusal) == (1797, 10, None)
    text = str(found)
    for words in (
        "1,797",
        "both directions",
        "one of 10 classes for each node",
        "edge homophily  0.9",
        "train 200, val 500, test 1,000 nodes; 97 in none",
        "task: node, task_type: classification",
        "made without files",
    ):
        assert words in text
    assert len(repr(found)) < 100 and "<pre" in found._repr_html_()


def test_files_that_are_there(
    data_sets: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data_sets("Cora", "TU_MUTAG"), folder, ignore=shutil.ignore_patterns("processed"))
    found = describe_data("cora", str(folder))
    assert "preparing Cora from the raw files" in capsys.readouterr().err
    # counted by hand in shared/data/README.md and by PyG's documentation
    summary = found.summary
    assert (summary.nodes, summary.edges, summary.features, summary.labels.width) == (2708, 10556, 1433, 7)
    assert summary.splits == {"train": 140, "val": 500, "test": 1000} and summary.undirected
    assert summary.homophily == pytest.approx(0.81, abs=0.001)
    assert found.place == f"in {folder / 'Cora'}" and found.keys["name"] == "Cora"
    describe_data("Cora", str(folder))
    assert "preparing" not in capsys.readouterr().err
    drawn = describe_data("Cora", str(folder), ["splits.kind", "random"])
    assert drawn.summary.splits == {"train": 1354, "val": 677, "test": 677}
    mutag = describe_data("TU_MUTAG", str(folder))
    assert (mutag.summary.graphs, mutag.summary.nodes, mutag.keys["task"]) == (188, 3371, "graph")
    assert "17.9 a graph" in str(mutag)


def test_the_hosts_own_format_and_why_a_run_would_refuse_it(data_sets: Callable[..., Path]) -> None:
    found = describe_data("TU_MUTAG", str(data_sets("TU_MUTAG")), ["dataset.format", "PyG"])
    assert found.summary.splits == {}
    assert "splits     none" in str(found) and "a run would refuse it:" in str(found)
    assert "Write dataset.format: gkd" in found.refusal


def test_a_configuration_names_its_data_set(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("dataset: {format: PyG, name: digits_k5, task: node, task_type: classification}\n")
    found = describe_data(str(file))
    assert found.keys["name"] == "digits_k5" and found.keys["format"] == "PyG"


def test_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkd_plugin.data.names.find_spec", lambda name: None)
    raw = tmp_path / "Cora" / "Cora" / "raw"
    raw.mkdir(parents=True)
    (raw / "ind.cora.x").touch()
    (tmp_path / "CiteSeer" / "CiteSeer" / "raw").mkdir(parents=True)  # empty
    (tmp_path / "TU_ENZYMES").mkdir()
    found = describe_data(dir=str(tmp_path))
    assert isinstance(found, DataListing)
    how = {row.name: row.how for row in found.rows}
    assert set(DATA_SETS) <= set(how)
    assert how["Cora"] == how["TU_ENZYMES"] == f"in {tmp_path}"
    assert how["CiteSeer"] == how["TU_<name>"] == "downloads"
    assert how["ogbn-arxiv"] == "needs pip install ogb" and how["ESOL"] == "needs pip install rdkit"
    assert "heterophilous graphs" in str(found)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'Cora'"):
        describe_data("Corra", str(tmp_path))
    with pytest.raises(UserError, match="is a path"):
        describe_data("../Cora", str(tmp_path))
    with pytest.raises(UserError, match=r"splits.kind: 'fixed' is not allowed"):
        describe_data("digits", str(tmp_path), ["splits.kind", "fixed"])


def test_the_command_and_the_python_door(tmp_path: Path) -> None:
    done = CliRunner().invoke(gkd_cli.main, ["data", "digits", "--dir", str(tmp_path), "splits.kind", "random"])
    assert done.exit_code == 0 and "train 899, val 449, test 449" in done.output
    assert "heterophilous" in CliRunner().invoke(gkd_cli.main, ["data"]).output
    refused = CliRunner().invoke(gkd_cli.main, ["data", "digits", "--dir", str(tmp_path), "dataset.task", "graph"])
    assert refused.exit_code == 2 and "a run would refuse it:" in refused.output
    wrong = CliRunner().invoke(gkd_cli.main, ["data", "digitss"])
    assert wrong.exit_code == 2 and "Did you mean" in wrong.stderr and "Traceback" not in wrong.output
    ours, theirs = inspect.signature(gkd_plugin.describe_data), inspect.signature(describe_data)
    assert str(ours) == str(theirs)
    assert gkd_plugin.describe_data("digits", str(tmp_path)).summary == describe_data("digits", str(tmp_path)).summary


def use_it(found: DataDescription) -> str:
    """The lines that a configuration needs, as they are printed."""
    _, _, lines = str(found).partition("to use it")
    return "".join(
        f"{line.strip()}\n" for line in lines.splitlines() if line.strip().startswith(("dataset:", "splits:"))
    )


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["splits.kind", "per_class", "splits.train", "7", "splits.seed", "3", "splits.row_normalize", "true"],
        ["dataset.task", "link_pred", "splits.kind", "random", "splits.train", "0.5", "dataset.label_column", "1e-05"],
    ],
)
def test_the_lines_to_use_it_give_what_was_described(overrides: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "a folder, with: signs"
    folder.mkdir()
    found = describe_data("digits", str(folder), overrides)
    written = yaml.safe_load(use_it(found))
    assert {f"{group}.{key}" for group, keys in written.items() for key in keys} >= set(overrides[::2])
    file = tmp_path / "mine.yaml"
    file.write_text(use_it(found))
    again = describe_data(str(file))
    assert again.summary == found.summary and use_it(again) == use_it(found)


def test_pairs_to_predict(data_sets: Callable[..., Path]) -> None:
    found = describe_data("Cora", str(data_sets("Cora")), ["dataset.task", "link_pred"])
    # 10,556 edges are 5,278 pairs: 85 %, 5 % and the rest, with as many that are not linked
    assert found.summary.pairs == {"train": (4486, 4486), "val": (264, 264), "test": (528, 528)}
    assert (found.summary.edges, found.summary.along_training, found.refusal) == (2 * 4486, True, None)
    text = str(found)
    assert "messages pass along these alone: the 4,486 training pairs of 5,278 linked pairs" in text
    assert "train 4,486 and 4,486, val 264 and 264, test 528 and 528 pairs, linked and not" in text
    assert "labels     linked (1) or not (0), for each pair" in text


@pytest.mark.parametrize("protocol", ["inductive", "production"])
def test_nodes_that_come_after_training(protocol: str, tmp_path: Path) -> None:
    overrides = ["splits.kind", "random", "splits.protocol", protocol]
    found = describe_data("digits", str(tmp_path), overrides)
    config = read_config({"dataset": {"format": "gkd", "name": "digits", "dir": str(tmp_path)}}, overrides)
    seen = load_whole(config.cfg).of("train")[0]
    assert found.summary.held_out == 1797 - seen.num_nodes == 90  # a fifth of 449 test nodes
    assert found.summary.seen_edges == seen.num_edges < found.summary.edges
    told = f"90 test nodes, and their edges, come for the test only: training sees {seen.num_edges:,} of"
    assert told in str(found) and f"protocol: {protocol}" in str(found)
    assert "held out" not in str(describe_data("digits", str(tmp_path)))


def test_graphs_of_which_some_nodes_are_predicted(hetero_data: Path) -> None:
    text = str(describe_data("AIFB", str(hetero_data)))
    assert "for each of the 176 nodes that are predicted, of 8,285: 73, 28, 60, 15 items" in text
    assert "train 112, val 28, test 36 predicted nodes\n" in text
    assert "note" in text and "28 of its 140 training nodes (20%, of every class alike) validate" in text
    text = str(describe_data("DBLP", str(hetero_data)))
    assert "for each of the 4,057 nodes that are predicted, of 26,128" in text and "note" not in text
