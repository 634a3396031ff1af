"""Imports point downwards only, as docs/design.md and CONTRIBUTING.md promise, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [
    ["gkd_cli"],
    ["papers"],
    ["study"],
    ["commands"],
    ["deploy"],
    ["training"],
    ["config"],
    ["models", "data"],
    ["space"],
    ["ops"],
    ["plan", "schema", "groups", "host", "printing", "errors"],
]
BESIDE = {  # what stands outside the layers, each with the parts that may import it
    "hookspecs": {"gkd_plugin", "builtin", "plugins"},
    "builtin": {"plugins"},
    "plugin_checks": {"plugins"},
    "plugins": {"gkd_plugin", "registration", "commands", "testing"},
    "registration": {"gkd_plugin"},
    "testing": set(),
    "__main__": set(),
}
LATE = {  # imports inside functions, which come when the function is called
    "gkd_cli.arguments": {"commands"},  # so that help is instant, as the next
    "gkd_cli.commands": {"commands", "papers", "study"},
    "gkd_cli.process": {"errors"},
    "gkd_plugin": {"commands", "study"},  # so that a program that only imports the package stays light
    "gkd_plugin.study.execute": {"study"},  # Dask is an extra, and heavy
    "gkd_plugin.training.teachers.cache": {"gkd_plugin"},  # the version, of a package that is not whole yet
}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for part in ("gkd_cli", "gkd_plugin")
    for path in sorted((ROOT / part).rglob("*.py"))
}


def find_imports(path: Path, late: bool) -> set[str]:
    """Modules of ours that a file imports when it is imported itself, or (``late``) inside its functions."""
    found: set[str] = set()

    def visit(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if inside == late:
                found.update(name for name in _names(child) if name in FILES)
            visit(child, inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))

    visit(ast.parse(path.read_text()), False)
    return found


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports are not used here"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in FILES else str(node.module)


IMPORTS = {name: find_imports(path, late=False) for name, path in FILES.items()}


def place(module: str) -> str:
    """The part of the tree that a module belongs to: ``gkd_plugin.space.axes`` to ``space``."""
    parts = module.split(".")
    if parts[0] == "gkd_cli":
        return parts[0]
    return parts[min(1, len(parts) - 1)]


def level(part: str) -> int | None:
    return next((number for number, layer in enumerate(LAYERS) if part in layer), None)


def test_every_file_has_a_place():
    known = {part for layer in LAYERS for part in layer} | set(BESIDE) | {"gkd_plugin"}
    assert {place(module) for module in FILES} == known


@pytest.mark.parametrize("module", FILES)
def test_imports_point_downwards(module):
    own = level(place(module))
    for target in IMPORTS[module]:
        part = place(target)
        if part in BESIDE and part != place(module):
            assert place(module) in BESIDE[part], f"{module} imports {target}, which stands beside the layers"
        elif own is not None:
            below = level(part)
            assert below is not None and below >= own, f"{module} imports {target}, which stands above it"
            row = LAYERS[own]  # data may import models, and not the other way round
            beside = row == LAYERS[-1] or row.index(part) <= row.index(place(module)) if below == own else True
            assert beside, f"{module} imports {target}, which stands next to it"


def test_the_bottom_imports_the_bottom_only():
    below = {
        module: {place(target) for target in IMPORTS[module]}
        for module in FILES
        if level(place(module)) == len(LAYERS) - 1
    }
    assert {name.removeprefix("gkd_plugin."): found for name, found in below.items() if found} == {
        "groups": {"schema", "errors"},
        "schema": {"errors"},
    }


def test_nothing_imports_in_a_circle():
    done: set[str] = set()

    def follow(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in sorted(IMPORTS[module]):
                follow(target, (*path, module))
            done.add(module)

    for module in FILES:
        follow(module, ())


def test_imports_inside_functions_are_listed():
    late = {module: {place(target) for target in find_imports(path, late=True)} for module, path in FILES.items()}
    assert {module: found for module, found in late.items() if found} == LATE


def test_the_order_stands_in_the_documentation():
    order = " -> ".join(", ".join(layer) for layer in LAYERS)
    for page in ("CONTRIBUTING.md", "docs/design.md"):
        text = " ".join((ROOT / page).read_text().split())
        assert f"`{order}`" in text, f"{page} lacks `{order}`"
