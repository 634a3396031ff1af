"""AIFB and MUTAG read from N-Triples, numbered by names."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from gkd_plugin.data.entities import StableEntities, read_triples
from gkd_plugin.errors import UserError

TRIPLES = """\
# a comment, and an empty line

<http://x/b> <http://r/knows> <http://x/a> .
<http://x/a> <http://r/knows> <http://x/c> .
<http://x/a> <http://r/age> "7"^^<http://x/int> .
<http://x/c> <http://r/name> "says \\"hi\\" . <b>"@en .
_:n1 <http://r/knows> <http://x/b> .
<http://x/a> <http://r/knows> <http://x/c> .
"""


def write(folder: Path, name: str = "aifb", triples: str = TRIPLES) -> Path:
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    with gzip.open(raw / f"{name}_stripped.nt.gz", "wt") as file:
        file.write(triples)
    entity, label = {"aifb": ("person", "label_affiliation"), "mutag": ("bond", "label_mutagenic")}[name]
    tables = {"completeDataset": "abc", "trainingSet": "ab", "testSet": "c"}
    for table, entities in tables.items():
        rows = "".join(
            f"{entity}{number}\thttp://x/{each}\tgroup {each > 'a'}\n" for number, each in enumerate(entities)
        )
        (raw / f"{table}.tsv").write_text(f"id\t{entity}\t{label}\n{rows}")
    return folder


@pytest.mark.parametrize("name", ["aifb", "mutag"])
def test_numbers_by_name_and_both_directions_by_relation(name: str, tmp_path: Path) -> None:
    data = StableEntities(str(write(tmp_path, name)), name.upper())[0]
    # sorted: the two literals, a, b, c, _:n1; "knows" is the most frequent relation
    names = ['"7"^^<http://x/int>', '"says \\"hi\\" . <b>"@en', "<http://x/a>", "<http://x/b>", "<http://x/c>", "_:n1"]
    assert data.num_nodes == len(names) == 6
    edges = sorted(zip(data.edge_type.tolist(), *data.edge_index.tolist(), strict=True))
    assert edges == sorted(
        [
            *[
                (0, 3, 2),
                (0, 2, 4),
                (0, 5, 3),
                (1, 2, 3),
                (1, 4, 2),
                (1, 3, 5),
            ],  # knows, and back; said twice, there once
            *[(2, 2, 0), (3, 0, 2), (4, 4, 1), (5, 1, 4)],  # age before name
        ]
    )
    assert data.edge_type.tolist() == sorted(data.edge_type.tolist())
    assert (data.train_idx.tolist(), data.train_y.tolist()) == ([2, 3], [0, 1])
    assert (data.test_idx.tolist(), data.test_y.tolist()) == ([4], [1])


def test_a_line_that_is_no_triple_and_a_label_without_a_node_are_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "one", triples=TRIPLES + "<http://x/a> knows nobody .\n")
    with pytest.raises(
        UserError, match=r"aifb_stripped.nt.gz: line 9 is not a triple of N-Triples: '<http://x/a> knows"
    ):
        list(read_triples(folder / "aifb" / "raw" / "aifb_stripped.nt.gz"))
    folder = write(tmp_path / "two", triples='<http://x/a> <http://r/age> "7" .\n')
    with pytest.raises(UserError, match=r"trainingSet.tsv names http://x/b, which is not a node of aifb_stripped"):
        StableEntities(str(folder), "AIFB")


def test_aifb_is_what_pyg_makes_of_it(hetero_data: Path) -> None:
    data: Data = StableEntities(str(hetero_data / "Entities"), "AIFB")[0]
    assert (data.num_nodes, data.num_edges, int(data.edge_type.max()) + 1) == (8285, 58086, 90)
    assert (len(data.train_idx), len(data.test_idx)) == (140, 36)
    assert sorted(torch.bincount(data.train_y).tolist()) == [12, 22, 48, 58]
    pytest.importorskip("rdflib", reason="PyG's own class reads by rdflib")
    pytest.importorskip("pandas")
    from torch_geometric.datasets import Entities

    theirs = Entities(str(hetero_data / "Entities"), "AIFB")[0]
    for ours, other in ((data.edge_type, theirs.edge_type), (_degrees(data), _degrees(theirs))):
        assert torch.equal(torch.bincount(ours), torch.bincount(other))


def _degrees(data: Data) -> torch.Tensor:
    """How many edges of one relation come in at a node, for each node and relation that has any."""
    return torch.unique(data.edge_index[1] * 90 + data.edge_type, return_counts=True)[1]
