"""Models as a whole: add-model, destroy-model, status, show-*, debug-log, version, switch."""

from __future__ import annotations

import platform
import threading

from rig.errors import JujuError, UsageError
from rig.juju import status as shown
from rig.juju.command import FORMAT, Reply, Request, Verb
from rig.state import Machine

HOOK_GRACE_SECONDS = 5.0


def version(request: Request) -> Reply:
    """The client's version; it speaks the controller's."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    full = f"{request.controller.dialect.version}-genericlinux-{architecture}"
    if not request.on("all"):
        return Reply(f"{full}\n")
    return request.document({"version": full, "git-commit": "rig", "git-tree-state": "clean"})


def add_model(request: Request) -> Reply:
    """Add an empty model."""
    model = request.controller.add_model(request.words[0])
    for pair in request.repeated.get("config", []):
        _set_config(model.config, pair)
    if not request.on("no-switch"):
        request.controller.current = model.name
    return Reply("", f"Added '{model.name}' model on rig for user 'admin'\n")


def destroy_model(request: Request) -> Reply:
    """Remove a model and its machines, without running hooks."""
    controller = request.controller
    with controller.changed:
        machines = controller.drop_model(controller.model(request.words[0]))

    def stop(machine: Machine) -> None:
        lock = controller.machine_lock(machine)
        held = lock.acquire(timeout=HOOK_GRACE_SECONDS)  # a hook that hangs ends with the machine
        try:
            if machine.status != "pending":
                journal = machine.host.journal()
                machine.host.stop()
                with controller.changed:
                    name = f"{request.words[0].rpartition('/')[2]}-machine-{machine.number}"
                    controller.journals.append((name, journal))
        finally:
            if held:
                lock.release()

    threads = [threading.Thread(target=stop, args=(m,)) for m in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Reply()


def switch(request: Request) -> Reply:
    """Choose the model for commands that name none."""
    if request.words:
        request.controller.current = request.controller.model(request.words[0]).name
    if not request.controller.current:
        raise JujuError("no model selected")
    return Reply(f"rig:admin/{request.controller.current}\n")


def models(request: Request) -> Reply:
    """Names of all models."""
    names = [{"name": f"admin/{n}", "short-name": n} for n in request.controller.models]
    return request.document({"models": names, "current-model": request.controller.current})


def _set_config(config: dict[str, str], pair: str) -> None:
    name, equals, value = pair.partition("=")
    if name not in ("logging-config", "update-status-hook-interval", "automatically-retry-hooks"):
        raise UsageError(f"the rig knows no model option {name!r}")
    if not equals:
        raise UsageError(f'expected "key=value", got "{pair}"')
    if name != "logging-config":
        raise UsageError(f"the rig does not emulate model option {name!r}")
    config[name] = value


def model_config(request: Request) -> Reply:
    """Show or change the model's options."""
    model = request.model
    for pair in request.words:
        _set_config(model.config, pair)
    if request.words:
        return Reply()
    return request.document({k: {"Value": v, "Source": "model"} for k, v in model.config.items()})


def status(request: Request) -> Reply:
    """Status of the model."""
    return request.document(shown.of_model(request.controller, request.model))


def show_unit(request: Request) -> Reply:
    """Units with the databags that they see."""
    units = [request.model.unit(name) for name in request.words]
    return request.document({u.name: shown.of_unit(request.controller, u) for u in units})


def show_model(request: Request) -> Reply:
    """Facts of a model."""
    model = request.controller.model(request.words[0] if request.words else request.model_name)
    facts = {
        "name": f"admin/{model.name}",
        "short-name": model.name,
        "model-uuid": model.uuid,
        "model-type": "iaas",
        "controller-uuid": request.controller.uuid,
        "controller-name": "rig",
        "is-controller": False,
        "owner": "admin",
        "cloud": "rig",
        "region": "rig",
        "type": "manual",
        "life": "alive",
        "status": {"current": "available"},
        "agent-version": model.dialect.version,
    }
    return request.document({model.name: facts})


def debug_log(request: Request) -> Reply:
    """The model's debug log so far."""
    name, limit = request.model.name, request.text("limit", "0")
    if not limit.isdigit():
        raise UsageError(f'invalid value "{limit}" for option --limit')
    lines = [line for model, line in request.controller.lines if model in (name, "")]
    chosen = lines[-int(limit) :] if int(limit) else lines
    return Reply("".join(f"{line}\n" for line in chosen))


VERBS = (
    Verb(("version",), version, options=FORMAT, switches={"--all": "all"}, of_model=False),
    Verb(
        ("add-model",),
        add_model,
        switches={"--no-switch": "no-switch"},
        repeated={"--config": "config"},
        words=(1, 1),
        of_model=False,
    ),
    Verb(
        ("destroy-model",),
        destroy_model,
        options={"--timeout": "timeout", "-t": "timeout"},
        switches={
            "--no-prompt": "no-prompt",
            "--destroy-storage": "destroy-storage",
            "--release-storage": "release-storage",
            "--force": "force",
            "--no-wait": "no-wait",
        },
        words=(1, 1),
        of_model=False,
        blocks=True,
    ),
    Verb(("switch",), switch, words=(0, 1), of_model=False),
    Verb(("models", "list-models"), models, options=FORMAT, of_model=False),
    Verb(("model-config",), model_config, options=FORMAT, words=(0, 100)),
    Verb(("status",), status, options=FORMAT, switches={"--relations": "relations"}),
    Verb(("show-unit",), show_unit, options=FORMAT, words=(1, 100)),
    Verb(("show-model",), show_model, options=FORMAT, words=(0, 1), of_model=False),
    Verb(
        ("debug-log",),
        debug_log,
        options={"--limit": "limit", "-n": "limit"},
        switches={"--replay": "replay", "--no-tail": "no-tail"},
    ),
)
