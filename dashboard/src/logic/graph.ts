// The service graph: who calls whom, and where splits send requests. Built from measured edges and from branches; laid
// out with dagre, one connected part after the other, since its time grows faster than the number of nodes.

import { graphlib, layout as runDagre } from "@dagrejs/dagre";
import type { Access, Rules } from "./access";
import type { Paths } from "./encryption";
import { addPaths, NO_PATHS, readPaths } from "./encryption";
import { findRules, joinAccess, judge } from "./access";
import type { TrafficReport, ServiceTraffic } from "./model";
import { splitKey } from "./model";
import type { Health, Row } from "./rows";

export interface GraphNode {
  id: string;
  kind: "service" | "caller";
  label: string;
  detail: string; // the namespace, or the kind of workload
  key: string; // of the service port; empty for callers
  health: Health;
  isLocked: boolean;
  rate: number;
}

export interface GraphEdge {
  id: string;
  from: string;
  to: string;
  kind: "call" | "split";
  rate: number;
  failed: number; // share of failures, 0 to 1
  weight: number | null; // configured share of a split
  share: number | null; // measured share of a split
  access: Access;
  paths: Paths;
}

export interface ServiceGraph {
  nodes: Map<string, GraphNode>;
  edges: GraphEdge[];
}

export interface Box {
  x: number; // of the centre
  y: number;
}

export interface Layout {
  boxes: Map<string, Box>;
  paths: Map<string, Box[]>;
  labels: Map<string, Box>;
  width: number;
  height: number;
}

export const NODE_WIDTH = 168;
export const NODE_HEIGHT = 44;
const GAP = 28;
const LABEL = { width: 96, height: 16, labelpos: "c" }; // room for a label, whatever it says
export const LABELS_LIMIT = 150; // with more edges, only those with failures and splits have a label

export function buildGraph(report: TrafficReport, rows: Row[], rules: ReadonlyMap<string, Rules>): ServiceGraph {
  const nodes = new Map<string, GraphNode>();
  const edges: GraphEdge[] = [];
  const byKey = new Map(rows.map((row) => [row.key, row]));
  const owners = findOwners(report.services);
  const addService = (key: string): string => {
    const id = `service ${key}`;
    if (!nodes.has(id)) {
      const { namespace, name, port } = splitKey(key);
      const row = byKey.get(key);
      nodes.set(id, {
        id,
        kind: "service",
        label: port === "80" || port === "" ? name : `${name}:${port}`,
        detail: namespace,
        key,
        health: row?.health ?? "idle",
        isLocked: findRules(rules, key) !== undefined,
        rate: row?.traffic?.last.rate ?? 0,
      });
    }
    return id;
  };
  for (const service of report.services) {
    for (const caller of service.callers) {
      const owner = caller.pods.map((pod) => owners.get(pod)).find((key) => key !== undefined && key !== service.key);
      const from = owner ? addService(owner) : addCaller(nodes, caller.caller);
      const { rate, success } = caller.last;
      const failed = success === null ? 0 : 1 - success;
      const access = judge(findRules(rules, service.key), service.key, caller.addresses);
      const to = addService(service.key);
      addEdge(edges, {
        from,
        to,
        kind: "call",
        rate,
        failed,
        weight: null,
        share: null,
        access,
        paths: readPaths(caller.last),
      });
    }
    addBranches(service, edges, addService, byKey);
  }
  return { nodes, edges: mergeEdges(edges) };
}

/** The service that a pod is behind. Of several, the one with the fewest servers: the others are more general. */
function findOwners(services: ServiceTraffic[]): Map<string, string> {
  const owners = new Map<string, string>();
  const sizes = new Map<string, number>();
  for (const service of services) {
    for (const { pod } of service.servers) {
      const size = sizes.get(pod);
      if (!pod || (size !== undefined && size <= service.servers.length)) continue;
      owners.set(pod, service.key);
      sizes.set(pod, service.servers.length);
    }
  }
  return owners;
}

/** `Deployment/web@shop` is the workload web of namespace shop; anything else is an address, or `other`. */
export function parseCaller(caller: string): { label: string; detail: string } {
  const match = /^([^/@]+)\/([^@]+)@(.+)$/.exec(caller);
  if (match) return { label: match[2] ?? "", detail: `${match[1]} in ${match[3]}` };
  return { label: caller, detail: caller === "other" ? "further clients" : "address" };
}

