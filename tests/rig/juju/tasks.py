"""run, exec, ssh, scp, actions: what runs on a unit and is waited for."""

from __future__ import annotations

import json
from typing import Any

import yaml

from rig.errors import JujuError, RigError, UsageError
from rig.hosts import Host
from rig.juju.command import FORMAT, Reply, Request, Verb, seconds
from rig.operations import Task

RUN_SECONDS, EXEC_SECONDS = "60s", "300s"


def _reply(request: Request, task: Task, wait: float, what: str) -> Reply:
    unit = task.unit
    if not task.done.wait(wait):
        raise JujuError(
            f"timed out waiting for {what} {task.id} on unit {unit.name} after {wait:g}s"
        )
    shown = {
        "id": task.id,
        "unit": unit.name,
        "status": task.status,
        "results": task.results,
        "message": task.message,
        "log": task.log,
    }
    if request.text("format") not in ("", "json", "yaml"):
        raise UsageError(f"the rig prints json and yaml, not {request.text('format')}")
    style = request.text("format") or "yaml"
    dump = json.dumps if style == "json" else yaml.safe_dump
    code = task.results.get("return-code", 0)
    if task.status == "completed" and code == 0:
        return Reply(dump({unit.name: shown}) + "\n")
    error = f'ERROR the following task failed:\n - id "{task.id}" with return code {code}\n'
    hint = "\nuse 'juju show-task' to inspect the failure\n"
    return Reply(dump({unit.name: shown}) + "\n", error + hint, 1)


def run(request: Request) -> Reply:
    """Run an action and wait for it."""
    controller = request.controller
    wait = seconds(request.text("wait", RUN_SECONDS))
    with controller.changed:
        model = request.model
        unit, action = model.unit(request.words[0]), request.words[1]
        if action not in unit.app.charm.actions:
            raise JujuError(f'action "{action}" not defined for unit "{unit.name}". (not found)')
        given: dict[str, Any] = {}
        if request.text("params"):
            given = yaml.safe_load(request.path(request.text("params")).read_text()) or {}
        for word in request.words[2:]:
            key, equals, value = word.partition("=")
            if not equals:
                raise UsageError(f'argument "{word}" must be of the form key.key.key...=value')
            given[key] = yaml.safe_load(value)
        parameters = unit.app.charm.parse_parameters(action, given)
        task = controller.add_task(model, unit, action, parameters)
    return _reply(request, task, wait, "action")


def execute(request: Request) -> Reply:
    """Run a command within a unit's hook environment and wait for it, or on a machine."""
    controller = request.controller
    unit_name, machine = request.text("unit"), request.text("machine")
    if bool(unit_name) == bool(machine) or "," in unit_name + machine:
        raise UsageError("the rig runs commands on one unit (--unit) or machine (--machine)")
    wait, command = seconds(request.text("wait", EXEC_SECONDS)), " ".join(request.words)
    with controller.changed:
        if machine:
            number = request.model.machine(machine).number
            on = [u for u in request.model.units() if u.machine.number == number]
            if not on:
                raise JujuError(f"machine {machine} has no unit to run on")
            unit = on[0]
        else:
            unit = request.model.unit(unit_name)
        task = controller.add_task(request.model, unit, "juju-exec", {}, command)
    return _reply(request, task, wait, "task")


def _host(request: Request, target: str) -> tuple[Host, str]:
    user, _, name = target.rpartition("@")
    with request.controller.changed:
        machine = request.model.unit(name).machine if "/" in name else request.model.machine(name)
    return machine.host, user or "ubuntu"


def ssh(request: Request) -> Reply:
    """Run a command on a machine as `ubuntu` or the user named."""
    host, user = _host(request, request.words[0])
    command = request.words[1:]
    if not command or command[0].startswith("-"):
        raise UsageError("the rig's ssh takes a target and a command, no ssh options")
    done = host.run(["/bin/bash", "-c", " ".join(command)], user=user)
    return Reply(done.stdout, done.stderr, done.returncode)


def scp(request: Request) -> Reply:
    """Copy one file to or from a unit."""
    source, destination = request.words
    if (":" in source) == (":" in destination) or source.startswith("-"):
        raise UsageError("the rig copies one file between here and one unit")
    try:
        if ":" in destination:
            target, _, path = destination.partition(":")
            host, user = _host(request, target)
            local = request.path(source)
            if not path or path.endswith("/"):
                path += local.name
            host.write(path, local.read_bytes(), user)
        else:
            target, _, path = source.partition(":")
            host, user = _host(request, target)
            local = request.path(destination)
            if local.is_dir():
                local /= path.rpartition("/")[2]
            local.write_bytes(host.read(path, user))
    except (OSError, RigError) as error:
        raise JujuError(f"scp: {error}") from error
    return Reply()


def actions(request: Request) -> Reply:
    """Actions of an application, with their descriptions or schemas."""
    declared = request.model.app(request.words[0]).charm.actions
    if request.on("schema"):
        return request.document(declared)
    return request.document({n: b.get("description", "") for n, b in declared.items()})


KEYS = {"--no-host-key-checks": "no-host-key-checks"}
VERBS = (
    Verb(
        ("run",),
        run,
        options={**FORMAT, "--wait": "wait", "--params": "params"},
        words=(2, 1000),
        blocks=True,
    ),
    Verb(
        ("exec",),
        execute,
        options={**FORMAT, "--wait": "wait", "--unit": "unit", "--machine": "machine"},
        words=(1, 1000),
        blocks=True,
        passes_on=True,
    ),
    Verb(("ssh",), ssh, switches=KEYS, words=(1, 1000), blocks=True, passes_on=True),
    Verb(("scp",), scp, switches=KEYS, words=(2, 2), blocks=True),
    Verb(("actions",), actions, options=FORMAT, switches={"--schema": "schema"}, words=(1, 1)),
)
