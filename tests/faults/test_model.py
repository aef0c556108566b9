"""The model's own rules: what may be lost, and what is a violation."""

from __future__ import annotations

from faults.model import Item, Model


def promised(*names: str) -> Model:
    model = Model()
    for name in names:
        source = "direct" if name.startswith("direct") else "site"
        model.published(f"sha of {name}", Item(name, source, b""), acknowledged=True)
    return model


def found(*names: str) -> dict[str, str]:
    return {f"sha of {name}": name for name in names}


def test_what_was_acknowledged_and_is_not_there_is_lost():
    model = promised("direct-1", "direct-2")
    assert model.settle("direct", found("direct-1")) == [
        "lost: direct-2 0 (sha of direc) of the direct"
    ]


def test_a_restore_may_take_back_what_came_after_the_backup_and_nothing_else():
    model = promised("direct-1", "site-1")
    mark = model.mark()
    for name in ("direct-2", "direct-3"):
        model.published(f"sha of {name}", Item(name, "direct", b""), acknowledged=True)
    model.published("sha of site-2", Item("site-2", "site", b""), acknowledged=True)
    model.put_back(mark)
    assert model.settle("direct", found("direct-1", "direct-3")) == []
    assert sorted(model.promised) == sorted(found("direct-1", "direct-3", "site-1", "site-2"))
    assert list(model.gone) == ["sha of direct-2"]
    (lost,) = model.settle("site", found("site-1"))
    assert lost.startswith("lost: site-2")


def test_a_restore_may_not_take_back_what_the_backup_holds():
    model = promised("direct-1")
    model.put_back(model.mark())
    (lost,) = model.settle("direct", {})
    assert lost.startswith("lost: direct-1")


def test_what_was_removed_and_is_there_came_back():
    model = promised("direct-1")
    model.removed(["sha of direct-1"], acknowledged=True)
    (back,) = model.settle("direct", found("direct-1"))
    assert back.startswith("came back: direct-1")
