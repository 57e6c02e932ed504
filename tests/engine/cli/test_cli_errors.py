"""Bad input: one clear line a problem, exit status 2, no traceback, nothing left on the disk."""

import errno
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fundamentallm.cli import main
from fundamentallm.cli.terminal import plain

Run = Callable[..., tuple[int, str, str]]

TEXT = "".join(random.Random(1).choices("abcdefgh \n", k=3000))
TINY = ["--model-dim=16", "--num-layers=1", "--max-seq-len=16", "--stride=16", "--batch-size=64", "--epochs=1"]
PROGRAM = "import sys; open('ran', 'w').close()"  # what a hostile pickle would do


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    assert main(["train", str(folder / "text.txt"), "--output-dir", str(folder / "run"), *TINY]) == 0
    return (folder / "run" / "best.pt").read_bytes()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder of its own, with a text in it: status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    capsys.readouterr()

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        return status, *capsys.readouterr()

    return run


def refused(run: Run, *arguments: str) -> list[str]:
    """The lines of a command that is refused and leaves everything as it was."""
    before = sorted(Path().rglob("*"))
    status, out, err = run(*arguments)
    assert (status, out) == (2, ""), err
    assert sorted(Path().rglob("*")) == before
    return err.splitlines()


DATA = {
    "missing": (None, "data.txt: no such file (looked in {cwd})"),
    "empty": (b"", "data.txt: is empty; it needs at least a few thousand characters of text"),
    "blank": (b" \n\n", "data.txt: is empty; it needs at least a few thousand characters of text"),
    "binary": (b"abc\0def" * 900, "data.txt: is not a text file (a zero byte at offset 3)"),
    "latin-1": (
        b"abc\nna\xefve" * 900,
        "data.txt: is not UTF-8 (byte 0xef in line 2, offset 6); save it as UTF-8",
    ),
    "short": (
        b"0123456789" * 10,
        "data.txt: its 90 training characters are fewer than one window of 256 + 1; "
        "--max-seq-len 89 is the largest that fits",
    ),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_that_cannot_be_learnt_from_is_one_line(run: Run, kind: str) -> None:
    raw, line = DATA[kind]
    if raw is not None:
        Path("data.txt").write_bytes(raw)
    assert refused(run, "train", "data.txt", "--output-dir", "out/deep") == [line.format(cwd=Path.cwd())]
    assert refused(run, "train", "data.txt") == [line.format(cwd=Path.cwd())]


FLAGS = {
    "--num-heads 7 --model-dim 256": "--num-heads: 7 does not divide model_dim 256; 1, 2, 4, 8, 16, 32, 64 or 128 do",
    "--model-dim ten": "--model-dim: ten is not a whole number, at least 2, at most 16,384",
    "--model-dim 15": "--model-dim: 15 is odd; 16 would do",
    "--epochs 0": "--epochs: 0 is out of bounds; it must be at least 1, at most 1,000,000",
    "--epochs 1.5": "--epochs: 1.5 is not a whole number, at least 1, at most 1,000,000",
    "--learning-rate -1": "--learning-rate: -1 is out of bounds; it must be above 0, at most 1",
    "--learning-rate nan": "--learning-rate: nan is not a number, above 0, at most 1",
    "--dropout 1": "--dropout: 1 is out of bounds; it must be at least 0, below 1",
    "--val-split 1": "--val-split: 1 is out of bounds; it must be above 0, below 1",
    "--stride 300": "--stride: 300 is more than max_seq_len 256; text would be skipped",
    "--lr-schedule cosin": (
        "--lr-schedule: cosin is not one of cosine, linear, constant, step, wsd (did you mean cosine?)"
    ),
    "--device cuda:99": None,
    "--device abacus": "--device abacus: no such device; there are cpu, cuda, cuda:1, mps and auto",
    "--preset tinny": "--preset tinny: no such preset; did you mean tiny?",
    "--config none.yaml": "none.yaml: cannot be read: No such file or directory",
    "--resume-from=": "--resume-from last.pt: no such checkpoint",
    "--resume-from none.pt": "--resume-from none.pt: no such checkpoint",
    "--output-dir text.txt": "--output-dir text.txt: is a file; name a folder",
    "--modle-dim 16": "--modle-dim: no such option; did you mean --model-dim?",
}  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS)
def test_a_wrong_flag_is_one_line_that_names_it(run: Run, flags: str) -> None:
    lines = refused(run, "train", "text.txt", *flags.split())
    expected = FLAGS[flags]
    assert lines == [expected] if expected else (len(lines) == 1 and lines[0].startswith(flags)), lines


def test_all_problems_are_said_at_once(run: Run) -> None:
    lines = refused(run, "train", "text.txt", "--epochs", "0", "--dropout", "x", "--model-dim", "1")
    assert [line.split(":")[0] for line in lines] == ["--epochs", "--dropout", "--model-dim"]


