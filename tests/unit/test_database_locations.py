"""`database.url` as a value: read strictly, and its password shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from aar.settings import Settings
from regkit.database.locations import File, SecretUrl, Server, parse_url
from regkit.documents import parse
from regkit.errors import Invalid


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////srv/aar.db", File(Path("/srv/aar.db"))),
        ("sqlite:///aar.db", File(Path("aar.db"))),
        ("postgresql://db/aar", Server((("db", 5432),), "aar")),
        (
            "postgresql://u:p%40%2F%3A@db.example:6432/aar",
            Server((("db.example", 6432),), "aar", "u", "p@/:"),
        ),
        (
            "postgresql://u@a,b:5433,[2001:db8::1]:5434/aar?sslmode=verify-full&sslrootcert=/ca",
            Server(
                (("a", 5432), ("b", 5433), ("2001:db8::1", 5434)),
                "aar",
                "u",
                None,
                (("sslmode", "verify-full"), ("sslrootcert", "/ca")),
            ),
        ),
        ("postgresql:///aar?host=/run/pg", Server((("/run/pg", 5432),), "aar")),
    ],
)
def test_what_is_read(url: str, expected: File | Server) -> None:
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgres://u:s3cret@h/n", "'postgres' is not supported"),
        ("postgresql://u:s3cret@h", "name is missing"),
        ("postgresql://u:s3cret@h/", "name is missing"),
        ("postgresql://u:s3cret@h/a/b", "name is missing, or not one"),
        ("postgresql://u:s3cret@x@h/n", "as %40"),
        ("postgresql://u:s3cret#x@h/n", "as %40"),
        ("postgresql://u:s3cret@h:0/n", "0 is not a port"),
        ("postgresql://u:s3cret@h:99999/n", "99999 is not a port"),
        ("postgresql://u:s3cret@h:x/n", "a host is not one"),
        ("postgresql://u:s3cret@h,/n", "a host is not one"),
        ("postgresql://u:s3cret%00@h/n", "NUL"),
        ("postgresql://u:s3cret%ff@h/n", "not UTF-8"),
        ("postgresql://u:s3cret@h/n?sslmode=always", "sslmode must be one of"),
        ("postgresql://u:s3cret@h/n?options=-c%20fsync=off", "'options' is not supported"),
        ("postgresql://u:s3cret@h/n?sslmode", "key=value"),
        ("postgresql://u:s3cret@h/n?sslrootcert=ca.pem", "absolute path"),
        ("postgresql://u:s3cret@h/n?host=/run", "given twice"),
        ("postgresql://u:s3cret@h/n?connect_timeout=0", "number of seconds"),
    ],
)
def test_what_is_refused_without_a_secret(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_url(url)
    with pytest.raises(Invalid) as told:
        parse({"database": {"url": url}}, "main.yaml", Settings)
    for text in (str(caught.value), str(told.value), repr(told.value)):
        assert "s3cret" not in text
        assert "\n" not in text


def test_nothing_shows_the_password() -> None:
    url = "postgresql://u:s3cret%40x@h/n?sslmode=require"
    settings = parse({"database": {"url": url}}, "main.yaml", Settings)
    assert settings.database.url == url
    shown = [repr(settings), str(settings), repr(settings.database.url), repr(parse_url(url))]
    shown += [str(parse_url(url)), repr(settings.model_dump())]
    for text in shown:
        assert "s3cret" not in text
    assert repr(SecretUrl(url)) == "'postgresql://u:***@h/n?sslmode=require'"
