// One service port: what is wrong and what to do, figures over time, servers, branches, callers, routes and rules.

import { describeEncryption, findEncryptedShare, judgePaths, readPaths } from "../logic/encryption";
import { formatBytes, formatCount, formatRate, formatSeconds, formatShare } from "../logic/format";
import type { Samples } from "../logic/history";
import type { Latency, ServiceTraffic, TopologyService, TrafficTarget, Window } from "../logic/model";
import { splitKey, topologyKey } from "../logic/model";
import { isIntended } from "../logic/advice";
import { findConfigured } from "../logic/routes";
import type { Configured } from "../logic/routes";
import type { Row } from "../logic/rows";
import { sortCounts, toneOfSuccess } from "../logic/rows";
import { findDestination, parseCaller } from "../logic/graph";
import { Empty, Figure, HealthMark, Loading, Lock, Remark, Section, Shield, Table } from "../parts/bits";
import { Chart } from "../parts/Chart";
import { useDocument, useStore, useTitle } from "../parts/hooks";
import { linkTo, linkToService } from "../parts/route";

export function ServicePage({ serviceKey }: { serviceKey: string }) {
  const [{ rows, services, topology, configuration, phase }, store] = useStore();
  useDocument("topology");
  useDocument("configuration");
  const asked = splitKey(serviceKey);
  useTitle(asked.name);
  const row = rows.find((each) => each.key === serviceKey) ?? rows.find((each) => !asked.port && isOf(each, asked));
  if (!row && !services)
    return phase === "lost" ? <Empty title="The controller does not answer" /> : <Loading what="the service" />;
  if (!row)
    return (
      <Empty title={`No service ${serviceKey}`}>
        <p>
          It may have been removed. <a href="#/">All services</a>
        </p>
      </Empty>
    );
  const node = topology?.services[topologyKey(row.key)];
  const targets = (node?.trafficTargets ?? []).flatMap((name) => topology?.serviceTrafficTargets?.[name] ?? []);
  const isLocked = node !== undefined && "acl" in node.additions;
  const configured = findConfigured(configuration, row.key);
  const byKey = new Map(rows.map((each) => [each.key, each]));
  return (
    <div class="page service">
      <Head row={row} isLocked={isLocked} ports={rows.filter((each) => isOf(each, row))} />
      <Problems row={row} />
      <Figures row={row} />
      <Charts samples={store.history.get(row.key)} noun={nounOf(row)} />
      <Outcomes traffic={row.traffic} />
      {row.traffic && <Branches traffic={row.traffic} byKey={byKey} />}
      {row.traffic && <Rules traffic={row.traffic} />}
      <Servers traffic={row.traffic} configured={configured} />
      {row.traffic && <Callers traffic={row.traffic} />}
      {isLocked && <Access row={row} targets={targets} />}
      <Routes configured={configured} node={node} isLoaded={configuration !== null} />
    </div>
  );
}

function isOf(row: Row, asked: { namespace: string; name: string }): boolean {
  return row.namespace === asked.namespace && row.name === asked.name;
}

function Head({ row, isLocked, ports }: { row: Row; isLocked: boolean; ports: Row[] }) {
  const name = `${row.namespace}/${row.name}`;
  return (
    <div class="title">
      <h1>
        {row.name} <small>{row.namespace}</small>
      </h1>
      <HealthMark health={row.health} />
      {isLocked && (
        <span class="mark remarked">
          <Lock title="Access control decides who may call" /> access control
        </span>
      )}
      <EncryptionMark row={row} />
      <p class="facts">
        {row.host && <code>{row.host}</code>} {row.trafficType} port {row.port}
        {row.entrypoint !== null && `, entrypoint ${row.entrypoint}`}
      </p>
      <p class="links">
        <a href={linkTo("tap", { service: name })}>Tap</a>
        <a href={linkTo("graph", { around: row.key })}>Graph</a>
        <a href={linkTo("why", { service: `${row.name}.${row.namespace}`, port: row.port })}>Why?</a>
        {ports.length > 1 &&
          ports.map((each) => (
            <a
              key={each.key}
              href={linkToService(each.key)}
              {...(each.key === row.key ? { "aria-current": "page" } : {})}
            >
              port {each.port}
            </a>
          ))}
      </p>
    </div>
  );
}

