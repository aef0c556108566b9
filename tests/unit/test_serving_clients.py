from __future__ import annotations

from contextlib import ExitStack

import pytest

from regkit.serving.clients import TOLD, Clients, Place, client_of


def test_places_by_number_and_by_client():
    clients = Clients(2)
    with ExitStack() as stack:
        found = [stack.enter_context(clients.entered("192.0.2.1")) for _ in range(2 + TOLD + 3)]
        assert found == [Place.WITHIN] * 2 + [Place.FULL] * TOLD + [Place.BEYOND] * 3
        assert stack.enter_context(clients.entered("192.0.2.2")) is Place.WITHIN
    with clients.entered("192.0.2.1") as place:
        assert place is Place.WITHIN
    assert not clients._open


def test_without_a_limit_nothing_is_counted():
    clients = Clients(0)
    with ExitStack() as stack:
        found = {stack.enter_context(clients.entered("192.0.2.1")) for _ in range(5000)}
        assert found == {Place.WITHIN}
        assert not clients._open


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
    ],
)
def test_who_is_one_client(address: str, client: str):
    assert client_of(address) == client
