"""A text token by token: what is shown is what the model computes, and a branch begins with the chosen token."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from textual.events import Paste

from fundamentallm.config.config import Layer, resolve
from fundamentallm.run.commands import MAX_EXPLAINED, CancelSample, Command, Explain, Sample
from fundamentallm.run.events import Answered, Event, Failed, Sampled
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.loaded import load
from fundamentallm.train.samples import SampleControl
from fundamentallm_tui.panes.tokens import glyph, row_starts
from fundamentallm_tui.screens.look import Look, ScoreDialog
from fundamentallm_tui.state.looked import MAX_KEPT, NO_NUMBERS
from fundamentallm_tui.state.reader import EventsReceived, RunDisconnected
from tests.engine.conftest import SMALL, run_here
from tests.events import explained
from tests.tui.fakes import FakeSampler
from tests.tui.others import both_sizes, showing

TEXT = "the sea, the boat"  # as long as the context, and the token that is predicted from all of it
EVIL = "\x1b[2J\u202e\x9b"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a model of 16 tokens of context."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text("the sea, the old boat and her crew went out at dawn; why?\n" * 40)
    torch.set_num_threads(1)
    run_here(RunSpec(resolve(Layer({**SMALL, "data": str(folder / "text.txt")})), folder / "run"))
    return folder / "run"


class RealModel(FakeSampler):
    """Answers as the process of a checkpoint does, in this one."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(checkpoint)
        self.model = load(checkpoint, device="cpu")
        self._control = SampleControl(self.model, self.say, list)

    def send(self, command: Command) -> None:
        super().send(command)
        self._control.obey_commands([command])


def answers(run: Any, command: Command) -> list[Event]:
    """What a run of these tests answers."""
    if isinstance(command, Explain):
        return [explained(command)]
    if isinstance(command, Sample):
        pieces = [Sampled(step=7, id=command.id, prompt=command.prompt, text=text) for text in (" and", " so on")]
        return [pieces[0], replace(pieces[1], done=True)]
    return []


async def look(seen: Any, text: str) -> Look:
    """Score a text, and wait until the screen shows that it was asked for."""
    if not isinstance(seen.app.screen, Look):
        await seen.press("f4")
        assert isinstance(seen.app.screen, ScoreDialog), "without a sample, it asks for a text"
    else:
        await seen.press("s")
    seen.app.screen.post_message(Paste(text))
    await seen.pilot.pause()
    await seen.press("enter")
    await seen.until(lambda: isinstance(seen.app.screen, Look))
    return seen.app.screen


async def answered(seen: Any, run: Any, text: str) -> Look:
    """Score a text, and let the run answer."""
    before = len(run.sent)
    screen = await look(seen, text)
    await seen.until(lambda: len(run.sent) > before)
    run.say(*answers(run, run.sent[-1]))
    await seen.until(lambda: seen.main.looked.current.explained)
    return screen


async def test_the_end_of_the_run_leaves_alone_what_the_process_of_its_checkpoint_was_asked(
    workshop: Any, trained: Path
) -> None:
    async with showing(workshop, trained) as seen:
        await look(seen, TEXT)
        assert isinstance(seen.samplers[-1].sent[-1], Explain)
        failed = EventsReceived(seen.main.reader, [Failed(step=1, error="it is gone")])
        readers = seen.main.reader, seen.main.sampler.reader
        of_run, own = (RunDisconnected(reader, "it is gone", []) for reader in readers)
        for message, shown in ((failed, False), (of_run, False), (own, True)):
            seen.main.post_message(message)
            await seen.pilot.pause()
            assert ("it is gone" in seen.screen.lower()) == shown


