"""``gkd init``: one file with one import line in a user's GraphGym program, and our configurations beside it."""

from __future__ import annotations

from pathlib import Path

from gkd_plugin.errors import UserError

IMPORT = "import gkd_plugin  # noqa: F401  (registers train.mode: distill and the kd groups)\n"


def packed_configs() -> Path:
    """The folder ``graphgym_configs``: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "graphgym_configs"
    return inside if inside.is_dir() else package.parent / "graphgym_configs"


def init(folder: str | Path = ".", configs: bool = False) -> str:
    """Writes ``custom_graphgym/train/gkd.py``, which the host's ``main.py`` imports by itself.

    Args:
        folder (str or Path): Where the program's ``main.py`` and ``custom_graphgym`` lie.
        configs (bool): Also copies our configurations and grids into ``graphgym_configs`` there.

    Returns:
        str: What was written.

    Raises:
        UserError: If there is no ``custom_graphgym/train``, or a file with other content exists; then nothing is
            written.
    """
    folder = Path(folder)
    train = folder / "custom_graphgym" / "train"
    if not (train / "__init__.py").is_file():
        raise UserError(
            f"{train} is missing (or has no __init__.py), so nothing would import a file there. Give the folder that "
            f"contains GraphGym's main.py and custom_graphgym, or run any program unchanged with: "
            f"python -m gkd_plugin main.py --cfg ..."
        )
    wanted = {train / "gkd.py": IMPORT}
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
    return "\n".join(f"wrote {path}" for path in new) or "nothing to do: all files exist"
