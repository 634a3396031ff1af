"""Workers may die at any moment: what the ledger says decides whether a run starts again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.study import cluster
from gkd_plugin.study.cluster import Dask
from gkd_plugin.study.job import Job
from gkd_plugin.study.ledger import Entry, Ledger
from gkd_plugin.training.provenance import find_versions

ROOT = Path(__file__).resolve().parents[2]


def make(folder: Path, name: str = "a", epochs: int = 2, **options: Any) -> Job:
    """A job on data that every process can load."""
    values = {
        "dataset": {"format": "PyG", "name": "digits", "task": "node", "task_type": "classification"},
        "accelerator": "cpu",
        "num_threads": 1,
        "tensorboard_agg": False,
        "train": {"mode": "distill", "eval_period": 1, "ckpt_period": 5},
        "gnn": {"layers_mp": 2, "dim_inner": 8, "layer_type": "gcnconv", "l2norm": False},
        "optim": {"max_epoch": epochs},
        **options.pop("groups", {}),
    }
    return Job(name, values, None, "grid", 1, str(folder), "ledger", options.pop("session", "s1"), **options)


# ------------------------------------------------------------------------------------------------------- without workers
class Future:
    """What Dask hands back of a task."""

    def __init__(self, key: str, outcome: object = None) -> None:
        self.key, self.outcome = key, outcome
        self.status = "error" if isinstance(outcome, Exception) else "finished"

    def result(self) -> object:
        return self.outcome

    def exception(self) -> object:
        return self.outcome

    def add_done_callback(self, done: Callable[[Any], None]) -> None:
        done(self)


class Client:
    """A scheduler whose tasks end at once, each as the next of a list of outcomes says."""

    status = "running"

    def __init__(self, outcomes: list[Any], workers: dict[str, int], found: Any = None) -> None:
        self.outcomes, self.workers, self.found = outcomes, workers, found
        self.given: list[tuple[str, Any]] = []

    def nthreads(self) -> dict[str, int]:
        return self.workers

    def run(self, function: Any, workers: list[str], on_error: str) -> dict[str, Any]:
        found = {"versions": find_versions(), "gpu": False} if self.found is None else self.found
        return {worker: found for worker in workers}

    def submit(self, function: Any, *jobs: Job, key: str, resources: Any, **_: Any) -> Future:
        self.given.append(("+".join(job.name for job in jobs), resources))
        outcome = self.outcomes.pop(0)
        return Future(key, outcome(jobs[0]) if callable(outcome) else outcome)


def engine(*outcomes: Any, workers: dict[str, int] | None = None, found: Any = None) -> Dask:
    made = Dask(2)
    made._client = Client(list(outcomes), {"tcp://a": 1, "tcp://b": 1} if workers is None else workers, found)
    return made


def killed(attempts: int = 0, state: str = "running", session: str = "s1") -> Callable[[Job], Exception]:
    """A worker dies after it has written that to the ledger."""
    from distributed import KilledWorker

    def die(job: Job) -> Exception:
        entry = Entry(job.name)
        for _ in range(attempts):
            entry = entry.begin(session, job.digest, 1)
        if attempts:
            Ledger(Path(job.cwd, "ledger")).write(entry if state == "running" else entry.end(state, "why"))
        return KilledWorker("key", None, 0)

    return die


DONE = [Entry("a", "done")]
DEATHS = {
    "it had not begun": ([killed(), DONE], ("done", None), 2),
    "it waited, and has a past": ([killed(3, session="s0"), DONE], ("done", None), 2),
    "once": ([killed(1), DONE], ("done", None), 2),
    "three times": ([killed(1), killed(2), killed(3)], ("failed", "its worker died 3 times while running it"), 3),
    "after it had timed out": ([killed(1, "failed")], ("failed", "why"), 1),
    "after it had ended": ([killed(1, "done")], ("done", "why"), 1),
    "it could not begin": ([ModuleNotFoundError("no torch")], ("failed", "ModuleNotFoundError: no torch"), 1),
}


@pytest.mark.parametrize(("outcomes", "ended", "starts"), DEATHS.values(), ids=list(DEATHS))
def test_the_ledger_decides_what_a_death_means(
    tmp_path: Path, outcomes: list[Any], ended: tuple[str, str | None], starts: int
) -> None:
    made = engine(*outcomes)
    made.submit(make(tmp_path))
    entry = made.next()
    assert (entry.state, (entry.reason or "")[: len(ended[1] or "")]) == (ended[0], ended[1] or "")
    assert len(made._client.given) == starts and made.pending == 0
    if ended[0] == "failed":
        assert Ledger(tmp_path / "ledger").read("a").reason == entry.reason


def test_runs_of_a_stack_whose_worker_died_start_again_alone(tmp_path: Path) -> None:
    made = engine(killed(), DONE, [Entry("b", "done")])
    made.submit(make(tmp_path, "a"), make(tmp_path, "b"))
    assert made.pending == 2
    assert [made.next().name for _ in range(2)] == ["a", "b"] and made.pending == 0
    assert [name for name, _ in made._client.given] == ["a+b", "a", "b"]


def test_few_jobs_are_given_away_at_a_time(tmp_path: Path) -> None:
    made = engine(*[DONE] * 9)
    for number in range(9):
        made.submit(make(tmp_path, f"run{number}"))
    assert (len(made._client.given), made.pending, made.slots) == (4, 9, 2)
    for left in range(8, -1, -1):
        made.next()
        assert made.pending == left
    assert len(made._client.given) == 9
    with pytest.raises(RuntimeError, match="no job"):
        made.next()


@pytest.mark.parametrize(
    ("accelerator", "gpu", "local", "asked"),
    [
        ("cuda", True, 0, {"GPU": 1}),
        ("cuda:0", True, 0, {"GPU": 1}),
        ("cuda", False, 0, None),  # it would wait for ever
        ("cpu", True, 1, None),
        ("auto", True, 1, {"GPU": 1}),
        ("auto", True, 0, None),
    ],
)
def test_runs_on_a_gpu_ask_for_one(tmp_path: Path, accelerator: str, gpu: bool, local: int, asked: Any) -> None:
    made = engine(DONE, found={"versions": find_versions(), "gpu": gpu})
    made._gpus = local
    made.submit(make(tmp_path, groups={"accelerator": accelerator}))
    assert made._client.given == [("a", asked)]


def test_each_worker_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Dask(3)
    made._gpus = 2
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    options = [made._choose_gpu(number) for number in range(3)]
    assert [each["env"]["CUDA_VISIBLE_DEVICES"] for each in options] == ["0", "1", ""]
    assert [each.get("resources") for each in options] == [{"GPU": 1}, {"GPU": 1}, None]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert made._choose_gpu(1)["env"] == {"CUDA_VISIBLE_DEVICES": "7"}


def test_workers_share_gpus_where_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Dask(6, per_gpu=2)
    made._gpus = 2
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    options = [made._choose_gpu(number) for number in range(6)]
    assert [each["env"]["CUDA_VISIBLE_DEVICES"] for each in options] == ["0", "1", "0", "1", "", ""]
    assert [each.get("resources") for each in options] == [{"GPU": 1}] * 4 + [None] * 2


UNFIT = {
    "several threads": ({"tcp://a": 4}, None, "tcp://a has 4 threads.*--nthreads 1"),
    "another environment": ({"tcp://a": 1}, ModuleNotFoundError("No module named 'gkd_plugin'"), "same environment"),
}


@pytest.mark.parametrize(("workers", "found", "message"), UNFIT.values(), ids=list(UNFIT))
def test_a_worker_that_cannot_train_is_refused(
    tmp_path: Path, workers: dict[str, int], found: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        engine(workers=workers, found=found).submit(make(tmp_path))


def test_other_versions_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    made = engine(found={"versions": {**find_versions(), "torch": "1.0"}, "gpu": False})
    made._meet_workers()
    said = capsys.readouterr().err
    assert said.count("torch 1.0 (here ") == 1 and "numpy" not in said
    assert made.slots == 2


def test_workers_that_are_gone_are_forgotten() -> None:
    made = engine()
    made._meet_workers()
    del made._client.workers["tcp://a"]
    made._meet_workers()
    assert made.slots == 1


def test_a_scheduler_that_is_gone_ends_the_study(tmp_path: Path) -> None:
    made = engine(killed())
    made.submit(make(tmp_path))
    made._client.status = "closed"
    with pytest.raises(RunFailed, match="is gone"):
        made.next()


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'gkd_plugin\[study\]'"):
        Dask(2)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:{port}", "nonsense", "ftp://127.0.0.1:1"])
def test_an_address_without_a_scheduler_is_one_message(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(cluster, "_CONNECT", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and nobody listens
        address = address.format(port=free.getsockname()[1])
        with pytest.raises(UserError, match=f"--scheduler {address}: no scheduler"), Dask(scheduler=address):
            pass


def test_folders_of_commands_that_were_killed_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f"gkd-workers-{ended.pid}-x", f"gkd-workers-{os.getpid()}-x", "gkd-workers-notes", "other"]
    for name in names:
        (tmp_path / name).mkdir()
    with cluster._make_scratch() as own:
        assert sorted(os.listdir(tmp_path)) == sorted([*names[1:], Path(own).name])
        assert os.stat(own).st_mode & 0o077 == 0
    assert sorted(os.listdir(tmp_path)) == sorted(names[1:])


def test_the_environment_of_workers_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    before = dict(os.environ)
    with cluster._environment(3):
        assert (os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]) == ("3", "passive")
    assert dict(os.environ) == before


# ---------------------------------------------------------------------------------------------------------- real workers
def wait_for(what: Callable[[], Any], seconds: float = 300.0) -> Any:
    """Waits until something holds; the machine may be busy."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.1)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def find_children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(folder: Path) -> list[Entry]:
    return [entry for entry in Ledger(folder / "ledger").entries() if entry.state == "running"]


