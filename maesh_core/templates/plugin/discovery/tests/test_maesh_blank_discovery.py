"""What a file says is in the mesh, and what it says no more is not."""

import json

from maesh_testing import build_service, find_free_port


def test_services_of_the_file_are_served_and_follow_it(start_mesh, start_upstream, tmp_path):
    server, path = start_upstream("found"), tmp_path / "objects.json"
    path.write_text(json.dumps(build_service("found", [(server.address, server.port)])))
    mesh = start_mesh("--blank", "--set", f"blank.path={path}", "--set", "blank.interval=50ms")
    mesh.wait_until(lambda: mesh.get(host="found.test.maesh").text == "found", "the service of the file")
    whole = path.read_text()
    path.write_text("[")
    mesh.wait_until(lambda: "objects.json" in mesh.command.stderr, "a line in the log")
    path.write_text(whole)
    assert mesh.get(host="found.test.maesh").text == "found"
    path.write_text(json.dumps(build_service("found", [("127.0.0.1", find_free_port())])))
    mesh.wait_until(lambda: mesh.get(host="found.test.maesh").status == 502, "a server that is not there")
    path.write_text("[]")
    mesh.wait_until(lambda: mesh.get(host="found.test.maesh").status == 404, "no such service")
    assert mesh.get().text == "app-1"
