from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import shlex
import textwrap
import types
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

import gkd_cli
import gkd_plugin
from gkd_cli.arguments import is_config
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


RESOLVED_ELSEWHERE = {"own_term.md"}  # test_ways.py registers the term first
EXAMPLES = [
    *(
        pytest.param(text, id=f"{page.name}-{n}")
        for page in PAGES
        for n, text in enumerate(blocks(page, "yaml"), 1)
        if page.name not in RESOLVED_ELSEWHERE
    ),
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


def script(name: str) -> types.ModuleType:
    """A script of docs/, imported."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date():
    for file, text in script("make_keys").pages().items():
        assert (ROOT / "docs" / file).read_text() == text, f"docs/{file} is old: run python docs/make_keys.py"


def test_pictures_are_up_to_date_and_show_every_answer():
    make_figures = script("make_figures")
    for file, text in make_figures.pictures().items():
        assert (ROOT / "docs" / "figures" / file).read_text() == text, f"{file} is old: run python docs/make_figures.py"
        ElementTree.fromstring(text)
    assert set(make_figures.SOURCES) == set(axes.sources)
    assert {name for _, name, _, _ in make_figures.MAPS} | {"attention"} == set(axes.layer_maps)
    assert len(make_figures.SCHEDULES) == len(list(axes.schedules))


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
        ("splits.md", DATA_SETS),
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
        page = ROOT / "docs" / f"{command}.md"
        assert page.is_file() and f"    gkd {command}" in page.read_text(), "its page"


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


def gkd_lines(page: Path) -> list[str]:
    """The command lines of a page: indented, after a prompt, or in blocks of a shell; without what follows `&&`."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    lines += re.findall(r"^(?:    |\$ |    \$ )(gkd .*)$", page.read_text(), re.MULTILINE)
    return [line.partition(" && ")[0] for line in dict.fromkeys(lines) if line.startswith("gkd ")]


def is_outline(line: str) -> bool:
    """Whether a line says what may be written, as `gkd run --cfg F [key value ...]` does, and is no command itself."""
    return (
        "[" in line.replace("'[", "")
        or "..." in line
        or " | " in line
        or bool(re.search(r" (F|RUN|DIR|FOLDER)\b", line))
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_gkd_lines_are_commands(page, monkeypatch):
    """Options and values are those that click accepts; files of ours exist and take the overrides."""
    monkeypatch.chdir(ROOT)
    inline = [line.replace("\n", " ") for line in re.findall(r"`(gkd [^`]+)`", page.read_text())]
    for line in [*gkd_lines(page), *inline]:
        words = shlex.split(re.sub(r" --import \w+", "", line), comments=True)
        if words == ["gkd", "--help"]:
            continue
        command = gkd_cli.main.commands.get(words[1])
        assert command is not None, line
        options = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        named = {name for name in re.findall(r"(?<!\S)\[?(--[\w-]+)", line)}
        assert named <= options | {"--help"}, line
        for word in words:
            if word.startswith("graphgym_configs/"):
                assert (ROOT / word).is_file(), line
        if is_outline(line) or line in inline:
            continue
        context = command.make_context(words[1], words[2:])
        config = context.params.get("config")
        overrides = [word for word in context.params.get("overrides") or () if not is_config(word)]
        assert words[1] in ("data", "grid") or len(overrides) % 2 == 0, line
        if (
            words[1] in ("run", "check", "explain")
            and config is not None
            and str(config).startswith("graphgym_configs/")
        ):
            read_config(ROOT / config, overrides)


def test_contributings_example_is_a_plugin():
    (code,) = blocks(ROOT / "CONTRIBUTING.md", "python")
    module = types.ModuleType("example_of_contributing")
    exec(compile(code, "CONTRIBUTING.md", "exec"), module.__dict__)
    name = gkd_plugin.register_plugin(module)
    values = {"kd": {"students": 2}, "kd_structure": {"weight": 1, "kernel": "inverse"}}
    assert read_config(values).plan.groups["structure"]["kernel"] == "inverse"
    plugins.unregister_plugin(name)
    assert "inverse" not in axes.kernels


RUN_ELSEWHERE = {  # pages with blocks of Python, and the test that runs them
    "CONTRIBUTING.md": "test_contributings_example_is_a_plugin",
    "compress.md": "test_ways.py",
    "export.md": "test_ways.py",
    "own_term.md": "test_ways.py",
    "plugins.md": "test_meta.py",
}
ONLY_COMPILED = {  # and why
    "cluster.md": "dask_jobqueue asks for a cluster's queue",
}


def test_every_python_example_is_run():
    from tests.test_pages import PAGES as RUN

    there = {page.name for page in PAGES if blocks(page, "python")}
    assert there == {*RUN_ELSEWHERE, *ONLY_COMPILED, *(name for names in RUN for name in names)} & there
    assert there >= {*RUN_ELSEWHERE, *ONLY_COMPILED}
    for name in ONLY_COMPILED:
        for code in blocks(ROOT / "docs" / name, "python"):
            assert compile(code, name, "exec")


def test_every_notebook_is_small_and_holds_no_path():
    paths = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
    assert len(paths) == 3
    for path in paths:
        assert path.stat().st_size < 200_000, path.name
        cells = json.loads(path.read_text())["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        assert outputs and all(output["output_type"] != "error" for output in outputs), path.name
        text = json.dumps([{**output, "data": {**output.get("data", {}), "image/png": ""}} for output in outputs])
        assert not re.search(r"/(home|root|tmp|work|usr|opt|Users|var)/", text), f"{path.name}: a path of a machine"


def test_links_out_of_the_pages_lead_to_pages_of_the_site():
    pytest.importorskip("mkdocs", reason="the extra [docs] is not installed")
    hooks = script("site_hooks")
    text = "[a](../graphgym_configs/grids/depth.txt) [b](start.md#next) [c](notebooks/first_steps.ipynb) [d](https://x.org)"
    assert hooks.relinked("docs/grids.md", text) == (
        "[a](repository/graphgym_configs/grids/depth.txt.md) [b](start.md#next) [c](notebooks/first_steps.md) [d](https://x.org)\n"
    )
    assert hooks.relinked("README.md", "[a](docs/start.md) [b](CONTRIBUTING.md#set-up)") == (
        "[a](../start.md) [b](CONTRIBUTING.md#set-up)\n"
    )
    fenced = "```\n[a](../README.md)\n```\n"
    assert hooks.relinked("docs/grids.md", fenced) == fenced and not hooks.outside("docs/grids.md", fenced)
    cells = hooks.notebook(ROOT / "docs" / "notebooks" / "first_steps.ipynb")
    assert "```python\nimport gkd_plugin" in cells and "data:image/png;base64," in cells
