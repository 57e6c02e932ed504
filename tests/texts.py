"""What tests ask about texts: what a run reads, how large it would be, and what it is warned of."""

from collections.abc import Sequence

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import Estimate, estimate_size
from fundamentallm.data.source import make_source, measure_source, read_source
from fundamentallm.data.text_stats import source_warnings


def read_texts(*paths: str, text_field: str = "text") -> list[str]:
    """The documents that paths stand for."""
    return list(read_source(Config(data=paths, text_field=text_field)).documents or ())


def estimate(config: Config, documents: Sequence[str]) -> Estimate:
    """The size of a run on these documents."""
    return estimate_size(config, measure_source(config, make_source(("" for _ in documents), documents)))


def warnings_of(documents: Sequence[str], config: Config) -> list[str]:
    """What is said of the held-out end of these documents."""
    return source_warnings(make_source(("" for _ in documents), documents), config)
