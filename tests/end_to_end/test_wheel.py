"""The wheel and the sdist, as they are built: installed elsewhere, they run with nothing from this folder."""

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]


def run(folder: Path, *command: str | Path) -> str:
    """What a program prints that is started in a folder, without this folder's environment."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, built from what the sdist holds, and the sdist."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    code = "import sys; from hatchling import build; print(getattr(build, sys.argv[1])(sys.argv[2]))"
    sdist = folder / run(HOME, sys.executable, "-c", code, "build_sdist", folder).splitlines()[-1]
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    return folder / run(source, sys.executable, "-c", code, "build_wheel", folder).splitlines()[-1], sdist


def test_what_is_built_has_every_module_and_what_is_shipped_and_nothing_else(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[0]).namelist())
    ours = {
        str(path.relative_to(top))
        for top, package in ((HOME / "engine", "fundamentallm"), (HOME, "fundamentallm_tui"))
        for path in (top / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    shipped = {f"fundamentallm/shipped/presets/{path.name}" for path in (HOME / "presets").glob("*.yaml")}
    shipped.add("fundamentallm/shipped/data/samples/sample_data.txt")
    assert "fundamentallm/py.typed" in ours and "fundamentallm_tui/app.tcss" in ours
    assert {name for name in names if ".dist-info/" not in name} == ours | shipped


def test_the_wheel_trains_the_shipped_text_and_shows_the_console_elsewhere(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(site)
        [scripts] = [wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    # Its dependencies are those that are installed here; what lies before them in the path is the wheel.
    others = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_path("purelib")]
    (site / "others.pth").write_text("\n".join(others))
    here = tmp_path / "elsewhere"
    here.mkdir()
    where = run(
        here, python, "-c", "import fundamentallm, fundamentallm_tui as t; print(fundamentallm.__file__, t.__file__)"
    )
    assert all(path.startswith(str(site)) for path in where.split())
    assert (
        "fundamentallm = fundamentallm.__main__:main" in scripts
        and "fllm-tui = fundamentallm_tui.__main__:main" in scripts
    )
    small = ["--model-dim=16", "--num-layers=1", "--max-seq-len=32", "--stride=32", "--epochs=1", "--device=cpu"]
    run(here, python, "-m", "fundamentallm", "train", "--preset=tiny", "--output-dir=run", *small, "--max-steps=20")
    assert (here / "run" / "best.pt").is_file()
    assert run(here, python, "-m", "fundamentallm", "generate", "run", "--max-tokens=5", "--device=cpu")
    assert "usage: fllm-tui" in run(here, python, "-m", "fundamentallm_tui", "--help")
