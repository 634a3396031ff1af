"""The presets against the table of published methods, written out here a second time."""

from __future__ import annotations

import pytest
import yaml

from gkd_plugin.config.resolve import resolve
from gkd_plugin.space.knowledge.contrast import ContrastTerm
from gkd_plugin.space.knowledge.feature import FeatureTerm
from gkd_plugin.space.knowledge.response import ResponseTerm
from gkd_plugin.space.layer_maps import LAYER_MAPS
from gkd_plugin.space.presets import PRESETS

TEACHER = yaml.safe_load("""
soft_target: {kd: {label_weight: 0.1}, kd_response: {weight: 0.9, temperature: 4, nodes: all}}
glnn: {kd: {label_weight: 0}, kd_response: {weight: 1, temperature: 1, nodes: all}}
fitnet: {kd_feature: {weight: 1000, tap: layer, layer_map: last, loss: mse, projector: linear_bn_relu,
  projector_side: both, dim: 256, normalize: l2}}
attention_transfer: {kd_feature: {weight: 1000, tap: layer, layer_map: last, loss: attention, projector: none}}
lsp: {kd_structure: {weight: 100, tap: conv, layer_map: last, kernel: rbf, kernel_scale: 10,
  divergence: kl_learner_source, self_loops: false}}
lsp_code: {kd_structure: {weight: 1, tap: conv, layer_map: pairs, pairs: -2~-1, kernel: laplacian, kernel_scale: 100,
  divergence: kl_source_learner, self_loops: true, schedule: window_0_30}}
gsp: {kd_structure: {weight: 1, tap: layer, layer_map: last, domain: all_pairs, self_loops: true, samples: 2048,
  distribution: none, kernel: cosine, divergence: mse, reduction: pair_mean}}
gcrd: {kd_contrast: {weight: 0.1, tap: layer, layer_map: last, temperature: 0.075, dim: 256, projector: linear_bn_relu,
  samples: 1024}}
gkd: {kd: {label_weight: 0.5}, kd_structure: {weight: 0.5, tap: layer, layer_map: one_to_one, layer_reduction: mean,
  domain: all_pairs, self_loops: true, distribution: none, kernel: sigmoid, normalize: batchnorm, divergence: mse,
  non_edge_weight: 0.1, reduction: sum}}
abkd: {kd_feature: {weight: 1, tap: layer, layer_map: attention, pool: mean, loss: mse, projector: linear,
  projector_side: both, dim: 64, normalize: l2}}
stride: {kd_feature: {weight: 1, tap: layer, layer_map: attention, pool: none, loss: mse, projector: linear,
  projector_side: both, dim: 64, normalize: l2},
  kd_contrast: {weight: 0.1, tap: layer, layer_map: attention, dim: 64, projector: linear, samples: 1024}}
""")
OTHERS = yaml.safe_load("""
supervised: {}
label_smoothing: {kd: {label_weight: 0.9}, kd_response: {source: uniform_prior, weight: 0.1, temperature: 1, nodes: train}}
oc: {kd: {update: epoch_alternate}, kd_structure: {source: peers, weight: 1, tap: conv, layer_map: one_to_one,
  kernel: laplacian, kernel_scale: 100, divergence: kl_source_learner, self_loops: true}}
alignahead: {kd: {update: epoch_alternate}, kd_structure: {source: peers, weight: 1, tap: conv, layer_map: shift,
  shift: 1, kernel: laplacian, kernel_scale: 100, divergence: kl_source_learner, self_loops: true}}
alignahead_code: {kd: {update: epoch_alternate, init: same, peer_mode: train},
  kd_structure: {source: peers, weight: 1, tap: conv, layer_map: shift, shift: -1, kernel: laplacian,
  kernel_scale: 100, divergence: kl_source_learner, self_loops: true}}
alignahead_pp: {kd: {update: epoch_alternate}, kd_structure: {source: peers, weight: 1, tap: conv, layer_map: shift,
  shift: 1, kernel: laplacian, kernel_scale: 100, divergence: kl_source_learner, self_loops: true},
  kd_feature: {source: peers, weight: 0.01, tap: conv, layer_map: shift, shift: 1, loss: mse},
  kd_auxiliary: {weight: 1, head: linear, layers: all, layer_reduction: mean}}
cohort_st: {kd: {update: joint},
  kd_response: {source: cohort, weight: 1, sharpen: 0.5, confidence: 0.8, nodes: unlabeled, schedule: rampup_80}}
self_st: {kd: {update: joint},
  kd_response: {source: self, weight: 1, sharpen: 0.5, confidence: 0.8, nodes: unlabeled, schedule: rampup_80}}
dml: {kd: {update: step_alternate}, kd_response: {source: peers, weight: 1, temperature: 1, nodes: all}}
mutual: {kd: {update: step_alternate},
  kd_response: {source: peers, weight: 1, temperature: 1, nodes: unlabeled, schedule: rampup_80}}
byot: {kd: {label_weight: 0.9},
  kd_auxiliary: {weight: 0.9, layers: all_but_last, soft_weight: 0.1, soft_source: self, temperature: 3},
  kd_feature: {source: self, weight: 0.000001, layer_map: last, loss: mse, reduction: sum}}
""")
EXPECTED = {**TEACHER, **OTHERS}


def test_all_are_there() -> None:
    assert set(PRESETS) == set(EXPECTED)


@pytest.mark.parametrize("name", list(EXPECTED))
def test_agrees_with_the_table(name: str) -> None:
    preset = PRESETS[name]
    found = {group: dict(keys) for group, keys in preset.groups.items()}
    assert found == EXPECTED[name]
    assert preset.source == ("teacher" if name in TEACHER else None)
    assert preset.summary
    assert "\n" not in preset.summary
    assert preset.reference


@pytest.mark.parametrize("name", list(EXPECTED))
def test_values_are_allowed_and_make_sense_together(name: str) -> None:
    for term in (FeatureTerm, ResponseTerm, ContrastTerm):
        values = dict(PRESETS[name].groups.get(f"kd_{term.name}", {}))
        resolved = {
            key.name: key.kind.parse(values[key.name]) if key.name in values else key.default for key in term.keys
        }
        assert not list(term.check(resolved, None))
        for key in term.keys:
            if key.name in values and key.unless is not None:
                assert key.unless(resolved) is None, f"{name}: {key.name}"
    for group in PRESETS[name].groups.values():
        assert group.get("layer_map", "last") in LAYER_MAPS


def test_several_labels_have_temperature_one() -> None:
    half = PRESETS["soft_target"].multilabel
    assert half == {"kd": {"label_weight": 0.5}, "kd_response": {"weight": 0.5, "temperature": 1}}
    for name, preset in PRESETS.items():
        for group in ("kd_response", "kd_auxiliary"):
            values = {**preset.groups.get(group, {}), **preset.multilabel.get(group, {})}
            assert values.get("temperature", 1) == 1, name
        for group, keys in preset.multilabel.items():  # they only replace
            assert set(keys) <= set(preset.groups[group]), name


def test_cohort_st_and_its_control_differ_in_who_teaches_only() -> None:
    together, alone = (resolve({"kd": {"preset": name}}) for name in ("cohort_st", "self_st"))
    ours, own = together.groups["response"].values, alone.groups["response"].values
    assert (ours["source"], own["source"]) == ("cohort", "self")
    assert {**ours, "source": None} == {**own, "source": None}
    assert ours["sharpen"] == 0.5 and ours["nodes"] == "unlabeled" and ours["schedule"] == "rampup_80"
    assert (together.students, alone.students) == (2, 1)
