"""Live changes: sent to the run, undone in order, refused where no run obeys."""

from typing import Any

import pytest

from fundamentallm.config.config import SETTINGS
from fundamentallm.config.files import load_preset
from fundamentallm.run.commands import Set
from fundamentallm.run.events import Answered, Intervention, Phase
from fundamentallm_tui.state.launch import undo
from tests.events import evaluated
from tests.tui.fakes import saved
from tests.tui.others import both_sizes, palette


def sent(run: Any) -> list[tuple[str, Any]]:
    return [(command.setting, command.value) for command in run.sent if isinstance(command, Set)]


def obey(run: Any, old: Any, who: str = "me") -> None:
    """Let the run make the change that it was sent last."""
    command = run.sent[-1]
    change(run, command.setting, old, command.value, who, command.id, command.undoes)


def change(
    run: Any, setting: str, old: Any, new: Any, who: str = "another", id: str = "x", undoes: bool = False
) -> None:
    old, new = (list(value) if isinstance(value, tuple) else value for value in (old, new))  # as in a journal
    run.say(
        Intervention(step=3, setting=setting, old=old, new=new, who=who, undoes=undoes),
        Answered(step=3, id=id, command="set", ok=True, who=who),
    )


async def test_a_change_is_sent_and_u_undoes_the_last_ones_in_order_whoever_made_them(workshop: Any) -> None:
    async with workshop.training(dropout=0.1, learning_rate=0.001, toasts=True) as (seen, run):
        await seen.press("u")
        await seen.see("There is nothing that can be undone now.")
        assert sent(run) == []
        seen.main.change_settings({"dropout": 0.2})
        await seen.until(lambda: sent(run) == [("dropout", 0.2)])
        obey(run, 0.1)
        change(run, "learning_rate", 0.001, 0.002)
        await seen.until(lambda: "learning_rate 0.001 -> 0.002 at step 3 (another)" in seen.log)
        await seen.press("u", "u")
        await seen.until(lambda: sent(run)[1:] == [("learning_rate", 0.001), ("dropout", 0.1)])
        assert undo(seen.main.store) is None, "both are on their way"
        change(run, "learning_rate", 0.002, 0.001, id=run.sent[1].id, undoes=True)
        await seen.until(lambda: "0.002 -> 0.001" in seen.log)
        run.answer(ok=False, why="the disk is full")
        await seen.until(lambda: "set failed: the disk is full" in seen.log)
        assert undo(seen.main.store) == ("dropout", 0.1), "a refused change was not made"


async def test_what_a_paused_run_is_asked_for_is_seen_though_no_step_comes(workshop: Any, seen: Any, run: Any) -> None:
    run.say(workshop.progress(1, 80), evaluated(80, 1.9), Phase(step=80, phase="paused"))
    await seen.status_is("PAUSED")
    await seen.see("val 1.900, the best so far")
    assert "◆" not in seen.screen and "▲" not in seen.screen
    change(run, "dropout", 0.1, 0.2)
    await seen.see("◆")
    run.say(saved(80, "runs/text-1/checkpoint_step_80.pt", "hand"))
    await seen.see("▲")
    run.say(evaluated(80, 1.7))
    await seen.see("val 1.700, the best so far")


@pytest.mark.parametrize(("setting", "one", "other"), [("dropout", 0.1, 0.2), ("pin", (), ("Once",))])
async def test_a_change_back_is_a_change_that_u_undoes_too(
    workshop: Any, setting: str, one: object, other: object
) -> None:
    async with workshop.training(**{setting: one}) as (seen, run):
        for old, new in ((one, other), (other, one)):
            seen.main.change_settings({setting: new})
            await seen.until(lambda new=new: run.sent and sent(run)[-1] == (setting, new))
            obey(run, old)
            await seen.until(lambda: not seen.main.store.unanswered)
        for old, new in ((one, other), (other, one)):
            assert undo(seen.main.store) == (setting, new)
            await seen.press("u")
            await seen.until(lambda new=new: sent(run)[-1] == (setting, new) and run.sent[-1].undoes)
            obey(run, old)
            await seen.until(lambda: not seen.main.store.unanswered)
        assert undo(seen.main.store) is None and len(run.sent) == 4


async def test_without_a_run_a_change_is_said_to_be_impossible(seen: Any) -> None:
    seen.main.change_settings({"dropout": 0.2})
    await seen.until(lambda: "No run obeys: dropout cannot change now." in seen.log)
    run = await seen.stopped()
    seen.main.change_settings({"dropout": 0.2})
    assert sent(run) == []


