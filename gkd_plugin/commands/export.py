"""``gkd export``: the selected student of a run alone, for machines that only use it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from torch_geometric.data import Data

from gkd_plugin.commands.results import load_student
from gkd_plugin.deploy.chosen import Chosen, choose_seed
from gkd_plugin.deploy.folder import CARD, CONFIG, ONNX, PROGRAM, WEIGHTS, load_safetensors, write_student, writing
from gkd_plugin.deploy.graphs import find_inputs, make_examples, read_graphs
from gkd_plugin.deploy.model_card import Contents, write_card
from gkd_plugin.deploy.onnx_file import write_onnx
from gkd_plugin.deploy.program import Checked, NotExportable, check_program, export_program
from gkd_plugin.errors import UserError
from gkd_plugin.models.sample import infer_task
from gkd_plugin.models.trained import TrainedStudent
from gkd_plugin.printing import Printable
from gkd_plugin.training.run_folder import PLAN


@dataclass(frozen=True, repr=False)
class Exported(Printable):
    """What ``gkd export`` wrote.

    Args:
        folder (Path): The folder.
        chosen (Chosen): The seed that was taken.
        contents (Contents): What is in the folder, and why something is not.
    """

    folder: Path
    chosen: Chosen
    contents: Contents

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        result, score = self.chosen.result, self.chosen.score
        yield escape(
            f"student {self.chosen.number} of {self.chosen.run.name}, seed folder {self.chosen.folder.name}: "
            f"{self.contents.parameters:,} parameters, test {result.metric} {score.test:.4f}"
        )
        yield escape(f"  {WEIGHTS}, {CONFIG}, {CARD}")
        for name, note in self.contents.notes.items():
            yield escape(f"  {name}: {note}")
        yield f"written to {escape(str(self.folder))}"


def export(run: str | Path, out: str | Path, seed: int | None = None) -> Exported:
    """Writes the selected student of a finished run into a folder of its own: weights, configuration, model card, and where
    its operators allow it a ``torch.export`` program and an ONNX file.

    Args:
        run (str or Path): The run's folder, or that of one seed.
        out (str or Path): A folder that is not there, or empty.
        seed (int, optional): The number of a seed's folder. (default: the best by validation)

    Raises:
        UserError: If the run is not finished, its data or parts are not there, or ``out`` holds something.
    """
    load_safetensors()  # before the work, not after it
    chosen, place = choose_seed(run, seed), Path(out).expanduser()
    with writing(place) as folder:
        student = load_student(chosen.folder)
        graphs = read_graphs(student.kd_cfg, chosen.result.seed, chosen.run)
        write_student(folder, student)
        contents = _write_programs(folder, student, graphs)
        text = write_card(chosen, student.kd_cfg, _read_plan(chosen), graphs, contents)
        (folder / CARD).write_text(text, encoding="utf-8")
    return Exported(place, chosen, contents)


def _write_programs(folder: Path, student: TrainedStudent, graphs: list[Data]) -> Contents:
    level = infer_task(student.kd_cfg).level
    first, other = make_examples(graphs, level)
    names = find_inputs(student, other, level)
    notes: dict[str, str] = {}
    try:
        program = export_program(student, names, first)
        program.example_inputs = None  # a file that is handed on holds none of the data
        buffer = io.BytesIO()  # on a full disk torch itself would speak of its archive and not of the disk
        torch.export.save(program, buffer)
        (folder / PROGRAM).write_bytes(buffer.getbuffer())
        notes[PROGRAM] = _tell(check_program(folder / PROGRAM, student, names, other))
    except NotExportable as why:
        (folder / PROGRAM).unlink(missing_ok=True)
        notes[PROGRAM] = f"not written, {why}"
    else:
        try:
            notes[ONNX] = _tell(write_onnx(folder / ONNX, program, student, names, other))
        except NotExportable as why:
            notes[ONNX] = f"not written, {why}"
    there = tuple(name for name in (PROGRAM, ONNX) if (folder / name).is_file())
    kept = [*student.parameters(), *student.buffers()]
    parameters = sum(value.numel() for value in student.parameters())
    size = sum(value.numel() * value.element_size() for value in kept)
    return Contents(tuple(names), parameters, size, notes, there)


def _tell(found: Checked) -> str:
    return (
        f"checked on a graph of another size ({found.nodes:,} nodes, {found.edges:,} edges): logits equal the student's up to "
        f"{found.difference:.1g}"
    )


def _read_plan(chosen: Chosen) -> dict[str, Any]:
    """The plan lies in the run's folder, or in the seed's where a host program trained it."""
    path = next((path for path in (chosen.folder / PLAN, chosen.run / PLAN) if path.is_file()), None)
    try:
        plan = yaml.safe_load(path.read_text()) if path is not None else {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}). The run is damaged.") from None
    return plan if isinstance(plan, dict) else {}
