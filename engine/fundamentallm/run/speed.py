"""How fast this machine trains: measured by earlier runs and kept in the user's cache, else a cautious guess."""

import json
import math
import os
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import Estimate
from fundamentallm.paths import user_folder
from fundamentallm.run.folder import write_atomic
from fundamentallm.untrusted import MAX_CONFIG_BYTES, open_regular_file

CORE_FLOPS = 20e9  # a second, of one CPU core, where nothing was measured
MAX_SIZES = 20  # measured sizes of models that are kept for a device


def flops_per_token(config: Config, parameters: int) -> float:
    """Return the floating-point operations of training on one token: 6 a parameter, and those of attention.

    Attention: queries with keys and weights with values, 2 T D each for T positions, of which causality needs half, and
    twice that on the way back (Kaplan et al. 2020).
    """
    return 6.0 * parameters + 6.0 * config.num_layers * config.model_dim * config.max_seq_len


def estimate_seconds(config: Config, estimate: Estimate) -> float:
    """Estimate how long a run trains on this machine, in seconds."""
    tokens, size = estimate.total_steps * config.effective_batch * config.max_seq_len, estimate.parameters
    known, speed = _read().get(config.device, {}), CORE_FLOPS * (os.cpu_count() or 1)
    if known:  # that of the nearest size, for small models are slower
        speed = known[min(known, key=lambda other: abs(math.log(int(other)) - math.log(max(1, size))))]
    return tokens * flops_per_token(config, size) / speed


def remember_speed(config: Config, parameters: int, tokens_per_second: float) -> None:
    """Keep how fast a run trained. The cache may be unwritable; then the next estimate is a guess again."""
    speeds = _read()
    sizes = speeds.pop(config.device, {})
    speed = tokens_per_second * flops_per_token(config, parameters)
    before = sizes.pop(str(parameters), 0.0)
    sizes[str(parameters)] = max(speed, before / 2)  # one run on a busy machine may be a hundred times slower
    speeds[config.device] = dict(list(sizes.items())[-MAX_SIZES:])
    with suppress(OSError):
        _path().parent.mkdir(parents=True, exist_ok=True)
        write_atomic(_path(), json.dumps(speeds))


def _read() -> dict[str, dict[str, float]]:
    """The measured speeds by device and number of parameters; without what is damaged."""
    try:
        with open_regular_file(_path()) as file:
            found = json.loads(file.read(MAX_CONFIG_BYTES))
        return {
            str(device): {size: float(speed) for size, speed in sizes.items() if int(size) > 0 and 0 < speed < math.inf}
            for device, sizes in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return {}


def _path() -> Path:
    return user_folder(user_cache_path) / "speed.json"
