"""``gkd explain``: what a configuration means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gkd_plugin.config.explain import Explanation, make_explanation
from gkd_plugin.config.load import Config, Source, read_config


def explain(source: Source, overrides: Sequence[Any] = ()) -> Explanation:
    """Every key with its value and its origin, and the loss as a formula.

    Args:
        source (str or Path or mapping or Config): A GraphGym YAML, or nested values.
        overrides (sequence): ``key value`` pairs.

    Returns:
        Explanation: Prints as text, with colours where rich shows it.

    Raises:
        ConfigError: With all mistakes in it.
    """
    ready = isinstance(source, Config) and not overrides
    return make_explanation(source if ready else read_config(source, overrides))  # type: ignore[arg-type]