def train_beside_a_death(made: Dask, folder: Path) -> dict[str, Entry]:
    """Trains a few runs, one of whose workers is killed; the first one is long enough to be killed surely."""
    with made:
        for name, epochs in (("long", 150), ("b", 2), ("c", 2)):
            made.submit(make(folder, name, epochs))
        victim = wait_for(lambda: [entry for entry in running(folder) if entry.name == "long"])[0]
        os.kill(victim.pid, signal.SIGKILL)
        return {entry.name: entry for entry in (made.next() for _ in range(3))}


@pytest.mark.slow
def test_a_worker_is_killed_on_this_machine(tmp_path: Path) -> None:
    before = dict(os.environ)
    ended = train_beside_a_death(Dask(2), tmp_path)
    assert {name: (entry.state, entry.attempts) for name, entry in ended.items() if name != "long"} == {
        "b": ("done", 1),
        "c": ("done", 1),
    }
    assert (ended["long"].state, ended["long"].attempts) == ("done", 2)
    assert len({entry.pid for entry in ended.values()} | {os.getpid()}) > 1 and dict(os.environ) == before
    assert not any(is_alive(int(entry.pid or 0)) for entry in ended.values())


COMMAND = """
import signal
import sys
from pathlib import Path
from gkd_cli.loading import warm_up
if __name__ == "__main__":
    warm_up(1, None)  # as the command does, before all else
from gkd_plugin.study.cluster import Dask
from tests.study.test_cluster import make
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with & ignores it
    with Dask(1) as engine:
        engine.submit(make(Path(sys.argv[1]), epochs=100_000))
        engine.next()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "state"), [(signal.SIGKILL, "running"), (signal.SIGINT, "interrupted")])
def test_no_worker_outlives_the_command(tmp_path: Path, number: signal.Signals, state: str) -> None:
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(command, env=env, start_new_session=True, stderr=subprocess.DEVNULL) as main:
        try:
            worker = wait_for(lambda: running(tmp_path))[0].pid
            assert worker != main.pid
            children = find_children(main.pid)  # what workers are copies of
            if number == signal.SIGINT:
                os.killpg(main.pid, number)  # as a terminal does
            else:
                main.kill()
            main.wait(60)
            wait_for(lambda: not any(map(is_alive, [worker, *children])), 60)
        finally:
            main.kill()
    assert number == signal.SIGKILL or not list(tmp_path.glob("*-workers-*")) + list(tmp_path.glob("dask-*"))
    assert Ledger(tmp_path / "ledger").read("a").state == state


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """A scheduler and two workers, started as docs/cluster.md says."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    dask = [sys.executable, "-m", "dask"]
    file = tmp_path / "scheduler.json"
    quiet = {"env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    place = ["--host", "127.0.0.1", "--no-dashboard"]
    commands = [[*dask, "scheduler", *place, "--port", "0", "--scheduler-file", str(file)]]
    commands += [
        [*dask, "worker", *place, "--nthreads", "1", "--scheduler-file", str(file), "--local-directory", str(tmp_path)]
    ] * 2
    processes = [subprocess.Popen(command, **quiet) for command in commands]  # type: ignore[call-overload]
    try:
        wait_for(file.exists)

        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(60)


@pytest.mark.slow
def test_a_cluster_that_was_started_by_hand(tmp_path: Path, scheduler: str) -> None:
    ended = train_beside_a_death(Dask(scheduler=scheduler), tmp_path)
    assert {(entry.name, entry.state) for entry in ended.values()} == {("long", "done"), ("b", "done"), ("c", "done")}
    assert ended["long"].attempts == 2
    with Dask(scheduler=scheduler) as made:  # the workers stay when the command ends
        made.submit(make(tmp_path, "later", 100_000, session="s2"))
        wait_for(lambda: running(tmp_path))
    wait_for(lambda: Ledger(tmp_path / "ledger").read("later").state == "interrupted")
