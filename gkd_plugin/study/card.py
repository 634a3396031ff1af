"""``gkd card``: what the student of a run costs, beside its teacher, measured in turns."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from torch_geometric.data import Data

from gkd_plugin.commands.report import Paired
from gkd_plugin.commands.results import load_student
from gkd_plugin.deploy.chosen import Chosen, choose_seed, read_folder
from gkd_plugin.deploy.cost import Timing, Work, count_bytes, count_work, measure_peak, time_in_turns
from gkd_plugin.deploy.graphs import choose_graph, read_graphs
from gkd_plugin.deploy.reach import Reach, find_hops, measure_neighbourhoods
from gkd_plugin.errors import UserError, describe_error
from gkd_plugin.models.sample import infer_task
from gkd_plugin.models.trained import TrainedStudent
from gkd_plugin.printing import Printable
from gkd_plugin.study.front import StudyCard, make_study_card
from gkd_plugin.study.run_files import is_run
from gkd_plugin.study.statistics import Spread
from gkd_plugin.training.metrics import PERCENT
from gkd_plugin.training.result import RESULT, replace_nan
from gkd_plugin.training.run_folder import is_seed
from gkd_plugin.training.teachers.search import find_folder, list_places

SAMPLE = 100  # test nodes whose neighbourhoods are measured


@dataclass(frozen=True)
class ModelCost:
    """What one network costs, and how good it is.

    Args:
        name (str): Its run.
        tests (dict): The test score by seed, as its run recorded it.
        parameters, bytes (int): Numbers that were learned; memory of all that it keeps.
        work (Work): Multiply-adds of one pass over the whole graph.
        latency (dict): Time of one pass over the whole graph, by device.
        node_latency (dict): Time of one answer, given the node's neighbourhood, by device; empty where there is none.
        peak (dict): Memory of one pass over the whole graph beside weights and graph, in bytes, by device.
        reach (Reach, optional): What one answer reads.
    """

    name: str
    tests: dict[int, float]
    parameters: int
    bytes: int
    work: Work
    latency: dict[str, Timing]
    node_latency: dict[str, Timing]
    peak: dict[str, int]
    reach: Reach | None


@dataclass(frozen=True, repr=False)
class RunCard(Printable):
    """What ``gkd card RUN`` shows.

    Args:
        student (ModelCost): The student.
        teacher (ModelCost, optional): Its teacher.
        metric (str): The metric of the scores.
        graph (str): What one pass reads.
        threads (int): Threads on the CPU.
        notes (tuple of str): What was not measured, and why.
    """

    student: ModelCost
    teacher: ModelCost | None
    metric: str
    graph: str
    threads: int
    notes: tuple[str, ...]

    @property
    def compression(self) -> float:
        """How many times as many parameters the teacher has; NaN without one."""
        return self.teacher.parameters / self.student.parameters if self.teacher is not None else math.nan

    def speed_up(self, device: str = "cpu") -> float:
        """How many times as long the teacher takes for the whole graph; NaN without one."""
        if self.teacher is None:
            return math.nan
        return self.teacher.latency[device].median / self.student.latency[device].median

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--out`` writes them."""
        values = {**asdict(self), "compression": self.compression}
        values["speed_up"] = {device: self.speed_up(device) for device in self.student.latency}
        found: dict[str, Any] = replace_nan(values)
        return found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield escape(f"one pass over {self.graph}; CPU: {self.threads} thread{'s' if self.threads > 1 else ''}")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False)
        both = [self.student] if self.teacher is None else [self.student, self.teacher]
        for head in ("", *(escape(each.name) for each in both), *(["teacher / student"] if self.teacher else [])):
            table.add_column(head, overflow="fold")
        for row in self._list_rows(both):
            table.add_row(*map(escape, row))
        yield table
        yield (
            "multiply-adds: dense products whatever in them is 0; messages: numbers added up over edges. Times: median \\[quartiles] "
            "of passes in turns; of one node: given its neighbourhood, which is not cut out in that time"
        )
        for note in self.notes:
            yield escape(note)

    def _list_rows(self, both: list[ModelCost]) -> Iterable[list[str]]:
        scale, unit = (100.0, " %") if self.metric in PERCENT else (1.0, "")
        spreads = [Spread.of([value for value in each.tests.values() if value == value]) for each in both]
        texts = [_show_spread(spread, scale) for spread in spreads]
        if self.teacher is not None:
            shared = sorted(self.student.tests.keys() & self.teacher.tests.keys())
            gap = Paired.of([self.student.tests[s] for s in shared], [self.teacher.tests[s] for s in shared])
            texts.append(f"student - teacher: {gap.text(scale)}")
        yield [f"test {self.metric}{unit} [95 %]", *texts]

        def row(name: str, values: list[float | None], texts: list[str]) -> list[str]:
            if len(values) < 2:
                return [name, *texts]
            ours, theirs = values
            return [name, *texts, f"{theirs / ours:.2f}" if ours and theirs is not None else "-"]

        def plain(name: str, values: list[int]) -> list[str]:
            return row(name, [*values], [f"{value:,}" for value in values])

        yield plain("parameters", [each.parameters for each in both])
        yield plain("bytes of weights", [each.bytes for each in both])
        yield plain("multiply-adds, dense", [each.work.dense for each in both])
        yield plain("multiply-adds, messages", [each.work.messages for each in both])
        for device in self.student.latency:
            times = [each.latency[device] for each in both]
            yield row(f"time, {device}", [time.median for time in times], [_show_time(time) for time in times])
            if all(device in each.node_latency for each in both):
                times = [each.node_latency[device] for each in both]
                yield row(
                    f"time of one node, {device}", [time.median for time in times], [_show_time(time) for time in times]
                )
            yield plain(f"peak memory, {device}, bytes", [each.peak[device] for each in both])
        reaches = [each.reach for each in both]
        if any(reaches):
            yield ["hops that one answer reads", *(_show_hops(reach) for reach in reaches)]
            count = max(reach.count for reach in reaches if reach is not None)
            for part in ("nodes", "edges"):
                sizes = [getattr(reach, part) if reach is not None else None for reach in reaches]
                texts = [f"{size[0]:,.0f} / {size[1]:,.0f}" if size is not None else "all" for size in sizes]
                yield row(
                    f"{part} of these, median / 95 % of {count}",
                    [size[0] if size is not None else None for size in sizes],
                    texts,
                )


