"""`fundamentallm generate --interactive`: prompts, one after the other, with a history.

Ctrl+C stops the sample, not the program; Ctrl+D and the end of the input leave.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from fundamentallm.cli.generate import ROWS, Writer, show
from fundamentallm.cli.terminal import complain, plain
from fundamentallm.config.config import unknown
from fundamentallm.errors import UserError
from fundamentallm.paths import user_path

HELP = """Type a prompt and press enter; the model goes on from it.
/set NAME VALUE   change a setting: {names}
/status           the model and the settings
/clear            forget what was written
/save FILE        write everything so far into a file
/help             this
/quit             leave; ctrl+d does, too; ctrl+c stops a sample"""


class Talk:
    """A conversation with one model."""

    def __init__(self, writer: Writer, about: str) -> None:
        self._writer, self._about = writer, about
        self._said: list[str] = []
        self._commands: dict[str, Callable[[str], None]] = {
            "set": self._set,
            "status": self._status,
            "clear": self._clear,
            "save": self._save,
            "help": self._help,
        }

    def run(self) -> None:
        with suppress(ImportError):
            import readline  # noqa: F401  # history and editing for `input`, where the system has it
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
                complain("that was not UTF-8")
            except UserError as error:
                complain(str(error))

    def _obey(self, line: str) -> None:
        if not line.startswith("/"):
            return self._go_on(line)
        name, _, rest = line[1:].strip().partition(" ")
        if name not in self._commands:
            raise UserError(f"/{name}: {unknown('command', name, (*self._commands, 'quit'))}")
        self._commands[name](rest.strip())

    def _go_on(self, prompt: str) -> None:
        self._writer.tokenizer.encode(prompt, name="the prompt")
        written: list[str] = [prompt]

        def tell(text: str) -> None:
            written.append(text)
            show(text)

        show(prompt)
        try:
            texts = self._writer.write(prompt, tell)
            if len(texts) > 1:
                tell("".join(f"\n{number + 1}: {prompt}{text}" for number, text in enumerate(texts)))
        except KeyboardInterrupt:
            pass  # stops the sample
        show("\n")
        self._said.append("".join(written))

    def _set(self, rest: str) -> None:
        name, _, value = rest.replace("=", " ", 1).partition(" ")
        name = name.replace("-", "_")
        names = tuple(row for row in ROWS if row != "device")
        if not name:
            raise UserError(f"/set: name a setting and its value; there are {', '.join(names)}")
        if name not in names:
            raise UserError(f"/set {name}: {unknown('setting', name, names)}")
        try:
            self._writer = replace(self._writer, wanted={**self._writer.wanted, name: ROWS[name].parse(value.strip())})
        except UserError as error:
            raise UserError(f"/set {name}: {error}") from None

    def _status(self, _: str) -> None:
        print(plain(self._about))
        for name, value in self._writer.wanted.items():
            print(f"{name} {ROWS[name].auto if value is None else value}")

    def _clear(self, _: str) -> None:
        self._said = []

    def _save(self, rest: str) -> None:
        if not rest:
            raise UserError("/save: name a file")
        try:
            user_path(rest).write_text("\n\n".join(self._said) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"/save {rest}: cannot be written: {error.strerror}") from None

    def _help(self, _: str) -> None:
        print(HELP.format(names=", ".join(name for name in ROWS if name != "device")))
