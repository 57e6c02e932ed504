"""What a person can ask for now, what the start key is called, and what becomes of a run that is left."""

from fundamentallm.config.config import SETTINGS
from fundamentallm.run.history import find_runs
from fundamentallm_tui.screens.run_table import LIVE
from fundamentallm_tui.state.launch import NEVER_CHANGED, goes_on_from
from fundamentallm_tui.state.store import FINISHED, Store


def possible(store: Store) -> dict[str, bool]:
    """By action: whether it can be done. A replay can be held and goes on, nothing else."""
    heard = store.under_way and store.started is not None and not store.stopping
    return {
        "start": store.paused or not (store.under_way or store.replayed),
        "pause": heard,
        "save": heard and not store.replayed,
        "stop": store.under_way and not store.stopping and not store.replayed,
        "new_run": not store.under_way and store.folder is not None,
    }


def read_only(store: Store) -> set[str]:
    """The settings that cannot be changed in the form now."""
    if store.under_way:
        return set(SETTINGS)
    if goes_on_from(store) is None:
        return set()
    return {name for name, row in SETTINGS.items() if row.fixed or name in NEVER_CHANGED}


def start_word(store: Store) -> str:
    """What the start key does."""
    if store.paused and store.under_way:
        return "resume"
    if goes_on_from(store) is not None:
        return "go on"
    return "new run" if store.phase == FINISHED else "start"


def others_under_way(store: Store) -> str:
    """Which runs are under way here beside the one that is shown; empty where there are none."""
    others = [str(run.folder) for run in find_runs() if run.state in LIVE and run.folder != store.folder]
    are = "is" if len(others) == 1 else "are"
    return f"{', '.join(others)} {are} under way; ctrl+o lists the runs, enter attaches." if others else ""


def farewell(store: Store) -> str:
    """What becomes of this console's own run when another one is shown; empty where there is none."""
    if not store.under_way or store.attached:
        return ""
    return f"{store.folder} {'ends' if store.paused else 'runs on by itself'}."
