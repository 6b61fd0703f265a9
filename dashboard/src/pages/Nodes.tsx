// The proxies with their revisions, the controller, and the objects with errors.

import { formatAge, formatCount } from "../logic/format";
import { Empty, Loading, Remark, Section, Table } from "../parts/bits";
import { useStore, useTitle } from "../parts/hooks";

export function NodesPage() {
  const [{ nodes, traffic, controller, objects, services, phase }] = useStore();
  useTitle("Nodes");
  if (!services || !controller)
    return phase === "lost" ? <Empty title="The controller does not answer" /> : <Loading what="nodes" />;
  const known = new Set(nodes.map((node) => node.name));
  const elsewhere = (traffic?.nodes ?? []).filter((node) => !known.has(node.name));
  const measured = new Map((traffic?.nodes ?? []).map((node) => [node.name, node]));
  const problems = Object.entries(controller.problems);
  const findings = objects.filter((each) => each.kind !== "Service" && (each.errors.length || each.notices.length));
  return (
    <div class="page">
      <h1>Nodes</h1>
      <Section title="Proxies" note={`${nodes.length + elsewhere.length} pulled within the last hour`}>
        {nodes.length + elsewhere.length ? (
          <Table head={["Node", "State", "Revision", "Last pull", "Connections", "Address"]} label="Proxies">
            {nodes.map((node) => {
              const found = measured.get(node.name);
              const isCurrent = node.revision === controller.revision;
              return (
                <tr key={`${node.name} ${node.ip}`}>
                  <th scope="row">{node.name}</th>
                  <td>
                    {found?.error ? (
                      <span class="text failing">does not answer: {found.error}</span>
                    ) : node.ready ? (
                      <span class="text fine">ready</span>
                    ) : found?.isRefused ? (
                      <span class="text degraded">cannot pull, keeps its configuration</span>
                    ) : (
                      <span class="text degraded">has no configuration yet</span>
                    )}
                  </td>
                  <td title={node.revision ?? ""}>
                    {node.revision?.split(".").at(-1) ?? "–"}{" "}
                    {isCurrent ? <span class="quiet">current</span> : <span class="text degraded">behind</span>}
                  </td>
                  <td>{formatAge((Date.now() - Date.parse(node.lastSeen)) / 1000)}</td>
                  <td class="number">{found && !found.error ? formatCount(found.connections) : "–"}</td>
                  <td>{node.ip}</td>
                </tr>
              );
            })}
            {elsewhere.map((node) => (
              <tr key={node.name}>
                <th scope="row">{node.name}</th>
                <td>
                  {node.error ? (
                    <span class="text failing">does not answer: {node.error}</span>
                  ) : node.isRefused ? (
                    <span class="text degraded">cannot pull, keeps its configuration</span>
                  ) : (
                    <span class="quiet">pulls from another controller</span>
                  )}
                </td>
                <td title={node.revision ?? ""}>{node.revision?.split(".").at(-1) ?? "–"}</td>
                <td>–</td>
                <td class="number">{node.error ? "–" : formatCount(node.connections)}</td>
                <td>–</td>
              </tr>
            ))}
          </Table>
        ) : (
          <Empty title="No proxy has pulled a configuration">
            <p>
              Start one with <code>maesh proxy --endpoint {window.location.origin}</code>, or check that the DaemonSet
              runs.
            </p>
          </Empty>
        )}
      </Section>
      <Section title="Controller">
        <dl class="pairs">
          <dt>Name</dt>
          <dd>{controller.name}</dd>
          <dt>Role</dt>
          <dd>{controller.leads ? "leads" : `follows ${controller.leader ?? "nobody"}`}</dd>
          <dt>Revision</dt>
          <dd>
            <code>{controller.revision}</code>
          </dd>
          <dt>Services</dt>
          <dd>{services.length}</dd>
        </dl>
        {problems.map(([origin, text]) => (
          <Remark key={origin} kind="error" text={text} origin={`${origin}:`} />
        ))}
      </Section>
      {findings.length > 0 && (
        <Section title="Objects with errors or notices" note={String(findings.length)}>
          {findings.slice(0, 200).map((each) => {
            const name = each.name ? `${each.kind} ${each.namespace}/${each.name}:` : `${each.origin}:`;
            return [
              ...each.errors.map((text) => <Remark key={name + text} kind="error" text={text} origin={name} />),
              ...each.notices.map((text) => <Remark key={name + text} kind="notice" text={text} origin={name} />),
            ];
          })}
        </Section>
      )}
      {traffic && Object.keys(traffic.refused).length > 0 && (
        <Section title="Refused before routing" note="since the proxies started">
          <p class="quiet">
            Requests without a service: unknown hosts, malformed requests, and connections over a limit.
          </p>
          <dl class="pairs">
            {Object.entries(traffic.refused).map(([status, count]) => [
              <dt key={status}>{status}</dt>,
              <dd key={`${status} count`}>{formatCount(count)}</dd>,
            ])}
          </dl>
        </Section>
      )}
    </div>
  );
}
