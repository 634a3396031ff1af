"""``gkd_plugin.distill``: from a trained model and its data to a small model, without a configuration."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gkd_plugin.commands.distill_student import ChosenStudent, choose_student
from gkd_plugin.commands.distilled import Distilled, say_arguments
from gkd_plugin.commands.report import RunReport
from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import ordinary_numbers, run
from gkd_plugin.config.files import merge
from gkd_plugin.config.host_keys import fresh
from gkd_plugin.data.handed import NAME, HandedData, handing, read_handed
from gkd_plugin.errors import RunFailed, UserError, nearest, quote
from gkd_plugin.models.own import (
    OwnNetwork,
    TwoLogits,
    find_cached,
    keeping_caches,
    offering,
)
from gkd_plugin.space import axes
from gkd_plugin.training.checkpoint import global_random_state, set_global_random_state
from gkd_plugin.training.run_folder import FAILED
from gkd_plugin.training.teachers.given import make_teacher

RUN = "student"
FIXED = {  # what an argument decides, by group or key
    "out_dir": "out=",
    "dataset": "data= and task=",
    "kd.teacher": "teacher=",
    "kd.preset": "preset=",
    "kd.layers": "layers=",
    "model.type": "student=",
    "gnn.layer_type": "student=",
    "gnn.dim_inner": "width=",
    "gnn.layers_mp": "depth=",
    "gnn.dropout": "dropout=",
    "optim.max_epoch": "epochs=",
    "optim.base_lr": "lr=",
    "optim.weight_decay": "weight_decay=",
    **dict.fromkeys(
        [f"splits.{key}" for key in ("kind", "train", "val", "largest_component", "row_normalize")],
        "data=: a split drawn anew would test on nodes that the teacher was trained on, and other nodes or features are not its own",
    ),
}
ELSEWHERE = {  # what PyG and others call our arguments
    **dict.fromkeys(("hidden", "hidden_dim", "hidden_channels", "dim", "dim_inner", "channels"), "width"),
    **dict.fromkeys(("num_layers", "n_layers", "layers_mp"), "depth"),
    **dict.fromkeys(("epoch", "num_epochs", "n_epochs", "max_epoch"), "epochs"),
    **dict.fromkeys(("learning_rate", "base_lr"), "lr"),
}


@ordinary_numbers()  # a caller may be measuring his model just now
def distill(
    teacher: nn.Module | Tensor | str | Path,
    data: Any,
    student: str | nn.Module = "gcn",
    preset: str = "soft_target",
    *,
    width: int | None = None,
    depth: int | None = None,
    dropout: float | None = None,
    epochs: int = 200,
    lr: float = 0.01,
    weight_decay: float = 0.0005,
    seeds: int = 1,
    control: bool = True,
    task: str | None = None,
    layers: str | None = None,
    teacher_layers: str | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    quiet: bool = False,
    **keys: Any,
) -> Distilled:
    """Trains a small network to do what a trained one does, beside the same small network without a teacher.

    It builds a configuration of its arguments and trains it as :func:`gkd_plugin.run` does. The teacher, the data, the global
    random streams and the number of threads are left as they were.

    Args:
        teacher (nn.Module or Tensor or Path): A trained module that maps ``(x, edge_index, ...)`` or a batch to logits of every
            item; or logits ``[N, C]`` by node; or a ``.npz`` or ``.safetensors`` file of them.
        data (Data or sequence or loaders): A graph with ``y``, ``train_mask``, ``val_mask`` and ``test_mask``; or the graphs of
            each split, as lists, data sets or loaders: ``(train, val, test)``. Loaders that sample one graph, each from
            ``input_nodes`` of its own, are that graph's splits; any other graph of a split belongs to it as a whole.
        student (str or nn.Module): ``gcn``, ``sage``, ``gat``, ``gcnii``, ``mlp``, or a layer of GraphGym such as ``gcnconv``; or a
            module of your own, of which each seed trains a copy with new weights (``reset_parameters``).
        preset (str): A published method that listens to a teacher. Those that compare layers need ``teacher_layers``, or a teacher
            that returns an :class:`~gkd_plugin.space.observation.Observation`.
        width, depth, dropout (optional): Of a student that is named: channels of a hidden layer, layers with the last one, and
            dropout. (default: 16, 2 and 0.5)
        epochs (int): Epochs; the one with the best validation score counts.
        lr, weight_decay (float): Of Adam.
        seeds (int): Number of students that are trained, with seeds from 1 on; the best on validation is returned.
        control (bool): Whether the same student is trained without a teacher, too.
        task (str, optional): ``node_multiclass``, ``node_multilabel``, ``node_regression``, or the same with ``graph_``, where the
            labels do not tell.
        layers, teacher_layers (str, optional): Patterns of module names, such as ``convs.*``, whose outputs are the hidden states of
            a student of your own and of the teacher.
        out (str or Path, optional): Folder in which runs and the data are kept, and continued when it is called again.
            (default: none is left)
        fresh (bool): Starts anew in ``out``; an earlier run is kept under a dated name.
        quiet (bool): Shows no progress.
        **keys: Further keys, as in a configuration: ``kd_response={"temperature": 2}``, ``optim={"scheduler": "none"}``.

    Returns:
        Distilled: Prints as a table; ``student`` is the trained module, ``student(x, edge_index)`` gives logits.

    Raises:
        UserError: For data without labels or masks, a teacher whose output is no logits for the data, and every other mistake.
        RunFailed: If no seed could be finished.

    .. code-block:: python

        result = gkd_plugin.distill(model, data, student="gcn", width=8)
        print(result)
        logits = result.student(data.x, data.edge_index)
    """
    began = time.perf_counter()
    _check_types({"seeds": seeds, "epochs": epochs}, {"control": control, "fresh": fresh, "quiet": quiet})
    for name, pattern in (("layers", layers), ("teacher_layers", teacher_layers)):
        if pattern is not None and not isinstance(pattern, str):
            raise UserError(f"{name}={quote(pattern)} is a {type(pattern).__name__}, not a pattern such as 'convs.*'.")
    if out is not None and not isinstance(out, (str, os.PathLike)):
        raise UserError(f"out={quote(out)} is a {type(out).__name__}, not a folder.")
    handed = read_handed(data, task)
    for whose, module in (("teacher=", teacher), ("student=", student)):
        if isinstance(module, nn.Module) and handed.several and (cached := find_cached(module)):
            raise UserError(
                f"{whose}: {', '.join(cached[:3])} of {type(module).__name__} keep the normalised edges of the first graph that "
                "they see (cached=True), and data= has several graphs. Build these layers with cached=False."
            )
    kind = handed.kind
    needs_layers = _check_preset(preset)
    taught = make_teacher(teacher, kind, pattern=teacher_layers, needs_layers=needs_layers)
    if needs_layers and layers is None and isinstance(student, nn.Module):
        names = ", ".join(name for name, _ in student.named_modules() if name)
        raise UserError(
            f"preset='{preset}' compares layers. Name those of your student: layers='convs.*'. There are: {names}."
        )
    chosen = choose_student(student, layers, {"width": width, "depth": depth, "dropout": dropout})
    state = global_random_state()
    with contextlib.ExitStack() as stack:
        folder = Path(out) if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gkd-")))
        values = _make_values(handed, chosen, preset, folder, epochs, lr, weight_decay, keys)
        stack.callback(set_global_random_state, state)
        stack.callback(_restore_handlers, tuple(logging.root.handlers))
        stack.enter_context(handing(handed.make))
        if isinstance(teacher, nn.Module):
            stack.enter_context(keeping_caches(teacher))
        if chosen.module is not None:
            stack.enter_context(offering(chosen.type, chosen.module, kind.level, kind.binary))
        stack.enter_context(_in_words_of_arguments(folder if out is None else None))
        report = run(values, repeat=seeds, name=RUN, control=control, fresh=fresh, quiet=quiet, teacher=taught)
        if out is not None:
            handed.keep(folder)  # now that they are known to be those of its runs
        best = _find_best(report)
        number = next(each for each in report.results if each.seed == best).single
        small: nn.Module = load_student(report.folder / str(best - 1))
    if chosen.module is not None:
        assert isinstance(small.model, OwnNetwork)
        small = small.model.model.eval()
    elif kind.binary:
        small = TwoLogits(small).eval()
    return Distilled(
        student=small,
        report=report,
        seed=best,
        number=number,
        task=kind.describe(),
        student_name=chosen.name,
        preset=preset,
        teacher_parameters=sum(each.numel() for each in teacher.parameters())
        if isinstance(teacher, nn.Module)
        else None,
        seconds=time.perf_counter() - began,
        kept=out is not None,
    )


def _restore_handlers(before: Sequence[logging.Handler]) -> None:
    """The host's loggers give the root logger a handler where it has none, and a caller's messages would be shown twice."""
    logging.root.handlers[:] = [each for each in logging.root.handlers if each in before]


def _check_types(numbers: Mapping[str, Any], switches: Mapping[str, Any]) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int):
            raise UserError(f"{name}={quote(number)}: must be a whole number.")
        if number < 1:
            raise UserError(f"{name}={number}: must be at least 1.")
    for name, switch in switches.items():
        if not isinstance(switch, bool):
            raise UserError(f"{name}={quote(switch)} must be True or False.")


# ------------------------------------------------------------------------------------------------------- configuration


def _make_values(
    handed: HandedData,
    student: ChosenStudent,
    preset: str,
    folder: Path,
    epochs: int,
    lr: float,
    weight_decay: float,
    keys: Mapping[str, Any],
) -> dict[str, Any]:
    """The configuration that the arguments mean."""
    kind = handed.kind
    train: dict[str, Any] = {"mode": "distill", "sampler": "full_batch", "eval_period": 1}
    if handed.batch_size is not None and kind.level == "graph":
        train["batch_size"] = handed.batch_size
    values: dict[str, Any] = {
        "out_dir": str(folder),
        "tensorboard_agg": False,
        "num_threads": torch.get_num_threads(),
        "dataset": {"format": "gkd", "name": NAME, "dir": str(folder), "task": kind.level, "task_type": kind.task_type},
        "train": train,
        "model": {"type": student.type, "loss_fun": "mse" if kind.task_type == "regression" else "cross_entropy"},
        "optim": {
            "optimizer": "adam",
            "base_lr": lr,
            "weight_decay": weight_decay,
            "max_epoch": epochs,
            "scheduler": "none",
        },
        **{name: part for name, part in student.values.items() if name != "kd"},
        "kd": {"preset": preset, **student.values.get("kd", {})},
    }
    if kind.task_type == "classification_multilabel":  # for which the host has no metric
        values["custom_metrics"] = ["f1_micro"]
    known, pairs = fresh(), list[Any]()
    for name, content in keys.items():
        _require_known(name, known)
        inner = (
            {f"{name}.{key}": value for key, value in content.items()}
            if isinstance(content, Mapping)
            else {name: content}
        )
        for key, value in inner.items():
            if argument := FIXED.get(key.partition(".")[0], FIXED.get(key)):
                raise UserError(f"{key}: it is decided by {argument}. Leave it out.")
            pairs += [key, value]
    return merge(values, pairs)


def _require_known(name: str, known: Mapping[str, Any]) -> None:
    """Refuses what is neither an argument nor a group or key of a configuration.

    Raises:
        UserError: With the argument that may be meant.
    """
    if name.partition(".")[0] in known:
        return
    arguments = [each for each, kind in inspect.signature(distill).parameters.items() if kind.kind is kind.KEYWORD_ONLY]
    hint = (
        f"Did you mean '{ELSEWHERE[name]}'? " if name in ELSEWHERE else nearest(name, ["student", "preset", *arguments])
    )
    raise UserError(
        f"{name}=: unknown argument. {hint}There are: student, preset, {', '.join(arguments)}; and the groups of a "
        "configuration, such as kd_response={'temperature': 2} (docs/keys.md)."
    )


def _check_preset(preset: str) -> str | None:
    """What to say to a teacher that shows no layers, where the preset compares some.

    Raises:
        UserError: If there is no such preset, or it does not listen to a teacher.
    """
    taught = {name: axes.presets[name] for name in axes.presets if axes.presets[name].source == "teacher"}
    if preset not in taught:
        known = preset in axes.presets
        found = "does not listen to a teacher" if known else "is unknown"
        hint = "" if known else nearest(preset, taught)
        raise UserError(f"preset={quote(preset)} {found}. {hint}Allowed: {', '.join(taught)}.")
    by_logits = [name for name, each in taught.items() if set(each.groups) <= {"kd", "kd_response"}]
    if preset in by_logits:
        return None
    return (
        f"preset='{preset}' compares layers, and logits are all that this teacher shows. Presets that need no more: "
        f"{', '.join(by_logits)}. Of a module name its layers: teacher_layers='convs.*'; a file may hold layer_1, layer_2, ... "
        "(docs/teachers.md)."
    )


@contextlib.contextmanager
def _in_words_of_arguments(passing: Path | None) -> Iterator[None]:
    """Mistakes that are found later speak of a configuration, which the caller has not written.

    Args:
        passing (Path, optional): The folder, where it is not kept: what a failed seed left there is part of the message.
    """
    try:
        yield
    except UserError as error:
        text = say_arguments(str(error))
        if text == str(error):
            raise
        raise UserError(text) from error
    except RunFailed as error:
        files = sorted(passing.glob(f"*/*/{FAILED}")) if passing is not None else []
        traces = [trace for file in files[:1] if (trace := json.loads(file.read_text()).get("traceback"))]
        text = re.sub(r"; its traceback is in \S+", "", str(error)) if files else str(error)
        raise RunFailed("\n".join([text, *traces])) from None


def _find_best(report: RunReport) -> int:
    """The seed whose student validates best."""
    sign = 1 if report.results[0].better else -1
    return max(report.results, key=lambda result: sign * result.answer.val).seed
