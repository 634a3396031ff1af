"""The host's loaders, with one clear message where the data are missing, damaged or have no splits."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from torch_geometric.data import Dataset, InMemoryDataset
from torch_geometric.graphgym.loader import create_loader, load_dataset
from torch_geometric.loader import DataLoader
from yacs.config import CfgNode

from gkd_plugin import host
from gkd_plugin.data.check import SPLIT_KEYS, check_data, report_missing_splits
from gkd_plugin.data.known import PYG_NAMES
from gkd_plugin.data.loaders import FORMAT
from gkd_plugin.data.lock import hold_data
from gkd_plugin.data.names import DATA_SETS, find_folder, find_name
from gkd_plugin.data.sampling import sample_parts, serving_whole
from gkd_plugin.data.trust import check_names, reading
from gkd_plugin.errors import OF_YOUR_OWN, ConfigError, UserError, describe_error, nearest
from gkd_plugin.printing import is_noting

T = TypeVar("T")

FETCHED = ("MNIST", "QM7b")  # what the host downloads beyond our own names
MOST_NAMES = 3  # of raw files that a message has
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def load(cfg: CfgNode) -> list[DataLoader]:
    """The host's loaders (train, val, test) for ``cfg``; fills ``cfg.share`` as the host does.

    Args:
        cfg (CfgNode): A host configuration.

    Raises:
        UserError: If the name is a path, the host knows no such data set, its files are missing or damaged, there is no
            room for what PyG writes beside them, or the data are not usable (:func:`check_data`).
    """
    with serving_whole(cfg):
        loaders: list[DataLoader] = _read(cfg, create_loader)
    check_data(loaders, cfg)
    return sample_parts(loaders, cfg)


def load_whole(cfg: CfgNode) -> InMemoryDataset:
    """The data set itself, as the host's or a registered loader gives it for ``cfg``; nothing in it is checked.

    Args:
        cfg (CfgNode): A host configuration.

    Raises:
        UserError: As :func:`load`, and where it is no data set in memory.
    """
    dataset = _read(cfg, load_dataset)
    if not isinstance(dataset, InMemoryDataset):
        raise UserError(
            f"dataset.name: the loader of '{cfg.dataset.name}' returned a {type(dataset).__name__}, and only data sets in "
            "memory (torch_geometric.data.InMemoryDataset) can be described."
        )
    return dataset


def _read(cfg: CfgNode, make: Callable[[], T]) -> T:
    """What a function of the host gives that reads the data set of ``cfg``, with one message where it cannot."""
    if problems := check_names(cfg.dataset):
        raise ConfigError(problems)
    folder = _find_folder(cfg.dataset)
    with hold_data(folder):
        before = {folder, *folder.rglob("*")} if folder.exists() else set()
        try:
            with (
                _no_empty_folders(folder, before),
                host.scoped(cfg),
                reading(cfg.dataset.format),
                warnings.catch_warnings(),
            ):
                # the host's own way with data sets of graphs, and PyG's wish for an issue where it meets a foreign pickle
                warnings.filterwarnings(
                    "ignore", message="It is not recommended to directly access the internal storage"
                )
                warnings.filterwarnings("ignore", message="Weights only load failed")
                warnings.filterwarnings("ignore", message="Detected pickle protocol")
                _say_work(folder, cfg.dataset)
                return make()
        except Exception as error:
            message = _explain_no_dataset(error, cfg) or _explain(error, cfg.dataset)
            if message is None:  # a registered loader of the user's, say: its own traceback is clearer
                raise
            if getattr(error, "errno", None) in FULL:
                _remove(set(folder.rglob("*")) - before)  # half-written files would break the next run
            raise UserError(message) from error


def _say_work(folder: Path, dataset: CfgNode) -> None:
    """One line before PyG downloads or prepares files, either of which can take minutes."""
    name = str(dataset.name)
    fetched = name in DATA_SETS or name in FETCHED or name.startswith("TU_")
    if dataset.format not in ("PyG", FORMAT) or not fetched or is_noting() or any(folder.rglob("processed/*.pt")):
        return
    there = any(path.is_file() for path in folder.rglob("raw/**/*"))
    what = f"preparing {name} from the raw files in" if there else f"downloading {name} to"
    print(f"{what} {folder} ...", file=sys.stderr)


def _find_folder(dataset: CfgNode) -> Path:
    """Where the host or we look for the files."""
    if dataset.format == FORMAT:
        return find_folder(find_name(dataset.name), dataset.dir).expanduser()  # as PyG does
    return Path(str(dataset.dir), str(dataset.name)).expanduser()


def _explain_no_dataset(error: Exception, cfg: CfgNode) -> str | None:
    """The message where a registered loader returned a graph, or a list of them, instead of a data set."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == "create_dataset"]
    found = frames[-1].f_locals.get("dataset") if frames else None
    if found is None or isinstance(found, Dataset):
        return None
    return (
        f"dataset.format: the loader of '{cfg.dataset.format}' returned a {type(found).__name__}, not a data set of PyG. A list "
        "of graphs becomes one by: dataset = InMemoryDataset(); dataset.data, dataset.slices = dataset.collate([data]) "
        "(torch_geometric.data)."
    )


