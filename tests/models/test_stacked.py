"""Networks that run together against the same networks one at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.graphgym.model_builder import create_model

import gkd_plugin  # noqa: F401
from gkd_plugin import host
from gkd_plugin.config.load import read_config
from gkd_plugin.models.observed import ObservedModel, Request
from gkd_plugin.models.rng import random_state
from gkd_plugin.models.sample import Sample
from gkd_plugin.models.sparse_input import SparseFeatures
from gkd_plugin.models.stacked import Alone, Stacker, find_difference, list_keys, observe_stacked
from gkd_plugin.space.observation import Task
from tests import toy

pytestmark = pytest.mark.usefixtures("toy_data")
TAPS = ("conv", "layer", "stage")
NETWORKS: dict[str, dict[str, Any]] = {
    "gcn": {},
    "normalised": {"batchnorm": True, "l2norm": True},
    "skips": {"stage_type": "skipsum", "layers_pre_mp": 1},
    "concatenated": {"stage_type": "skipconcat", "layers_mp": 3},
    "sage": {"layer_type": "sageconv"},
    "gat": {"layer_type": "gatconv"},
    "gin": {"layer_type": "ginconv"},
    "general": {"layer_type": "generalconv"},
    "mlp": {"layers_mp": 0, "layers_pre_mp": 2},
}


def sample(sparse: bool = False, **changes: Any) -> Sample:
    batch = Batch.from_data_list([toy.community(0)])
    for key, value in changes.items():
        batch[key] = value
    return Sample(batch, Task("node", "multiclass"), features=SparseFeatures(batch.x) if sparse else None, fixed=True)


def networks(count: int, sparse: bool = False, rates: tuple[float, ...] = (), **gnn: Any) -> list[ObservedModel]:
    found = []
    for number in range(count):
        dropout = rates[number] if rates else 0.0
        own = toy_cfg(gnn={"dropout": dropout, **gnn}, seed=number)
        with host.scoped(own):
            torch.manual_seed(number)
            found.append(ObservedModel(create_model(to_device=False).double(), own, sparse_input=sparse))
    return found


def toy_cfg(**groups: Any) -> Any:
    own = read_config(toy.values(**groups)).cfg.clone()
    own.share.dim_in, own.share.dim_out = 6, 3
    return own


def double(one: Sample) -> Sample:
    one.batch.x = one.batch.x.double()
    if one.features is not None:
        one.features = SparseFeatures(one.batch.x)
    return one


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_answers_states_gradients_and_statistics_are_those_of_one_alone(name: str, sparse: bool) -> None:
    models, data = networks(3, sparse, **NETWORKS[name]), double(sample(sparse))
    alone = copy.deepcopy(models)
    taps = TAPS if models[0].depth else ()
    together = observe_stacked([Request(model, data, taps) for model in models])
    for model, seen, other in zip(models, together, alone, strict=True):
        expected = other.observe(data, taps)
        torch.testing.assert_close(seen.logits, expected.logits)
        for tap in taps:
            torch.testing.assert_close(seen.hidden[tap], expected.hidden[tap])
        (expected.logits.square().sum() + sum(state.sum() for state in expected.hidden.get("conv", ()))).backward()
        assert torch.equal(seen.labels, expected.labels) and model.stacked == 1
    sum(
        seen.logits.square().sum() + sum(state.sum() for state in seen.hidden.get("conv", ())) for seen in together
    ).backward()
    for model, other in zip(models, alone, strict=True):
        for key, weight in model.weights.items():
            torch.testing.assert_close(weight.grad, other.weights[key].grad)
        for key, buffer in model.buffers.items():
            torch.testing.assert_close(buffer, other.buffers[key])
    assert all("forward" not in vars(module) for model in models for module in model.module.modules())


def test_each_network_has_its_own_rate_of_dropout() -> None:
    models = networks(3, rates=(0.2, 0.5, 0.9), dim_inner=64)
    data = double(sample())
    torch.manual_seed(0)
    seen = observe_stacked([Request(model, data, ("layer",)) for model in models])
    states = [one.hidden["layer"][0] for one in seen]
    for number, rate in enumerate((0.2, 0.5, 0.9)):
        with models[number].untouched():
            undropped = models[number].observe(data, ("layer",)).hidden["layer"][0]
        kept = states[number] > 0
        assert abs(float(kept[undropped > 0].double().mean()) - (1 - rate)) < 0.05
        torch.testing.assert_close(states[number][kept], undropped[kept] / (1 - rate), rtol=1e-6, atol=1e-6)
    assert [layer.p for layer in models[1].dropouts.values()] == [0.5] * len(models[1].dropouts)


def test_equal_rates_draw_other_masks_for_each_network() -> None:
    models = networks(2, rates=(0.5, 0.5))
    models[1].module.load_state_dict(models[0].module.state_dict())
    first, second = observe_stacked([Request(model, double(sample()), ()) for model in models])
    assert not torch.equal(first.logits, second.logits)


class Reader(nn.Module):
    """Decides by a number that it reads off a tensor, which cannot be stacked."""

    gkd_stackable = True

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.map = nn.Linear(dim_in, dim_out)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        found = self.map(batch.x)
        return (found if found.sum().item() > 0 else -found), batch.y


class Secret(nn.Module):
    """Multiplies by a number that is neither a parameter nor a buffer."""

    gkd_stackable = True

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.map, self.factor = nn.Linear(dim_in, dim_out), float(torch.rand(()))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.factor * self.map(batch.x), batch.y


@pytest.mark.parametrize(
    ("kind", "said"), [(Reader, "torch.func cannot stack them"), (Secret, "from those of one alone")]
)
def test_what_cannot_be_stacked_is_found_before_it_counts(kind: type[nn.Module], said: str) -> None:
    models = []
    for number in range(2):
        torch.manual_seed(number)
        own = toy_cfg(seed=number)
        models.append(ObservedModel(kind(6, 3), own, "map"))
    requests = [Request(model, sample(), ()) for model in models]
    before = random_state()
    assert said in str(find_difference(requests))
    stacker = Stacker(before)
    assert stacker.observe(requests, [True, True]) == [None, None]
    assert said in next(iter(stacker.told)) and len(stacker.told) == 1
    assert torch.equal(torch.get_rng_state(), before[0])


class Trained(Reader):
    """Looks at values in training only."""

    gkd_stackable = True

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return super().forward(batch) if self.training else (self.map(batch.x), batch.y)


def test_what_fails_in_training_only_goes_on_one_at_a_time() -> None:
    models = [ObservedModel(Trained(6, 3), toy_cfg(seed=number), "map") for number in range(2)]
    requests, stacker = [Request(model, sample(), ()) for model in models], Stacker(random_state())
    for _ in range(2):
        assert stacker.observe(requests, [True, True]) == [None, None]
    assert "torch.func cannot stack them" in next(iter(stacker.told)) and [model.stacked for model in models] == [1, 1]


class Counter(nn.Linear):
    """Keeps a number beside its parameters, as a comparison of one pass cannot see."""

    def forward(self, x: Tensor) -> Tensor:
        self.passes = getattr(self, "passes", 0) + 1
        return super().forward(x) / self.passes


class Derived(Reader):
    """Says nothing itself of being stacked."""


def exchange(model: ObservedModel) -> None:
    layer = next(module for module in model.parts if isinstance(module, nn.ReLU))
    layer.forward = torch.tanh  # type: ignore[method-assign]


OWN_WAYS: dict[str, tuple[Callable[[ObservedModel], Any], str]] = {
    "a class of the user's": (
        lambda model: setattr(model.module, "own", Counter(2, 2)),
        "Counter is a class of your own",
    ),
    "a class below one that may": (
        lambda model: setattr(model.module, "own", Derived(2, 2)),
        "Derived is a class of your",
    ),
    "a hook": (lambda model: model.parts[2].register_forward_hook(lambda *_: None), "has hooks"),
    "a norm of weights": (lambda model: nn.utils.spectral_norm(first_linear(model)), "has hooks"),
    "parametrized weights": (
        lambda model: nn.utils.parametrizations.spectral_norm(first_linear(model)),
        "parametrized",
    ),
    "an exchanged method": (exchange, "was exchanged"),
}


def first_linear(model: ObservedModel) -> nn.Module:
    model.module.own = nn.Linear(2, 2)  # type: ignore[assignment]
    return model.module.own  # type: ignore[return-value]


@pytest.mark.parametrize("name", OWN_WAYS)
def test_what_may_belong_to_one_network_runs_alone_and_it_is_said(name: str) -> None:
    change, said = OWN_WAYS[name]
    models, data = networks(2, act="relu"), double(sample())
    for model in models:
        change(model)
        vars(model).pop("parts", None)
    stacker = Stacker(random_state())
    assert stacker.observe([Request(model, data, ()) for model in models], [True, True]) == [None, None]
    assert said in next(iter(stacker.told))


def test_only_like_networks_on_equal_data_run_together() -> None:
    first, second, third = networks(3)
    wide = networks(1, dim_inner=16)[0]
    here, there = double(sample()), double(sample())  # equal tensors, other objects
    other = double(sample(x=torch.zeros(48, 6)))
    masked = double(sample(train_mask=torch.ones(48, dtype=torch.bool)))
    asked = [(first, here), (wide, here), (second, there), (third, other), (third, masked)]
    found = Stacker(random_state()).observe([Request(*each, ()) for each in asked], [False] * 5)
    assert [seen is not None for seen in found] == [True, False, True, False, True]
    assert [model.stacked for model in (first, second, third, wide)] == [3, 3, 3, 1]
    loose = [Sample(each.batch, each.task) for each in (here, there)]
    alone = Stacker(random_state())
    assert alone.observe([Request(m, s, ()) for m, s in zip((first, second), loose, strict=True)], [False] * 2) == [
        None,
        None,
    ]
    assert None not in alone.observe([Request(m, loose[0], ()) for m in (first, second)], [False] * 2)


def test_modes_gradients_and_taps_are_kept_apart() -> None:
    models, data = networks(4), double(sample())
    models[1].module.eval()
    requests = [Request(model, data, ("conv",) if number == 2 else ()) for number, model in enumerate(models)]
    found = Stacker(random_state()).observe(requests, [True, True, True, False])
    assert found == [None] * 4


def test_pairs_of_nodes_are_decoded_one_at_a_time() -> None:
    models = networks(2)
    data = Sample(double(sample()).batch, Task("edge", "binary"), fixed=True)
    assert Stacker(random_state()).observe([Request(model, data, ()) for model in models], [False] * 2) == [None] * 2


def test_dropout_draws_from_the_stack_and_again_the_same() -> None:
    def read() -> list[Tensor]:
        models, data = networks(2, rates=(0.5, 0.5)), double(sample())
        alone = Alone(state)
        with torch.no_grad():
            return [seen.logits for _ in range(2) for seen in alone.observe([Request(m, data, ()) for m in models])]

    torch.manual_seed(3)
    state, before = random_state(), torch.get_rng_state()
    first, again = read(), read()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[2])
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_rates_and_distillation_do_not_make_networks_unlike() -> None:
    plain = toy_cfg()
    like = toy_cfg(seed=5, optim={"base_lr": 0.5, "weight_decay": 1.0}, gnn={"dropout": 0.1}, kd={"students": 2})
    assert list_keys(plain) == list_keys(like)
    unlike = {key for key, value in list_keys(toy_cfg(gnn={"act": "elu"})).items() if list_keys(plain)[key] != value}
    assert unlike == {"gnn.act"}
