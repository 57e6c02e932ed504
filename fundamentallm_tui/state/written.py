"""The samples that the user asked for last, as far as they have come."""

from dataclasses import dataclass, field

from fundamentallm.run.events import Answered, Event, Sampled


@dataclass
class SampleText:
    """The samples of one command, which are written together."""

    id: str = ""
    prompt: str = ""
    texts: list[str] = field(default_factory=lambda: [""])  # what the model has added to the prompt, of each sample
    chosen: int = 0  # the number of the sample that is looked at
    finished: set[int] = field(default_factory=set)  # the numbers of the samples that are whole
    step: int = 0
    done: bool = True
    problem: str = ""
    file: str = ""  # the checkpoint that they are written with; empty: the process of the run writes them

    @property
    def text(self) -> str:
        """The sample that is looked at."""
        return self.texts[self.chosen]

    def fail(self, problem: str) -> None:
        """The samples come to no end, if they have not yet."""
        if not self.done:
            self.problem, self.done = problem, True

    def take(self, event: Event) -> None:
        """Take in a piece that belongs to these samples, or the answer to the command, after which none comes."""
        match event:
            case Answered():
                self.fail(event.why)
            case Sampled() if 0 <= event.number < len(self.texts):
                self.texts[event.number] += event.text
                self.step = event.step
                if event.done:
                    self.finished.add(event.number)
                self.done = len(self.finished) == len(self.texts)