@both_sizes
async def test_what_is_shown_equals_softmax_of_a_forward_pass(
    workshop: Any, trained: Path, size: tuple[int, int]
) -> None:
    async with showing(workshop, trained, size, sample=RealModel) as seen:
        screen = await look(seen, TEXT)
        await seen.until(lambda: seen.main.looked.current.explained)
        model = seen.samplers[-1].model
        tokens = torch.tensor(model.tokenizer.encode(TEXT))
        losses = []
        await seen.press("home")
        for place in range(1, len(TEXT)):
            await seen.press("right") if place > 1 or seen.main.looked.current.place == 0 else None
            with torch.inference_mode():
                p = model.model(tokens[None, :place])[0, -1].double().softmax(-1)
            chance, text = p[tokens[place]].item(), seen.main.looked.current
            assert text.place == place and text.probability(place) == pytest.approx(chance, abs=1e-5)
            likeliest = p.topk(10)
            shown = screen.alternatives.tokens
            letters = [model.tokenizer.vocabulary[n] for n in likeliest.indices.tolist()]
            assert [token for token, _ in shown[:10]] == letters
            assert [share for _, share in shown[:10]] == pytest.approx(likeliest.values.tolist(), abs=1e-5)
            rank = 1 + int((p > chance).sum())
            entropy = -(p * p.log()).sum().item()
            numbers = re.search(r"probability (.+) %, rank (\d+), entropy (.+) nats", str(screen.expected.border_title))
            assert numbers is not None and TEXT[place] in dict(shown)
            # a hundredth, as the other forward pass may round to another one
            assert [float(n) for n in numbers.groups()] == pytest.approx([100 * chance, rank, entropy], abs=0.01)
            losses.append(-math.log(chance))
        await seen.see(f"a loss of {sum(losses) / len(losses):.2f} nats a token, over 16 tokens.")


@both_sizes
async def test_a_chosen_alternative_is_the_next_token_of_a_branch_that_is_explained(
    workshop: Any, trained: Path, size: tuple[int, int]
) -> None:
    async with showing(workshop, trained, size, sample=RealModel) as seen:
        await seen.press("g", *"the sea", "enter")
        await seen.until(lambda: seen.main.store.sample.done and seen.main.store.sample.text)
        sample = seen.main.store.sample
        seen.main.sample.options.cells["max_tokens"].value = "9"
        await seen.press("f4")
        await seen.until(lambda: seen.main.looked.current.explained)
        first = seen.main.looked.current
        assert "".join(first.tokens) == sample.prompt + sample.text and seen.main.store.sample is sample
        await seen.press(*["right"] * 9, "tab", "down", "down")
        alternatives = seen.app.screen.alternatives
        if alternatives.tokens[alternatives.highlighted][0] == first.tokens[10]:
            await seen.press("down")
        token = alternatives.tokens[alternatives.highlighted][0]
        assert token != first.tokens[10]
        await seen.press("enter")
        await seen.until(lambda: seen.main.looked.current is not first and seen.main.looked.current.explained)
        branch = seen.main.looked.current
        asked = [command for command in seen.samplers[-1].sent if isinstance(command, Sample)][-1]
        assert asked.prompt == "".join(first.tokens[:10]) + token and asked.max_tokens == 9
        assert "".join(branch.tokens[: 10 + 1]) == asked.prompt and len(branch.tokens) == 11 + 9
        assert branch.place == 10 and branch.tokens[branch.place] == token
        assert branch.probability(10) == pytest.approx(dict(first.alternatives(10)[0])[token], abs=1e-6)
        assert f"2: …{' '.join(asked.prompt[-7:].split())}" in seen.screen
        await seen.press("b")
        assert seen.main.looked.current is first
        await seen.press("B", "escape")
        assert seen.app.screen is seen.main
        await seen.press("f4")
        assert seen.main.looked.current is branch, "the texts are kept; a sample is looked at once"


async def test_parts_of_characters_are_told_apart_and_not_continued(
    workshop: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "text.txt").write_text("l'été à la mer, l'été à la fête\n" * 40)
    settings = {**SMALL, "data": str(folder / "text.txt"), "tokenizer": "bytes"}
    run_here(RunSpec(resolve(Layer(settings)), folder / "run"))
    async with showing(workshop, folder / "run", (120, 36), sample=RealModel) as seen:
        screen = await look(seen, "à la mer, été")
        await seen.until(lambda: seen.main.looked.current.explained)
        texts, list_ = seen.main.looked, screen.alternatives
        first = texts.current
        for place in range(1, len(first.tokens)):
            await seen.until(lambda place=place: f"token {place + 1} of 16" in str(screen.expected.border_subtitle))
            came = [n for n in range(len(list_.tokens)) if "in the text" in str(list_.row(n, 60))]
            assert [list_.tokens[n] for n in came] == [(first.tokens[place], first.probability(place))]
            await seen.press("right")
        assert len({*list_.tokens}) == len(list_.tokens), "what came is not listed twice"
        await seen.press("tab")
        for part in (True, False):
            list_.highlighted = next(n for n, (token, _) in enumerate(list_.tokens) if (token == "") == part)
            token = list_.tokens[list_.highlighted][0]
            await seen.press("enter")
        await seen.until(lambda: texts.current is not first and texts.current.explained)
        assert len(texts.kept) == 2 and texts.current.tokens[texts.current.place] == token