function addCaller(nodes: Map<string, GraphNode>, caller: string): string {
  const id = `caller ${caller}`;
  if (!nodes.has(id)) {
    const { label, detail } = parseCaller(caller);
    nodes.set(id, { id, kind: "caller", label, detail, key: "", health: "fine", isLocked: false, rate: 0 });
  }
  return id;
}

function addBranches(
  service: ServiceTraffic,
  edges: GraphEdge[],
  addService: (key: string) => string,
  byKey: Map<string, Row>,
): void {
  const sum = service.branches.reduce((total, branch) => total + branch.last.requests, 0);
  for (const branch of service.branches) {
    const to = findDestination(branch.destination, service, byKey);
    if (to === service.key) continue;
    const { rate, success, requests } = branch.last;
    addEdge(edges, {
      from: addService(service.key),
      to: addService(to),
      kind: "split",
      rate,
      failed: success === null ? 0 : 1 - success,
      weight: branch.weight,
      share: sum ? requests / sum : null,
      access: "open",
      paths: NO_PATHS,
    });
  }
}

/** The service of a destination: a key as it is, or a branch such as `shop/web:80/split/canary/web-v2`. */
export function findDestination(destination: string, service: ServiceTraffic, byKey: Map<string, unknown>): string {
  if (byKey.has(destination)) return destination;
  const { namespace, port, branch } = splitKey(destination);
  const name = branch.split("/").at(-1);
  const key = `${namespace}/${name}:${port}`;
  if (name && byKey.has(key)) return key;
  return branch ? service.key : destination;
}

function addEdge(edges: GraphEdge[], edge: Omit<GraphEdge, "id">): void {
  edges.push({ ...edge, id: `${edge.kind} ${edge.from} → ${edge.to}` });
}

/** Joins edges between the same nodes: several callers may be pods of one service. */
function mergeEdges(edges: GraphEdge[]): GraphEdge[] {
  const found = new Map<string, GraphEdge>();
  for (const edge of edges) {
    const known = found.get(edge.id);
    if (!known) {
      found.set(edge.id, edge);
      continue;
    }
    const rate = known.rate + edge.rate;
    const failed = rate ? (known.failed * known.rate + edge.failed * edge.rate) / rate : 0;
    const add = (one: number | null, other: number | null) => (one === null ? other : one + (other ?? 0));
    found.set(edge.id, {
      ...known,
      rate,
      failed,
      weight: add(known.weight, edge.weight),
      share: add(known.share, edge.share),
      access: joinAccess(known.access, edge.access),
      paths: addPaths(known.paths, edge.paths),
    });
  }
  return [...found.values()];
}

/** The part of a graph around some nodes: they, and what is up to `distance` edges away. */
export function cutAround(graph: ServiceGraph, wanted: (node: GraphNode) => boolean, distance = 1): ServiceGraph {
  let kept = new Set([...graph.nodes.values()].filter(wanted).map((node) => node.id));
  for (let step = 0; step < distance; step++) {
    const wider = new Set(kept);
    for (const { from, to } of graph.edges) {
      if (kept.has(from)) wider.add(to);
      if (kept.has(to)) wider.add(from);
    }
    kept = wider;
  }
  return {
    nodes: new Map([...graph.nodes].filter(([id]) => kept.has(id))),
    edges: graph.edges.filter(({ from, to }) => kept.has(from) && kept.has(to)),
  };
}

/** What a layout depends on: refreshed figures change no position. */
export function signGraph(graph: ServiceGraph): string {
  return [...graph.nodes.keys(), ...graph.edges.map((edge) => edge.id)].sort().join("\n");
}

export function layOut(graph: ServiceGraph, isTall = false): Layout {
  const isLabelled = graph.edges.length <= LABELS_LIMIT;
  const parts = findParts(graph).map((part) => layOutPart(part, isTall, isLabelled));
  parts.sort((one, other) => other.boxes.size - one.boxes.size);
  return pack(parts, isTall);
}

function findParts(graph: ServiceGraph): ServiceGraph[] {
  const next = new Map<string, string[]>();
  for (const { from, to } of graph.edges) {
    next.set(from, [...(next.get(from) ?? []), to]);
    next.set(to, [...(next.get(to) ?? []), from]);
  }
  const partOf = new Map<string, ServiceGraph>();
  const parts: ServiceGraph[] = [];
  for (const start of [...graph.nodes.keys()].sort()) {
    if (partOf.has(start)) continue;
    const part: ServiceGraph = { nodes: new Map(), edges: [] };
    const waiting = [start];
    for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
      const node = graph.nodes.get(id);
      if (!node || partOf.has(id)) continue;
      partOf.set(id, part);
      part.nodes.set(id, node);
      waiting.push(...(next.get(id) ?? []));
    }
    parts.push(part);
  }
  for (const edge of graph.edges) partOf.get(edge.from)?.edges.push(edge);
  return parts;
}