/** A shield, and why traffic to other nodes was in clear in the last minute. */
function EncryptionMark({ row }: { row: Row }) {
  const last = row.traffic?.last;
  const encryption = last ? judgePaths(readPaths(last)) : "none";
  if (!last || encryption === "none") return null;
  const reasons = sortCounts(last.clearReasons ?? {}).map(([reason, count]) => `${reason} (${formatCount(count)})`);
  return (
    <span class={`mark shield ${encryption}`} title={reasons.length ? `in clear: ${reasons.join(", ")}` : undefined}>
      <Shield title={describeEncryption(encryption)} /> {encryption === "clear" ? "in clear" : encryption}
      {reasons.length > 0 && <small> {reasons.join(", ")}</small>}
    </span>
  );
}

/** Errors, notices, and the mesh's own answers of the last minute, each with what to do. */
function Problems({ row }: { row: Row }) {
  const reasons = sortCounts(row.traffic?.last.reasons ?? {})
    .filter(([reason]) => !isIntended(reason))
    .slice(0, 6);
  const aside = row.traffic?.servers.filter((each) => each.isSetAside) ?? [];
  const isQuiet = !row.errors.length && !row.notices.length && !reasons.length && !aside.length && !row.unserved;
  if (isQuiet && row.health !== "failing" && row.health !== "degraded") return null;
  return (
    <div class="problems">
      {row.errors.map((text) => (
        <Remark key={text} kind="error" text={text} origin="The service is closed:" />
      ))}
      {row.unserved && <Remark kind="error" text={`no ready server: ${row.unserved}`} />}
      {row.traffic && row.traffic.openBreakers > 0 && <Remark kind="error" text="the circuit breaker is open" />}
      {isQuiet && <Remark kind={row.health === "failing" ? "error" : "notice"} text={row.why} origin="Last minute:" />}
      {reasons.map(([reason, count]) => (
        <Remark
          key={reason}
          kind={/rate limit|denied|allowed/.test(reason) ? "notice" : "error"}
          text={reason}
          origin={`${formatCount(count)} × in the last minute:`}
        />
      ))}
      {aside.map((each) => (
        <Remark
          key={each.server}
          kind="notice"
          text={`server ${each.server} ${each.pod && `(${each.pod}) `}is set aside, because connections to it failed; it is tried again soon`}
        />
      ))}
      {row.notices.map((text) => (
        <Remark key={text} kind="notice" text={text} />
      ))}
    </div>
  );
}

function Figures({ row }: { row: Row }) {
  if (!row.traffic) return null;
  const { last, total } = row.traffic;
  return (
    <dl class="figures">
      {isStream(row) ? (
        <Figure label={`${nounOf(row)}, last minute`} value={formatCount(last.connections)} />
      ) : (
        <>
          <Figure label="Requests/s" value={formatRate(last.rate)} />
          <Figure label="Success" value={formatShare(last.success)} tone={toneOfSuccess(last.success)} />
          <Figure label="p50" value={formatSeconds(last.total.p50)} />
          <Figure label="p95" value={formatSeconds(last.total.p95)} />
          <Figure label="p99" value={formatSeconds(last.total.p99)} />
          <Figure label="p95 of servers" value={formatSeconds(last.upstream.p95)} />
          <Figure label="Retries" value={formatCount(last.retries)} />
          <Figure label="Limited" value={formatCount(last.limited)} />
          <Figure label="Denied" value={formatCount(last.denied)} />
        </>
      )}
      {findEncryptedShare(readPaths(last)) !== null && (
        <Figure label="Encrypted" value={formatShare(findEncryptedShare(readPaths(last)))} />
      )}
      <Figure label="Received" value={formatBytes(last.receivedBytes)} />
      <Figure label="Sent" value={formatBytes(last.sentBytes)} />
      <Figure
        label={isStream(row) ? "Total, since start" : "Total requests"}
        value={formatCount(total.requests || total.connections)}
      />
    </dl>
  );
}

function Charts({ samples, noun }: { samples: Samples | undefined; noun: string }) {
  if (!samples || samples.at.length < 2) return null;
  return (
    <div class="charts">
      <Chart
        title={`${noun} per second`}
        at={samples.at}
        format={formatRate}
        series={[{ label: `${noun.toLowerCase()}/s`, color: "--accent", values: samples.rate }]}
      />
      <Chart
        title="Success"
        at={samples.at}
        top={1.02}
        format={(value) => (value > 1 ? "" : `${Math.round(value * 100)} %`)}
        series={[{ label: "success", color: "--fine", values: samples.success }]}
      />
      <Chart
        title="95th percentile"
        at={samples.at}
        format={formatSeconds}
        series={[{ label: "p95", color: "--degraded", values: samples.p95 }]}
      />
    </div>
  );
}

