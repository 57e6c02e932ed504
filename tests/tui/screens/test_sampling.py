"""Samples: one or several, from the run or from any of its checkpoints, and what the keys do with a text."""

from typing import Any

import pytest
from textual.events import AppBlur, AppFocus

from fundamentallm.config.sampling import SAMPLING, SamplingOptions
from fundamentallm.model.generate import stream
from fundamentallm.process.system import start_resource_tracker
from fundamentallm.run.commands import CancelSample, Sample
from fundamentallm.run.events import Answered, Failed, Sampled
from fundamentallm.train.loaded import load
from tests.conftest import file_contents
from tests.tui.others import both_sizes, showing, train


async def ask(seen: Any, prompt: str) -> Any:
    """Ask for a sample; returns the process that is to write it."""
    await seen.press("ctrl+g", *prompt, "enter")
    await seen.until(lambda: seen.samplers and seen.samplers[-1].sent)
    return seen.samplers[-1]


@both_sizes
async def test_a_finished_run_is_sampled_from_its_best_file_and_nothing_is_written(
    workshop: Any, make: Any, size: tuple[int, int]
) -> None:
    folder = make("old", workshop.finished(40))
    (folder / "best.pt").write_bytes(b"weights")
    before = file_contents(folder)
    async with showing(workshop, folder, size) as seen:
        await seen.press("5")
        assert "enter lets best.pt continue it" in " ".join(seen.screen.split())
        assert seen.samplers == [], "the process is started when it is needed"
        sampler = await ask(seen, "Ho")
        assert sampler.checkpoint == folder / "best.pt" and sampler.sent[-1].prompt == "Ho"
        assert "SAMPLING" in seen.status and "best.pt, loading" in seen.screen
        sampler.say(Sampled(step=30, id=sampler.sent[-1].id, prompt="Ho", text="ratio"))
        await seen.until(lambda: "best.pt, at step 30, writing" in seen.screen)
        sampler.say(Sampled(step=30, id=sampler.sent[-1].id, prompt="Ho", text=" said", done=True))
        await seen.until(lambda: "Horatio said" in seen.screen)
        assert "best.pt, at step 30" in seen.screen and "FINISHED" in seen.status
        assert seen.main.store.step == 40, "the run is where it was"
        again = await ask(seen, "!")
        assert again is sampler and len(sampler.sent) == 2, "the model stays loaded"
        await ask(seen, "!")
        assert isinstance(sampler.sent[2], CancelSample), "another sample takes the place of the one being written"
        await seen.press("escape", "f5")
        await seen.until(lambda: seen.runs)
        assert sampler.left and "SAMPLING" not in seen.status
    assert file_contents(folder) == before


async def test_a_file_that_cannot_be_sampled_says_why(workshop: Any, make: Any) -> None:
    folder = make("old", workshop.finished(40))
    async with showing(workshop, folder) as seen:
        await seen.press("ctrl+g", "1", "ctrl+j", "2", "ctrl+j")
        sampler = await ask(seen, "a")
        refused = Answered(step=0, id=sampler.sent[-1].id, command="sample", ok=False, why="'a' was never seen")
        sampler.say(refused)
        await seen.see("'a' was never seen")
        assert "best.pt, at step" not in seen.screen, "it has not said of which step it is"
        sampler = await ask(seen, "a")
        sampler.say(Failed(step=0, error="last.pt: is damaged"))
        await seen.until(lambda: "last.pt: is damaged" in seen.screen)
        sampler.die("ended with status 1")
        await seen.pilot.pause(0.3)
        assert "last.pt: is damaged" in seen.screen and "FINISHED" in seen.status
        await ask(seen, "b")
        assert len(seen.samplers) == 2
        seen.samplers[-1].die("killed by SIGKILL")
        await seen.until(lambda: "is gone: killed by SIGKILL" in str(seen.main.sample.output.render()))


