from __future__ import annotations

import re
from typing import Any, ClassVar

import pytest
from torch_geometric.graphgym.config import set_cfg
from yacs.config import CfgNode

import gkd_plugin
from gkd_plugin import hookimpl
from gkd_plugin.config import kd_keys
from gkd_plugin.schema import BadValue, Key, Number
from gkd_plugin.space import axes
from gkd_plugin.space.axes import Axis
from gkd_plugin.space.knowledge.base import Term

SCHEME = (
    "preset students cohort init update peer_mode peer_target shuffle_sources label_weight layers hide_edges sparse_input "
    "stack clip_grad_norm patience predict measure_period eval_memory tracker"
).split()


def of_answers(axis: Axis[Any]) -> list[str]:
    """What sources and fixed layer maps declare; each key is tested beside its answer."""
    answers = [axis[name] for name in axis]
    return [key.name for answer in answers if not getattr(answer, "learned", False) for key in answer.keys]


def names(group: str) -> list[str]:
    return [key.name for key in kd_keys.groups()[group]]


def test_groups_and_keys_are_those_of_the_reference():
    layered = ["layer_map", "layer_reduction", "tap", *of_answers(axes.layer_maps)]
    assert set(kd_keys.groups()) == {
        *("kd", "kd_response", "kd_feature", "kd_structure", "kd_contrast", "kd_auxiliary", "kd_attention")
    }
    assert names("kd") == [*SCHEME, *of_answers(axes.sources)]
    response = "weight source schedule loss temperature target sharpen confidence node_weight nodes"
    assert names("kd_response") == response.split()
    assert set(names("kd_feature")) == {
        *"weight source schedule loss projector projector_side dim normalize pool nodes reduction".split(),
        *layered,
    }
    assert set(names("kd_structure")) == {
        *"weight source schedule kernel kernel_scale normalize domain relations self_loops samples distribution".split(),
        *"softmax_over non_edge_weight divergence reduction".split(),
        *layered,
    }
    assert set(names("kd_contrast")) == {*"weight source schedule temperature samples dim projector".split(), *layered}
    assert set(names("kd_auxiliary")) == {
        *"weight schedule head layers layer_reduction growth soft_weight soft_source temperature".split()
    }
    assert set(names("kd_attention")) == {*"dim softmax_over detach frozen subspace projection".split()}


def test_every_default_is_a_value_of_its_key():
    decided_later = {"students", "source", "cohort", "loss", "pairs", "samples", "temperature"}
    for group, keys in kd_keys.groups().items():
        for key in keys:
            if key.default is not None and key.name not in decided_later:
                assert key.kind.parse(key.default) == key.default, f"{group}.{key.name}"
            assert key.meaning and key.kind.describe()


def test_set_cfg_kd_resets_and_extend_keeps():
    node = CfgNode()
    kd_keys.set_cfg_kd(node)
    assert set(node) == set(kd_keys.groups())
    assert all(value is None for group in node.values() for value in group.values())
    node.kd.students = 3
    kd_keys.extend_cfg_kd(node)
    assert node.kd.students == 3
    kd_keys.set_cfg_kd(node)
    assert node.kd.students is None


def test_the_hosts_reset_gives_undecided_groups():
    node = CfgNode()
    set_cfg(node)
    node.kd.preset = "oc"
    set_cfg(node)
    assert node.kd.preset is None


class Warmth(Term):
    """Throw-away."""

    name: ClassVar[str] = "warmth"
    summary: ClassVar[str] = "how warm"
    reference: ClassVar[str] = "a test"
    keys: ClassVar[tuple[Key, ...]] = (
        Key("degrees", 3.0, Number(0), "of warmth"),
        Key("weight", 0.5, Number(0), "own"),
    )


class Plugin:
    @hookimpl
    def gkd_register_knowledge(self, register: Any) -> None:
        register("warmth", Warmth)


def test_third_party_groups_come_and_go():
    gkd_plugin.register_plugin(Plugin(), "warm")
    node = CfgNode({"kd_warmth": {"degrees": 9}})
    kd_keys.extend_cfg_kd(node)
    assert names("kd_warmth") == ["source", "schedule", "degrees", "weight"], "its own weight wins, no layer keys"
    assert (node.kd_warmth.degrees, node.kd_warmth.source) == (9, None)
    gkd_plugin.unregister_plugin("warm")
    assert "kd_warmth" not in kd_keys.groups()


@pytest.mark.parametrize("word", ["constant", "warmup_10", "window_0_30", "linear_5_9", "rampup_80"])
def test_schedules(word):
    assert kd_keys.ScheduleWord().parse(word) == word


@pytest.mark.parametrize(
    "word", ["warmup", "warmup_-1", "window_30", "window_9_9", "linear_9_3", "rampup_1.5", "", 3, True]
)
def test_no_schedules(word):
    with pytest.raises(BadValue, match=re.compile("window|first number|Allowed")):
        kd_keys.ScheduleWord().parse(word)
