"""Complete, atomic, checked."""

import errno
import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest import MonkeyPatch

from fundamentallm import __version__
from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.run import events
from fundamentallm.run.commands import Save
from fundamentallm.train.checkpoint import Checkpoint, Counters, load, refuse_newer, save
from tests.engine.conftest import same_tensors
from tests.engine.train.conftest import Forge, Train, Trained, refusal

NO_SPACE = "No space left on device"


def same(a: Checkpoint, b: Checkpoint) -> bool:
    plain = [{**vars(each), "model": None, "optimizer": None} for each in (a, b)]
    return plain[0] == plain[1] and same_tensors(a.model, b.model) and same_tensors(a.optimizer, b.optimizer)


@pytest.fixture
def valid(state: Checkpoint, tmp_path: Path) -> bytes:
    """The bytes of a.pt, in which the state was just saved."""
    save(state, tmp_path, ["a.pt"])
    return (tmp_path / "a.pt").read_bytes()


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (str, int, float, bool, torch.Tensor)


def test_everything_is_read_back_as_it_was_written(state: Checkpoint, tmp_path: Path) -> None:
    assert save(state, tmp_path, ["a.pt"]) == ((tmp_path / "a.pt").stat().st_size, {})
    again = load(tmp_path / "a.pt")
    assert same(again, state)
    assert again.progress().step == 7 and asdict(again.progress()) == state.counters
    assert again.settings().dropout == 0.2 and again.tokenizer().vocabulary == state.vocabulary


def test_a_file_is_made_of_these_parts_all_tensors_and_plain_types(valid: bytes) -> None:
    content = torch.load(io.BytesIO(valid), weights_only=True)
    assert set(content) == {
        "format", "version", "model", "optimizer", "counters", "config", "vocabulary", "fingerprint", "threads",
        "torch", "device", "compiled", "processes", "precision", "tokenizer_json", "attention_scale",
        "normuon", "momentum", "halves",
    }  # fmt: skip
    assert (content["format"], content["version"]) == ("fundamentallm checkpoint 1", __version__)
    assert is_plain(content)


