// The documents of the controller's API, as docs/controller-api.md describes them. Everything in them is untrusted
// text: components render it as text nodes, never as HTML.

export interface Latency {
  p50?: number | null;
  p95?: number | null;
  p99?: number | null;
}

export interface Window {
  seconds: number;
  requests: number;
  rate: number;
  success: number | null;
  codes: Record<string, number>;
  grpc: Record<string, number>;
  total: Latency;
  upstream: Latency;
  retries: number;
  limited: number;
  denied: number;
  reasons: Record<string, number>;
  receivedBytes: number;
  sentBytes: number;
  connections: number;
  // of services with encryption, for callers without `local`
  paths?: { encrypted?: number; clear?: number; local?: number };
  clearReasons?: Record<string, number>;
}

export interface ServerTraffic {
  server: string;
  pod: string;
  node: string;
  last: Window;
  total: Window;
  isSetAside: boolean;
}

export interface RuleTraffic {
  rule: string;
  last: Window;
  total: Window;
}

export interface BranchTraffic {
  destination: string;
  weight: number | null;
  last: Window;
  total: Window;
}

export interface EdgeTraffic {
  caller: string;
  account: string;
  pods: string[];
  addresses: string[];
  service: string;
  last: Window;
  total: Window;
}

export interface ServiceTraffic {
  key: string;
  namespace: string;
  name: string;
  port: string;
  trafficType: string;
  last: Window;
  total: Window;
  branches: BranchTraffic[];
  rules?: RuleTraffic[]; // missing from controllers of earlier versions
  servers: ServerTraffic[];
  callers: EdgeTraffic[];
  openBreakers: number;
  errors: string[];
  notices: string[];
}

export interface NodeTraffic {
  name: string;
  revision: string | null;
  error: string;
  connections: number;
  isRefused?: boolean;
}

/** A controller that did not answer: its proxies may be missing. */
export interface MissingController {
  name: string;
  error: string;
}

export interface TrafficReport {
  at: string;
  intervalS: number;
  nodes: NodeTraffic[];
  missing?: MissingController[];
  services: ServiceTraffic[];
  refused: Record<string, number>;
}

export interface ServicePort {
  name?: string;
  port: number;
  protocol?: string;
  entrypoint?: number | null;
  unserved?: string;
  /** The traffic type of the port, if it differs from the service's. */
  trafficType?: string;
}

export interface ServiceReport {
  namespace: string;
  name: string;
  host: string;
  trafficType: string | null;
  ports: ServicePort[];
  errors: string[];
  notices: string[];
}

export interface NodeReport {
  name: string;
  ip: string;
  ready: boolean;
  revision: string | null;
  lastSeen: string;
}

export interface ControllerReport {
  name: string;
  ready: boolean;
  leads: boolean;
  leader: string | null;
  revision: string;
  problems: Record<string, string>;
}

export interface ObjectReport {
  kind: string;
  namespace: string;
  name: string;
  origin: string;
  errors: string[];
  notices: string[];
}

/** Something that should hold for the whole mesh; it does without problems. */
export interface Condition {
  id: string;
  title: string;
  hint: string;
  problems?: string[];
}

export interface TopologyService {
  name: string;
  namespace: string;
  annotations: Record<string, string>;
  pods: string[];
  trafficTargets: string[];
  trafficSplits: string[];
  additions: Record<string, unknown>;
}

export interface TrafficTarget {
  service: string;
  name: string;
  namespace: string;
  sources: { serviceAccount: string; namespace: string }[];
  rules: { kind: string; name: string; matches?: string[] }[];
  errors: string[];
  notices: string[];
}

export interface Topology {
  services: Record<string, TopologyService>;
  serviceTrafficTargets?: Record<string, TrafficTarget>;
}

export interface Match {
  paths?: string[];
  methods?: string[];
  headers?: FieldMatch[];
  exactPath?: string;
  pathPrefix?: string;
  pathPattern?: string;
  queries?: FieldMatch[];
}

/** A condition on a header or a query parameter: its value, or a pattern of it. */
export interface FieldMatch {
  name: string;
  pattern?: string;
  value?: string;
}

/** Rules of a port: the first of `order` that a request meets decides; without one, `status` and `reason`. */
export interface Rules {
  rules?: { service?: string; middlewares?: string[]; name?: string }[];
  order?: { rule: number; match?: Match }[];
  status?: number;
  reason?: string;
}

export interface Router {
  entrypoint: number;
  hosts?: string[];
  service?: string | null;
  branches?: { service: string; matches?: Match[] }[];
  middlewares?: string[];
  status?: number;
  reason?: string;
  rules?: Rules;
  consumers?: Record<string, Rules>;
  fallback?: string;
}

export interface ConfiguredService {
  servers?: { address: string; port: number; weight?: number }[];
  parts?: { service: string; weight: number }[];
  scheme?: string;
  answer?: { status: number; reason?: string };
}

export interface Section {
  routers: Record<string, Router>;
  services: Record<string, ConfiguredService>;
  middlewares: Record<string, { kind: string; settings?: Record<string, unknown> }>;
}

export interface Configuration {
  revision: string;
  plugins?: string[];
  sections: Record<string, Section>;
}

/** A service that gets a share of a request, or the mesh's response to this share, with `status` and `reason`. */
export interface Destination {
  service: string;
  share: number;
  servers: string[];
  scheme?: string;
  status?: number;
  reason?: string;
}

export interface Explanation {
  client: string;
  service: string;
  port: number;
  trafficType: string;
  isAdmitted: boolean;
  status: number;
  steps: string[];
  destinations?: Destination[];
  undecided?: string[];
  objects?: { kind: string; namespace: string; name: string; errors: string[]; notices: string[] }[];
  problems?: Record<string, string>;
}

export interface TapError {
  error: string;
  node?: string;
  controller?: string;
}

export interface TapRecord {
  kind: string;
  startedAt: number;
  durationS: number;
  client: string;
  source?: string;
  entrypoint: number;
  protocol: string;
  service: string;
  destination: string;
  server: string;
  attempts: number;
  status: number;
  grpcStatus: number | null;
  reason: string;
  /** Why access control would have denied it, if it passed only in audit mode. */
  wouldDeny?: string;
  receivedBytes: number;
  sentBytes: number;
  upstreamS: number | null;
  method: string;
  host: string;
  path: string;
}

export const EMPTY_WINDOW: Window = {
  seconds: 0,
  requests: 0,
  rate: 0,
  success: null,
  codes: {},
  grpc: {},
  total: {},
  upstream: {},
  retries: 0,
  limited: 0,
  denied: 0,
  reasons: {},
  receivedBytes: 0,
  sentBytes: 0,
  connections: 0,
};

/** `web@shop` of the topology, from `shop/web:80`. */
export function topologyKey(key: string): string {
  const { namespace, name } = splitKey(key);
  return `${name}@${namespace}`;
}

/** The parts of a service port's key, `namespace/name:port`; what follows the port is the path of a branch. */
export function splitKey(key: string): { namespace: string; name: string; port: string; branch: string } {
  const match = /^([^/]*)\/([^:/]*):?([^/]*)\/?(.*)$/.exec(key);
  if (!match) return { namespace: "", name: key, port: "", branch: "" };
  return { namespace: match[1] ?? "", name: match[2] ?? "", port: match[3] ?? "", branch: match[4] ?? "" };
}
