"""Measure a run of a million steps: the memory of engine and console, and the time to read and show its journal.

    python tests/benchmarks/long_run.py grow FOLDER [--steps 1000000]
    python tests/benchmarks/long_run.py look FOLDER

`grow` trains a toy model in the console (about an hour) and prints the resident memory after each tenth. `look` then
measures how long it takes to read the journal, to draw its loss chart, and to show it with `fllm-tui attach`.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

from terminal import CONSOLE, Terminal, memory_of, worker_of

from fundamentallm.run.events import Progress, decode, last_step
from fundamentallm.run.history import read_history
from fundamentallm.run.summary import summarize
from fundamentallm_tui.app import Console
from fundamentallm_tui.panes.chart import ChartPane
from fundamentallm_tui.state.launch import Options

TOY = (
    "model_dim: 4\nnum_layers: 1\nnum_heads: 1\nff_dim: 4\nmax_seq_len: 4\nstride: 4\nbatch_size: 1\ndropout: 0\n"
    "optimizer: adamw\nlr_schedule: constant\ndevice: cpu\nkeep_checkpoints: 1\n"
)
MIB = 1 << 20


def newest(journal: Path) -> int:
    """Return the last step in a journal."""
    with journal.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - (1 << 16)))
        events = [decode(line) for line in file.read().splitlines()]
    progress = [event for event in events if isinstance(event, Progress)]
    return last_step(progress[-1]) if progress else 0


def grow(folder: Path, steps: int) -> None:
    text, config = folder.with_suffix(".txt"), folder.with_suffix(".yaml")
    text.write_text("the sea and her old crew went out at dawn. " * 5000)  # 48,373 steps an epoch
    config.write_text(f"data: {text}\n{TOY}epochs: {-(-steps // 48_373)}\n")
    terminal = Terminal([CONSOLE, "--config", str(config), "--output-dir", str(folder), "--start"])
    journal = folder / "journal.jsonl"
    terminal.see_first_step()
    worker = worker_of(folder)
    print("steps      engine MiB  console MiB  steps/s", flush=True)
    before, since = 0, time.monotonic()
    while before < steps:
        while (now := newest(journal)) < min(steps, before + steps // 10):
            time.sleep(1)
        rate = (now - before) / (time.monotonic() - since)
        engine, console = memory_of(worker) / MIB, memory_of(terminal.pid) / MIB
        print(f"{now:<10,} {engine:10.1f}  {console:11.1f}  {rate:7.0f}", flush=True)
        before, since = now, time.monotonic()
    terminal.see("FINISHED", patience=600)
    terminal.press("\x11")
    print(f"journal: {journal.stat().st_size / 1e6:.0f} MB; the console ended with {terminal.status()}")


def look(folder: Path) -> None:
    times: dict[str, list[float]] = {"read whole": [], "summarized": []}
    for _ in range(5):
        for name, read in (("read whole", read_history), ("summarized", summarize)):
            began = time.perf_counter()
            read(folder)
            times[name].append(time.perf_counter() - began)
    steps = len(read_history(folder).steps)
    for name, seconds in times.items():
        print(f"journal of {steps:,} steps {name}: {median(seconds):.3f} s (median of 5)")
    for size in ((120, 36), (80, 24), (200, 60)):
        print(f"a chart at {size[0]}x{size[1]}: {1000 * asyncio.run(redraw(folder, *size)):.1f} ms (median of 20)")
    for name, run in ((f"{steps:,}", folder), ("100,000", shortened(folder, 100_000))):
        attach(run)
        shown = sorted(attach(run) for _ in range(5))
        print(f"attach to {name} steps: all on the screen {shown[2]:.2f} s after the start, at most {shown[-1]:.2f} s")


async def redraw(folder: Path, columns: int, rows: int) -> float:
    """Return the seconds that redrawing the loss chart takes, reduction included."""
    app = Console(Options(attach=folder))
    async with app.run_test(size=(columns, rows)) as pilot:
        while app.main.store.under_way or not app.main.store.train:
            await pilot.pause(0.1)
        app.main.action_pane("loss")
        await pilot.pause(0.5)
        return median(draw(app.main.loss) for _ in range(20))


def draw(pane: ChartPane) -> float:
    last = pane.store.train.last
    assert last is not None
    pane.store.train.append(last[0] + 1, last[1])  # a chart that has not changed is not drawn
    began = time.perf_counter()
    pane._draw()
    for y in range(pane.canvas.size.height):
        pane.canvas.render_line(y)
    return time.perf_counter() - began


def shortened(folder: Path, steps: int) -> Path:
    """Copy the beginning of a run to a folder of its own."""
    short = Path(tempfile.mkdtemp()) / "short"
    short.mkdir()
    with (folder / "journal.jsonl").open("rb") as lines, (short / "journal.jsonl").open("wb") as out:
        for line in lines:
            out.write(line)
            event = decode(line)
            if isinstance(event, Progress) and last_step(event) >= steps:
                break
    return short


def attach(folder: Path) -> float:
    """Return the seconds from the start of `fllm-tui attach` until its status line shows the run's last step."""
    step = f"{newest(folder / 'journal.jsonl'):,}".replace(",", "")
    terminal = Terminal([CONSOLE, "attach", str(folder)])
    seconds = terminal.see(lambda screen: step in screen.split("\n")[0].replace(",", ""))
    terminal.press("\x11")
    terminal.status()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("act", choices=("grow", "look"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1_000_000)
    options = parser.parse_args()
    if options.act == "grow":
        grow(options.folder, options.steps)
    else:
        look(options.folder)


if __name__ == "__main__":
    main()
