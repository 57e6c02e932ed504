"""The theme is remembered, and a damaged file of it does no harm."""

from typing import Any

import pytest

from fundamentallm_tui.state.preferences import preferences_file


async def test_the_theme_is_kept_and_repaints_every_pane(workshop: Any) -> None:
    async with workshop.console() as seen:
        assert seen.app.theme == "calm"
        run = await seen.started()
        run.say(workshop.progress(1, 80))
        await seen.until(lambda: seen.main.store.step == 80)
        await seen.pilot.press("f6")
        await seen.pilot.pause(0.2)
        old = seen.app.theme_variables["background"].lower()
        seen.app.theme = "nord"
        await seen.pilot.pause(0.2)
        colours = {
            segment.style.bgcolor.get_truecolor().hex
            for strip in seen.app.screen._compositor.render_strips()
            for segment in strip
            if segment.style is not None and segment.style.bgcolor is not None
        }
        assert old not in colours, "no cell keeps a colour of the theme before"
    assert preferences_file().read_text() == "theme: nord\n"
    async with workshop.console() as seen:
        assert seen.app.theme == "nord"


@pytest.mark.parametrize("content", [b"theme: [", b"\xff\xfe", b"- a", b"theme: [a]", b"theme: nowhere"])
async def test_a_damaged_file_is_said_once_and_the_usual_theme_used(workshop: Any, content: bytes) -> None:
    path = preferences_file()
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    async with workshop.console() as seen:
        await seen.pilot.pause()
        assert seen.app.theme == "calm"
        assert seen.main.log_view.text.count("console.yaml is not used") == 1