async def set_option(seen: Any, name: str, value: str) -> None:
    seen.main.sample.options.enter(name)
    await seen.press("ctrl+u", *value)


def row_of(seen: Any, text: str) -> int:
    return next(n for n, row in enumerate(seen.screen.splitlines()) if text in row)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 36), (200, 60)])
async def test_every_option_of_the_table_has_a_field_in_sight(seen: Any, run: Any) -> None:
    values = ("33", "1.5", "7", "0.9", "0.1", "1.1", "5", "2")
    for name, value in zip(SAMPLING, values, strict=True):
        await set_option(seen, name, value)
    labels = ("tokens 33", "T 1.5", "top-k 7", "top-p 0.9", "min-p 0.1", "rep 1.1", "seed 5", "n 2")
    await seen.until(lambda: all(label in seen.screen for label in labels))
    assert "checkpoint " not in seen.screen
    await seen.press("enter")
    [asked] = run.sent
    assert {name: getattr(asked, name) for name in SAMPLING} == {
        name: SAMPLING[name].parse(value) for name, value in zip(SAMPLING, values, strict=True)
    }
    for name, value, problem in (
        ("num_samples", "9", "n: 9 is out of bounds; it must be at least 1, at most 8"),
        ("max_tokens", "100001", "tokens: 100001 is out of bounds; it must be at least 1, at most 100,000"),
        ("max_tokens", "", "tokens: needs a whole number, at least 1, at most 100,000"),
    ):
        await set_option(seen, name, value)
        await seen.press("enter")
        await seen.until(lambda problem=problem: str(seen.main.sample.output.render()) == problem)
        await set_option(seen, name, "1")
    assert run.sent == [asked]


@pytest.mark.parametrize(("size", "beside"), [((60, 20), 1), ((80, 24), 2), ((120, 36), 1), ((200, 60), 3)])
async def test_several_samples_stand_side_by_side_where_there_is_room(seen: Any, run: Any, beside: int) -> None:
    await set_option(seen, "num_samples", "3")
    await seen.press("ctrl+g", *"Ho", "enter")
    [asked] = run.sent
    assert "SAMPLING" not in seen.status
    for number, text in enumerate(("ratio", "tel", "pe")):
        run.say(Sampled(step=3, id=asked.id, prompt="Ho", text=text[:2], number=number))
    await seen.until(lambda: seen.main.store.sample.texts == ["ra", "te", "pe"])
    assert not seen.main.store.sample.done
    for number, text in enumerate(("ratio", "tel", "pe")):
        run.say(Sampled(step=3, id=asked.id, prompt="Ho", text=text[2:], done=True, number=number))
    await seen.until(lambda: seen.main.store.sample.done)
    await set_option(seen, "num_samples", "99")
    await seen.press("enter")
    await seen.until(lambda: "n: 99 is out of bounds" in str(seen.main.sample.output.render()))
    assert "ratio" in str(seen.main.sample.output.render()), "the texts stay below what is wrong"
    await set_option(seen, "num_samples", "3")
    await seen.press("escape")
    assert seen.main.focused is seen.main.sample.written
    await seen.press("home")
    await seen.see("Horatio")
    first = row_of(seen, "1 of 3")
    assert seen.screen.splitlines()[first].count(" of 3") == beside
    assert seen.screen.splitlines()[first + 1].count("Ho") == beside
    await seen.press("left", "c")
    await seen.until(lambda: len(run.sent) > 1)
    assert (run.sent[-1].prompt, run.sent[-1].num_samples) == ("Hope", 1), "the third is chosen, and continued"


async def test_of_several_texts_the_chosen_one_is_in_sight(workshop: Any) -> None:
    async with workshop.training((120, 36)) as (seen, run):
        await set_option(seen, "num_samples", "3")
        await seen.press("ctrl+g", *"Ho", "enter")
        [asked] = run.sent
        for number in range(3):
            run.say(Sampled(step=3, id=asked.id, prompt="Ho", text="ratio\n" * 20, done=True, number=number))
        await seen.see("▸ 1 of 3")
        await seen.press("escape")
        for number in (2, 3, 1):
            await seen.press("right")
            await seen.see(f"▸ {number} of 3")


