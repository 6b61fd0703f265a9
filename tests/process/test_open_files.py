import resource

from maesh_core.process.open_files import find_open_files_limit, raise_open_files_limit


def test_the_limit_is_raised_to_what_the_system_grants(monkeypatch):
    limits = {"now": (256, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.update(now=wanted))
    assert find_open_files_limit() == 256
    raise_open_files_limit()
    assert find_open_files_limit() == 4096


def test_a_limit_that_is_named_and_not_granted_stays(monkeypatch):
    def refuse(_, wanted):
        raise ValueError(wanted)

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_open_files_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_an_infinite_limit_of_open_files_is_none(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert find_open_files_limit() is None
