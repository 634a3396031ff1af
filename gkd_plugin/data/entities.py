"""PyG's entity networks (AIFB, MUTAG) with numbers that are the same everywhere."""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data
from torch_geometric.datasets import Entities

from gkd_plugin.errors import UserError

COLUMNS = {"aifb": ("person", "label_affiliation"), "mutag": ("bond", "label_mutagenic")}
"""The columns of the tables that name an entity and its label."""
_TERM = r'<[^>]*>|_:\S+|"(?:[^"\\]|\\.)*"(?:@[\w-]+|\^\^<[^>]*>)?'
_TRIPLE = re.compile(rf"\s*({_TERM})\s*(<[^>]*>)\s*({_TERM})\s*\.")


class StableEntities(Entities):  # type: ignore[misc]
    """PyG's ``Entities`` whose nodes, relations and classes are numbered by the order of their names.

    PyG's own class numbers them in the order of Python's sets, which differs from process to process: weights of one
    machine would fit no other. Files and their place are PyG's; what is prepared beside them has a name of its own. The
    graph is read as lines of N-Triples, so neither rdflib nor pandas is needed.

    Args:
        root (str): Where ``<name>/raw`` lies.
        name (str): ``AIFB`` or ``MUTAG``.
    """

    @property
    def processed_file_names(self) -> str:
        return "gkd_data.pt"

    def process(self) -> None:
        graph, table, train, test = map(Path, self.raw_paths)
        triples = sorted(set(read_triples(graph)))
        used = Counter(relation for _, relation, _ in triples)
        relations = {name: number for number, name in enumerate(sorted(used, key=lambda name: (-used[name], name)))}
        nodes = {name: number for number, name in enumerate(sorted({end for s, _, o in triples for end in (s, o)}))}
        ends = torch.tensor([[nodes[s], nodes[o], relations[r]] for s, r, o in triples], dtype=torch.long).t()
        forth = torch.stack([ends[0], ends[1], 2 * ends[2]])
        back = torch.stack([ends[1], ends[0], 2 * ends[2] + 1])
        edges = torch.cat([forth, back], dim=1)
        # one relation after the other, which is how a network reads them
        order = torch.argsort((edges[2] * len(nodes) + edges[1]) * len(nodes) + edges[0])
        edges = edges[:, order]
        columns = COLUMNS[self.name]
        classes = {
            label: number for number, label in enumerate(sorted({label for _, label in _read_table(table, columns)}))
        }
        found: dict[str, Any] = {}
        for part, path in (("train", train), ("test", test)):
            rows = _read_table(path, columns)
            missing = [entity for entity, _ in rows if f"<{entity}>" not in nodes]
            if missing:
                raise UserError(
                    f"{path} names {missing[0]}, which is not a node of {graph.name}. Remove the folder {self.raw_dir}, so that it "
                    "is fetched again."
                )
            found[f"{part}_idx"] = torch.tensor([nodes[f"<{entity}>"] for entity, _ in rows])
            found[f"{part}_y"] = torch.tensor([classes[label] for _, label in rows])
        data = Data(edge_index=edges[:2].contiguous(), edge_type=edges[2].contiguous(), num_nodes=len(nodes), **found)
        self.save([data], self.processed_paths[0])


def read_triples(path: Path) -> Iterator[tuple[str, str, str]]:
    """Subject, relation and object of each line of N-Triples, as they are written.

    Args:
        path (Path): A file, compressed by gzip.

    Raises:
        UserError: If a line is something else.
    """
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            found = _TRIPLE.match(line)
            if found is not None:
                yield found[1], found[2], found[3]
            elif line.strip() and not line.lstrip().startswith("#"):
                raise UserError(f"{path}: line {number} is not a triple of N-Triples: {line.strip()[:60]!r}.")


def _read_table(path: Path, columns: tuple[str, str]) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [(row[columns[0]], row[columns[1]]) for row in csv.DictReader(file, delimiter="\t")]
