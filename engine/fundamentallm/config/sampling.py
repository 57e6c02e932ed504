"""How text is sampled from a model: the one table for the command line, the console and the engine."""

from dataclasses import dataclass, replace
from typing import Self

from fundamentallm.config.settings import parse_all, setting, table

MAX_SAMPLE_TOKENS = 100_000  # that a run, or a checkpoint in the console, writes for one command


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """The options of one request for text."""

    max_tokens: int = setting(
        200, at_least=1, at_most=1_000_000, typical="50 to 2000", help="How many tokens to write."
    )
    temperature: float = setting(
        0.8, at_least=0, at_most=100, typical="0.5 to 1.2",
        help="How freely the model chooses; 0: the likeliest token.",
        too_high="the text is random", too_low="the text repeats itself",
    )  # fmt: skip
    top_k: int = setting(
        0, at_least=0, at_most=1_000_000, typical="0, or 5 to 50",
        help="Choose among the k likeliest tokens; 0: among all.",
        too_low="the text repeats itself",
    )  # fmt: skip
    top_p: float = setting(
        1.0, above=0, at_most=1, typical="0.8 to 1",
        help="Choose among the likeliest that add up to p; 1: all.",
        too_low="the text repeats itself",
    )  # fmt: skip
    min_p: float = setting(
        0.0, at_least=0, at_most=1, typical="0, or 0.02 to 0.2",
        help="Drop tokens below this share of the likeliest one's; 0: none (Nguyen 2024).",
        too_high="the text repeats itself",
    )  # fmt: skip
    repetition_penalty: float = setting(
        1.0, above=0, at_most=10, typical="1 to 1.3",
        help="Above 1, tokens of the context become less likely (Keskar et al. 2019); below 1, more likely.",
        too_high="common letters are avoided", too_low="the text repeats itself",
    )  # fmt: skip
    seed: int | None = setting(
        None, at_least=0, at_most=2**31 - 1, auto="another each time",
        help="The same seed gives the same text.",
    )  # fmt: skip
    num_samples: int = setting(
        1, at_least=1, at_most=1024, help="How many texts to write; each draws random numbers of its own."
    )

    def checked(self) -> Self:
        """Return the same options, each of its type; a UserError names all that are not, or are out of bounds."""
        return replace(self, **parse_all(SAMPLING, {name: getattr(self, name) for name in SAMPLING}))


SAMPLING = table(SamplingOptions)
