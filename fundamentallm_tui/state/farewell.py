"""The lines on the terminal after the console: what became of the run, and where a fault is described."""

import time
import traceback

from platformdirs import user_log_path

from fundamentallm.errors import describe_error, describe_fault
from fundamentallm.paths import quoted_path
from fundamentallm_tui.state.store import Store


def describe_outcome(store: Store) -> str:
    """Return what becomes of the run that is shown, now that the console is gone; empty where there is none."""
    if store.folder is None or store.replayed:
        return ""
    folder = quoted_path(store.folder)
    if not store.under_way:
        return f"The run is {store.phase}; fllm-tui {folder} shows it again."
    if not store.loaded:
        return (
            f"The run was being started; fllm-tui {folder} shows it, or fundamentallm runs list whether there is one."
        )
    if store.paused:
        return f"The run is paused, and ends saved if this console paused it; fllm-tui {folder} shows it again."
    if store.stopping:
        return f"The run saves and ends; fllm-tui {folder} shows it again."
    return f"The run continues; fllm-tui attach {folder} shows it again."


def record_fault(error: Exception) -> str:
    """Write the traceback of a fault of the program into a file; return the fault in a line that names the file."""
    line = describe_fault(error)
    path = user_log_path("fundamentallm") / f"console-{time.strftime('%Y%m%d-%H%M%S')}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
    except OSError as unwritten:
        return f"{line} (its traceback could not be written to {path}: {describe_error(unwritten)})"
    return f"{line} (its traceback is in {path})"
