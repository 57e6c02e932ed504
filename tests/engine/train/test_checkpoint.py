"""Complete, atomic, checked."""

import errno
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm import __version__
from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.run import events
from fundamentallm.run.commands import Save
from fundamentallm.train.checkpoint import Checkpoint, Counters, load, save

Train, Small, Equal = Callable[..., Any], Callable[..., Config], Callable[..., bool]
Forge, Refused = Callable[..., Path], Callable[[Path], str]
NO_SPACE = "No space left on device"


def same(a: Checkpoint, b: Checkpoint) -> bool:
    for name in vars(a):
        x, y = getattr(a, name), getattr(b, name)
        if name not in ("model", "optimizer"):
            if x != y:
                return False
        elif x.keys() != y.keys() or not all(torch.equal(x[n], y[n]) and x[n].dtype == y[n].dtype for n in x):
            return False
    return True


def test_everything_is_read_back_as_it_was_written(state: Checkpoint, tmp_path: Path) -> None:
    size, not_named = save(state, tmp_path, ["a.pt"])
    assert not not_named and size == (tmp_path / "a.pt").stat().st_size
    again = load(tmp_path / "a.pt")
    assert same(again, state)
    assert again.progress().step == 7 and asdict(again.progress()) == state.counters
    assert again.settings().dropout == 0.2 and again.tokenizer().vocabulary == state.vocabulary


def test_a_file_is_made_of_these_parts_all_tensors_and_plain_types(state: Checkpoint, tmp_path: Path) -> None:
    save(state, tmp_path, ["a.pt"])
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert set(content) == {
        "format", "version", "model", "optimizer", "counters", "config", "vocabulary", "fingerprint", "threads",
        "torch", "device", "compiled",
    }  # fmt: skip
    assert (content["format"], content["version"]) == ("fundamentallm checkpoint 1", __version__)

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool, torch.Tensor)

    assert plain(content)


def test_equal_states_are_one_file_and_nothing_else_stays(state: Checkpoint, tmp_path: Path) -> None:
    names = ["best.pt", "checkpoint_epoch_1.pt", "last.pt"]
    save(state, tmp_path, names)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "text.txt"]
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


# ---- versions ----


@pytest.mark.parametrize(
    ("part", "default"),
    [("threads", torch.get_num_threads), ("torch", "unknown"), ("device", "unknown"), ("compiled", False)],
)
def test_a_file_without_a_part_that_is_not_essential_is_read(forge: Forge, part: str, default: Any) -> None:
    assert getattr(load(forge(**{part: None})), part) == (default() if callable(default) else default)


@pytest.mark.parametrize("part", ["counters", "config"])
def test_counters_and_settings_that_a_file_lacks_have_their_defaults(
    state: Checkpoint, forge: Forge, part: str
) -> None:
    known = getattr(state, part)
    defaults = asdict(Counters()) if part == "counters" else {"patience": Config().patience, "seed": Config().seed}
    for name in known.keys() & defaults.keys():
        found = load(forge(**{part: {key: value for key, value in known.items() if key != name}}))
        values = vars(found.progress() if part == "counters" else found.settings())
        assert values[name] == defaults[name]


@pytest.mark.parametrize(("version", "writer"), [("9.1", "fundamentallm 9.1"), (None, "a newer fundamentallm")])
@pytest.mark.parametrize("kind", ["parts", "counters", "settings"])
def test_what_a_newer_version_added_is_refused_with_its_version(
    state: Checkpoint, forge: Forge, refused: Refused, kind: str, version: str | None, writer: str
) -> None:
    changes: dict[str, Any] = {
        "parts": {"mood": 3},
        "counters": {"counters": {**state.counters, "mood": 3}},
        "settings": {"config": {**state.config, "mood": 3}},
    }[kind]
    assert refused(forge(version=version, **changes)) == (
        f"has {kind} that this version ({__version__}) does not know: 'mood'; {writer} wrote it, upgrade fundamentallm"
    )
    load(forge(version=version))  # a newer version that added nothing here


# ---- damage ----


