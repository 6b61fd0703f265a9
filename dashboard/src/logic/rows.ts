// The rows of the overview: joins /api/services with /api/traffic, and decides which services have a problem.

import type { ServerTraffic, ServicePort, ServiceReport, ServiceTraffic, TrafficReport } from "./model";
import { EMPTY_WINDOW } from "./model";
import { isIntended } from "./advice";
import { formatCount, formatRate, formatShare } from "./format";

export type Health = "failing" | "degraded" | "remarked" | "fine" | "idle";

const ORDER: Record<Health, number> = { failing: 0, degraded: 1, remarked: 2, fine: 3, idle: 4 };
/** Below this share of successes a service is failing; below the next one, degraded. */
export const FAILING_BELOW = 0.95;
export const DEGRADED_BELOW = 0.995;

export interface Row {
  key: string;
  namespace: string;
  name: string;
  port: string;
  trafficType: string;
  host: string;
  entrypoint: number | null;
  unserved: string;
  traffic: ServiceTraffic | null;
  errors: string[];
  notices: string[];
  health: Health;
  why: string;
}

export function buildRows(services: ServiceReport[], traffic: TrafficReport | null): Row[] {
  const measured = new Map((traffic?.services ?? []).map((each) => [each.key, each]));
  const rows: Row[] = [];
  for (const service of services) {
    const ports = service.ports.length ? service.ports : [{ port: 0, entrypoint: null, unserved: "it has no port" }];
    for (const port of mergeNumbers(ports)) {
      const key = `${service.namespace}/${service.name}:${port.port}`;
      const found = measured.get(key) ?? null;
      measured.delete(key);
      rows.push(
        judge({
          key,
          namespace: service.namespace,
          name: service.name,
          port: String(port.port),
          trafficType: port.trafficType || (service.trafficType ?? ""),
          host: service.host,
          entrypoint: port.entrypoint ?? null,
          unserved: port.unserved ?? "",
          traffic: found,
          errors: merge(service.errors, found?.errors),
          notices: merge(service.notices, found?.notices),
        }),
      );
    }
  }
  noteShares(rows, traffic);
  for (const left of measured.values()) rows.push(buildMeasuredRow(left)); // removed, but its counters are still there
  return rows;
}

/** Leaves one port of each number, as there is one entry of traffic for a number: the one that proxies serve. */
function mergeNumbers(ports: ServicePort[]): ServicePort[] {
  const found = new Map<number, ServicePort>();
  for (const port of ports) {
    const known = found.get(port.port);
    if (!known || (known.entrypoint == null && port.entrypoint != null)) found.set(port.port, port);
  }
  return [...found.values()];
}

/** Says of services that nobody calls by their own name that splits and routes send them a share of another's requests. */
function noteShares(rows: Row[], traffic: TrafficReport | null): void {
  const shares = new Map<string, string[]>();
  for (const service of traffic?.services ?? []) {
    for (const branch of service.branches) {
      if (!branch.last.requests || branch.destination === service.key) continue;
      const text = `${formatRate(branch.last.rate)}/s of ${service.name}`;
      shares.set(branch.destination, [...(shares.get(branch.destination) ?? []), text]);
    }
  }
  for (const row of rows) {
    const found = shares.get(row.key);
    if (found && row.health === "idle") Object.assign(row, { health: "fine", why: `gets ${found.join(", ")}` });
  }
}

function buildMeasuredRow(traffic: ServiceTraffic): Row {
  const { key, namespace, name, port, trafficType, errors, notices } = traffic;
  return judge({
    key,
    namespace,
    name,
    port,
    trafficType,
    host: "",
    entrypoint: null,
    unserved: "",
    traffic,
    errors: [...errors],
    notices: [...notices],
  });
}

function merge(one: string[], other: string[] = []): string[] {
  return [...new Set([...one, ...other])];
}

function judge(row: Omit<Row, "health" | "why">): Row {
  const [health, why] = findProblem(row);
  return { ...row, health, why };
}

/** The worst thing about a service, in a few words. */
export function findProblem(row: Omit<Row, "health" | "why">): [Health, string] {
  const last = row.traffic?.last ?? EMPTY_WINDOW;
  if (row.errors[0]) return ["failing", row.errors[0]];
  const failures = last.success === null ? 0 : last.requests * (1 - last.success);
  const why = describeFailures(row.traffic);
  if (last.success !== null && last.success < FAILING_BELOW && failures >= 1) return ["failing", why];
  if (row.unserved) return ["failing", `no ready server: ${row.unserved}`];
  if (row.traffic && row.traffic.openBreakers > 0) return ["failing", "the circuit breaker is open"];
  if (last.success !== null && last.success < DEGRADED_BELOW && failures >= 1) return ["degraded", why];
  const aside = row.traffic?.servers.filter((each) => each.isSetAside).length ?? 0;
  if (aside) return ["degraded", `${aside} of ${row.traffic?.servers.length} servers set aside`];
  if (last.denied) return ["remarked", `${formatCount(last.denied)} denied`];
  if (last.limited) return ["remarked", `${formatCount(last.limited)} over the rate limit`];
  if (row.notices[0]) return ["remarked", row.notices[0]];
  return last.requests || last.connections ? ["fine", ""] : ["idle", ""];
}

