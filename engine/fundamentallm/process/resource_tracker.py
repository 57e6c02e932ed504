"""The helper process that multiprocessing starts beside a worker, kept away from the terminal."""

import os
import sys


def start_helper() -> None:
    """Start it with none of our streams, before there is a worker, or a thread that prints.

    It lives as long as the worker does. With our streams, a shell that reads what we say would wait for the end of the
    run, and at that end it would complain on the terminal about what a process that left a run alone has left open.
    """
    if os.name == "nt":  # needs none
        return
    from multiprocessing import resource_tracker

    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDWR)
    ours = [os.dup(stream) for stream in (0, 1, 2)]
    try:
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        resource_tracker.ensure_running()
    finally:
        for stream, file in enumerate(ours):
            os.dup2(file, stream)
            os.close(file)
        os.close(null)
