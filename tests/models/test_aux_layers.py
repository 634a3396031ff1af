"""``aux_<layer>`` is the plain layer, marked."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch_geometric.graphgym import register
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.utils.comp_budget import params_count

import gkd_plugin  # noqa: F401
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.aux_layers import check_layer, find_marked, has_layer


def build(layer: str) -> nn.Module:
    cfg.share.dim_in, cfg.share.dim_out = 5, 3
    cfg.gnn.head, cfg.gnn.layers_mp, cfg.gnn.layer_type, cfg.dataset.edge_dim = "node", 2, layer, 4
    torch.manual_seed(0)
    return create_model(to_device=False)


@pytest.mark.parametrize("layer", ["gcnconv", "sageconv", "gatconv", "ginconv", "generalconv", "linear"])
def test_a_marked_layer_is_the_plain_layer(layer: str) -> None:
    plain, aux = build(layer), build(f"aux_{layer}")
    assert params_count(aux) == params_count(plain)
    theirs, ours = plain.state_dict(), aux.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [type(m) for m in aux.modules()] == [type(m) for m in plain.modules()]
    assert list(find_marked(list(aux.model.mp.children()))) == [1, 2]
    assert list(find_marked(list(plain.model.mp.children()))) == []


def test_marks_survive_copying_and_pickling() -> None:
    aux = build("aux_gcnconv").model.mp
    for again in (copy.deepcopy(aux), pickle.loads(pickle.dumps(aux))):
        assert list(find_marked(list(again.children()))) == [1, 2]


def test_layers_registered_later_work_and_a_user_s_own_wins() -> None:
    class Late(nn.Module):
        def __init__(self, config: object, **_: object) -> None:
            super().__init__()
            self.map = nn.Linear(config.dim_in, config.dim_out)  # type: ignore[attr-defined]

        def forward(self, batch: object) -> object:
            batch.x = self.map(batch.x)  # type: ignore[attr-defined]
            return batch

    class Mine(Late):
        pass

    register.register_layer("late", Late)
    assert has_layer("aux_late") and "aux_late" not in register.layer_dict
    assert isinstance(build("aux_late").model.mp.layer0.layer, Late)
    register.register_layer("aux_mine", Mine)
    made = build("aux_mine").model.mp
    assert isinstance(made.layer0.layer, Mine)
    assert list(find_marked(list(made.children()))) == []


def test_code_that_holds_the_original_dictionary_sees_and_is_seen() -> None:
    original = register.layer_dict.original
    register.register_layer("ours_new", nn.Identity)
    assert original["ours_new"] is nn.Identity
    original["theirs_new"] = nn.Identity
    assert register.layer_dict["theirs_new"] is nn.Identity
    assert has_layer("aux_theirs_new")
    del original["ours_new"], original["theirs_new"]


def test_unknown_and_doubly_marked_layers_are_refused() -> None:
    with pytest.raises(KeyError):
        register.layer_dict["aux_nothing"]
    with pytest.raises(UserError, match="marked once"):
        register.layer_dict["aux_aux_gcnconv"]
    assert check_layer("aux_gcnconv") is None
    assert "aux_gcnconv" in str(check_layer("aux_gcncov"))
    assert "marked once" in str(check_layer("aux_aux_gcnconv"))
