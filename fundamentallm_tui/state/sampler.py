"""Who writes the samples: the process of the run that is shown, or one that is started for a checkpoint of it."""

from collections.abc import Callable
from pathlib import Path

from textual.message import Message

from fundamentallm.errors import describe_error
from fundamentallm.process.session import RunHandle
from fundamentallm.run.commands import CancelSample, Command, Sample
from fundamentallm_tui.state.launch import sampled_checkpoint
from fundamentallm_tui.state.reader import RunReader
from fundamentallm_tui.state.store import Store

SamplerStarter = Callable[[Path], RunHandle]


class Sampler:
    """Sends samples to the run while it has the model, else to a process for its checkpoint.

    Args:
        start: starts the process for a checkpoint; tests pass their own.
        send: sends a command to the run.
        post: gets the messages of the checkpoint's process, in a thread.
    """

    def __init__(
        self, store: Store, start: SamplerStarter, send: Callable[[Command], None], post: Callable[[Message], object]
    ) -> None:
        self._store, self._start, self._send, self._post = store, start, send, post
        self._loaded: tuple[Path, int] | None = None  # the checkpoint, and when it was written: best.pt changes
        self.reader: RunReader | None = None  # of the checkpoint's process

    def file(self, has_model: bool) -> Path | None:
        """Return the checkpoint that answers where the run does not; None where there is none."""
        return None if has_model else sampled_checkpoint(self._store)

    def ask(self, command: Sample, has_model: bool) -> bool:
        """Ask for a sample, in place of one that is being written; returns whether anyone can write it."""
        file, before = self.file(has_model), self._store.sample
        if file is None and not has_model:
            return False
        if not before.done:
            self._send_to(before.file, CancelSample(sample=before.id))
        self._store.request_sample(command.id, command.prompt, file.name if file else "")
        self._store.sent_ids.add(command.id)
        try:
            if file is not None:
                self._load(file)
            self._send_to(self._store.sample.file, command)
        except OSError as error:
            self._store.sample_failed(f"{file}: {describe_error(error)}")
        return True

    def close(self) -> None:
        """End the checkpoint's process; the sample that is being written, by that or by the run, will not be read."""
        self._store.sample.done = True
        self._close_reader()

    def _load(self, file: Path) -> None:
        wanted = file, file.stat().st_mtime_ns
        if self.reader is None or not self.reader.alive or wanted != self._loaded:
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
