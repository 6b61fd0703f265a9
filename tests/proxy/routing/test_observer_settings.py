"""Observers get the settings of their kind, by service, and only when these change."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from maesh_core.model.configuration import Middleware
from maesh_core.proxy.routing.observer_settings import ObserverSettings


class Seen(msgspec.Struct, frozen=True):
    is_seen: bool


class Observer:
    """Keeps what it is given."""

    name = "eye"
    kind = "eye"
    settings_type = Seen

    def __init__(self) -> None:
        self.applied: list[Mapping[str, Seen]] = []

    def apply_settings(self, settings: Mapping[str, Seen]) -> None:
        self.applied.append(settings)


def build(*, value: Any = True, kind: str = "eye") -> Middleware:
    return Middleware(kind=kind, settings={"is_seen": value})


def test_an_observer_gets_the_settings_of_its_kind_of_all_protocols() -> None:
    observer = Observer()
    settings = ObserverSettings([observer, object()])
    settings.apply([{"shop/cart/eye": build(), "shop/cart/retry": build(kind="retry")}, {"shop/db/eye": build()}])
    assert observer.applied == [{"shop/cart": Seen(True), "shop/db": Seen(True)}]
    assert repr(settings) == "<ObserverSettings [2]>"


def test_the_settings_of_one_port_are_those_of_its_service_port() -> None:
    observer = Observer()
    ObserverSettings([observer]).apply([{"shop/cart/eye": build(), "shop/cart/eye/81": build(value=False)}])
    assert observer.applied == [{"shop/cart": Seen(True), "shop/cart:81": Seen(False)}]


def test_only_a_change_is_passed_on() -> None:
    observer, section = Observer(), {"shop/cart/eye": build()}
    settings = ObserverSettings([observer])
    settings.apply([{}])
    for sections in ([section], [section], [dict(section)], [section, {"shop/db/retry": build(kind="retry")}]):
        settings.apply(sections)
    assert observer.applied == [{"shop/cart": Seen(True)}]
    settings.apply([{"shop/cart/eye": build(value=False)}])
    settings.apply([{}])
    assert observer.applied[1:] == [{"shop/cart": Seen(False)}, {}]


def test_settings_that_cannot_be_decoded_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    observer = Observer()
    ObserverSettings([observer]).apply([{"shop/cart/eye": build(value="?"), "shop/db/eye": build()}])
    assert observer.applied == [{"shop/db": Seen(True)}]
    assert "observer eye: the settings of shop/cart are invalid" in caplog.text


def test_an_observer_that_raises_affects_no_other(caplog: pytest.LogCaptureFixture) -> None:
    broken, other = Observer(), Observer()
    broken.applied = None
    ObserverSettings([broken, other]).apply([{"shop/db/eye": build()}])
    assert other.applied == [{"shop/db": Seen(True)}]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
