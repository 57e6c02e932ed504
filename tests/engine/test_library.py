"""`import fundamentallm`: what it offers, and that it costs nothing until it is used."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fundamentallm
from fundamentallm.cli import main
from fundamentallm.data.text import read_standard_input
from fundamentallm.errors import UserError
from fundamentallm.run.events import Failed
from fundamentallm.train import step

SMALL: dict[str, Any] = {
    "model_dim": 16, "num_layers": 1, "max_seq_len": 16, "stride": 16, "batch_size": 16, "epochs": 1, "device": "cpu",
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("the sea was old, and the dawn came early\n" * 60)
    return tmp_path


def test_every_stable_name_is_there_and_what_describes_comes_without_torch() -> None:
    code = (
        "import sys, fundamentallm\n"
        "fundamentallm.read_run, fundamentallm.train_model, fundamentallm.SamplingOptions, fundamentallm.RunHistory\n"
        "assert not {'torch', 'numpy', 'textual', 'rich', 'click'} & set(sys.modules)\n"
        "from fundamentallm import *\n"
        "assert set(fundamentallm.__all__) <= set(globals()) and 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (Path(fundamentallm.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = fundamentallm.nonsense  # type: ignore[attr-defined]


def test_a_model_is_trained_resumed_and_read_as_by_the_command_line(here: Path) -> None:
    seen, before = list[str](), signal.getsignal(signal.SIGINT)
    run = fundamentallm.train_model(
        "book.txt", output_dir="library", on_event=lambda event: seen.append(type(event).__name__), **SMALL
    )
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    assert main(["train", "book.txt", "--output-dir=typed", "--quiet", *flags]) == 0
    history, typed = fundamentallm.read_run("library"), fundamentallm.read_run(Path("typed"))
    assert history.train_loss == typed.train_loss and len(history.steps) == run.steps
    assert (run.state, run.val_loss) == ("finished", history.evaluations[-1].val_loss)
    assert signal.getsignal(signal.SIGINT) is before
    assert seen[0] == "RunStarted" and seen[-1] == "Finished" and "Progress" in seen
    again = fundamentallm.train_model(output_dir=Path("library"), resume=True, epochs=2)
    assert again.steps == 2 * run.steps
    child = fundamentallm.train_model("book.txt", init_from="library", output_dir="child", max_steps=3)
    assert child.parent == "library/best.pt" and child.config["model_dim"] == 16


def test_a_model_writes_and_predicts_as_the_command_line_does(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fundamentallm.train_model("book.txt", output_dir="run", **SMALL)
    model = fundamentallm.load(run.folder, device="cpu")
    options = fundamentallm.SamplingOptions(max_tokens=20, seed=1)
    assert main(["generate", "run", "--prompt=the", "--max-tokens=20", "--seed=1", "--device=cpu"]) == 0
    assert capsys.readouterr().out == "the" + model.generate("the", options) + "\n"
    whole = model.generate("the", options)
    for stop in (whole[4:7], ["", whole[4:7]]):
        assert model.generate("the", options, stop=stop) == whole.partition(whole[4:7])[0] != ""
    assert main(["evaluate", "run", "book.txt", "--json", "--device=cpu"]) == 0
    assert model.evaluate("book.txt").loss == json.loads(capsys.readouterr().out)["loss"]
    text = Path("book.txt").read_text()
    assert main(["score", "run", "book.txt", "--json", "--device=cpu"]) == 0
    worst = json.loads(capsys.readouterr().out)["worst"]
    assert model.score(text).worst(10) == [(place["offset"], place["loss"]) for place in worst]
    with pytest.warns(UserWarning, match="left out 1 of 8 characters"):
        assert model.score("the \u00e9sea").offsets == [1, 2, 3, 5, 6, 7]
    with pytest.raises(UserError, match="the text is not UTF-8 .half of a character after 4 characters"):
        model.score("the \ud800sea")


def test_options_of_a_text_are_checked_as_those_of_the_command_are(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fundamentallm.train_model("book.txt", output_dir="run", **SMALL)
    model = fundamentallm.load("run", device="cpu")
    wrong: dict[str, Any] = {"temperature": -1, "max_tokens": -1, "top_p": 2, "seed": "x", "min_p": float("nan")}
    with pytest.raises(UserError) as refused:
        model.generate("the", fundamentallm.SamplingOptions(**wrong))
    lines = str(refused.value).splitlines()
    assert "temperature: -1 is out of bounds; it must be at least 0, at most 100" in lines and len(lines) == len(wrong)
    assert main(["generate", "run", *(f"--{name.replace('_', '-')}={value}" for name, value in wrong.items())]) == 2
    typed = [line.removeprefix("--").replace("-", "_", 1) for line in capsys.readouterr().err.splitlines()]
    assert sorted(line.split(":")[0] for line in typed) == sorted(line.split(":")[0] for line in lines) == sorted(wrong)
    whole = fundamentallm.SamplingOptions(max_tokens=9, seed=np.int64(3))  # type: ignore[arg-type]  # as notebooks do
    assert model.generate("the", whole) == model.generate("the", fundamentallm.SamplingOptions(max_tokens=9, seed=3))


def test_what_is_wrong_is_a_user_error_and_leaves_nothing(here: Path) -> None:
    def wrong(why: str, *data: str, **settings: Any) -> None:
        with pytest.raises(UserError, match=why):
            fundamentallm.train_model(data, **{"output_dir": "run", **settings})
        assert not Path("run").exists()

    wrong("name a text file to learn from")
    wrong("did you mean learning_rate", "book.txt", learning_rat=1)
    wrong("epochs: ", "book.txt", epochs="many")
    wrong("resume: needs output_dir", "book.txt", resume=True, overwrite=True)
    wrong("resume: needs output_dir", "book.txt", resume=True, output_dir=None)
    with pytest.raises(UserError, match="no such run"):
        fundamentallm.read_run("nowhere")
    fundamentallm.train_model("book.txt", output_dir="there", **SMALL)
    with pytest.raises(UserError, match="holds a run already"):
        fundamentallm.train_model("book.txt", output_dir="there", **SMALL)


def test_what_is_looked_for_in_a_folder_that_is_gone_is_a_user_error(here: Path) -> None:
    Path("gone").mkdir()
    os.chdir("gone")
    (here / "gone").rmdir()
    for data, folder in (("book.txt", str(here / "run")), (str(here / "book.txt"), "run")):
        with pytest.raises(UserError, match="cannot be looked up: No such file or directory"):
            fundamentallm.train_model(data, output_dir=folder, **SMALL)
    with pytest.raises(UserError, match="run: cannot be looked up: No such file or directory"):
        fundamentallm.load("run")


def test_a_run_that_fails_is_a_user_error_with_its_advice(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = step.loss_sum
    monkeypatch.setattr(step, "loss_sum", lambda *arguments: real(*arguments) * float("nan"))
    with pytest.raises(UserError, match="step 1 was refused: .*; try "):
        fundamentallm.train_model("book.txt", output_dir="run", **SMALL)
    assert fundamentallm.read_run("run").end is not None


def test_standard_input_is_kept_for_the_resume(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_standard_input.cache_clear()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("book.txt").read_bytes())))
    assert fundamentallm.train_model("-", output_dir="run", **SMALL).config["data"] == ["run/input.txt"]
    assert fundamentallm.train_model(output_dir="run", resume=True, epochs=2).state == "finished"


def test_a_run_stays_in_its_folder_wherever_the_program_goes(here: Path) -> None:
    def leave(event: Any) -> None:
        if type(event).__name__ == "RunStarted":
            os.chdir("there")

    Path("there").mkdir()
    run = fundamentallm.train_model("book.txt", output_dir="run", on_event=leave, **SMALL)
    assert run.folder == here / "run" and run.state == "finished" and (here / "run" / "final_model.pt").is_file()
    assert not [*(here / "there").iterdir()]


def test_a_callback_that_ends_the_program_leaves_the_last_state(here: Path) -> None:
    def leave(event: Any) -> None:
        if type(event).__name__ == "Progress" and event.step[-1] >= 3:
            sys.exit("enough")

    with pytest.raises(SystemExit, match="enough"):
        fundamentallm.train_model("book.txt", output_dir="run", on_event=leave, **SMALL | {"epochs": 50})
    history = fundamentallm.read_run("run")
    assert fundamentallm.load("run/last.pt").step == history.steps[-1] >= 3
    assert isinstance(history.end, Failed) and history.end.error == "SystemExit: enough; the program around it ended"


def test_an_end_that_could_not_be_saved_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    def fill(event: Any) -> None:
        if type(event).__name__ == "Evaluated":
            monkeypatch.setattr("fundamentallm.train.checkpoints.save", refuse)

    with pytest.warns(UserWarning, match="run: the end of the run could not be saved: No space left on device"):
        run = fundamentallm.train_model("book.txt", output_dir="run", on_event=fill, **SMALL)
    assert run.unsaved == "No space left on device"


def test_a_second_ctrl_c_ends_the_run_at_once_and_not_the_program(here: Path) -> None:
    def interrupt(event: Any) -> None:
        if type(event).__name__ == "Progress" and event.step[-1] >= 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fundamentallm.train_model("book.txt", output_dir="run", on_event=interrupt, **SMALL | {"epochs": 50})
    assert fundamentallm.load("run/last.pt").step == fundamentallm.read_run("run").steps[-1] >= 3
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_ends_a_run_saved(here: Path) -> None:
    code = (
        "import os, signal, fundamentallm\n"
        "def stop(event):\n"
        "    if type(event).__name__ == 'Progress' and event.step[-1] >= 3: signal.raise_signal(signal.SIGINT)\n"
        f"settings = {SMALL | {'epochs': 1000}}\n"
        "run = fundamentallm.train_model('book.txt', output_dir='run', on_event=stop, **settings)\n"
        "print(run.state, run.steps, os.path.exists('run/last.pt'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    state, steps, saved = done.stdout.split()
    assert (state, saved) == ("stopped", "True") and 3 <= int(steps) < 3000, done.stderr
