"""The host's loaders as the loop sees them: collated once where a loader holds one graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch_geometric.loader import DataLoader

from gkd_plugin.models.observed import Sample
from gkd_plugin.models.streams import Streams, emulate_draws
from gkd_plugin.space.observation import Task


class Feed:
    """One split's loader.

    A loader of one graph without workers is collated once; iterating it then only draws from the random stream what
    the host's iterator would have drawn, so that dropout stays the host's digit for digit.

    Args:
        loader (iterable): A loader of the host.
        task (Task): What is predicted.
        device (torch.device): Where batches go.
        streams (Streams): For the first collation, which must not be seen in the global stream.
    """

    def __init__(self, loader: Any, task: Task, device: torch.device, streams: Streams) -> None:
        self.loader, self.task, self.device = loader, task, device
        self.single: Sample | None = None
        self._draws = 0
        if type(loader) is DataLoader and loader.num_workers == 0 and len(loader.dataset) == 1:
            with streams.use("collate"):
                self.single = self._sample(next(iter(loader)))
            # one for the iterator's base seed, one more where a sampler shuffles
            self._draws = 2 if isinstance(loader.sampler, torch.utils.data.RandomSampler) else 1

    def _sample(self, batch: Any) -> Sample:
        return Sample(batch.to(self.device), self.task)

    def __iter__(self) -> Iterator[Sample]:
        if self.single is None:
            for batch in self.loader:
                yield self._sample(batch)
        else:
            emulate_draws(self._draws)
            yield self.single

    def skip(self) -> None:
        """Draws what an iteration would have drawn (the host's validation iterator, where nothing is evaluated)."""
        if self.single is None:
            iter(self.loader)
        else:
            emulate_draws(self._draws)

    def peek(self) -> Sample:
        """Some batch, to see widths; call it inside a stream of its own."""
        return self.single if self.single is not None else self._sample(next(iter(self.loader)))


def make_feeds(loaders: Sequence[Any], task: Task, device: torch.device, streams: Streams) -> list[Feed]:
    """The feeds of (train, val, test); splits that are masks of one graph share one sample."""
    feeds = [Feed(loader, task, device, streams) for loader in loaders]
    for feed, loader in zip(feeds[1:], loaders[1:], strict=True):
        first = feeds[0]
        if first.single is not None and feed.single is not None and loader.dataset is loaders[0].dataset:
            feed.single = first.single
    return feeds
