"""A user's own data set: what a function of his returns (``my_package.my_module:make``), or a file that PyG saved."""

from __future__ import annotations

import copy
import importlib
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data, HeteroData, InMemoryDataset

from gkd_plugin.data.shape import require_shape
from gkd_plugin.data.trust import know_storages
from gkd_plugin.errors import Problem, UserError, describe_error, find_place, nearest, quote
from gkd_plugin.host import cfg

FILE = "data.pt"
ALLOWED = "Allowed: a Data, a HeteroData, a list of Data, or an InMemoryDataset (torch_geometric.data)."
_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_answers: dict[tuple[str, str, int], Any] | None = None


class OwnData(InMemoryDataset):  # type: ignore[misc]
    """Graphs that lie in memory.

    Args:
        graphs (list of Data): At least one.
    """

    def __init__(self, graphs: list[Data]) -> None:
        super().__init__()
        self.data, self.slices = self.collate(graphs)


def names_function(name: str) -> bool:
    """Whether a name is of the form ``my_package.my_module:make``."""
    return _FORM.fullmatch(name) is not None


def find_file(root: str | Path) -> Path | None:
    """The file in a folder that PyG saved there; ``None`` where there is none."""
    places = (Path(root) / FILE, Path(root) / "processed" / FILE)
    return next((path for path in places if path.is_file()), None)


def report_no_file(name: str, root: str | Path) -> Problem:
    """What is wrong with a folder in which nothing lies that could be read."""
    return Problem(
        "dataset.name",
        f"{quote(name)} is unknown, and the folder {root} has no {FILE}",
        f"Save a graph, or a list of them, there: torch.save(data, '{Path(root) / FILE}'); or name another data set.",
    )


# --------------------------------------------------------------------------------------------------------- a function


def load_function(name: str, dataset_dir: str, seed: int) -> InMemoryDataset:
    """The data set that a function of the user's returns.

    Its module is imported from the working folder or from what is installed. ``dir`` (``dataset.dir``) and ``seed`` (of the
    split) are handed over where the function takes arguments of these names.

    Args:
        name (str): ``my_package.my_module:make``.
        dataset_dir (str): ``dataset.dir``.
        seed (int): The seed of the split.

    Raises:
        UserError: If there is no such module or function, it raises, or it returns something else.
    """
    key = (name, dataset_dir, seed)
    if _answers is not None and key in _answers:
        return make_dataset(_share(_answers[key]), f"dataset.name: '{name}' returned")
    function = _find_function(name)
    try:
        with torch.random.fork_rng(devices=[]):  # what it draws must not move the networks' first weights
            answer = function(**_choose_arguments(function, {"dir": dataset_dir, "seed": seed}))
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code
        text = f"dataset.name: '{name}' raised an error ({describe_error(error)}; {find_place(error)})."
        raise UserError(text) from error
    if _answers is not None:
        _answers[key] = _share(answer)
    return make_dataset(answer, f"dataset.name: '{name}' returned")


@contextmanager
def ask_once() -> Iterator[None]:
    """Within, a function is called once for the same arguments, whatever the task: its first answer is taken again."""
    global _answers
    _answers = {}
    try:
        yield
    finally:
        _answers = None


def _share(answer: Any) -> Any:
    """The same tensors in containers of their own: what is made of an answer writes into its containers."""
    if isinstance(answer, (list, tuple)):
        return [_share(each) for each in answer]
    if isinstance(answer, InMemoryDataset):
        found = copy.copy(answer)
        found._data, found._data_list, found.slices = copy.copy(answer._data), None, copy.copy(answer.slices)
        return found
    return copy.copy(answer) if isinstance(answer, (Data, HeteroData)) else answer