def test_a_configuration_file_is_blamed_by_line(run: Run) -> None:
    Path("c.yaml").write_text("model_dim: 64\nepoch: 3\nbatch_size: many\n")
    assert refused(run, "train", "text.txt", "--config", "c.yaml") == [
        "epoch: no such setting; did you mean epochs? (c.yaml, line 2)",
        "batch_size: many is not a whole number, at least 1, at most 65,536 (c.yaml, line 3)",
    ]
    Path("c.yaml").write_text("a: [1\n")
    lines = refused(run, "train", "text.txt", "--config", "c.yaml")
    assert len(lines) == 1 and lines[0].startswith("c.yaml, line 2: is not YAML")


def test_training_without_data_is_one_line(run: Run) -> None:
    assert refused(run, "train") == ["DATA: name a text file to learn from, or use --preset or --config"]


def test_a_folder_that_cannot_be_written_to_is_refused(run: Run) -> None:
    Path("file").write_text("")
    assert refused(run, "train", "text.txt", "--output-dir", "file/run") == [
        f"--output-dir file/run: {Path('file').absolute()} cannot be written to"
    ]


@pytest.mark.parametrize("path", ["~nobody-at-all/x", "x" * 300])
def test_a_path_that_there_cannot_be_is_one_line(run: Run, path: str) -> None:
    commands = (
        ["train", path], ["train", "text.txt", "--output-dir", path], ["train", "text.txt", "--config", path],
        ["train", "--resume-from", path], ["generate", path], ["evaluate", path, "text.txt"],
        ["evaluate", "run", "text.txt", "--output", path],
    )  # fmt: skip
    for command in commands:
        lines = refused(run, *command)
        assert len(lines) == 1 and lines[0].startswith(f"{path[:100]}: cannot be looked up: "), lines


