"""The test suite for authors of terms; the only part of the package that imports pytest."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("gkd_plugin.testing.suite")  # failures show values, as in a test file

from gkd_plugin.testing.suite import TermSuite  # noqa: E402
from gkd_plugin.testing.toys import TOYS, Toy, leaf, observe, permuted, tensors  # noqa: E402

__all__ = ["TOYS", "TermSuite", "Toy", "leaf", "observe", "permuted", "tensors"]
