"""``gkd data``: what a data set is, and which there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from yacs.config import CfgNode

from gkd_plugin.config.load import read_config
from gkd_plugin.data.keep import keep_data
from gkd_plugin.data.keys import SPLITS
from gkd_plugin.data.load import load, load_whole
from gkd_plugin.data.names import DATA_SETS, find_folder, find_name
from gkd_plugin.data.own import ask_once
from gkd_plugin.data.summary import DataSummary, Labels, summarize
from gkd_plugin.errors import UserError
from gkd_plugin.printing import Printable

FOLDER = "./datasets"  # the host's default
MOST_CLASSES = 12  # that are counted one by one in a line


@dataclass(frozen=True)
class NamedData:
    """One line of the list.

    Args:
        section (str): What kind of data it is.
        name (str): ``dataset.name``.
        how (str): How to get it.
    """

    section: str
    name: str
    how: str


@dataclass(frozen=True, repr=False)
class DataListing(Printable):
    """What ``gkd data`` shows; ``rows`` for programs, text for people.

    Args:
        folder (str): ``dataset.dir``.
        rows (tuple of NamedData): All names.
    """

    folder: str
    rows: tuple[NamedData, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield f"Names under dataset.format: gkd, and what lies in {escape(self.folder)}. One of them: gkd data NAME"
        width = max(len(row.name) for row in self.rows)
        for section in dict.fromkeys(row.section for row in self.rows):
            yield ""
            yield f"[bold]{escape(section)}[/]"
            grid = Table.grid(padding=(0, 2))
            grid.add_column(min_width=width, style="cyan", no_wrap=True)
            grid.add_column(overflow="fold")
            for row in self.rows:
                if row.section == section:
                    grid.add_row(escape(row.name), escape(row.how))
            yield Padding(grid, (0, 0, 0, 2))


@dataclass(frozen=True, repr=False)
class DataDescription(Printable):
    """What ``gkd data NAME`` shows.

    Args:
        name (str): ``dataset.name``.
        place (str): Where its files lie.
        summary (DataSummary): Its counts.
        keys (dict): The group ``dataset`` for a configuration.
        splits (dict): The group ``splits``, as it was written.
        notes (tuple of str): What a run would say of them.
        refusal (str, optional): Why a run with these keys would refuse it.
    """

    name: str
    place: str
    summary: DataSummary
    keys: dict[str, Any]
    splits: dict[str, Any]
    notes: tuple[str, ...]
    refusal: str | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield f"[bold]{escape(self.name)}[/]  {escape(self.place)}"
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        for word, text in _describe(self.summary):
            grid.add_row(word, escape(text))
        for note in self.notes:
            grid.add_row("note", escape(note))
        grid.add_row("to use it", escape(f"dataset: {_write(self.keys)}"))
        if self.splits:
            grid.add_row("", escape(f"splits: {_write(self.splits)}"))
        if self.summary.by_type:
            grid.add_row("", escape(f"model: {{type: {_choose_network(self.summary)}}}"))
        yield Padding(grid, (0, 0, 0, 2))
        if self.refusal:
            yield f"[bold red]a run would refuse it:[/] {escape(self.refusal)}"


def describe_data(
    name: str | None = None, dir: str = FOLDER, overrides: Sequence[Any] = ()
) -> DataDescription | DataListing:
    """What a data set is, as a run would read it; it is downloaded and prepared where it is not there.

    Args:
        name (str, optional): ``dataset.name``; or a GraphGym YAML, whose data set is meant. (default: a list of all names)
        dir (str): ``dataset.dir``. A YAML has its own. (default: the host's)
        overrides (sequence): ``key value`` pairs, such as ``dataset.format PyG`` or ``splits.kind random``.

    Raises:
        UserError: If there is no such data set, or it cannot be read.
    """
    if name is None:
        return DataListing(dir, tuple(_list_names(dir)))
    is_file = name.endswith((".yaml", ".yml"))
    if is_file:
        config = read_config(name, overrides)
    else:
        known = DATA_SETS.get(find_name(name))
        task = known.task if known is not None else "graph" if name.startswith("TU_") else "node"
        values = {"dataset": {"format": "gkd", "name": name, "dir": dir, "task": task}}
        config = read_config(values, overrides)
    own = config.cfg.clone()
    with keep_data(), ask_once():
        dataset = load_whole(own)
        summary = summarize(dataset)
        if not is_file and summary.labels is not None:
            _fit_task(own, summary.labels, overrides)
            if summary.by_type and "model.type" not in [str(word) for word in overrides[::2]]:
                own.model.type = _choose_network(summary)
        refusal = _find_refusal(own)
    keys = {key: str(own.dataset[key]) for key in ("format", "name", "dir", "task", "task_type")}
    written = config.values.get("dataset") or {}
    keys |= {key: value for key, value in written.items() if key not in keys}
    splits = dict(config.values.get(SPLITS) or {})
    notes = tuple(getattr(dataset, "gkd_notes", ()))
    return DataDescription(keys["name"], _find_place(own), summary, keys, splits, notes, refusal)


def _write(group: dict[str, Any]) -> str:
    """A group of keys as YAML has it, in one line."""
    return str(
        yaml.safe_dump(group, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True)
    ).strip()


def _fit_task(own: CfgNode, labels: Labels, overrides: Sequence[Any]) -> None:
    """The task for which the labels are made, where the user has not named another."""
    known, words = DATA_SETS.get(own.dataset.name), [str(word) for word in overrides[::2]]
    if "dataset.task" not in words and known is None:
        own.dataset.task = labels.task
    if "dataset.task_type" not in words:
        own.dataset.task_type = labels.task_type if known is None else known.task_type


def _choose_network(summary: DataSummary) -> str:
    """A network that reads features by type."""
    return "rgcn" if summary.edge_types else "gcn"


def _find_refusal(own: CfgNode) -> str | None:
    try:
        load(own)
    except UserError as error:
        return str(error)
    return None


def _find_place(own: CfgNode) -> str:
    folder = find_folder(own.dataset.name, own.dataset.dir)
    return f"in {folder}" if folder.exists() else "made without files"


# ------------------------------------------------------------------------------------------------------------- the list


def _list_names(folder: str) -> Iterator[NamedData]:
    for group in dict.fromkeys(known.group for known in DATA_SETS.values()):
        for name, known in DATA_SETS.items():
            if known.group == group:
                yield NamedData(group, name, _tell_how(name, folder))
    here = sorted(path.name for path in Path(folder).glob("TU_*") if path.is_dir())
    yield from (NamedData("TU Dortmund's collection (dataset.task: graph)", name, f"in {folder}") for name in here)
    yield NamedData("TU Dortmund's collection (dataset.task: graph)", "TU_<name>", "downloads")
    yield NamedData("without a download", "digits, digits_k<n>", "made from scikit-learn's images")


def _tell_how(name: str, folder: str) -> str:
    known, place = DATA_SETS[name], find_folder(name, folder)
    package = known.find_missing(place)
    if package is not None:
        return f"needs pip install {package}"
    return f"in {folder}" if _has_files(place) else "downloads"


def _has_files(place: Path) -> bool:
    return any(path.is_file() for kind in ("raw", "processed") for path in place.rglob(f"{kind}/*"))


# ------------------------------------------------------------------------------------------------------ the description


def _describe(summary: DataSummary) -> Iterator[tuple[str, str]]:
    each = "" if summary.graphs == 1 else " ({:.1f} a graph)"
    yield "graphs", f"{summary.graphs:,}"
    yield "nodes", f"{summary.nodes:,}{each.format(summary.nodes / summary.graphs)}"
    direction = "both directions of each" if summary.undirected else "directed"
    types = f", {summary.edge_types} types" if summary.edge_types else ""
    yield (
        "edges",
        f"{summary.edges:,}{each.format(summary.edges / summary.graphs)}, {direction if summary.edges else 'none'}{types}"
        + _describe_messages(summary),
    )
    yield (
        "of these",
        f"{summary.self_loops:,} self-loops, {summary.repeated_edges:,} repeated; {summary.isolated_nodes:,} isolated nodes",
    )
    yield "features", _describe_features(summary)
    yield "labels", _describe_labels(summary)
    if summary.homophily is not None:
        yield "edge homophily", f"{summary.homophily:.3f} (share of edges between nodes of one class)"
    yield "splits", _describe_splits(summary)
    if summary.held_out:
        kept = f"{summary.seen_edges:,} of {summary.edges:,} edges"
        yield (
            "held out",
            f"{summary.held_out:,} test nodes, and their edges, come for the test only: training sees {kept}",
        )
    for part, classes in summary.absent.items():
        word = "class" if len(classes) == 1 else "classes"
        yield "absent", f"{word} {', '.join(map(str, classes))} in the {part} split"


def _describe_messages(summary: DataSummary) -> str:
    """Along which edges messages pass, where nodes' pairs are predicted."""
    if not summary.pairs:
        return ""
    if not summary.along_training:
        return "; messages pass along these alone"
    linked = sum(count for count, _ in summary.pairs.values())
    return f"; messages pass along these alone: the {summary.pairs['train'][0]:,} training pairs of {linked:,} linked pairs"


def _describe_features(summary: DataSummary) -> str:
    if any(width for _, width in summary.by_type):
        parts = [f"{width:,} of {count:,} nodes" if width else f"none of {count:,}" for count, width in summary.by_type]
        return f"by type of node: {', '.join(parts)}"
    if not summary.features:
        return "none"
    text = f"{summary.features:,} of type {summary.feature_type}, {summary.nonzero:.1%} not 0"
    if summary.repeated_rows:
        text += f"; {summary.repeated_rows:,} nodes have the features of one before them"
    return text + (f"; {summary.bad_features:,} are NaN or infinite" if summary.bad_features else "")


def _describe_labels(summary: DataSummary) -> str:
    if summary.pairs:
        return "linked (1) or not (0), for each pair of nodes"
    labels = summary.labels
    if labels is None:
        return "none"
    item = labels.task
    if summary.predicted is not None:
        item = f"of the {summary.predicted:,} nodes that are predicted, of {summary.nodes:,}"
    kinds = {
        "classification": f"one of {labels.width} classes for each {item}",
        "classification_multilabel": f"{labels.width} labels (yes or no) for each {item}",
        "regression": f"{labels.width} number{'s' if labels.width > 1 else ''} for each {item}",
    }
    text = kinds[labels.task_type]
    if labels.counts:
        shown = ", ".join(f"{count:,}" for count in labels.counts[:MOST_CLASSES])
        text += (
            f": {shown}"
            if len(labels.counts) <= MOST_CLASSES
            else f": {min(labels.counts):,} to {max(labels.counts):,}"
        )
        text += " items" if labels.task_type == "classification" else " items with it"
    return text + (f"; {labels.missing:,} missing" if labels.missing else "")


def _describe_splits(summary: DataSummary) -> str:
    if summary.pairs:
        parts = ", ".join(f"{part} {linked:,} and {others:,}" for part, (linked, others) in summary.pairs.items())
        return f"{parts} pairs, linked and not"
    if not summary.splits:
        return "none"
    things = "graphs" if summary.split_graphs else "nodes" if summary.predicted is None else "predicted nodes"
    total = summary.graphs if summary.split_graphs else summary.predicted or summary.nodes
    rest = total - sum(summary.splits.values())
    text = ", ".join(f"{part} {count:,}" for part, count in summary.splits.items())
    return f"{text} {things}" + (f"; {rest:,} in none" if rest > 0 else "")
