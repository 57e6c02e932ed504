"""A screen with one run whose model can be looked into."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fundamentallm.config.config import changed_while_running
from fundamentallm.errors import UserError
from fundamentallm.run.events import Event
from fundamentallm_tui.panes.sample import SamplePane
from fundamentallm_tui.screens.rewind import RewindScreen
from fundamentallm_tui.state.launch import read_only_settings
from fundamentallm_tui.state.looked import LookedTexts
from fundamentallm_tui.state.sampler import Question


class LiveScreen(RewindScreen):
    """A run, and what its model does with a text: asked of the run while it has the model, else of a checkpoint."""

    sample: SamplePane

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.looked = LookedTexts(self.ask, lambda: self.model_name)
        self._looked_at: tuple[Path | None, str] = None, ""  # the run, and which sample of it was looked at

    def ask(self, question: Question, answer: Callable[[Event], None]) -> bool:
        """Ask the model that answers samples; returns whether anyone can say it. See `Sampler.question`."""
        return self.sampler.question(question, self.has_model, answer)

    @property
    def model_name(self) -> str:
        """Who answers: "the model" of the run, or the name of a checkpoint; empty: nobody."""
        file = self.sampler.file(self.has_model)
        return file.name if file is not None else "the model" if self.has_model else ""

    def action_look(self, score: bool = False) -> None:
        """Look at the last sample, or at what was looked at last where there is no new one; `score`: ask for a text."""
        from fundamentallm_tui.screens.look import Look  # here, because the first picture does not need it

        sample, (folder, id) = self.store.sample, self._looked_at
        shown = f"{sample.id} {sample.chosen}"
        if folder != self.store.folder:
            self.looked.clear()
        if sample.text and (folder, id) != (self.store.folder, shown) and self.model_name and not score:
            self.looked.look_at(sample.prompt + sample.text)
            id = shown if sample.done else ""
        self._looked_at = self.store.folder, id
        why = self.sample.why_no_model()
        self.app.push_screen(Look(self.looked, self.sample.read_options, why, score=score))

    def action_pins(self) -> None:
        """Show the pinned prompts of the run, or of the form, and the answers."""
        from fundamentallm_tui.screens.pins import Pins

        self.app.push_screen(Pins(self.store, self.form, self._pin))

    def _pin(self, prompts: tuple[str, ...]) -> str:
        """Pin these prompts, in the run under way or for the next start; returns why that is not possible."""
        if "pin" in read_only_settings(self.store):
            return "the run takes no changes now"
        if (config := self.store.expected) is not None and self.store.under_way:
            try:
                changed_while_running(config, "pin", prompts)
            except UserError as error:
                return str(error)
            self.change_settings({"pin": prompts})
        else:
            self.form.take_values({"pin": prompts})
        return ""

    def action_score(self) -> None:
        self.action_look(score=True)

    def action_attention(self, *, nearest: bool = False) -> None:
        """Show what the tokens of the last sample attend to, or which tokens are nearest to its last one."""
        from fundamentallm_tui.screens.attention import AttentionScreen  # here: the first picture does not need it

        sample = self.store.sample
        self.app.push_screen(AttentionScreen(self.ask, sample.prompt + sample.text, nearest=nearest))

    def action_nearest(self) -> None:
        self.action_attention(nearest=True)

    def action_find_rate(self) -> None:
        """Find a learning rate for the settings in the form."""
        self.form.recheck(self._find_rate)

    def _find_rate(self) -> None:
        from fundamentallm_tui.screens.find_rate import FindRate  # here, because the first picture does not need it

        config = self.form.config
        if config is None or self.form.problems:
            self._show_problem()
        elif self.check_action("find_rate", ()):
            self.app.push_screen(FindRate(config), self._take_rate)

    def _take_rate(self, rate: float | None) -> None:
        if rate is not None:
            self.form.take_values({"learning_rate": rate})
