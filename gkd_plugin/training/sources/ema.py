"""Source ``ema``: the moving average of a learner's own weights teaches it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.sample import Sample
from gkd_plugin.plan import Plan
from gkd_plugin.schema import Key, Number
from gkd_plugin.space.answers import Source
from gkd_plugin.space.observation import Observation, Outline
from gkd_plugin.space.sources import SourceModel

NAME = "ema"
DECAY = Key("ema_decay", 0.99, Number(0, below=1), "share of the average that each step keeps; grows to it from 0")


class MovingAverage(SourceModel):
    r"""Each student's exponential moving average, from the `"Mean teachers are better role models"
    <https://arxiv.org/abs/1703.01780>`_ paper.

    After the learner's optimizer step :math:`t = 1, 2, \ldots` its weights :math:`\theta_t` move the average

    .. math::
        \bar{\theta}_t = \alpha_t \bar{\theta}_{t-1} + (1 - \alpha_t) \theta_t, \qquad
        \alpha_t = \min \left( \alpha, 1 - \tfrac{1}{t} \right)

    with :math:`\alpha` = ``kd.ema_decay``: until :math:`t = 1 / (1 - \alpha)` it is the plain mean of all weights so far,
    and the initial ones are forgotten. Buffers (running statistics) are the learner's present ones. It is read in
    evaluation mode. ``kd.predict: ema`` also evaluates it in its student's place, with or without a term that listens.

    .. code-block:: yaml

        kd: {students: 1, ema_decay: 0.99, predict: ema}
        kd_response: {weight: 1, source: ema, nodes: unlabeled}
    """

    symbol: ClassVar[str] = "E"
    like_learner: ClassVar[bool] = True
    stands_in: ClassVar[bool] = True

    def __init__(self, name: str, run: Any) -> None:
        super().__init__(name, run)
        decay = float(run.plan[DECAY.name])

        def move(average: Tensor, weight: Tensor, steps: Tensor | int) -> Tensor:
            keep = min(decay, 1 - 1 / (int(steps) + 1))
            return keep * average + (1 - keep) * weight

        self.averages = [AveragedModel(model.module, avg_fn=move) for model in run.models]
        self.models = [
            ObservedModel(average.module, model.own, run.plan["layers"], model.sparse_input, model.eval_memory)
            for average, model in zip(self.averages, run.models, strict=True)
        ]
        self._kept: dict[int, tuple[Sample, frozenset[str], Observation]] = {}

    def outline(self, member: str, learner: int, sample: Sample, taps: Iterable[str]) -> Outline:
        return self.models[learner - 1].outline(self.observe(member, learner, sample, taps))

    def observe(self, member: str, learner: int, sample: Sample, taps: Iterable[str]) -> Observation:
        wanted = frozenset(taps)
        kept = self._kept.get(learner)
        if kept is None or kept[0] is not sample or not wanted <= kept[1]:
            model = self.models[learner - 1]
            with self.run.streams.use(f"{self.name}/{learner}"), model.untouched():
                kept = self._kept[learner] = (sample, wanted, model.observe(sample, wanted))
        return kept[2]

    def stepped(self, learner: int) -> None:
        self.averages[learner - 1].update_parameters(self.run.models[learner - 1].module)
        self._kept.pop(learner, None)

    def stand_in(self, learner: int) -> ObservedModel:
        return self.models[learner - 1]

    def state_dict(self) -> dict[str, Any]:
        return {str(number): average.state_dict() for number, average in enumerate(self.averages, 1)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for number, average in enumerate(self.averages, 1):
            average.load_state_dict(state[str(number)])
        self._kept.clear()

    @classmethod
    def describe(cls, plan: Plan) -> str:
        return f"the moving average of the student's own weights (decay {plan[DECAY.name]:g}), in evaluation mode"


SOURCE = Source(
    lambda learner, students: (NAME,),
    "the moving average of the learner's own weights",
    "Mean Teacher (arXiv 1703.01780)",
    keys=(DECAY,),
    model=MovingAverage,
)
