"""The `juju` client as jubilant calls it: one table of verbs, strict about every flag."""

from __future__ import annotations

from rig.controller import Controller
from rig.errors import JujuError, UsageError
from rig.hooktools.command import parse_flags
from rig.juju import applications, models, offers, relations, tasks
from rig.juju.command import Reply, Request, Verb

MODULES = (applications, models, offers, relations, tasks)
VERBS: dict[str, Verb] = {
    name: verb for module in MODULES for verb in module.VERBS for name in verb.names
}
MODEL = {"--model": "model", "-m": "model"}


def run(
    controller: Controller, arguments: list[str], cwd: str, environment: dict[str, str]
) -> Reply:
    """Run one command line of `juju`; never raises for what Juju would refuse."""
    try:
        if not arguments or arguments[0] not in VERBS:
            name = arguments[0] if arguments else ""
            raise UsageError(f'"{name}" is not a juju command that the rig knows')
        verb = VERBS[arguments[0]]
        request = _parse(controller, verb, arguments[1:], cwd, environment)
        if verb.blocks:
            return verb.function(request)
        with controller.changed:
            return verb.function(request)
    except JujuError as error:
        return Reply("", f"ERROR {error}\n", error.code)


def _parse(
    controller: Controller,
    verb: Verb,
    arguments: list[str],
    cwd: str,
    environment: dict[str, str],
) -> Request:
    options = dict(verb.options) | (MODEL if verb.of_model else {})
    if verb.repeated:
        arguments, collected = _collect(arguments, verb.repeated)
    else:
        collected = {}
    raw: list[str] = []
    if verb.passes_on:
        arguments, raw = _split(arguments, options, verb)
    words, found = parse_flags(arguments, options, verb.switches)
    words += raw
    least, most = verb.words
    if not least <= len(words) <= most:
        fault = "missing" if len(words) < least else "too many"
        raise UsageError(f"juju {verb.names[0]}: {fault} arguments: {words}")
    model = found.get("model") or environment.get("JUJU_MODEL") or None
    if verb.of_model:
        controller.model(str(model) if model else None)
    return Request(controller, words, found, collected, str(model or ""), cwd)


def _collect(
    arguments: list[str], repeated: dict[str, str]
) -> tuple[list[str], dict[str, list[str]]]:
    """Take out the flags that may be given several times."""
    kept: list[str] = []
    found: dict[str, list[str]] = {}
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if argument == "--":
            kept += [argument, *rest]
        elif flag in repeated:
            found.setdefault(repeated[flag], []).append(value if equals else next(rest, ""))
        else:
            kept.append(argument)
    return kept, found


def _split(
    arguments: list[str], options: dict[str, str], verb: Verb
) -> tuple[list[str], list[str]]:
    """Own flags up to the first word; that word and the rest go to another program as they are."""
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        if argument == "--":
            return arguments[:index], arguments[index + 1 :]
        if not argument.startswith("-"):
            break
        index += 2 if argument in options else 1
    return arguments[:index], arguments[index:]