def _find_function(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    folder = os.getcwd()
    if module_name not in sys.modules and folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _report_import(name, module_name, error) from error
        raise UserError(
            f"dataset.name: '{name}': there is no module {module_name} in {folder}, nor is one installed. Write its name as in an "
            "import line: my_package.my_module for my_package/my_module.py."
        ) from None
    except Exception as error:  # the user's own code
        raise _report_import(name, module_name, error) from error
    function: Callable[..., Any] | None = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        found = "has no function" if function is None else "has something under the name that is not a function:"
        raise UserError(
            f"dataset.name: '{name}': {module_name} {found} '{function_name}'. {nearest(function_name, known)}".rstrip()
        )
    return function


def _report_import(name: str, module: str, error: Exception) -> UserError:
    return UserError(
        f"dataset.name: '{name}': importing {module} fails ({describe_error(error)}; {find_place(error)})."
    )


def _choose_arguments(function: Callable[..., Any], offered: dict[str, Any]) -> dict[str, Any]:
    """Of what is offered, the arguments that the function has."""
    try:
        taken = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of C
        return {}
    names = {each.name for each in taken if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    every = any(each.kind == each.VAR_KEYWORD for each in taken)
    return {key: value for key, value in offered.items() if every or key in names}


# ------------------------------------------------------------------------------------------------------------- a file


def read_safely(path: Path) -> Any:
    """The content of a file of tensors and PyG's graphs, by PyTorch's safe unpickler: nothing in it can run.

    Args:
        path (Path): The file.

    Raises:
        UserError: If it cannot be read so.
    """
    know_storages()
    try:
        with warnings.catch_warnings():  # PyTorch's word on a pickle that it then refuses, as the message says
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn file can raise nearly anything
        raise UserError(
            f"dataset.name: {path} cannot be read ({describe_error(error)}). It must hold tensors in PyG's own graphs: write it "
            "with torch.save(data, path), or InMemoryDataset.save(graphs, path)."
        ) from error


def load_file(path: Path) -> InMemoryDataset:
    """What PyG saved: ``torch.save(data, path)`` of a graph or a list of them, or ``InMemoryDataset.save(graphs, path)``.

    Args:
        path (Path): The file.

    Raises:
        UserError: If it cannot be read, or holds something else.
    """
    content = read_safely(path)
    if isinstance(content, tuple) and len(content) in (2, 3) and isinstance(content[0], (Data, dict)):
        values, slices = content[:2]
        dataset = InMemoryDataset()
        dataset.data = values if isinstance(values, Data) else Data.from_dict(values)
        dataset.slices = slices
        return dataset
    return make_dataset(content, f"dataset.name: {path} holds")


def make_dataset(found: Any, text: str) -> InMemoryDataset:
    """A data set of a graph, a list of them, or a data set.

    Args:
        found: What came.
        text (str): The beginning of the message where that is something else.

    Raises:
        UserError: If it is something else, or empty.
    """
    if isinstance(found, InMemoryDataset):
        if len(found) == 0:
            raise UserError(f"{text} a data set without any graph.")
        return found
    graphs = (
        [found] if isinstance(found, (Data, HeteroData)) else list(found) if isinstance(found, (list, tuple)) else []
    )
    other = next((each for each in graphs if not isinstance(each, (Data, HeteroData))), None)
    if other is not None:
        raise UserError(f"{text} a {type(found).__name__} with a {type(other).__name__} in it. {ALLOWED}")
    if not graphs:
        what = f"an empty {type(found).__name__}" if isinstance(found, (list, tuple)) else f"a {type(found).__name__}"
        shown = "" if isinstance(found, (dict, torch.Tensor)) else f" ({quote(found)})"  # numbers would fill the screen
        raise UserError(f"{text} {what}{shown}. {ALLOWED}")
    if any(graph.num_nodes is None for graph in graphs):
        raise UserError(f"{text} a graph whose number of nodes is unknown. Give it x, or num_nodes.")
    keys = [set(graph.keys()) for graph in graphs]
    for number, these in enumerate(keys):
        if these != keys[0]:
            odd = ", ".join(sorted(these ^ keys[0]))
            raise UserError(
                f"{text} graphs of different kinds: graphs 0 and {number} do not both have {odd}. Give all the same."
            )
    for graph in graphs:
        require_shape(graph, text, cfg.dataset.task == "node" and len(graphs) == 1)
    try:
        return OwnData(graphs)
    except Exception as error:  # tensors of unlike shapes
        raise UserError(f"{text} graphs that do not fit together ({describe_error(error)}).") from error
