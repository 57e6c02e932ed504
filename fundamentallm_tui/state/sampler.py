"""Who writes the samples: the process of the run that is shown, or one that is started for a checkpoint of it."""

from collections.abc import Callable
from pathlib import Path

from textual.message import Message

from fundamentallm.errors import describe_error
from fundamentallm.process.session import RunHandle
from fundamentallm.run.commands import Attend, CancelSample, Command, Explain, Neighbours, Sample
from fundamentallm.run.events import Answered, Attended, Event, Explained, Failed, Nearest, Sampled
from fundamentallm.run.folder import BEST, LAST
from fundamentallm_tui.state.launch import sampled_checkpoint
from fundamentallm_tui.state.reader import RunReader
from fundamentallm_tui.state.store import Store
from fundamentallm_tui.state.written import SampleText

SamplerStarter = Callable[[Path], RunHandle]
Question = Explain | Attend | Neighbours | Sample | CancelSample


class Sampler:
    """Sends samples to the run while it has the model, else to a process for its checkpoint."""

    def __init__(
        self, store: Store, start: SamplerStarter, send: Callable[[Command], None], post: Callable[[Message], object]
    ) -> None:
        """`start` starts the process; `send` sends to the run; `post` gets the process's messages, in a thread."""
        self._store, self._start, self._send, self._post = store, start, send, post
        # by the command's id: whether the checkpoint's process was asked, not the run, and who gets the answer
        self._questions: dict[str, tuple[bool, Callable[[Event], None]]] = {}
        self.chosen: Path | None = None  # the checkpoint that the user wants to answer; None: the newest state there is
        self._loaded: tuple[Path, int] | None = None  # the checkpoint, and when it was written: best.pt changes
        self.reader: RunReader | None = None  # of the checkpoint's process

    def file(self, has_model: bool) -> Path | None:
        """Return the checkpoint that answers: the chosen one, or where the run does not; None where there is none."""
        if self.chosen is not None and self.chosen.is_file():
            return self.chosen
        return None if has_model else sampled_checkpoint(self._store)

    def choices(self, has_model: bool) -> dict[str, Path | None]:
        """Return what the user can choose to answer: the model as it is, and the run's checkpoints that are there."""
        folder, saved = self._store.folder, self._store.history.saved
        if folder is None:
            return {}
        order = sorted(saved.values(), key=lambda saved: (saved.path != LAST, saved.path != BEST, saved.step))
        there = [saved for saved in order if saved.path == Path(saved.path).name and (folder / saved.path).is_file()]
        files: dict[str, Path | None] = {f"{saved.path}, step {saved.step:,}": folder / saved.path for saved in there}
        return {"the model as it is": None, **files} if has_model else files

    def ask(self, command: Sample, has_model: bool) -> bool:
        """Ask for samples, in place of one that is being written; returns whether anyone can write it."""
        file, before = self.file(has_model), self._store.sample
        if file is None and not has_model:
            return False
        if not before.done:
            self._send_to(before.file, CancelSample(sample=before.id))
        step, name = (0, file.name) if file is not None else (self._store.step, "")
        texts = [""] * command.num_samples
        self._store.sample = SampleText(command.id, command.prompt, texts, step=step, done=False, file=name)
        self._store.sent_ids.add(command.id)
        try:
            if file is not None:
                self._load(file)
            self._send_to(self._store.sample.file, command)
        except OSError as error:
            self._store.sample.fail(f"{file}: {describe_error(error)}")
        return True

    def question(self, command: Question, has_model: bool, answer: Callable[[Event], None]) -> bool:
        """Ask what the model does with a text, or for a sample beside the store's; returns whether anyone can say it.

        `answer` gets the event that answers, of a sample each piece; or an `Answered` that says why there is none.
        """
        file = self.file(has_model)
        if file is None and not has_model:
            return False
        self._store.sent_ids.add(command.id)
        try:
            if file is not None:
                self._load(file)
            self._questions[command.id] = file is not None, answer
            self._send_to(file.name if file else "", command)
        except OSError as error:
            self._questions[command.id] = file is not None, answer
            self.refuse(f"{file}: {describe_error(error)}", file is not None)
        return True

    def take(self, reader: RunReader, reported: list[Event]) -> bool:
        """Hand answers to those who asked; returns whether the store's sample has changed."""
        sample, changed = self._store.sample, False
        for event in reported:
            if isinstance(event, (Sampled, Answered)) and event.id and event.id == sample.id:
                sample.take(event)
                changed = True
            match event:
                case Failed():
                    self.refuse(event.error, reader is self.reader)
                    if reader is self.reader:
                        sample.fail(event.error)
                        changed = True
                case Answered(ok=True):
                    self._questions.pop(event.id, None)  # what there was to say was said before
                case Sampled(done=False):
                    if (asked := self._questions.get(event.id)) is not None:
                        asked[1](event)
                case Explained() | Attended() | Nearest() | Sampled() | Answered():
                    if (asked := self._questions.pop(event.id, None)) is not None:
                        asked[1](event)
        return changed

    def refuse(self, why: str, of_checkpoint: bool | None = None) -> None:
        """Tell who waits for an answer of the checkpoint's process, of the run, or of either, that none will come."""
        for id, (own, answer) in list(self._questions.items()):
            if of_checkpoint in (None, own):
                del self._questions[id]
                answer(Answered(step=0, id=id, command="", ok=False, why=why))

    def close(self) -> None:
        """End the checkpoint's process; the sample that is being written, by that or by the run, will not be read."""
        self._store.sample.done, self.chosen = True, None
        self.refuse("the run was left")
        self._close_reader()

    def _load(self, file: Path) -> None:
        wanted = file, file.stat().st_mtime_ns
        if self.reader is None or not self.reader.alive or wanted != self._loaded:
            if self.reader is not None:
                self.refuse("another checkpoint was chosen or written meanwhile", True)
            self._close_reader()
            self._loaded, self.reader = wanted, RunReader(self._start(file), self._post)

    def _close_reader(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    def _send_to(self, file: str, command: Command) -> None:
        if not file:
            self._send(command)
        elif self.reader is not None:
            self.reader.handle.send(command)
