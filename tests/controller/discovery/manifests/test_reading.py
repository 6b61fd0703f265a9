import logging
import os

import pytest

from maesh_core.controller.discovery.manifests import files, reading
from maesh_core.controller.discovery.manifests.files import build_root
from maesh_core.controller.discovery.manifests.reading import ManifestReader
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.model.events import Applied, Deleted, Problem
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service

LONG_AGO_S = 1_000_000_000


class Stage:
    """A reader of one folder with a clock that the test moves."""

    def __init__(self, folder, *, is_recursive=False, paths=None):
        self.folder = folder
        roots = [build_root(str(path), is_recursive=is_recursive) for path in paths or [folder]]
        self.reader = ManifestReader(roots, CORE_KINDS, settle_s=0.05)
        self.now = 100.0

    def look(self, *names, later_s=0.0, is_put_in_place=False):
        self.now += later_s
        self.reader.process_hints({str(self.folder / name): is_put_in_place for name in names}, self.now)
        return self.reader.collect_events()

    def change(self, *names):
        """Hint, then wait long enough."""
        return [*self.look(*names), *self.look(later_s=0.06)]


@pytest.fixture
def write(tmp_path, service):
    def write_file(name, text):
        path = tmp_path / name
        path.write_text(text)
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))
        return path

    return write_file


@pytest.fixture
def stage(tmp_path):
    def make(**options):
        made = Stage(tmp_path, **options)
        made.reader.load()
        return made

    return make


def applied(events):
    return [event.resource.metadata.name for event in events if isinstance(event, Applied)]


def test_the_first_load_reads_what_stood_still_and_waits_for_the_rest(write, service, stage, tmp_path):
    write("old.yaml", service("old"))
    (tmp_path / "new.yaml").write_text(service("new"))
    made = stage()
    assert made.reader.next_due() is not None
    assert applied(made.reader.collect_events()) == ["old"]
    assert applied(made.look()) == []
    assert applied(made.look(later_s=0.06)) == ["new"]


def test_only_files_that_changed_are_read_again(write, service, stage, monkeypatch):
    for index in range(20):
        write(f"{index}.yaml", service(f"s{index}"))
    made = stage()
    made.reader.collect_lists(), made.look()
    opened = []
    read_content = files.read_content
    monkeypatch.setattr(reading, "read_content", lambda path, shown: opened.append(path) or read_content(path, shown))
    path = write("7.yaml", service("s7", 81))
    assert applied(made.change("7.yaml", "8.yaml")) == ["s7"]
    assert opened == [str(path)]


def test_a_file_written_while_it_is_read_is_not_applied(write, service, stage, monkeypatch):
    path = write("a.yaml", service("first"))
    made = stage()
    made.reader.collect_lists()
    path.write_text(service("second"))
    read_content = files.read_content

    def read_and_write(path_text, shown):
        found = read_content(path_text, shown)
        path.write_text(service("third-one"))
        monkeypatch.undo()
        return found

    made.look("a.yaml")
    monkeypatch.setattr(reading, "read_content", read_and_write)
    assert made.look(later_s=0.06) == []
    made.look(later_s=0.01)
    assert applied(made.look(later_s=0.06)) == ["third-one"]


def test_an_emptied_file_keeps_what_it_held_and_says_so(write, service, stage):
    write("a.yaml", service("a"))
    made = stage()
    made.reader.collect_lists()
    path = write("a.yaml", "")
    (problem,) = made.change("a.yaml")
    assert isinstance(problem, Problem)
    assert problem.origin == str(path)
    assert "is empty" in problem.text
    write("a.yaml", service("b"))
    assert applied(made.change("a.yaml")) == ["b"]


def list_notices(events):
    return {event.origin: event.text for event in events if isinstance(event, Problem) and event.text}


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n---\n"])
def test_a_file_without_manifests_is_noticed(write, service, stage, content):
    path = write("a.yaml", content)
    write("b.yaml", service("b"))
    found = stage().reader.collect_events()
    assert list_notices(found) == {str(path): "contains no manifest"}
    assert all(event.is_notice for event in found if isinstance(event, Problem))


def test_a_file_with_comments_alone_holds_nothing_until_it_is_filled(write, service, stage):
    write("a.yaml", service("a"))
    write("b.yaml", service("b"))
    made = stage()
    made.reader.collect_lists()
    path = write("a.yaml", "# nothing any more\n")
    events = made.change("a.yaml")
    assert Deleted(Service, ObjectKey("apps", "a")) in events
    assert list_notices(events) == {str(path): "contains no manifest"}
    write("a.yaml", service("a"))
    assert made.change("a.yaml")[-1] == Problem(str(path), None)


DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n"


def test_a_named_file_of_other_kinds_is_noticed_and_one_in_a_folder_is_not(write, service, stage, tmp_path):
    path = write("a.yaml", DEPLOYMENT)
    write("b.yaml", service("b"))
    assert list_notices(stage().reader.collect_events()) == {}
    found = list_notices(stage(paths=[path]).reader.collect_events())
    assert found == {str(path): "contains nothing that the mesh reads: apps/v1 Deployment"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "no file in it ends in .json, .yaml, .yml"),
        (("readme.txt", "sub/readme.txt", ".sub/a.yaml"), "no file in it ends in .json, .yaml, .yml"),
        (
            ("sub/deep/a.yaml",),
            "no file in it ends in .json, .yaml, .yml; folders in it have manifests: -R reads them too",
        ),
        (
            ("a.yaml", "sub/a.yaml"),
            "none of its files contains anything that the mesh reads; folders in it have manifests: -R reads them too",
        ),
    ],
)
def test_a_folder_of_no_use_is_noticed_until_it_is_of_use(write, service, stage, tmp_path, files, said):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(name, DEPLOYMENT)
    made = stage()
    assert list_notices(made.reader.collect_lists()) == {str(tmp_path): said}
    assert list_notices(made.look()) == {}
    write("b.yaml", service("b"))
    assert Problem(str(tmp_path), None) in made.change("b.yaml")


