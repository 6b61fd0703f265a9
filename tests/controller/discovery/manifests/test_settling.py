from maesh_core.controller.discovery.manifests.files import Signature
from maesh_core.controller.discovery.manifests.settling import Settling

SETTLE_S = 0.05
PATH = "/m/a.yaml"


def make_signature(inode=1, size=10, modified_s=1000.0, changed_s=None):
    changed_s = modified_s if changed_s is None else changed_s
    return Signature(1, inode, size, int(modified_s * 1e9), int(changed_s * 1e9))


class Stage:
    """A settling with a clock and a file that the test moves."""

    def __init__(self, known=None):
        self.settling = Settling(SETTLE_S)
        self.known = known
        self.file = known
        self.now = 100.0

    def note(self, *, is_put_in_place=False):
        self.settling.note(PATH, is_put_in_place=is_put_in_place)

    def take(self, later_s=0.0):
        self.now += later_s
        return self.settling.pop_due(self.now, lambda _: self.file, lambda _: self.known)


def test_a_written_file_is_due_once_it_stood_still():
    stage = Stage(known=make_signature())
    stage.file = make_signature(size=20, modified_s=1001)
    stage.note()
    assert stage.take() == {}
    assert stage.take(0.049) == {}
    assert stage.take(0.002) == {PATH: stage.file}
    assert stage.settling.next_due() is None


def test_a_file_that_goes_on_changing_is_not_due():
    stage = Stage(known=make_signature())
    stage.note()
    for step in range(10):
        stage.file = make_signature(size=20 + step)
        assert stage.take(0.04) == {}
    assert stage.take(0.06) == {PATH: stage.file}


def test_a_file_whose_time_alone_changes_is_not_due():
    stage = Stage(known=make_signature())
    stage.note()
    for step in range(5):
        stage.file = make_signature(modified_s=1001 + step)
        assert stage.take(0.04) == {}


def test_a_file_renamed_over_a_known_one_is_due_at_once():
    stage = Stage(known=make_signature(inode=1))
    stage.file = make_signature(inode=2)
    stage.note(is_put_in_place=True)
    assert stage.take() == {PATH: stage.file}


def test_a_recreated_file_is_read_when_it_no_longer_changes():
    stage = Stage(known=make_signature(inode=1))
    stage.file = make_signature(inode=2)
    stage.note(is_put_in_place=False)
    assert stage.take() == {}


def test_an_appearance_after_a_removal_is_no_renaming_into_place():
    stage = Stage(known=make_signature(inode=1))
    stage.note(is_put_in_place=False)
    stage.file = None
    assert stage.take() == {}
    stage.file = make_signature(inode=2)
    stage.note(is_put_in_place=True)
    assert stage.take(0.01) == {}


def test_a_new_file_must_stand_still():
    stage = Stage()
    stage.file = make_signature()
    stage.note(is_put_in_place=True)
    assert stage.take() == {}
    assert stage.take(0.06) == {PATH: stage.file}


def test_a_new_file_that_was_written_long_before_it_was_put_there_is_due_at_once():
    stage = Stage()
    stage.file = make_signature(modified_s=1000, changed_s=1001)
    stage.note(is_put_in_place=True)
    assert stage.take() == {PATH: stage.file}


def test_an_empty_new_file_is_never_treated_as_finished():
    stage = Stage()
    stage.file = make_signature(size=0, modified_s=1000, changed_s=1001)
    stage.note(is_put_in_place=True)
    assert stage.take() == {}


def test_a_written_file_whose_rights_change_must_stand_still():
    stage = Stage(known=make_signature())
    stage.file = make_signature(changed_s=1005)
    stage.note(is_put_in_place=True)
    assert stage.take() == {}


def test_a_removed_file_is_gone_once_it_stayed_away():
    stage = Stage(known=make_signature())
    stage.file = None
    stage.note()
    assert stage.take() == {}
    assert stage.take(0.06) == {PATH: None}


def test_a_file_that_comes_back_in_time_was_never_gone():
    stage = Stage(known=make_signature(inode=1))
    stage.file = None
    stage.note()
    assert stage.take() == {}
    stage.file = make_signature(inode=2, size=20)
    assert stage.take(0.04) == {}
    assert stage.take(0.06) == {PATH: stage.file}


def test_what_is_pending_tells_when_to_look_again():
    stage = Stage(known=make_signature())
    stage.file = None
    stage.note()
    stage.take()
    assert stage.settling.next_due() == stage.now + SETTLE_S
