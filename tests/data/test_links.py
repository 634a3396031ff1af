"""Pairs to predict against sets of Python's, and what a run of the host's edge head makes of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from gkd_plugin.commands.data import describe_data
from gkd_plugin.commands.run import run
from gkd_plugin.data.links import split_links
from gkd_plugin.errors import UserError

PARTS = ("train", "val", "test")


def pairs_of(edge_index: torch.Tensor) -> list[tuple[int, int]]:
    return [(min(u, v), max(u, v)) for u, v in edge_index.t().tolist()]


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 25), st.integers(6, 30), st.booleans(), st.integers(0, 3))
def test_pairs_are_told_apart_and_messages_pass_along_training_pairs(nodes, count, both, seed):
    ends = torch.randint(nodes, (2, count), generator=torch.Generator().manual_seed(seed))
    edge_index = torch.cat((ends, ends.flip(0), torch.tensor([[1], [1]])), 1) if both else ends
    data = Data(x=torch.randn(nodes, 2), edge_index=edge_index, edge_attr=torch.arange(edge_index.size(1)))
    linked = {pair for pair in pairs_of(edge_index) if pair[0] != pair[1]}
    if len(linked) < 4 or nodes * (nodes - 1) // 2 < 2 * len(linked):
        return
    before = torch.random.get_rng_state()
    found = split_links("toy", data, 0.5, 0.25, seed)
    assert torch.equal(before, torch.random.get_rng_state())
    again = split_links("toy", data, 0.5, 0.25, seed)
    positive: dict[str, list[tuple[int, int]]] = {}
    negative: list[tuple[int, int]] = []
    for part in PARTS:
        index, label = found[f"{part}_edge_index"], found[f"{part}_edge_label"]
        assert torch.equal(index, again[f"{part}_edge_index"]) and int(label.sum()) * 2 == len(label)
        positive[part] = pairs_of(index[:, label == 1])
        negative += pairs_of(index[:, label == 0])
    everything = [pair for part in PARTS for pair in positive[part]]
    assert len(everything) == len(set(everything)) and set(everything) == linked
    assert len(positive["train"]) == round(0.5 * len(linked))
    assert len(negative) == len(set(negative)) == len(linked) and not set(negative) & linked
    assert all(u != v for u, v in negative)
    messages = pairs_of(found.edge_index)
    assert {pair for pair in messages if pair[0] != pair[1]} == set(positive["train"])
    kept = [pair in set(positive["train"]) or pair[0] == pair[1] for pair in pairs_of(edge_index)]
    assert found.edge_attr.tolist() == [place for place, stays in enumerate(kept) if stays]


def test_graphs_of_which_no_pairs_can_be_drawn():
    full = torch.combinations(torch.arange(5)).t()
    with pytest.raises(UserError, match="links 10 pairs of nodes and leaves 0"):
        split_links("full", Data(edge_index=full, num_nodes=5), 0.5, 0.25)
    with pytest.raises(UserError, match=r"links are 1 and 0, which leaves 0"):
        split_links("tiny", Data(edge_index=torch.tensor([[0], [1]]), num_nodes=9))
    with pytest.raises(UserError, match="Every split needs a pair"):
        split_links("empty", Data(edge_index=torch.zeros(2, 0, dtype=torch.long), num_nodes=3))


@pytest.mark.parametrize("kind", ["per_class", "public"])
def test_pairs_are_drawn_by_shares_only(kind, tmp_path):
    told = rf"splits.kind: '{kind}', but pairs of digits are drawn by shares of all. Allowed: random."
    with pytest.raises(UserError, match=told):
        describe_data("digits", str(tmp_path), ["dataset.task", "link_pred", "splits.kind", kind])


def test_two_students_learn_links_of_a_real_graph(tmp_path):
    values = {
        "out_dir": str(tmp_path),
        "num_threads": 1,
        "dataset": {"format": "gkd", "name": "digits", "task": "link_pred", "task_type": "classification"},
        "train": {"mode": "distill", "eval_period": 1},
        "model": {"edge_decoding": "dot"},
        "gnn": {"layers_mp": 2, "layers_post_mp": 1, "dim_inner": 16, "layer_type": "gcnconv", "head": "edge"},
        "optim": {"base_lr": 0.01, "max_epoch": 15, "scheduler": "none"},
        "kd": {"preset": "alignahead"},
    }
    report = run(values, name="links", quiet=True)
    assert not report.failures
    (result,) = report.results
    assert result.answers["mean"].test > 0.75  # half of the pairs are linked
