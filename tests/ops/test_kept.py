"""What is derived from tensors: once, anew after a write, and gone with them."""

from __future__ import annotations

import gc

import torch

from gkd_plugin.ops import kept
from gkd_plugin.ops.kept import derive_once


def test_once_for_each_key_and_tensor() -> None:
    one, other, made = torch.zeros(2), torch.zeros(2), []

    def make() -> int:
        made.append(1)
        return len(made)

    assert [derive_once((one, other), "a", make) for _ in range(3)] == [1, 1, 1]
    assert derive_once((one, other), "b", make) == 2
    assert derive_once((other, one), "a", make) == 3  # equal numbers, other tensors
    assert derive_once((one, other), "a", make) == 1


def test_anew_after_a_write_into_any_of_them_and_for_another_partner() -> None:
    one, other = torch.zeros(2), torch.zeros(2)
    values = iter(range(9))
    assert derive_once((one, other), "a", lambda: next(values)) == 0
    other += 1
    assert derive_once((one, other), "a", lambda: next(values)) == 1
    one[0] = 3
    assert derive_once((one, other), "a", lambda: next(values)) == 2
    assert derive_once((one, other.clone()), "a", lambda: next(values)) == 3
    assert derive_once((one, other), "a", lambda: next(values)) == 4


def test_goes_with_the_first_tensor() -> None:
    gc.collect()
    before = len(kept._kept)
    one = torch.zeros(2)
    derive_once((one,), "a", lambda: 1)
    assert len(kept._kept) == before + 1
    del one
    gc.collect()
    assert len(kept._kept) == before


def test_nothing_is_kept_of_tensors_whose_writes_are_not_counted() -> None:
    with torch.inference_mode():
        one = torch.zeros(2)
    values = iter(range(9))
    assert [derive_once((one,), "a", lambda: next(values)) for _ in range(2)] == [0, 1]