@pytest.mark.parametrize("size", [(80, 24), (100, 40), (120, 36)])
async def test_at_the_prompt_stands_how_to_see_the_options_that_are_cut(seen: Any, run: Any) -> None:
    await seen.press("ctrl+g")
    await seen.until(lambda: ("seed" in seen.screen) != ("tab shows all options" in seen.screen))
    await seen.press("tab")
    await seen.see("seed")
    await seen.until(lambda: "tab shows all options" not in seen.screen)
    seen.app.post_message(AppBlur())
    await seen.until(lambda: "How many tokens to write." not in seen.screen)
    seen.app.post_message(AppFocus())
    await seen.see("How many tokens to write.")
    await seen.press("ctrl+g")
    await seen.until(lambda: ("seed" in seen.screen) != ("tab shows all options" in seen.screen))
    await seen.press("escape")
    await seen.until(lambda: "tab shows all options" not in seen.screen)


async def test_a_text_is_continued_repeated_with_another_seed_and_made_the_prompt(workshop: Any) -> None:
    async with workshop.training((80, 24)) as (seen, run):
        await set_option(seen, "seed", "41")
        await seen.press("ctrl+g", *"Ho", "escape")
        assert seen.main.focused is None, "there is no text to go to"
        await seen.press("g", "enter")
        run.say(Sampled(step=3, id=run.sent[-1].id, prompt="Ho", text="ratio\n", done=True))
        await seen.until(lambda: seen.main.store.sample.done)
        await seen.press("escape")
        assert seen.keys.startswith(" c continue  a another  t edit  ")
        await seen.press("a")
        await seen.until(lambda: len(run.sent) == 2)
        assert (run.sent[-1].prompt, run.sent[-1].seed) == ("Ho", 42)
        run.say(Sampled(step=4, id=run.sent[-1].id, prompt="Ho", text="tel", done=True))
        await seen.see("Hotel")
        await seen.press("c")
        await seen.until(lambda: len(run.sent) == 3)
        assert (run.sent[-1].prompt, run.sent[-1].max_tokens) == ("Hotel", 200)
        run.say(Sampled(step=5, id=run.sent[-1].id, prompt="Hotel", text=" room", done=True))
        await seen.see("Hotel room")
        await seen.press("t", "s", "enter")
        await seen.until(lambda: len(run.sent) == 4)
        assert run.sent[-1].prompt == "Hotel rooms"
        run.say(Answered(step=5, id=run.sent[-1].id, command="sample", ok=True))  # as after a stop: no last piece
        await seen.until(lambda: seen.main.store.sample.done)


async def test_escape_goes_from_the_options_to_the_text_that_was_written(workshop: Any) -> None:
    async with workshop.training((80, 24)) as (seen, run):
        await seen.press("g", *"Ho", "enter")
        run.say(Sampled(step=3, id=run.sent[-1].id, prompt="Ho", text="ratio", done=True))
        await seen.until(lambda: seen.main.store.sample.done)
        await seen.press("g", "tab")
        assert seen.main.sample.options.has_focus_within
        await seen.press("escape")
        assert seen.main.focused is seen.main.sample.written


async def test_of_help_that_is_too_long_for_the_frame_its_beginning_is_shown(workshop: Any) -> None:
    async with workshop.training((120, 36)) as (seen, _):
        seen.main.sample.options.enter("repetition_penalty")
        await seen.see("─ Above 1, tokens of the context become less likely. ─")
        seen.main.sample.options.enter("temperature")
        await seen.see(f"─ {SAMPLING['temperature'].help} ─")


