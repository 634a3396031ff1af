"""An exported folder: its files, written whole or not at all, and the student in it read back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from yacs.config import CfgNode

from gkd_plugin.errors import UserError, describe_error
from gkd_plugin.models.trained import TrainedStudent, build_student
from gkd_plugin.training.stored_config import own_cfg

WEIGHTS, CONFIG, CARD, PROGRAM, ONNX = "weights.safetensors", "cfg.yaml", "card.md", "model.pt2", "model.onnx"
_PLACES = {
    "out_dir": "results",
    "run_dir": "results",
    "cfg_dest": "config.yaml",
}  # the host's defaults: no paths of ours


def is_export(folder: Path) -> bool:
    """Whether ``gkd export`` wrote a folder."""
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def load_safetensors() -> Any:
    """The package that reads and writes weights.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import safetensors.torch as package
    except ModuleNotFoundError:
        raise UserError(
            f"{WEIGHTS}: exported students need the package safetensors: pip install 'gkd_plugin[export]'."
        ) from None
    return package


def write_student(folder: Path, student: TrainedStudent) -> None:
    """Its weights, and the configuration that its network is built from.

    Args:
        folder (Path): The folder.
        student (TrainedStudent): The student.
    """
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in student.state_dict().items()}
    (folder / WEIGHTS).write_bytes(load_safetensors().save(weights, {"format": "pt"}))
    own = student.kd_cfg.clone()
    for key, value in _PLACES.items():
        if key in own:
            own[key] = value
    own.dataset.dir = "./datasets"
    (folder / CONFIG).write_text(own.dump())


def read_export(folder: Path) -> TrainedStudent:
    """The student of an exported folder, in evaluation mode.

    Args:
        folder (Path): What ``gkd export`` wrote.

    Raises:
        UserError: If safetensors is missing, a file is damaged, or the network cannot be built here.
    """
    own: CfgNode = own_cfg(folder / CONFIG)
    package = load_safetensors()
    try:
        weights: dict[str, Tensor] = package.load_file(folder / WEIGHTS)
    except Exception as error:  # its own class of errors, and those of files
        raise UserError(
            f"{folder / WEIGHTS} cannot be read ({describe_error(error)}). Export the run again to another folder."
        ) from None
    return build_student(own, weights, folder)


@contextmanager
def writing(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` when all is written, and is gone where something fails.

    Args:
        out (Path): A folder that is not there, or empty.

    Raises:
        UserError: If something lies in ``out``, or the disk refuses.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"--out: {out} is there and not empty. Nothing is overwritten: name another folder, or remove it."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written ({error.strerror}). Name another folder.") from None
    try:
        yield made
        made.chmod(0o755)  # a temporary folder is its owner's alone
        if out.is_dir():
            out.rmdir()
        made.rename(out)
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written ({error.strerror}). Name another folder.") from None
    finally:
        if made.exists():
            shutil.rmtree(made)
