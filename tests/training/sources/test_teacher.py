"""Source ``teacher``: one frozen model, or several together, against what each of them says by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gkd_plugin.commands.check import check
from gkd_plugin.commands.explain import explain
from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import run
from gkd_plugin.errors import UserError
from tests import toy
from tests.running import Driven, compare, forward, outcome, rows, stop_in
from tests.toy import values

SOFT: dict[str, Any] = {"kd_response": {"weight": 1.0, "nodes": "all"}}
LAYERS: dict[str, Any] = {"kd_feature": {"weight": 1.0, "tap": "layer", "layer_map": "one_to_one"}}
QUIET: dict[str, Any] = {"gnn": {"dropout": 0.0}}


pytestmark = pytest.mark.usefixtures("work_folder")


def teach(*names: str) -> list[nn.Module]:
    """Teachers of one shape and different weights, and what was kept of each."""
    found = []
    for place, name in enumerate(names):
        # sure of themselves and of unlike minds: the tests must tell one kind of mean from another
        keys: dict[str, Any] = {"optim": {"max_epoch": 40, "base_lr": 0.1 + 0.3 * place}, "gnn": {"dropout": 0.0}}
        found.append(load_student(run(values(**keys), name=name, quiet=True).folder / "0"))
    return found


def kl(own: Tensor, target: Tensor) -> Tensor:
    """KL divergence of a target's probabilities, node by node in float64."""
    q, p = target.double(), own.detach().double().log_softmax(-1)
    return torch.stack([(q[v] * (q[v].log() - p[v])).sum() for v in range(len(q))]).mean()


def mse(own: list[Tensor], theirs: list[Tensor]) -> Tensor:
    return sum((functional.mse_loss(a.detach(), b) for a, b in zip(own, theirs, strict=True)), torch.zeros(()))


@pytest.mark.parametrize("target", [None, "mean"])
def test_several_teach_by_the_mean_of_their_probabilities_and_layers_by_each(target: str | None) -> None:
    said = [forward(module, toy.community(0)) for module in teach("a", "b")]
    how = {} if target is None else {"teacher_target": target}
    with Driven(kd={"teacher": ["a", "b"], **how}, **QUIET, **SOFT, **LAYERS) as trainer:
        assert trainer.students[0].objective.members(0) == ("teacher", "teacher_1", "teacher_2")
        own, _, found = compare(trainer)
        mean = sum((logits.double().softmax(-1) for logits, _ in said), torch.zeros(())) / 2
        assert float(found["kd_response"]) == pytest.approx(float(kl(own.logits, mean)), abs=1e-5)
        together = (said[0][0].double() + said[1][0].double()) / 2
        assert abs(float(kl(own.logits, together.softmax(-1))) - float(found["kd_response"])) > 1e-3
        by_hand = sum(float(mse(list(own.hidden["layer"]), hidden)) for _, hidden in said) / 2
        assert float(found["kd_feature"]) == pytest.approx(by_hand, rel=1e-4)


def test_each_teaches_by_itself_where_that_is_asked_for() -> None:
    said = [forward(module, toy.community(0)) for module in teach("a", "b", "c")]
    with Driven(kd={"teacher": ["a", "b", "c"], "teacher_target": "each"}, **QUIET, **SOFT, **LAYERS) as trainer:
        assert trainer.students[0].objective.members(0) == ("teacher_1", "teacher_2", "teacher_3")
        own, _, found = compare(trainer)
        response = sum(float(kl(own.logits, logits.double().softmax(-1))) for logits, _ in said) / 3
        assert float(found["kd_response"]) == pytest.approx(response, abs=1e-5)
        by_hand = sum(float(mse(list(own.hidden["layer"]), hidden)) for _, hidden in said) / 3
        assert float(found["kd_feature"]) == pytest.approx(by_hand, rel=1e-4)


def test_the_mean_of_the_logits_is_peer_target_s_word_for_teachers_too() -> None:
    said = [forward(module, toy.community(0))[0] for module in teach("a", "b")]
    kd = {"teacher": ["a", "b"], "teacher_target": "each", "peer_target": "ensemble_mean"}
    with Driven(kd=kd, **QUIET, **SOFT) as trainer:
        own, _, found = compare(trainer)
        together = (said[0].double() + said[1].double()) / 2
        assert float(found["kd_response"]) == pytest.approx(float(kl(own.logits, together.softmax(-1))), abs=1e-5)
        mean = (said[0].double().softmax(-1) + said[1].double().softmax(-1)) / 2
        assert abs(float(kl(own.logits, mean)) - float(found["kd_response"])) > 1e-3


@pytest.mark.parametrize("target", ["mean", "each"])
def test_the_result_names_all_and_scores_the_mean_of_their_probabilities(target: str) -> None:
    data = toy.community(0)
    said = [forward(module, data)[0] for module in teach("a", "b")]
    report = run(values(kd={"teacher": ["a", "b"], "teacher_target": target}, **SOFT), name="narrow", quiet=True)
    told = json.loads((report.folder / "0" / "result.json").read_text())["teacher"]
    assert told["name"] == "a+b" and told["metric"] == "accuracy"
    mean = (said[0].softmax(-1) + said[1].softmax(-1)) / 2
    for split in ("val", "test"):
        nodes = data[f"{split}_mask"].nonzero().view(-1).tolist()
        right = sum(int(mean[v].argmax()) == int(data.y[v]) for v in nodes) / len(nodes)
        assert told[split] == pytest.approx(right, abs=1e-4)
    student = forward(load_student(report.folder / "0"), data)[0]
    nodes = data.test_mask.nonzero().view(-1).tolist()
    alike = sum(int(student[v].argmax()) == int(mean[v].argmax()) for v in nodes) / len(nodes)
    assert report.results[0].agreement["s1"] == pytest.approx(alike)
    assert report.plan["teacher"] == ("a", "b")


