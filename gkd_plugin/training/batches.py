"""The host's loaders as the loop sees them: collated once where a loader holds one graph."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from gkd_plugin.data.keep import Untouched, derive
from gkd_plugin.data.relations import is_type_table
from gkd_plugin.errors import UserError
from gkd_plugin.models.rng import RandomStreams, emulate_draws
from gkd_plugin.models.sample import SPLITS, Sample
from gkd_plugin.models.sparse_input import SparseFeatures, explain_refusal
from gkd_plugin.space.observation import Task


class SplitLoader:
    """One split's loader.

    A loader of one graph is collated once; iterating it then only draws from the random stream what the host's iterator
    would have drawn, so that dropout stays the host's digit for digit.

    Args:
        loader (iterable): A loader of the host.
        task (Task): What is predicted.
        device (torch.device): Where batches go.
        streams (RandomStreams): For the first collation, which must not be seen in the global stream.
        hidden (float): Share of the edges that students do not see.
        others (sequence of SplitLoader): Splits that were made before; the one graph of those of the same data set serves
            here, too.

    Raises:
        UserError: If edges are to be hidden from anything but one fixed graph.
    """

    def __init__(
        self,
        loader: Any,
        task: Task,
        device: torch.device,
        streams: RandomStreams,
        hidden: float = 0.0,
        others: Sequence[SplitLoader] = (),
    ) -> None:
        self.loader, self.task, self.device, self.streams, self.hidden = loader, task, device, streams, hidden
        self.single: Sample | None = None
        self._begun = False
        self._plain = type(loader) is DataLoader
        # a transform may draw anew at every look
        fixed = getattr(getattr(loader, "dataset", None), "transform", None) is None
        if self._plain and len(loader.dataset) == 1 and fixed:
            same = [each.single for each in others if getattr(each.loader, "dataset", None) is loader.dataset]
            self.single = next((single for single in same if single is not None), None) or self._collate()
        elif hidden:
            raise UserError(
                f"kd.hide_edges: {hidden:g}, but edges are hidden on one fixed graph only, and these data are several "
                "graphs, sampled parts or a graph that a transform changes. Set it to 0 here."
            )

    def _collate(self) -> Sample:
        """The one graph; kept with the data set, and with it what is derived from it, unless a run wrote into it."""

        def make() -> tuple[Sample, Untouched]:
            sample = self._sample(self.loader.collate_fn([self.loader.dataset[0]]))
            return sample, Untouched(sample.batch.to_dict().values())

        kept, untouched = derive(self.loader.dataset, ("sample", self.task, self.device), make)
        sample = kept if untouched else make()[0]
        # with a batch and graphs of this run alone
        sample = Sample(copy.copy(sample.batch), sample.task, memo=sample.memo, fixed=True)
        return hide_edges(sample, self.hidden, self.streams.seed) if self.hidden else sample

    def _sample(self, batch: Any) -> Sample:
        return Sample(batch.to(self.device), self.task)

    def __iter__(self) -> Iterator[Sample]:
        if self.single is None:
            for batch in self.loader:
                yield self._sample(batch)
        else:
            self._draw()
            yield self.single

    def _draw(self) -> None:
        """One for the iterator's base seed, which persistent workers keep; one more where a sampler shuffles."""
        shuffled = isinstance(self.loader.sampler, torch.utils.data.RandomSampler)
        emulate_draws(int(shuffled) + (not (self._begun and self.loader.persistent_workers)))
        self._begun = True

    def samples(self) -> list[Sample]:
        """All batches once, without a trace in the global stream."""
        if self.single is not None:
            return [self.single]
        with self.streams.use("samples"):
            if not self._plain:
                return [self._sample(batch) for batch in self.loader]
            data, size = self.loader.dataset, self.loader.batch_size
            parts = [range(start, min(start + size, len(data))) for start in range(0, len(data), size)]
            return [self._sample(self.loader.collate_fn([data[index] for index in part])) for part in parts]

    def skip(self) -> None:
        """Draws what an iteration would have drawn (the host's validation iterator, where nothing is evaluated)."""
        if self.single is None:
            iter(self.loader)
        else:
            self._draw()

    def start(self) -> None:
        """Starts persistent workers, which draw when they start and never again; call it inside a stream of its own."""
        self._begun = True
        if self.single is None and getattr(self.loader, "persistent_workers", False):
            iter(self.loader)

    def peek(self) -> Sample:
        """Some batch, to see widths; call it inside a stream of its own."""
        if self.single is not None:
            return self.single
        # an iterator would start persistent workers, whose first start draws
        first = self.loader.collate_fn([self.loader.dataset[0]]) if self._plain else next(iter(self.loader))
        return self._sample(first)


