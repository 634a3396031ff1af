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
from gkd_plugin import hookspecs
from gkd_plugin.config.load import read_config
from gkd_plugin.space import axes
from gkd_plugin.space.axes import Axis
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
}


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_every_hook_is_a_plugin(hook: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", section(hook), re.DOTALL)
    module = types.ModuleType("example_of_plugins")
    exec(compile(code, "plugins.md", "exec"), module.__dict__)
    (axis,) = (axis for axis in axes.ALL if hook == f"gkd_register_{axis.name}")
    before = set(axis)
    label = gkd_plugin.register_plugin(module)
    (name,) = set(axis) - before
    used = USES[axis.name].replace("NAME", name.replace("_n", "_20"))
    assert read_config(yaml.safe_load(used)).plan.active
    gkd_plugin.unregister_plugin(label)
    assert set(axis) == before


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
