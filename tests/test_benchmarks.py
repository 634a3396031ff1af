"""The studies behind the documents still mean something: every run that they ask for is a valid configuration."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from gkd_plugin.commands.init import packed_configs
from gkd_plugin.commands.report import RunReport
from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.papers.reproduce import reproduce
from gkd_plugin.plan import Plan
from gkd_plugin.study.execute import Resources
from gkd_plugin.training.result import RunResult, Score
from tests import toy
from tests.running import forward

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
STUDIES = {
    "layer_maps": lambda module: module.jobs(),
    "dynamic_graphs": lambda module: module.jobs(),
    "mixture": lambda module: [job for several in module.rows().values() for job in several],
}


@pytest.fixture
def load(monkeypatch):
    """Imports a script as Python does that runs it."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_of_a_study_is_a_valid_configuration(name, load):
    jobs = STUDIES[name](load(name))
    assert len({job.name for job in jobs}) == len(jobs) > 5, "two runs would share a folder"
    for job in jobs:
        config = read_config(packed_configs() / job.config, overrides=job.overrides)
        kd = config.values["kd"]
        plain = (
            kd.get("preset") == "supervised"
            or dict(zip(job.overrides[::2], job.overrides[1::2], strict=True)).get("kd_feature.weight") == "0"
        )
        assert bool(config.plan.active) != plain, job.name


def test_the_grid_of_throughput_is_48_valid_supervised_configurations(load):
    module = load("study_throughput")
    grid = module.list_configurations(module.make_base(Path("datasets"), epochs=100), module.GRID)
    assert len({str(values) for values in grid}) == len(grid) == 48
    assert max(values["gnn"]["dim_inner"] for values in grid) == 16
    for values in (grid[0], grid[-1]):
        assert not read_config(values, overrides=["kd.sparse_input", "true"]).plan.active


def test_paired_difference_and_gap(load):
    studies = load("studies")

    def report(*tests: float) -> RunReport:
        results = []
        for seed, test in enumerate(tests):
            answers = {"first": Score(epoch=0, val=test / 2, test=test)}
            results.append(RunResult(seed, "accuracy", True, "first", answers, [10], 1, 1, 0.0))
        return RunReport("study", Path(), Plan.__new__(Plan), results)

    student, taught, teacher = report(0.50, 0.60, 0.55), report(0.60, 0.68, 0.64), report(0.90, 0.90, 0.90)
    # differences 10, 8 and 9: mean 9, standard error 1 / sqrt(3), t(2; 0.975) = 4.303
    assert studies.over(taught, student) == "+9.00 [+6.52, +11.48]"
    assert studies.gap_closed(taught, student, teacher) == "26 %"  # 9 of 35
    assert studies.gap_closed(taught, teacher, student) == "-"
    assert studies.percent([0.5, 0.6]) == "55.00 ± 7.07"
    assert studies.validation(student) == pytest.approx(0.275)


def test_how_sure_a_teacher_is(load, work_folder, monkeypatch, capsys):
    module, data = load("sureness"), toy.community(0)
    folder = run(toy.values(), repeat=2, name="teacher", quiet=True).folder
    expected = []
    for seed in "01":
        logits, _ = forward(load_student(folder / seed), data)
        expected.append(sum(max(row) for row in logits.softmax(1).tolist()) / 48)
    monkeypatch.setattr(sys, "argv", ["sureness.py", str(folder)])
    module.main()
    low, high = sorted(expected)
    assert f"| teacher | 2 | 0.33 | {low:.2f} {high:.2f} |" in capsys.readouterr().out