@both_sizes
async def test_every_checkpoint_of_a_run_that_rests_can_be_chosen(
    workshop: Any, make: Any, size: tuple[int, int]
) -> None:
    names = {"checkpoint_epoch_1.pt": 10, "checkpoint_step_20.pt": 20, "../elsewhere.pt": 30, "gone.pt": 35}
    folder = make("old", *(workshop.saved(step, name, "epoch") for name, step in names.items()), workshop.finished(40))
    for name in ("checkpoint_epoch_1.pt", "checkpoint_step_20.pt", "../elsewhere.pt"):
        (folder / name).write_bytes(b"weights")
    async with showing(workshop, folder, size) as seen:
        seen.main.sample.options.enter("checkpoint")
        cell = seen.main.sample.options.cells["checkpoint"]
        assert cell.choices == ("last.pt, step 40", "checkpoint_epoch_1.pt, step 10", "checkpoint_step_20.pt, step 20")
        assert cell.value == "last.pt, step 40"
        await seen.press("right")
        await seen.see("checkpoint checkpoint_epoch_1.pt, step 10")
        await seen.press("enter")
        await seen.until(lambda: seen.samplers and seen.samplers[-1].sent)
        sampler = seen.samplers[-1]
        assert sampler.checkpoint == folder / "checkpoint_epoch_1.pt" and "SAMPLING" in seen.status
        await seen.see("Sample  checkpoint_epoch_1.pt, loading")
        await seen.press("ctrl+o", "escape")
        seen.main.open_run(folder)
        await seen.status_is("FINISHED")
        assert sampler.left and (await ask(seen, "a")).checkpoint == folder / "last.pt", "the choice was the old run's"


async def test_a_paused_run_answers_itself_until_a_checkpoint_is_chosen(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        run = await seen.paused()
        run.folder.mkdir(parents=True)
        (run.folder / "best.pt").write_bytes(b"weights")
        run.say(workshop.saved(1, "best.pt", "best"))
        await seen.until(lambda: seen.main.store.history.saved)
        await seen.press("ctrl+g", "enter")
        assert isinstance(run.sent[-1], Sample) and seen.samplers == []
        seen.main.sample.options.enter("checkpoint")
        await seen.press("right")
        await seen.see("checkpoint best.pt, step 1")
        await seen.press("enter")
        await seen.until(lambda: seen.samplers and seen.samplers[-1].sent)
        assert isinstance(run.sent[-1], CancelSample) and seen.samplers[-1].checkpoint.name == "best.pt"
        seen.main.sample.options.enter("checkpoint")
        await seen.press("left", "enter")
        await seen.until(lambda: isinstance(run.sent[-1], Sample))


async def test_what_is_on_the_screen_is_what_the_chosen_checkpoint_writes(workshop: Any) -> None:
    start_resource_tracker()  # before Textual has the terminal, as the program does
    folder = train(workshop, epochs=3, max_steps=None)
    async with showing(workshop, folder, (80, 24), real=True) as seen:
        for name, value in (("max_tokens", "20"), ("seed", "3"), ("num_samples", "2"), ("temperature", "1.5")):
            await set_option(seen, name, value)
        seen.main.sample.options.enter("checkpoint")
        await seen.press_until("right", lambda: "epoch_1" in seen.main.sample.options.cells["checkpoint"].value)
        await seen.press("ctrl+g", *"To be", "enter")
        await seen.until(lambda: seen.main.store.sample.id and seen.main.store.sample.done)
        shown = seen.main.store.sample.texts
        saved, options = load(folder / "checkpoint_epoch_1.pt"), SamplingOptions(max_tokens=20, seed=3, temperature=1.5)
        tokenizer = saved.tokenizer
        rows = stream(saved.model, tokenizer.encode("To be"), options, range(2))
        written = [tokenizer.decode(token for token, _ in sample) for sample in zip(*rows, strict=True)]
        assert shown == written and written[0] != written[1]
        await seen.see(f"checkpoint_epoch_1.pt, at step {saved.step}")
