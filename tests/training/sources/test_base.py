"""What stands behind a run's members: built where somebody listens, put back where a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gkd_plugin.commands.run import run
from gkd_plugin.errors import UserError
from gkd_plugin.training.checkpoint import Checkpoints
from tests.running import Driven, rows, stop_in
from tests.toy import config

pytestmark = pytest.mark.usefixtures("toy_data")

EMA: dict[str, Any] = {"kd": {"students": 1, "ema_decay": 0.9}, "kd_response": {"weight": 1.0, "source": "ema"}}


@pytest.mark.parametrize(
    ("groups", "built"),
    [
        ({}, []),
        ({"kd_response": {"weight": 0, "source": "ema"}}, []),
        ({"kd": {"students": 2}, "kd_response": {"weight": 1}}, []),
        (EMA, ["ema"]),
        ({"kd": {"predict": "ema"}}, ["ema"]),
        ({"kd_auxiliary": {"soft_weight": 1, "soft_source": "ema"}}, ["ema"]),
        ({"kd_auxiliary": {"soft_weight": 0, "soft_source": "ema", "weight": 1}}, []),
    ],
)
def test_only_what_somebody_listens_to_or_what_answers_is_built(groups: dict[str, Any], built: list[str]) -> None:
    with Driven(**groups) as trainer:
        assert list(trainer.sources.models) == built


def test_a_name_stands_for_itself_and_students_for_themselves() -> None:
    with Driven(**{**EMA, "kd": {"students": 2}}) as trainer:
        assert trainer.sources.expand((2, "ema"), True) == (2, "ema")
        assert trainer.students[1].objective.members(0) == ("ema",)


TASKS: dict[str, dict[str, Any]] = {
    "nodes": {},
    "binary": {"dataset": {"name": "binary"}},
    "regression": {"dataset": {"name": "regression", "task_type": "regression"}, "model": {"loss_fun": "mse"}},
    "links": {"dataset": {"name": "links", "task": "link_pred"}, "model": {"edge_decoding": "dot"}},
    "many": {"dataset": {"name": "many"}, "train": {"batch_size": 2}},
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("source", ["ema", "cohort"])
def test_models_behind_students_teach_in_every_task(source: str, task: str, tmp_path: Path) -> None:
    kd = {"students": 2, **({"predict": "ema"} if source == "ema" else {})}
    soft = {"kd_response": {"weight": 1.0, "source": source}}
    (result,) = run(config(tmp_path, **TASKS[task], kd=kd, **soft), quiet=True).results
    trained = rows(tmp_path / "results" / "study" / "0", "train")
    assert all(row[f"s{student}_kd_response"] > 0 for row in trained for student in (1, 2))
    assert result.answer.test == result.answer.test and result.answer == result.answers[result.predict]


def stopped(tmp_path: Path, **groups: Any) -> tuple[Path, Path]:
    """A run that was stopped in its fifth epoch, and its newest checkpoint."""
    path = config(tmp_path, train={"ckpt_period": 2}, optim={"max_epoch": 6}, **groups)
    with pytest.MonkeyPatch.context() as patch:
        stop_in(4, patch)
        with pytest.raises(KeyboardInterrupt):
            run(path, quiet=True)
    return path, tmp_path / "results" / "study" / "0" / "ckpt"


def change(folder: Path, how: Any) -> None:
    for path in folder.glob("*.pt"):
        state = torch.load(path, weights_only=True)
        how(state)
        torch.save(state, path)


def test_a_checkpoint_of_other_sources_is_one_clear_message(tmp_path: Path) -> None:
    path, folder = stopped(tmp_path, **EMA)
    assert Checkpoints(folder, 2).load()["sources"].keys() == {"ema"}  # type: ignore[index]
    change(folder, lambda state: state.update(sources={"teacher": {}}))
    with pytest.raises(UserError, match=r"state of the sources teacher, but this run has ema\. Remove the folder ckpt"):
        run(path, quiet=True)
    change(folder, lambda state: state.pop("sources"))
    with pytest.raises(UserError, match="sources none, but this run has ema"):
        run(path, quiet=True)


def test_a_checkpoint_of_another_shape_is_one_clear_message(tmp_path: Path) -> None:
    path, folder = stopped(tmp_path, **EMA)

    def cut(state: dict[str, Any]) -> None:
        averaged = state["sources"]["ema"]["1"]
        name = next(name for name in averaged if name.endswith("weight"))
        averaged[name] = averaged[name][:1]

    change(folder, cut)
    with pytest.raises(UserError) as error:
        run(path, quiet=True)
    text = str(error.value)
    assert "state of the source 'ema' does not fit" in text and "size mismatch" in text and "\n" not in text
    assert text.endswith("Remove the folder ckpt of that seed to train it from the start, or choose another --name.")
    change(folder, lambda state: state["sources"]["ema"].pop("1"))
    with pytest.raises(UserError, match="state of the source 'ema' does not fit: '1'"):
        run(path, quiet=True)


def test_a_source_without_state_takes_none_and_refuses_any(tmp_path: Path) -> None:
    cohort = {"kd": {"students": 2}, "kd_response": {"weight": 1.0, "source": "cohort"}}
    path, folder = stopped(tmp_path, **cohort)
    change(folder, lambda state: state["sources"]["cohort"].update(old=1))
    with pytest.raises(UserError, match="state of the source 'cohort' does not fit: unexpected entries old"):
        run(path, quiet=True)
    change(folder, lambda state: state["sources"]["cohort"].clear())
    assert run(path, quiet=True).results[0].epochs == 6


def test_a_checkpoint_from_before_sources_serves_where_there_are_none(tmp_path: Path) -> None:
    path, folder = stopped(tmp_path, kd={"students": 2}, kd_response={"weight": 1.0})
    change(folder, lambda state: state.pop("sources"))
    assert run(path, quiet=True).results[0].epochs == 6
