"""`fundamentallm generate --interactive`: one prompt after the other, with a history.

Ctrl+C stops the sample, not the program; Ctrl+D or the end of the input leaves.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from fundamentallm.cli.options import output_path, write_output
from fundamentallm.cli.terminal import complain, write_text
from fundamentallm.config.config import unknown
from fundamentallm.config.sampling import SAMPLING, SamplingOptions
from fundamentallm.data.text import normalize_prompt
from fundamentallm.errors import UserError
from fundamentallm.train.loaded import Model
from fundamentallm.untrusted import printable

HELP = """Type a prompt and press enter; the model continues it.
/set NAME VALUE   change a setting: {names}
/status           show the model and the settings
/clear            forget what was written
/save FILE        write everything so far into a new file
/help             show this
/quit             leave; ctrl+d does, too; ctrl+c stops a sample"""


class Talk:
    """A conversation with one model, which `about` and `device_name` describe."""

    def __init__(
        self, model: Model, options: SamplingOptions, stops: Sequence[str], about: str, device_name: str
    ) -> None:
        self._model, self._options, self._stops = model, options, stops
        self._about, self._device_name = about, device_name
        self._written: list[str] = []
        self._commands: dict[str, Callable[[str], None]] = {
            "set": self._set,
            "status": self._status,
            "clear": lambda _: self._written.clear(),
            "save": self._save,
            "help": lambda _: print(HELP.format(names=", ".join(SAMPLING))),
        }

    def run(self) -> None:
        """Read and obey lines until the user leaves."""
        with suppress(ImportError):
            import readline  # noqa: F401  # gives `input` history and editing, where the system has it
        prompt = "> " if sys.stdin.isatty() else ""
        if prompt:
            print("a prompt, or /help")
        while True:
            try:
                line = input(prompt)
                if line.strip() == "/quit":
                    return
                self._obey(line)
            except EOFError:
                return print() if prompt else None
            except KeyboardInterrupt:
                print()
            except UnicodeDecodeError:
                complain("the prompt is not UTF-8")
            except UserError as error:
                complain(str(error))

    def _obey(self, line: str) -> None:
        if not line.startswith("/"):
            return self._continue(line)
        name, _, rest = line[1:].strip().partition(" ")
        if name not in self._commands:
            raise UserError(f"/{name}: {unknown('command', name, (*self._commands, 'quit'))}")
        self._commands[name](rest.strip())

    def _continue(self, prompt: str) -> None:
        prompt = normalize_prompt(prompt)
        self._model.tokenizer.encode(prompt, name="the prompt")
        written = [prompt]

        def show(text: str) -> None:
            written.append(text)
            write_text(text)

        count = self._options.num_samples
        write_text(prompt)
        with suppress(KeyboardInterrupt):  # stops the samples
            for sample in range(count):
                if count > 1:
                    show(f"\n{sample + 1}: {prompt}")
                self._model.generate(prompt, self._options, stop=self._stops, show=show, sample=sample)
        write_text("\n")
        self._written.append("".join(written))

    def _set(self, rest: str) -> None:
        name, _, value = rest.replace("=", " ", 1).partition(" ")
        name = name.replace("-", "_")
        if not name:
            raise UserError(f"/set: name a setting and its value; there are {', '.join(SAMPLING)}")
        try:
            if name not in SAMPLING:
                raise UserError(unknown("setting", name, tuple(SAMPLING)))
            self._options = replace(self._options, **{name: SAMPLING[name].parse(value.strip())})
        except UserError as error:
            raise UserError(f"/set {name}: {error}") from None

    def _status(self, _: str) -> None:
        print(printable(self._about))
        for name, value in vars(self._options).items():
            print(f"{name} {SAMPLING[name].auto if value is None else value}")
        print(f"device {self._device_name}")

    def _save(self, rest: str) -> None:
        path = output_path("/save", rest or None, begins="")
        if path is None:
            raise UserError("/save: name a file")
        write_output("/save", path, "\n\n".join(self._written) + "\n")