function Outcomes({ traffic }: { traffic: ServiceTraffic | null }) {
  const total = traffic?.total;
  if (!total || !(Object.keys(total.codes).length || Object.keys(total.grpc).length)) return null;
  const grpc = Object.entries(total.grpc).map(([code, count]): [string, number] => [`gRPC ${code}`, count]);
  const lastOf = (name: string, last: Window) =>
    name.startsWith("gRPC ") ? last.grpc[name.slice(5)] : (last.codes[name] ?? last.reasons[name]);
  const lines = [...sortCounts(total.codes), ...grpc, ...sortCounts(total.reasons)];
  return (
    <Section title="Outcomes">
      <Table head={["Status or reason", "Last minute", "Since start"]} label="Outcomes">
        {lines.map(([name, count]) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td class="number">{formatCount(lastOf(name, traffic.last) ?? 0)}</td>
            <td class="number">{formatCount(count)}</td>
          </tr>
        ))}
      </Table>
    </Section>
  );
}

function Branches({ traffic, byKey }: { traffic: ServiceTraffic; byKey: Map<string, Row> }) {
  if (!traffic.branches.length) return null;
  // Its own servers are a branch, also if a split sends them nothing.
  const branches = traffic.branches.filter(
    (each) => each.destination !== traffic.key || each.weight !== 0 || countOf(each.total) > 0,
  );
  const sum = traffic.branches.reduce((total, each) => total + countOf(each.last), 0);
  return (
    <Section
      title="Branches"
      note="weights are configured; shares are measured in the last minute, and include requests that a split or route selects by their content"
    >
      <Table head={["Destination", "Weight", "Share", "", ...measuredOf(traffic)]} label="Branches">
        {branches.map((branch) => {
          const key = findDestination(branch.destination, traffic, byKey);
          const { namespace, name, port } = splitKey(key);
          const path = splitKey(branch.destination).branch.split("/").slice(0, -1).join(" ");
          const share = sum ? countOf(branch.last) / sum : null;
          return (
            <tr key={branch.destination}>
              <th scope="row">
                {key === traffic.key ? (
                  "its own servers"
                ) : (
                  <a href={linkToService(key)}>{`${namespace}/${name}:${port}`}</a>
                )}
                {path && <span class="quiet"> {path}</span>}
              </th>
              <td class="number">{branch.weight === null ? "by content" : formatShare(branch.weight)}</td>
              <td class="number">{formatShare(share)}</td>
              <td>
                <Bar share={share ?? 0} weight={branch.weight} />
              </td>
              {isStream(traffic) ? (
                <StreamMeasured window={branch.last} />
              ) : (
                <Measured window={branch.last} latency={branch.last.total} />
              )}
            </tr>
          );
        })}
      </Table>
    </Section>
  );
}

function Rules({ traffic }: { traffic: ServiceTraffic }) {
  if (!traffic.rules?.length) return null;
  return (
    <Section title="Rules" note="of the service's routes; measured in the last minute">
      <Table head={["Rule", ...measuredOf(traffic), ...(isStream(traffic) ? ["Failures"] : [])]} label="Rules">
        {traffic.rules.map((each) => (
          <tr key={each.rule}>
            <th scope="row">{each.rule}</th>
            {isStream(traffic) ? (
              <>
                <StreamMeasured window={each.last} />
                <td class="number">{listCounts(each.last.reasons)}</td>
              </>
            ) : (
              <Measured window={each.last} latency={each.last.total} />
            )}
          </tr>
        ))}
      </Table>
    </Section>
  );
}

/** A measured share as a bar, with a line where its weight is. */
function Bar({ share, weight }: { share: number; weight: number | null }) {
  return (
    <svg class="bar" viewBox="0 0 100 10" width="100" height="10" preserveAspectRatio="none" aria-hidden="true">
      <rect class="whole" width="100" height="10" />
      <rect class="part" width={(share * 100).toFixed(1)} height="10" />
      {weight !== null && <rect class="weight" x={(weight * 100 - 0.7).toFixed(1)} width="1.4" height="10" />}
    </svg>
  );
}

