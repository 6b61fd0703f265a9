from maesh_core.model.findings import Findings, join_findings


def test_findings_are_true_where_there_is_any():
    assert not Findings()
    assert Findings(errors=("bad",))
    assert Findings(notices=("odd",))


def test_joined_findings_have_each_text_once_in_the_order_of_the_parts():
    parts = [Findings(("a", "b"), ("n",)), Findings(("b", "c")), Findings((), ("m", "n"))]
    assert join_findings(parts) == Findings(("a", "b", "c"), ("n", "m"))
    assert join_findings(parts).texts == ("a", "b", "c", "n", "m")
    assert join_findings(()) == Findings()


def test_joined_findings_are_one_printable_line_each():
    found = join_findings([Findings(("no service \x1b[31ma\nb",), ("source c\r\n",))])
    assert found == Findings((r"no service \x1b[31ma b",), ("source c",))