def _explain(error: Exception, dataset: CfgNode) -> str | None:
    """The message for an error of the host's loaders, or ``None`` where it is not about the data."""
    if isinstance(error, KeyError) and error.args and error.args[0] in SPLIT_KEYS["graph"]:
        return report_missing_splits(dataset, [error.args[0]])
    if isinstance(error, ValueError) and str(error) == f"'{dataset.name}' not support":
        return (
            f"dataset.name: the host has no data set '{dataset.name}'. {nearest(dataset.name, PYG_NAMES)}"
            f"Allowed: {', '.join(PYG_NAMES)}, or the name of a registered loader's data set. {OF_YOUR_OWN}"
        )
    if isinstance(error, ValueError) and str(error) == f"Unknown data format '{dataset.format}'":
        return (
            f"dataset.format: '{dataset.format}' is unknown. Allowed: PyG, gkd, OGB, or what a registered loader takes. "
            f"{OF_YOUR_OWN}"
        )
    return _explain_bad_files(error, dataset) if _is_read_error(error) else None


def _is_read_error(error: Exception) -> bool:
    """Whether PyG was fetching or reading files: a damaged one can raise nearly any error there."""
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.startswith(("torch_geometric.datasets", "torch_geometric.io", "ogb.")) for name in modules)


@contextlib.contextmanager
def _no_empty_folders(folder: Path, before: Collection[Path]) -> Iterator[None]:
    """Takes the folders away again that PyG made for files which it could not fetch."""
    try:
        yield
    except BaseException:
        made = {folder, *folder.rglob("*")} - set(before)
        for path in sorted(made, key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):  # a file, or a folder with files
                path.rmdir()
        raise


def _remove(files: Iterable[Path]) -> None:
    for path in files:
        if path.is_file():
            with contextlib.suppress(OSError):
                path.unlink()


def _explain_bad_files(error: Exception, dataset: CfgNode) -> str:
    name, folder = dataset.name, _find_folder(dataset)
    what = describe_error(error)
    code = getattr(error, "errno", None)
    if code in FULL:
        return (
            f"dataset.dir: there is no room to prepare '{name}' in {folder} ({what}). PyG writes processed/ beside the raw "
            f"files: free some space there, or set dataset.dir to another folder that has {name}/."
        )
    if isinstance(error, PermissionError) or code == errno.EROFS:
        return (
            f"dataset.dir: '{name}' cannot be prepared in {folder} ({what}). PyG reads the raw files and writes processed/ "
            f"beside them: copy {name}/ to a folder where both are allowed, and set dataset.dir to it."
        )
    torn = next((path.parent for path in sorted(folder.rglob("processed/*.pt"))), None)
    steps = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
    if torn is not None and not steps & {"download", "process"}:  # it was not yet, or no more, about the raw files
        return (
            f"dataset.dir: the files that PyG made of '{name}' in {torn} cannot be read ({what}). Remove that folder; PyG "
            "writes it again from the raw files."
        )
    if Path(dataset.dir).name == name and (folder / "raw").is_dir():
        return (
            f"dataset.dir: {dataset.dir} is the folder of '{name}' itself, and its parent is meant ({what}). Set dataset.dir to "
            f"{Path(dataset.dir).parent}."
        )
    if any(path.is_file() for path in folder.rglob("raw/**/*")):
        text = f"dataset.dir: the files of '{name}' in {folder} cannot be read ({what}). Remove that folder and "
    else:
        text = f"dataset.dir: there is no '{name}' in {dataset.dir}, and fetching it failed ({what}). "
    todo = _say_what_to_do(error, folder, dataset)
    return text + (todo if text.endswith("and ") else todo[0].upper() + todo[1:])


def _say_what_to_do(error: Exception, folder: Path, dataset: CfgNode) -> str:
    """The command that copies the raw files from ``GKD_DATA_DIR`` where they lie there, else the place where they belong."""
    place, names = _find_raw_files(error)
    if place is None:
        files = f"put its raw files (PyG names them) into {folder}"
    elif (source := _find_copy(place, names)) is not None:
        parent = shlex.quote(str(place.parent))
        return f"copy it with: mkdir -p {parent} && cp -r {shlex.quote(str(source))} {parent}/"
    else:
        files = f"put its raw files ({', '.join(names[:MOST_NAMES])}{', ...' if len(names) > MOST_NAMES else ''}) into {place}"
    wanted = os.path.relpath(folder if place is None else place, Path(dataset.dir).expanduser())  # as PyG spells it
    return f"{files}, or set dataset.dir to a folder that has {wanted}/."


def _find_raw_files(error: Exception) -> tuple[Path | None, list[str]]:
    """The folder where the data set that PyG was about to fetch or prepare looks for its raw files, and their names."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        dataset = frame.f_locals.get("self")
        if frame.f_code.co_name in ("_download", "_process") and isinstance(dataset, Dataset):
            place = Path(dataset.raw_dir)
            return place, [str(Path(path).relative_to(place)) for path in dataset.raw_paths]
    return None, []


def _find_copy(place: Path, names: Sequence[str]) -> Path | None:
    """A folder in ``GKD_DATA_DIR`` that is called like ``place`` and has all its files."""
    source = os.environ.get("GKD_DATA_DIR")
    if not source or not names:
        return None
    found = (path for path in sorted(Path(source).rglob(place.name)) if path.resolve() != place.resolve())
    return next((path.resolve() for path in found if all((path / name).exists() for name in names)), None)
