from __future__ import annotations

import ast
import csv
import importlib
from pathlib import Path

import pytest

from gkd_plugin.errors import UserError
from gkd_plugin.study.grid_file import Condition, Range, read_grid

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def grid(tmp_path):
    def write(text, **options):
        path = tmp_path / "grid.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_grid(path, **options)

    return write


def mistakes(grid, text, **options):
    with pytest.raises(UserError) as caught:
        grid(text, **options)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


# ---------------------------------------------------------------------------------------------------------- the format
def read_as_the_host(path):
    """Blocks as the host's generator reads them, by the rule in its example: csv, one space, `#` as a field of its own."""
    blocks, block = [], []
    with open(path) as file:
        for fields in csv.reader(file, delimiter=" "):
            if "#" in fields:
                continue
            if fields:
                block.append((fields[0], fields[1], list(ast.literal_eval(fields[2]))))
            elif block:
                blocks.append(block)
                block = []
    return [*blocks, block] if block else blocks


def test_the_hosts_own_grid_and_ours_for_it_mean_the_same(host_dir):
    for path in (host_dir / "example.txt", ROOT / "graphgym_configs" / "grids" / "alignahead.txt"):
        ours = [[(row.key, row.alias, list(row.values)) for row in block] for block in read_grid(path).blocks]
        assert ours == read_as_the_host(path)


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("[1,2]", (1, 2)),
        ("[1, 2 ,3]", (1, 2, 3)),
        ("['a','b']", ("a", "b")),
        ('["a b", c]', ("a b", "c")),
        ("[supervised, lsp]", ("supervised", "lsp")),
        ("supervised", ("supervised",)),
        ("'supervised'", ("supervised",)),
        ("2", (2,)),
        ("-1.5", (-1.5,)),
        ("[1e-3, 1.0e-4, 5E2]", (1e-3, 1e-4, 500.0)),
        ("[a, 1e-3]", ("a", 1e-3)),
        ("[True, False]", (True, False)),
        ("[true, off]", (True, False)),
        ("[None, 1]", (None, 1)),
        ("[none, 1]", ("none", 1)),
        ("[null, x]", (None, "x")),
        ("[[1, 2], [3]]", ([1, 2], [3])),
        ("(1, 2)", (1, 2)),
        ("['3~2+4~2']", ("3~2+4~2",)),
        ("[3~2]", ("3~2",)),
        ("['a#b', c#d]", ("a#b", "c#d")),
        ("[1, 1.0, true]", (1, 1.0, True)),
        ("\"['a', 'b']\"", ("a", "b")),
        ("[gcn+gat]  # two of them", ("gcn+gat",)),
        ("['# no comment']", ("# no comment",)),
        ("[ä, 数]", ("ä", "数")),
    ],
)
def test_values(grid, written, values):
    ((row,),) = grid(f"gnn.act act {written}").blocks
    assert row.values == values
    assert [type(value) for value in row.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffgnn.act act [relu]\n\nnum_threads t [1]",
        "gnn.act act [relu]\r\n\r\nnum_threads t [1]\r\n",
        "gnn.act act [relu]\r\rnum_threads t [1]\r",
        "gnn.act\tact\t\t[relu]\n\n  num_threads   t   [1]   ",
        "# a\n#b\n\n\ngnn.act act [relu] # c\n   \n\n# d\nnum_threads t [1]\n#\n\n",
    ],
    ids=["bom", "crlf", "cr", "tabs", "comments"],
)
def test_white_space_and_comments(grid, text):
    first, second = grid(text).blocks
    assert [(row.key, row.alias, row.values) for row in first] == [("gnn.act", "act", ("relu",))]
    assert [(row.key, row.alias, row.values) for row in second] == [("num_threads", "t", (1,))]


def test_comments_do_not_part_a_block(grid):
    (block,) = grid("gnn.act act [relu]\n# more\n  # of it\nnum_threads t [1]").blocks
    assert [row.line for row in block] == [1, 4]


def test_repeated_values_count_once(grid):
    ((row,),) = grid("gnn.dim_inner width [8, 16, 8, 8]").blocks
    assert row.values == (8, 16)
    assert row.repeated == 2


def test_dimensions_are_those_of_all_blocks(grid):
    found = grid("gnn.act act [relu]\nnum_threads t [1]\n\nnum_threads t [2]\ngnn.dim_inner width [1]")
    assert list(found.dimensions.items()) == [("act", "gnn.act"), ("t", "num_threads"), ("width", "gnn.dim_inner")]
    assert found.name == "grid"


