"""Words of suggested commands: a shell gives them back as they were. Folders of a user without a home."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from fundamentallm.config.files import preset_names
from fundamentallm.data.source import cache_folder
from fundamentallm.paths import quoted, quoted_path

SHELLS = [shell for shell in ("sh", "bash", "zsh", "dash") if shutil.which(shell)]
NAMES = [
    "runs/tiny-1", "a b", "it's", 'say "so"', "$HOME", "`ls`", "a!b", "a;b&c|d", "*?[x]", "\\n \\", "%s 100%",
    "-x", "~x", "=x", "auto", "None", "", " ", "日本 é 😀", "a\nb", "\n", "a\n\n", "a\tb",
    "\x1b[31m'red' $x \\ %d!\n", "\u202egpj.", "a\udcff\udc80b",
]  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
def test_a_quoted_word_reaches_the_program_as_it_was(shell: str) -> None:
    script = f"printf '%s\\0' {' '.join(map(quoted, NAMES))}"
    printed = subprocess.run([shell, "-c", os.fsencode(script)], capture_output=True, check=True).stdout
    assert printed.split(b"\0")[:-1] == [os.fsencode(name) for name in NAMES]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_quoted_path_is_no_option_and_names_its_file(shell: str, tmp_path: Path) -> None:
    names = [name for name in NAMES if name.strip()]
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "here").touch()
    script = "\n".join(f"cd {quoted_path(name)} && ls && cd - > /dev/null || exit 1" for name in names[1:])
    done = subprocess.run([shell, "-c", os.fsencode(script)], cwd=tmp_path, capture_output=True)
    assert done.stdout == b"here\n" * len(names[1:]), done.stderr


def test_words_stay_printable_and_on_one_line() -> None:
    assert quoted_path("-x") == "./-x" and quoted_path("auto") == "./auto" and quoted_path("a b/-x") == "'a b/-x'"
    assert quoted("a\nb") == r'''"$(printf 'a\nb')"''' and quoted("-\x1b'") == r'''"$(printf '\055\033\047')"'''
    assert all(quoted(name.rstrip("\n")).isprintable() for name in NAMES)


def test_a_user_without_a_home_has_no_folders_and_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}["no such user"])
    assert preset_names() == ["tiny", "small", "medium", "large"]
    assert not cache_folder().exists()
