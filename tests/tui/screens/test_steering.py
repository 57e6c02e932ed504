"""Live changes: sent to the run, undone in order, refused where no run obeys."""

from typing import Any

from fundamentallm.run.commands import Set
from fundamentallm.run.events import Answered, Intervention
from fundamentallm_tui.state.launch import undo


def sent(run: Any) -> list[tuple[str, Any]]:
    return [(command.setting, command.value) for command in run.sent if isinstance(command, Set)]


def obey(run: Any, old: Any, who: str = "me") -> None:
    """Let the run make the change that it was sent last."""
    command = run.sent[-1]
    change(run, command.setting, old, command.value, who, command.id)


def change(run: Any, setting: str, old: Any, new: Any, who: str = "another", id: str = "x") -> None:
    run.say(
        Intervention(step=3, setting=setting, old=old, new=new, who=who),
        Answered(step=3, id=id, command="set", ok=True, who=who),
    )


async def test_a_change_is_sent_and_u_undoes_the_last_ones_in_order_whoever_made_them(workshop: Any) -> None:
    async with workshop.console(dropout=0.1, learning_rate=0.001) as seen:
        run = await seen.started()
        await seen.press("u")
        assert sent(run) == [], "there is nothing to undo"
        seen.main.change_settings({"dropout": 0.2})
        await seen.until(lambda: sent(run) == [("dropout", 0.2)])
        obey(run, 0.1)
        change(run, "learning_rate", 0.001, 0.002)
        await seen.until(lambda: "learning_rate 0.001 -> 0.002 at step 3 (another)" in seen.log)
        await seen.press("u", "u")
        await seen.until(lambda: sent(run)[1:] == [("learning_rate", 0.001), ("dropout", 0.1)])
        assert undo(seen.main.store) is None, "both are on their way"
        change(run, "learning_rate", 0.002, 0.001)
        await seen.until(lambda: "0.002 -> 0.001" in seen.log)
        run.answer(ok=False, why="the disk is full")
        await seen.until(lambda: "set failed: the disk is full" in seen.log)
        assert undo(seen.main.store) == ("dropout", 0.1), "a refused change was not made"


async def test_without_a_run_a_change_is_said_to_be_impossible(workshop: Any) -> None:
    async with workshop.console() as seen:
        seen.main.change_settings({"dropout": 0.2})
        await seen.until(lambda: "No run obeys: dropout cannot change now." in seen.log)
        run = await seen.stopped()
        seen.main.change_settings({"dropout": 0.2})
        assert sent(run) == []
