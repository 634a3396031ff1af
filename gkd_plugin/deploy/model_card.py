"""The model card of an exported student, in Markdown: what it is, and what its scores do and do not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from torch_geometric.data import Data
from yacs.config import CfgNode

from gkd_plugin.data.handed import NAME, WORDS
from gkd_plugin.data.keys import SPLITS
from gkd_plugin.deploy.chosen import Chosen
from gkd_plugin.deploy.folder import CONFIG, ONNX, PROGRAM, WEIGHTS
from gkd_plugin.models.networks import GROUP, NETWORKS
from gkd_plugin.training.run_folder import list_active_terms

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Contents:
    """What an exported folder holds.

    Args:
        inputs (tuple of str): What the network reads of a graph, in the order of the program's arguments.
        parameters, bytes (int): Numbers that were learned; memory of all that it keeps.
        notes (dict): For the program and the ONNX file how each was checked, or why it is not there.
        there (tuple of str): Those of the two that are there.
    """

    inputs: tuple[str, ...]
    parameters: int
    bytes: int
    notes: dict[str, str]
    there: tuple[str, ...]


def write_card(chosen: Chosen, own: CfgNode, plan: dict[str, Any], graphs: Sequence[Data], contents: Contents) -> str:
    """The text of the card.

    Args:
        chosen (Chosen): The seed, and its run.
        own (CfgNode): The student's configuration.
        plan (dict): The run's plan, as its ``plan.yaml`` has it.
        graphs (sequence of Data): The data it was tested on.
        contents (Contents): What is in the folder.
    """
    sections = [
        f"# {chosen.run.name}\n\n{_describe(own)}",
        _list_facts(chosen, own, graphs, contents),
        _tell_scores(chosen),
        _tell_teacher(chosen, plan),
        _tell_loading(contents),
        "## What it is not\n\n"
        f"It was selected and tested on {_name_data(own)} only. Nothing is known of other data, of nodes whose features are made "
        "in another way, or of groups of people that the data leave out. The scores above do not say how sure single answers are.",
        "## Licence\n\nNone is set here. The weights are yours to license; the terms of the data they were trained on may bind you.",
    ]
    return "\n\n".join(sections) + "\n"


def _describe(own: CfgNode) -> str:
    kinds = {
        "node": "every node of a graph",
        "graph": "a whole graph",
        "edge": "a pair of nodes",
        "link_pred": "a pair of nodes",
    }
    what = {"regression": "numbers"}.get(str(own.dataset.task_type), "logits")
    return f"A small graph network that gives {what} for {kinds.get(own.dataset.task, own.dataset.task)}, exported by gkd_plugin."


def _list_facts(chosen: Chosen, own: CfgNode, graphs: Sequence[Data], contents: Contents) -> str:
    kind = f"{own.gnn.layer_type}, " if own.model.type == "gnn" else ""
    nodes, edges = (
        sum(int(count) for count in counts)
        for counts in zip(*((g.num_nodes, g.num_edges) for g in graphs), strict=True)
    )
    data = _name_data(own, f" (`dataset.format: {own.dataset.format}`)")
    several = f"{len(graphs):,} test graphs, " if len(graphs) > 1 else ""
    rows = {
        "network": f"`model.type: {own.model.type}` ({kind}`gnn.layers_mp: {own.gnn.layers_mp}`, `gnn.dim_inner: {own.gnn.dim_inner}`); all keys: `{CONFIG}`",
        "task": f"{own.dataset.task}, {own.dataset.task_type}, {_tell_outputs(own)}",
        "data": f"{data}: {several}{nodes:,} nodes, {edges:,} edges",
        "arguments": ", ".join(f"`{name}`" for name in contents.inputs)
        + (f"; `x` has {own.share.dim_in} columns" if "x" in contents.inputs else ""),
        **_tell_conditions(own),
        "size": f"{contents.parameters:,} parameters, {contents.bytes:,} bytes",
        "from": f"run {chosen.run.name}, seed folder {chosen.folder.name} (seed {chosen.result.seed}), student {chosen.number} of "
        f"{len(chosen.result.parameters)}, epoch {chosen.score.epoch:g} of {chosen.result.epochs}",
    }
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items())


def _tell_conditions(own: CfgNode) -> dict[str, str]:
    """What was done to the data before the network saw them, and what its answers depend on beside weights and input."""
    found = {}
    if (own.get(SPLITS) or {}).get("row_normalize"):
        found["prepare"] = (
            "**divide each row of `x` by its sum first, as in training (`splits.row_normalize`); the network does not**: "
            "`sums = x.sum(1, keepdim=True)`, `x = x / sums.where(sums > 0, 1)`"
        )
    if own.gnn.batchnorm and (own.get(GROUP) or {}).get("batchnorm") == "plain" and own.model.type in NETWORKS:
        found["depends on"] = (
            "all nodes that are given at once: `gkd_model.batchnorm: plain` takes mean and variance of these, and needs two "
            "nodes at least"
        )
    return found


def _tell_outputs(own: CfgNode) -> str:
    count = int(own.share.dim_out)
    if count <= 2 and own.dataset.task_type == "classification":  # the host makes one logit of two classes
        return "1 output: the logit of class 1 of the two classes (above 0: class 1)"
    return f"{count} output{'s' if count > 1 else ''}"


def _name_data(own: CfgNode, more: str = "") -> str:
    return WORDS if own.dataset.name == NAME else f"{own.dataset.name}{more}"


def _tell_scores(chosen: Chosen) -> str:
    score, metric, tests = chosen.score, chosen.result.metric, chosen.tests()
    how = (
        "named by hand"
        if chosen.named
        else f"the best of {len(tests)} by validation"
        if len(tests) > 1
        else "the only one"
    )
    lines = [
        f"| {metric} | validation | test |\n| --- | --- | --- |",
        f"| this student (seed folder {chosen.folder.name}, {how}) | {_show(score.val)} | {_show(score.test)} |",
    ]
    if len(tests) > 1:
        spread = f"{_show(float(np.mean(tests)))} ± {_show(float(np.std(tests, ddof=1)))}"
        lines.append(f"| mean ± standard deviation over {len(tests)} seeds | | {spread} |")
    text = "\n".join(lines)
    notes = ["The epoch was selected by validation; the test split was read once, at that epoch."]
    if len(tests) > 1 and not chosen.named:
        notes.append(
            "The seed was chosen by validation, too: as an estimate for new training runs take the mean over seeds."
        )
    if len(tests) == 1:
        notes.append("One seed says nothing about how other seeds vary.")
    if len(chosen.result.parameters) > 1:
        notes.append(
            f"It is one of {len(chosen.result.parameters)} students that were trained together. Picking the best of several by "
            "validation raises the score by itself."
        )
    if chosen.result.predict == "ensemble":
        own = (
            "this is its best single student, with the weights and the score of its own best epoch"
            if chosen.is_known
            else "this is its best single student, with its weights of the ensemble's epoch, at which its score is not known"
        )
        notes.append(f"The run answers as an ensemble (test {_show(chosen.result.answer.test)}); {own}.")
    return f"## Scores\n\n{text}\n\n" + " ".join(notes)


def _tell_teacher(chosen: Chosen, plan: dict[str, Any]) -> str:
    groups = list_active_terms(plan)
    preset = (plan.get("kd") or {}).get("preset")
    method = f"Method: `kd.preset: {preset}`." if preset else "Method: no preset."
    if groups:
        method += f" Terms with a weight: {', '.join(groups)}. What the plan says of them:"
    else:
        method += " No term has a weight: it was trained on labels alone."
    lines = []
    teacher = chosen.result.teacher
    if teacher:
        known = (
            [f"validation {teacher.get('metric', _UNKNOWN)} {_show(teacher['val'])}"] if _has(teacher, "val") else []
        )
        known += [f"test {chosen.result.metric} {_show(teacher['test'])}"] if _has(teacher, "test") else []
        lines.append(f"Teacher: {chosen.result.teacher_name or _UNKNOWN}; {', '.join(known) or 'score unknown'}.")
        if (share := chosen.result.agreement.get(f"s{chosen.number}")) is not None:
            lines.append(f"It decides as its teacher does on {100 * share:.1f} % of the test items.")
    elif groups:
        lines.append("No teacher: its terms have other sources.")
    shown = {key: value for key, value in plan.items() if key == "kd" or key in groups}
    text = f"\n\n```yaml\n{yaml.safe_dump(shown, sort_keys=False)}```" if groups else ""
    return "## Training\n\n" + " ".join([*lines, method]) + text


def _has(values: dict[str, Any], key: str) -> bool:
    return isinstance(values.get(key), float) and values[key] == values[key]


def _tell_loading(contents: Contents) -> str:
    arguments = ", ".join(contents.inputs)
    parts = [
        "## How to load it\n\nWith gkd_plugin, from "
        f'`{WEIGHTS}` and `{CONFIG}`:\n\n```python\nimport gkd_plugin\n\nstudent = gkd_plugin.load_student("THIS FOLDER")\n'
        "logits = student(data)  # a torch_geometric Data, or x, edge_index\n```"
    ]
    if PROGRAM in contents.there:
        parts.append(
            f"With torch alone, from `{PROGRAM}`, for any number of nodes and edges. Like a pickle, open such a file only if you "
            f'trust where it comes from:\n\n```python\nimport torch\n\nprogram = torch.export.load("{PROGRAM}").module()\n'
            f"logits = program({arguments})\n```"
        )
    if ONNX in contents.there:
        feeds = ", ".join(f'"{name}": {name}' for name in contents.inputs)
        parts.append(
            f"With onnxruntime, from `{ONNX}` (numpy arrays):\n\n```python\nimport onnxruntime\n\nsession = "
            f'onnxruntime.InferenceSession("{ONNX}")\n(logits,) = session.run(None, {{{feeds}}})\n```'
        )
    parts.append("\n".join(f"- `{name}`: {note}" for name, note in contents.notes.items()))
    return "\n\n".join(parts)


def _show(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"
