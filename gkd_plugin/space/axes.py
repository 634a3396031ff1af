"""The axes themselves. Empty until ``gkd_plugin.plugins`` has asked every plugin, our own first."""

from __future__ import annotations

from gkd_plugin.space.answers import Divergence, Kernel, LayerMap, Preset, Schedule, Source
from gkd_plugin.space.axis import Axis
from gkd_plugin.space.knowledge.base import Term

sources: Axis[Source] = Axis("sources", "who teaches?", Source)
layer_maps: Axis[LayerMap] = Axis("layer_maps", "which learner layer listens to which source layer?", LayerMap)
knowledge: Axis[type[Term]] = Axis("knowledge", "what is compared?", Term, ("attention",))  # kd_attention is the map
kernels: Axis[Kernel] = Axis("kernels", "how alike are two nodes (structure)?", Kernel)
divergences: Axis[Divergence] = Axis("divergences", "how far apart are two structures?", Divergence)
schedules: Axis[Schedule] = Axis("schedules", "when does a term count?", Schedule)
presets: Axis[Preset] = Axis("presets", "which published method is that?", Preset)

ALL: tuple[Axis, ...] = (sources, layer_maps, knowledge, kernels, divergences, schedules, presets)  # type: ignore[type-arg]
