"""Train small transformer language models and understand what happens while they learn.

`import fundamentallm` costs nothing: torch is imported by the modules that compute (`trainer`, `generate`, ...), never
by those that describe (`config`, `events`, `run`, `session`), so that a console can use the latter alone.
"""

__version__ = "0.1.0"
