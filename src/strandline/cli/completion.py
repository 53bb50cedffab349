import click
from click.shell_completion import get_completion_class

__all__ = ["command"]


@click.command("completion", no_args_is_help=True)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: eval "$(strandline completion bash)"
    zsh:  eval "$(strandline completion zsh)"
    fish: strandline completion fish | source
    """  # noqa: D301 -- click's mark for lines that are not to be wrapped
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "strandline", "_STRANDLINE_COMPLETE").source())
