"""Mixtures that nobody has published, each a YAML file: a learned map over a peer's layers, LSP one layer ahead, and both.

    python benchmarks/mixture.py --data ../shared/data

Cora, public split; the host's GCN, three layers of width 16 (teacher: 64), two students, 5 seeds.
"""

from __future__ import annotations

from pathlib import Path

from studies import Job, arguments, markdown, over, percent, prepare, seconds, study, validation

SEEDS = 5
FEATURE, STRUCTURE = ("0.1", "1"), ("1", "100")
TAUGHT = ("kd.teacher", "teacher", "kd.teacher_cfg", "none", "kd.students", "2", "kd.update", "epoch_alternate")


def rows() -> dict[str, list[Job]]:
    """The candidates of each line of the table."""
    return {
        "labels only": [Job("mixtures/attention_over_peers.yaml", "alone", SEEDS, ("kd_feature.weight", "0"))],
        "attention over peers": [
            Job("mixtures/attention_over_peers.yaml", f"peers_{w}", SEEDS, ("kd_feature.weight", w)) for w in FEATURE
        ],
        "the same, uniform map": [
            Job(
                "mixtures/attention_over_peers.yaml",
                f"uniform_{w}",
                SEEDS,
                ("kd_feature.weight", w, "kd_feature.layer_map", "uniform"),
            )
            for w in FEATURE
        ],
        "LSP, same depth (shift 0)": [
            Job(
                "mixtures/lsp_ahead.yaml",
                f"lsp_{w}",
                SEEDS,
                (*TAUGHT, "kd_structure.weight", w, "kd_structure.shift", "0"),
            )
            for w in STRUCTURE
        ],
        "LSP, one layer ahead": [
            Job("mixtures/lsp_ahead.yaml", f"ahead_{w}", SEEDS, (*TAUGHT, "kd_structure.weight", w)) for w in STRUCTURE
        ],
        "LSP one layer ahead, and attention over peers": [
            Job(
                "mixtures/lsp_ahead_and_peers.yaml",
                f"both_{f}_{s}",
                SEEDS,
                (*TAUGHT, "kd_feature.weight", f, "kd_structure.weight", s),
            )
            for f, s in zip(FEATURE, STRUCTURE, strict=True)
        ],
    }


def main() -> None:
    """Runs everything and prints the table."""
    asked = arguments(str(__doc__))
    out = Path(asked.out) / "mixture"
    datasets = prepare(asked.data, Path(asked.out), ["Cora"])
    study([Job("mixtures/teacher.yaml", "teacher", SEEDS)], out, datasets, asked.workers)
    reports = study([job for several in rows().values() for job in several], out, datasets, asked.workers, asked.only)
    alone, lines = reports["alone"], []
    for label, several in rows().items():
        best = max((reports[job.name] for job in several), key=lambda report: validation(report, "mean"))
        scores = [percent(best.tests(answer)) for answer in ("mean", "ensemble")]
        gain = "-" if best is alone else over(best, alone, "mean")
        lines.append([label, best.name, *scores, gain, seconds(best)])
    head = (
        "mixture",
        "run chosen by validation",
        "mean over students",
        "ensemble",
        "paired difference of the mean",
        "s",
    )
    print(markdown(head, lines))


if __name__ == "__main__":
    main()
