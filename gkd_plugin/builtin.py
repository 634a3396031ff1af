"""Our own answers; they reach the axes through the same hooks as third-party ones."""

from __future__ import annotations

from gkd_plugin.hookspecs import (
    RegisterDivergence,
    RegisterKernel,
    RegisterKnowledge,
    RegisterLayerMap,
    RegisterPreset,
    RegisterSchedule,
    RegisterSource,
    RegisterTracker,
    hookimpl,
)
from gkd_plugin.space.divergences import DIVERGENCES
from gkd_plugin.space.kernels import KERNELS
from gkd_plugin.space.knowledge.auxiliary import AuxiliaryTerm
from gkd_plugin.space.knowledge.contrast import ContrastTerm
from gkd_plugin.space.knowledge.feature import FeatureTerm
from gkd_plugin.space.knowledge.response import ResponseTerm
from gkd_plugin.space.knowledge.structure import StructureTerm
from gkd_plugin.space.layer_maps import LAYER_MAPS
from gkd_plugin.space.presets import PRESETS
from gkd_plugin.space.schedules import SCHEDULES
from gkd_plugin.training.sources import cohort, ema, own, peers, teacher, uniform_prior
from gkd_plugin.training.trackers import TRACKERS


@hookimpl
def gkd_register_sources(register: RegisterSource) -> None:
    """Students, the learner itself, other models, and none at all."""
    for file in (peers, own, teacher, cohort, ema, uniform_prior):
        register(file.NAME, file.SOURCE)


@hookimpl
def gkd_register_layer_maps(register: RegisterLayerMap) -> None:
    """Fixed maps and the learned one."""
    for name, answer in LAYER_MAPS.items():
        register(name, answer)


@hookimpl
def gkd_register_knowledge(register: RegisterKnowledge) -> None:
    """The five knowledges."""
    for term in (ResponseTerm, FeatureTerm, StructureTerm, ContrastTerm, AuxiliaryTerm):
        register(term.name, term)


@hookimpl
def gkd_register_kernels(register: RegisterKernel) -> None:
    """Similarities of two nodes."""
    for name, answer in KERNELS.items():
        register(name, answer)


@hookimpl
def gkd_register_divergences(register: RegisterDivergence) -> None:
    """Distances of two structures."""
    for name, answer in DIVERGENCES.items():
        register(name, answer)


@hookimpl
def gkd_register_schedules(register: RegisterSchedule) -> None:
    """Factors by epoch."""
    for name, answer in SCHEDULES.items():
        register(name, answer)


@hookimpl
def gkd_register_presets(register: RegisterPreset) -> None:
    """Published methods."""
    for name, answer in PRESETS.items():
        register(name, answer)


@hookimpl
def gkd_register_trackers(register: RegisterTracker) -> None:
    """Weights & Biases, and MLflow."""
    for name, answer in TRACKERS.items():
        register(name, answer)
