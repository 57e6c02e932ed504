"""A run with each kind of tokenizer: trains, resumes, is sampled, looked at and measured as any other."""

import json
from math import log
from pathlib import Path

import pytest
import torch

from fundamentallm.cli import main
from fundamentallm.config.config import ConfigError
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.data.tokenizer import train_bpe
from fundamentallm.model.generate import stream
from fundamentallm.run.commands import Attend, Explain, Neighbours, Sample
from fundamentallm.run.events import Answered, Attended, Evaluated, Explained, Nearest, Sampled
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.checkpoint import load
from fundamentallm.train.evaluate import evaluate
from fundamentallm.train.loaded import load as load_trained
from fundamentallm.train.samples import SampleControl
from fundamentallm.train.state import build_state
from tests.conftest import file_contents
from tests.engine.conftest import Ran, run_here
from tests.engine.train.conftest import Forge, Small, Trained, refusal

PROSE = "the café's sea, naïve boats ☃ and 漢字 who went out at dawn; why?\n"
KINDS = ["char", "bytes", "bpe", "file"]


@pytest.fixture(scope="session")
def prose(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    path = tmp_path_factory.mktemp("prose") / "prose.txt"
    path.write_text("".join(PROSE + text[at : at + 100] for at in range(0, 2500, 100)))
    return path


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory, prose: Path) -> Path:
    path = tmp_path_factory.mktemp("file") / "tokenizer.json"
    path.write_text(json.dumps(train_bpe([prose.read_text()], 290).to_hf()))
    return path


@pytest.fixture(params=KINDS)
def ran(request: pytest.FixtureRequest, trained: Trained, prose: Path, file: Path) -> Ran:
    tokenizer = str(file) if request.param == "file" else request.param
    return trained(data=str(prose), tokenizer=tokenizer, vocab_size=300)


def test_a_checkpoint_has_its_tokenizer_and_the_run_resumes_to_the_same_bits(ran: Ran, tmp_path: Path) -> None:
    state = ran.trainer.state
    saved = load(ran.folder / "final_model.pt")
    assert saved.tokenizer().token_bytes == state.tokenizer.token_bytes
    stopped = run_here(
        RunSpec(state.config, tmp_path / "run"), lambda trainer: trainer.stop() or [] if trainer.state.step == 5 else []
    )
    assert stopped.result.reason == "stopped"
    resumed = run_here(RunSpec(state.config, stopped.folder, stopped.last))
    again = load(resumed.folder / "final_model.pt")
    assert all(torch.equal(again.model[name], tensor) for name, tensor in saved.model.items())


def test_the_loss_a_byte_is_that_of_all_bytes_but_those_of_the_first_token(ran: Ran, prose: Path) -> None:
    state, event = ran.trainer.state, ran.of(Evaluated)[-1]
    result = evaluate(state.model, state.corpus.val, state.config.max_seq_len, state.precision)
    raw = b"".join(state.tokenizer.token_bytes[token] for token in state.corpus.val[1:].tolist())
    assert prose.read_bytes().endswith(raw)
    assert event.bits_per_byte == pytest.approx(result.loss * (len(state.corpus.val) - 1) / len(raw) / log(2))
    everything = b"".join(
        state.tokenizer.token_bytes[token] for part in (state.corpus.train, state.corpus.val) for token in part.tolist()
    )
    assert everything == prose.read_bytes()


def test_samples_and_looks_show_whole_characters(ran: Ran) -> None:
    loaded, emitted = load_trained(ran.folder, device="cpu"), list[object]()
    model, tokenizer = loaded.model, loaded.tokenizer
    control = SampleControl(loaded, emitted.append, lambda: ())
    control.obey_commands([
        Sample(prompt="the ☃", max_tokens=60, seed=3), Explain(text=PROSE), Attend(text=PROSE, layer=0),
        Neighbours(text="e"),
    ])  # fmt: skip
    assert [event.why for event in emitted if isinstance(event, Answered)] == [""] * 4
    written = "".join(event.text for event in emitted if isinstance(event, Sampled))
    tokens = stream(model, tokenizer.encode("the ☃"), SamplingOptions(max_tokens=60, seed=3), [0])
    assert written == tokenizer.decode(token for [(token, _)] in tokens) and written
    assert loaded.generate("the ☃", SamplingOptions(max_tokens=60, seed=3)) == written
    (explained,) = (event for event in emitted if isinstance(event, Explained))
    assert "".join(explained.tokens) == PROSE and len(explained.tokens) == len(tokenizer.encode(PROSE))
    (attended,) = (event for event in emitted if isinstance(event, Attended))
    assert PROSE.endswith("".join(attended.tokens).lstrip("\ufffd")) and attended.tokens[-1].endswith("\n")
    assert (attended.layer, attended.layers, len(attended.heads)) == (0, 1, 2)
    assert [len(row) for row in attended.heads[1]] == list(range(1, len(attended.tokens) + 1))
    (nearest,) = (event for event in emitted if isinstance(event, Nearest))
    assert nearest.token == "e" and set(nearest.tokens) <= {*tokenizer.texts} - {"e"}
    assert len(nearest.tokens) == 12 and list(nearest.cosine) == sorted(nearest.cosine, reverse=True)