def test_a_folder_whose_files_have_errors_alone_is_not_reported_to_hold_nothing(write, stage):
    write("a.yaml", "[\n")
    assert all("document" in origin for origin in list_notices(stage().reader.collect_events()))


def test_a_folder_is_not_judged_before_its_files_are_read(tmp_path, service, stage):
    (tmp_path / "new.yaml").write_text(service("new"))
    made = stage()
    assert list_notices(made.reader.collect_lists()) == {}
    assert list_notices(made.look(later_s=0.06)) == {}


def test_a_removed_file_that_comes_back_in_time_deletes_nothing(write, service, stage):
    path = write("a.yaml", service("a"))
    made = stage()
    made.reader.collect_lists()
    path.unlink()
    assert made.look("a.yaml") == []
    write("a.yaml", service("a"))
    assert made.look("a.yaml", later_s=0.04) == []
    assert made.look(later_s=0.06) == []


def test_what_is_no_file_any_more_keeps_what_it_held(write, service, stage):
    path = write("a.yaml", service("a"))
    made = stage()
    made.reader.collect_lists()
    path.unlink()
    os.mkfifo(path)
    assert made.change("a.yaml") == [Problem(str(path), "is not a regular file")]
    path.unlink()
    write("a.yaml", service("a"))
    assert made.change("a.yaml") == [Problem(str(path), None)]


def test_skipped_kinds_are_noticed_once_for_each_file(write, stage, caplog):
    deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n"
    write("a.yaml", f"{deployment}---\n{deployment}")
    made = stage()
    write("a.yaml", f"# changed\n{deployment}")
    made.change("a.yaml")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "a.yaml: skipped apps/v1 Deployment" in caplog.text


def test_a_sweep_finds_what_no_hint_reported(write, service, stage, tmp_path):
    write("a.yaml", service("a"))
    gone = write("b.yaml", service("b"))
    made = stage()
    made.reader.collect_lists()
    gone.unlink()
    write("a.yaml", service("a", 81))
    write("c.yaml", service("c"))
    made.reader.sweep()
    events = made.look() + made.look(later_s=0.06)
    assert sorted(applied(events)) == ["a", "c"]
    assert Deleted(Service, ObjectKey("apps", "b")) in events


def test_a_folder_that_went_away_is_a_problem_until_it_is_back(write, service, stage, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    write("m/a.yaml", service("a"))
    made = stage(paths=[folder])
    made.reader.collect_lists()
    folder.rename(tmp_path / "elsewhere")
    made.reader.sweep()
    events = made.look() + made.look(later_s=0.06)
    assert Deleted(Service, ObjectKey("apps", "a")) in events
    assert [event.origin for event in events if isinstance(event, Problem)] == [str(folder)]
    (tmp_path / "elsewhere").rename(folder)
    made.reader.sweep()
    events = made.look() + made.look(later_s=0.06)
    assert applied(events) == ["a"]
    assert Problem(str(folder), None) in events


def test_a_named_file_that_went_away_is_a_problem(write, service, stage):
    path = write("a.txt", service("a"))
    made = stage(paths=[path])
    made.reader.collect_lists()
    path.unlink()
    events = made.change("a.txt")
    assert events == [Deleted(Service, ObjectKey("apps", "a")), Problem(str(path), "no longer exists")]


def test_a_file_named_and_in_a_named_folder_is_read_once(write, service, stage, tmp_path):
    path = write("a.yaml", service("a"))
    made = stage(paths=[tmp_path, path])
    events = made.reader.collect_lists()
    assert not [event for event in events if isinstance(event, Problem)]


def test_folders_that_come_and_go_take_their_files_along(write, service, stage, tmp_path):
    made = stage(is_recursive=True)
    made.reader.collect_lists()
    (tmp_path / "sub").mkdir()
    write("sub/a.yaml", service("a"))
    assert applied(made.change("sub")) == ["a"]
    (tmp_path / "sub").rename(tmp_path.parent / (tmp_path.name + "-gone"))
    assert made.change("sub")[0] == Deleted(Service, ObjectKey("apps", "a"))


def test_other_files_in_the_folder_cause_no_reading(write, service, stage, monkeypatch):
    write("a.yaml", service("a"))
    made = stage()
    made.reader.collect_lists()
    monkeypatch.setattr(reading, "list_files", lambda _: pytest.fail("looked at the whole folder"))
    write("a.yaml~", service("b"))
    assert made.change("a.yaml~", "4913", ".a.yaml.swp") == []


def test_a_stopped_reader_reads_no_further(write, service, stage, tmp_path):
    write("a.yaml", service("a"))
    made = Stage(tmp_path)
    made.reader.stop()
    made.reader.load()
    assert made.reader.collect_events() == []
