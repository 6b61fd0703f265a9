// The service graph. Positions depend only on which services and edges there are, so refreshed figures move nothing.
// Drag or use the arrow keys to move, the wheel or + and - to zoom; the same edges are also there as a list.

import type { JSX } from "preact";
import { memo } from "preact/compat";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { formatRate } from "../logic/format";
import type { Access } from "../logic/access";
import { describeAccess, readRules } from "../logic/access";
import type { Encryption } from "../logic/encryption";
import { describeEncryption, judgePaths } from "../logic/encryption";
import type { Box, GraphEdge, GraphNode, Layout, ServiceGraph } from "../logic/graph";
import { LABELS_LIMIT, NODE_HEIGHT, NODE_WIDTH, buildGraph, cutAround, layOut, signGraph } from "../logic/graph";
import { DEGRADED_BELOW, FAILING_BELOW } from "../logic/rows";
import { shorten } from "../logic/format";
import { Empty, Loading, SHIELD } from "../parts/bits";
import { useDocument, useSize, useStore, useTitle } from "../parts/hooks";
import { linkToService, replaceQuery } from "../parts/route";
import { VirtualList } from "../parts/VirtualList";

const DISTANCE = 2;
const TINY = 0.4; // at a smaller scale, details cannot be read
const NO_POINTS: Box[] = [];
const LOCK = "M4 7V5a4 4 0 0 1 8 0v2h1v7H3V7zm2 0h4V5a2 2 0 0 0-4 0z";
const CHARACTER_HALF = 3.2; // half of a label's character, for the ground on which it is readable
const LOCK_DISTANCE = 18; // from the arrow's point

export function GraphPage({ query }: { query: URLSearchParams }) {
  const [{ traffic, rows, topology, hasTraffic, services, phase }] = useStore();
  const [around, setAround] = useState(query.get("around") ?? "");
  const [filter, setFilter] = useState(query.get("filter") ?? "");
  const [isFailing, setIsFailing] = useState(false);
  const [isList, setIsList] = useState(false);
  useTitle("Graph");
  useDocument("topology");
  useEffect(() => setAround(query.get("around") ?? ""), [query]);

  const rules = useMemo(() => readRules(topology), [topology]);
  const graph = useMemo(() => (traffic ? buildGraph(traffic, rows, rules) : null), [traffic, rows, rules]);
  const shown = useMemo(() => graph && select(graph, around, filter, isFailing), [graph, around, filter, isFailing]);
  if (!services)
    return phase === "lost" ? <Empty title="The controller does not answer" /> : <Loading what="the graph" />;
  if (!hasTraffic || !graph || !shown)
    return <Empty title="No graph">{<p>This controller does not measure who calls whom.</p>}</Empty>;
  if (!graph.nodes.size)
    return (
      <Empty title="No traffic yet">
        <p>Services appear here when they are called through the mesh.</p>
      </Empty>
    );
  const leave = () => {
    setAround("");
    setFilter("");
    setIsFailing(false);
    replaceQuery("graph", {});
  };
  return (
    <div class="graph-page">
      <h1 class="unseen">Graph</h1>
      <div class="tools">
        <input
          type="search"
          aria-label="Filter the graph"
          placeholder="Filter by name or namespace"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
        <div class="chips">
          <button class="chip" aria-pressed={isFailing} onClick={() => setIsFailing(!isFailing)}>
            With failures
          </button>
          <button class="chip" aria-pressed={isList} onClick={() => setIsList(!isList)}>
            As a list
          </button>
          {around && (
            <button class="chip" aria-pressed="true" onClick={leave}>
              Around {around} ✕
            </button>
          )}
        </div>
        <span class="quiet count-note">
          {shown.nodes.size} nodes, {shown.edges.length} edges
        </span>
      </div>
      {!shown.nodes.size ? (
        <Empty title="Nothing matches">
          <button onClick={leave}>Show the whole graph</button>
        </Empty>
      ) : isList ? (
        <EdgeList graph={shown} />
      ) : (
        <Drawing graph={shown} />
      )}
    </div>
  );
}

