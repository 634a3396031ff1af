from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shlex
import textwrap
import types
from pathlib import Path

import pytest
import yaml

import gkd_cli
import gkd_plugin
from gkd_plugin import hookspecs, plugins
from gkd_plugin.config.load import read_config
from gkd_plugin.data.names import DATA_SETS
from gkd_plugin.models.networks import NETWORKS
from gkd_plugin.space import axes

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted((ROOT / "gkd_plugin").rglob("*.py"))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, without the indentation of a list they may stand in."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(text) for _, text in found]


def docstring_blocks(path: Path) -> list[tuple[str, str]]:
    """The YAML examples in the docstrings of one module, with the name of what they belong to."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node) or ""
            for body in re.findall(r"\.\. code-block:: yaml\n\n((?:[ ]{4}.*\n?|\n)+)", text):
                found.append((getattr(node, "name", path.stem), textwrap.dedent(body)))
    return found


EXAMPLES = [
    *(pytest.param(text, id=f"{page.name}-{n}") for page in PAGES for n, text in enumerate(blocks(page, "yaml"), 1)),
    *(pytest.param(text, id=f"{path.stem}-{name}") for path in SOURCES for name, text in docstring_blocks(path)),
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_yaml_example_resolves(text):
    for values in yaml.safe_load_all(text):
        plan = read_config(values).plan
        named = {group.removeprefix("kd_") for group in values if group.startswith("kd_")} - {"attention"}
        assert named <= {group.name for group in plan.active}, "the example switches nothing on"


def test_every_knowledge_has_an_example_in_its_docstring():
    for name in axes.knowledge:
        knowledge = axes.knowledge[name]
        assert f"kd_{name}:" in (inspect.getdoc(knowledge) or ""), name


def test_generated_pages_are_up_to_date():
    spec = importlib.util.spec_from_file_location("make_keys", ROOT / "docs" / "make_keys.py")
    make_keys = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_keys)
    for file, text in make_keys.pages().items():
        assert (ROOT / "docs" / file).read_text() == text, f"docs/{file} is old: run python docs/make_keys.py"


@pytest.mark.parametrize(
    ("page", "axis"),
    [
        ("sources.md", axes.sources),
        ("layer_maps.md", axes.layer_maps),
        ("knowledge.md", axes.knowledge),
        ("knowledge.md", axes.kernels),
        ("timing.md", axes.schedules),
        ("presets.md", axes.presets),
        ("keys.md", axes.divergences),
        ("models.md", NETWORKS),
        ("models.md", DATA_SETS),
    ],
)
def test_every_answer_stands_on_its_page(page, axis):
    text = (ROOT / "docs" / page).read_text()
    assert [name for name in axis if not re.search(rf"\b{name}\b", text) and f"kd_{name}" not in text] == []


def test_every_hook_and_command_is_documented():
    hooks = {name for name in vars(hookspecs) if name.startswith("gkd_register_")}
    assert hooks == set(re.findall(r"gkd_register_\w+", (ROOT / "docs" / "plugins.md").read_text()))
    for command in gkd_cli.main.commands:
        assert re.search(rf"^gkd {command}\b", (ROOT / "README.md").read_text(), re.MULTILINE), "its line in the readme"
        page = ROOT / "docs" / f"{command}.md"  # where a line is not enough
        assert not page.is_file() or f"gkd {command}" in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in headings], target


def test_files_named_in_the_text_exist():
    for page in (ROOT / "docs" / "design.md", ROOT / "CONTRIBUTING.md"):
        for name in re.findall(r"`([\w/]+\.py)`", page.read_text()):
            if name not in ("config.py", "main.py"):  # the first design's, the host's
                assert (ROOT / name).is_file() or (ROOT / "gkd_plugin" / name).is_file(), name


def test_the_readme_has_two_commands_with_an_environment_each():
    commands = [shlex.split(text) for text in blocks(ROOT / "README.md", "bash")]
    assert len(commands) == 2
    environments = {words[words.index("venv") + 1] for words in commands}
    assert len(environments) == 2
    main, tests = commands
    assert ".venv/bin/gkd" in main
    assert Path(ROOT / main[main.index("--cfg") + 1]).is_file()
    assert {"--control", "--repeat"} <= set(main)
    assert "pytest" in tests


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_gkd_lines_name_real_commands_and_files(page):
    for line in re.findall(r"^(?:    |\$ |    \$ )(gkd .*)$", page.read_text(), re.MULTILINE):
        words = line.split()
        assert words[1] in gkd_cli.main.commands, line
        for word in words:
            if word.startswith("graphgym_configs/"):
                assert (ROOT / word).is_file(), line


def test_contributings_example_is_a_plugin():
    (code,) = blocks(ROOT / "CONTRIBUTING.md", "python")
    module = types.ModuleType("example_of_contributing")
    exec(compile(code, "CONTRIBUTING.md", "exec"), module.__dict__)
    name = gkd_plugin.register_plugin(module)
    values = {"kd": {"students": 2}, "kd_structure": {"weight": 1, "kernel": "inverse"}}
    assert read_config(values).plan.groups["structure"]["kernel"] == "inverse"
    plugins.unregister_plugin(name)
    assert "inverse" not in axes.kernels


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_compile(page):
    for code in blocks(page, "python"):
        assert compile(code, str(page), "exec")
