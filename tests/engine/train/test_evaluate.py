"""Every token but the first, exactly once."""

from math import exp, log

import pytest
import torch
import torch.nn.functional as F

from fundamentallm.model.dropout import DropoutMasks
from fundamentallm.train import evaluate as module
from fundamentallm.train.evaluate import Evaluation, evaluate
from fundamentallm.train.state import TrainState
from tests.engine.train.conftest import Build, awaken


@pytest.fixture
def built(build: Build) -> TrainState:
    return awaken(build())


@pytest.mark.parametrize("n", [2, 3, 16, 17, 18, 33, 250])
@pytest.mark.parametrize("batch_tokens", [16, 48, 16384])
def test_every_token_but_the_first_is_predicted_exactly_once(
    built: TrainState, n: int, batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_TOKENS", batch_tokens)
    tokens = built.corpus.val[:n].long()
    loss, right = 0.0, 0
    with torch.no_grad():
        for start in range(0, n - 1, 16):  # a window reads 16 tokens from its start; nothing before it
            inputs, targets = tokens[start : min(start + 16, n - 1)], tokens[start + 1 : min(start + 17, n)]
            logits = built.model(inputs[None])[0]
            loss += F.cross_entropy(logits, targets, reduction="sum").item()
            right += int((logits.argmax(-1) == targets).sum())
    result = evaluate(built.model, built.corpus.val[:n], 16, built.precision)
    assert result.tokens == n - 1
    assert result.loss == pytest.approx(loss / (n - 1), abs=1e-5)
    assert result.accuracy == pytest.approx(right / (n - 1))
    assert result.perplexity == pytest.approx(exp(result.loss))


def test_it_does_not_depend_on_what_happened_before(built: TrainState) -> None:
    first = evaluate(built.model, built.corpus.val, 16, built.precision)
    masks = DropoutMasks(1, built.model.num_dropout_sites, 0, built.config.batch_size, 0.5, built.device)
    built.model(built.corpus.batch(0)[0], masks).sum().backward()
    torch.manual_seed(4)
    built.model.train()
    state = torch.get_rng_state()
    assert evaluate(built.model, built.corpus.val, 16, built.precision) == first
    assert torch.equal(torch.get_rng_state(), state)


def test_what_was_read_is_released_now_and_then(built: TrainState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_TOKENS", 32)
    monkeypatch.setattr(module, "RELEASE", 3)
    released: list[int] = []
    evaluate(built.model, built.corpus.val[:250], 16, built.precision, lambda: released.append(1))
    assert len(released) == 2  # after 3 and 6 of 8 forward passes


def test_an_absurd_loss_has_an_infinite_perplexity() -> None:
    assert Evaluation(1e6, 0.0, 1, torch.zeros(1, 3)).perplexity == float("inf")


def test_the_losses_by_token_make_up_the_whole(built: TrainState) -> None:
    tokens = built.corpus.val
    result = evaluate(built.model, tokens, 16, built.precision)
    count, loss, hits = result.by_token.sum(0).tolist()
    assert count == result.tokens == len(tokens) - 1
    assert loss / count == result.loss and hits / count == result.accuracy
    assert result.by_token[:, 0].tolist() == torch.bincount(tokens[1:].long(), minlength=len(built.tokenizer)).tolist()
    assert result.bits == pytest.approx(result.loss / log(2)) and 2**result.bits == pytest.approx(result.perplexity)
