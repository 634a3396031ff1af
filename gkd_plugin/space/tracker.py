"""Where the numbers of a run are shown beside its folder: what a tracker is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class TrackedRun:
    """One seed of a run, as trackers are told of it.

    Args:
        name (str): The run's name and the seed, such as ``cora_oc/0``.
        group (str): The folder that the run lies in: of a study its name.
        seed (int): The seed.
        folder (Path): The seed's folder.
        config (mapping): The configuration by full key, plain values.
        id (str): Its own for as long as the folder is there: one that was interrupted has it again.
        again (bool): Whether it was begun before and goes on now.
    """

    name: str
    group: str
    seed: int
    folder: Path
    config: Mapping[str, Any]
    id: str
    again: bool


class Tracker:
    """Is told how a run goes; there is one object for each seed.

    What it raises is one warning, and the run goes on without it. What it draws at random does not change the run.
    """

    summary: ClassVar[str] = ""
    reference: ClassVar[str] = ""

    def begin(self, run: TrackedRun) -> None:
        """Called before the first epoch is told.

        Args:
            run (TrackedRun): The run.
        """

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Called after every evaluation.

        Args:
            epoch (int): The epoch, from 0.
            values (mapping): ``train/loss``, and ``val/<column>`` as in the run's rows.
        """

    def end(self, values: Mapping[str, float] | None) -> None:
        """Called once, if :meth:`begin` was.

        Args:
            values (mapping, optional): The result: ``<answer>/val``, ``<answer>/test`` and ``<answer>/epoch`` of every
                answer, ``epochs`` and ``seconds``. ``None`` where the run was interrupted or failed.
        """