def test_where_learned_maps_end(load, monkeypatch, tmp_path, capsys):
    module = load("learned_maps")
    # two learner layers, three source layers; the last line counts, and student 1's alone
    even = {"student": 1, "weights": [[0.1, 0.2, 0.2], [0.2, 0.1, 0.2]]}
    others = {"student": 2, "weights": [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]}
    ends = {
        "0": [[0.95 / 3, 0.9 / 3, 0.2 / 3], [0.05 / 3, 0.1 / 3, 0.8 / 3]],  # takes 1, 1, 2; two of them decided
        "1": [[0.99 / 3, 0.0, 0.6 / 3], [0.01 / 3, 1 / 3, 0.4 / 3]],  # takes 1, 2, 1; two of them decided
    }
    for seed, weights in ends.items():
        folder = tmp_path / "run" / seed
        folder.mkdir(parents=True)
        rows = [even, {"student": 1, "weights": weights}, others]
        (folder / "attention.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        shares = [0.9, 0.5, 0.75] if seed == "0" else [0.8, 0.5, 0.99]
        lines = [{"student": 1, "task_share": each} for each in shares]
        (folder / "diagnostics.json").write_text("".join(json.dumps(row) + "\n" for row in lines))
    monkeypatch.setattr(module, "finished_seeds", lambda run: sorted(run.iterdir()))
    monkeypatch.setattr(sys, "argv", ["learned_maps.py", str(tmp_path / "run")])
    module.main()
    # of three source layers both seeds take the same for one; four of six are decided; four of six take layer 1
    assert "| run | 2 | 67 | 33 | 50 | 67 / 33 | 10 to 20 | 1 to 25 |" in capsys.readouterr().out


@pytest.mark.parametrize("preset", ["alignahead_pp", "supervised"])
def test_layers_are_measured_with_and_without_heads(preset, load, work_folder, monkeypatch, capsys):
    module, data = load("oversmoothing"), toy.community(0)
    values = toy.values(kd={"preset": preset, "students": 2}, gnn={"layers_mp": 3})
    folder = run(values, repeat=2, name="tiny", quiet=True).folder
    near = {int(v): set(data.edge_index[0, data.edge_index[1] == v].tolist()) - {int(v)} for v in range(48)}
    degree = [int(((data.edge_index[1] == v) & (data.edge_index[0] != v)).sum()) for v in range(48)]
    found = [module.measure_seed(folder / seed) for seed in "01"]
    for seed, one in zip("01", found, strict=True):
        logits, hidden = forward(load_student(folder / seed), data)
        right = (logits.argmax(1) == data.y)[data.test_mask].double().mean()
        assert one.own == pytest.approx(float(right)) == pytest.approx(one.recorded)
        assert len(one.layers) == 3
        for layer, states in zip(one.layers, hidden, strict=True):
            distances = {True: [], False: []}
            for v in range(48):
                for close in distances:
                    others = near[v] if close else set(range(48)) - near[v] - {v}
                    cosines = [torch.cosine_similarity(states[u], states[v], dim=0) for u in others]
                    distances[close] += [1 - sum(map(float, cosines)) / len(others)] if others else []
            means = [sum(each) / len(each) for each in distances.values()]
            assert (layer.near, layer.remote, layer.gap) == pytest.approx((*means, means[1] - means[0]), abs=1e-5)
            scaled = [row / (1 + count) ** 0.5 for row, count in zip(states, degree, strict=True)]
            pairs = [(u, v) for u, v in data.edge_index.t().tolist() if u != v]
            energy = sum(float((scaled[u] - scaled[v]).square().sum()) for u, v in pairs) / 48
            assert layer.energy == pytest.approx(energy, rel=1e-4)
            assert layer.zeros == pytest.approx(sum(not row.any() for row in states) / 48)
    monkeypatch.setattr(sys, "argv", ["oversmoothing.py", "--layers", "1,3,9", str(folder)])
    module.main()
    printed = capsys.readouterr().out
    assert printed.count("| tiny | 3 |") == 2 and "2 seeds" in printed
    first = [seed.layers[0].near for seed in found]
    mean, deviation = sum(first) / 2, abs(first[0] - first[1]) / 2**0.5
    assert f"| tiny | 3 | 1 | {mean:.4f} ± {deviation:.4f} |" in printed


def test_layers_of_the_table_and_their_probe(load):
    module = load("oversmoothing")
    assert [module.pick_layers(depth, None) for depth in (2, 4, 8)] == [[1, 2], [1, 2, 3, 4], [1, 2, 4, 8]]
    assert module.pick_layers(16, None) == [1, 2, 4, 8, 16] and module.pick_layers(6, [2, 9]) == [2]
    labels = torch.arange(40) % 2
    train = torch.arange(40) < 30
    told = torch.stack(
        [1e-4 * labels, 1e4 * torch.cos(torch.arange(40.0))], dim=1
    )  # found where it is standardised only
    assert module.probe(told, labels, train, ~train) == 1
    assert module.probe(torch.zeros(40, 2), labels, train, ~train) == 0.5
    false = torch.where(train, labels, 1 - labels).unsqueeze(1)  # seen at training nodes, wrong at test nodes
    assert module.probe(false.float(), labels, train, ~train) == 0


@pytest.mark.slow
def test_a_study_survives_what_happens_to_it():
    script = str(FOLDER / "study_faults.py")
    done = subprocess.run([sys.executable, script, "--quick"], capture_output=True, text=True, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stdout[-3000:]


def test_scores_of_two_days_make_the_page_of_one_study(load, work_folder):
    recipe = {
        "title": "A paper",
        "link": "https://example.org",
        "claim": "It helps.",
        "quick": {"seeds": 1, "overrides": {}},
        "studies": {
            "first": {
                "config": "base.yaml",
                "grid": "grid.txt",
                "seeds": 3,
                "rows": [
                    {"name": "alone", "where": {"preset": "supervised"}},
                    {"name": "mutual", "where": {"preset": "dml"}, "over": "alone"},
                ],
            }
        },
    }
    folder = Path("mine")
    folder.mkdir()
    base = toy.values(Path("results"), optim={"max_epoch": 2}, kd={"preset": "supervised"})
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    (folder / "grid.txt").write_text("kd.preset preset [supervised, dml]\nkd.students students [2]\n")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    scores = load("scores")

    def train(out_dir, seed, repeat):
        words = ["seed", str(seed), "out_dir", out_dir]
        reproduce("mine", repeat=repeat, overrides=words, resources=Resources(workers=0), quiet=True)
        return Path(out_dir) / "first.gkd"

    assert "4 runs of 2" in scores.keep("mine", "first", train("one", 1, 2), Path("kept"))
    assert "6 runs of 2" in scores.keep(
        "mine", "first", train("two", 2, 2), Path("kept")
    )  # seed 2 twice, with equal scores
    page = scores.write("mine", "first", Path("kept"))
    whole = Path("whole/mine.md")
    train("whole", 1, 3)
    rows = [line for line in whole.read_text().splitlines() if line.startswith(("| alone", "| mutual"))]
    without_time = [row.rsplit("|", 2)[0] for row in rows]
    assert len(rows) == 3 and all(any(line.startswith(row) for line in page.splitlines()) for row in without_time)
    assert "(6 runs)" in page and "commit" in page

    table = Path("kept/mine_first.csv")
    text = table.read_text()
    table.write_text(re.sub(r"0\.\d+,0\.\d+,", "0.9,0.9,", text, count=1))
    with pytest.raises(SystemExit, match="other scores are kept already.*Nothing was changed"):
        scores.keep("mine", "first", Path("one/first.gkd"), Path("kept"))
    table.write_text(text)
    (folder / "base.yaml").write_text(yaml.safe_dump({**base, "optim": {**base["optim"], "max_epoch": 3}}))
    changed = scores.write("mine", "first", Path("kept"))
    assert "6 rows belong to other configurations" in changed and "| alone | 0 |" in changed


def test_pages_of_results_say_what_their_scores_say(load, tmp_path):
    scores, docs = load("scores"), FOLDER.parent / "docs"
    for page in docs.glob("results_*.md"):
        shutil.copy(page, tmp_path)
    assert scores.update(docs / "scores", tmp_path) == ["nothing has changed"]
    held = {
        f"{page.stem.removeprefix('results_')}_{study}"
        for page in tmp_path.glob("*.md")
        for _, study in scores.SECTION.findall(page.read_text())
    }
    assert held == {table.stem for table in (docs / "scores").glob("*.csv")}

    page = tmp_path / "results_alignahead_pp.md"
    text = page.read_text()
    page.write_text(text.replace("_citeseer.csv", "_other.csv"))
    assert page.read_text() != text
    scores.update(docs / "scores", tmp_path)
    assert page.read_text() == text
