"""A model for other programs: as a folder that Hugging Face's transformers opens, or as a file of named tensors.

- transformers has the same block under the name Qwen3: RMSNorm before each sublayer and on queries and keys, rotary
  positions, no biases. The gains that it has are 1 here, but for that of queries, and its gated activation
  relu(gate) * up is the squared ReLU where gate and up are the same matrix.
- What is written appears whole or not at all, and nothing is overwritten.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from fundamentallm import __version__
from fundamentallm.config.config import BYTES, CHAR, DATA, MODEL, SETTINGS, TRAINING
from fundamentallm.config.estimate import count_parameters, token_noun
from fundamentallm.config.format import format_count, format_value
from fundamentallm.errors import UserError, system_errors
from fundamentallm.model.ops import EPSILON, rms_norm
from fundamentallm.run.folder import write_atomic
from fundamentallm.run.summary import changed_from_defaults
from fundamentallm.train.checkpoint import Checkpoint

ROPE_BASE = 10000.0


def export_hf(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a folder for `AutoModelForCausalLM` and `AutoTokenizer`. A UserError says that there is something already.

    The logits are those of the model, up to rounding.
    """
    from safetensors.torch import save

    config, tokenizer = checkpoint.settings(), checkpoint.tokenizer()
    D, V = config.model_dim, len(tokenizer)
    described = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "relu", "hidden_size": D,
        "intermediate_size": config.ff_width, "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads, "num_key_value_heads": config.num_heads,
        "head_dim": D // config.num_heads, "max_position_embeddings": config.max_seq_len, "rms_norm_eps": EPSILON,
        "rope_theta": ROPE_BASE, "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE},
        "tie_word_embeddings": False, "vocab_size": V, "attention_bias": False, "dtype": "float32",
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.max_seq_len,
                "clean_up_tokenization_spaces": False}  # fmt: skip
    if os.path.lexists(folder):
        raise UserError(f"{folder}: exists already; name another folder")
    unwritten = system_errors(f"{folder}: cannot be written")
    with unwritten, TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        unfinished = Path(temporary, folder.name)
        unfinished.mkdir()
        written = save(hf_weights(checkpoint), metadata={"format": "pt"})
        (unfinished / "model.safetensors").write_bytes(written)
        for name, content in (
            ("config.json", described), ("tokenizer_config.json", settings), ("tokenizer.json", tokenizer.to_hf()),
            ("generation_config.json", {"do_sample": True}),
        ):  # fmt: skip
            (unfinished / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (unfinished / "README.md").write_text(_card(checkpoint, folder.name), encoding="utf-8")
        unfinished.rename(folder)


def export_safetensors(checkpoint: Checkpoint, path: Path) -> None:
    """Write the weights under our names, with the configuration and the vocabulary as metadata.

    A UserError says that there is such a file already.
    """
    from safetensors.torch import save

    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; name another file")
    metadata = {
        "config": json.dumps(checkpoint.config), "vocabulary": checkpoint.vocabulary,
        "tokenizer": json.dumps(checkpoint.tokenizer().to_hf()), "version": __version__,
        "attention_scale": str(checkpoint.attention_scale),
    }  # fmt: skip
    with system_errors(f"{path}: cannot be written"):
        write_atomic(path, save(checkpoint.model, metadata=metadata))


def hf_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the weights under the names of Qwen3, float32.

    Its rotary positions turn channel i with channel i + K / 2, ours channels 2 i and 2 i + 1: the rows of queries and
    keys change places. It does not normalise the embedding, so that is done here, and the output has its own matrix.
    """
    config, ours = checkpoint.settings(), checkpoint.model
    D, H = config.model_dim, config.num_heads
    K = D // H
    embedding = ours["embedding.weight"].float()
    weights = {
        "model.embed_tokens.weight": rms_norm(embedding),
        "lm_head.weight": embedding,
        "model.norm.weight": torch.ones(D),
    }
    for n in range(config.num_layers):
        block, theirs = f"blocks.{n}.", f"model.layers.{n}."
        q, k, v = ours[block + "attention.qkv.weight"].view(3, H, K, D)
        up = ours[block + "feed_forward.up.weight"]
        layer = {
            "input_layernorm": torch.ones(D), "post_attention_layernorm": torch.ones(D),
            "self_attn.q_norm": torch.full((K,), checkpoint.attention_scale), "self_attn.k_norm": torch.ones(K),
            "self_attn.q_proj": _halves(q), "self_attn.k_proj": _halves(k),
            "self_attn.v_proj": v.flatten(0, 1).contiguous(),
            "self_attn.o_proj": ours[block + "attention.out.weight"],
            "mlp.gate_proj": up, "mlp.up_proj": up.clone(), "mlp.down_proj": ours[block + "feed_forward.down.weight"],
        }  # fmt: skip
        weights |= {f"{theirs}{name}.weight": tensor for name, tensor in layer.items()}
    return weights


def _halves(rows: Tensor) -> Tensor:
    """Put the even rows of each head before the odd ones; (H, K, D) -> (H K, D)."""
    return torch.cat((rows[:, 0::2], rows[:, 1::2]), 1).flatten(0, 1)


def _card(checkpoint: Checkpoint, name: str) -> str:
    config, progress, tokenizer = checkpoint.settings(), checkpoint.progress(), checkpoint.tokenizer()
    kind = {CHAR: "characters; others are refused", BYTES: "bytes"}.get(
        config.tokenizer, "pieces of text, of some bytes"
    )
    losses = {
        "training loss": progress.train_loss, "validation loss": progress.val_loss,
        "lowest validation loss of the run": progress.best_val_loss,
    }  # fmt: skip
    rows = {
        "text": ", ".join(f"`{Path(path).name}`" for path in config.data),
        "parameters": f"{count_parameters(config, len(tokenizer)):,}",
        "layers, heads, width": f"{config.num_layers}, {config.num_heads}, {config.model_dim}",
        "context": format_count(config.max_seq_len, token_noun(config)),
        "vocabulary": f"{len(tokenizer):,} {kind}",
        "trained": f"{format_count(progress.step, 'step')}, {format_count(progress.tokens, 'token')}",
        **{what: f"{loss:.4f} nats a {token_noun(config)}" for what, loss in losses.items() if loss is not None},
    }
    changed = {
        name: f"`{format_value(value)}`" for name, value in changed_from_defaults(checkpoint.config).items()
        if SETTINGS[name].group in (DATA, MODEL, TRAINING) and name != "data"
    }  # fmt: skip
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---

# {name}

A small language model, trained with fundamentallm {__version__}.

{_table(rows)}

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("."), AutoModelForCausalLM.from_pretrained(".")
tokens = tokenizer("The ", return_tensors="pt", return_token_type_ids=False)
print(tokenizer.decode(model.generate(**tokens, max_new_tokens=100)[0]))
```

The weights are those of the model under the names of Qwen3, whose block it shares: the gains of all norms are 1, but
for that of queries, which sets attention's scale; gate and up projections are the same, which makes their product the
squared ReLU.

## Settings that differ from the defaults

{_table(changed)}
"""


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())])
