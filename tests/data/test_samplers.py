from __future__ import annotations

import pytest
import torch
import torch_geometric.typing
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg
from torch_geometric.loader import RandomNodeLoader
from yacs.config import CfgNode

from gkd_plugin.commands.check import check
from gkd_plugin.data import samplers
from gkd_plugin.data.load import load
from gkd_plugin.data.samplers import find_sampler_problem, find_uncertain_samplers, serves_one_graph
from gkd_plugin.errors import UserError
from tests import toy

LACKING = [  # what is not installed, whether the key is there, the sampler, and what is said of it
    ("", False, "random_node", "train.train_parts"),
    ("", False, "cluster", "train.train_parts"),
    ("sparse metis", True, "random_node", None),
    ("sparse metis", True, "cluster", "pip install pyg-lib"),
    ("sparse", True, "cluster", None),
    ("metis", True, "cluster", None),
    ("sparse", True, "saint_rw", "pip install torch-sparse"),
    ("sparse", True, "saint_node", "pip install torch-sparse"),
    ("sparse", True, "saint_edge", "pip install torch-sparse"),
    ("metis", True, "saint_edge", None),
    ("", True, "neighbor", "a whole graph"),
    ("", False, "full_batch", None),
]


def add_parts(own: CfgNode) -> None:
    dict.__setitem__(own.train, "train_parts", 2)


@pytest.mark.parametrize(("lacking", "key", "sampler", "said"), LACKING)
def test_what_a_sampler_lacks(lacking, key, sampler, said, monkeypatch):
    for name, flag in (("sparse", "WITH_TORCH_SPARSE"), ("metis", "WITH_METIS")):
        monkeypatch.setattr(torch_geometric.typing, flag, name not in lacking)
    own = cfg.clone()
    if key:
        add_parts(own)
    wrong = find_sampler_problem(sampler, own)
    assert wrong is None if said is None else said in " ".join(wrong)


def test_a_host_that_mends_its_sampler_is_not_refused(monkeypatch):
    monkeypatch.setattr(samplers, "NeighborSampler", lambda graph, sizes: None)
    assert find_sampler_problem("neighbor", cfg) is None


def test_a_missing_package_of_the_neighbor_sampler_is_named(monkeypatch):
    def refuse(graph, sizes):
        raise ImportError("'NeighborSampler' requires 'torch-sparse'")

    monkeypatch.setattr(samplers, "NeighborSampler", refuse)
    assert "pip install torch-sparse" in find_sampler_problem("neighbor", cfg)[1]


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
    assert text.startswith(f"train.sampler: if '{cfg.dataset.name}' is one graph, 'cluster' makes the host read a key")
    assert list(check({"num_threads": 1, "train": {"sampler": "saint_rw"}})[0].warnings)[-1].startswith("train.sampler")
    cfg.train.sampler = "full_batch"
    assert not list(find_uncertain_samplers(cfg))


def serve(monkeypatch, sampler: str) -> None:
    data = toy.Toy([toy.community(0)])
    monkeypatch.setitem(register.loader_dict, "mine", lambda *_: data)
    cfg.dataset.task, cfg.train.sampler = "node", sampler


def test_a_run_tells_the_true_reason(monkeypatch):
    serve(monkeypatch, "cluster")
    assert not serves_one_graph(cfg)
    with pytest.raises(UserError, match=r"^train.sampler: 'cluster' makes the host read a key train.train_parts"):
        load(cfg)
    cfg.train.sampler = "neighbor"
    with pytest.raises(UserError, match=r"^train.sampler: 'neighbor' cannot be made by this host.*Write full_batch.$"):
        load(cfg)


def test_what_no_rule_knows_is_told_in_its_own_words(monkeypatch):
    def refuse(*_args, **_options):
        raise ValueError("no parts today")

    serve(monkeypatch, "random_node")
    add_parts(cfg)
    with monkeypatch.context() as patched:
        patched.setattr(RandomNodeLoader, "__init__", refuse)
        with pytest.raises(UserError, match="'random_node' cannot be made of .*ValueError: no parts today"):
            load(cfg)
    assert len(load(cfg)[0]) == 2 and torch.is_tensor(next(iter(load(cfg)[0])).x)
    dict.pop(cfg.train, "train_parts")
