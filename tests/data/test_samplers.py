from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch_geometric.typing
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg

from gkd_plugin.commands.check import check
from gkd_plugin.data.load import load
from gkd_plugin.data.samplers import find_sampler_problem, find_uncertain_samplers, serves_one_graph
from gkd_plugin.errors import UserError
from tests import toy

LACKING = [  # what is not installed, the task, the sampler, and what is said of it
    ("sparse metis lib", "node", "random_node", None),
    ("sparse metis lib", "node", "saint_rw", None),
    ("sparse metis lib", "node", "cluster", "pip install pyg-lib"),
    ("sparse lib", "node", "cluster", None),
    ("metis lib", "node", "cluster", None),
    ("sparse lib", "node", "neighbor", "pip install pyg-lib"),
    ("sparse", "node", "neighbor", None),
    ("lib", "node", "neighbor", None),
    ("", "link_pred", "saint_node", "full_batch"),
    ("sparse metis lib", "link_pred", "full_batch", None),
]


@pytest.mark.parametrize(("lacking", "task", "sampler", "said"), LACKING)
def test_what_a_sampler_lacks(lacking, task, sampler, said, monkeypatch):
    flags = (("sparse", "WITH_TORCH_SPARSE"), ("metis", "WITH_METIS"), ("lib", "WITH_PYG_LIB"))
    for name, flag in flags:
        monkeypatch.setattr(torch_geometric.typing, flag, name not in lacking)
    own = cfg.clone()
    own.dataset.task = task
    wrong = find_sampler_problem(sampler, own)
    assert wrong is None if said is None else said in " ".join(wrong)


@pytest.mark.parametrize(
    ("format", "name", "task", "one"),
    [
        ("PyG", "Cora", "node", True),
        ("gkd", "Actor", "node", True),
        ("OGB", "ogbn-arxiv", "node", True),
        ("OGB", "ogbg-molhiv", "graph", False),
        ("gkd", "PPI", "node", False),
        ("PyG", "TU_MUTAG", "node", False),
        ("PyG", "Cora", "graph", False),
    ],
)
def test_only_of_one_graph_the_host_makes_a_sampler(format, name, task, one):
    own = cfg.clone()
    own.dataset.format, own.dataset.name, own.dataset.task = format, name, task
    assert serves_one_graph(own) is one
    assert not list(find_uncertain_samplers(own))


def test_where_only_the_loader_knows_it_is_a_warning(monkeypatch):
    serve(monkeypatch, "cluster")
    assert serves_one_graph(cfg) is None
    (text,) = find_uncertain_samplers(cfg)
    assert text.startswith(f"train.sampler: if '{cfg.dataset.name}' is one graph, 'cluster' needs a compiled package")
    assert list(check({"num_threads": 1, "train": {"sampler": "neighbor"}})[0].warnings)[-1].startswith("train.sampler")
    cfg.train.sampler = "full_batch"
    assert not list(find_uncertain_samplers(cfg))


def serve(monkeypatch, sampler: str) -> None:
    data = toy.Toy([toy.community(0)])
    for flag in ("WITH_TORCH_SPARSE", "WITH_METIS", "WITH_PYG_LIB"):
        monkeypatch.setattr(torch_geometric.typing, flag, False)
    monkeypatch.setitem(register.loader_dict, "mine", lambda *_: data)
    cfg.dataset.task, cfg.train.sampler = "node", sampler


@pytest.mark.parametrize("sampler", ["cluster", "neighbor"])
def test_a_run_tells_what_is_missing(sampler, monkeypatch):
    serve(monkeypatch, sampler)
    with pytest.raises(UserError, match=rf"^train.sampler: '{sampler}' needs a compiled package.*random_node"):
        load(cfg)
    assert cfg.train.sampler == sampler


@pytest.mark.parametrize("built", [True, False])
def test_torch_sparse_may_have_been_built_without_metis(built, monkeypatch):
    def partition(*_):
        if not built:
            raise RuntimeError("Not compiled with METIS support")

    for flag, there in (("WITH_TORCH_SPARSE", True), ("WITH_METIS", False)):
        monkeypatch.setattr(torch_geometric.typing, flag, there)
    monkeypatch.setattr(torch.ops, "torch_sparse", SimpleNamespace(partition=partition), raising=False)
    wrong = find_sampler_problem("cluster", cfg)
    if built:
        assert wrong is None
    else:
        assert wrong is not None and "the torch-sparse that is installed was built without it" in wrong[0]
    assert find_sampler_problem("neighbor", cfg) is None
