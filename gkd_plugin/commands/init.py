"""``gkd init``: one file with one import line in a user's GraphGym program, and our configurations beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gkd_plugin.errors import UserError

IMPORT = "import gkd_plugin  # noqa: F401  (registers train.mode: distill and the kd groups)\n"
_PACKAGE = {  # the part of the host's own custom_graphgym through which its main program imports files in train
    "__init__.py": "from .train import *  # noqa\n",
    "train/__init__.py": """from os.path import basename, dirname, isfile, join
import glob

modules = glob.glob(join(dirname(__file__), "*.py"))
__all__ = [basename(file)[:-3] for file in modules if isfile(file) and not file.endswith("__init__.py")]
""",
}


def packed_configs() -> Path:
    """The folder ``graphgym_configs``: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "graphgym_configs"
    return inside if inside.is_dir() else package.parent / "graphgym_configs"


def init(folder: str | Path = ".", configs: bool = False, create: bool = False) -> str:
    """Writes ``custom_graphgym/train/gkd.py``, which the host's ``main.py`` imports by itself.

    Args:
        folder (str or Path): Where the program's ``main.py`` and ``custom_graphgym`` lie.
        configs (bool): Also copies our configurations and grids into ``graphgym_configs`` there; where there is no
            program, them alone.
        create (bool): Also writes the files of ``custom_graphgym`` that are missing.

    Returns:
        str: What was written.

    Raises:
        UserError: If there is no ``custom_graphgym/train`` and neither option was given, or a file with other content
            exists; then nothing is written.
    """
    folder = Path(folder)
    package = folder / "custom_graphgym"
    missing = {path: text for path, text in _PACKAGE.items() if not (package / path).is_file()}
    program = create or not missing
    if not program and (not configs or package.exists()):
        raise UserError(_report_missing(package, missing))
    wanted = {package / path: text for path, text in missing.items()} if create else {}
    if program:
        wanted[package / "train" / "gkd.py"] = IMPORT
    if configs:
        packed = packed_configs()
        for path in sorted([*packed.rglob("*.yaml"), *packed.rglob("*.txt")]):
            wanted[folder / "graphgym_configs" / path.relative_to(packed)] = path.read_text(encoding="utf-8")
    in_the_way = [path for path, text in wanted.items() if path.exists() and path.read_text(encoding="utf-8") != text]
    if in_the_way:
        paths = ", ".join(str(path) for path in in_the_way)
        raise UserError(f"{paths}: exists with other content. Move it away; nothing was written.")
    new = [path for path in wanted if not path.exists()]
    for path in new:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    ours = folder / "graphgym_configs"
    copied = [path for path in new if path.is_relative_to(ours)]
    lines = [f"wrote {path}" for path in new if path not in copied]
    lines += [f"wrote {len(copied)} configurations and grids into {ours}"] if copied else []
    lines = lines or ["nothing to do: all files exist"]
    if not program:
        lines.append(f"there is no {package}, so no program was changed: gkd run F needs none")
    elif create and not _has_import(folder / "main.py", "custom_graphgym"):
        main = folder / "main.py"
        where = f"{main} has none" if main.is_file() else f"there is no {main}"
        lines.append(f"your program must have the line: import custom_graphgym ({where})")
    if program and not _has_import(package / "__init__.py", "train"):
        lines.append(f"{package / '__init__.py'} must import that folder: add the line: from .train import *  # noqa")
    return "\n".join(lines)


def _report_missing(package: Path, missing: Mapping[str, str]) -> str:
    paths = " and ".join(str(package / path) for path in missing)
    one = len(missing) == 1
    return (
        f"{paths} {'is' if one else 'are'} missing, so nothing would import a file in {package / 'train'}. Give the "
        f"folder that contains GraphGym's main.py and custom_graphgym; or write {'it' if one else 'them'} with: "
        "gkd init --create; or run any program unchanged with: python -m gkd_plugin main.py --cfg ..."
    )


def _has_import(path: Path, word: str) -> bool:
    """Whether a line of a file imports something of this name."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return any("import" in line and word in line for line in lines)