/** The most frequent reason of the mesh's own failures; otherwise what the servers answer. */
export function describeFailures(traffic: ServiceTraffic | null): string {
  const last = traffic?.last ?? EMPTY_WINDOW;
  const top = sortCounts(last.reasons).find(([reason]) => !isIntended(reason));
  const failed = last.success === null ? 0 : last.requests * (1 - last.success);
  if (top && top[1] >= failed / 2) return `${formatCount(top[1])} × ${top[0]}`;
  const code = sortCounts(last.codes).find(([name]) => name.startsWith("5"));
  const grpc = sortCounts(last.grpc).find(([name]) => name !== "0");
  const share = formatShare(last.success === null ? null : 1 - last.success);
  const server = findFailingServer(traffic);
  if (code && server) return `${share} fail: only the server ${server.pod || server.server} answers ${code[0]}`;
  if (code) return `${share} fail: the servers answer ${code[0]}`;
  if (grpc) return `${share} fail: gRPC status ${grpc[0]}`;
  return `${share} fail`;
}

/** The server that fails if it is the only one of several that do. */
function findFailingServer(traffic: ServiceTraffic | null): ServerTraffic | undefined {
  const used = (traffic?.servers ?? []).filter((each) => each.last.success !== null);
  const failing = used.filter((each) => (each.last.success ?? 1) < FAILING_BELOW);
  return failing.length === 1 && used.length > 1 ? failing[0] : undefined;
}

export function sortCounts(counts: Record<string, number>): [string, number][] {
  return Object.entries(counts).sort((one, other) => other[1] - one[1] || compareText(one[0], other[0]));
}

export function toneOfSuccess(success: number | null | undefined): "failing" | "degraded" | "" {
  if (success === null || success === undefined || success >= DEGRADED_BELOW) return "";
  return success < FAILING_BELOW ? "failing" : "degraded";
}

export type SortColumn = "health" | "name" | "rate" | "success" | "p95";

export interface Sorting {
  column: SortColumn;
  isReversed: boolean;
}

/** Compares rows; equal ones keep the order of their names, so that a list never shuffles without a cause. */
export function compareRows(sorting: Sorting): (one: Row, other: Row) => number {
  const sign = sorting.isReversed ? -1 : 1;
  return (one, other) => sign * compareBy(sorting.column, one, other) || compareNames(one, other);
}

function compareBy(column: SortColumn, one: Row, other: Row): number {
  const last = (row: Row) => row.traffic?.last ?? EMPTY_WINDOW;
  switch (column) {
    case "health":
      return ORDER[one.health] - ORDER[other.health];
    case "name":
      return compareNames(one, other);
    case "rate":
      return last(other).rate - last(one).rate;
    case "success":
      return (last(one).success ?? 2) - (last(other).success ?? 2);
    case "p95":
      return (last(other).total.p95 ?? -1) - (last(one).total.p95 ?? -1);
  }
}

function compareNames(one: Row, other: Row): number {
  return compareText(one.namespace, other.namespace) || compareText(one.name, other.name) || +one.port - +other.port;
}

function compareText(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

/** Whether a row has all words of a filter, in its name, its type, its host or its problem. */
export function matchesFilter(row: Row, filter: string): boolean {
  const text = `${row.key} ${row.host} ${row.trafficType} ${row.health} ${row.why}`.toLowerCase();
  return filter
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

export function countHealth(rows: Row[]): Record<Health, number> {
  const counts: Record<Health, number> = { failing: 0, degraded: 0, remarked: 0, fine: 0, idle: 0 };
  for (const row of rows) counts[row.health] += 1;
  return counts;
}

/**
 * The order of a list over time. Rows move only if the list, the sorting or a row's health changed, or if the figures
 * are older than `holdMs`: a row must not move away below the pointer with every refresh.
 */
export class StableOrder {
  private signature = "";
  private keys: string[] = [];
  private orderedAt = -Infinity;

  constructor(private readonly holdMs = 10_000) {}

  sort(rows: Row[], sorting: Sorting, now: number, isHeld = false): Row[] {
    const members = rows.map((row) => `${row.key} ${row.health}`).join("\n");
    const signature = `${sorting.column} ${sorting.isReversed}\n${members}`;
    const isOld = !isHeld && now - this.orderedAt > this.holdMs;
    if (signature !== this.signature || isOld) {
      this.signature = signature;
      this.orderedAt = now;
      const sorted = [...rows].sort(compareRows(sorting));
      this.keys = sorted.map((row) => row.key);
      return sorted;
    }
    const byKey = new Map(rows.map((row) => [row.key, row]));
    return this.keys.flatMap((key) => byKey.get(key) ?? []);
  }
}
