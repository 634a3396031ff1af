"""``gkd grid``: every configuration of a grid, beside its control."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gkd_plugin.commands.lock import hold_lock
from gkd_plugin.config.load import Config, read_config, read_values
from gkd_plugin.config.files import SUFFIXES
from gkd_plugin.errors import UserError
from gkd_plugin.study.budget import match_budget
from gkd_plugin.study.check import check_points
from gkd_plugin.study.configs import read_folder, write_configs
from gkd_plugin.study.controls import add_controls
from gkd_plugin.study.display import say
from gkd_plugin.study.estimate import DryRun, estimate
from gkd_plugin.study.execute import Resources, run_study
from gkd_plugin.study.expand import Expansion, expand
from gkd_plugin.study.grid_file import read_grid
from gkd_plugin.study.outcome import Outcome, finish
from gkd_plugin.study.points import Point
from gkd_plugin.study.study import FILE, GRID, Study, read_study_file
