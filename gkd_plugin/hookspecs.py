"""The hooks through which answers reach the axes; our own answers come in the same way (``gkd_plugin.builtin``).

Every hook has one shape: it is handed a function ``register(name, answer)`` and returns nothing.
"""

from __future__ import annotations

from typing import Protocol

import pluggy

from gkd_plugin.space.answers import Divergence, Kernel, LayerMap, Preset, Schedule, Source
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.space.tracker import Tracker

hookspec = pluggy.HookspecMarker("gkd_plugin")
hookimpl = pluggy.HookimplMarker("gkd_plugin")


class RegisterSource(Protocol):
    """Adds a source."""

    def __call__(self, name: str, answer: Source) -> None: ...


class RegisterLayerMap(Protocol):
    """Adds a layer map."""

    def __call__(self, name: str, answer: LayerMap) -> None: ...


class RegisterKnowledge(Protocol):
    """Adds a knowledge; its keys appear as the group ``kd_<name>``."""

    def __call__(self, name: str, answer: type[Term]) -> None: ...


class RegisterKernel(Protocol):
    """Adds a kernel of the knowledge ``structure``."""

    def __call__(self, name: str, answer: Kernel) -> None: ...


class RegisterDivergence(Protocol):
    """Adds a divergence of the knowledge ``structure``."""

    def __call__(self, name: str, answer: Divergence) -> None: ...


class RegisterSchedule(Protocol):
    """Adds a schedule."""

    def __call__(self, name: str, answer: Schedule) -> None: ...


class RegisterPreset(Protocol):
    """Adds a preset."""

    def __call__(self, name: str, answer: Preset) -> None: ...


class RegisterTracker(Protocol):
    """Adds a tracker."""

    def __call__(self, name: str, answer: type[Tracker]) -> None: ...


@hookspec
def gkd_register_sources(register: RegisterSource) -> None:
    """Who teaches?"""


@hookspec
def gkd_register_layer_maps(register: RegisterLayerMap) -> None:
    """Which learner layer listens to which source layer?"""


@hookspec
def gkd_register_knowledge(register: RegisterKnowledge) -> None:
    """What is compared?"""


@hookspec
def gkd_register_kernels(register: RegisterKernel) -> None:
    """How alike are two nodes?"""


@hookspec
def gkd_register_divergences(register: RegisterDivergence) -> None:
    """How far apart are two structures?"""


@hookspec
def gkd_register_schedules(register: RegisterSchedule) -> None:
    """When does a term count?"""


@hookspec
def gkd_register_presets(register: RegisterPreset) -> None:
    """Which published method is that?"""


@hookspec
def gkd_register_trackers(register: RegisterTracker) -> None:
    """Where are a run's numbers shown?"""
