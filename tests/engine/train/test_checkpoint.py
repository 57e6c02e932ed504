"""Complete, atomic, checked."""

import errno
import io
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.run import events
from fundamentallm.run.commands import Save
from fundamentallm.train import checkpoint as module
from fundamentallm.train.checkpoint import Checkpoint, load, save
from fundamentallm.train.state import TrainState


@pytest.fixture
def state(build: Callable[..., TrainState]) -> Checkpoint:
    built = build(dropout=0.2, output_dir="é/x")
    built.counters.step, built.counters.best_val_loss = 7, 1.5
    for n, tensor in enumerate((*built.model.state_dict().values(), *built.optimizer.state_dict().values())):
        torch.nn.init.normal_(tensor, generator=torch.Generator().manual_seed(n)) if tensor.ndim else tensor.fill_(7)
    return built.checkpoint()


def same(a: Checkpoint, b: Checkpoint) -> bool:
    plain = [name for name in vars(a) if name not in ("model", "optimizer")]
    tensors = [(getattr(a, name), getattr(b, name)) for name in ("model", "optimizer")]
    return all(getattr(a, name) == getattr(b, name) for name in plain) and all(
        x.keys() == y.keys() and all(torch.equal(x[n], y[n]) and x[n].dtype == y[n].dtype for n in x)
        for x, y in tensors
    )


def test_everything_is_read_back_as_it_was_written(state: Checkpoint, tmp_path: Path) -> None:
    size, refused = save(state, tmp_path, ["a.pt"])
    assert not refused
    again = load(tmp_path / "a.pt")
    assert same(again, state)
    assert size == (tmp_path / "a.pt").stat().st_size
    assert again.progress().step == 7 and asdict(again.progress()) == state.counters
    assert again.settings().dropout == 0.2 and again.tokenizer().vocabulary == state.vocabulary
    assert set(vars(again)) == {
        "model", "optimizer", "counters", "config", "vocabulary", "fingerprint", "threads", "torch", "device",
        "compiled",
    }  # fmt: skip


def test_a_file_is_made_of_tensors_and_plain_types_only(state: Checkpoint, tmp_path: Path) -> None:
    save(state, tmp_path, ["a.pt"])
    content = torch.load(tmp_path / "a.pt", weights_only=True)

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool, torch.Tensor)

    assert plain(content)


def test_equal_states_are_one_file_and_nothing_else_stays(state: Checkpoint, tmp_path: Path) -> None:
    save(state, tmp_path, ["last.pt", "best.pt", "checkpoint_epoch_1.pt"])
    files = sorted(tmp_path.glob("*"))
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []
    names = ["best.pt", "checkpoint_epoch_1.pt", "last.pt"]
    assert sorted(path.name for path in files if path.suffix == ".pt") == names
    assert len({(tmp_path / name).stat().st_ino for name in names}) == 1
    save(state, tmp_path, ["last.pt"])  # a new one leaves the others alone
    assert (tmp_path / "last.pt").stat().st_ino != (tmp_path / "best.pt").stat().st_ino
    assert same(load(tmp_path / "best.pt"), state)


