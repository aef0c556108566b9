"""One line per event, whatever the values hold."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest

from regkit import logs

LOG = logs.get("test.logs")
QUIETED = ("alembic", "urllib3", "gunicorn")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, [logging.getLogger(n).level for n in QUIETED]
    yield
    root.handlers[:], level, quieted = before
    root.setLevel(level)
    for name, its_level in zip(QUIETED, quieted, strict=True):
        logging.getLogger(name).setLevel(its_level)


def fail() -> None:
    raise RuntimeError("broken")


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    LOG.info("trust-added", role="client", name="two words", count=3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info trust-added "
        r'role=client name="two words" count=3\n',
        captured.err,
    )


@pytest.mark.parametrize("value", ["a\nb", "\x1b[31m", "a=b", 'say "x"', "", "\u2028", "\r"])
def test_foreign_values_stay_on_one_line_and_read_back(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure()
    LOG.warning("refused", tried=value)
    line = capsys.readouterr().err
    assert len(line.splitlines()) == 1
    assert line.rstrip("\n").isprintable()
    assert json.loads(line.partition("tried=")[2]) == value


def test_control_characters_of_an_event_never_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure()
    logging.getLogger("foreign").warning("a\x1b[2Jb\nc")
    assert capsys.readouterr().err.endswith(" warning a?[2Jb?c\n")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(log_format="json")
    LOG.error("refused", tried="a\nb", size=1, what=ValueError("x"))
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "error",
        "event": "refused",
        "tried": "a\nb",
        "size": 1,
        "what": "x",
    }


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_level(level: str, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level)
    for name in ("debug", "info", "warning", "error"):
        getattr(LOG, name)("event")
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == expected


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_fault_of_the_program_has_its_traceback(
    log_format: logs.Format, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(log_format=log_format)
    try:
        fail()
    except RuntimeError:
        LOG.exception("crashed", where="here")
    text = capsys.readouterr().err
    assert "RuntimeError: broken" in text
    assert "in fail" in text
    if log_format == "json":
        assert json.loads(text)["where"] == "here"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_holds_no_line_of_foreign_making(
    log_format: logs.Format, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(log_format=log_format)
    forged = "2026-01-01T00:00:00.000Z info trust-added"
    try:
        raise RuntimeError(f"x\n{forged}\u2028{forged}\x9b31m")
    except RuntimeError:
        LOG.exception("crashed")
    lines = capsys.readouterr().err.splitlines()
    assert not any(line.startswith(forged) for line in lines)
    assert all(line.isprintable() for line in lines)


def test_a_line_of_json_is_one_for_every_reader(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(log_format="json")
    LOG.warning("refused", path="/\u2028\x9b31m\u202e")
    text = capsys.readouterr().err
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()
    assert json.loads(text)["path"] == "/\u2028\x9b31m\u202e"


def test_configuring_again_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.configure()
    LOG.info("once")
    assert capsys.readouterr().err.count("once") == 1


@pytest.mark.parametrize("name", QUIETED)
def test_libraries_are_quiet_below_warning(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")
    logging.getLogger(name).info("chatter")
    logging.getLogger(name).warning("matter")
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["matter"]
