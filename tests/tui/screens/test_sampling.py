"""A run whose process is gone is sampled from its checkpoint."""

from typing import Any

import pytest

from fundamentallm.run.commands import CancelSample
from fundamentallm.run.events import Failed, Sampled
from tests.conftest import file_contents
from tests.tui.others import both_sizes


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
    async with workshop.console(size) as seen:
        seen.main.open_run(folder)
        await seen.until(lambda: "FINISHED" in seen.status)
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


@pytest.mark.parametrize("names", [("last.pt",), ("last.pt", "best.pt")])
async def test_the_best_file_answers_else_the_last(workshop: Any, make: Any, names: tuple[str, ...]) -> None:
    folder = make("old", workshop.finished(40, "stopped"))
    for name in names:
        (folder / name).write_bytes(b"weights")
    async with workshop.console() as seen:
        seen.main.open_run(folder)
        await seen.until(lambda: "STOPPED" in seen.status)
        assert (await ask(seen, "a")).checkpoint.name == names[-1]


async def test_a_file_that_cannot_be_sampled_says_why(workshop: Any, make: Any) -> None:
    folder = make("old", workshop.finished(40))
    async with workshop.console() as seen:
        seen.main.open_run(folder)
        await seen.until(lambda: "FINISHED" in seen.status)
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