def test_a_file_system_without_hard_links_gets_copies(
    state: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    save(state, tmp_path, ["last.pt", "best.pt"])
    assert same(load(tmp_path / "last.pt"), state) and same(load(tmp_path / "best.pt"), state)


# ---- damage ----


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    words = str(caught.value)
    assert words.startswith(f"{path}: ") and "\n" not in words
    return words


def test_a_file_cut_anywhere_is_refused(state: Checkpoint, tmp_path: Path) -> None:
    save(state, tmp_path, ["a.pt"])
    whole, cut = (tmp_path / "a.pt").read_bytes(), tmp_path / "cut.pt"
    for end in [0, 1, 10, 64, *range(100, len(whole), len(whole) // 60), len(whole) - 22, len(whole) - 1]:
        cut.write_bytes(whole[:end])
        assert "damaged" in refused(cut)


def test_one_flipped_bit_in_any_record_is_found(state: Checkpoint, tmp_path: Path) -> None:
    save(state, tmp_path, ["a.pt"])
    whole, path = (tmp_path / "a.pt").read_bytes(), tmp_path / "flipped.pt"
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        records = [(info.filename, info.header_offset, info.file_size) for info in archive.infolist()]
    assert len(records) > 10
    for name, offset, size in records:
        start = offset + 30 + int.from_bytes(whole[offset + 26 : offset + 28], "little")
        start += int.from_bytes(whole[offset + 28 : offset + 30], "little")
        for place, bit in ((0, 0), (size // 2, 3), (size - 1, 7)):
            if not size:
                continue
            flipped = bytearray(whole)
            flipped[start + place] ^= 1 << bit
            path.write_bytes(flipped)
            assert "is damaged" in refused(path), name


def test_no_flipped_bit_in_the_archives_own_tables_changes_what_is_read(state: Checkpoint, tmp_path: Path) -> None:
    save(state, tmp_path, ["a.pt"])
    whole, path = (tmp_path / "a.pt").read_bytes(), tmp_path / "flipped.pt"
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        tables = range(archive.start_dir, len(whole))
        local = [archive.infolist()[n].header_offset + byte for n in (0, 3) for byte in range(30)]
    places = [*range(tables.start, tables.start + 140), *range(tables.stop - 110, tables.stop), *local]
    for place in places:
        for bit in (0, 3, 6):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                found = load(path)
            except UserError as error:
                assert str(path) in str(error)
            else:
                assert same(found, state), (place, bit)


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["BOMB"],)


def test_pickled_code_is_refused_without_running_it(
    state: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOMB", str(tmp_path / "ran"))
    path = tmp_path / "bomb.pt"
    torch.save({"format": module.FORMAT, **vars(state), "torch": Bomb()}, path)
    assert "holds code" in refused(path)
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path)
    torch.save(Bomb(), path, _use_new_zipfile_serialization=False)
    refused(path)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_checkpoint_of_ours_is_refused(state: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    assert "no such checkpoint" in refused(path)
    assert "no such checkpoint" in refused(tmp_path)
    path.write_bytes(b"")
    refused(path)
    path.write_text("a text\n" * 100)
    refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    refused(path)
    values = {"format": module.FORMAT, **vars(state)}
    for content, words in (
        ({"weight": torch.zeros(3)}, "is not a checkpoint of this program"),
        ([1, 2], "is not a checkpoint of this program"),
        ({**values, "format": "fundamentallm checkpoint 99"}, "is not a checkpoint of this program"),
        ({name: value for name, value in values.items() if name != "optimizer"}, "lacks parts"),
        ({**values, "counters": 3}, "lacks parts"),
        ({**values, "config": {**state.config, "model_dim": 15}}, "its configuration is not valid"),
        ({**values, "config": {**state.config, "model_dim": 32}}, "its weights do not fit"),
        ({**values, "vocabulary": state.vocabulary + "ÿ"}, "its weights do not fit"),
        ({**values, "vocabulary": state.vocabulary[::-1]}, "its weights do not fit"),
        ({**values, "counters": {**state.counters, "step": "7"}}, "its weights do not fit"),
        ({**values, "counters": {**state.counters, "mood": 7}}, ""),
    ):
        torch.save(content, path)
        assert words in refused(path), words


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_a_state_that_was_changed_by_hand_is_not_resumed(
    part: str, train: Callable[..., Any], small: Callable[..., Config], tmp_path: Path
) -> None:
    train(small(epochs=1), "run")
    state = load(tmp_path / "run" / "last.pt")
    tensors = {name.replace("embedding", "em.bedding"): tensor for name, tensor in getattr(state, part).items()}
    (tmp_path / "other").mkdir()
    save(Checkpoint(**{**vars(state), part: tensors}), tmp_path / "other", ["a.pt"])
    with pytest.raises(UserError, match="its weights do not fit its configuration"):
        train(small(), "other", resume_from=tmp_path / "other" / "a.pt", epochs=2)


# ---- a disk that fails ----


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_file_whole_and_no_other(
    broken: str, state: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    save(state, folder, ["a.pt", "b.pt"])
    before = (folder / "a.pt").read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, broken, fail)
    other = Checkpoint(**{**vars(state), "fingerprint": "other"})
    if broken == "replace":  # each name for itself
        assert save(other, folder, ["a.pt", "b.pt"])[1] == dict.fromkeys(["a.pt", "b.pt"], "No space left on device")
    else:
        with pytest.raises(OSError, match="No space"):
            save(other, folder, ["a.pt", "b.pt"])
    assert sorted(path.name for path in folder.iterdir()) == ["a.pt", "b.pt"]
    assert (folder / "a.pt").read_bytes() == before and same(load(folder / "b.pt"), state)


def test_a_file_that_the_disk_garbled_never_takes_the_old_ones_place(
    state: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(state, tmp_path, ["a.pt"])
    write = torch.save

    def garble(content: Any, file: Any) -> None:
        buffer = io.BytesIO()
        write(content, buffer)
        block = bytearray(buffer.getvalue())
        block[len(block) // 2] ^= 4
        file.write(block)

    monkeypatch.setattr(module.torch, "save", garble)
    with pytest.raises(OSError, match="cannot be read back"):
        save(state, tmp_path, ["a.pt"])
    assert same(load(tmp_path / "a.pt"), state)


@pytest.mark.parametrize("room", [1000, 20_000])  # within the first record, and later
def test_a_disk_that_fills_up_while_a_checkpoint_is_written_does_not_end_the_run(
    room: int, train: Callable[..., Any], small: Callable[..., Config]
) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def listen(_: Any) -> list[Save]:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        return []

    config = small(model_dim=64)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        ran = train(config, script=listen)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(ran.result, events.Finished) and ran.result.unsaved == ""
    assert [(event.path, event.step, event.why) for event in ran.of(events.CheckpointFailed)] == [
        ("last.pt", 0, os.strerror(errno.EFBIG))
    ]
    assert load(ran.folder / "last.pt").progress().step == ran.result.step


def test_a_failing_disk_is_said_and_training_goes_on(
    train: Callable[..., Any], small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, equal: Callable[..., bool]
) -> None:
    plain = train(small(), "plain")
    replace = os.replace

    def tired(source: Any, target: Any) -> None:
        if "checkpoint_epoch_1" in str(target) or "checkpoint_step" in str(target):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(module.os, "replace", tired)
    ran = train(small(), "run", {5: [Save(id="hand")]})
    assert isinstance(ran.result, events.Finished)
    failed = {(event.path, event.kind) for event in ran.of(events.CheckpointFailed)}
    assert {("checkpoint_step_5.pt", "hand"), ("checkpoint_epoch_1.pt", "epoch")} <= failed
    assert all(event.why == "No space left on device" for event in ran.of(events.CheckpointFailed))
    answers = [event for event in ran.of(events.Answered) if event.id == "hand"]
    assert [(event.ok, event.why) for event in answers] == [(False, "No space left on device")]
    assert ran.losses == plain.losses and equal(ran.weights, plain.weights)
    assert not list(ran.folder.glob(".*.tmp"))
    assert ran.result.unsaved == ""  # the end was saved
    assert load(ran.folder / "final_model.pt").progress().step == ran.result.step


@pytest.mark.parametrize("taken", ["last.pt", "best.pt", "final_model.pt"])
def test_a_name_that_is_taken_keeps_no_other_from_being_saved(
    taken: str, train: Callable[..., Any], small: Callable[..., Config]
) -> None:
    def script(trainer: Any) -> list[Any]:
        path = trainer.spec.folder / taken
        if trainer.state.step == 3 and not path.is_dir():
            path.unlink(missing_ok=True)
            path.mkdir()
        return []

    ran = train(small(epochs=1), script=script)
    assert {event.path for event in ran.of(events.CheckpointFailed)} == {taken}
    for name in {"last.pt", "best.pt", "checkpoint_epoch_1.pt", "final_model.pt"} - {taken}:
        assert load(ran.folder / name).progress().step == ran.result.step, name
    assert ran.result.unsaved == "Is a directory" and ran.result.path == (
        "last.pt" if taken == "best.pt" else "best.pt"
    )


def test_weights_that_are_not_finite_are_not_loaded(state: Checkpoint, tmp_path: Path) -> None:
    name, tensor = next(iter(state.model.items()))
    broken = tensor.clone()
    broken.view(-1)[-1] = math.nan
    save(Checkpoint(**{**vars(state), "model": {**state.model, name: broken}}), tmp_path, ["a.pt"])
    with pytest.raises(UserError, match=rf"a.pt: its weights are not finite \({name}\)"):
        load(tmp_path / "a.pt")