@pytest.mark.parametrize("has_links", [True, False])
def test_equal_states_are_one_file_where_there_are_hard_links_and_copies_elsewhere(
    state: Checkpoint, tmp_path: Path, monkeypatch: MonkeyPatch, has_links: bool
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    folder, names = tmp_path / "folder", ["best.pt", "checkpoint_epoch_1.pt", "last.pt"]
    folder.mkdir()
    save(state, folder, names)
    assert sorted(path.name for path in folder.iterdir()) == names
    assert len({path.stat().st_ino for path in folder.iterdir()}) == (1 if has_links else 3)
    save(replace(state, fingerprint="new"), folder, ["last.pt"])  # leaves the others alone
    assert load(folder / "last.pt").fingerprint == "new" and same(load(folder / "best.pt"), state)


# ---- versions ----


def test_what_a_file_lacks_that_is_not_essential_has_its_default(state: Checkpoint, forge: Forge) -> None:
    parts = {"threads": torch.get_num_threads(), "torch": "unknown", "device": "unknown", "compiled": False}
    for part, default in parts.items():
        assert getattr(load(forge(**{part: None})), part) == default
    settings = {"patience": Config().patience, "seed": Config().seed}
    for table, defaults in (("counters", asdict(Counters())), ("config", settings)):
        known = getattr(state, table)
        for name in known.keys() & defaults.keys():
            found = load(forge(**{table: {key: value for key, value in known.items() if key != name}}))
            values = vars(found.progress() if table == "counters" else found.settings())
            assert values[name] == defaults[name]


def test_a_checkpoint_that_clips_at_an_infinite_norm_is_one_that_does_not_clip(state: Checkpoint, forge: Forge) -> None:
    assert load(forge(config={**state.config, "gradient_clip": float("inf")})).settings().gradient_clip == 0


@pytest.mark.parametrize(("version", "writer"), [("9.1", "fundamentallm 9.1"), (None, "a newer fundamentallm")])
@pytest.mark.parametrize("kind", ["parts", "counters", "settings"])
def test_what_a_newer_version_added_is_refused_with_its_version(
    state: Checkpoint, forge: Forge, kind: str, version: str | None, writer: str
) -> None:
    part = {"counters": "counters", "settings": "config"}.get(kind)
    changes = {part: {**getattr(state, part), "mood": 3}} if part else {"mood": 3}
    assert refusal(forge(version=version, **changes)) == (
        f"has {kind} that this version ({__version__}) does not know: 'mood'; {writer} wrote it, upgrade fundamentallm"
    )
    load(forge(version=version))  # a newer version that added nothing here


def test_a_checkpoint_of_a_newer_kind_is_neither_read_nor_passed_over(forge: Forge) -> None:
    forge("checkpoint_epoch_1.pt")
    newer = forge("last.pt", format="fundamentallm checkpoint 2", version="9.1")
    assert refusal(newer) == "is a fundamentallm checkpoint 2; fundamentallm 9.1 wrote it, upgrade fundamentallm"
    for path in (newer, forge("last.pt", version="9.1", mood=3)):  # who resumes from the older one writes over it
        with pytest.raises(UserError, match="fundamentallm 9.1 wrote it, upgrade fundamentallm"):
            refuse_newer(path.parent)
    forge("last.pt").write_bytes(newer.read_bytes().replace(b"dropout", b"dropoud"))
    refuse_newer(newer.parent)  # it is damaged, and passed over as such
    newer.unlink()
    refuse_newer(newer.parent)


# ---- damage ----


def flip(raw: bytes, place: int, bit: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]


def test_a_file_cut_anywhere_is_refused(valid: bytes, tmp_path: Path) -> None:
    for end in [0, 1, 10, 64, *range(100, len(valid), len(valid) // 60), len(valid) - 22, len(valid) - 1]:
        (tmp_path / "cut.pt").write_bytes(valid[:end])
        assert "damaged" in refusal(tmp_path / "cut.pt")


def test_one_flipped_bit_in_any_record_is_found(valid: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        records = [record for record in archive.infolist() if record.file_size]
    assert len(records) > 10
    for record in records:
        names = valid[record.header_offset + 26 : record.header_offset + 30]  # the lengths of a name and an extra field
        start = record.header_offset + 30 + int.from_bytes(names[:2], "little") + int.from_bytes(names[2:], "little")
        for place, bit in ((0, 0), (record.file_size // 2, 3), (record.file_size - 1, 7)):
            (tmp_path / "x.pt").write_bytes(flip(valid, start + place, bit))
            assert "is damaged" in refusal(tmp_path / "x.pt"), record.filename


def test_no_flipped_bit_in_the_tables_changes_what_is_read(state: Checkpoint, valid: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        central, end = archive.start_dir, len(valid)
        local = [archive.infolist()[n].header_offset + byte for n in (0, 3) for byte in range(30)]
    for place in [*range(central, central + 140), *range(end - 110, end), *local]:
        for bit in (0, 3, 6):
            (tmp_path / "x.pt").write_bytes(flip(valid, place, bit))
            try:
                found = load(tmp_path / "x.pt")
            except UserError as error:
                assert str(tmp_path / "x.pt") in str(error)
            else:
                assert same(found, state), (place, bit)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    assert refusal(path) == refusal(tmp_path) == "no such checkpoint"
    (tmp_path / "last.pt").touch()
    assert refusal(path) == f"no such checkpoint; {tmp_path / 'last.pt'} is there"
    for raw in (b"", b"a text\n" * 100):
        path.write_bytes(raw)
        assert refusal(path) == "is damaged, cut off, or not a checkpoint at all"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert refusal(path).startswith("is not a checkpoint of this program")
    for content in ({"weight": torch.zeros(3)}, [1, 2]):
        torch.save(content, path)
        assert refusal(path) == "is not a checkpoint of this program"


def test_parts_that_are_missing_or_do_not_fit_together_are_refused(state: Checkpoint, forge: Forge) -> None:
    lacks, unfit = "lacks parts of a checkpoint", "its weights do not fit its configuration"
    name, tensor = next(iter(state.model.items()))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"format": "another checkpoint 1"}, "is not a checkpoint of this program"),
        *(({part: None}, lacks) for part in ("model", "optimizer", "counters", "config", "vocabulary", "fingerprint")),
        ({"counters": 3}, lacks),
        ({"config": {**state.config, "model_dim": 15}}, "its configuration is not valid"),
        ({"config": {**state.config, "model_dim": 32}}, unfit),
        ({"vocabulary": state.vocabulary + "ÿ"}, unfit),
        ({"vocabulary": state.vocabulary[::-1]}, "its vocabulary is not"),
        ({"counters": {**state.counters, "step": "7"}}, "its counters are not"),
        ({"model": {**state.model, name: tensor / 0}}, f"its weights are not finite ({name})"),
    ]
    for changes, reason in cases:
        assert refusal(forge(**changes)).startswith(reason), changes


# ---- a disk that fails ----


@pytest.mark.parametrize("broken", ["fsync", "replace", "what is read back"])
def test_a_save_that_fails_leaves_the_old_file_valid_and_no_other(
    broken: str, state: Checkpoint, valid: bytes, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    (tmp_path / "b.pt").write_bytes(valid)
    before = {path.name for path in tmp_path.iterdir()}

    def fail(*_: Any) -> None:
        raise OSError(28, NO_SPACE)

    other = replace(state, fingerprint="other")
    if broken == "replace":  # each name for itself
        monkeypatch.setattr(os, "replace", fail)
        assert save(other, tmp_path, ["a.pt", "b.pt"])[1] == dict.fromkeys(["a.pt", "b.pt"], NO_SPACE)
    else:
        if broken == "fsync":
            monkeypatch.setattr(os, "fsync", fail)
        else:
            monkeypatch.setattr(torch, "save", lambda _, file: file.write(flip(valid, valid.index(b"counters"), 2)))
        with pytest.raises(OSError, match=NO_SPACE if broken == "fsync" else "cannot be read back"):
            save(other, tmp_path, ["a.pt", "b.pt"])
    assert {path.name for path in tmp_path.iterdir()} == before
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes() == valid


@contextmanager
def largest_file(size: int) -> Iterator[Any]:
    """No file may grow beyond so many bytes, until the function that this gives is called."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("room", [1000, 20_000])  # within the first record, and later
def test_a_disk_that_fills_up_while_a_checkpoint_is_written_does_not_end_the_run(room: int, train: Train) -> None:
    with largest_file(room) as lift:
        ran = train(model_dim=64, script=lambda _: lift() or [])
    assert isinstance(ran.result, events.Finished) and ran.result.unsaved == ""
    failed = [(event.path, event.step, event.why) for event in ran.of(events.CheckpointFailed)]
    assert failed == [("last.pt", 0, os.strerror(errno.EFBIG))]
    assert ran.step_of("last.pt") == ran.result.step


def test_a_failing_disk_is_reported_and_survived(train: Train, trained: Trained, monkeypatch: MonkeyPatch) -> None:
    plain, replace_file = trained(), os.replace

    def fail_for_some(source: Any, target: Any) -> None:
        if "checkpoint_epoch_1" in str(target) or "checkpoint_step" in str(target):
            raise OSError(28, NO_SPACE)
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", fail_for_some)
    ran = train(script={5: [Save(id="hand")]})
    assert isinstance(ran.result, events.Finished)
    failed = {(event.path, event.kind, event.why) for event in ran.of(events.CheckpointFailed)}
    assert failed >= {("checkpoint_step_5.pt", "hand", NO_SPACE), ("checkpoint_epoch_1.pt", "epoch", NO_SPACE)}
    assert {why for _, _, why in failed} == {NO_SPACE}
    assert [(event.ok, event.why) for event in ran.of(events.Answered) if event.id == "hand"] == [(False, NO_SPACE)]
    assert ran.losses == plain.losses and same_tensors(ran.weights, plain.weights)
    assert not list(ran.folder.glob(".*.tmp"))
    assert ran.result.unsaved == "" and ran.step_of("final_model.pt") == ran.result.step  # the end was saved


@pytest.mark.parametrize("taken", ["last.pt", "best.pt", "final_model.pt"])
def test_a_name_that_is_taken_keeps_no_other_from_being_saved(taken: str, train: Train, tmp_path: Path) -> None:
    def take_name(trainer: Any) -> list[Any]:
        path = tmp_path / "run" / taken
        if trainer.state.step == 3 and not path.is_dir():
            path.unlink(missing_ok=True)
            path.mkdir()
        return []

    ran = train(epochs=1, script=take_name)
    assert {event.path for event in ran.of(events.CheckpointFailed)} == {taken}
    for name in {"last.pt", "best.pt", "checkpoint_epoch_1.pt", "final_model.pt"} - {taken}:
        assert ran.step_of(name) == ran.result.step, name
    assert ran.result.unsaved == "Is a directory"
    assert ran.result.path == ("last.pt" if taken == "best.pt" else "best.pt")
