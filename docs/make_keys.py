"""Writes the pages keys.md and presets.md from the tables that the program itself reads: python docs/make_keys.py"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from gkd_plugin.config import kd_keys  # noqa: E402
from gkd_plugin.plugins import loaded  # noqa: E402
from gkd_plugin.registration import GROUPS  # noqa: E402
from gkd_plugin.schema import BadValue, Key  # noqa: E402
from gkd_plugin.space import axes  # noqa: E402

NOTE = "<!-- written by docs/make_keys.py -->\n"
KEYS_HEAD = """\
# Every key

In `cfg` every key is empty until it is set. Your value wins over the preset's, and the preset's over the default here.
*decided* means: by other keys, as its meaning explains. Writing a key that does not apply (`shift` without the map
`shift`) is an error. A plugin's groups appear in `gkd list` and `gkd explain` just like these.
"""
PRESETS_HEAD = """\
# Presets

Published methods as points of the space. A row lists the keys that differ from the defaults of [every key](keys.md); what you
write wins over the row. "search" marks a value that no publication confirms: a place to start. Presets marked *teacher*
listen to a trained model (`kd.teacher` or `kd.teacher_cfg`). Two presets are our own and have no publication: `cohort_st`,
self-training of a cohort, and `self_st`, the same with one network alone, as its control.
"""
PRESETS_TAIL = """
## As they are used

`graphgym_configs/` has every preset for Cora, CiteSeer, PubMed and digits, beside the teachers that `kd.teacher_cfg`
trains first: `gkd run --cfg graphgym_configs/digits/glnn.yaml --control`. `graphgym_configs/mixtures/` has unpublished
mixtures. With a teacher of yours, on any data set (`---` separates files):

```yaml
kd: {preset: soft_target, teacher: cora_teacher}
---
model: {type: mlp}                              # a student without edges
kd: {preset: glnn, teacher: cora_teacher}
---
kd: {preset: fitnet, teacher: cora_teacher}
kd_feature: {weight: 100}                       # to be searched between 100 and 10000
---
kd: {preset: attention_transfer, teacher: cora_teacher}
---
kd: {preset: lsp, teacher: cora_teacher}
kd_structure: {domain: union}                   # where teacher and student see different edges
---
kd: {preset: lsp_code, teacher: ppi_teacher}    # hidden layers -2 and -1, for the first 30 epochs
---
kd: {preset: gsp, teacher: cora_teacher}
kd_structure: {weight: 1000}
---
kd: {preset: gcrd, teacher: cora_teacher}
---
kd: {preset: gkd, teacher: cora_teacher, hide_edges: 0.5}    # the teacher sees all edges
---
kd: {preset: abkd, teacher: cora_teacher}
kd_attention: {softmax_over: source}
---
kd: {preset: stride, teacher: cora_teacher}
```
"""


def value(raw: Any) -> str:
    """A value as YAML has it."""
    if isinstance(raw, bool):
        return str(raw).lower()
    return f"{raw:g}" if isinstance(raw, float) else str(raw)


def default(key: Key) -> str:
    if key.default is None or key.default == ():
        try:
            key.kind.parse("none")
        except BadValue:
            return "*decided*"
        return "`none`"
    return f"`{value(key.default)}`"


def rows(keys: Iterable[Key]) -> str:
    lines = ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{key.name}` | {key.kind.describe()} | {default(key)} | {key.meaning} |" for key in keys]
    return "\n".join(line.replace("~", "\\~") for line in lines) + "\n"


def keys_page() -> str:
    common = (kd_keys.WEIGHT, kd_keys.SOURCE, kd_keys.SCHEDULE)
    parts = [NOTE + KEYS_HEAD]
    for group, keys in kd_keys.groups().items():
        name = group.removeprefix("kd_")
        if name not in axes.knowledge:
            parts.append(f"## `{group}`\n\n{rows(keys)}")
            continue
        knowledge = axes.knowledge[name]
        also = "`weight`, `schedule`" + (", `source`" if kd_keys.is_sourced(knowledge) else "")
        also += " and [what layers share](#layers)" if knowledge.layered else ""
        own = knowledge.keys
        what = f"{knowledge.summary[0].upper()}{knowledge.summary[1:]}. From: {knowledge.reference.rstrip('.')}."
        parts.append(f"## `{group}`\n\n{what}\nBesides {also}:\n\n{rows(own)}")
    beside = {
        "gkd_model": "For our [networks](models.md).",
        "splits": "For [data](splits.md) under `dataset.format: gkd`.",
    }
    for group, keys in GROUPS.items():
        parts.append(f"## `{group}`\n\n{beside.get(group, 'For our [metrics](splits.md).')}\n\n{rows(keys)}")
    parts.insert(
        2, f"## Common keys\n\nIn every knowledge group:\n\n{rows(common)}\n### Layers\n\n{rows(kd_keys.layer_keys())}"
    )
    return "\n".join(parts)


def written(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Groups as they would stand in YAML."""
    return [
        f"`{group}: {{{', '.join(f'{key}: {value(raw)}' for key, raw in content.items())}}}`"
        for group, content in groups.items()
    ]


def presets_page() -> str:
    lines = ["| preset | what it is | keys | paper |", "| --- | --- | --- | --- |"]
    for name in axes.presets:
        preset = axes.presets[name]
        keys = written(preset.groups)
        if preset.multilabel:
            keys += ["with several labels:", *written(preset.multilabel)]
        what = preset.summary + (f"; *{preset.source}*" if preset.source else "")
        lines.append(f"| `{name}` | {what} | {'<br>'.join(keys) or '-'} | {preset.reference} |")
    return NOTE + PRESETS_HEAD + "\n" + "\n".join(lines) + "\n" + PRESETS_TAIL


def pages() -> dict[str, str]:
    """The generated pages by file name, with our own answers only."""
    others = [plugin.name for plugin in loaded() if plugin.name != "gkd_plugin"]
    if others:
        raise SystemExit(f"plugins are loaded ({', '.join(others)}): set GKD_LOAD_PLUGINS= and try again")
    return {"keys.md": keys_page(), "presets.md": presets_page()}


if __name__ == "__main__":
    for file, text in pages().items():
        (DOCS / file).write_text(text, encoding="utf-8")