/** Whether it is a service of TCP or UDP, which counts connections or sessions instead of requests. */
function isStream({ trafficType }: { trafficType: string }): boolean {
  return trafficType === "tcp" || trafficType === "udp";
}

function countOf(window: Window): number {
  return window.requests || window.connections;
}

/** The titles of the measured columns of a service's branches and rules. */
function measuredOf(traffic: ServiceTraffic): string[] {
  return isStream(traffic) ? [`${nounOf(traffic)}/s`, "Received", "Sent"] : MEASURED;
}

/** What is counted of a service. */
function nounOf({ trafficType }: { trafficType: string }): string {
  return { tcp: "Connections", udp: "Sessions" }[trafficType] ?? "Requests";
}

function listCounts(counts: Record<string, number>): string {
  return (
    sortCounts(counts)
      .map(([name, count]) => `${name} ${formatCount(count)}`)
      .join(", ") || "–"
  );
}

/** The cells of these columns for TCP and UDP. */
function StreamMeasured({ window }: { window: Window }) {
  return (
    <>
      <td class="number">{formatRate(window.rate)}</td>
      <td class="number">{formatBytes(window.receivedBytes)}</td>
      <td class="number">{formatBytes(window.sentBytes)}</td>
    </>
  );
}

const MEASURED = ["Requests/s", "Success", "p50", "p95", "p99"];

/** The cells of MEASURED; a server has the durations until its response, others those of whole requests. */
function Measured({ window, latency }: { window: Window; latency: Latency }) {
  return (
    <>
      <td class="number">{formatRate(window.rate)}</td>
      <td class={`number text ${toneOfSuccess(window.success)}`}>{formatShare(window.success)}</td>
      {[latency.p50, latency.p95, latency.p99].map((seconds, index) => (
        <td key={index} class="number">
          {formatSeconds(seconds)}
        </td>
      ))}
    </>
  );
}

function Servers({ traffic, configured }: { traffic: ServiceTraffic | null; configured: Configured | null }) {
  const servers = traffic?.servers ?? [];
  if (!servers.length && !configured) return null;
  const isStreams = traffic !== null && isStream(traffic);
  const measured = isStreams ? measuredOf(traffic) : [...MEASURED, "Received", "Sent"];
  return (
    <Section
      title="Servers"
      note={`measured in the last minute${isStreams ? "" : "; durations are those until the head of a response"}`}
    >
      {servers.length ? (
        <Table head={["Server", "Pod", "State", ...measured, isStreams ? "Failures" : "Status"]} label="Servers">
          {servers.map((each) => (
            <tr key={each.server}>
              <th scope="row">{each.server}</th>
              <td>
                {each.pod || "–"} {each.node && <span class="quiet">on {each.node}</span>}
              </td>
              <td>
                {each.isSetAside ? <span class="text degraded">set aside</span> : <span class="text fine">in use</span>}
              </td>
              {isStreams ? (
                <StreamMeasured window={each.last} />
              ) : (
                <>
                  <Measured window={each.last} latency={each.last.upstream} />
                  <td class="number">{formatBytes(each.last.receivedBytes)}</td>
                  <td class="number">{formatBytes(each.last.sentBytes)}</td>
                </>
              )}
              <td class="number">{listCounts(isStreams ? each.last.reasons : each.last.codes)}</td>
            </tr>
          ))}
        </Table>
      ) : (
        <p class="quiet">
          {configured?.router.rules ? "Its requests go to the servers of its routes." : "No server was measured yet."}
        </p>
      )}
    </Section>
  );
}

