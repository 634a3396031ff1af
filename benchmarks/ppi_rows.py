"""PPI, rebuilt: the test score of finished runs on all rows, and on those whose labels are exact.

    python benchmarks/ppi_rows.py --data ../shared/data RUN [RUN ...]

714 of the 56,944 rows of the rebuilt data set have imputed labels; ``row_info.npz`` beside the raw files says which. Each run's
selected student predicts the test graphs again; a label counts as predicted where its logit is above 0.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from studies import ROOT, markdown, prepare

sys.path.insert(0, str(ROOT))


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("GKD_DATA_DIR"), help="folder with prepare.py", required=False)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    asked = parser.parse_args()
    import numpy as np
    import torch
    from torch_geometric.datasets import PPI

    import gkd_plugin
    from gkd_plugin.data.metrics import f1_micro

    with tempfile.TemporaryDirectory() as scratch:
        folder = prepare(asked.data, Path(scratch), ["PPI"])
        raw = next(folder.rglob("row_info.npz"), Path(asked.data or "") / "PPI" / "row_info.npz")
        exact = torch.from_numpy(np.load(raw)["test_label_exact"])
        graphs = list(PPI(str(folder / "PPI"), split="test"))
        rows = []
        for run in asked.runs:
            for seed in sorted(path for path in run.iterdir() if (path / "result.json").is_file()):
                student = gkd_plugin.load_student(seed)
                with torch.no_grad():
                    pred = torch.cat([student(graph.x, graph.edge_index).sigmoid() for graph in graphs])
                true = torch.cat([graph.y for graph in graphs])
                scores = [f1_micro([true[part]], [pred[part]], "") for part in (slice(None), exact)]
                epochs = json.loads((seed / "result.json").read_text())["epochs"]
                rows.append(
                    [f"{run.name}, seed folder {seed.name}", str(epochs), *(f"{score:.4f}" for score in scores)]
                )
    print(markdown(["run", "epochs", f"all {len(true):,} rows", f"{int(exact.sum()):,} rows with exact labels"], rows))


if __name__ == "__main__":
    main()
