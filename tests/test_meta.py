"""Nothing is registered that no test names, no page explains and no example shows."""

from __future__ import annotations

import ast
import inspect
import re
import types
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import gkd_plugin
from gkd_plugin import groups, hookspecs, schema
from gkd_plugin.config.kd_keys import ScheduleWord
from gkd_plugin.config.load import read_config
from gkd_plugin.space import axes
from gkd_plugin.space.axes import Axis
from gkd_plugin.training.sources.base import Sources
from tests import toy
from tests.test_docs import PAGES, ROOT, SOURCES, blocks, docstring_blocks

TESTS = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__).resolve()]
OURS = "gkd_plugin"
KEYS = {  # where a configuration names an answer
    "sources": ("source", "soft_source"),
    "layer_maps": ("layer_map",),
    "kernels": ("kernel",),
    "divergences": ("divergence",),
    "schedules": ("schedule",),
    "presets": ("preset",),
    "trackers": ("tracker",),
}
ANSWERS = [
    pytest.param(axis, name, id=f"{axis.name}-{name}")
    for axis in axes.ALL
    for name in axis
    if axis.origin(name) == OURS
]
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("gkd_register_"))


def means(axis: Axis[Any], name: str, word: str) -> bool:
    """Whether a word of a configuration is this answer; schedules have numbers in them."""
    return word == name or (axis is axes.schedules and axes.schedules[name].numbers(word) is not None)


