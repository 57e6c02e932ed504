"""`fundamentallm completion`: the script with which a shell completes commands, options and presets."""

import click
from click.shell_completion import get_completion_class


@click.command
@click.argument("shell", metavar="[bash|zsh|fish]", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete this program's commands, options and presets.

    bash: eval "$(fundamentallm completion bash)" in .bashrc. zsh: eval "$(fundamentallm completion zsh)" in .zshrc.
    fish: fundamentallm completion fish > ~/.config/fish/completions/fundamentallm.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(ctx.find_root().command, {}, "fundamentallm", "_FUNDAMENTALLM_COMPLETE").source())
