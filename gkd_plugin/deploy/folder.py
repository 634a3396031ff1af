"""An exported folder: its files, written whole or not at all, and the student in it read back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor
from yacs.config import CfgNode

from gkd_plugin.errors import UserError, describe_error
from gkd_plugin.models.trained import TrainedStudent, build_student
from gkd_plugin.ops.digest import compute_digest
from gkd_plugin.training.stored_config import own_cfg

WEIGHTS, CONFIG, CARD, PROGRAM, ONNX = "weights.safetensors", "cfg.yaml", "card.md", "model.pt2", "model.onnx"
_DIGEST = "gkd_sha256"  # in the notes of the file of weights
_PLACES = {
    "out_dir": "results",
    "run_dir": "results",
    "cfg_dest": "config.yaml",
}  # the host's defaults: no paths of ours


def is_export(folder: Path) -> bool:
    """Whether ``gkd export`` wrote a folder."""
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def require_both(folder: Path) -> None:
    """Says which file a folder lacks that ``gkd export`` has written, where it has one of two.

    Args:
        folder (Path): A folder.

    Raises:
        UserError: If one of the two is there.
    """
    there = [name for name in (WEIGHTS, CONFIG) if (folder / name).is_file()]
    if len(there) == 1:
        gone = CONFIG if there == [WEIGHTS] else WEIGHTS
        raise UserError(
            f"{folder} contains no finished run, and no whole export: it has {there[0]} and no {gone}. Export the run again."
        )


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
    own = student.kd_cfg.clone()
    for key, value in _PLACES.items():
        if key in own:
            own[key] = value
    own.dataset.dir = "./datasets"
    text = own.dump()
    (folder / CONFIG).write_text(text)
    notes = {"format": "pt", _DIGEST: _digest(text, weights)}
    (folder / WEIGHTS).write_bytes(load_safetensors().save(weights, notes))


def read_export(folder: Path) -> TrainedStudent:
    """The student of an exported folder, in evaluation mode.

    Args:
        folder (Path): What ``gkd export`` wrote.

    Raises:
        UserError: If safetensors is missing, a file is damaged or changed, or the network cannot be built here.
    """
    own: CfgNode = own_cfg(folder / CONFIG)
    load_safetensors()
    from safetensors import safe_open

    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}
            known = (file.metadata() or {}).get(_DIGEST)
    except Exception as error:  # its own class of errors, and those of files
        raise UserError(
            f"{folder / WEIGHTS} cannot be read ({describe_error(error)}). Export the run again to another folder."
        ) from None
    student = build_student(own, weights, folder)
    if known is not None and known != _digest((folder / CONFIG).read_text(), weights):
        raise UserError(
            f"{folder} is damaged or was changed: {CONFIG} and {WEIGHTS} are not what gkd export wrote together. Export the run "
            "again to another folder."
        )
    return student


def _digest(text: str, weights: Mapping[str, Tensor]) -> str:
    """The hash of a configuration, however it is laid out, and of every weight."""
    return compute_digest([yaml.safe_load(text), dict(weights)])


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