@pytest.mark.parametrize("target", ["mean", "each"])
def test_a_run_of_several_teachers_resumes_bit_for_bit(target: str) -> None:
    teach("a", "b")
    keys: dict[str, Any] = {"kd": {"teacher": ["a", "b"], "teacher_target": target}, **SOFT, **LAYERS}
    more: dict[str, Any] = {"train": {"ckpt_period": 1}, "optim": {"max_epoch": 5}}
    whole = run(values(**keys, **more), name="whole", quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        stop_in(3, patch)
        with pytest.raises(KeyboardInterrupt):
            run(values(**keys, **more), name="cut", quiet=True)
    cut = run(values(**keys, **more), name="cut", quiet=True)
    assert outcome(whole.folder / "0") == outcome(cut.folder / "0")


def test_one_name_in_a_list_is_one_teacher() -> None:
    teach("a")
    found = []
    for name, teacher in (("plain", "a"), ("listed", ["a"])):
        report = run(values(kd={"teacher": teacher}, **SOFT), name=name, quiet=True)
        found.append(outcome(report.folder / "0"))
        assert report.results[0].teacher["name"] == "a"
    assert found[0] == found[1]


def test_a_run_and_a_file_teach_together() -> None:
    (module,) = teach("a")
    said = np.random.default_rng(2).normal(size=(48, 3)).astype(np.float32)
    np.savez("said.npz", logits=said)
    with Driven(kd={"teacher": ["a", "said.npz"]}, **QUIET, **SOFT) as trainer:
        own, _, found = compare(trainer)
        logits = forward(module, toy.community(0))[0].double()
        mean = (logits.softmax(-1) + torch.from_numpy(said).double().softmax(-1)) / 2
        assert float(found["kd_response"]) == pytest.approx(float(kl(own.logits, mean)), abs=1e-5)


@pytest.mark.parametrize("target", ["mean", "each"])
@pytest.mark.parametrize("term", ["response", "feature"])
def test_teachers_of_unlike_classes_are_refused_with_one_clear_message(target: str, term: str) -> None:
    teach("a")
    random = np.random.default_rng(2)
    hidden = {f"layer_{number}": random.normal(size=(48, 8)).astype(np.float32) for number in (1, 2)}
    np.savez("four.npz", logits=random.normal(size=(48, 4)).astype(np.float32), **hidden)
    keys = SOFT if term == "response" else LAYERS
    with pytest.raises(UserError) as error:
        run(values(kd={"teacher": ["a", "four.npz"], "teacher_target": target}, **keys), name="narrow", quiet=True)
    text = str(error.value)
    assert text.startswith("kd.teacher: ") and "\n" not in text and "the same classes" in text
    assert "a 3, four.npz 4" in text if target == "mean" else "4 logits" in text
    assert not Path("results/narrow/0").exists()


def test_a_missing_one_of_several_is_named() -> None:
    teach("a")
    with pytest.raises(UserError, match="kd.teacher: .*'gone'"):
        run(values(kd={"teacher": ["a", "gone"]}, **SOFT), name="narrow", quiet=True)


class Says(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, batch: Any) -> Tensor:
        return self.logits


def test_a_module_is_a_teacher() -> None:
    logits = torch.randn(48, 3, generator=torch.Generator().manual_seed(1))
    report = run(values(**SOFT), name="narrow", quiet=True, teacher=Says(logits))
    np.savez("said.npz", logits=logits.numpy())
    by_file = run(values(kd={"teacher": "said.npz"}, **SOFT), name="by_file", quiet=True)
    assert rows(report.folder / "0", "train") == rows(by_file.folder / "0", "train")
    assert report.results[0].teacher["name"] == "module"


def test_keys_of_several_teachers_apply_to_several_only(tmp_path: Path) -> None:
    (checked,) = check(values(kd={"teacher": "a", "teacher_target": "each"}, **SOFT))
    assert [problem.key for problem in checked.problems] == ["kd.teacher_target"]
    (checked,) = check(values(kd={"teacher": ["a", "b"], "teacher_cfg": "wide"}, **SOFT))
    assert [problem.key for problem in checked.problems] == ["kd.teacher_cfg"]
    (checked,) = check(values(kd={"teacher": ["a", "a"]}, **SOFT))
    assert "each name once" in checked.problems[0].allowed


def test_several_are_explained() -> None:
    for target, how in (("mean", "the mean of their probabilities"), ("each", "each by itself")):
        plan = values(kd={"teacher": ["a", "b"], "teacher_target": target}, **SOFT)
        text = " ".join(str(explain(plan)).split())
        assert f"T the teachers a, b ({how}; layers are compared with each), of the same seed, frozen" in text