function select(graph: ServiceGraph, around: string, filter: string, isFailing: boolean): ServiceGraph {
  let shown = graph;
  if (around) shown = cutAround(shown, (node) => node.key === around, DISTANCE);
  if (filter) {
    const words = filter.toLowerCase().split(/\s+/);
    const matches = (node: GraphNode) =>
      words.every((word) => `${node.label} ${node.detail} ${node.key}`.toLowerCase().includes(word));
    shown = cutAround(shown, matches);
  }
  if (isFailing) {
    const isBad = (edge: GraphEdge) => ["degraded", "failing"].includes(findTone(edge));
    const bad = new Set(shown.edges.filter(isBad).flatMap((edge) => [edge.from, edge.to]));
    shown = cutAround(shown, (node) => bad.has(node.id) || node.health === "failing", 0);
  }
  return shown;
}

function Drawing({ graph }: { graph: ServiceGraph }) {
  const [ref, size, element] = useSize<HTMLDivElement>();
  const isTall = size.width > 0 && size.width < 700;
  const signature = `${isTall}\n${signGraph(graph)}`;
  const layout = useMemo(() => layOut(graph, isTall), [signature]);
  const [view, setView] = useState({ x: 0, y: 0, scale: 0 });
  const drag = useRef<{ x: number; y: number; pointer: number } | null>(null);
  const fitted = useRef("");

  const fit = () => {
    if (!size.width || !size.height) return;
    const scale = Math.min(
      1.1,
      Math.max(0.08, Math.min((size.width - 40) / layout.width, (size.height - 40) / layout.height)),
    );
    const readable = Math.max(scale, isTall ? 0.6 : 0.25);
    const left = Math.max(20, (size.width - layout.width * readable) / 2);
    const top = isTall ? 20 : Math.max(20, (size.height - layout.height * readable) / 2);
    setView({ x: isTall && left === 20 ? (size.width - layout.width * readable) / 2 : left, y: top, scale: readable });
  };
  useEffect(() => {
    const key = `${signature}\n${size.width > 0}`;
    if (fitted.current !== key && size.width) {
      const isFirst = fitted.current === "";
      fitted.current = key;
      if (isFirst || view.scale === 0 || isOutside(view, layout, size)) fit();
    }
  }, [signature, size.width]);

  const zoom = (factor: number, x = size.width / 2, y = size.height / 2) =>
    setView((known) => {
      const scale = Math.min(3, Math.max(0.05, known.scale * factor));
      const grown = scale / known.scale;
      return { x: x - (x - known.x) * grown, y: y - (y - known.y) * grown, scale };
    });
  const pan = (x: number, y: number) => setView((known) => ({ ...known, x: known.x + x, y: known.y + y }));
  useEffect(() => {
    if (!element) return;
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const box = element.getBoundingClientRect();
      if (event.ctrlKey || !event.shiftKey)
        zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
      else pan(-event.deltaY, 0);
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [element]);

  const onKeyDown = (event: JSX.TargetedKeyboardEvent<HTMLDivElement>) => {
    const actions: Record<string, () => void> = {
      ArrowLeft: () => pan(60, 0),
      ArrowRight: () => pan(-60, 0),
      ArrowUp: () => pan(0, 60),
      ArrowDown: () => pan(0, -60),
      "+": () => zoom(1.25),
      "-": () => zoom(0.8),
      "0": fit,
    };
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  };
  const onPointerDown = (event: JSX.TargetedPointerEvent<HTMLDivElement>) => {
    if (event.button === 0) drag.current = { x: event.clientX, y: event.clientY, pointer: event.pointerId };
  };
  const onPointerMove = (event: JSX.TargetedPointerEvent<HTMLDivElement>) => {
    if (drag.current?.pointer !== event.pointerId) return;
    const [x, y] = [event.clientX - drag.current.x, event.clientY - drag.current.y];
    if (!event.currentTarget.hasPointerCapture(event.pointerId)) {
      if (Math.hypot(x, y) < 5) return; // a click on a node, not a drag
      event.currentTarget.setPointerCapture(event.pointerId);
    }
    drag.current = { ...drag.current, x: event.clientX, y: event.clientY };
    pan(x, y);
  };
  return (
    <div
      class="drawing"
      ref={ref}
      tabIndex={0}
      role="group"
      aria-label="Service graph; the button “As a list” shows the same as text"
      onKeyDown={onKeyDown}
      onPointerDown={onPointerDown}
      onPointerMove={onPointerMove}
      onPointerUp={() => (drag.current = null)}
      onPointerCancel={() => (drag.current = null)}
    >
      <svg width="100%" height="100%">
        <defs>
          {["fine", "degraded", "failing", "idle"].map((tone) => (
            <marker
              key={tone}
              id={`arrow-${tone}`}
              class={`arrow ${tone}`}
              viewBox="0 0 8 8"
              refX="7"
              refY="4"
              markerWidth="7"
              markerHeight="7"
              orient="auto"
              markerUnits="userSpaceOnUse"
            >
              <path d="M0 0 8 4 0 8z" />
            </marker>
          ))}
        </defs>
        {view.scale > 0 && (
          <g transform={`translate(${view.x} ${view.y}) scale(${view.scale})`}>
            {graph.edges.map((edge) => (
              <Edge key={edge.id} {...prepareEdge(edge, graph, layout)} />
            ))}
            {[...graph.nodes.values()].map((node) => (
              <Node key={node.id} {...prepareNode(node, layout, view.scale < TINY)} />
            ))}
          </g>
        )}
      </svg>
      <div class="zoom" role="group" aria-label="Zoom">
        <button onClick={() => zoom(1.25)} aria-label="Zoom in">
          +
        </button>
        <button onClick={() => zoom(0.8)} aria-label="Zoom out">
          −
        </button>
        <button onClick={fit} aria-label="Show the whole graph">
          ⤢
        </button>
      </div>
      <p class="key" aria-hidden="true">
        <i class="line call" /> requests/s <i class="line split" /> split or route: measured share (weight){" "}
        <i class="line bad" /> failures
        {[...graph.nodes.values()].some((node) => node.isLocked) &&
          (["granted", "limited", "denied"] as const).map((access) => (
            <span key={access} class={`lock ${access}`}>
              <svg viewBox="0 0 16 16" width="12" height="12">
                <path d={LOCK} />
              </svg>{" "}
              {describeAccess(access)}
            </span>
          ))}
        {graph.edges.some((edge) => judgePaths(edge.paths) !== "none") &&
          (["encrypted", "partly", "clear"] as const).map((encryption) => (
            <span key={encryption} class={`shield ${encryption}`}>
              <svg viewBox="0 0 16 16" width="12" height="12">
                <path d={SHIELD} />
              </svg>{" "}
              {describeEncryption(encryption)}
            </span>
          ))}
      </p>
    </div>
  );
}

function isOutside(
  view: { x: number; y: number; scale: number },
  layout: Layout,
  size: { width: number; height: number },
): boolean {
  const right = view.x + layout.width * view.scale;
  const bottom = view.y + layout.height * view.scale;
  return right < 40 || bottom < 40 || view.x > size.width - 40 || view.y > size.height - 40;
}

function findTone(edge: GraphEdge): string {
  if (!edge.rate) return "idle";
  if (edge.failed > 1 - FAILING_BELOW || edge.access === "denied") return "failing";
  return edge.failed > 1 - DEGRADED_BELOW ? "degraded" : "fine";
}

function describeEdge(edge: GraphEdge): string {
  if (edge.kind === "split") {
    const share = edge.share === null ? "–" : formatPercent(edge.share);
    return edge.weight === null ? share : `${share} (${formatPercent(edge.weight)})`;
  }
  const failed = edge.failed > 1 - DEGRADED_BELOW ? `, ${formatPercent(edge.failed)} fail` : "";
  const denied = edge.access === "denied" ? ", denied" : "";
  return `${formatRate(edge.rate)}/s${failed}${denied}`;
}

function formatPercent(share: number): string {
  const percent = share * 100;
  return `${percent > 0 && percent < 9.95 ? percent.toFixed(1).replace(/\.0$/, "") : Math.round(percent)} %`;
}

interface EdgeLine {
  kind: GraphEdge["kind"];
  tone: string;
  title: string;
  text: string; // empty: without a label
  width: string;
  points: Box[];
  label: Box | undefined;
  access: Access;
  encryption: Encryption;
  hasTouch: boolean; // a wide, invisible line, on which the pointer finds the title
}

function prepareEdge(edge: GraphEdge, graph: ServiceGraph, layout: Layout): EdgeLine {
  const text = describeEdge(edge);
  const points = layout.paths.get(edge.id) ?? NO_POINTS;
  const tone = findTone(edge);
  const isLabelled = graph.edges.length <= LABELS_LIMIT || edge.kind === "split" || tone === "failing";
  const names = [edge.from, edge.to].map((id) => graph.nodes.get(id)?.label).join(" → ");
  const access = edge.access === "denied" ? "" : describeAccess(edge.access); // the text has it
  const encryption = judgePaths(edge.paths);
  const remarks = [access, describeEncryption(encryption)].filter(Boolean).map((remark) => `, ${remark}`);
  return {
    kind: edge.kind,
    tone,
    title: `${names}: ${text}${remarks.join("")}`,
    text: isLabelled ? text : "",
    width: Math.min(6, 1 + Math.log10(1 + edge.rate) * 1.5).toFixed(1),
    points,
    access: edge.access,
    encryption,
    hasTouch: graph.edges.length <= LABELS_LIMIT,
    label: layout.labels.get(edge.id) ?? points[Math.floor(points.length / 2)],
  };
}

/** An edge is drawn again only if something of it that can be seen has changed. */
const Edge = memo(function Edge(line: EdgeLine) {
  const { kind, tone, title, text, width, points, label, access, encryption, hasTouch } = line;
  const curve = drawCurve(points);
  const end = access === "open" ? null : findBefore(points, LOCK_DISTANCE);
  const start = encryption === "none" ? null : findBefore([...points].reverse(), LOCK_DISTANCE);
  return (
    <g class={`edge ${kind} ${tone}`}>
      <title>{title}</title>
      {hasTouch && <path class="touch" d={curve} />}
      <path d={curve} stroke-width={width} marker-end={`url(#arrow-${tone})`} />
      {text && label && (
        <g transform={`translate(${label.x.toFixed(1)} ${(label.y - 4).toFixed(1)})`}>
          <rect x={-text.length * CHARACTER_HALF} y="-10" width={text.length * 2 * CHARACTER_HALF} height="13" rx="3" />
          <text text-anchor="middle">{text}</text>
        </g>
      )}
      {end && (
        <g class={`lock ${access}`} transform={`translate(${end.x.toFixed(1)} ${end.y.toFixed(1)})`}>
          <circle r="8" />
          <path transform="translate(-5.2 -5.6) scale(0.65)" d={LOCK} />
        </g>
      )}
      {start && (
        <g class={`shield ${encryption}`} transform={`translate(${start.x.toFixed(1)} ${start.y.toFixed(1)})`}>
          <circle r="8" />
          <path transform="translate(-5.2 -5.2) scale(0.65)" d={SHIELD} />
        </g>
      )}
    </g>
  );
});

/** The point of a line that is so far before its end. */
function findBefore(points: Box[], distance: number): Box | null {
  const [last, previous] = [points.at(-1), points.at(-2)];
  if (!last || !previous) return null;
  const length = Math.hypot(last.x - previous.x, last.y - previous.y);
  const part = length ? Math.min(1, distance / length) : 0;
  return { x: last.x + (previous.x - last.x) * part, y: last.y + (previous.y - last.y) * part };
}

/** A smooth line through the middles between dagre's points. */
function drawCurve(points: { x: number; y: number }[]): string {
  const [first, ...rest] = points;
  if (!first) return "";
  let path = `M${first.x.toFixed(1)} ${first.y.toFixed(1)}`;
  rest.forEach((point, index) => {
    const next = rest[index + 1];
    if (!next) path += `L${point.x.toFixed(1)} ${point.y.toFixed(1)}`;
    else
      path += `Q${point.x.toFixed(1)} ${point.y.toFixed(1)} ${((point.x + next.x) / 2).toFixed(1)} ${((point.y + next.y) / 2).toFixed(1)}`;
  });
  return path;
}

interface NodeBox {
  kind: GraphNode["kind"];
  nodeKey: string;
  label: string;
  detail: string;
  health: string;
  isLocked: boolean;
  rate: string;
  box: Box | undefined;
  isTiny: boolean; // too small for more than a name
}

function prepareNode(node: GraphNode, layout: Layout, isTiny: boolean): NodeBox {
  const rate = node.kind === "service" && node.rate > 0 ? `${formatRate(node.rate)}/s` : "";
  const { kind, key, label, detail, health, isLocked } = node;
  return { kind, nodeKey: key, label, detail, health, isLocked, rate, isTiny, box: layout.boxes.get(node.id) };
}

const Node = memo(function Node({ box, rate, nodeKey, isTiny, ...node }: NodeBox) {
  if (!box) return null;
  const inner = (
    <>
      <title>{`${node.label}, ${node.detail}${rate && `, ${rate}`}${node.isLocked ? ", access control decides who may call it" : ""}`}</title>
      <rect width={NODE_WIDTH} height={NODE_HEIGHT} rx={node.kind === "service" ? 8 : 22} />
      {node.kind === "service" && <rect class="health" width="5" height={NODE_HEIGHT - 16} x="8" y="8" rx="2.5" />}
      <text class="label" x="21" y="19">
        {shorten(node.label, node.isLocked ? 18 : 20)}
      </text>
      {!isTiny && (
        <text class="detail" x="21" y="34">
          {shorten(node.detail, rate ? 16 : 24)}
        </text>
      )}
      {rate && !isTiny && (
        <text class="detail" x={NODE_WIDTH - 10} y="34" text-anchor="end">
          {rate}
        </text>
      )}
      {node.isLocked && <path class="lock" transform={`translate(${NODE_WIDTH - 23} 7) scale(0.85)`} d={LOCK} />}
    </>
  );
  const transform = `translate(${box.x - NODE_WIDTH / 2} ${box.y - NODE_HEIGHT / 2})`;
  if (node.kind === "caller")
    return (
      <g class="node caller" transform={transform}>
        {inner}
      </g>
    );
  return (
    <g class={`node service ${node.health}`} transform={transform}>
      <a href={linkToService(nodeKey)} draggable={false}>
        {inner}
      </a>
    </g>
  );
});

function EdgeList({ graph }: { graph: ServiceGraph }) {
  const edges = [...graph.edges].sort(
    (one, other) => other.failed * other.rate - one.failed * one.rate || (one.id < other.id ? -1 : 1),
  );
  const name = (id: string) => {
    const node = graph.nodes.get(id);
    return node?.kind === "service" ? <a href={linkToService(node.key)}>{node.label}</a> : node?.label;
  };
  return (
    <VirtualList
      items={edges}
      rowHeight={40}
      label="Edges"
      getKey={(edge) => edge.id}
      render={(edge) => (
        <div class={`edge-row ${findTone(edge)}`} tabIndex={0} data-focus>
          <span>
            {name(edge.from)} → {name(edge.to)}
          </span>
          <span class="quiet">
            {edge.kind === "split"
              ? "share"
              : [describeAccess(edge.access), describeEncryption(judgePaths(edge.paths))].filter(Boolean).join(", ")}
          </span>
          <span class="number">{describeEdge(edge)}</span>
        </div>
      )}
    />
  );
}
