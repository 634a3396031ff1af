"""Says where sparse features were asked for and dense ones were read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.training.recorders.base import Recorder


class SparseInput(Recorder):
    """Warns at the end of a run with ``kd.sparse_input`` that did not use it.

    Args:
        models (sequence of ObservedModel): The students' networks.
        refusal (str, optional): Why the features were not stored sparsely.
    """

    def __init__(self, models: Sequence[ObservedModel], refusal: str | None) -> None:
        self.models, self.refusal = models, refusal

    def warnings(self) -> Iterator[str]:
        if self.refusal is not None:
            yield f"kd.sparse_input: features were read as they are: {self.refusal}."
            return
        dense = [
            f"{number} ({model.own.model.type})" for number, model in enumerate(self.models, 1) if model.reads_dense
        ]
        if dense:
            yield (
                f"kd.sparse_input: student {', '.join(dense)} read its features as they are: its first layer applies no linear "
                "map to them (an encoder, dropout on the features, or an aggregation such as a maximum comes before it)."
            )