def test_a_key_may_be_as_deep_as_the_configuration(grid, monkeypatch):
    assert "kd.a.b has 3 levels" in mistakes(grid, "kd.a.b x [1]")[0]
    config = importlib.import_module("torch_geometric.graphgym.config")
    deep = config.CN({"inner": config.CN({"leaf": 1})})

    def with_a_deep_key(cfg):
        cfg.outer = deep

    monkeypatch.setitem(
        importlib.import_module("torch_geometric.graphgym.register").config_dict, "deep", with_a_deep_key
    )
    ((row,),) = grid("outer.inner.leaf x [1]").blocks
    assert row.key == "outer.inner.leaf"


# ----------------------------------------------------------------------------------------------------------- conditions
NESTED = """
kd.preset preset [supervised, lsp, gsp]
when preset lsp, gsp  # both
    kd_structure.weight weight [1, 10]
    when kd.preset [gsp]
        kd_structure.samples samples [64, 128]

kd.students students [2]
"""


def test_conditions_nest_by_indentation(grid):
    (block,) = grid(NESTED.replace("\n\nkd.students", "\nkd.students")).blocks
    either, second = Condition("preset", ("lsp", "gsp")), Condition("preset", ("gsp",))
    assert [(row.alias, row.when) for row in block] == [
        ("preset", ()),
        ("weight", (either,)),
        ("samples", (either, second)),
        ("students", ()),
    ]
    _, weight, samples, _ = block
    assert [weight.applies({"preset": word}) for word in ("supervised", "lsp", "gsp")] == [False, True, True]
    assert [samples.applies({"preset": word}) for word in ("supervised", "lsp", "gsp")] == [False, False, True]
    assert not samples.applies({})


def test_an_empty_line_ends_conditions(grid):
    _, second = grid(NESTED).blocks
    assert [row.when for row in second] == [()]


def test_a_condition_tells_one_from_true(grid):
    (line,) = mistakes(grid, "gnn.batchnorm bn [true, false]\nwhen bn 1\n  gnn.act act [relu]")
    assert line.startswith("line 2: 'when bn': 1 is not among its values. Allowed: True, False.")


# --------------------------------------------------------------------------------------------------------------- ranges
@pytest.mark.parametrize(
    ("written", "span"),
    [
        ("0.1~0.5", Range(0.1, 0.5)),
        ("1e-4~1e-1 log", Range(1e-4, 1e-1, True)),
        ("2 ~ 16", Range(2, 16)),
        ("-1~1.0  # c", Range(-1, 1.0)),
        ("1~1024\tlog", Range(1, 1024, True)),
    ],
)
def test_ranges(grid, written, span):
    ((row,),) = grid(f"optim.base_lr lr {written}", ranges=True).blocks
    assert row.values == span
    assert type(row.values.low) is type(span.low)


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("0.001~0.1 log", "such as [0.001, 0.01, 0.1]"),
        ("2~8", "such as [2, 5, 8]"),
        ("1~2", "such as [1, 2]"),
        ("5~1", "the smaller number first"),
        ("0~1 log", "Begin above 0"),
    ],
)
def test_a_range_in_a_grid_is_a_mistake(grid, written, advice):
    (line,) = mistakes(grid, f"\noptim.base_lr lr {written}")
    assert line.startswith("line 2: ")
    assert advice in line