def test_the_commands_work_with_every_kind(ran: Ran, prose: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = load(ran.folder / "best.pt").tokenizer()
    assert main(["generate", str(ran.folder), "--prompt", "the ☃", "--max-tokens", "30", "--seed", "3"]) == 0
    assert capsys.readouterr().out.startswith("the ☃")
    assert main(["evaluate", str(ran.folder), str(prose), "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    text, tokens = prose.read_text(), tokenizer.encode(prose.read_text())
    first = tokenizer.token_bytes[tokens[0]]
    bits = numbers["loss"] * (len(tokens) - 1) / log(2)
    assert numbers["bits_per_byte"] == pytest.approx(bits / (len(text.encode()) - len(first)))
    assert numbers["bits_per_character"] == pytest.approx(bits / (len(text) - tokenizer.characters[tokens[0]]))
    assert main(["score", str(ran.folder), str(prose), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["bits_per_byte"] == pytest.approx(numbers["bits_per_byte"])
    for place in scored["worst"]:
        assert text[max(0, place["offset"] - 32) : place["offset"] + 8] == place["text"]
    prose.with_name("one.txt").write_text("☃")
    several = len(tokenizer.encode("☃")) > 1
    for command in ("evaluate", "score"):
        assert main([command, str(ran.folder), str(prose.with_name("one.txt"))]) == (0 if several else 2)
    capsys.readouterr()
    assert main(["runs", "show", str(ran.folder)]) == 0
    assert "bits/byte" in capsys.readouterr().out


def test_a_tokenizer_file_is_not_needed_any_more_once_a_checkpoint_has_it(prose: Path, file: Path, here: Path) -> None:
    Path("tokenizer.json").write_text(file.read_text())
    size = ["--model-dim=16", "--num-layers=1", "--max-seq-len=16", "--device=cpu", "--quiet"]
    train = ["train", str(prose), "--tokenizer=tokenizer.json", *size]
    assert main([*train, "--max-steps=1", "--output-dir=run"]) == 0
    Path("tokenizer.json").unlink()
    assert main(["train", "--resume=auto", "--output-dir=run", "--max-steps=2", "--quiet"]) == 0
    assert main(["train", "--config=run/config.yaml", "--init-from=run", "--max-steps=1", "--output-dir=other"]) == 0
    assert main([*train, "--output-dir=new"]) == 2


def test_weights_bring_their_tokenizer_and_another_one_is_refused(
    ran: Ran, small: Small, tmp_path: Path, data: str
) -> None:
    tokenizer = ran.trainer.state.config.tokenizer
    state = build_state(RunSpec(small(), tmp_path / "new", init_from=ran.folder / "best.pt"))
    assert state.config.tokenizer == tokenizer
    assert set(state.tokenizer.token_bytes) >= set(ran.trainer.state.tokenizer.token_bytes)
    other = "bytes" if tokenizer == "char" else "char"
    with pytest.raises(
        ConfigError, match=f"^--tokenizer: the model of --init-from has .*{tokenizer[-9:]}; leave it out$"
    ):
        build_state(RunSpec(small(), tmp_path / "new", init_from=ran.folder / "best.pt", changes={"tokenizer": other}))


def test_a_file_that_does_not_fit_leaves_no_folder(
    prose: Path, file: Path, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    Path("bad.json").write_text("{")
    described = json.loads(file.read_text())
    Path("lower.json").write_text(json.dumps({**described, "normalizer": {"type": "NFD"}}))
    Path("spm.model").write_bytes(b"\n\x0e\n\x05<unk>\x15")
    before = file_contents(here)
    for name, error in (
        ("spm.model", "--tokenizer spm.model: is a SentencePiece model, which is not read here; name a tokenizer.json"),
        ("bad.json", "--tokenizer bad.json: is no tokenizer.json of Hugging Face's tokenizers: "),
        ("nowhere", "--tokenizer nowhere: no such file; char, bytes and bpe need none"),
        ("lower.json", f"{prose}: the tokenizer does not fit: it changes what it reads"),
    ):
        assert main(["train", str(prose), "--tokenizer", name, "--output-dir", "run"]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if error in line]
        assert len(lines) == 1 and file_contents(here) == before


@pytest.mark.parametrize(
    ("kind", "changes", "wrong"),
    [
        ("bytes", {"vocabulary": "ab"}, "its tokenizer is not that of its configuration; it was changed by hand"),
        ("bytes", {"vocabulary": "", "tokenizer_json": "{}"}, "its tokenizer is not that of its configuration"),
        ("bpe", {"vocabulary": "", "tokenizer_json": "{}"}, "its tokenizer cannot be used: tokenizer.json: is no"),
        ("char", {"vocabulary": "", "tokenizer_json": ""}, "its vocabulary is not a sorted list"),
        ("bytes", {"vocabulary": ""}, "its weights do not fit its configuration"),
    ],
)
def test_a_checkpoint_with_another_tokenizer_is_refused(
    forge: Forge, state: object, kind: str, changes: dict[str, str], wrong: str
) -> None:
    config = {**state.config, "tokenizer": kind}  # type: ignore[attr-defined]
    assert refusal(forge(config=config, **changes)).startswith(wrong)
