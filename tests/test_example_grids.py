"""The grids of ``graphgym_configs/grids``: their comments are true, and their configurations sound."""

from __future__ import annotations

import re

import pytest

from gkd_plugin.commands.init import packed_configs
from gkd_plugin.config.load import read_values
from gkd_plugin.study.check import check_points
from gkd_plugin.study.expand import expand
from gkd_plugin.study.grid_file import read_grid

GRIDS = sorted(packed_configs().glob("grids/*.txt"))
STUDIES = [path for path in GRIDS if "configs_gen.py" not in path.read_text()]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_comment_says_question_base_size_and_time(path):
    question, base, size, *_ = path.read_text().splitlines()
    assert question.startswith("# ")
    named = re.search(r"graphgym_configs/cora/(\w+)\.yaml", base)[1]
    assert "Time: " in size
    found = expand(read_values(packed_configs() / "cora" / f"{named}.yaml"), named, read_grid(path))
    assert len(found.points) == int(re.search(r"Size: (\d+)", size)[1])
    assert found.duplicates == 0


@pytest.mark.parametrize("data_set", ["cora", "citeseer", "pubmed", "digits"])
@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_configuration_is_sound(path, data_set):
    named = re.search(r"(\w+)\.yaml", path.read_text())[1]
    base = packed_configs() / data_set / f"{named}.yaml"
    configs = check_points(expand(read_values(base), named, read_grid(path)).points, base)
    assert {warning for config in configs.values() for warning in config.plan.warnings} == set()
    assert any(config.plan.active for config in configs.values())
    assert any(not config.plan.active or config.plan["preset"] == "soft_target" for config in configs.values())


PAGE = packed_configs().parent / "docs" / "grids.md"
BLOCKS = re.findall(r"^```txt\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE) if PAGE.is_file() else []


@pytest.mark.parametrize(("text", "count"), list(zip(BLOCKS, (6, 12), strict=bool(BLOCKS))))
def test_the_pages_grids_are_what_the_page_says(text, count, tmp_path):
    (tmp_path / "grid.txt").write_text(text)
    base = packed_configs() / "cora" / "supervised.yaml"
    found = expand(read_values(base), "supervised", read_grid(tmp_path / "grid.txt"))
    assert len(found.points) == count
    assert {
        warning for config in check_points(found.points, base).values() for warning in config.plan.warnings
    } == set()
