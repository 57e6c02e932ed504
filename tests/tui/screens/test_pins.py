"""The pinned prompts: the screen shows what the journal has, and changes what the run or the form pins."""

from dataclasses import replace
from typing import Any

import pytest

from fundamentallm.run.commands import Set
from fundamentallm.run.events import Answered, Intervention, Pinned, encode
from fundamentallm.run.journal import read_journal
from fundamentallm_tui.screens.pins import Pins
from tests.tui.others import showing, train


def pinned(step: int, prompt: str, text: str, seconds: float = 0.1) -> Pinned:
    return Pinned(step=step, prompt=prompt, text=text, probabilities=(), seconds=seconds)


def answers(seen: Any) -> str:
    """The answers that are shown, without the spaces between them."""
    return "".join(str(seen.app.screen.answers.content).replace("▸", "").split())


def squeezed(*texts: str) -> str:
    return "".join("".join(texts).split())


async def opened(seen: Any) -> Pins:
    await seen.press("f9")
    await seen.until(lambda: isinstance(seen.app.screen, Pins))
    await seen.pilot.pause()
    screen: Pins = seen.app.screen
    return screen


async def typed(seen: Any, key: str, text: str) -> None:
    """Press a key that asks for a line, and write another one into it."""
    await seen.press(key)
    await seen.press("ctrl+u", *text, "enter")
    await seen.pilot.pause()


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 36), (200, 60)])
async def test_the_answers_of_each_step_are_those_of_the_journal(workshop: Any, size: tuple[int, int]) -> None:
    prompts = ("To be", "the que")
    folder = train(workshop, pin=list(prompts), pin_tokens=30)
    written = [event for event in read_journal(folder) if isinstance(event, Pinned)]
    steps = sorted({event.step for event in written})
    assert len(steps) == 3 and len(written) == 6
    async with showing(workshop, folder, size) as seen:
        await opened(seen)
        await seen.see(f"step {steps[-1]}, 3 of 3")
        await seen.press("home")
        for place, step in enumerate(steps, 1):
            texts = {event.prompt: event.text for event in written if event.step == step}
            assert list(texts) == list(prompts)
            await seen.see(f"step {step}, {place} of 3")
            assert answers(seen) == squeezed(*(prompt + text for prompt, text in texts.items()))
            seconds = sum(event.seconds for event in written if event.step == step)
            before = seen.main.store.seconds.until(steps[place - 2])[1] if place > 1 else 0.0
            share = 100 * seconds / (seen.main.store.seconds.until(step)[1] - before)
            about = " ".join(seen.screen.split())
            assert f"2 answers took {seconds:.2f} s, {share:.1f} % of the training time since the last ones" in about
            await seen.press("right")
        await seen.press("c", "home")
        await seen.see(f"◆ step {steps[-1]}")
        await seen.see(f"● step {steps[0]}")
        rows = [row for row in seen.screen.splitlines() if row.count("To be") == 2]
        assert rows, "the two answers stand beside one another"
        await seen.press("escape")
        assert seen.app.screen is seen.main


async def test_the_newest_answers_are_followed_until_the_user_goes_elsewhere(workshop: Any) -> None:
    async with workshop.training((80, 24)) as (seen, run):
        await opened(seen)
        await seen.see("No answers yet.")
        for step in (10, 20):
            run.say(pinned(step, "To", f" {step} times"))
            await seen.see(f"step {step}, {step // 10} of {step // 10}")
        await seen.press("left")
        run.say(pinned(30, "To", " 30 times", seconds=float("nan")))
        await seen.see("step 10, 1 of 3")
        await seen.press("end")
        run.say(pinned(40, "To", " 40 times"), pinned(40, "Other", "wise"))
        await seen.see("step 40, 4 of 4")
        assert answers(seen) == squeezed("To 40 times", "no longer pinned", "Otherwise", "no longer pinned")
        await seen.press("left")
        await seen.see("step 30, 3 of 4")
        run.say(replace(workshop.started(run.job, 20), resumed_from="last.pt"))
        await seen.see("step 20, 2 of 2")


