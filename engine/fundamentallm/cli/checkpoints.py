"""A model from its checkpoint, for the commands that read one."""

from typing import TYPE_CHECKING

from fundamentallm.cli.options import find_checkpoint
from fundamentallm.errors import UserError
from fundamentallm.model.transformer import Transformer
from fundamentallm.run.folder import BEST
from fundamentallm.train.checkpoint import Checkpoint, load
from fundamentallm.train.device import choose_device

if TYPE_CHECKING:
    import torch


def load_model(path: str, device_name: str) -> "tuple[Transformer, Checkpoint, torch.device]":
    """The model of a checkpoint, or of the best.pt of a run's folder, on a device.

    Raises:
        UserError: the checkpoint or the device cannot be used.
    """
    device = choose_device(device_name)
    checkpoint = load(find_checkpoint(path, BEST))
    model = Transformer(checkpoint.settings(), len(checkpoint.vocabulary))
    try:
        model.load_state_dict(checkpoint.model)
    except RuntimeError:
        raise UserError(f"{path}: its weights do not fit its configuration; it was changed by hand") from None
    return model.to(device).eval(), checkpoint, device
