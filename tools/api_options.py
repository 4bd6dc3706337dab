"""The options that say which bridge a command asks, one way for all of them."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from tools.api_key import TOKEN_VARIABLE
from tools.bridge_api import API_VARIABLE, KEY_VARIABLE

_Command = TypeVar("_Command", bound=Callable[..., object])


def api_options(command: _Command) -> _Command:
    """Give a command ``--api`` and ``--api-key-file``."""
    url = click.option(
        "--api",
        envvar=API_VARIABLE,
        default="http://127.0.0.1:8080",
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="Where the bridge's API answers.",
    )
    key = click.option(
        "--api-key-file",
        envvar=KEY_VARIABLE,
        show_envvar=True,
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with an API key or a bearer token; without it the token in "
        f"{TOKEN_VARIABLE}, if any.",
    )
    return url(key(command))
