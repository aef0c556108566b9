"""Which of a registry's URLs is tried first."""

from __future__ import annotations

from collections import Counter

from ams.sync.endpoints import FIRST_REST, LONGEST_REST, Endpoints

URLS = ("https://a:3000", "https://b:3000", "https://c:3000")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_without_a_site_the_order_is_the_given_one():
    assert Endpoints([url + "/" for url in (*URLS, URLS[0])]).order() == list(URLS)


def test_sites_spread_evenly_and_stay():
    firsts = Counter(Endpoints(URLS, f"site {number}").order()[0] for number in range(3000))
    assert all(900 < firsts[url] < 1100 for url in URLS)
    assert Endpoints(URLS, "one").order() == Endpoints(URLS[::-1], "one").order()


def test_one_more_url_moves_only_those_who_go_there():
    for number in range(300):
        before = Endpoints(URLS[:2], f"site {number}").order()[0]
        assert Endpoints(URLS, f"site {number}").order()[0] in (before, URLS[2])


def test_a_failed_one_rests_and_comes_back():
    clock = Clock()
    endpoints = Endpoints(URLS, clock=clock)
    endpoints.failed(URLS[0])
    assert endpoints.order() == [URLS[1], URLS[2], URLS[0]]
    clock.now += FIRST_REST
    assert endpoints.order() == list(URLS)


def test_rests_grow_to_a_limit_and_an_answer_ends_them():
    clock = Clock()
    endpoints = Endpoints(URLS, clock=clock)
    rests = []
    for _ in range(8):
        endpoints.failed(URLS[0])
        endpoints.failed(URLS[0])  # another request that was under way: no second failure
        begun = clock.now
        while endpoints.order()[0] != URLS[0]:
            clock.now += 1
        rests.append(clock.now - begun)
    assert rests == [5, 10, 20, 40, 60, 60, 60, LONGEST_REST]
    endpoints.worked(URLS[0])
    endpoints.failed(URLS[0])
    clock.now += FIRST_REST
    assert endpoints.order()[0] == URLS[0]


def test_all_of_them_are_tried_even_when_all_rest():
    clock = Clock()
    endpoints = Endpoints(URLS, clock=clock)
    for url in (URLS[1], URLS[0], URLS[2]):
        endpoints.failed(url)
        clock.now += 1
    assert endpoints.order() == [URLS[1], URLS[0], URLS[2]]
