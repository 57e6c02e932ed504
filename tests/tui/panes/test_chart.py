"""What keys and the mouse do to the charts, and what their titles say."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from math import exp
from typing import Any

import pytest
from textual.content import Content
from textual.events import Hide, MouseScrollDown, MouseScrollUp, Show

from fundamentallm.config.schedule import configured_rate
from fundamentallm.run.events import Answered, Intervention, Phase
from fundamentallm_tui import keys
from fundamentallm_tui.charts.chart import Chart
from fundamentallm_tui.charts.curves import layer_curves, shown_layers
from fundamentallm_tui.charts.palette import COLOURS
from fundamentallm_tui.charts.view import View
from fundamentallm_tui.panes.chart import ChartPane
from tests.events import evaluated, layers_inspected

STEPS, TOTAL, EPOCH = 200, 400, 80


@asynccontextmanager
async def charts(workshop: Any, size: tuple[int, int] = (120, 36)) -> AsyncIterator[Any]:
    """A run of 200 steps of 400, of which two epochs were evaluated; the loss chart has the focus."""
    async with workshop.console(size) as seen:
        run = await seen.started(total=TOTAL)
        events = [workshop.progress(1, 80), evaluated(80, 3.7)]
        events += [workshop.saved(80, "checkpoint_epoch_1.pt", "epoch")]
        events += [workshop.progress(81, 160), evaluated(160, 3.5), workshop.saved(160, "best.pt", "best")]
        events += [workshop.saved(170, "checkpoint_step_170.pt", "hand"), workshop.progress(161, STEPS)]
        run.say(*events)
        await seen.until(lambda: seen.main.store.step == STEPS)
        await seen.press("3")
        yield seen


def title(pane: ChartPane) -> str:
    return Content.from_markup(str(pane.border_title)).plain


# Of the loss chart: keys, and what holds of its view and of what it then draws.
PRESSES: list[tuple[str, Callable[[View, Chart], object]]] = [
    ("plus", lambda view, chart: chart.x_range == (100, 200) and view.end is None),
    ("equals_sign plus", lambda view, chart: chart.x_range == (150, 200)),
    ("plus minus", lambda view, chart: view == View()),
    ("plus left", lambda view, chart: chart.x_range == (75, 175)),
    ("plus left left right", lambda view, chart: chart.x_range == (75, 175)),
    ("plus left right", lambda view, chart: chart.x_range == (100, 200) and view.end is None),
    ("plus f", lambda view, chart: (view.span, view.end) == (100, 200)),
    ("plus f f", lambda view, chart: (view.span, view.end) == (100, None)),
    ("plus left c 0", lambda view, chart: view == View()),
    ("l", lambda view, chart: chart.log),
    ("l l", lambda view, chart: not chart.log),
    ("t", lambda view, chart: (chart.x_label, chart.x_range) == ("epoch", (0, STEPS / EPOCH))),
    ("t t", lambda view, chart: (chart.x_label, chart.x_range) == ("tokens", (0, STEPS * 1000))),
    ("t t t", lambda view, chart: chart.x_label == "time" and chart.x_range == (0, 8)),
    ("t t t t", lambda view, chart: chart.x_label == "step"),
    ("a", lambda view, chart: chart.y_range is None),
    ("a a", lambda view, chart: chart.y_range is not None),
    ("right_square_bracket", lambda view, chart: view.smoothing == 0.99),
    ("left_square_bracket", lambda view, chart: view.smoothing == 0.0),
    ("c", lambda view, chart: chart.crosshair == STEPS),
    ("c c", lambda view, chart: chart.crosshair is None),
    ("c escape", lambda view, chart: chart.crosshair is None),
    ("c left", lambda view, chart: STEPS - 10 < chart.crosshair < STEPS),
    ("c left right", lambda view, chart: chart.crosshair == STEPS),
    ("c right", lambda view, chart: chart.crosshair == STEPS),
]  # fmt: skip


async def test_each_key_does_what_its_command_says(workshop: Any) -> None:
    pressed = set()
    async with charts(workshop) as seen:
        for presses, holds in PRESSES:
            await seen.press(*presses.split())
            assert holds(seen.main.loss.view, seen.main.loss.chart()), presses
            pressed |= set(presses.split())
            seen.main.loss.show_view(View())
    bound = {key for command in keys.CHART if command.action for key in command.key.split(",")}
    assert bound <= pressed | {"d", "i"}


async def test_the_status_line_follows_the_smoothing_of_the_metric_chart_while_that_is_alone(workshop: Any) -> None:
    async with charts(workshop) as seen:
        seen.run.finish(STEPS, "stopped")  # or the status line would be drawn again each second
        await seen.status_is("STOPPED")
        await seen.press("4", "z")
        await seen.until(lambda: "train ~3.045" in seen.screen.splitlines()[0])
        for key, newest in (("left_square_bracket", "train 3.000"), ("right_square_bracket", "train ~3.045")):
            await seen.press(key)
            await seen.until(lambda newest=newest: f"{newest} " in seen.screen.splitlines()[0], newest)


async def test_a_chart_that_is_shown_before_it_learns_that_it_was_hidden_is_drawn_anew(workshop: Any) -> None:
    async with charts(workshop) as seen:
        seen.run.finish(STEPS, "stopped")
        await seen.status_is("STOPPED")
        await seen.see("smoothing 0.9 ")
        seen.main.loss.view = View(smoothing=0.0)  # as it changes in a pane that is hidden
        seen.main.loss.canvas.post_message(Hide())
        seen.main.loss.canvas.post_message(Show())
        await seen.see("smoothing 0 ")


async def test_the_title_has_the_newest_values_or_those_at_the_crosshair_on_both_charts(workshop: Any) -> None:
    async with charts(workshop) as seen:
        loss, metric = seen.main.loss, seen.main.metric
        await seen.press("z")
        assert title(loss) == "Loss  train ~3.045  val 3.500  best 3.500  smoothing 0.9"
        await seen.press("right_square_bracket")
        assert "smoothing 0.99" in title(loss)
        (newest,) = re.findall(r"train ~[\d.]+", title(loss))
        assert newest != "train ~3.045" and seen.screen.count(newest) == 2, "the status line says the same at once"
        await seen.press("left_square_bracket", "left_square_bracket")
        assert title(loss) == "Loss  train 3.000  val 3.500  best 3.500  smoothing 0"
        assert seen.screen.count("train 3.000 ") == 2
        await seen.press("right_square_bracket", "c")
        await seen.press_until("left", lambda: loss.view.crosshair <= 80)
        assert loss.view.crosshair == 80, "it stops at points of validation"
        assert title(loss) == "Loss  step 80  mean ~3.645  val 3.700  train 3.600"
        assert metric.view.crosshair == 80
        loss.show_view(replace(loss.view, crosshair=159))
        assert "val 3.700" in title(loss), "validation is as it was known then, although the next is nearer"
        loss.show_view(replace(loss.view, crosshair=79))
        assert "val –" in title(loss), "there was none yet"
        loss.show_view(replace(loss.view, crosshair=202))
        assert title(loss) == "Loss  step 202  mean –  val –  train –"
        loss.show_view(replace(loss.view, crosshair=80))
        await seen.press("z")
        assert title(metric).startswith("Learning rate  ") and title(metric).endswith(" 0.001")
        points = [(line.x, line.y) for line in loss.chart().lines if line.mark == "●"]
        assert points == [([80], [3.6]), ([80], [3.7]), ([80], [pytest.approx(3.645, abs=1e-3)])]


async def test_linked_charts_share_steps_and_crosshair_but_not_the_height(workshop: Any) -> None:
    async with charts(workshop) as seen:
        await seen.press("plus", "l", "a", "t", "c")
        loss, metric = seen.main.loss.view, seen.main.metric.view
        assert (
            (metric.span, metric.crosshair, metric.x_by)
            == (loss.span, loss.crosshair, loss.x_by)
            == (100, 200, "epoch")
        )
        assert (loss.log, loss.fit, metric.log, metric.fit) == (True, False, False, True)
        await seen.press("4", "minus")
        assert seen.main.loss.view.span is None and seen.main.loss.view.log


async def test_validation_the_best_epochs_changes_and_saves_are_marked(
    workshop: Any,
) -> None:
    async with charts(workshop) as seen:
        seen.run.say(
            Intervention(step=120, setting="learning_rate", old=1e-3, new=5e-4, who="ada"),
            Answered(step=120, id="x", command="set", ok=True),
        )
        await seen.until(lambda: seen.main.store.history.interventions_from(0))
        await seen.press("z")
        chart = seen.main.loss.chart()
        raw, val, mean, best = chart.lines
        assert (raw.strength < 0.6 < mean.strength) and (len(raw.x), len(mean.x)) == (STEPS, STEPS)
        assert (val.x, val.y, val.mark) == ([80, 160], [3.7, 3.5], "•")
        assert (best.x, best.y, best.mark, best.label) == ([160], [3.5], "★", "3.500")
        assert [(rule.x, rule.mark) for rule in chart.rules] == [
            (80, ""), (160, ""), (80, "▴"), (170, "▲"), (120, "◆")
        ], "best.pt is where the star is: the next best one is written over it"  # fmt: skip
        assert "★" in seen.screen and "3.500" in seen.screen and "◆" in seen.screen and "▲" in seen.screen
        store = seen.main.store
        seen.run.say(replace(store.history.starts[0], step=STEPS, resumed_from="last.pt", changes={"dropout": 0.3}))
        await seen.until(lambda: len(store.history.starts) == 2)
        marked = [rule.x for rule in seen.main.loss.chart().rules if rule.mark == "◆"]
        assert marked == [STEPS, 120], "a resume with other settings is a change"


async def test_the_metric_chart_goes_through_all_metrics_and_dots_the_schedule_to_come(workshop: Any) -> None:
    async with charts(workshop) as seen:
        metric, config = seen.main.metric, seen.main.store.config
        chart = metric.chart()
        known, planned = chart.lines
        assert chart.x_range == (0, TOTAL) and planned.dotted and not known.dotted
        assert (planned.x[0], planned.x[-1]) == (STEPS, TOTAL)
        assert planned.y[-1] == configured_rate(config, TOTAL, TOTAL - 1) and planned.y[0] > planned.y[-1]
        titles = []
        await seen.press("4", "z")
        for _ in range(5):
            await seen.press("m")
            titles.append(title(metric))
        assert titles == [
            "Gradient norm  0.41", "Tokens a second  24.1k", f"Perplexity  train ~{exp(3.045):.2f}  val {exp(3.5):.2f}",
            "Memory  0 MiB", "Learning rate  0.001",
        ]  # fmt: skip
        seen.run.finish(STEPS)
        await seen.status_is("FINISHED")
        assert metric.chart().x_range == (0, STEPS) and len(metric.chart().lines) == 1, "nothing is to come"


async def test_the_layers_are_offered_once_they_were_measured_with_what_that_costs(workshop: Any) -> None:
    async with charts(workshop) as seen:
        metric, run = seen.main.metric, seen.run
        await seen.press("4", "z")
        run.say(*(layers_inspected(step) for step in range(10, STEPS + 1, 10)))
        await seen.until(lambda: len(seen.main.store.history.inspected) == 20)
        await seen.press(*"mmmmm")
        assert metric.metric.name == "Gradient norm by layer"
        lines = metric.chart().lines
        assert [len(line.x) for line in lines] == [20] * 5 + [1] * 5, "a line for each part, and a mark at its end"
        assert lines[2].x == list(range(10, STEPS + 1, 10)) and lines[2].y == [0.3 / step for step in lines[2].x]
        assert len({line.colour for line in lines}) == len({line.mark for line in lines[5:]}) == 5
        steps, seconds = metric.store.seconds.points
        per_step = (seconds[-1] - seconds[-2]) / (steps[-1] - steps[-2])
        assert metric.border_subtitle == f"costs 2.0 ms, {0.2 / (10 * per_step):.1f} % of time"
        await seen.see("■ embedding 0.0005")
        about = "Each curve is a part of the model, and how"
        await seen.see(f"{about} strongly the last batch pulls at its weights.")
        await seen.press("z")
        await seen.see("■ emb 0.0005")
        assert about[:26] not in seen.screen
        await seen.press("z")
        await seen.press("m")
        for name, value in zip(NAMES, ("10.0", "12.0", "14.0", "16.0", "18.0"), strict=True):
            await seen.see(f"{name} {value}")
        await seen.see(f"{about} large its weights are, all taken together.")
        await seen.press("m")
        assert title(metric).startswith("Update-to-weight ratio")
        await seen.see(f"{about} much of its weights a step changes.")
        await seen.press("c")
        await seen.press_until("left", lambda: metric.view.crosshair < 101)
        await seen.see("feed-forward 2 5.0e-05")
        assert title(metric) == f"Update-to-weight ratio  step {metric.view.crosshair:.0f}"
        await seen.press("m")
        assert metric.metric.name == "Learning rate" and not metric.legend.display


NAMES = ("embedding", "attention 1", "feed-forward 1", "attention 2", "feed-forward 2")


async def test_layers_that_were_not_measured_say_how_they_are(workshop: Any) -> None:
    async with charts(workshop) as seen:
        seen.run.say(layers_inspected(5))
        await seen.until(lambda: seen.main.store.history.inspected)
        await seen.press("4", "z", *"mmmmm")
        await seen.see("costs 2.0 ms")
        seen.run.say(replace(seen.main.store.history.starts[0], step=4, resumed_from="last.pt"))
        await seen.see("not measured (inspect_every)")
        assert not seen.main.metric.legend.display


def test_of_many_layers_the_first_the_middle_and_the_last_are_shown() -> None:
    assert list(shown_layers(layers_inspected(1, 12).layers).values()) == [
        "embedding", "attention 1", "feed-forward 1", "attention 7", "feed-forward 7", "attention 12", "feed-forward 12"
    ]  # fmt: skip
    odd = ("blocks.x.attention", "\x1b[2J", "blocks.1.a b", *(f"blocks.{n}.attention" for n in range(9)), *"abcdefghi")
    shown = shown_layers(odd)
    assert len(shown) == len(COLOURS) and not any("\x1b" in name for name in shown.values())
    ragged = [replace(layers_inspected(step), layers=odd, grad_norm=(float("nan"), 1e308)) for step in (3, 3, 1)]
    assert [curve.series.points[0].tolist() for curve in layer_curves(ragged, "grad_norm")][:2] == [[1, 3]] * 2


async def test_the_mouse_zooms_at_its_place_sets_the_crosshair_and_drags(workshop: Any) -> None:
    async with charts(workshop) as seen:
        await seen.press("z")
        loss, pilot = seen.main.loss, seen.pilot
        plot = loss.canvas.plot
        middle = (plot.left + plot.columns // 2, 5)
        await pilot.click(loss.canvas, offset=middle)
        assert abs(loss.view.crosshair - STEPS / 2) < 2
        await seen.press("c")
        await pilot.mouse_down(loss.canvas, offset=middle)
        await pilot.hover(loss.canvas, offset=(middle[0] + 20, 5))
        await pilot.mouse_up(loss.canvas, offset=(middle[0] + 20, 5))
        assert loss.view == View(), "all is seen already"
        await seen.press("plus")
        await pilot.mouse_down(loss.canvas, offset=middle)
        await pilot.hover(loss.canvas, offset=(middle[0] + plot.columns // 4, 5))
        await pilot.mouse_up(loss.canvas, offset=(middle[0] + plot.columns // 4, 5))
        low, high = loss.chart().x_range
        assert high - low == 100 and abs(low - 75) < 2 and loss.view.crosshair is None
        await seen.press("0")
        for event, span in ((MouseScrollUp, 100), (MouseScrollUp, 50), (MouseScrollDown, 100)):
            x, y = loss.canvas.region.x + plot.left, loss.canvas.region.y + 5
            loss.canvas.post_message(event(loss.canvas, x, y, 0, 0, 0, False, False, False, x, y))
            await pilot.pause()
            low, high = loss.chart().x_range
            assert high - low == span and low < 2, "what is under the mouse stays there"
        assert seen.main.focused is loss


async def test_the_curve_of_a_run_under_way_grows_into_axes_that_stand_still(workshop: Any) -> None:
    async with charts(workshop) as seen:
        loss, ends = seen.main.loss, []
        for step in (203, 211, 219, 223):
            seen.run.say(workshop.progress(seen.main.store.step + 1, step))
            await seen.until(lambda step=step: seen.main.store.step == step)
            ends.append(loss.chart().x_range[1])
        assert ends == [220, 220, 220, 240]
        await seen.press("plus")
        assert loss.chart().x_range[1] == 223, "a part that is chosen follows the newest step"
        await seen.press("0")
        seen.run.finish(223, "stopped")
        await seen.status_is("STOPPED")
        assert loss.chart().x_range == (0, 223)


async def test_another_run_is_seen_whole_from_its_beginning(workshop: Any, make: Any) -> None:
    async with charts(workshop) as seen:
        await seen.press("plus", "left", "c", "right_square_bracket")
        seen.main.open_run(make("old"))
        await seen.until(lambda: seen.main.store.step == 40)
        assert seen.main.loss.view == seen.main.metric.view == View(smoothing=0.99)


async def test_the_first_fall_is_cut_and_indicated_until_a_shows_all(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        run = await seen.started(total=TOTAL)
        steep = workshop.progress(1, STEPS)
        losses = tuple(9.0 if step <= 10 else loss for step, loss in zip(steep.step, steep.train_loss, strict=True))
        run.say(type(steep)(**{**vars(steep), "train_loss": losses}), Phase(step=STEPS, phase="paused"))
        await seen.until(lambda: seen.main.store.step == STEPS)
        await seen.press("3")
        await seen.see("↑9.00")
        await seen.press("a")
        assert "↑9.00" not in seen.screen and "all heights" in seen.screen
