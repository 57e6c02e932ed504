"""An exported model is the same model in other programs."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from fundamentallm.cli import main
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.model.generate import stream
from fundamentallm.train.checkpoint import load
from fundamentallm.train.loaded import load_model
from tests.conftest import file_contents
from tests.engine.train.conftest import Trained

TEXT = "old crew, the boat\nand her sea"
MODELS = [{}, {"model_dim": 24, "num_heads": 3, "num_layers": 3, "ff_dim": 40, "max_seq_len": 32}]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("shape", MODELS, ids=["small", "three heads"])
def test_transformers_opens_the_folder_and_gives_our_logits_and_text(
    trained: Trained, tmp_path: Path, offline: None, shape: dict[str, int]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, folder = trained(**shape).folder / "best.pt", tmp_path / "exported"
    assert main(["export", str(source), str(folder)]) == 0
    model, saved = load_model(source, torch.device("cpu"))
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = TEXT[: model.freqs.shape[0]]
    tokens = tokenizer(text)["input_ids"]
    assert tokens == saved.tokenizer().encode(text) and tokenizer.decode(tokens) == text
    with torch.no_grad():
        batch = torch.tensor([tokens])
        torch.testing.assert_close(theirs(batch).logits, model(batch), atol=1e-4, rtol=0)
    prompt = saved.tokenizer().encode("the ")
    greedy = [token for [(token, _)] in stream(model, prompt, SamplingOptions(max_tokens=12, temperature=0))]
    written = theirs.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0].tolist()
    assert written == prompt + greedy
    with pytest.raises(Exception, match="UNK"):  # not silently another character
        tokenizer("\u6f22")
    card = (folder / "README.md").read_text()
    assert f"| validation loss | {saved.progress().val_loss:.4f} nats a character |" in card and "`text.txt`" in card


def test_the_file_of_tensors_has_the_weights_and_what_they_mean(trained: Trained, tmp_path: Path) -> None:
    run = trained().folder
    assert main(["export", str(run), str(tmp_path / "model.safetensors"), "--to", "safetensors"]) == 0
    saved = load(run / "best.pt")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(saved.model)
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in saved.model.items())
        assert json.loads(file.metadata()["config"]) == saved.config
        assert file.metadata()["vocabulary"] == saved.vocabulary


@pytest.mark.parametrize("form", ["hf", "safetensors"])
def test_a_target_that_exists_or_cannot_be_made_gets_one_line_and_nothing_changes(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    run = trained().folder
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = file_contents(tmp_path)
    for target in ("mine", "mine/notes.txt", "link", "no such/folder"):
        assert main(["export", str(run), str(tmp_path / target), "--to", form]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"{tmp_path / target}: ") and error.count("\n") == 1
    assert main(["export", str(tmp_path / "mine"), str(tmp_path / "new"), "--to", form]) == 2
    assert file_contents(tmp_path) == before and sorted(os.listdir(tmp_path)) == ["link", "mine"]
