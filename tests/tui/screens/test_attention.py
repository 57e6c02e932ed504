"""The look inside: the map of attention, and the nearest tokens beside it."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fundamentallm.config.config import Config
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.model.ops import apply_rope, rms_norm
from fundamentallm.model.transformer import Transformer
from fundamentallm.run.commands import Attend, Command, Explain, Neighbours
from fundamentallm.run.events import Attended, Event, Nearest, Sampled
from fundamentallm.train.loaded import Model
from fundamentallm.train.samples import SampleControl
from fundamentallm_tui.panes.heat_map import GUTTER
from fundamentallm_tui.screens.attention import NO_MODEL
from tests.tui.fakes import FakeRun
from tests.tui.others import attended, nearest, palette

TEXT = "to be or not to be"


class Answering(FakeRun):
    """Answers what is asked about a text; with `model`, as that one does."""

    model: Model | None = None

    def send(self, command: Command) -> None:
        super().send(command)
        if isinstance(command, (Attend, Neighbours)) and self.model is not None:
            SampleControl(self.model, self.say, list).obey_commands([command])
        elif isinstance(command, Attend):
            self.say(attended(command))
        elif isinstance(command, Neighbours):
            self.say(nearest(command))

    def asked(self) -> list[tuple[str, object]]:
        """What the model was asked about: the layers and the tokens."""
        return [
            ("layer", command.layer) if isinstance(command, Attend) else ("token", command.text)
            for command in self.sent if isinstance(command, (Attend, Neighbours))
        ]  # fmt: skip


async def look(seen: Any, text: str = TEXT, title: str = "Attention") -> Any:
    """Open the screen from the palette, and ask about a text; returns it."""
    await palette(seen)[title]()
    await seen.see("Attention over a text")
    await seen.press("ctrl+u", *text, "enter")
    await seen.until(lambda: seen.app.screen.query("#attention") and seen.app.screen.asked is None)
    return seen.app.screen


def reading(seen: Any) -> tuple[str, str, float]:
    """What is read off: a token, what it attends to, and how much."""
    found = re.search(r"“(.+)” attends to “(.+)” with (\d\.\d\d)", seen.screen)
    assert found, seen.screen
    return found[1], found[2], float(found[3])


def cells(screen: Any) -> list[list[tuple[int, int, int]]]:
    """The colours of the map: a row for each token that is shown, and in it one for each of them."""
    rows = []
    width = (screen.map.size.width - GUTTER) // screen.map.shown  # of a cell, which is half as many lines high
    for half in range(0, screen.map.shown * width, width):
        styles = [segment.style for segment in screen.map.render_line(1 + half // 2) if "▀" in segment.text]
        colours = [style.bgcolor if half % 2 else style.color for style in styles]
        rows.append([tuple(colour.get_truecolor()) for colour in colours])
    return rows


def weights_of(model: Transformer, tokens: list[int], layer: int) -> list[list[list[float]]]:
    """Attention as its definition has it, position by position, by head."""
    x = rms_norm(model.embedding(torch.tensor(tokens)))[None]
    for block in model.blocks[:layer]:
        x = block(x, model.freqs[: len(tokens)], None)
    own = model.blocks[layer].attention
    q, k, _ = own.qkv(rms_norm(x))[0].chunk(3, -1)  # each (T, H * K)
    q, k = (each.view(1, len(tokens), own.heads, -1) for each in (q, k))
    q, k = (apply_rope(rms_norm(each), model.freqs[: len(tokens)])[0] for each in (q, k))  # (T, H, K)
    return [
        [
            torch.softmax(
                torch.stack([q[i, head] @ k[j, head] for j in range(i + 1)]) * 2 / q.shape[-1] ** 0.5, 0
            ).tolist()
            for i in range(len(tokens))
        ]
        for head in range(own.heads)
    ]


async def test_the_map_and_what_is_read_off_are_what_the_model_computes(workshop: Any) -> None:
    vocabulary = Tokenizer("".join(sorted(set(TEXT))))
    config = Config(model_dim=32, num_heads=4, num_layers=2, max_seq_len=32, seed=5)
    model = Transformer(config, len(vocabulary))
    with torch.no_grad():
        for parameter in model.parameters():  # at first, blocks do nothing and all attend alike
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    tokens = vocabulary.encode(TEXT)

    def start(job: Any) -> Answering:
        run = Answering(job)
        run.model = Model(model, vocabulary, 7, config)
        return run

    with torch.inference_mode():
        expected = [weights_of(model, tokens, layer) for layer in (0, 1)]
    async with workshop.training((80, 24), start) as (seen, _):
        screen = await look(seen)
        await seen.press("right_square_bracket", "full_stop")  # the second layer, the second head
        await seen.see("layer 2 of 2 · head 2 of 4 · step 7")
        rows = expected[1][1]
        assert [sum(row) for row in screen.map.rows] == pytest.approx([1] * len(TEXT), abs=1e-4)
        row, column = screen.map.cursor
        assert row == len(TEXT) - 1
        await seen.press(*["left"] * len(TEXT))
        for column in range(len(TEXT)):
            assert reading(seen) == (
                TEXT[-1], TEXT[column].replace(" ", "␣"), pytest.approx(rows[-1][column], abs=0.00501)
            )  # fmt: skip
            await seen.press("right")
        await seen.press("up", "0")
        mean = sum(expected[1][head][-2][-1] for head in range(4)) / 4
        assert reading(seen) == (TEXT[-2], TEXT[-2], pytest.approx(mean, abs=0.00501))
        await seen.press("comma")  # the last head
        await seen.see("head 4 of 4")
        shades = {}
        background = screen.map.background_colors[1].rgb
        for i, row_of_cells in enumerate(cells(screen)):
            for j, colour in enumerate(row_of_cells):
                if j > i:
                    assert colour == background
                elif (i, j) != screen.map.cursor:
                    shades[expected[1][3][i][j]] = colour[2]  # the theme's colour has more blue than its background
        ordered = [shades[weight] for weight in sorted(shades)]
        assert ordered == sorted(ordered) and len(set(ordered)) > 10


async def test_keys_go_through_layers_and_heads_and_ask_for_each_layer_once(workshop: Any) -> None:
    async with workshop.training((80, 24), Answering) as (seen, run):
        screen = await look(seen)
        for key, layer, head in (
            ("full_stop", 0, 1), ("full_stop", 0, None), ("full_stop", 0, 0), ("comma", 0, None), ("comma", 0, 1),
            ("right_square_bracket", 1, 1), ("right_square_bracket", 0, 1), ("left_square_bracket", 1, 1),
            ("0", 1, None), ("left_square_bracket", 0, None),
        ):  # fmt: skip
            await seen.press(key)
            where = "mean of 2 heads" if head is None else f"head {head + 1} of 2"
            await seen.see(f"layer {layer + 1} of 2 · {where}")
            event = attended(Attend(text=TEXT, layer=layer))
            heads = event.heads if head is None else event.heads[head : head + 1]
            for i, row in enumerate(screen.map.rows):
                assert row == pytest.approx([sum(h[i][j] for h in heads) / len(heads) for j in range(i + 1)])
        assert run.asked() == [("layer", 0), ("layer", 1)]
        await seen.press("r")
        await seen.until(lambda: run.asked()[2:] == [("layer", 0)])
        await seen.press("escape")
        assert seen.app.screen is seen.main


async def test_the_last_sample_is_looked_at_and_of_a_long_text_the_end_is_seen(workshop: Any) -> None:
    async with workshop.training((80, 24), Answering) as (seen, run):
        await seen.press("g", *"To", "enter")
        await seen.until(lambda: run.sent)
        text = " be\nor\t" * 10
        run.say(Sampled(step=1, id=run.sent[-1].id, prompt="To", text=text, done=True))
        await seen.until(lambda: seen.main.store.sample.done)
        await seen.press("escape")
        await palette(seen)["Attention"]()
        await seen.see(f"of {len(text) + 2} tokens")
        screen = seen.app.screen
        assert isinstance(run.sent[-1], Attend) and run.sent[-1].text == "To" + text
        shown = screen.map.shown
        assert f"last {shown} of {len(text) + 2}" in seen.screen and 30 < shown < 40
        assert text.replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣")[-shown:] in seen.screen, (
            "the text is along the axis"
        )
        await seen.press(*["up"] * shown)
        assert screen.map.cursor == (len(text) + 2 - shown,) * 2
        await seen.press(*["down"] * shown, *["right"] * shown)
        assert screen.map.cursor == (len(text) + 1,) * 2
        await seen.pilot.resize_terminal(60, 20)
        await seen.until(lambda: 15 < screen.map.shown < shown)
        await seen.until(lambda: screen.map.region.right <= screen.reading.region.x < 60 - 20)
        await seen.press("slash", "enter")
        await seen.until(lambda: run.asked() == [("layer", 0)] * 2)
        assert run.sent[-1].text == "To" + text, "as it was"


async def test_a_click_reads_off_a_cell(workshop: Any) -> None:
    async with workshop.training((80, 24), Answering) as (seen, _):
        screen = await look(seen, "abcd")
        size = (screen.map.size.width - GUTTER) // 4
        for row, column, cursor in ((2, 1, (2, 1)), (0, 3, (2, 1)), (3, 3, (3, 3))):
            await seen.pilot.click(screen.map, offset=(GUTTER + column * size, 1 + row * size // 2))
            assert screen.map.cursor == cursor
        assert reading(seen)[:2] == ("d", "d")


async def test_the_nearest_tokens_are_asked_for_once_and_follow_the_row(workshop: Any) -> None:
    async with workshop.training((80, 24), Answering) as (seen, run):
        await look(seen, "beebe", "Nearest tokens")
        await seen.until(lambda: "nearest to “e”" in seen.screen and re.search(r"a +0\.90 █+", seen.screen))
        bars = re.findall(r"([a-z]) +(-?\d\.\d\d) (█*)", seen.screen)
        answer = nearest(Neighbours(text="e"))
        assert [(name, float(cosine)) for name, cosine, _ in bars] == [*zip(answer.tokens, answer.cosine, strict=True)]
        lengths = [len(bar) for *_, bar in bars]
        assert lengths == sorted(lengths, reverse=True) and lengths[0] > lengths[4] > lengths[8] > lengths[-1] == 0
        await seen.press("up")
        await seen.see("nearest to “b”")
        await seen.press("up", "up")
        await seen.see("nearest to “e”")
        await seen.until(lambda: run.asked() == [("layer", 0), ("token", "e"), ("token", "b")])
        await seen.press("n")
        assert reading(seen)[0] == "e"


async def test_tokens_of_several_characters_wide_ones_and_accents_are_told_apart(workshop: Any) -> None:
    names = (" the", " then", "\u0301", "\u0308", "日", "e")
    async with workshop.training((80, 24)) as (seen, run):
        await palette(seen)["Nearest tokens"]()
        await seen.see("Attention over a text")
        await seen.press(*"日e", "enter")
        await seen.until(lambda: run.sent)
        run.say(attended(run.sent[-1]))
        await seen.until(lambda: isinstance(run.sent[-1], Neighbours))
        run.say(replace(nearest(run.sent[-1]), tokens=names, cosine=(0.9,) * len(names)))
        await seen.see("␣the ")
        shown = re.findall(r"(\S+) +0\.90 █", seen.screen)
        assert shown == ["␣the", "␣then", "◌\u0301", "◌\u0308", "日", "e"]
        assert re.search(r"^ *日 +▀", seen.screen, re.MULTILINE), "beside its row of the map"


async def test_without_a_model_a_sentence_says_so(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        await look(seen)
        await seen.until(lambda: NO_MODEL in " ".join(seen.screen.split()))


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda run: run.answer(False, "layer 0: there is none"), "layer 0: there is none"),
        (lambda run: run.die("killed by SIGKILL"), "killed by SIGKILL"),
        (lambda run: run.die(""), "is gone: for an unknown reason"),
    ],
    ids=["refused", "killed", "gone"],
)
async def test_a_question_without_an_answer_ends_in_a_sentence(
    workshop: Any, end: Callable[[Any], object], said: str
) -> None:
    async with workshop.training((120, 36)) as (seen, run):
        await palette(seen)["Attention"]()
        await seen.see("Attention over a text")
        await seen.press(*TEXT, "enter")
        await seen.until(lambda: run.sent)
        assert "is asked" in seen.screen
        end(run)
        await seen.see(said)
        await seen.press("escape")
        assert seen.app.screen is seen.main


async def test_an_answer_to_a_screen_that_was_left_is_let_go(workshop: Any) -> None:
    async with workshop.training((80, 24)) as (seen, run):
        await palette(seen)["Attention"]()
        await seen.see("Attention over a text")
        await seen.press(*TEXT, "enter")
        await seen.until(lambda: run.sent)
        await seen.press("escape")
        run.say(attended(run.sent[-1]), workshop.progress(1, 3))
        await seen.until(lambda: seen.main.store.step == 3)
        assert seen.app.screen is seen.main


EVIL = "\x1b[2J[/]\u202e漢字"


@pytest.mark.parametrize(
    "answer",
    [
        Attended(step=1, id="", tokens=(), layer=0, layers=0, heads=()),
        Attended(step=1, id="", tokens=(EVIL, "", "\x1b"), layer=9, layers=-1, heads=()),
        Attended(step=1, id="", tokens=("a",) * 999, layer=0, layers=1, heads=(((9.0, -1.0, float("nan")),),) * 999),
        Attended(step=1, id="", tokens=("漢", EVIL), layer=0, layers=1, heads=(((), (1.0,) * 9, (1.0,)), ())),
        Nearest(step=1, id="", token="", tokens=(EVIL, "", "a", "b"), cosine=(float("nan"), 1e300, -1e300)),
    ],
    ids=["nothing", "no heads", "no shares", "ragged", "another"],
)
async def test_no_answer_ends_the_console_or_steers_the_terminal(workshop: Any, answer: Event) -> None:
    class Odd(FakeRun):
        def send(self, command: Command) -> None:
            super().send(command)
            if isinstance(command, Attend) and isinstance(answer, Nearest):
                self.say(attended(command))
            elif isinstance(command, (Attend, Neighbours)):
                self.say(replace(answer, id=command.id))

    async with workshop.training((60, 20), Odd) as (seen, _):
        screen = await look(seen)
        for key in (
            "right_square_bracket", "full_stop", "0", "comma", "up", "left", "down", "right", "n", "up", "n", "r"
        ):  # fmt: skip
            await seen.press(key)
            await seen.until(lambda: screen.asked is None)
            assert "\x1b" not in seen.screen and "\u202e" not in seen.screen
        assert seen.app.screen is screen


async def test_a_and_n_go_on_from_the_token_that_is_looked_at(workshop: Any) -> None:
    async with workshop.training((80, 24), Answering) as (seen, run):
        await palette(seen)["Score a text"]()
        await seen.see("escape cancels")
        await seen.press(*"seabed", "enter")
        await seen.until(lambda: any(isinstance(command, Explain) for command in run.sent))
        await seen.press(*["right"] * 2)
        place = seen.main.looked.current.place
        assert 1 < place < 5
        texts = {"a": "seabed", "n": "seabed"[: place + 1]}  # a map needs more than the tokens before an early cursor
        for key, title in (("a", " Attention "), ("n", " Nearest tokens ")):
            await seen.press(key)
            rows = len(texts[key])
            await seen.until(lambda title=title, n=rows: title in seen.screen and len(seen.app.screen.map.rows) == n)
            assert "".join(seen.app.screen.map.tokens) == texts[key]
            await seen.press("escape")
        await seen.until(lambda: run.asked() == [("layer", 0), ("layer", 0), ("token", "seabed"[place])])
        await seen.see("seabed")
