"""Nearest-neighbour graphs of points, each cloud of a batch by itself.

A graph is decided by the points alone: distances are taken pair by pair, and of points equally far the one with the lower
number counts as nearer. PyG's compiled helper (``torch_cluster``) is used where it is installed. It may choose any of several
points that are equally far, so such nodes, and those that it cannot tell apart for rounding, are looked at again.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from gkd_plugin.errors import describe_error
from gkd_plugin.printing import tell

MATRIX = 2**22
"""The most distances that are held at a time."""
_EXACT = "donot_use_mm_for_euclid_dist"  # products of matrices give equal points a distance
_NEAR = 1e-4  # of a distance: how far two computations of it may lie apart
_HELPER = "torch_cluster"
_broken: set[str] = set()


def nearest_graph(x: Tensor, k: int, batch: Tensor | None = None) -> Tensor:
    """The edges from each point's ``k`` nearest other points of its cloud, and from itself, to it: ``[2, E]``.

    Args:
        x (Tensor): The points, ``[N, d]``; no gradient flows through the choice.
        k (int): Number of neighbours; a cloud of fewer points gives all it has.
        batch (Tensor, optional): The cloud of each point, in ascending order, ``[N]``; ``None`` for one cloud.
    """
    x = x.detach()
    count = x.size(0)
    loops = torch.arange(count, device=x.device)
    found = _ask_helper(x, k, batch) if count else None
    if found is None:
        found = nearest(x, k, batch)
    # by the node that is led to, neighbours in ascending order, the node itself last
    source, target = torch.cat((found, loops.expand(2, -1)), dim=1)
    order = torch.sort(target, stable=True).indices
    return torch.stack((source[order], target[order]))


def nearest(x: Tensor, k: int, batch: Tensor | None = None) -> Tensor:
    """The same without the points themselves, by plain torch and never more than :data:`MATRIX` distances at a time."""
    sizes = [x.size(0)] if batch is None or not len(batch) else torch.bincount(batch).tolist()
    if len(set(sizes)) == 1:
        clouds = [x.reshape(len(sizes), sizes[0], x.size(1))]
    else:
        clouds = [cloud.unsqueeze(0) for cloud in x.split(sizes)]
    found, start = [torch.empty(2, 0, dtype=torch.long, device=x.device)], 0
    for stack in clouds:
        for part in stack.split(max(1, MATRIX // max(stack.size(1) ** 2, 1))):
            found += [edges + start for edges in _search(part, k)]
            start += part.size(0) * part.size(1)
    return torch.cat(found, dim=1)


def _search(stack: Tensor, k: int) -> list[Tensor]:
    """The edges of clouds of one size, ``[B, n, d]``, some rows of each at a time; nodes are numbered through."""
    clouds, size, _ = stack.shape
    most = min(k, size - 1)
    found: list[Tensor] = []
    if most < 1:
        return found
    firsts = torch.arange(clouds, device=stack.device).view(-1, 1, 1) * size
    for rows in torch.arange(size, device=stack.device).split(max(1, MATRIX // (clouds * size))):
        near = choose(_measure(stack, rows), most)
        ends = (firsts + rows.view(1, -1, 1)).expand_as(near)
        found.append(torch.stack(((firsts + near).flatten(), ends.flatten())))
    return found


def _measure(stack: Tensor, rows: Tensor) -> Tensor:
    """The distances of some points of each cloud to all, infinite to themselves, ``[B, rows, n]``."""
    distances = torch.cdist(stack[:, rows].contiguous(), stack, compute_mode=_EXACT)
    distances[:, torch.arange(len(rows), device=rows.device), rows] = float("inf")
    return distances


def choose(distances: Tensor, k: int) -> Tensor:
    """The places of the ``k`` smallest values of each row, in ascending order; of equal values the first ones.

    Args:
        distances (Tensor): ``[..., n]`` with n >= k.
    """
    size = distances.size(-1)
    values, places = distances.topk(min(k + 1, size), dim=-1, largest=False)
    if size > k:
        tied = values[..., k - 1] == values[..., k]  # topk may take any of them
        places = places[..., :k].contiguous()
        if bool(tied.any()):
            places[tied] = torch.sort(distances[tied], dim=-1, stable=True).indices[..., :k]
    return places.sort(dim=-1).values


# ------------------------------------------------------------------------------------------------------- the helper
@cache
def _find_helper() -> Callable[..., Tensor] | None:
    """``torch_cluster.knn_graph``, or ``None`` where it is not installed or cannot be loaded."""
    if find_spec(_HELPER) is None:
        return None
    try:
        function: Callable[..., Tensor] = importlib.import_module(_HELPER).knn_graph
    except Exception as error:  # built for another torch, say
        _tell_broken(error)
        return None
    return function


def _tell_broken(error: Exception) -> None:
    tell(
        f"{_HELPER} is installed, but cannot be used ({describe_error(error)}). Neighbours are found by plain torch, which gives "
        f"the same graph. Install the {_HELPER} that was built for torch {torch.__version__}, or remove it."
    )


def _ask_helper(x: Tensor, k: int, batch: Tensor | None) -> Tensor | None:
    """What :func:`nearest` gives, by the helper; ``None`` where that is plain torch's work."""
    helper = _find_helper()
    if helper is None or _HELPER in _broken:
        return None
    try:
        found = helper(x, k + 1, batch, loop=False, flow="source_to_target")  # one more shows what is equally far
        return _settle(x, k, batch, found)
    except Exception as error:
        _broken.add(_HELPER)
        _tell_broken(error)
        return None


def _settle(x: Tensor, k: int, batch: Tensor | None, found: Tensor) -> Tensor:
    """The ``k`` nearest of ``k + 1`` candidates a node; nodes whose last two are about equally far are searched again."""
    count = x.size(0)
    cloud = x.new_zeros(count, dtype=torch.long) if batch is None else batch
    sizes = torch.bincount(cloud)
    if not torch.equal(cloud[found[0]], cloud[found[1]]):
        raise ValueError("its graph joins points of different clouds")
    far = (x[found[0]] - x[found[1]]).norm(dim=-1)
    order = torch.sort(far, stable=True).indices
    order = order[torch.sort(found[1][order], stable=True).indices]  # by node, the nearest first
    found, far = found[:, order], far[order]
    degree = torch.bincount(found[1], minlength=count)
    starts = degree.cumsum(0) - degree
    again = degree != (sizes - 1).clamp(max=k + 1)[cloud]  # of many equal points it may leave out itself, or not
    full = (degree == k + 1).nonzero().view(-1)
    last = far[starts[full] + k]
    again[full] |= last - far[starts[full] + k - 1] <= _NEAR * last
    rank = torch.arange(found.size(1), device=x.device) - starts[found[1]]
    parts = [found[:, (rank < k) & ~again[found[1]]]]
    firsts, doubtful = sizes.cumsum(0) - sizes, again.nonzero().view(-1)
    for number in cloud[doubtful].unique().tolist():
        start, size = int(firsts[number]), int(sizes[number])
        points = x[start : start + size].unsqueeze(0)
        for rows in (doubtful[cloud[doubtful] == number] - start).split(max(1, MATRIX // size)):
            near = choose(_measure(points, rows), min(k, size - 1))[0]
            parts.append(torch.stack((near.flatten(), rows.view(-1, 1).expand_as(near).flatten())) + start)
    both = torch.cat(parts, dim=1)
    order = torch.sort(both[1] * count + both[0]).indices  # as plain torch gives them
    return both[:, order]