function layOutPart(part: ServiceGraph, isTall: boolean, isLabelled: boolean): Layout {
  const [only, ...others] = part.edges;
  if (only && !others.length && only.from !== only.to) return layOutPair(only, isTall, isLabelled);
  const dagre = new graphlib.Graph({ multigraph: true });
  dagre.setGraph({
    rankdir: isTall ? "TB" : "LR",
    nodesep: isTall ? 24 : 18,
    ranksep: isLabelled ? 44 : 96,
    ranker: isLabelled ? "network-simplex" : "longest-path",
  });
  dagre.setDefaultEdgeLabel(() => ({}));
  for (const id of [...part.nodes.keys()].sort()) dagre.setNode(id, { width: NODE_WIDTH, height: NODE_HEIGHT });
  for (const edge of [...part.edges].sort((one, other) => (one.id < other.id ? -1 : 1)))
    dagre.setEdge(edge.from, edge.to, isLabelled ? { ...LABEL } : {}, edge.id);
  runDagre(dagre);
  const boxes = new Map(dagre.nodes().map((id) => [id, { x: dagre.node(id).x ?? 0, y: dagre.node(id).y ?? 0 }]));
  const paths = new Map(
    dagre.edges().map((edge) => [edge.name ?? "", (dagre.edge(edge) as { points?: Box[] }).points ?? []]),
  );
  const labels = new Map<string, Box>();
  for (const edge of dagre.edges()) {
    const { x, y } = dagre.edge(edge) as { x?: number; y?: number };
    if (x !== undefined && y !== undefined) labels.set(edge.name ?? "", { x, y });
  }
  const size = dagre.graph() as { width?: number; height?: number };
  return { boxes, paths, labels, width: size.width ?? NODE_WIDTH, height: size.height ?? NODE_HEIGHT };
}

/** Places two nodes with an edge as dagre would: most parts of a large mesh are such, and dagre is slow to begin. */
function layOutPair({ id, from, to }: GraphEdge, isTall: boolean, isLabelled: boolean): Layout {
  const gap = isTall ? (isLabelled ? 104 : 96) : isLabelled ? 184 : 96;
  const [first, half] = [{ x: NODE_WIDTH / 2, y: NODE_HEIGHT / 2 }, (isTall ? NODE_HEIGHT : NODE_WIDTH) / 2];
  const along = (box: Box, distance: number): Box =>
    isTall ? { x: box.x, y: box.y + distance } : { x: box.x + distance, y: box.y };
  const second = along(first, 2 * half + gap);
  const middle = along(first, half + gap / 2);
  return {
    boxes: new Map([
      [from, first],
      [to, second],
    ]),
    paths: new Map([[id, [along(first, half), middle, along(second, -half)]]]),
    labels: new Map(isLabelled ? [[id, middle]] : []),
    width: isTall ? NODE_WIDTH : 2 * NODE_WIDTH + gap,
    height: isTall ? 2 * NODE_HEIGHT + gap : NODE_HEIGHT,
  };
}

/** Puts parts into rows, the largest first, about as wide as a screen. */
function pack(parts: Layout[], isTall: boolean): Layout {
  const area = parts.reduce((sum, part) => sum + (part.width + GAP) * (part.height + GAP), 0);
  const widest = Math.max(0, ...parts.map((part) => part.width));
  const limit = isTall ? widest : Math.max(widest, Math.sqrt(area) * 1.3);
  const packed: Layout = { boxes: new Map(), paths: new Map(), labels: new Map(), width: 0, height: 0 };
  let [x, y, rowHeight] = [0, 0, 0];
  for (const part of parts) {
    if (x > 0 && x + part.width > limit) {
      y += rowHeight + GAP;
      x = rowHeight = 0;
    }
    const [left, top] = [x, y];
    const move = (box: Box) => ({ x: box.x + left, y: box.y + top });
    for (const [id, box] of part.boxes) packed.boxes.set(id, move(box));
    for (const [id, box] of part.labels) packed.labels.set(id, move(box));
    for (const [id, points] of part.paths) packed.paths.set(id, points.map(move));
    x += part.width + GAP;
    rowHeight = Math.max(rowHeight, part.height);
    packed.width = Math.max(packed.width, x - GAP);
    packed.height = Math.max(packed.height, y + rowHeight);
  }
  return packed;
}
