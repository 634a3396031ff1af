from __future__ import annotations

import pytest

import gkd_plugin
from gkd_plugin.commands.explain import explain
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import ConfigError


def test_a_file_with_overrides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("kd: {preset: alignahead}\n")
    found = explain(path, ["kd_structure.weight", "10"])
    assert (found.name, found.plan.groups["structure"].weight) == ("mine", 10)
    assert "10 · Σ D_structure" in str(found)


def test_a_configuration_that_is_ready():
    config = read_config({"kd": {"preset": "oc"}})
    assert explain(config).plan is config.plan
    assert explain(config, ["kd.students", 3]).plan.students == 3
    assert gkd_plugin.explain(config).plan is config.plan


def test_mistakes_are_raised():
    with pytest.raises(ConfigError, match=r"kd\.students"):
        explain({"kd": {"students": 0}})