# ------------------------------------------------------------------------------------------------------------- mistakes
@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("gnn.act act []", 1, "the list is empty"),
        ("gnn.act act", 1, "2 of 3 fields"),
        ("gnn.act", 1, "1 of 3 fields"),
        ("gnn.act act [relu", 1, "is not a list of values"),
        ("gnn.act act {1, 2}", 1, "holds a set"),
        ("gnn.act act [{a: 1}]", 1, "holds a dict"),
        ("gnn.act act [2020-01-01]", 1, "holds a date"),
        ("gnn..act act [1]", 1, "is not a key"),
        ("1gnn act [1]", 1, "is not a key"),
        ("gnn.act l-act [1]", 1, "cannot be an alias"),
        ("gnn.act a=b [1]", 1, "cannot be an alias"),
        ("gnn.act a/b [1]", 1, "cannot be an alias"),
        ("out_dir out [a, b]", 1, "out_dir cannot be a dimension"),
        ("gnn.act act [relu]\nnum_threads act [2]", 2, "the alias 'act' is there already (line 1)"),
        ("gnn.act act [relu]\ngnn.act act2 [2]", 2, "gnn.act is there already (line 1)"),
        ("gnn.act act [relu]\n\nnum_threads act [2]", 3, "stands for gnn.act in line 1, here for num_threads"),
        ("gnn.act act [relu]\n\nnum_threads Act [2]", 3, "in upper case only"),
        ("gnn.act act [relu]\nwhen", 2, "'when' needs a dimension and its values"),
        ("gnn.act act [relu]\nwhen act", 2, "'when' needs a dimension and its values"),
        ("gnn.act act [relu]\nwhen axt relu\n  num_threads t [1]", 2, "Did you mean 'act'?"),
        ("when act relu\n  num_threads t [1]", 1, "Write its row first."),
        ("gnn.act act [relu]\nwhen act tanh\n  num_threads t [1]", 2, "'tanh' is not among its values. Allowed: relu."),
        ("gnn.act act [relu]\nwhen act relu\nnum_threads t [1]", 2, "no row stands under this 'when'"),
        ("gnn.act act [relu]\nwhen act relu\n\n  num_threads t [1]", 2, "no row stands under this 'when'"),
    ],
)
def test_mistakes_have_their_line(grid, text, line, part):
    (found,) = mistakes(grid, text)
    assert found.startswith(f"line {line}: ")
    assert part in found


def test_all_mistakes_at_once_in_the_order_of_lines(grid):
    found = mistakes(grid, "a b\ngnn.act act []\nwhen nothing 1\nx y [1")
    assert [line.split(":")[0] for line in found] == ["line 1", "line 2", "line 3", "line 4"]
    many = mistakes(grid, "\n".join(["a"] * 50))
    assert len(many) == 21
    assert many[-1] == "and 30 more"


KEYS_TOO = """kd.preset preset [supervised, alignahed, oc]
gnn.dim_iner width [16, 32]
gnn.act act [relu, tanhh]
when preset oc
  kd_structure.weight weight [1, minus]
  kd_structures.shift shift [1]
x y
"""


def test_keys_and_values_are_told_with_the_lines(grid):
    assert [line.split(". ")[0] for line in mistakes(grid, KEYS_TOO)] == [
        "line 1: kd.preset: 'alignahed' is not allowed",
        "line 2: gnn.dim_iner: unknown key",
        "line 3: gnn.act: 'tanhh'",
        "line 5: kd_structure.weight: 'minus' is not allowed",
        "line 6: kd_structures: unknown group",
        "line 7: 2 of 3 fields: 'x y'",
    ]
    (line, last) = mistakes(grid, "optim.base_lr lr -1~0.1\nx y", ranges=True)
    assert line.startswith("line 1: optim.base_lr: -1 is not allowed") and last.startswith("line 2")


@pytest.mark.parametrize(
    ("values", "wanted", "said"),
    [
        ("[supervised, alignahed]", "alignahead", ", for 'alignahed' in line 1 is itself invalid. Fix that first."),
        ("[supervised, alignahead]", "alignahed", ". Did you mean 'alignahead'? Allowed: supervised, alignahead."),
        ("[supervised, alignahed]", "alignahedd", ". Allowed: supervised."),
        ("[alignahed]", "alignahedd", ". Allowed: none, until line 1 is fixed."),
    ],
)
def test_a_typo_is_not_what_a_condition_may_be(grid, values, wanted, said):
    found = mistakes(grid, f"kd.preset preset {values}\nwhen preset {wanted}\n  kd_structure.weight w [1]")
    assert f"line 2: 'when preset': {wanted!r} is not among its values{said}" in found
    assert ("alignahed]" in values) == found[0].startswith("line 1: kd.preset: 'alignahed' is not allowed")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "has no rows"),
        (b"# only this\n\n", "has no rows"),
        (b"\xff\xfe\x00\x01", "not a text file"),
        (b"a b [1]\0", "not a text file"),
    ],
)
def test_files_without_rows(grid, content, part):
    with pytest.raises(UserError, match=part):
        grid(content)


def test_missing_files_and_folders(tmp_path):
    (tmp_path / "lsp.txt").touch()
    with pytest.raises(UserError, match=r"Did you mean 'lsp.txt'\?"):
        read_grid(tmp_path / "lps.txt")
    with pytest.raises(UserError, match="is a folder"):
        read_grid(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_grid(tmp_path / "none" / "grid.txt")
