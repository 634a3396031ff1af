"""Random streams: each goes on where it stood, and none leaves a trace in the global one."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from gkd_plugin.models.rng import RandomStreams, emulate_draws, random_state, set_random_state


def draw(count: int = 3) -> list[float]:
    return [float(torch.rand(())) for _ in range(count)]


def test_the_global_stream_goes_on_as_if_nothing_had_been_drawn() -> None:
    torch.manual_seed(7)
    expected = draw(6)
    torch.manual_seed(7)
    streams = RandomStreams(1)
    found = draw(2)
    with streams.use("a"):
        draw(5)
        with streams.use("b"):
            draw(1)
        draw(1)
    found += draw(2)
    with pytest.raises(ZeroDivisionError), streams.use("a"):
        draw(int(4 / len(draw(0))))
    assert found + draw(2) == expected


def test_a_stream_goes_on_where_it_stood_whatever_happens_between() -> None:
    streams = RandomStreams(3)
    with streams.use("peer/2"):
        whole = draw(6)
    streams = RandomStreams(3)
    torch.manual_seed(99)
    with streams.use("peer/2"):
        parts = draw(2)
    draw(5)
    with streams.use("peer/3"):
        other = draw(6)
    with streams.use("peer/2"):
        parts += draw(4)
    assert parts == whole
    assert other != whole


def test_streams_are_seeded_by_seed_and_name_and_not_by_the_global_one() -> None:
    found = {}
    for seed in (1, 2):
        for name in ("train/1", "train/2", "train/11"):
            for salt in (0, 5):
                torch.manual_seed(salt)
                with RandomStreams(seed).use(name):
                    found[seed, name, salt] = tuple(draw())
    assert all(found[seed, name, 0] == found[seed, name, 5] for seed, name, _ in found)
    assert len(set(found.values())) == 6


def test_states_are_what_a_checkpoint_needs() -> None:
    streams = RandomStreams(1)
    with streams.use("a"):
        draw(3)
    kept = {name: [state.clone() for state in states] for name, states in streams.states.items()}
    with streams.use("a"):
        expected = draw()
    again = RandomStreams(1)
    again.states = kept
    with again.use("a"):
        assert draw() == expected


def test_a_stream_used_inside_another_leaves_it_alone() -> None:
    streams = RandomStreams(1)
    with streams.use("a"):
        expected = draw(4)
    streams = RandomStreams(1)
    with streams.use("a"):
        found = draw(2)
        with streams.use("b"):
            draw(3)
        found += draw(2)
    assert found == expected


@pytest.mark.parametrize(("shuffle", "count"), [(True, 2), (False, 1)])
def test_emulated_draws_are_those_of_a_loader(shuffle: bool, count: int) -> None:
    loader = DataLoader([Data(x=torch.ones(2, 1))], batch_size=4, shuffle=shuffle)
    torch.manual_seed(11)
    before = random_state()
    for _ in loader:
        pass
    expected = draw()
    set_random_state(before)
    emulate_draws(count)
    assert draw() == expected
