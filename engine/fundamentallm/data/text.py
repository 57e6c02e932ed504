"""Reading text files: what is text, what is wrong with a file that is not, what no screen should get. No torch."""

from pathlib import Path

from fundamentallm.data.download import missing_data_hint
from fundamentallm.errors import UserError
from fundamentallm.paths import shipped, user_path
from fundamentallm.untrusted import open_regular_file


def read_text(path: str) -> str:
    """The whole of a UTF-8 file, line ends as newlines, a byte order mark dropped.

    Raises:
        UserError: it is missing, a folder, unreadable, empty, binary or not UTF-8; says where.
    """
    found = find_data(path)
    if found.is_dir():
        raise UserError(f"{path}: is a folder; name a text file")
    try:
        with open_regular_file(found) as file:
            raw = file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if not raw.strip():
        raise UserError(f"{path}: is empty; it needs at least a few thousand characters of text")
    if (zero := raw.find(b"\0")) >= 0:
        raise UserError(f"{path}: is not a text file (a zero byte at offset {zero})")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        wrong = f"byte 0x{raw[error.start]:02x} in line {line}, offset {error.start}"
        raise UserError(f"{path}: is not UTF-8 ({wrong}); save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def expand(paths: tuple[str, ...]) -> list[str]:
    """The files that `paths` name, in order; a folder means the *.txt files directly in it, by name.

    Raises:
        UserError: a path does not exist, or a folder holds no such file.
    """
    files = []
    for path in paths:
        if not find_data(path).is_dir():
            files.append(path)
            continue
        inside = sorted(str(file) for file in Path(path).expanduser().glob("*.txt") if file.is_file())
        if not inside:
            raise UserError(f"{path}: holds no *.txt file")
        files += inside
    return files


def read_texts(paths: tuple[str, ...]) -> list[str]:
    """Every file that `paths` name, each a document of its own.

    Raises:
        UserError: as `expand` and `read_text`, or no file is user_path.
    """
    if not paths:
        raise UserError("no data: name a text file to learn from")
    return [read_text(path) for path in expand(paths)]


def find_data(path: str) -> Path:
    """A data file as a person names it; `data/...` that is not in the current folder may be a shipped one.

    Raises:
        UserError: there is no such file; names the command that fetches it, if one does.
    """
    given = user_path(path)
    if given.exists():
        return given
    parts = Path(path).parts
    if parts[:1] == ("data",) and ".." not in parts and (packaged := shipped("data").joinpath(*parts[1:])).is_file():
        return packaged
    hint = missing_data_hint(path)
    raise UserError(f"{path}: no such file" + (f"; {hint} fetches it" if hint else f" (looked in {Path.cwd()})"))


def size(count: float) -> str:
    """Bytes as a person reads them: "512 B", "1.6 MB"."""
    for unit, letters in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {letters}"
    return f"{count:.0f} B"