# --------------------------------------------------------------------------------------------------------- tests
@cache
def words_of_tests() -> frozenset[str]:
    """Strings of one word, keywords, and what stands in the YAML of test files; prose does not count."""
    nodes = [node for path in TESTS for node in ast.walk(ast.parse(path.read_text()))]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found = {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    found |= {text for text in texts if re.fullmatch(r"\w+", text)}
    for text in texts:
        if re.search(r"^\w+: \{", text, re.MULTILINE):
            with suppress(yaml.YAMLError):
                found |= set(leaves(yaml.safe_load(text)))
    return frozenset(found)


def leaves(values: Any) -> Iterator[str]:
    """Keys and words of nested values."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield str(key)
            yield from leaves(value)
    elif isinstance(values, str):
        yield values


@pytest.mark.parametrize(("axis", "name"), ANSWERS)
def test_every_answer_is_named_by_a_test(axis: Axis[Any], name: str) -> None:
    if axis is axes.knowledge:
        assert f"kd_{name}" in words_of_tests()
    else:
        assert any(means(axis, name, word) for word in words_of_tests())


# ------------------------------------------------------------------------------------------------------ the mirror
WHOLE = {  # tests of no single module, and why
    "commands/test_run_tasks.py": "every task of the host, from a file to the rows",
    "commands/test_run_teacher.py": "a student with a teacher found by name, from a file to the rows; what is refused",
    "config/test_properties.py": "what holds for every configuration, read, explained and switched off",
    "space/knowledge/test_shared_memory.py": "what any term remembers on observations that others read too",
    "space/knowledge/test_structure_relations.py": "the key relations of structure.py, with an oracle of its own",
    "space/knowledge/test_structure_moving.py": "structure, heads and measures where graphs move; test_structure.py has fixed ones",
    "space/knowledge/test_structure_reuse.py": "memory and reuse in structure.py; test_structure.py has its values",
    "fuzz/test_fuzz.py": "whatever is broken, each command ends with one message",
    "papers/test_papers.py": "the recipes in graphgym_configs/papers/",
    "test_benchmarks.py": "the scripts in benchmarks/",
    "test_configs.py": "the configurations in graphgym_configs/",
    "test_example_grids.py": "the grids in graphgym_configs/",
    "test_docs.py": "the pages in docs/ and the readme",
    "test_imports.py": "the order of imports between all modules",
    "test_meta.py": "the tests themselves",
    "test_notebooks.py": "the notebooks in docs/, run anew",
    "test_pages.py": "the blocks of pages in docs/, run in their order",
    "test_third_party_sources.py": "sources of other packages, from the hook to the rows",
    "test_third_party_terms.py": "layer maps and terms of other packages, from the hook to the rows",
    "test_ways.py": "the three ways of docs/ways.md, run",
    "testing/test_example.py": "the package in examples/, installed",
    "testing/test_our_terms.py": "our own terms under gkd_plugin.testing",
    "training/test_exactness.py": "switched off, the whole program is the host digit for digit",
}
COVERED = {  # modules of more than 60 lines without a test file of their name, and the test that covers them
    "__init__.py": "gkd_cli/test_commands.py",
    "builtin.py": "test_meta.py",
    "commands/distill_student.py": "commands/test_distill.py",
    "commands/distilled.py": "commands/test_distill.py",
    "commands/report.py": "commands/test_comparison.py",
    "commands/start.py": "commands/test_check.py",
    "config/depths.py": "config/test_resolve.py",
    "config/draft.py": "config/test_resolve.py",
    "config/files.py": "config/test_load.py",
    "config/formula.py": "config/test_explain.py",
    "config/host_checks.py": "config/test_load.py",
    "config/host_keys.py": "config/test_load.py",
    "config/host_values.py": "config/test_load.py",
    "deploy/chosen.py": "commands/test_export.py",
    "deploy/folder.py": "commands/test_export.py",
    "deploy/model_card.py": "commands/test_export.py",
    "deploy/onnx_file.py": "deploy/test_program.py",
    "data/doubts.py": "data/test_check.py",
    "data/keys.py": "data/test_protocol.py",
    "data/known.py": "data/test_names.py",
    "data/served.py": "data/test_check.py",
    "errors.py": "commands/test_seed.py",
    "groups.py": "config/test_resolve.py",
    "hookspecs.py": "test_meta.py",
    "ops/loops.py": "ops/test_compiled.py",
    "models/sample.py": "models/test_observed.py",
    "models/networks/gat.py": "models/networks/test_network.py",
    "models/networks/gcnii.py": "models/networks/test_network.py",
    "models/networks/parts.py": "models/networks/test_network.py",
    "models/networks/sage.py": "models/networks/test_network.py",
    "plan.py": "config/test_resolve.py",
    "plugin_checks.py": "test_plugins.py",
    "space/answers.py": "test_plugins.py",
    "space/axes.py": "test_plugins.py",
    "space/knowledge/projected.py": "space/knowledge/test_feature.py",
    "space/knowledge/projectors.py": "space/knowledge/test_feature.py",
    "space/knowledge/rows.py": "space/knowledge/test_feature.py",
    "space/observation.py": "models/test_observed.py",
    "space/tracker.py": "training/recorders/test_tracking.py",
    "study/report/dimension_figures.py": "study/report/test_study_page.py",
    "study/report/facts.py": "study/report/test_study_page.py",
    "study/report/figures.py": "study/report/test_study_page.py",
    "study/report/parts.py": "study/report/test_verdict.py",
    "study/report/run_choice.py": "study/report/test_study_page.py",
    "study/report/run_figures.py": "study/report/test_run_page.py",
    "study/report/scale.py": "study/report/test_verdict.py",
    "study/report/study_tables.py": "study/report/test_study_page.py",
    "study/report/svg.py": "study/report/test_write.py",
    "testing/toys.py": "testing/test_suite.py",
    "training/result.py": "commands/test_run.py",
    "training/run_folder.py": "commands/test_run.py",
    "training/split_rows.py": "training/test_trainer.py",
    "study/estimate.py": "study/test_grid.py",
    "study/execute.py": "study/test_grid.py",
    "study/outcome.py": "study/test_grid.py",
    "study/search_loop.py": "study/test_search.py",
    "study/status.py": "study/test_grid.py",
}


def module_of(test: Path) -> Path:
    """The module that a test file is named after: in the package, or beside it (``gkd_cli``)."""
    name = test.relative_to(ROOT / "tests").with_name(test.name.removeprefix("test_"))
    return ROOT / name if (ROOT / name).is_file() else ROOT / OURS / name


def test_every_test_file_is_named_after_a_module() -> None:
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    lost = {path.relative_to(ROOT / "tests").as_posix() for path in files if not module_of(path).is_file()}
    assert lost <= set(WHOLE), (
        f"{', '.join(sorted(lost - set(WHOLE)))}: no module has this name. tests/<folder>/test_<x>.py tests "
        "gkd_plugin/<folder>/<x>.py; a test of the whole program stands in WHOLE with the reason"
    )
    assert set(WHOLE) == lost, "WHOLE lists files that are gone, or that mirror a module now"


def test_every_module_has_a_test_file() -> None:
    tested = {module_of(path) for path in (ROOT / "tests").rglob("test_*.py")}
    large = [path for path in SOURCES if len(path.read_text().splitlines()) > 60]
    bare = {path.relative_to(ROOT / OURS).as_posix() for path in large if path not in tested}
    assert bare <= set(COVERED), (
        f"{', '.join(sorted(bare - set(COVERED)))}: more than 60 lines, and no test. gkd_plugin/<folder>/<x>.py is tested "
        "in tests/<folder>/test_<x>.py; where another test covers it, name that in COVERED"
    )
    assert set(COVERED) == bare, "COVERED lists modules that are gone, small, or have a test file of their name"
    assert all((ROOT / "tests" / test).is_file() for test in COVERED.values())


# ---------------------------------------------------------------------------------------------------------- docs
@cache
def headwords() -> frozenset[str]:
    """What the pages explain: code in the first cell of a table's row, or in a heading."""
    found: set[str] = set()
    for page in (ROOT / "docs").glob("*.md"):
        for line in page.read_text().splitlines():
            cell = re.match(r"\| (.*?) \|", line) or re.match(r"#+ (.*)", line)
            if cell:
                found |= set(re.findall(r"`(\w+)`", cell[1]))
    return frozenset(found)


@pytest.mark.parametrize(("axis", "name"), ANSWERS)
def test_every_answer_has_a_row_or_section(axis: Axis[Any], name: str) -> None:
    assert (f"kd_{name}" if axis is axes.knowledge else name) in headwords()


# ------------------------------------------------------------------------------------------------------ examples
@cache
def examples() -> tuple[dict[str, Any], ...]:
    """Every YAML example: of the pages, of docstrings, and the configurations that are shipped."""
    texts = [text for page in PAGES for text in blocks(page, "yaml")]
    texts += [text for path in SOURCES for _, text in docstring_blocks(path)]
    texts += [path.read_text() for path in sorted((ROOT / "graphgym_configs").rglob("*.yaml"))]
    return tuple(values for text in texts for values in yaml.safe_load_all(text) if values)


def named(values: dict[str, Any], axis: Axis[Any]) -> Iterator[str]:
    for group, content in values.items():
        if axis is axes.knowledge:
            yield group.removeprefix("kd_")
        elif group.startswith("kd") and isinstance(content, dict):
            yield from (str(content[key]) for key in KEYS[axis.name] if key in content)


@pytest.mark.parametrize(("axis", "name"), ANSWERS)
def test_every_answer_has_an_example_that_resolves(axis: Axis[Any], name: str) -> None:
    found = [values for values in examples() if any(means(axis, name, word) for word in named(values, axis))]
    assert found, f"no YAML example names the answer '{name}' of {axis.name}"
    read_config(min(found, key=len))


# --------------------------------------------------------------------------------------------------------- hooks
def test_every_axis_has_its_hook_and_each_hook_its_axis() -> None:
    assert HOOKS == sorted(f"gkd_register_{axis.name}" for axis in axes.ALL)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_implemented_by_a_test(hook: str) -> None:
    functions = {
        node.name
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert hook in functions


def section(hook: str) -> str:
    _, _, rest = (ROOT / "docs" / "plugins.md").read_text().partition(f"\n### {hook}\n")
    return re.split(r"\n##+ ", rest)[0]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_exact_signature(hook: str) -> None:
    def signature(function: Any, without: int = 0) -> str:
        found = inspect.signature(function)
        return str(found.replace(parameters=list(found.parameters.values())[without:])).replace("'", "")

    function = getattr(hookspecs, hook)
    (protocol,) = (str(each.annotation) for each in inspect.signature(function).parameters.values())
    lines = section(hook).splitlines()
    assert f"    {hook}{signature(function)}" in lines
    assert f"    register{signature(getattr(hookspecs, protocol).__call__, without=1)}" in lines
    assert f"\n{function.__doc__} " in section(hook), "the section opens with the question"


USES = {
    "sources": "kd_response: {weight: 1, source: NAME}",
    "layer_maps": "kd_feature: {weight: 1, source: peers, layer_map: NAME}",
    "knowledge": "kd_NAME: {weight: 1, source: peers}",
    "kernels": "kd_structure: {weight: 1, source: peers, kernel: NAME, kernel_scale: 3}",
    "divergences": "kd_structure: {weight: 1, source: peers, divergence: NAME}",
    "schedules": "kd_feature: {weight: 1, source: peers, schedule: NAME}",
    "presets": "kd: {preset: NAME, teacher: cora_teacher}",
    "trackers": "{kd: {tracker: NAME}, kd_response: {weight: 1, source: peers}}",
}


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def execute(code: str) -> types.ModuleType:
    module = types.ModuleType("example_of_plugins")
    exec(compile(code, "plugins.md", "exec"), module.__dict__)
    return module


HOOK_EXAMPLES = [
    pytest.param(hook, code, id=f"{hook}-{number}")
    for hook in HOOKS
    for number, code in enumerate(python_blocks(section(hook)), 1)
]


def test_every_hook_has_an_example() -> None:
    assert {each.values[0] for each in HOOK_EXAMPLES} == set(HOOKS)


@pytest.mark.usefixtures("toy_data")
@pytest.mark.parametrize(("hook", "code"), HOOK_EXAMPLES)
def test_every_example_of_a_hook_is_a_plugin_that_runs(
    hook: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[str, Any]] = []

    def save_and_load(sources: Sources) -> dict[str, Any]:
        kept.append(state_dict(sources))
        sources.load_state_dict(kept[-1])
        return kept[-1]

    state_dict = Sources.state_dict
    monkeypatch.setattr(Sources, "state_dict", save_and_load)
    (axis,) = (axis for axis in axes.ALL if hook == f"gkd_register_{axis.name}")
    before = set(axis)
    label = gkd_plugin.register_plugin(execute(code))
    (name,) = set(axis) - before
    values = yaml.safe_load(USES[axis.name].replace("NAME", name.replace("_n", "_20")))
    assert read_config(values).plan.active
    if axis is axes.presets:  # of the toy data there is no trained model
        values = {"kd": {"preset": name, "students": 2}, "kd_feature": {"source": "peers"}}
    run = toy.values(tmp_path, **values, optim={"max_epoch": 2}, train={"ckpt_period": 1})
    report = gkd_plugin.run(run, quiet=True)
    assert len(report.results) == 1 and not report.failures
    assert kept and all((name in state) == ("SourceModel" in code) for state in kept)
    assert str(gkd_plugin.explain(values))
    gkd_plugin.unregister_plugin(label)
    assert set(axis) == before


def keys_section() -> str:
    _, _, rest = (ROOT / "docs" / "plugins.md").read_text().partition("\n## Keys\n")
    return rest.partition("\n## ")[0]


KIND_ROWS = re.findall(r"^\| `([A-Z]\w+\(.*\))` \| `(.*?)` \| `(.*?)` \|$", keys_section(), re.MULTILINE)


@pytest.mark.parametrize(("kind", "text", "value"), KIND_ROWS)
def test_every_kind_of_key_takes_what_its_row_says(kind: str, text: str, value: str) -> None:
    names = {**vars(schema), "ScheduleWord": ScheduleWord, "MORE": ("ours",)}
    made = eval(kind, names)
    found = made.parse(yaml.safe_load(text))
    assert found == eval(value) and type(found) is type(eval(value))
    assert made.describe()


def test_every_kind_and_its_options_have_a_row() -> None:
    ours = [each for each in schema.Kind.__subclasses__() if each.__module__.startswith("gkd_plugin.")]
    classes = {each for each in ours if each.__module__ != "gkd_plugin.config.host_values"}  # those of the host's keys
    shown = [kind for kind, _, _ in KIND_ROWS]
    assert {each.__name__ for each in classes} == {kind.partition("(")[0] for kind in shown}
    for each in classes:
        signature = inspect.signature(each.__init__) if "__init__" in vars(each) else inspect.Signature()
        options = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        for option in options:
            assert any(kind.startswith(each.__name__) and f"{option}=" in kind for kind in shown), option


def test_a_key_that_does_not_apply_is_refused_as_the_page_says() -> None:
    (code,) = python_blocks(keys_section())
    keys = execute(code).KEYS
    assert groups.read({"own": {"loss": "mse", "scale": 2}}, "own", keys)["scale"] == 2.0
    (problem,) = groups.find_problems({"own": {"loss": "sign", "scale": 2}}, "own", keys)
    assert "loss sign has no scale" in str(problem)


def test_every_python_example_of_the_page_is_run() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    suite = (ROOT / "examples" / "gkd-plugin-demo" / "tests" / "test_energy.py").read_text()  # tests/testing runs it
    run = [*(each.values[1] for each in HOOK_EXAMPLES), *python_blocks(keys_section()), suite]
    assert python_blocks(page) == [code for code in python_blocks(page) if code in run]


# --------------------------------------------------------------------------------------------------------- the kit
def test_pytest_is_needed_by_the_kit_only() -> None:
    imports = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and "pytest" in {getattr(node, "module", None), *(alias.name for alias in node.names)}
    }
    assert imports and all(path.startswith("gkd_plugin/testing/") for path in imports)


def test_every_knowledge_stands_under_the_suite() -> None:
    tree = ast.parse((ROOT / "tests" / "testing" / "test_our_terms.py").read_text())
    terms = {
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["term"]
    }
    assert terms == set(axes.knowledge)
