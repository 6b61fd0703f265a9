"""Objects that cannot be decoded: reported as problems, and withdrawn."""

from .watch_script import CUT, ORIGIN, STAYS, bad, build, error_line, play, render_line, render_page, shorten


async def test_an_object_that_becomes_invalid_is_a_problem_and_deleted_until_it_is_valid():
    played = await play(
        render_page("5", "a"),
        [[render_line("MODIFIED", bad("a", "6"), "6")], [render_line("MODIFIED", "a", "7")], STAYS],
    )
    assert played.events == ["=a", "~", "!a@apps", "-a", "~a@apps", "+a"]
    assert "ServiceAccount a@apps cannot be read: Expected `object`" in played.batches[2][0].text


async def test_a_bad_object_that_is_deleted_is_no_problem_any_more():
    played = await play(render_page("5", bad("a"), "b"), [[render_line("DELETED", bad("a", "6"), "6")], STAYS])
    assert played.events == ["=b", "!a@apps", "~", "~a@apps", "-a"]


async def test_a_list_withdraws_problems_of_objects_that_are_valid_or_gone():
    played = await play(
        render_page("5", bad("a"), bad("b"), bad("c"), "d"),
        [[error_line(410)]],
        render_page("9", "a", bad("c")),
        [STAYS],
    )
    assert played.events == [
        "=d",
        "!a@apps",
        "!b@apps",
        "!c@apps",
        "~",
        "!",
        "=a",
        "~a@apps",
        "~b@apps",
        "!c@apps",
        "~",
    ]
    assert list(played.problems) == [f"{ORIGIN} c@apps"]


async def test_an_impossible_object_name_is_escaped_in_a_problem():
    played = await play(render_page("5", build("a\nb" + "x" * 999)), [STAYS])
    (origin,) = played.problems
    assert "\n" not in origin + played.problems[origin]
    assert len(origin) < 200


async def test_all_problems_can_be_withdrawn():
    played = await play(render_page("5", bad("b"), bad("a")), CUT)
    assert [shorten(event) for event in played.watch.withdraw_problems()] == ["~", "~a@apps", "~b@apps"]
