"""An exported model is the same model in other programs."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from fundamentallm.cli import main
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.data.tokenizer import train_bpe
from fundamentallm.model.generate import stream
from fundamentallm.train.checkpoint import load, save
from fundamentallm.train.loaded import load as load_trained
from tests.conftest import file_contents
from tests.engine.train.conftest import Trained

PROSE = "the caf\u00e9's sea, na\u00efve boats \u2603 ! and  \u5b57 who went out at dawn; why?\n"
FOREIGN = ("\u6f22\u5b57 \U0001f600\r\n\tx  y", "e\u0301 <|endoftext|>  ,  .")
BYTE_LEVEL = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
OTHER = {"model_dim": 24, "num_heads": 3, "num_layers": 3, "ff_dim": 40, "max_seq_len": 32}


@pytest.mark.parametrize(
    ("kind", "shape", "earlier"),
    [
        *((kind, {}, False) for kind in ("char", "bytes", "bpe", "file")),
        ("char", OTHER, False),
        ("char", OTHER, True),
    ],
    ids=["char", "bytes", "bpe", "file", "three heads", "earlier"],
)
def test_transformers_opens_the_folder_and_gives_our_tokens_logits_and_text(
    trained: Trained, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, kind: str, shape: dict[str, int],
    earlier: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prose = "".join(PROSE + text[at : at + 100] for at in range(0, 2500, 100))
    (tmp_path / "prose.txt").write_text(prose)
    described = {**train_bpe([prose], 290).to_hf(), "post_processor": {"type": "ByteLevel", **BYTE_LEVEL}}
    (tmp_path / "given.json").write_text(json.dumps(described))
    tokenizer, folder = str(tmp_path / "given.json") if kind == "file" else kind, tmp_path / "exported"
    settings = {"data": str(tmp_path / "prose.txt"), "tokenizer": tokenizer, "vocab_size": 300}
    source = trained(**settings, **shape).folder / "best.pt"
    if earlier:
        save(replace(load(source), attention_scale=1.0), tmp_path, ["earlier.pt"])
        source = tmp_path / "earlier.pt"
    assert main(["export", str(source), str(folder)]) == 0
    model, saved = load_trained(source, device="cpu").model, load(source)
    theirs, opened = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ours, length = saved.tokenizer(), model.freqs.shape[0]
    for sentence in (prose, "  the sea  ,\n\n the caf\u00e9 !", *(FOREIGN if kind != "char" else ())):
        tokens = opened(sentence)["input_ids"]
        assert tokens == ours.encode(sentence) and opened.decode(tokens) == ours.decode(tokens) == sentence
        batch = torch.tensor([tokens[:length]])
        with torch.no_grad():
            torch.testing.assert_close(theirs(batch).logits, model(batch), atol=1e-4, rtol=0)
    if kind == "char":
        with pytest.raises(Exception, match="UNK"):  # not silently another character
            opened("\u6f22")
    prompt = ours.encode("the ")[:4]
    greedy = [token for [(token, _)] in stream(model, prompt, SamplingOptions(max_tokens=12, temperature=0), [0])]
    written = theirs.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0].tolist()
    assert written == prompt + greedy and opened.decode(written) == ours.decode(written)
    card, progress = (folder / "README.md").read_text(), saved.progress()
    noun = {"char": "character", "bytes": "byte"}.get(kind, "token")
    rows = {"text": "`prose.txt`", "model_dim": f"`{shape.get('model_dim', 16)}`"}
    rows["training loss"] = f"{progress.train_loss:.4f} nats a {noun}"
    rows["validation loss"] = f"{progress.val_loss:.4f} nats a {noun}"
    for name, value in rows.items():
        assert f"| {name} | {value} |" in card


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
    (tmp_path / "empty").mkdir()
    before = file_contents(tmp_path)
    for target in ("mine", "mine/notes.txt", "link", "empty", "no such/folder"):
        assert main(["export", str(run), str(tmp_path / target), "--to", form]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"{tmp_path / target}: ") and error.count("\n") == 1
    assert main(["export", str(tmp_path / "mine"), str(tmp_path / "new"), "--to", form]) == 2
    assert file_contents(tmp_path) == before and sorted(os.listdir(tmp_path)) == ["empty", "link", "mine"]