function Callers({ traffic }: { traffic: ServiceTraffic }) {
  const callers = [...traffic.callers].sort(
    (one, other) => other.last.rate - one.last.rate || (one.caller < other.caller ? -1 : 1),
  );
  const measured = isStream(traffic) ? [`${nounOf(traffic)}/s`] : MEASURED; // the bytes of callers are not counted
  return (
    <Section title="Callers" note={callers.length > 100 ? `the first 100 of ${callers.length}` : ""}>
      {callers.length ? (
        <Table
          head={["Caller", "Account", "Pods or addresses", ...measured, "Denied", "Since start", ""]}
          label="Callers"
        >
          {callers.slice(0, 100).map((each) => {
            const { label, detail } = parseCaller(each.caller);
            const client = each.pods[0] ?? each.addresses[0] ?? "";
            return (
              <tr key={each.caller}>
                <th scope="row">
                  {label} <span class="quiet">{detail}</span>
                </th>
                <td>{each.account || "–"}</td>
                <td title={[...each.pods, ...each.addresses].join(", ")}>
                  {each.pods[0] ?? each.addresses[0] ?? "–"}
                  {Math.max(each.pods.length, each.addresses.length) > 1 &&
                    ` and ${Math.max(each.pods.length, each.addresses.length) - 1} more`}
                </td>
                {isStream(traffic) ? (
                  <td class="number">{formatRate(each.last.rate)}</td>
                ) : (
                  <Measured window={each.last} latency={each.last.total} />
                )}
                <td class={`number text ${each.last.denied ? "remarked" : ""}`}>{formatCount(each.last.denied)}</td>
                <td class="number">{formatCount(each.total.requests || each.total.connections)}</td>
                <td>
                  {client && (
                    <a
                      href={linkTo("why", {
                        client,
                        service: `${traffic.name}.${traffic.namespace}`,
                        port: traffic.port,
                      })}
                    >
                      Why?
                    </a>
                  )}
                </td>
              </tr>
            );
          })}
        </Table>
      ) : (
        <p class="quiet">Nobody has called this service since the proxies started.</p>
      )}
    </Section>
  );
}

function Access({ row, targets }: { row: Row; targets: TrafficTarget[] }) {
  return (
    <Section title="Who may call">
      {targets.length ? (
        <Table head={["TrafficTarget", "Accounts", "Requests"]} label="TrafficTargets">
          {targets.map((target) => (
            <tr key={`${target.namespace}/${target.name}`}>
              <th scope="row">
                {target.namespace}/{target.name}
              </th>
              <td>
                {target.sources.map((each) => `${each.serviceAccount} in ${each.namespace}`).join(", ") || "nobody"}
              </td>
              <td>
                {target.rules.length
                  ? target.rules
                      .map(
                        (rule) =>
                          `${rule.kind} ${rule.name}${rule.matches?.length ? `: ${rule.matches.join(", ")}` : ""}`,
                      )
                      .join("; ")
                  : "all"}
              </td>
            </tr>
          ))}
        </Table>
      ) : (
        <p>No TrafficTarget allows anybody to call this service.</p>
      )}
      <p>
        <a href={linkTo("why", { service: `${row.name}.${row.namespace}`, port: row.port })}>
          Why is a request allowed or refused?
        </a>
      </p>
    </Section>
  );
}

function Routes({
  configured,
  node,
  isLoaded,
}: {
  configured: Configured | null;
  node: TopologyService | undefined;
  isLoaded: boolean;
}) {
  const annotations = Object.entries(node?.annotations ?? {});
  if (!configured && !isLoaded) return <Loading what="routes" />;
  return (
    <Section title="Routes, middlewares and annotations">
      {configured?.router.status !== undefined && configured.router.status > 0 && !configured.router.service && (
        <p class="text failing">
          Closed: {configured.router.status} {configured.router.reason}
        </p>
      )}
      {configured && (
        <Table head={["Requests", "Go to"]} label="Routes">
          {configured.routes.map((route, index) => (
            <tr key={index}>
              <th scope="row">
                {route.condition} {route.name && <span class="quiet">{route.name}</span>}
              </th>
              <td>
                {route.targets.map((target) => (
                  <div key={target.name + target.result}>
                    {route.targets.length > 1 && `${formatShare(target.share)} `}
                    {target.name} <span class="quiet">{target.result}</span>
                  </div>
                ))}
              </td>
            </tr>
          ))}
        </Table>
      )}
      {configured?.router.hosts && <p class="quiet">Hosts: {configured.router.hosts.join(", ")}</p>}
      {configured && configured.middlewares.length > 0 && (
        <dl class="pairs">
          {configured.middlewares.map(({ kind, settings }) => [
            <dt key={kind}>{kind}</dt>,
            <dd key={`${kind} settings`}>{settings || "on"}</dd>,
          ])}
        </dl>
      )}
      {annotations.length > 0 && (
        <dl class="pairs">
          {annotations.map(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name} value`}>{value}</dd>])}
        </dl>
      )}
      {!configured && <p class="quiet">The configuration has no router for this port.</p>}
    </Section>
  );
}
