"""Prompts, one after the other."""

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli import main
from fundamentallm.config.sampling import SAMPLING
from fundamentallm.train.checkpoint import load

Talk = Callable[..., tuple[str, str]]
NAMES = ", ".join(SAMPLING)
FLAGS = ("--seed=1", "--max-tokens=20")


@pytest.fixture
def talk(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Talk:
    """What a conversation prints, on standard output and standard error."""

    def run(*lines: str, flags: tuple[str, ...] = FLAGS) -> tuple[str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        capsys.readouterr()
        assert main(["generate", str(trained), "--interactive", "--device=cpu", *flags]) == 0
        return capsys.readouterr()

    return run


def test_every_prompt_is_continued_and_the_end_of_the_input_leaves(talk: Talk) -> None:
    out, err = talk("the sea", "was old", flags=(*FLAGS, "--stop=\n"))
    assert err == "" and out.startswith("the sea") and "\nwas old" in out
    assert talk("the sea", "was old", flags=(*FLAGS, "--stop=\n"))[0] == out
    assert talk() == ("", "")


def test_quit_leaves_at_once(talk: Talk) -> None:
    assert talk("/quit", "the sea") == ("", "")
    assert talk(" /quit ", "the sea") == ("", "")


def test_set_changes_what_comes_next_and_refuses_what_the_flags_would(talk: Talk) -> None:
    out, err = talk("the", "/set max-tokens 3", "the", "/set max_tokens=5", "the")
    assert err == ""
    assert len(out) == 3 * 4 + 20 + 3 + 5
    plain = talk("the")[0]
    assert talk("/set temperature 0", "/set seed 9", "the")[0] == talk("/set temperature 0", "the")[0] != plain
    out, err = talk(
        "/set", "/set temprature 1", "/set temperature hot", "/set top-p 0", "/set max_tokens", "/set device cpu",
        "/set seed auto", "/status",
    )  # fmt: skip
    assert err.splitlines() == [
        f"/set: name a setting and its value; there are {NAMES}",
        "/set temprature: no such setting; did you mean temperature?",
        "/set temperature: hot is not a number, at least 0, at most 100",
        "/set top_p: 0 is out of bounds; it must be above 0, at most 1",
        "/set max_tokens: needs a whole number, at least 1, at most 1,000,000",
        f"/set device: no such setting; there are {NAMES}",
    ]
    assert "seed another each time\n" in out and "temperature 0.8\n" in out


def test_status_shows_the_model_and_every_setting(talk: Talk, trained: Path) -> None:
    out, _ = talk("/set top_k 7", "/status")
    step = load(trained / "best.pt").progress().step
    assert out.splitlines() == [
        f"{trained}, step {step}", "max_tokens 20", "temperature 0.8", "top_k 7", "top_p 1.0", "min_p 0.0",
        "repetition_penalty 1.0", "seed 1", "num_samples 1", "device cpu",
    ]  # fmt: skip


def test_save_writes_everything_so_far_and_clear_forgets_it(talk: Talk, trained: Path) -> None:
    out, err = talk("the sea", "/save one.txt", "was old", "/save two.txt", "/clear", "dawn", "/save three.txt")
    assert err == ""
    one, two, three = (Path(f"{name}.txt").read_text() for name in ("one", "two", "three"))
    assert one.startswith("the sea") and len(one) == 7 + 20 + 1
    assert two == one + "\n" + two[len(one) + 1 :] and two[len(one) + 1 :].startswith("was old")
    assert three.startswith("dawn") and len(three) == 4 + 20 + 1
    assert out == one + two[len(one) + 1 :] + three
    _, err = talk("the", "/save", f"/save {trained / 'best.pt'}", "/save none/where.txt", "/save .", "/save one.txt")
    assert err.splitlines() == [
        "/save: name a file",
        f"/save {trained / 'best.pt'}: is a file of a run; name another file",
        "/save none/where.txt: its folder does not exist",
        "/save .: is a folder",
        "/save one.txt: is there already and is not empty; name another file",
    ]


def test_help_names_every_command_and_setting_and_a_wrong_one_its_nearest(
    talk: Talk,
) -> None:
    out, err = talk("/help", "/hlep", "/zzz", "/")
    for word in ("/set", "/status", "/clear", "/save", "/help", "/quit", "max_tokens", "repetition_penalty"):
        assert word in out
    assert err.splitlines() == [
        "/hlep: no such command; did you mean help?",
        "/zzz: no such command; there are set, status, clear, save, help, quit",
        "/: no such command; there are set, status, clear, save, help, quit",
    ]


def test_brackets_and_markup_are_shown_as_they_are(talk: Talk) -> None:
    for prompt in ("[bold]the[/]", "\\[red]", "{so}", "[/]"):
        out, err = talk(prompt, flags=("--max-tokens=1", "--seed=1"))
        assert out.startswith(prompt) and len(out) == len(prompt) + 2 and err == ""


def test_an_unknown_character_is_named_and_the_talk_continues(talk: Talk) -> None:
    out, err = talk("théâtre", "the sea")
    assert err.startswith("the prompt has characters that the model has never seen: ") and err.count("\n") == 1
    assert out.startswith("the sea")


def test_several_samples_are_numbered(talk: Talk) -> None:
    out, _ = talk("the", flags=("--seed=1", "--max-tokens=9", "--num-samples=2", "--temperature=1.5"))
    assert "\n1: the" in out and "\n2: the" in out and len(out) == 3 + 2 * (4 + 3 + 9) + 1


def test_ctrl_c_stops_the_sample_and_not_the_program_and_ctrl_d_leaves(
    trained: Path, tmp_path: Path, screen: Callable[..., Any]
) -> None:
    command = (sys.executable, "-m", "fundamentallm", "generate", str(trained), "--interactive")
    terminal = screen(*command, "--max-tokens=1000000", "--seed=1")

    def wait_for(word: bytes, since: int = 0) -> int:
        """The place behind `word`, at `since` or later."""
        terminal.see(lambda _: terminal.bytes.find(word, since) >= 0)
        return int(terminal.bytes.find(word, since)) + len(word)

    at = wait_for(b"> ")
    terminal.press("the sea\r")
    at = wait_for(b"the sea", wait_for(b"the sea", at))  # the echo, then the answer
    terminal.see(lambda _: len(terminal.bytes) >= at + 200)  # it writes
    terminal.press("\x03")
    at = wait_for(b"\n> ", at)
    time.sleep(1)  # a signal between the prompt and readline's wait is noticed with the next key only
    terminal.press("\x03")  # at the prompt, too
    at = wait_for(b"> ", at)
    terminal.press("/set max_tokens 3\r/status\r")
    at = wait_for(b"max_tokens 3\r\n", wait_for(b"/status", at))
    at = wait_for(b"> ", at)
    terminal.press(f"/save {tmp_path / 'said.txt'}\r")
    wait_for(b"> ", wait_for(b"said.txt", at))
    terminal.press("\x04")
    assert terminal.status() == 0
    assert b"Traceback" not in terminal.bytes and b"\x1b[31m" not in terminal.bytes
    said = (tmp_path / "said.txt").read_text()
    assert said.startswith("the sea") and len(said) > 100