def test_a_folder_that_the_system_refuses_to_make_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    assert refused(run, "train", "text.txt", "--output-dir", "x") == [
        "--output-dir x: cannot be made: No space left on device"
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_that_cannot_be_written_is_one_line(run: Run, checkpoint: bytes) -> None:
    Path("best.pt").write_bytes(checkpoint)
    command = [sys.executable, "-m", "fundamentallm", "generate", "best.pt", "--max-tokens", "5"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "the output: No space left on device\n")


COMMANDS = {
    "trian": "trian: no such command; did you mean train?",
    "generate": "Missing argument 'CHECKPOINT'; see fundamentallm generate --help",
    "evaluate run": "Missing argument 'DATA'; see fundamentallm evaluate --help",
    "presets tinny": "--preset tinny: no such preset; did you mean tiny?",
    "generate x.pt --temperature -1": "--temperature: -1 is out of bounds; it must be at least 0, at most 100",
    "generate x.pt --top-p 0": "--top-p: 0 is out of bounds; it must be above 0, at most 1",
    "generate x.pt --top-k -1": "--top-k: -1 is out of bounds; it must be at least 0",
    "generate x.pt --max-tokens 0": "--max-tokens: 0 is out of bounds; it must be at least 1",
    "generate x.pt --max-token 5": "--max-token: no such option; did you mean --max-tokens?",
    "generate x.pt": "x.pt: no such checkpoint",
    "evaluate x.pt text.txt": "x.pt: no such checkpoint",
    "evaluate x.pt none.txt": "none.txt: no such file (looked in {cwd})",
    "evaluate x.pt text.txt --output no/where.json": "--output no/where.json: its folder does not exist",
}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_wrong_command_is_one_line(run: Run, words: str) -> None:
    assert refused(run, *words.split()) == [COMMANDS[words].format(cwd=Path.cwd())]


def test_a_damaged_checkpoint_is_refused_by_every_command(run: Run, checkpoint: bytes) -> None:
    flipped = bytearray(checkpoint)
    flipped[len(flipped) // 2] ^= 1
    bad = {
        "cut.pt": checkpoint[: len(checkpoint) // 2],
        "empty.pt": b"",
        "flipped.pt": bytes(flipped),
        "text.pt": b"not a checkpoint at all",
    }
    for name, raw in bad.items():
        Path(name).write_bytes(raw)
        for command in (["generate", name], ["evaluate", name, "text.txt"], ["train", "--resume-from", name]):
            lines = refused(run, *command, *(["--output-dir", "new/run"] if command[0] == "train" else []))
            assert len(lines) == 1 and lines[0].startswith(f"{name}: is damaged"), (name, lines)


def test_a_checkpoint_of_another_format_is_refused(run: Run) -> None:
    import torch

    torch.save({"model": {"w": torch.zeros(3)}}, "other.pt")
    for command in (
        ["generate", "other.pt"],
        ["evaluate", "other.pt", "text.txt"],
        ["train", "--resume-from=other.pt"],
    ):
        assert refused(run, *command) == ["other.pt: is not a checkpoint of this program"]


class Hostile:
    """Unpickling it would run a program."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (PROGRAM,)


def test_pickled_code_is_refused_and_not_run(run: Run) -> None:
    import torch

    torch.save({"format": "fundamentallm checkpoint 1", "model": Hostile()}, "evil.pt")
    for command in (["generate", "evil.pt"], ["evaluate", "evil.pt", "text.txt"], ["train", "--resume-from=evil.pt"]):
        assert refused(run, *command) == [
            "evil.pt: holds code (pickled objects) and was not opened; only plain tensors are read"
        ]
    assert not Path("ran").exists()


def test_a_character_that_the_model_does_not_know_is_named(run: Run, checkpoint: bytes) -> None:
    Path("good.pt").write_bytes(checkpoint)
    lines = refused(run, "generate", "good.pt", "--prompt", "aéb\x1b[2J")
    assert len(lines) == 1 and "'é'" in lines[0] and "\x1b" not in lines[0]


def test_resuming_refuses_only_typed_flags_that_cannot_change(run: Run, checkpoint: bytes) -> None:
    Path("good.pt").write_bytes(checkpoint)
    Path("other.txt").write_text(TEXT[::-1])
    resume = ("train", "text.txt", "--resume-from", "good.pt", "--output-dir", "new")
    assert refused(run, *resume, "--epochs", "2", "--model-dim", "32", "--seed", "4") == [
        "--model-dim: cannot change on resume: the checkpoint has 16; leave it out",
        "--seed: cannot change on resume: the checkpoint has 0; leave it out",
    ]
    assert refused(run, *resume, "--epochs", "1") == [
        "good.pt: epoch 1 of 1 is done; give a larger total with --epochs"
    ]
    assert refused(run, "train", "other.txt", *resume[2:], "--epochs", "2") == [
        "other.txt: is not the text that good.pt was trained on; restore the text, or start a new run"
    ]


def test_an_old_run_stays_in_its_place_when_the_new_one_does_not_come_about(run: Run) -> None:
    Path("run").mkdir()
    Path("run/lock").write_text("")  # nobody holds it
    Path("run/journal.jsonl").write_text("old")
    lines = refused(run, "train", "text.txt", "--output-dir", "run", "--overwrite", "--device", "abacus")
    assert len(lines) == 1 and Path("run/journal.jsonl").read_text() == "old"


def test_a_terminal_is_not_commanded() -> None:
    assert plain("a\x1b[31m\tb\r\n\x9b1m\x7f") == "a\ufffd[31m\tb\ufffd\n\ufffd1m\ufffd"


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["train", "--help"], ["presets"], ["presets", "tiny"]]
)
def test_what_does_not_compute_does_not_import_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from fundamentallm.cli import main; status = main(sys.argv[1:]);"
        "sys.exit(status or 10 * ('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True).returncode == 0


WORDS = {
    "--lr-schedule cosinus": (
        "--lr-schedule: cosinus is not one of cosine, linear, constant, step, wsd (did you mean cosine?)"
    ),
    "--augment casng": "--augment: casng: no such variation; did you mean casing?",
    "--augment casing=2": "--augment: casing=2: the probability must be from 0 to 1, as in casing=0.05",
    "--patience 0": "--patience: 0 is out of bounds; it must be at least 1",
    "--accumulation-steps 0": "--accumulation-steps: 0 is out of bounds",
    "--warmup-steps -1": "--warmup-steps: -1 is out of bounds",
    "--tensorboard --log-dir text.txt": "--log-dir text.txt: {cwd}/text.txt cannot be written to",
    "--tensorboard --log-dir text.txt/deeper": "--log-dir text.txt/deeper: {cwd}/text.txt cannot be written to",
    "empty": "empty: holds no *.txt file",
    "--val-split 0.9999": "text.txt: ",
    "--val-split 0.00001": "text.txt: --val-split 1e-05 of 3000 characters leaves 1 to validate on; it needs 2",
}


@pytest.mark.parametrize("flags", WORDS)
def test_what_the_guide_offers_is_refused_in_one_line_that_leaves_nothing(run: Run, flags: str) -> None:
    Path("empty").mkdir()
    lines = refused(run, "train", "text.txt", "--output-dir", "deep/run", *flags.split())
    assert len(lines) == 1 and lines[0].startswith(WORDS[flags].format(cwd=Path.cwd())), lines


def test_a_resumed_run_with_a_bad_log_folder_is_not_touched(run: Run) -> None:
    assert run("train", "text.txt", "--output-dir", "run", *TINY)[0] == 0
    journal, lock = Path("run/journal.jsonl").read_bytes(), Path("run/lock").read_bytes()
    assert refused(run, "train", "--resume-from", "run", "--epochs=2", "--tensorboard", "--log-dir=text.txt") == [
        f"--log-dir text.txt: {Path.cwd()}/text.txt cannot be written to"
    ]
    assert (Path("run/journal.jsonl").read_bytes(), Path("run/lock").read_bytes()) == (journal, lock) == (journal, b"")


def test_texts_that_are_all_too_short_are_one_line(run: Run) -> None:
    Path("many").mkdir()
    for name in "abc":
        Path(f"many/{name}.txt").write_text(TEXT[:50])
    assert refused(run, "train", "many", "--output-dir", "new") == [
        "many: the longest of its 3 texts has 50 training characters, fewer than one window of 256 + 1; "
        "--max-seq-len 49 is the largest that fits"
    ]
    assert run("train", "many", "--output-dir", "new", *TINY, "--max-seq-len=49")[0] == 0
