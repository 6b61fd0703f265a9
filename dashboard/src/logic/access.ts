// Which callers access control lets through to a service: the grants that the topology shows, for the addresses of a
// caller. As in the proxies, every service behind a split must allow the client.

import type { Topology } from "./model";
import { topologyKey } from "./model";

/** What access control decides about a caller; `limited`: only for some requests, or for some of its pods. */
export type Access = "open" | "granted" | "limited" | "denied" | "unknown";

interface Grant {
  sources: ReadonlySet<string>;
  isLimited: boolean; // only for requests that match, or only to some servers
}

/** The grants of each leaf of each destination: a service port, or a branch of it. */
export type Rules = ReadonlyMap<string, Grant[][]>;

/** The rules of each service for which access control decides, by `name@namespace`. */
export function readRules(topology: Topology | null): Map<string, Rules> {
  const found = new Map<string, Rules>();
  for (const [key, service] of Object.entries(topology?.services ?? {})) {
    if (!("acl" in service.additions)) continue;
    const shown = service.additions.acl as { destinations?: Record<string, unknown> } | null;
    const destinations = Object.entries(shown?.destinations ?? {});
    found.set(key, new Map(destinations.map(([name, leaves]) => [name, asList(leaves).map(readLeaf)])));
  }
  return found;
}

function readLeaf(leaf: unknown): Grant[] {
  const { grants } = (leaf ?? {}) as { grants?: unknown };
  return asList(grants).map((grant) => {
    const { sources, matches, servers } = (grant ?? {}) as { sources?: unknown; matches?: unknown; servers?: unknown };
    const isLimited = asList(matches).length > 0 || Array.isArray(servers);
    return { sources: new Set(asList(sources).map(String)), isLimited };
  });
}

function asList(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** What the rules of a service decide about a caller with these addresses; without addresses, nobody knows. */
export function judge(rules: Rules | undefined, key: string, addresses: string[]): Access {
  if (!rules) return "open";
  const destinations = [...rules].filter(([name]) => name === key || name.startsWith(`${key}/`));
  if (!addresses.length || !destinations.length) return "unknown";
  return addresses
    .flatMap((address) => destinations.map(([, leaves]) => judgeLeaves(leaves, address)))
    .reduce(joinAccess);
}

function judgeLeaves(leaves: Grant[][], address: string): Access {
  const verdicts = leaves.map((grants) => {
    const held = grants.filter((grant) => grant.sources.has(address));
    if (!held.length) return "denied";
    return held.every((grant) => grant.isLimited) ? "limited" : "granted";
  });
  if (!verdicts.length || verdicts.includes("denied")) return "denied";
  return verdicts.includes("limited") ? "limited" : "granted";
}

/** What is decided about callers that are shown as one. */
export function joinAccess(one: Access, other: Access): Access {
  if (one === other) return one;
  return one === "unknown" || other === "unknown" ? "unknown" : "limited";
}

const TEXTS: Record<Access, string> = {
  open: "",
  granted: "allowed",
  limited: "partly allowed",
  denied: "denied",
  unknown: "access control decides",
};

export function describeAccess(access: Access): string {
  return TEXTS[access];
}

/** The rules about callers of a service port; undefined if access control does not decide. */
export function findRules(rules: ReadonlyMap<string, Rules>, key: string): Rules | undefined {
  return rules.get(topologyKey(key));
}