def make_card(folder: str | Path, teacher: str | None = None, seed: int | None = None) -> RunCard | StudyCard:
    """Measures the student of a finished run beside its teacher; or the runs of a study beside one another.

    Args:
        folder (str or Path): A run's folder or one seed's; or a study's.
        teacher (str, optional): A run's folder or name, as ``kd.teacher`` has it. (default: the run's own teacher)
        seed (int, optional): The number of a seed's folder. (default: the best by validation)

    Returns:
        RunCard or StudyCard: Prints as a table.

    Raises:
        UserError: If the run is not finished, its data or parts are not there, or there is no such teacher.
    """
    path = read_folder(folder)
    if not path.is_dir() or is_run(path) or is_seed(path):
        return _make_run_card(choose_seed(path, seed), teacher)
    if teacher is not None or seed is not None:
        raise UserError(
            f"{path} is not the folder of a run: --teacher and --seed belong to one run. Name it, or leave them out."
        )
    return make_study_card(path)


def write_numbers(card: RunCard | StudyCard, out: str | Path) -> None:
    """Writes the numbers of a card as JSON.

    Args:
        card (RunCard or StudyCard): The card.
        out (str or Path): A file that is not there.

    Raises:
        UserError: If it is there, or cannot be written.
    """
    path = Path(out).expanduser()
    try:
        with path.open("x") as file:
            file.write(json.dumps(card.as_dict(), indent=1) + "\n")
    except FileExistsError:
        raise UserError(f"--out: {path} is there already. Nothing is overwritten: name another file.") from None
    except OSError as error:
        raise UserError(f"--out: {path} cannot be written ({error.strerror}). Name another file.") from None


def _make_run_card(chosen: Chosen, named: str | None) -> RunCard:
    student = load_student(chosen.folder)
    graphs = read_graphs(student.kd_cfg, chosen.result.seed, chosen.run)
    level = infer_task(student.kd_cfg).level
    graph, text = choose_graph(graphs, level)
    notes: list[str] = []
    students, runs = {"student": student}, {"student": chosen}
    taught = _find_teacher(chosen, named, notes)
    if taught is not None:
        teacher = load_student(taught.folder)
        try:
            with torch.no_grad():
                teacher(graph)
        except Exception as error:  # networks may raise anything on a graph that is not theirs
            raise UserError(
                f"--teacher: {taught.run.name} does not run on the data of {chosen.run.name} ({describe_error(error)}). Name a "
                "teacher that was trained on them."
            ) from None
        students["teacher"], runs["teacher"] = teacher, taught
    costs = _measure(students, graph, level, notes)
    alike = len({each.run.name for each in runs.values()}) < len(runs)
    made = {
        name: ModelCost(
            "/".join(runs[name].run.parts[-2:]) if alike else runs[name].run.name,
            dict(zip((result.seed for result in runs[name].results), runs[name].tests(), strict=True)),
            sum(value.numel() for value in module.parameters()),
            count_bytes(module),
            **costs[name],
        )
        for name, module in students.items()
    }
    return RunCard(
        made["student"], made.get("teacher"), chosen.result.metric, text, torch.get_num_threads(), tuple(notes)
    )


