"""A cluster's metrics: the leader counts its writes."""

from maesh_core.model.exposition import render_page


async def test_the_leader_counts_what_it_writes(fleet, api_server, service):
    api_server.apply([service("a", 80), service("b", 80)])
    replica = await fleet.start()

    async def find():
        page, _ = render_page([replica.cluster.collect_metrics])
        text = page.decode()
        line = 'maesh_controller_shadow_service_writes_total{operation="create",result="written"} 2.0'
        return text if line in text else None

    text = await fleet.until(find)
    assert "maesh_controller_out_of_touch_seconds 0.0" in text
    assert "maesh_controller_shadow_service_errors 0.0" in text
    assert "maesh_controller_dns_failing 0.0" in text


async def test_a_kind_that_cannot_be_followed_is_not_synced(fleet, api_server, service):
    replica = await fleet.start()
    source = replica.cluster.source
    kinds = {watch.kind.name: watch.kind for watch in source._watches}

    async def find():
        return all(source.is_followed(kind) for kind in kinds.values())

    await fleet.until(find)
    watch = next(watch for watch in source._watches if watch.kind.name == "Service")
    watch.broken_since = 1.0
    assert not source.is_followed(kinds["Service"])
    assert source.is_followed(kinds["Pod"])
