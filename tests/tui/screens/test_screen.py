"""What the panes show: the form's words, the status line's columns, the log, the charts, the sample box."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import SETTINGS, Config, ConfigError, flags_layer, resolve
from fundamentallm.config.estimate import estimate
from fundamentallm.config.files import load_preset
from fundamentallm.config.format import format_duration, format_rate, wrap
from fundamentallm.data.text import read_texts
from fundamentallm.errors import UserError
from fundamentallm.run.events import CheckpointFailed, Evaluated, Notice, Phase, Sampled
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.__main__ import main
from fundamentallm_tui.format import cell_len, clean
from fundamentallm_tui.panes import status
from fundamentallm_tui.state.store import Store
from tests.tui.others import screen_text

both_sizes = pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])


def test_the_console_never_imports_torch_nor_needs_the_engines_heavy_modules() -> None:
    check = (
        "import sys, fundamentallm_tui.app, fundamentallm.process.session; "
        "print(sys.modules.keys() & {'torch', 'numpy'})"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_the_worker_imports_again_imports_no_textual() -> None:
    check = "import sys, fundamentallm_tui.__main__; print(sys.modules.keys() & {'textual', 'rich', 'yaml'})"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_terminal_that_can_show_nothing_gets_one_line_and_exit_2() -> None:
    pty = pytest.importorskip("pty")
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "fundamentallm_tui"]
    env = {**os.environ, "TERM": "dumb"}
    done = subprocess.run(command, stdin=its, stdout=its, stderr=subprocess.PIPE, text=True, env=env, timeout=60)
    os.close(its)
    os.close(ours)
    assert done.returncode == 2
    assert "fundamentallm train" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "smal"], "--preset smal: no such preset; did you mean small?"),
        (["attach", "nowhere"], "nowhere: no such run"),
        (["replay", "nowhere"], "nowhere: no such run"),
        (["replay", "x", "--speed", "0"], "--speed: 0: must be a number from 0.01 to 1000000"),
        (["--bogus"], "fllm-tui: unrecognized arguments: --bogus"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        ([], "fllm-tui: needs a terminal; without one, use `fundamentallm train`"),
    ],
)
def test_what_cannot_be_opened_says_so_in_one_line_and_exits_2(arguments: list[str], words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "fundamentallm_tui", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr and done.stderr.count("\n") == 1


@both_sizes
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_heads", "7"),
        ("dropout", "1.5"),
        ("epochs", "many"),
        ("stride", "999"),
        ("device", ""),
        ("lr_schedule", ""),
    ],
)
async def test_the_form_says_the_command_lines_words(
    workshop: Any, size: tuple[int, int], name: str, value: str
) -> None:
    preset = load_preset("tiny").layer
    async with workshop.console(size) as seen:
        fields = seen.main.form.fields
        fields.show_values({name: value})
        seen.main.form._check()
        await seen.pilot.pause()
        expected = ""
        try:
            resolve(preset, flags_layer({"data": [str(workshop.text)], name: value}))
        except ConfigError as error:
            [problem] = error.problems
            expected = problem.text
        assert seen.main.form.problems == {name: expected}
        fields.enter(name)
        await seen.pilot.pause()
        shown = " ".join(screen_text(seen.app).replace("│", " ").split())
        assert wrap(f"{name}: {expected}", 30)[0] in shown
        await seen.pilot.press("escape", "f5")
        assert seen.runs == [], "nothing starts while something is wrong"


async def test_the_form_names_a_missing_file_and_a_text_that_is_too_short(workshop: Any) -> None:
    async with workshop.console() as seen:
        form = seen.main.form
        await seen.until(lambda: form.total_steps)
        form.fields.show_values({"data": "nowhere.txt"})
        form._check()
        await seen.until(lambda: "data" in form.problems)
        with pytest.raises(UserError) as missing:
            read_texts(("nowhere.txt",))
        assert form.problems == {"data": str(missing.value)}
        (workshop.folder / "short.txt").write_text("too short " * 12)
        form.fields.show_values({"data": "short.txt"})
        form._check()
        await seen.until(lambda: "max_seq_len" in form.problems)
        assert "--max-seq-len 107 is the largest that fits" in form.problems["max_seq_len"]


async def test_the_form_tells_the_size_of_the_run(workshop: Any) -> None:
    async with workshop.console() as seen:
        await seen.until(lambda: seen.main.form.total_steps)
        told = estimate(seen.main.form.config, [workshop.text.read_text()])
        assert f"{told.total_steps} steps" in screen_text(seen.app)
        assert f"step {0:>{status.STEPS}}/{told.total_steps}" in seen.status


async def test_another_preset_fills_the_form_and_keeps_the_typed_data(workshop: Any) -> None:
    async with workshop.console() as seen:
        seen.main.form.fields.enter("preset")
        await seen.pilot.press("right")
        small = resolve(load_preset("small").layer, flags_layer({"data": [str(workshop.text)]}))
        assert seen.main.form.config == small


async def test_every_setting_is_in_the_form_with_its_help(workshop: Any) -> None:
    async with workshop.console() as seen:
        assert set(seen.main.form.fields.cells) == {"preset", *SETTINGS}
        seen.main.form.fields.enter("learning_rate")
        await seen.pilot.pause()
        row = SETTINGS["learning_rate"]
        hint = str(seen.main.query_one("#hint").render())
        assert all(words in hint for words in (row.help, row.typical, row.too_high, row.too_low))


async def test_the_form_is_read_only_while_a_run_is_under_way(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        assert all(cell.disabled for cell in seen.main.form.fields.cells.values())
        await seen.pilot.press("1", "9")
        assert seen.main.form.fields.cells["epochs"].value == "5"
        run.finish(400)
        await seen.until(lambda: "FINISHED" in seen.status)
        assert not any(cell.disabled for cell in seen.main.form.fields.cells.values())


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_the_status_lines_columns_stand_still(workshop: Any, width: int) -> None:
    folder = workshop.folder / ("a" * 60)
    places = set()
    moments = [(1, 8.0, None), (999, 24_100.0, 59.2), (1120, 1.23e6, 3600 * 7), (1000, 999_900.0, 86400.0 * 12)]
    for step, per_second, eta in moments:
        for phase in ("training", "evaluating", "saving", "paused", "compiling"):
            store = Store()
            store.begin(folder, "small", Config(), resumes=False)
            progress = workshop.progress(step, step, eta=eta, rate=per_second)
            start = workshop.started(RunSpec(Config(epochs=20), folder), total=1120, epochs=20)
            norm = 10.0 ** (step % 7) / 10
            store.apply([start, replace(progress, grad_norm=(norm,)), Phase(step=step, phase=phase)])
            line = "".join(text for text, _ in status.layout(store, width))
            assert cell_len(line) <= width
            places.add(tuple(line.find(label) for label in ("step ", "epoch ", "ETA ", " tok/s", "grad ")))
    assert len(places) == 1
    assert places.pop()[0] > 0, "the step is always there"


def test_the_columns_stand_still_from_before_the_steps_are_known() -> None:
    store = Store()
    places = set()
    for steps, epochs in ((0, 0), (7, 1), (720, 5), (99_999, 20)):
        store.total_steps, store.epochs = steps, epochs
        line = "".join(text for text, _ in status.layout(store, 100))
        places.add(tuple(line.find(label) for label in ("step ", "epoch ", "ETA ", " tok/s")))
    assert len(places) == 1


async def test_training_dots_are_seen_in_cells_that_validation_crosses_and_its_points_lie_over_them(
    workshop: Any,
) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        run.say(workshop.progress(1, 100))
        for step in (1, 50, 100):  # the same losses: both lines share every cell
            run.say(
                Evaluated(
                    step=step, epoch=1, train_loss=1.0, val_loss=4.0 - step / 200, perplexity=2.0, epoch_ended=False,
                    best=True,
                )
            )  # fmt: skip
        await seen.until(lambda: len(seen.main.store.val) == 3)
        seen.main.loss.throttle.request(now=True)
        await seen.pilot.pause()
        view = seen.main.loss.view
        cells = [segment for y in range(view.size.height) for segment in view.render_line(y)]
        dots: dict[Any, int] = {}
        for segment in cells:
            if segment.style and "⠀" < segment.text[:1] <= "⣿":
                dots[segment.style.color] = dots.get(segment.style.color, 0) + len(segment.text)
        [points] = {segment.style.color for segment in cells if segment.style and "•" in segment.text}
        assert dots.pop(points, 0) < sum(dots.values()) / 5


@both_sizes
async def test_the_status_line_and_the_footer_are_never_cut(workshop: Any, size: tuple[int, int]) -> None:
    async with workshop.console(size) as seen:
        run = await seen.started(total=1120, epochs=20)
        run.say(workshop.progress(1, 312, epoch=15, eta=72.0))
        await seen.until(lambda: "312/1120" in screen_text(seen.app))
        lines = screen_text(seen.app).splitlines()
        assert cell_len(lines[0].rstrip()) <= size[0] and "ETA   1:12" in lines[0] and "24.1k tok/s" in lines[0]
        assert lines[-1].rstrip().endswith("^q quit")


@both_sizes
async def test_the_charts_titles_hold_the_last_values(workshop: Any, size: tuple[int, int]) -> None:
    async with workshop.console(size) as seen:
        run = await seen.started()
        end = Evaluated(step=80, epoch=1, train_loss=3.6, val_loss=2.01, perplexity=7.4, epoch_ended=True, best=True)
        run.say(workshop.progress(1, 80), end)
        await seen.until(lambda: seen.main.store.val.last)
        await seen.pilot.press("3")
        await seen.pilot.pause()
        assert "Loss  train 3.600  val 2.010" in screen_text(seen.app)
        await seen.pilot.press("4")
        await seen.pilot.pause()
        assert "Learning rate  1.00e-03" in screen_text(seen.app)


async def test_the_log_makes_text_from_outside_harmless(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        run.say(Notice(step=1, level="warning", text="[red]file[/] \x1b[2J\x9b31m\u202eevil\ttab"))
        await seen.until(lambda: "evil" in seen.main.log_view.text)
        assert "[red]file[/] ·[2J·31m·evil    tab" in seen.main.log_view.text
        assert "[red]file[/] ·[2J·31m·evil    tab" in screen_text(seen.app)


async def test_the_log_lets_go_of_the_tail_when_one_scrolls_and_follows_again_at_the_end(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        run.say(*(Notice(step=1, level="info", text=f"line {n}") for n in range(50)))
        await seen.until(lambda: "line 49" in screen_text(seen.app))
        await seen.pilot.press("2", "home")
        run.say(Notice(step=1, level="info", text="line 50"))
        await seen.until(lambda: "line 50" in seen.main.log_view.text)
        assert "line 50" not in screen_text(seen.app) and "line 0" in screen_text(seen.app)
        await seen.pilot.press("end")
        run.say(Notice(step=1, level="info", text="line 51"))
        await seen.until(lambda: "line 51" in screen_text(seen.app))


@both_sizes
async def test_a_sample_streams_in_behind_its_prompt(workshop: Any, size: tuple[int, int]) -> None:
    async with workshop.console(size) as seen:
        await seen.pilot.press("ctrl+g")
        assert "No model yet." in screen_text(seen.app)
        await seen.pilot.press("H", "o", "enter")
        assert "There is no model to sample" in screen_text(seen.app)
        run = await seen.started()
        await seen.pilot.press("enter")
        command = run.sent[-1]
        run.say(Sampled(step=3, id=command.id, prompt="Ho", text="ratio [b]said[/b]"))
        await seen.until(lambda: "Horatio [b]said[/b]" in screen_text(seen.app))
        run.say(Sampled(step=3, id=command.id, prompt="Ho", text=" no\x1b", done=True))
        await seen.until(lambda: "said[/b] no·" in screen_text(seen.app))
        assert "at step 3" in screen_text(seen.app)


async def test_a_wrong_sample_setting_is_named_and_nothing_is_asked(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        seen.main.sample.options.enter("top_p")
        await seen.pilot.press("2", "enter")
        assert "top_p: 2 is out of bounds; it must be above 0" in screen_text(seen.app)
        assert run.sent == []


async def test_the_model_can_be_asked_after_the_end_until_the_worker_leaves(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        run.finish(400)
        await seen.until(lambda: "FINISHED" in seen.status)
        await seen.pilot.press("ctrl+g", "a", "enter")
        assert run.sent[-1].prompt == "a"
        run.die("ended with status 0")
        await seen.until(lambda: not seen.main.has_model)
        await seen.pilot.press("enter")
        assert "There is no model to sample" in screen_text(seen.app)
        assert "FINISHED" in seen.status


async def test_a_dead_engine_leaves_a_living_console_that_says_why(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        run.tail = ["RuntimeError: boom"]
        run.die("killed by SIGKILL")
        await seen.until(lambda: "FAILED" in seen.status)
        text = screen_text(seen.app)
        assert "killed by SIGKILL" in text and "RuntimeError: boom" in text
        await seen.started()


async def test_saves_in_a_row_share_a_line_and_so_do_failures(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        for step in range(1, 31):
            run.say(workshop.saved(step, "last.pt", "last"), Phase(step=step, phase="training"))
            if step == 10:
                run.say(workshop.saved(10, "checkpoint_step_10.pt", "hand"))  # a person asked for it: its own line
        for step in range(31, 34):
            names = ("last.pt", "best.pt")
            run.say(*(CheckpointFailed(step=step, path=name, kind="last", why="disk full") for name in names))
        run.say(*(CheckpointFailed(step=34, path=why, kind="last", why=why) for why in ("one", "two")))
        run.say(workshop.saved(34, "last.pt", "last"))
        await seen.until(lambda: seen.main.log_view.text.endswith("(1.6 MB)") and "full" in seen.main.log_view.text)
        lines = [line[9:] for line in seen.main.log_view.text.splitlines() if "save" in line]
        assert lines == [
            "saved last.pt (1.6 MB), 10 times", "saved checkpoint_step_10.pt (1.6 MB)",
            "saved last.pt (1.6 MB), 20 times", "could not save last.pt, best.pt: disk full, 3 times",
            "could not save one: one", "could not save two: two", "saved last.pt (1.6 MB)",
        ]  # fmt: skip
        assert screen_text(seen.app).count("saved last.pt") == 3  # what was replaced is gone from the screen, too


async def test_a_run_that_cannot_start_puts_the_words_beside_the_field(workshop: Any) -> None:
    async with workshop.console() as seen:

        def refuse(job: Any) -> Any:
            raise UserError(f"--output-dir {job.folder}: holds a run already")

        seen.main._start = refuse
        await seen.pilot.press("f5")
        await seen.until(lambda: "output_dir" in seen.main.form.problems)
        assert "IDLE" in seen.status
        assert "holds a run already" in seen.main.log_view.text


async def test_a_folder_that_there_cannot_be_is_refused_beside_its_field(workshop: Any) -> None:
    async with workshop.console(output_dir="~nobody-at-all/x") as seen:
        await seen.pilot.press("f5")
        assert "cannot be looked up" in seen.main.form.problems["output_dir"]
        assert "IDLE" in seen.status and not seen.runs


def test_a_hostile_file_does_not_command_the_terminal_that_the_console_was_to_open_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text('"\\e]0;mine\\a": 1\n')
    assert main(["--config", str(tmp_path / "c.yaml")]) == 2
    assert "·]0;mine·: no such setting" in capsys.readouterr().err


async def test_every_theme_and_no_colour_at_all_can_be_drawn(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with workshop.console() as seen:
        run = await seen.started()
        run.say(workshop.progress(1, 80), Phase(step=80, phase="training"))
        await seen.until(lambda: seen.main.store.step == 80)
        for theme in ("textual-light", "ansi-dark", "calm"):
            if theme in seen.app.available_themes:
                seen.app.theme = theme
                await seen.pilot.pause()
                assert "TRAINING" in screen_text(seen.app)


def test_numbers_never_outgrow_their_columns() -> None:
    values = [0.0, 0.4, 9.99, 59.0, 3599.2, 3600.0, 86400.0 * 3, 86400.0 * 400, 1e12, float("inf"), float("nan"), None]
    assert all(len(format_duration(value)) <= 6 for value in values)
    assert all(len(format_rate(value)) <= 5 for value in [*values, 999.6, 9_999.0, 99_960.0, 999_600.0, 1e10, 1e15])


def test_clean_leaves_words_and_newlines_where_wanted() -> None:
    assert clean("a\r\nb\x07") == "a· b·"
    assert clean("é 漢 🙂\nb", newlines=True) == "é 漢 🙂\nb"
