"""`fllm-tui attach ssh://HOST/PATH` becomes ssh, which opens the console on the other machine."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm_tui import __main__ as console

# Runs the command here instead, as a login shell of the host would.
SSH = """#!/bin/sh
printf '%s\\n' "$@" > "$HOME/asked"
cd "$HOME" && exec sh -c "$3"
"""


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder whose `ssh` and `fllm-tui` come first on the PATH."""
    programs = {"ssh": SSH, "fllm-tui": f'#!/bin/sh\nexec "{sys.executable}" -m fundamentallm_tui "$@"\n'}
    for name, script in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_it_shows_a_run_of_another_machine(
    fake_ssh: Path, run: Callable[..., Any], screen: Callable[..., Any], tiny: list[str]
) -> None:
    assert run(*tiny, "--epochs=1", "--output-dir=a run; exit").status == 0  # a name that a shell must not read
    address = f"ssh://someone@host:2222{fake_ssh}/a run; exit"
    shown = screen(str(fake_ssh / "bin/fllm-tui"), "attach", address, "--low-bandwidth")
    shown.see("FINISHED", patience=240)
    asked = (fake_ssh / "asked").read_text().splitlines()
    assert asked == ["-t", "ssh://someone@host:2222", f"fllm-tui attach '{fake_ssh}/a run; exit' --low-bandwidth"]


def test_a_path_below_the_home_folder(fake_ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda _, words: became.append(words))
    console.main(["ssh://host/~/runs/book"])
    assert became == [["ssh", "-t", "ssh://host", "fllm-tui attach '~/runs/book'"]]


@pytest.mark.parametrize("host", ["h", "me@big-box.example.org:2222", "10.0.0.7:65535", "a.b+c@[fe80::1%eth0]:22"])
def test_an_address_that_ssh_understands_is_given_to_it(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda _, words: became.append(words))
    console.main(["attach", f"ssh://{host}/run"])
    assert became == [["ssh", "-t", f"ssh://{host}", "fllm-tui attach /run"]]


NO_HOSTS = (
    "h:99999", "a b", "nobody@localhost:0", "-oProxyCommand=x", "h:", "h:x", "@h", "a@b@h", "-l@h", "fe80::1", "[]"
)  # fmt: skip


@pytest.mark.parametrize("address", ["ssh://", "ssh://host", "ssh://host/", *(f"ssh://{host}/x" for host in NO_HOSTS)])
def test_an_address_that_names_no_run_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "execvp", lambda *_: None)
    assert console.main(["attach", address]) == 2
    expected = f"{address}: is no address of a run; write ssh://HOST/PATH or ssh://USER@HOST:PORT/PATH"
    assert capfd.readouterr().err.strip() == expected


def test_a_machine_without_ssh(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert console.main(["attach", "ssh://host/run"]) == 2
    expected = "ssh: cannot be started (No such file or directory); OpenSSH's client is needed for ssh://host/run"
    assert capfd.readouterr().err.strip() == expected
