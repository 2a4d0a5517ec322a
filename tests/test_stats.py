"""Counters: how they are named, added up, and read back from the page of metrics."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from waitroom import stats
from waitroom.admin import metrics

WORDS = st.text(max_size=20)


@given(st.dictionaries(st.sampled_from(["reason", "room", "role"]), WORDS))
def test_a_key_says_what_it_is_about(labels):
    """Whatever the words are, the key gives them back, and JSON carries it."""
    key = stats.key("refused_total", **labels)
    assert stats.split(json.loads(json.dumps(key))) == ("refused_total", labels)


def test_counts_by_words_become_keys():
    """Those of one word and those of two, as the wire and the desk keep them."""
    assert stats.by("refused_total", Counter({"host": 2}), "reason") == {'refused_total{reason="host"}': 2}
    counts = Counter({("bypass", "launch"): 3, ("misdirected", ""): 1})
    assert stats.by("noted_total", counts, "reason", "room") == {
        'noted_total{reason="bypass",room="launch"}': 3,
        'noted_total{reason="misdirected",room=""}': 1,
    }
    with pytest.raises(ValueError, match="zip"):
        stats.by("noted_total", counts, "reason")


def test_counts_and_levels_add_up_and_the_worst_lag_is_shown():
    """Two workers with a hundred connections each have two hundred; two that lag 10 ms lag 10 ms."""
    sums: dict[str, float] = {}
    for worker in (
        {"requests_total": 5, "connections": 100, "loop_lag_seconds": 0.01},
        {"requests_total": 6, "connections": 100, "loop_lag_seconds": 0.002, 'refused_total{reason="host"}': 1},
    ):
        stats.add(sums, worker)
    assert sums == {
        "requests_total": 11,
        "connections": 200,
        "loop_lag_seconds": 0.01,
        'refused_total{reason="host"}': 1,
    }


def test_what_an_ended_process_counted_stays():
    """A counter never falls because a worker was replaced; its connections are gone with it."""
    ended = {"requests_total": 5, 'refused_total{reason="a_total"}': 1, "connections": 3, 'children{role="x_total"}': 1}
    assert stats.totals(ended) == {"requests_total": 5, 'refused_total{reason="a_total"}': 1}


@given(st.dictionaries(WORDS, st.integers(0, 2**53), min_size=1))
def test_the_page_gives_back_what_was_counted(counted):
    """Prometheus' own reader finds each number under its words, also where those are hostile."""
    page = metrics.page([], {**stats.by("refused_total", counted, "reason"), "connections": 4})
    families = {family.name: family for family in text_string_to_metric_families(page.decode())}
    refused = families["waitroom_refused"]
    assert refused.type == "counter"
    assert {sample.labels["reason"]: sample.value for sample in refused.samples} == counted
    assert [(sample.name, sample.value) for sample in families["waitroom_connections"].samples] == [
        ("waitroom_connections", 4)
    ]
