"""Take the picture of the console that the README shows, from a real run: `make screenshot`."""

import asyncio
import os
import tempfile
from multiprocessing import resource_tracker
from pathlib import Path

from fundamentallm.config.files import load_preset
from fundamentallm_tui.app import Console
from fundamentallm_tui.state.launch import Options

PICTURE = Path(__file__).resolve().with_name("console.svg")
STEPS = 500  # by then the model writes words


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        # what the user has chosen in the console, and how fast their runs were, is not for the picture
        os.environ |= dict.fromkeys(("XDG_CONFIG_HOME", "XDG_CACHE_HOME"), folder)
        app = Console(Options(preset=load_preset("tiny")))
        async with app.run_test(size=(120, 36)) as pilot:
            await pilot.press("f5")
            while app.main.store.step < STEPS:
                await pilot.pause(0.2)
            await pilot.press("ctrl+g", *"Once upon a time", "enter")
            while not app.main.store.sample.done:
                await pilot.pause(0.2)
            await pilot.press("escape", "3")
            await pilot.pause(3)
            PICTURE.write_text(app.export_screenshot(title="fllm-tui"))
            await pilot.press("f8")
            await pilot.pause(3)


if __name__ == "__main__":
    resource_tracker.ensure_running()
    asyncio.run(main())
    os._exit(0)  # a normal exit would wait for the worker
