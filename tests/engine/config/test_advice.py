"""What to try when a run fails."""

import re
from dataclasses import replace
from math import inf
from typing import Any

from fundamentallm.config.advice import advise, advise_out_of_memory
from fundamentallm.config.config import Config, Layer, resolve, to_dict
from fundamentallm.config.estimate import count_memory

VOCAB_SIZE = 65


def test_a_loss_that_is_not_finite_gets_a_rate_and_a_clip() -> None:
    advice = advise("diverged", Config(learning_rate=0.003))
    assert advice == "--learning-rate 0.0003, or clip harder with --gradient-clip 0.5"
    assert advise("diverged", Config(gradient_clip=0)).endswith("--gradient-clip 1")
    assert advise("healthy", Config()) == advise("failed", Config()) == ""


GIB = 2.0**30
LARGE = {"batch_size": 64, "max_seq_len": 1024, "model_dim": 512, "num_heads": 8}


def needs(config: Config, **changes: Any) -> str:
    return f"(about {count_memory(replace(config, **changes), VOCAB_SIZE) / GIB:,.1f} GiB)"


def test_out_of_memory_names_smaller_runs_and_what_they_need() -> None:
    config = resolve(Layer(LARGE))
    need = count_memory(config, VOCAB_SIZE)
    assert 21.0 < need / GIB < 21.1
    accumulated = needs(config, batch_size=32, accumulation_steps=2)
    half = (
        f"a new run with --batch-size 32 --accumulation-steps 2 {accumulated} or "
        f"--max-seq-len 512 {needs(config, max_seq_len=512)} or --model-dim 256 {needs(config, model_dim=256)}; "
        f"this run needs about {need / GIB:.1f} GiB"
    )
    assert advise_out_of_memory(config, VOCAB_SIZE, inf, 0) == half
    assert advise_out_of_memory(config, VOCAB_SIZE, 20 * GIB, 0) == half + ", and 20.0 GiB are free"
    assert count_memory(replace(config, batch_size=32), VOCAB_SIZE) < 0.6 * need


def test_out_of_memory_names_only_what_fits_in_plain_digits() -> None:
    config = resolve(Layer(LARGE | {"batch_size": 2560, "num_layers": 6, "accumulation_steps": 3}))
    need = count_memory(config, VOCAB_SIZE)
    advice = advise_out_of_memory(config, VOCAB_SIZE, 22.4 * GIB, 0)
    assert advice == (
        f"a new run with --batch-size 40 --accumulation-steps 192 {needs(config, batch_size=40)} or "
        f"--max-seq-len 16 {needs(config, max_seq_len=16)}; "  # no model of 8 heads is small enough
        f"this run needs about {need / GIB:.1f} GiB, and 22.4 GiB are free"
    )
    assert count_memory(replace(config, batch_size=80), VOCAB_SIZE) > 22.4 * GIB
    for limit in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 500.0):
        advice = advise_out_of_memory(config, VOCAB_SIZE, limit * GIB, 0)
        assert "e+" not in advice
        for flags in re.findall(r"(--[^()]+) \(", advice):  # each is a run that can be started, and fits
            words = flags.split()
            changes = {name[2:].replace("-", "_"): value for name, value in zip(words[::2], words[1::2], strict=True)}
            smaller = resolve(Layer({**to_dict(config), **changes}))
            assert count_memory(smaller, VOCAB_SIZE) <= limit * GIB
            assert smaller.effective_batch == config.effective_batch


def test_out_of_memory_halves_everything_where_one_alone_does_not_do() -> None:
    config = resolve(Layer(LARGE))
    advice = advise_out_of_memory(config, VOCAB_SIZE, 0.05 * GIB, 0)
    flags = r"--batch-size \d+ --accumulation-steps \d+ --max-seq-len \d+ --model-dim \d+"
    assert re.match(rf"a new run with {flags} \(about \d+ MiB\); ", advice)
    assert " or " not in advice and advice.endswith("and 51 MiB are free")


def test_out_of_memory_advises_nothing_that_would_be_refused_or_needs_as_much() -> None:
    small = Config(batch_size=1, max_seq_len=16, model_dim=12, num_heads=6, stride=5)
    advice = advise_out_of_memory(small, VOCAB_SIZE, inf, 0)
    assert advice.startswith("a new run with --max-seq-len 8 --stride 2 (about") and "--batch-size" not in advice
    assert "--model-dim" not in advice
    smallest = Config(batch_size=1, max_seq_len=2, model_dim=2, num_heads=1)
    for config, free, known in ((smallest, inf, ""), (resolve(Layer(LARGE)), 1024.0, ", and 0 MiB are free")):
        advice = advise_out_of_memory(config, VOCAB_SIZE, free, 0)
        assert advice.startswith("a machine with more memory: this run needs about ")
        assert advice.endswith(f"iB{known}; no smaller batch, context or model fits")