async def test_sixteen_texts_are_kept_and_the_oldest_without_a_name_goes_first(seen: Any, run: Any) -> None:
    await answered(seen, run, "first one")
    await seen.press("r", *"mine", "enter")
    await answered(seen, run, "second one")
    texts = seen.main.looked
    for n in range(3, MAX_KEPT + 2):
        await seen.press("tab", "enter")
        run.say(*answers(run, run.sent[-1]))
        await seen.until(lambda n=n: isinstance(run.sent[-1], Explain) and texts.current.number == n)
        run.say(*answers(run, run.sent[-1]))
        await seen.until(lambda: texts.current.explained)
    assert [text.number for text in texts.kept] == [1, *range(3, MAX_KEPT + 2)]
    assert "17: …" in seen.screen and texts.kept[0].title == "1: mine"
    assert "─ … " in seen.screen and "1: mine" not in seen.screen, "there are others before"
    await seen.press("b")
    assert texts.current.name == "mine" and "1: mine" in seen.screen


async def test_a_scored_text_says_its_loss_what_is_left_out_and_where_it_is_worst(seen: Any, run: Any) -> None:
    text = await look(seen, "s\u00e9a sea")
    await seen.until(lambda: run.sent)
    run.say(explained(replace(run.sent[-1], text="sa sea"), probability=(0.5, 0.01, 0.2, 0.004, 0.9), left_out=1))
    mean = sum(map(math.log, (0.5, 0.01, 0.2, 0.004, 0.9))) / -5
    await seen.see(f"the model, step 7: a loss of {mean:.2f} nats a token, over 5 tokens.")
    assert "1 character left out, which the model does not know." in " ".join(seen.screen.split())
    places = []
    for n in (1, 2, 3, 4, 5, 1):
        await seen.press("w")
        assert f"worst {n}: loss" in str(text.expected.border_subtitle)
        places.append(seen.main.looked.current.place)
    assert places == [4, 2, 3, 1, 5, 4]


async def test_a_file_is_scored_and_one_that_is_too_long_as_far_as_it_can_be(workshop: Any) -> None:
    (workshop.folder / "long.txt").write_text("0123456789" * 300)
    (workshop.folder / "empty.txt").touch()
    (workshop.folder / "book.pdf").write_bytes(b"%PDF-1.4 \xff")
    async with workshop.training() as (seen, run):
        await seen.press("f4", "n")
        await seen.see("a text of 1 character ")
        await seen.press(*"one.txt")
        await seen.see("no such file: a text of 8 characters")
        await seen.press("enter")
        await seen.see("none.txt: no such file; enter again")
        await seen.press("ctrl+u", *"..", "enter")
        await seen.see("..: a folder, not a file; enter again")
        assert run.sent == []
        await seen.press("ctrl+u", *"book.pdf")
        await seen.see("the file book.pdf")
        await seen.press("enter")
        await seen.see("is a PDF, not plain text")
        await seen.press("ctrl+u", *"empty.txt", "enter")
        await seen.see("empty.txt: has no text")
        await seen.press("escape")
        await answered(seen, run, "long.txt")
        assert run.sent[-1].text == ("0123456789" * 300)[:MAX_EXPLAINED]
        await seen.see("Of 3,000 characters these are 1 to 2,048")
        await look(seen, "long.txt")
        await seen.until(lambda: len(run.sent) == 2)
        run.say(explained(replace(run.sent[-1], text="0" * 1024), tokens=("01",) * 1024))  # of two characters each
        await seen.see("over 1,023 tokens. Of 3,000 characters these are 1 to 2,048")
        await seen.press("s", *"none.txt", "enter", "enter")
        await seen.until(lambda: run.sent[-1].text == "none.txt")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda asked: Answered(step=1, id=asked.id, command="explain", ok=False, why="it is short"), "It is short."),
        (lambda asked: explained(asked, probability=(float("nan"),) * 8), f"T{NO_NUMBERS[1:]}."),
        (lambda asked: explained(asked, probability=(0.5,)), f"T{NO_NUMBERS[1:]}."),
        (lambda asked: explained(asked, entropy=(float("inf"),) * 8), f"T{NO_NUMBERS[1:]}."),
        (lambda asked: explained(asked, likeliest=((),) * 8), f"T{NO_NUMBERS[1:]}."),
        (lambda asked: explained(asked, tokens=()), f"T{NO_NUMBERS[1:]}."),
    ],
)  # fmt: skip
async def test_an_answer_without_numbers_is_a_sentence(seen: Any, run: Any, answer: Any, sentence: str) -> None:
    await look(seen, "a text...")
    await seen.until(lambda: run.sent)
    run.say(answer(run.sent[-1]))
    await seen.see(sentence)
    await seen.press("right", "w", "tab", "enter", "escape")
    assert seen.app.screen is seen.main


