"""A screen with one run whose model can be looked into."""

from collections.abc import Callable

from fundamentallm.run.events import Event
from fundamentallm_tui.screens.running import RunScreen
from fundamentallm_tui.state.sampler import Question


class LiveScreen(RunScreen):
    """A run, and what its model does with a text: asked of the run while it has the model, else of a checkpoint."""

    def ask(self, question: Question, answer: Callable[[Event], None]) -> bool:
        """Ask the model that answers samples; returns whether anyone can say it. See `Sampler.question`."""
        return self.sampler.question(question, self.has_model, answer)
