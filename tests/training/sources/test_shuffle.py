"""``kd.shuffle_sources``: rows of every source are exchanged, by one permutation for each run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gkd_plugin.commands.explain import explain
from gkd_plugin.commands.run import run
from gkd_plugin.config.resolve import resolve
from gkd_plugin.models.rng import random_state
from gkd_plugin.ops.neighbours import nearest_graph
from gkd_plugin.space.observation import Graph, Observation
from gkd_plugin.training.sources.shuffle import draw_permutation, shuffle_rows
from tests import toy
from tests.running import Driven, compare, outcome, rows, stop_in

pytestmark = pytest.mark.usefixtures("work_folder")

SOFT: dict[str, Any] = {"kd_response": {"weight": 1.0, "nodes": "all"}}
LAYERS: dict[str, Any] = {"kd_feature": {"weight": 1.0, "tap": "layer", "projector": "none"}}
EDGES: dict[str, Any] = {"kd_structure": {"weight": 1.0, "kernel": "linear", "self_loops": True}}
QUIET: dict[str, Any] = {"gnn": {"dropout": 0.0}}


def give_teacher() -> np.ndarray[Any, Any]:
    """A teacher that is a file of logits; no two rows are alike."""
    said = np.random.default_rng(2).normal(size=(48, 3)).astype(np.float32)
    np.savez("said.npz", logits=said)
    return said


def find_order(plain: Tensor, shuffled: Tensor) -> list[int]:
    """For each row of the second the row of the first that it is; all rows of the first are different."""
    table = {tuple(row): place for place, row in enumerate(plain.tolist())}
    assert len(table) == len(plain)
    return [table[tuple(row)] for row in shuffled.tolist()]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 48])
def test_no_item_keeps_its_place(count: int) -> None:
    before = random_state()
    order = draw_permutation(count, 1).tolist()
    assert all(torch.equal(a, b) for a, b in zip(before, random_state(), strict=True))
    assert sorted(order) == list(range(count))
    assert count == 1 or all(order[place] != place for place in range(count))
    assert draw_permutation(count, 1).tolist() == order


def test_seeds_differ_and_every_other_place_is_possible() -> None:
    orders = [draw_permutation(4, seed).tolist() for seed in range(200)]
    assert len({tuple(order) for order in orders}) == 6  # all the cycles of four
    assert {order[0] for order in orders} == {1, 2, 3}


def test_logits_and_states_move_together_and_the_graph_stays() -> None:
    states = (torch.randn(5, 2), torch.randn(5, 3))
    graph, labels = Graph(torch.tensor([[0, 1], [1, 2]]), 5), torch.arange(5)
    seen = Observation(torch.randn(5, 4), {"conv": states}, graph, labels, keep=lambda parts, compute: torch.zeros(()))
    found = shuffle_rows(seen, 7)
    order = find_order(seen.logits, found.logits)
    assert order == draw_permutation(5, 7).tolist()
    assert all(find_order(a, b) == order for a, b in zip(states, found.hidden["conv"], strict=True))
    assert found.graph is graph and found.labels is labels
    assert found.keep is None, "what is derived from it would be kept on disk under the name of the plain one"
    seen.remember("a", lambda: 1)
    assert shuffle_rows(seen, 7) is found and found.remember("a", lambda: 2) == 2


def test_a_graph_s_answers_move_among_graphs_and_its_nodes_among_nodes() -> None:
    seen = Observation(torch.randn(3, 2), {"layer": (torch.randn(9, 2),)}, Graph(torch.zeros(2, 0).long(), 9))
    found = shuffle_rows(seen, 1)
    assert find_order(seen.logits, found.logits) == draw_permutation(3, 1).tolist()
    assert find_order(seen.layer("layer", 1), found.layer("layer", 1)) == draw_permutation(9, 1).tolist()


def test_a_teacher_s_term_is_the_one_against_other_items_and_all_epochs_see_the_same() -> None:
    said = torch.from_numpy(give_teacher())
    with Driven(kd={"teacher": "said.npz", "shuffle_sources": True}, **QUIET, **SOFT) as trainer:
        own, first, found = compare(trainer)
        order = find_order(said, first["teacher"].logits)
        assert all(other != item for item, other in enumerate(order))
        p, q = own.logits.detach().double().softmax(-1), said.double().softmax(-1)
        each = [float((q[order[v]] * (q[order[v]].log() - p[v].log())).sum()) for v in range(48)]
        assert float(found["kd_response"]) == pytest.approx(sum(each) / 48, rel=1e-5)
        trainer.updates.epoch(trainer.feeds[0], 0)
        assert compare(trainer)[1]["teacher"] is first["teacher"], "its rows are exchanged once"


SOURCES: dict[str, dict[str, Any]] = {
    "peers": {"kd": {"students": 3}, **SOFT, **LAYERS, **EDGES},
    "ema": {**SOFT, **LAYERS, **EDGES},
    "cohort": {"kd": {"students": 2}, **SOFT},
    "self": {"kd_feature": {**LAYERS["kd_feature"], "layer_map": "last"}},
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_shuffled_and_the_learner_is_not(source: str) -> None:
    groups: dict[str, Any] = {
        name: keys if name == "kd" else {**keys, "source": source} for name, keys in SOURCES[source].items()
    }
    seen = []
    for shuffled in (False, True):
        kd = {**groups.get("kd", {}), "shuffle_sources": shuffled}
        with Driven(**{**groups, "kd": kd}, **QUIET) as trainer:
            own, targets, values = compare(trainer)
            members = trainer.students[0].objective.members(0)
            seen.append((own, trainer.sources.add_own(targets, own, members), values))
    (own, plain, one), (same, moved, other) = seen
    torch.testing.assert_close(own.logits, same.logits, rtol=0, atol=0)
    order, edges = draw_permutation(48, 1), own.graph.edge_index
    assert plain.keys() == moved.keys() and plain
    for member, target in plain.items():
        assert torch.equal(moved[member].logits, target.logits[order])
        for tap, states in target.hidden.items():
            assert all(torch.equal(a[order], b) for a, b in zip(states, moved[member].hidden[tap], strict=True))
        assert torch.equal(moved[member].graph.edge_index, edges)
    assert one.keys() == other.keys() and all(float(one[name]) != float(other[name]) for name in one)


@pytest.mark.parametrize(
    "task",
    [
        {"dataset": {"name": "links", "task": "link_pred"}, "model": {"edge_decoding": "dot"}},
        {"dataset": {"name": "many"}, "train": {"batch_size": 2}},
        {"dataset": {"name": "binary"}},
    ],
    ids=["links", "many", "binary"],
)
def test_every_task_and_a_resume_bit_for_bit(task: dict[str, Any]) -> None:
    groups = {"kd": {"students": 2, "shuffle_sources": True}, **SOFT, **LAYERS}
    keys = toy.values(**toy.merge(task, groups), optim={"max_epoch": 4})
    keys["train"] |= {"ckpt_period": 1, **task.get("train", {})}
    whole = run(keys, name="whole", quiet=True)
    assert all(row["s1_kd_response"] > 0 for row in rows(whole.folder / "0", "train"))
    with pytest.MonkeyPatch.context() as patch:
        stop_in(2, patch)
        with pytest.raises(KeyboardInterrupt):
            run(keys, name="cut", quiet=True)
    cut = run(keys, name="cut", quiet=True)
    assert outcome(whole.folder / "0") == outcome(cut.folder / "0")


def test_it_changes_nothing_where_nothing_is_distilled_and_says_so() -> None:
    found = []
    for shuffled in (True, False):
        report = run(toy.values(kd={"shuffle_sources": shuffled}), name=f"run{shuffled}", quiet=True)
        found.append(outcome(report.folder / "0"))
    assert found[0] == found[1]
    (warning,) = resolve(toy.host(kd={"shuffle_sources": True})).warnings
    assert "nothing is shuffled" in warning
    for keys in ({"kd_response": {"weight": 0}}, {"kd": {"students": 2}, **SOFT}):  # a control, and a real one
        assert resolve(toy.host(**{**keys, "kd": {"shuffle_sources": True, **keys.get("kd", {})}})).warnings == ()


def test_explain_says_it(tmp_path: Path) -> None:
    keys = {"kd": {"students": 2, "shuffle_sources": True}, **SOFT}
    assert "taught by what the sources say of another item" in " ".join(
        str(explain(toy.config(tmp_path, **keys))).split()
    )


def test_a_graph_that_moves_goes_with_the_states() -> None:
    """The neighbours of item i are the items in whose places the neighbours of pi(i) now stand."""
    rows = torch.randn(6, 2)
    graph = Graph(torch.zeros(2, 0).long(), 6)
    seen = Observation(rows, {"layer": (rows,)}, graph, graphs=(graph.moved(nearest_graph(rows, 2)),))
    found = shuffle_rows(seen, 3)
    assert found.graph is graph
    again = nearest_graph(found.hidden["layer"][0], 2)
    assert {*map(tuple, found.graphs[0].edge_index.t().tolist())} == {*map(tuple, again.t().tolist())}
    assert not torch.equal(again, seen.graphs[0].edge_index)
