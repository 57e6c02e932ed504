from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.errors import UserError
from fundamentallm.library import read_run, train_model
from fundamentallm.run.history import RunHistory
from fundamentallm.run.summary import RunSummary
from fundamentallm.train.evaluate import Evaluation
from fundamentallm.train.loaded import Model, Score, load

__version__: str

__all__ = [
    "Evaluation",
    "Model",
    "RunHistory",
    "RunSummary",
    "SamplingOptions",
    "Score",
    "UserError",
    "__version__",
    "load",
    "read_run",
    "train_model",
]
