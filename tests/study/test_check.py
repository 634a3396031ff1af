from __future__ import annotations

import pytest

from gkd_plugin.config.load import read_config
from gkd_plugin.errors import UserError
from gkd_plugin.study.check import check_points, count_warnings, drop_equal
from gkd_plugin.study.expand import expand
from gkd_plugin.study.grid_file import read_grid
from gkd_plugin.study.points import Point
from tests import toy


def make_points(folder, text, **groups):
    (folder / "grid.txt").write_text(text)
    return expand(toy.values(**groups), "base", read_grid(folder / "grid.txt")).points


def test_each_configuration_is_what_reading_it_alone_gives(work_folder):
    points = make_points(
        work_folder,
        "gnn.layers_mp layers [2, 4]\ngnn.dropout d [0, 0.5]\nkd.preset preset [supervised, mutual, alignahead]\n"
        "when preset alignahead\n    kd_structure.weight weight [1, 10]",
    )
    found = check_points(points, None)
    assert list(found) == [point.name for point in points]
    for point in points:
        alone = read_config(point.values)
        assert found[point.name].plan == alone.plan
        assert found[point.name].cfg == alone.cfg
    first, second, *_ = (config.cfg for config in found.values())
    first.share.dim_in = 99
    first.gnn.act = "tanh"
    assert second.share.dim_in != 99 and second.gnn.act != "tanh", "no two share what a run writes into"


def test_equal_configurations_are_dropped_however_they_are_written(work_folder):
    points = make_points(
        work_folder,
        'kd.preset preset [mutual]\nkd.students n [2, 2.0, "2", 3]\ngnn.dropout d [0, 0.0]\nkd_response.weight w [1, 1.0]',
    )
    left = drop_equal(points, check_points(points, None))
    assert [point.choices["n"] for point in left] == [2, 3] and left[0] is points[0]
    shares = make_points(
        work_folder,
        "splits.train share [1, 1.0]\nsplits.kind kind [random]",
        dataset={"format": "gkd", "name": "digits"},
    )
    assert len(drop_equal(shares, check_points(shares, None))) == 2, "one node, and all of them"


def test_a_mistake_of_many_is_said_once_with_their_number(work_folder):
    points = make_points(
        work_folder,
        "gnn.layers_mp layers [2, 3]\ngnn.act act [relu, rleu]\nkd.preset preset [mutual, alignahed]\n"
        "gnn.unknown unknown [1, 2]\noptim.base_lr lr [0.1, -1]",
    )
    with pytest.raises(UserError) as caught:
        check_points(points, None)
    head, *lines = str(caught.value).splitlines()
    assert head == "4 mistakes in 32 of 32 configurations. Nothing was started."
    expected = {
        "gnn.act: 'rleu'. Did you mean 'relu'?": 16,
        "kd.preset: 'alignahed' is not allowed. Did you mean 'alignahead'?": 16,
        "gnn.unknown: unknown key.": 32,
        "optim.base_lr: -1 is not allowed.": 16,
    }
    for text, count in expected.items():
        (line,) = (line.strip() for line in lines if line.strip().startswith(text))
        count_text, name = line.rpartition("[")[2].rstrip("]").split(" configurations, such as ")
        assert int(count_text) == count
        assert name in {point.name for point in points}


def test_files_are_looked_for_beside_the_base(work_folder):
    (work_folder / "bases").mkdir()
    base = toy.config(work_folder / "bases", "base")
    (work_folder / "bases" / "wide.yaml").write_text("gnn: {dim_inner: 12}")
    points = make_points(work_folder, "kd.preset preset [mutual]\nkd.cohort cohort [wide]")
    assert [config.further[0].gnn.dim_inner for config in check_points(points, base).values()] == [12]
    with pytest.raises(UserError, match="there is no 'wide.yaml'"):
        check_points(points, None)


def test_one_point_and_very_many_mistakes(toy_data):
    with pytest.raises(UserError, match=r"^1 mistake in the configuration"):
        check_points([Point("only", toy.values(kd={"preset": "x"}))], None)
    points = [Point(f"p{n}", toy.values(**{f"group{n}": 1})) for n in range(30)]
    with pytest.raises(UserError) as caught:
        check_points(points, None)
    assert str(caught.value).endswith("and 10 more")


@pytest.mark.parametrize(("presets", "said"), [("[mutual, soft_target]", False), ("[mutual, alignahead]", True)])
def test_a_teacher_in_the_base_is_unused_where_nobody_uses_it(work_folder, presets, said):
    points = make_points(work_folder, f"kd.preset preset {presets}", kd={"teacher": "big", "students": 2})
    found = count_warnings(check_points(points, None).values())
    assert any("the teacher big is set but unused" in text for text in found) == said
