"""A student as one ``torch.export`` program for graphs of any size, compared with the student itself."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from gkd_plugin.errors import describe_error
from gkd_plugin.models.trained import TrainedStudent

TOLERANCE = 1e-4  # of the largest logit: other orders of the same sums


class NotExportable(Exception):
    """Why a network has no program; the part of it that is to blame is named."""


@dataclass(frozen=True)
class Checked:
    """How a program compares with the student on a graph of another size than the one it was traced on.

    Args:
        nodes, edges (int): The size of that graph.
        difference (float): The largest difference of a logit.
    """

    nodes: int
    edges: int
    difference: float


class Positional(nn.Module):
    """A student that takes what it reads of a graph one after another; this is what is traced.

    Args:
        student (TrainedStudent): The student.
        names (sequence of str): What it reads, in the order of the arguments.
    """

    def __init__(self, student: TrainedStudent, names: Sequence[str]) -> None:
        super().__init__()
        self.student, self.names = copy.deepcopy(student), tuple(names[2:])
        for module in self.student.modules():
            if callable(pooling := getattr(module, "pooling_fun", None)):
                vars(module)["pooling_fun"] = _count_graphs(pooling)

    def forward(self, x: Tensor, edge_index: Tensor, *further: Tensor) -> Tensor:
        out: Tensor = self.student(x, edge_index, **dict(zip(self.names, further, strict=True)))
        return out


def _count_graphs(pooling: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """PyG's pooling counts the graphs by ``int(...)``, which would fix their number."""
    return lambda x, batch: pooling(x, batch, batch.max().item() + 1)


def export_program(student: TrainedStudent, names: Sequence[str], graph: Data) -> Any:
    """The program of a student with any number of nodes, edges, graphs and pairs.

    Args:
        student (TrainedStudent): The student.
        names (sequence of str): What it reads of a graph, in the order of the program's arguments.
        graph (Data): An example.

    Raises:
        NotExportable: If a part of it cannot be traced, or torch is too old.
    """
    if not hasattr(torch.export.Dim, "DYNAMIC"):
        raise NotExportable(f"torch {torch.__version__} cannot leave the size of a graph open (2.6 can)")
    if graph.x is None:
        raise NotExportable("the data have no x, and a program is called with x and edge_index")
    traced = Positional(student, names).eval().requires_grad_(False)
    shapes = [{1 if name.endswith("_index") else 0: torch.export.Dim.DYNAMIC} for name in names]
    arguments = tuple(graph[name] for name in names)
    with torch.no_grad(), quiet(), _watching(traced.student) as inside:
        try:
            found = torch.export.export(
                traced,
                arguments,
                dynamic_shapes=(*shapes[:2], *([tuple(shapes[2:])] if shapes[2:] else [])),
                strict=False,
            )
        except Exception as error:  # torch has a class of its own for each reason, and a network may raise anything
            where = f"in {inside[-1]}: " if inside else ""
            raise NotExportable(f"{where}{describe_error(error)}") from error
    return found


def check_program(path: Path, student: TrainedStudent, names: Sequence[str], graph: Data) -> Checked:
    """Reads a program's file as a user would, and compares its logits with the student's.

    Args:
        path (Path): The file.
        student (TrainedStudent): The student.
        names (sequence of str): The program's arguments.
        graph (Data): A graph of another size than that of the trace.

    Raises:
        NotExportable: If it does not run there, or the logits differ.
    """
    arguments = [graph[name] for name in names]
    with torch.no_grad(), quiet():
        try:
            found = torch.export.load(path).module()(*arguments)
        except Exception as error:
            raise NotExportable(f"the program fails on a graph of another size: {describe_error(error)}") from error
    return compare(found, student, names, graph)


def compare(found: Tensor, student: TrainedStudent, names: Sequence[str], graph: Data) -> Checked:
    """How far logits are from the student's own.

    Raises:
        NotExportable: If they are not the same numbers.
    """
    with torch.no_grad():
        expected = student(*(graph[name] for name in names[:2]), **{name: graph[name] for name in names[2:]})
    if found.shape != expected.shape:
        raise NotExportable(
            f"it gives {list(found.shape)} logits on a graph of another size, the student {list(expected.shape)}"
        )
    found = found.detach()
    difference = float((found - expected).abs().max()) if expected.numel() else 0.0
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    if not difference <= TOLERANCE * max(1.0, largest):
        raise NotExportable(f"its logits differ from the student's by {difference:g} on a graph of another size")
    return Checked(int(graph.num_nodes), int(graph.num_edges), difference)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps back the pages that torch prints about what it cannot trace; one sentence of ours says it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _watching(student: TrainedStudent) -> Iterator[list[str]]:
    """The parts of the network that have begun and not ended: after an error the last is where it happened."""
    inside: list[str] = []
    handles = []
    for name, module in student.model.named_modules():
        label = f"{name} ({type(module).__name__})" if name else type(module).__name__

        def enter(_module: nn.Module, _args: Any, label: str = label) -> None:
            inside.append(label)

        def leave(_module: nn.Module, _args: Any, _out: Any) -> None:
            inside.pop()

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield inside
    finally:
        for handle in handles:
            handle.remove()
