"""Chat templates: Jinja templates that write a conversation as a text. They are not trusted."""

from __future__ import annotations

import functools
import json
from datetime import datetime
from typing import Any

from keras_attn.extras import require


def render(template: str, variables: dict[str, Any]) -> str:
    """Renders a template in a sandbox, with the functions and filters that templates of checkpoints use.

    Raises:
        ImportError: If jinja2 is not installed.
        ValueError: If the template is wrong, or refuses the messages.
    """
    errors = require("jinja2.exceptions", "chat")
    try:
        return _compiled(template).render(**variables)
    except (errors.TemplateError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"`messages` must be what the chat template accepts. Received: {error}") from error


@functools.lru_cache(maxsize=16)
def _compiled(template):
    jinja = require("jinja2", "chat")
    sandbox = require("jinja2.sandbox", "chat").ImmutableSandboxedEnvironment
    extensions = [require("jinja2.ext", "chat").loopcontrols, _generation_tag()]
    environment = sandbox(trim_blocks=True, lstrip_blocks=True, extensions=extensions)

    def raise_exception(message):
        raise jinja.exceptions.TemplateError(message)

    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": _strftime_now}
    return environment.from_string(template)


def _generation_tag():
    """`{% generation %}` marks what an assistant says, for training. Here it changes nothing."""
    nodes, extension = require("jinja2.nodes", "chat"), require("jinja2.ext", "chat").Extension

    class Generation(extension):
        tags = frozenset({"generation"})

        def parse(self, parser):
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    return Generation


def _to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    # Jinja's own filter escapes what HTML would read as tags.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(format):
    return datetime.now().strftime(format)
