"""Who is asked about the model, and for samples: the process of the run that is shown, or one for a checkpoint."""

from collections.abc import Callable
from pathlib import Path

from textual.message_pump import MessagePump

from fundamentallm.errors import UserError, describe_error
from fundamentallm.process.session import RunHandle
from fundamentallm.run.commands import Attend, CancelSample, Command, Explain, Neighbours, Sample
from fundamentallm.run.events import Answered, Attended, Event, Explained, Failed, Nearest, Sampled
from fundamentallm.run.folder import BEST, LAST
from fundamentallm_tui.state.launch import sampled_checkpoint
from fundamentallm_tui.state.reader import RunReader
from fundamentallm_tui.state.store import SampleText, Store

SamplerStarter = Callable[[Path], RunHandle]
Question = Explain | Attend | Neighbours | Sample | CancelSample
Take = Callable[[Event], None]


class Sampler:
    """Sends questions to the run while it has the model, else to a process for its checkpoint."""

    def __init__(
        self,
        store: Store,
        start: SamplerStarter,
        send: Callable[[Command], None],
        owner: MessagePump,
        has_model: Callable[[], bool],
    ) -> None:
        """`start` starts the process, whose messages `owner` gets; `send` sends to the run."""
        self._store, self._start, self._send, self._owner, self._has_model = store, start, send, owner, has_model
        # by the command's id: whether the checkpoint's process was asked, not the run, and who takes the answer
        self._questions: dict[str, tuple[bool, Take]] = {}
        self.chosen: Path | None = None  # the checkpoint that the user wants to answer; None: the newest state there is
        self._loaded: tuple[Path, int] | None = None  # the checkpoint, and when it was written: best.pt changes
        self.reader: RunReader | None = None  # of the checkpoint's process

    @property
    def file(self) -> Path | None:
        """The checkpoint that answers: the chosen one, or where the run does not; None where there is none."""
        if self.chosen is not None and self.chosen.is_file():
            return self.chosen
        return None if self._has_model() else sampled_checkpoint(self._store)

    @property
    def model(self) -> str:
        """Who answers: "the model" of the run, or the name of a checkpoint; empty: nobody."""
        return file.name if (file := self.file) is not None else "the model" if self._has_model() else ""

    @property
    def choices(self) -> dict[str, Path | None]:
        """What the user can choose to answer: the model as it is, and the run's checkpoints that are there."""
        folder, saved = self._store.folder, self._store.history.saved
        if folder is None:
            return {}
        order = sorted(saved.values(), key=lambda saved: (saved.path != LAST, saved.path != BEST, saved.step))
        there = [saved for saved in order if saved.path == Path(saved.path).name and (folder / saved.path).is_file()]
        files: dict[str, Path | None] = {f"{saved.path}, step {saved.step:,}": folder / saved.path for saved in there}
        return {"the model as it is": None, **files} if self._has_model() else files

    def sample(self, command: Sample) -> bool:
        """Ask for the store's samples, in place of those that are being written; returns whether anyone can."""
        file, before = self.file, self._store.sample
        if not self.model:
            return False
        if not before.done:
            self._send_to(before.file, CancelSample(sample=before.id))
        step, name = (0, file.name) if file is not None else (self._store.step, "")
        texts = [""] * command.num_samples
        self._store.sample = SampleText(command.id, command.prompt, texts, step=step, done=False, file=name)
        return self.ask(command, self._store.sample.take)

    def ask(self, command: Question, take: Take) -> bool:
        """Ask what the model does with a text, or how it continues one; returns whether anyone can say it.

        `take` gets the event that answers, of a sample each piece; then an `Answered`, which may say why not.
        """
        file = self.file
        if not self.model:
            return False
        self._store.sent_ids.add(command.id)
        try:
            if file is not None:
                self._load(file)
            self._questions[command.id] = file is not None, take
            self._send_to(file.name if file else "", command)
        except (UserError, OSError) as error:
            self._questions[command.id] = file is not None, take
            self.refuse(f"{file}: {describe_error(error)}", id=command.id)
        return True

    def take(self, reader: RunReader, reported: list[Event]) -> bool:
        """Hand answers to those who asked; returns whether the store's sample may have changed."""
        ids = set[str]()
        for event in reported:
            match event:
                case Failed() if reader is self.reader:
                    self.refuse(event.error, of_checkpoint=True)
                case Answered() if event.id in self._questions:
                    ids.add(event.id)
                    self._questions.pop(event.id)[1](event)
                case Explained() | Attended() | Nearest() | Sampled() if event.id in self._questions:
                    ids.add(event.id)
                    self._questions[event.id][1](event)
        return reader is self.reader or self._store.sample.id in ids

    def refuse(self, why: str, *, of_checkpoint: bool | None = None, id: str = "") -> None:
        """Tell who waits that no answer comes: of the checkpoint's process, the run or both (None); or to one `id`."""
        for asked, (own, take) in list(self._questions.items()):
            if of_checkpoint in (None, own) and id in ("", asked):
                del self._questions[asked]
                take(Answered(step=0, id=asked, command="", ok=False, why=why))

    def close(self) -> None:
        """End the checkpoint's process; the sample that is being written, by that or by the run, will not be read."""
        self._store.sample.done, self.chosen = True, None
        self.refuse("the run was left")
        self._close_reader()

    def _load(self, file: Path) -> None:
        wanted = file, file.stat().st_mtime_ns
        if self.reader is None or not self.reader.alive or wanted != self._loaded:
            if self.reader is not None:
                self.refuse("another checkpoint was chosen or written meanwhile", of_checkpoint=True)
            self._close_reader()
            self._loaded, self.reader = wanted, RunReader(self._start(file), self._owner)

    def _close_reader(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    def _send_to(self, file: str, command: Command) -> None:
        if not file:
            self._send(command)
        elif self.reader is not None:
            self.reader.handle.send(command)