async def test_a_run_under_way_pins_what_the_user_writes_and_says_why_not(workshop: Any) -> None:
    async with workshop.training((80, 24), pin=["Once"]) as (seen, run):
        await opened(seen)
        await seen.see("▸ Once  not answered yet")
        await typed(seen, "a", "")
        await seen.see("Write how a text begins.")
        await seen.press("ctrl+u", *"Once", "enter")
        await seen.see("It is pinned already.")
        await seen.press("ctrl+u", *"To be", "enter")
        await seen.until(lambda: run.sent)
        assert isinstance(run.sent[-1], Set)
        assert (run.sent[-1].setting, run.sent[-1].value) == ("pin", ("Once", "To be"))
        await seen.see("the run pins it after the step under way")
        run.say(Answered(step=1, id=run.sent[-1].id, command="set", ok=False, why="pin: 'T' is not in the text"))
        await seen.see("pin: 'T' is not in the text")
        await seen.until(lambda: answers(seen) == squeezed("Once  not answered yet"))
        await typed(seen, "e", r"a\nb\tc")
        await seen.until(lambda: len(run.sent) == 2)
        await seen.until(lambda: "is not in the text" not in seen.screen and "pin" not in seen.main.form.problems)
        change = Intervention(step=1, setting="pin", old=["Once"], new=["a\nb\tc"], who="ada")
        run.say(change, Answered(step=1, id=run.sent[-1].id, command="set", ok=True))
        await seen.until(lambda: answers(seen) == squeezed("a b c  not answered yet"))
        await seen.press("e")
        assert seen.app.screen.query_one("Input").value == r"a\nb\tc"
        await seen.press("escape", "d")
        await seen.until(lambda: len(run.sent) == 3)
        assert run.sent[-1].value == ()


async def test_a_prompt_that_is_added_below_long_answers_is_in_sight(workshop: Any) -> None:
    async with workshop.training((80, 24), pin=["Once"]) as (seen, run):
        run.say(pinned(1, "Once", "\n".join(["upon", "a", "time"] * 8)))
        await seen.until(lambda: seen.main.store.history.pinned)
        await opened(seen)
        await typed(seen, "a", "To be")
        await seen.see("▸ To be")


async def test_without_a_run_the_form_pins_up_to_eight(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        await opened(seen)
        await seen.see("a pins one, such as “Once upon a time”.")
        for number in range(8):
            await typed(seen, "a", f"No, {number}")
            await seen.see(f"{number + 1} of 8")
        await seen.press("a")
        assert isinstance(seen.app.screen, Pins), "there is no room for a ninth"
        assert seen.main.form.config.pin == tuple(f"No, {number}" for number in range(8))
        await seen.press("up", "d")  # from the one that was added last
        await seen.see("7 of 8")
        assert "No, 6" not in seen.main.form.config.pin and seen.cells["pin"].marked
        await seen.press("f9")
        assert seen.app.screen is seen.main


async def test_of_a_run_that_has_ended_the_next_one_gets_what_is_pinned(workshop: Any) -> None:
    async with workshop.training((80, 24), pin=["Once"]) as (seen, run):
        run.folder.mkdir(parents=True)
        run.finish(80, "stopped")
        await seen.status_is("STOPPED")
        await opened(seen)
        await seen.see("The run answered no pinned prompt. What is pinned now, the next run answers.")
        await typed(seen, "a", "To be")
        await seen.see("2 of 8")
        assert run.sent == [] and seen.main.form.config.pin == ("Once", "To be")
        await seen.press("escape")
        await seen.press("f5")
        await seen.until(lambda: len(seen.runs) == 2)
        job = seen.runs[-1].job
        assert {**vars(job.config), **job.changes}["pin"] == ("Once", "To be")


async def test_a_foreign_journal_does_not_end_the_screen(workshop: Any, make: Any) -> None:
    folder = make("old")
    events = [
        pinned(5, "\x1b[2J" * 9, "x" * 500_000, float("inf")),
        pinned(-3, "", "", -1e300),
        pinned(10**18, "a", "b"),
    ]
    with (folder / "journal.jsonl").open("a") as journal:
        journal.writelines(encode(replace(event, seq=100 + n)) + "\n" for n, event in enumerate(events))
    async with workshop.console((80, 24)) as seen:
        seen.main.open_run(folder)
        await seen.until(lambda: seen.main.store.history.pinned)
        await opened(seen)
        for key in ("home", "c", "right", "down", "end", "left", "c", "up"):
            await seen.press(key)
        assert "\x1b" not in seen.screen and isinstance(seen.app.screen, Pins)