async def test_what_a_model_says_steers_nothing(workshop: Any) -> None:
    async with workshop.training((60, 20)) as (seen, run):
        await look(seen, "a text...")
        await seen.until(lambda: run.sent)
        tokens = (EVIL, "\n", "\t", " ", "\u0301", "漢", "[b]", "", "word" * 99)
        likeliest = ((EVIL, "[/b]"),) * 8
        run.say(explained(run.sent[-1], tokens=tokens, likeliest=likeliest, likeliest_probability=((0.5, 0.25),) * 8))
        await seen.until(lambda: seen.main.looked.current.explained)
        for key in ("home", *["right"] * 9, "up", "end", "w", "tab", "down", "enter"):
            await seen.press(key)
            assert not set(EVIL[:1] + EVIL[4:]) & set(seen.screen)


async def test_who_waits_for_an_answer_is_told_that_none_comes(seen: Any) -> None:
    await seen.press("f4")
    await seen.see("No model yet.")
    await seen.press("escape")
    run = await seen.started()
    await look(seen, "a text")
    await seen.see("the model predicts the text…")
    run.die()
    await seen.see("The process that was asked is gone: killed by SIGKILL.")


async def test_a_sample_of_a_checkpoint_ends_where_another_one_is_asked(workshop: Any, make: Any) -> None:
    folder = make("old", workshop.finished(40))
    async with showing(workshop, folder) as seen:
        await seen.press("ctrl+g", "H", "enter")
        await seen.status_is("SAMPLING")
        seen.main.sampler.chosen = folder / "other.pt"
        seen.main.sampler.chosen.write_bytes(b"weights")
        await seen.press("escape", "escape")
        await look(seen, "a text")
        await seen.see("other.pt predicts the text…")
        seen.samplers[-1].say(*answers(seen.samplers[-1], seen.samplers[-1].sent[-1]))
        await seen.until(lambda: seen.main.looked.current.explained)
        await seen.press("escape")
        await seen.status_is("FINISHED")
        await seen.see("another checkpoint was chosen or written meanwhile")


async def test_a_branch_that_is_being_written_ends_for_the_next_question(seen: Any, run: Any) -> None:
    await answered(seen, run, "a text")
    await seen.press("tab", "enter")
    await seen.see("the model continues the text…")
    sample = run.sent[-1]
    assert isinstance(sample, Sample) and sample.prompt == "aa"
    run.say(Sampled(step=7, id=sample.id, prompt="aa", text="yz"))
    await seen.see("aayz")
    await look(seen, "another text")
    await seen.until(lambda: isinstance(run.sent[-1], Explain))
    cancel = run.sent[-2]
    assert isinstance(cancel, CancelSample) and cancel.sample == sample.id
    run.say(Sampled(step=7, id=sample.id, prompt="aa", text="", done=True))
    await seen.until(lambda: isinstance(run.sent[-1], Explain) and run.sent[-1].text == "aayz")


async def test_the_cursor_moves_by_tokens_rows_and_clicks(seen: Any, run: Any) -> None:
    screen = await answered(seen, run, "one\ntwo three\nfour")
    text = seen.main.looked.current

    async def after(*pressed: str) -> int:
        await seen.press(*pressed)
        return text.place

    assert [await after(key) for key in ("right", "down", "down", "down", "up", "left", "left")] == [
        2, 6, 16, 16, 6, 5, 4,
    ]  # fmt: skip
    assert [await after(key) for key in ("left", "home", "left", "left", "end")] == [3, 3, 2, 1, 15]
    await seen.pilot.click(screen.text, offset=(2 + 5, 2))
    assert text.place == 4 + 5


def test_rows_break_before_words_and_after_line_ends_within_tokens() -> None:
    tokens = ("On", "ce", " up", "on", " a", " time", ".\n\n", "The", " end")
    assert (glyph(tokens[6]), glyph("\t\tx")) == (".↵↵", "⇥⇥x")
    assert row_starts(tokens, 10) == [0, 4, 7] and row_starts(tokens, 7) == [0, 2, 5, 6, 7]
