"""`fundamentallm doctor` and `bench`, and `train --profile`."""

import json
import shutil
from collections import namedtuple
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from fundamentallm.config.config import resolve
from fundamentallm.config.estimate import count_parameters
from fundamentallm.config.files import load_preset
from fundamentallm.run.speed import flops_per_token
from fundamentallm.train import device, profile
from tests.conftest import as_a_user
from tests.engine.cli.conftest import TEXT, TINY, Run


def test_doctor_says_what_it_found_as_a_table_and_as_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM_PROGRAM", "\x1b[31mmine")
    status, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert (status, found["problems"], found["speed"]) == (0, [], [])
    assert found["versions"]["torch"] == version("torch") and found["versions"]["textual"] is not None
    assert found["machine"]["threads"] == 1 and found["machine"]["OMP_NUM_THREADS"] == "1"
    assert found["folders"]["current"] == {
        "path": str(Path.cwd()), "writable": True, "free": pytest.approx(shutil.disk_usage(".").free, rel=0.2),
    }  # fmt: skip
    status, out, _ = run("doctor")
    assert status == 0 and out.endswith("no problem found\n") and "\x1b" not in out
    for words in (f"torch          {version('torch')}", "threads               1", "size            80 x 24"):
        assert words in out


def test_doctor_names_every_problem(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("fundamentallm.cli.doctor.shutil.disk_usage", lambda _: usage(1, 1, 2**20))
    monkeypatch.setattr("fundamentallm.cli.doctor.os.access", lambda path, _: Path(path) != Path.cwd())
    monkeypatch.setattr("fundamentallm.cli.doctor.PACKAGES", ("torch", "nonsense-that-is-not-there"))
    status, out, _ = run("doctor")
    problems = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert status == 1 and "problem: nonsense-that-is-not-there is not installed; install the program again" in problems
    assert f"problem: {Path.cwd()}: cannot be written to" in problems
    assert any("are free, and a run needs more" in line for line in problems)


@pytest.mark.parametrize("locked", ["", "fundamentallm", "fundamentallm/presets"])
@as_a_user
def test_a_configuration_that_may_not_be_looked_into_stops_no_shipped_preset(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "fundamentallm" / "presets").mkdir(parents=True)
    folder = tmp_path / "config" / locked
    folder.chmod(0)
    try:
        assert run("config", "show", "--preset=tiny")[0] == run("presets")[0] == 0
        assert "problem: " in run("doctor")[1]
    finally:
        folder.chmod(0o700)


def test_bench_measures_the_presets_as_shares_of_the_product(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    status, out, _ = run("bench", "--json", "--seconds=0", "--preset=tiny", "--device=cpu")
    product, _, attention, tiny, half = json.loads(out)["speed"]
    assert status == 0 and product["name"] == "product 2048 float32" and product["share"] == 1
    assert attention["name"].startswith("attention") and attention["tokens_per_second"] is None
    config = resolve(load_preset("tiny").layer)
    flops = tiny["tokens_per_second"] * flops_per_token(config, count_parameters(config, 65))
    assert (tiny["name"], half["name"]) == ("tiny float32", "tiny bfloat16")
    assert tiny["windows"] == half["windows"] == 8  # a whole step takes longer than no time
    assert tiny["flops"] == pytest.approx(flops) and tiny["share"] == pytest.approx(flops / product["flops"])
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: False)
    status, out, _ = run("bench", "--json", "--seconds=0", "--preset=tiny", "--device=cpu")
    assert [speed["name"] for speed in json.loads(out)["speed"]] == [
        "product 2048 float32", attention["name"], "tiny float32"
    ]  # fmt: skip
    status, out, err = run("bench", "--preset=tyni", "--seconds=0", "--device=cpu")
    assert (status, out, err.count("\n")) == (2, "", 1) and "tyni: no such preset" in err


@pytest.mark.parametrize(("threads", "seen"), [(1, True), (2, True), (2, False)])
def test_a_profile_is_a_trace_and_a_table_and_changes_no_step(
    run: Run, monkeypatch: pytest.MonkeyPatch, threads: int, seen: bool
) -> None:
    """Not `seen`: torch 2.6 does not record the two threads that compute half of a batch each."""
    if not seen:
        monkeypatch.setattr(profile, "_ExperimentalConfig", lambda: None)
    torch.set_num_threads(threads)
    Path("text.txt").write_text(TEXT)
    command = ["train", "text.txt", "--epochs=1", *TINY]
    assert run(*command, "--output-dir=plain")[0] == 0
    status, _, err = run(*command, "--output-dir=run", "--profile=4")
    assert status == 0
    lines = err.splitlines()
    parts = ["batch", "forward", "backward", "optimizer", "norm, clip, rest", "a step"]
    parts = parts if seen else ["batch", "optimizer", "forward, backward, rest", "a step"]
    start = next(i for i, line in enumerate(lines) if line.split() == ["ms", "share"])
    rows = {line[:32].strip(): float(line[32:].split()[0]) for line in lines[start + 1 : start + 1 + len(parts)]}
    assert list(rows) == parts and all(ms > 0 for ms in rows.values())
    assert sum(rows.values()) == pytest.approx(2 * rows["a step"], rel=0.01)
    assert "the trace is in run/trace.json" in lines
    events = json.loads(Path("run/trace.json").read_text())["traceEvents"]
    assert sum(event.get("name") == "a step" for event in events) == 4
    weights = [torch.load(f"{folder}/final_model.pt")["model"] for folder in ("plain", "run")]
    assert all(torch.equal(one, other) for one, other in zip(*(w.values() for w in weights), strict=True))


def test_a_profile_of_a_short_run_has_what_there_was_and_replaces_no_file(run: Run) -> None:
    Path("text.txt").write_text(TEXT)
    Path("run").mkdir()
    Path("run/trace.json").write_text("mine")
    status, out, err = run("train", "text.txt", "--output-dir=run", *TINY, "--max-steps=5", "--profile=1000", "--json")
    assert status == 0 and all(json.loads(line) for line in out.splitlines()) and "run/trace-1.json" in err
    assert Path("run/trace.json").read_text() == "mine" and json.loads(Path("run/trace-1.json").read_text())


@pytest.mark.parametrize("steps", [2, 3])
def test_a_run_that_ends_before_a_step_is_recorded_has_no_profile(run: Run, steps: int) -> None:
    Path("text.txt").write_text(TEXT)
    status, _, err = run("train", "text.txt", "--output-dir=run", *TINY, f"--max-steps={steps}", "--profile=4")
    assert status == 0 and "share" not in err and not Path("run/trace.json").exists()
    assert "--profile recorded nothing: it begins after step 3\n" in err
