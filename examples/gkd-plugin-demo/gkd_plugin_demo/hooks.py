"""What the entry point names: functions that register answers. Every run imports it, so keep heavy imports out."""

from __future__ import annotations

from torch import Tensor

import gkd_plugin
from gkd_plugin.hookspecs import RegisterKernel, RegisterKnowledge
from gkd_plugin.space.answers import Kernel
from gkd_plugin_demo.energy import EnergyTerm


def cauchy(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """1 / (1 + |x-y|^2 / s^2), for each pair of rows."""
    return 1 / (1 + (x - y).square().sum(dim=-1) / scale**2)


@gkd_plugin.hookimpl
def gkd_register_knowledge(register: RegisterKnowledge) -> None:
    """One knowledge: its keys appear as the group ``kd_energy``."""
    register("energy", EnergyTerm)


@gkd_plugin.hookimpl
def gkd_register_kernels(register: RegisterKernel) -> None:
    """One kernel of ``kd_structure``: it has a scale, and (u, v) is as alike as (v, u)."""
    register("cauchy", Kernel(cauchy, "1 / (1 + |x-y|^2 / s^2)", "gkd-plugin-demo", scaled=True, symmetric=True))
