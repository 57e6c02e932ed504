"""What the model of a run, or of a checkpoint, does with a text: the answers to the commands that ask for it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from fundamentallm.config.format import format_count
from fundamentallm.data.text import normalize_prompt
from fundamentallm.errors import UserError
from fundamentallm.model.inspect import attention, neighbours, surprise
from fundamentallm.run.commands import MAX_EXPLAINED, Attend, Explain, Neighbours
from fundamentallm.run.events import Attended, Event, Explained, Nearest

if TYPE_CHECKING:
    from fundamentallm.train.loaded import Model
    from fundamentallm.train.state import TrainState

LIKELIEST = 10
MAX_ATTENDED = 96  # tokens, as MAX_EXPLAINED
NEAREST = 12


def explain(state: "TrainState | Model", command: Explain) -> Explained:
    """Answer how the model predicts a text; a UserError says that the text is too long or too short."""
    text = normalize_prompt(command.text, "the text")
    known, left_out = state.tokenizer.leave_out_unknown(text)
    tokens = state.tokenizer.encode(known)
    if not 2 <= len(tokens) <= MAX_EXPLAINED:
        noun = "known character" if state.tokenizer.vocabulary else "token"
        raise UserError(f"the text has {format_count(len(tokens), noun)}; 2 to {MAX_EXPLAINED:,} can be explained")
    texts = state.tokenizer.texts
    probability, rank, entropy, likeliest, likely = surprise(
        state.model, torch.tensor(tokens, device=state.model.embedding.weight.device), LIKELIEST
    )
    return Explained(
        step=state.step, id=command.id, tokens=state.tokenizer.pieces(tokens), probability=_rounded(probability),
        rank=tuple(rank.tolist()), entropy=_rounded(entropy),
        likeliest=tuple(tuple(texts[token] for token in row) for row in likeliest.tolist()),
        likeliest_probability=tuple(map(_rounded, likely)), left_out=left_out.total(),
    )  # fmt: skip


def attend(state: "TrainState | Model", command: Attend) -> Attended:
    """Answer what the last tokens of a text attend to; a UserError says that there is no such layer or token."""
    layers, longest = len(state.model.blocks), min(MAX_ATTENDED, len(state.model.freqs))
    if not 0 <= command.layer < layers:
        raise UserError(f"layer {command.layer}: there are layers 0 to {layers - 1}")
    text = normalize_prompt(command.text, "the text")
    last = state.tokenizer.encode_prompt(text[-longest:] if state.tokenizer.vocabulary else text)[-longest:]
    heads = attention(state.model, torch.tensor(last, device=state.model.embedding.weight.device), command.layer)
    rows = tuple(tuple(_rounded(row[: i + 1]) for i, row in enumerate(head)) for head in heads)
    shown = state.tokenizer.pieces(last)
    return Attended(step=state.step, id=command.id, tokens=shown, layer=command.layer, layers=layers, heads=rows)


def nearest(state: "TrainState | Model", command: Neighbours) -> Nearest:
    """Answer which tokens are nearest to one in the embedding; a UserError says that it is not one token."""
    tokens = state.tokenizer.encode(command.text)
    if len(tokens) != 1:
        raise UserError(f"{command.text[:40]!r} is not one token")
    found, cosines = neighbours(state.model, tokens[0], NEAREST)
    names = tuple(state.tokenizer.texts[token] for token in found.tolist())
    return Nearest(step=state.step, id=command.id, token=command.text, tokens=names, cosine=_rounded(cosines))


LOOKS: dict[type, Callable[..., Event]] = {Explain: explain, Attend: attend, Neighbours: nearest}


def _rounded(values: Any) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())  # a loss needs the digits of small ones