def _measure(
    students: dict[str, TrainedStudent], graph: Data, level: str, notes: list[str]
) -> dict[str, dict[str, Any]]:
    nodes = _sample_nodes(graph) if level == "node" else []
    hops: dict[str, tuple[int, bool]] = {}
    costs: dict[str, dict[str, Any]] = {}
    for name, student in students.items():
        work = count_work(partial(student, graph))
        costs[name] = {"work": work, "latency": {}, "node_latency": {}, "peak": {}, "reach": None}
        found = find_hops(student, graph, nodes) if nodes else None
        if found is not None:
            hops[name] = found
        elif nodes:
            notes.append(f"{name}: no neighbourhood gives the answers of the whole graph, all of which is read")
    for label in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        device = torch.device(label)
        there = copy.copy(graph).to(device)
        calls = {name: partial(student.to(device), there) for name, student in students.items()}
        for name, timing in time_in_turns(calls, device).items():
            costs[name]["latency"][label] = timing
            costs[name]["peak"][label] = measure_peak(calls[name], device)
        if hops:
            times, reaches = measure_neighbourhoods({name: students[name] for name in hops}, hops, graph, nodes, device)
            for name, timing in times.items():
                costs[name]["node_latency"][label], costs[name]["reach"] = timing, reaches[name]
    for student in students.values():
        student.cpu()
    if not torch.cuda.is_available():
        notes.append("no GPU here: measured on the CPU alone")
    return costs


def _sample_nodes(graph: Data) -> list[int]:
    """Some test nodes, by a fixed draw."""
    mask = graph.get("test_mask")
    nodes = (
        mask.nonzero().view(-1)
        if isinstance(mask, torch.Tensor) and bool(mask.any())
        else torch.arange(graph.num_nodes)
    )
    order = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(0))[:SAMPLE]
    found: list[int] = nodes[order].tolist()
    return found


def _find_teacher(chosen: Chosen, named: str | None, notes: list[str]) -> Chosen | None:
    """The teacher's seed folder of the same number, or its best one; a note where the run's own cannot be measured."""
    name = named or chosen.result.teacher.get("name")
    if not name:
        notes.append("no teacher: --teacher NAME measures one beside it")
        return None
    if named is None and "class" in chosen.result.teacher:
        notes.append(
            f"its teacher, {chosen.result.teacher_name}, was not measured: it is not a run. --teacher NAME measures one beside it"
        )
        return None
    try:
        found = Path(name) if named and Path(name).is_dir() else find_folder(str(name), chosen.run)
        if found is None:
            raise UserError(f"there is no run '{name}'. Searched: {', '.join(map(str, list_places(chosen.run)))}.")
        if found.is_file():
            raise UserError(f"{found} holds logits and no network")
        same = (found / chosen.folder.name / RESULT).is_file()
        return choose_seed(found, int(chosen.folder.name) if same else None)
    except UserError as error:
        if named:
            raise UserError(f"--teacher: {str(error).removeprefix('kd.teacher: ')}") from None
        notes.append(f"its teacher '{name}' was not measured: {str(error).removeprefix('kd.teacher: ')}")
        return None


def _show_spread(spread: Spread, scale: float) -> str:
    if not spread.count:
        return "-"
    seeds = f"({spread.count} seed{'s' if spread.count > 1 else ''})"
    if spread.low != spread.low:
        return f"{spread.mean * scale:.2f} {seeds}"
    return f"{spread.mean * scale:.2f} [{spread.low * scale:.2f}, {spread.high * scale:.2f}] {seeds}"


def _show_time(time: Timing) -> str:
    return f"{time.median * 1e3:.3g} ms [{time.low * 1e3:.3g}, {time.high * 1e3:.3g}]"


def _show_hops(reach: Reach | None) -> str:
    if reach is None:
        return "all"
    return f"{reach.hops} (with degrees at the rim)" if reach.rim else str(reach.hops)