async def test_the_palette_multiplies_the_learning_rate_and_adds_epochs_and_patience(workshop: Any) -> None:
    async with workshop.console(learning_rate=0.003, epochs=5, patience=5) as seen:
        assert "Learning rate ×2" not in palette(seen)
        run = await seen.started()
        for title in ("Learning rate ÷10", "Learning rate ×2", "Epochs +10", "Epochs −1", "Patience +1"):
            await palette(seen)[title]()
        expected = [("learning_rate", 0.0003), ("learning_rate", 0.0006), ("epochs", 15), ("epochs", 14)]
        await seen.until(lambda: sent(run) == [*expected, ("patience", 6)])
        await seen.press("u", "u", "u")
        await seen.until(lambda: sent(run)[5:] == [("patience", 5), ("epochs", 15), ("epochs", 5)])


def pending(seen: Any) -> dict[str, str]:
    return {name: cell.pending for name, cell in seen.cells.items() if cell.pending}


async def edit(seen: Any, name: str, *keys: str) -> None:
    seen.main.form.fields.enter(name)
    await seen.press(*keys)


@both_sizes
async def test_live_settings_are_edited_in_the_form_and_enter_applies_them(
    workshop: Any, size: tuple[int, int]
) -> None:
    async with workshop.console(size, dropout=0.1, model_dim=64) as seen:
        fields = seen.main.form.fields
        run = await seen.started()
        live = {name for name, row in SETTINGS.items() if row.live}
        assert {name for name, cell in seen.cells.items() if not cell.disabled} == live
        await seen.press("1", "enter")
        assert fields.current.name in live, "locked fields are skipped"
        for name in SETTINGS:
            shown = name in live or name in ("data", "dropout", "model_dim")
            assert (fields.row_of(seen.cells[name]) is not None) == shown, f"{name}: the form is folded"

        await edit(seen, "dropout", *"0.2", "down", "up")
        assert pending(seen) == {"dropout": "›"} and sent(run) == []
        assert "›0.2" in seen.screen and "enter applies it from the next" in seen.screen
        await seen.press("escape")
        assert pending(seen) == {} and seen.cells["dropout"].value == "0.1" and fields.entered
        await edit(seen, "early_stopping", "right")
        await edit(seen, "dropout", *"2e-1", "enter")
        await seen.until(lambda: sent(run) == [("dropout", 0.2), ("early_stopping", True)])
        assert pending(seen) == {"dropout": "…", "early_stopping": "…"}
        change(run, "early_stopping", False, True)
        change(run, "learning_rate", 0.001, 0.5)
        change(run, "dropout", 0.1, 0.2, id=run.sent[0].id)
        run.answer()
        await seen.until(lambda: pending(seen) == {})
        assert [seen.cells[name].value for name in ("dropout", "learning_rate")] == ["0.2", "0.5"]
        assert all(seen.cells[name].marked for name in ("dropout", "learning_rate", "early_stopping"))
        change(run, "learning_rate", 0.5, 0.001)
        await seen.until(lambda: not seen.cells["learning_rate"].marked)
        await seen.press("escape")
        assert not fields.entered


async def test_ctrl_r_in_a_live_field_is_an_edit_that_enter_applies(workshop: Any) -> None:
    async with workshop.training(epochs=8) as (seen, run):
        preset = load_preset("tiny").layer.values["epochs"]
        assert preset != 8
        await edit(seen, "epochs", *"0", "ctrl+r")
        assert seen.cells["epochs"].value == str(preset) and pending(seen) == {"epochs": "›"}
        assert seen.main.form.problems == {} and sent(run) == []
        await seen.press("escape")
        assert seen.cells["epochs"].value == "8" and pending(seen) == {}
        await seen.press("ctrl+r", "enter")
        await seen.until(lambda: sent(run) == [("epochs", preset)])
        run.answer(ok=False, why="epochs: no")
        await seen.until(lambda: "epochs" in seen.main.form.problems)
        await seen.press("ctrl+r")
        assert seen.main.form.problems == {}, "what was refused is gone from the field"


async def test_a_refused_change_is_said_at_its_field_which_shows_the_true_value(workshop: Any) -> None:
    async with workshop.training(epochs=5) as (seen, run):
        await edit(seen, "epochs", *"0", "enter")
        assert sent(run) == [] and "out of bounds" in seen.main.form.problems["epochs"], "not even sent"
        assert "enter applies it" not in seen.screen
        await edit(seen, "epochs", *"2", "enter")
        await seen.until(lambda: sent(run) == [("epochs", 2)])
        run.answer(ok=False, why="epochs: epoch 3 is under way; 3 is the smallest total")
        await seen.see("epochs: epoch 3 is under way")
        assert seen.cells["epochs"].value == "5" and pending(seen) == {}
        await edit(seen, "epochs", *"7")
        assert seen.main.form.problems == {}
        run.finish(10, "stopped")
        await seen.status_is("STOPPED")
        assert seen.cells["epochs"].value == "7" and seen.cells["epochs"].marked, "the next start makes the change"