def hide_edges(sample: Sample, share: float, seed: int) -> Sample:
    """The sample without a share of its edges, both directions of an edge together; ``whole`` keeps them all.

    Args:
        sample (Sample): One graph.
        share (float): Share of the undirected edges to hide.
        seed (int): The same seed hides the same edges.
    """
    batch = sample.batch
    low, high = batch.edge_index.min(dim=0).values, batch.edge_index.max(dim=0).values
    pairs, number = torch.unique(torch.stack([low, high]), dim=1, return_inverse=True)
    order = torch.randperm(pairs.size(1), generator=torch.Generator().manual_seed(seed)).to(number.device)
    kept = (order >= round(share * pairs.size(1)))[number].nonzero().view(-1)
    cut = copy.copy(batch)
    for key in batch.keys():
        # neither the labelled pairs of edge tasks nor a table of one node type (x_0) are edges that messages pass, though there
        # may be as many of them
        if batch.is_edge_attr(key) and not key.startswith(SPLITS) and not is_type_table(batch, key):
            cut[key] = batch[key].index_select(batch.__cat_dim__(key, batch[key]), kept)
    return Sample(cut, sample.task, whole=sample, fixed=sample.fixed)


def offer_sparse(feeds: Sequence[SplitLoader]) -> str | None:
    """Stores the features of one fixed graph sparsely, too; why not, where they are better read as they are.

    Args:
        feeds (sequence of SplitLoader): Train, validation and test.
    """
    if feeds[0].single is None:
        return "the data are several graphs, sampled parts or a graph that a transform changes"
    for feed in feeds:
        sample = feed.single
        if sample is None:
            continue
        x = sample.batch.get("x")
        refusal = sample.remember("sparse_refusal", partial(explain_refusal, x))
        if refusal is not None:
            return refusal
        sample.features = sample.remember("features", partial(SparseFeatures, x))
    return None


def whole_graph(feeds: Sequence[SplitLoader]) -> Sample | None:
    """The one graph that the students' batches are, or are sampled from by node (``n_id``); ``None`` for any other.

    Args:
        feeds (sequence of SplitLoader): Train, validation and test.
    """
    first = feeds[0]
    if first.single is not None:
        return first.single
    with first.streams.use("whole"):
        part = first.peek().batch
    rows, x = part.get("n_id"), _identify(part)
    if rows is None or x is None:
        return None
    data = getattr(first.loader, "data", None)  # where PyG's samplers keep it

    def list_candidates() -> Iterator[Sample]:
        yield from (feed.single for feed in feeds[1:] if feed.single is not None)
        if isinstance(data, Data):
            yield first._sample(Batch.from_data_list([data]))  # a copy of everything

    for whole in list_candidates():
        theirs = _identify(whole.batch)
        if theirs is not None and int(rows.max()) < len(theirs) and torch.equal(theirs[rows], x):
            return whole
    return None


def _identify(batch: Any) -> Tensor | None:
    """What tells one node from another: its features, or where they lie in the tables of each type."""
    x, kinds, rows = (batch.get(key) for key in ("x", "node_type", "type_row"))
    if x is None and kinds is not None and rows is not None:
        return torch.stack((kinds, rows), dim=1)
    return x if isinstance(x, Tensor) else None


def make_split_loaders(
    loaders: Sequence[Any], task: Task, device: torch.device, streams: RandomStreams, hidden: float = 0.0
) -> list[SplitLoader]:
    """The feeds of (train, val, test); splits that are masks of one graph share one sample."""
    feeds: list[SplitLoader] = []
    for loader in loaders:
        feeds.append(SplitLoader(loader, task, device, streams, hidden, feeds))
    return feeds