@pytest.fixture
def valid(state: Checkpoint, tmp_path: Path) -> bytes:
    save(state, tmp_path, ["a.pt"])
    return (tmp_path / "a.pt").read_bytes()


def flip(raw: bytes, place: int, bit: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]


def test_a_file_cut_anywhere_is_refused(valid: bytes, tmp_path: Path, refused: Refused) -> None:
    cut = tmp_path / "cut.pt"
    for end in [0, 1, 10, 64, *range(100, len(valid), len(valid) // 60), len(valid) - 22, len(valid) - 1]:
        cut.write_bytes(valid[:end])
        assert "damaged" in refused(cut)


def test_one_flipped_bit_in_any_record_is_found(valid: bytes, tmp_path: Path, refused: Refused) -> None:
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        records = [record for record in archive.infolist() if record.file_size]
    assert len(records) > 10
    for record in records:
        names = valid[record.header_offset + 26 : record.header_offset + 30]  # the lengths of a name and an extra field
        start = record.header_offset + 30 + int.from_bytes(names[:2], "little") + int.from_bytes(names[2:], "little")
        for place, bit in ((0, 0), (record.file_size // 2, 3), (record.file_size - 1, 7)):
            (tmp_path / "x.pt").write_bytes(flip(valid, start + place, bit))
            assert "is damaged" in refused(tmp_path / "x.pt"), record.filename


def test_no_flipped_bit_in_the_archives_own_tables_changes_what_is_read(
    state: Checkpoint, valid: bytes, tmp_path: Path
) -> None:
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


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["BOMB"],)


def test_pickled_code_is_refused_without_running_it(
    forge: Forge, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOMB", str(tmp_path / "ran"))
    path = forge(torch=Bomb())
    assert "holds code" in refused(path)
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path)
    torch.save(Bomb(), path, _use_new_zipfile_serialization=False)
    refused(path)
    assert not (tmp_path / "ran").exists()


def test_files_of_another_kind_are_refused(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "x.pt"
    assert refused(path) == refused(tmp_path) == "no such checkpoint"
    for raw in (b"", b"a text\n" * 100):
        path.write_bytes(raw)
        assert refused(path) == "is damaged, cut off, or not a checkpoint at all"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert refused(path).startswith("is not a checkpoint of this program")
    for content in ({"weight": torch.zeros(3)}, [1, 2]):
        torch.save(content, path)
        assert refused(path) == "is not a checkpoint of this program"


def test_parts_that_do_not_fit_together_are_refused(state: Checkpoint, forge: Forge, refused: Refused) -> None:
    lacks, unfit = "lacks parts of a checkpoint", "its weights do not fit its configuration"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"format": "fundamentallm checkpoint 99"}, "is not a checkpoint of this program"),
        *(({part: None}, lacks) for part in ("model", "optimizer", "counters", "config", "vocabulary", "fingerprint")),
        ({"counters": 3}, lacks),
        ({"config": {**state.config, "model_dim": 15}}, "its configuration is not valid"),
        ({"config": {**state.config, "model_dim": 32}}, unfit),
        ({"vocabulary": state.vocabulary + "ÿ"}, unfit),
        ({"vocabulary": state.vocabulary[::-1]}, unfit),
        ({"counters": {**state.counters, "step": "7"}}, unfit),
    ]
    for changes, words in cases:
        assert refused(forge(**changes)).startswith(words), changes


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_a_state_that_was_changed_by_hand_is_not_resumed(
    part: str, train: Train, small: Small, state: Checkpoint, forge: Forge
) -> None:
    tensors = {name.replace("embedding", "em.bedding"): tensor for name, tensor in getattr(state, part).items()}
    with pytest.raises(UserError, match="its weights do not fit its configuration"):
        train(small(), resume_from=forge(**{part: tensors}), epochs=2)


def test_weights_that_are_not_finite_are_not_loaded(state: Checkpoint, forge: Forge, refused: Refused) -> None:
    name, tensor = next(iter(state.model.items()))
    broken = tensor.clone()
    broken.view(-1)[-1] = float("nan")
    assert refused(forge(model={**state.model, name: broken})) == f"its weights are not finite ({name})"


# ---- a disk that fails ----


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_file_valid_and_no_other(
    broken: str, state: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    save(state, folder, ["a.pt", "b.pt"])
    before = (folder / "a.pt").read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(28, NO_SPACE)

    monkeypatch.setattr(os, broken, fail)
    other = replace(state, fingerprint="other")
    if broken == "replace":  # each name for itself
        assert save(other, folder, ["a.pt", "b.pt"])[1] == dict.fromkeys(["a.pt", "b.pt"], NO_SPACE)
    else:
        with pytest.raises(OSError, match="No space"):
            save(other, folder, ["a.pt", "b.pt"])
    assert sorted(path.name for path in folder.iterdir()) == ["a.pt", "b.pt"]
    assert (folder / "a.pt").read_bytes() == before and same(load(folder / "b.pt"), state)


def test_a_file_that_the_disk_garbled_never_takes_the_old_ones_place(
    state: Checkpoint, valid: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "save", lambda _, file: file.write(flip(valid, len(valid) // 2, 2)))
    with pytest.raises(OSError, match="cannot be read back"):
        save(state, tmp_path, ["a.pt"])
    assert same(load(tmp_path / "a.pt"), state)


@pytest.mark.parametrize("room", [1000, 20_000])  # within the first record, and later
def test_a_disk_that_fills_up_while_a_checkpoint_is_written_does_not_end_the_run(
    room: int, train: Train, small: Small
) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def lift_limit(_: Any) -> list[Save]:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        return []

    config = small(model_dim=64)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        ran = train(config, script=lift_limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(ran.result, events.Finished) and ran.result.unsaved == ""
    failed = [(event.path, event.step, event.why) for event in ran.of(events.CheckpointFailed)]
    assert failed == [("last.pt", 0, os.strerror(errno.EFBIG))]
    assert load(ran.folder / "last.pt").progress().step == ran.result.step


def test_a_failing_disk_is_reported_and_training_continues(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch, equal: Equal
) -> None:
    plain = train(small(), "plain")
    replace_file = os.replace

    def fail_for_some(source: Any, target: Any) -> None:
        if "checkpoint_epoch_1" in str(target) or "checkpoint_step" in str(target):
            raise OSError(28, NO_SPACE)
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", fail_for_some)
    ran = train(small(), "run", {5: [Save(id="hand")]})
    assert isinstance(ran.result, events.Finished)
    failed = {(event.path, event.kind, event.why) for event in ran.of(events.CheckpointFailed)}
    assert failed >= {("checkpoint_step_5.pt", "hand", NO_SPACE), ("checkpoint_epoch_1.pt", "epoch", NO_SPACE)}
    assert {why for _, _, why in failed} == {NO_SPACE}
    answers = [(event.ok, event.why) for event in ran.of(events.Answered) if event.id == "hand"]
    assert answers == [(False, NO_SPACE)]
    assert ran.losses == plain.losses and equal(ran.weights, plain.weights)
    assert not list(ran.folder.glob(".*.tmp"))
    assert ran.result.unsaved == ""  # the end was saved
    assert load(ran.folder / "final_model.pt").progress().step == ran.result.step


@pytest.mark.parametrize("taken", ["last.pt", "best.pt", "final_model.pt"])
def test_a_name_that_is_taken_keeps_no_other_from_being_saved(
    taken: str, train: Train, small: Small, tmp_path: Path
) -> None:
    def take_name(trainer: Any) -> list[Any]:
        path = tmp_path / "run" / taken
        if trainer.state.step == 3 and not path.is_dir():
            path.unlink(missing_ok=True)
            path.mkdir()
        return []

    ran = train(small(epochs=1), script=take_name)
    assert {event.path for event in ran.of(events.CheckpointFailed)} == {taken}
    for name in {"last.pt", "best.pt", "checkpoint_epoch_1.pt", "final_model.pt"} - {taken}:
        assert load(ran.folder / name).progress().step == ran.result.step, name
    assert ran.result.unsaved == "Is a directory"
    assert ran.result.path == ("last.pt" if taken == "best.pt" else "best.pt")
