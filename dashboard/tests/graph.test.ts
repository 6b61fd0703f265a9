import { expect, test } from "vitest";
import { buildGraph, cutAround, findDestination, layOut, parseCaller, signGraph } from "../src/logic/graph";
import { readRules } from "../src/logic/access";
import { buildRows } from "../src/logic/rows";
import { branch, edge, report, server, service, topologyService, traffic, windowOf } from "./build";

const NO_RULES = new Map();

function graphOf(...services: ReturnType<typeof traffic>[]) {
  const known = services.map((each) => service(each.name));
  const measured = report(...services);
  return buildGraph(measured, buildRows(known, measured), NO_RULES);
}

test("a caller whose pod is behind a service is that service", () => {
  const graph = graphOf(
    traffic("web", { servers: [server("10.0.0.1:80", { pod: "shop/web-1" })] }),
    traffic("api", { callers: [edge("Deployment/web@shop", "shop/api:80", { pods: ["shop/web-1"] })] }),
  );
  expect(graph.edges.map(({ from, to }) => [from, to])).toEqual([["service shop/web:80", "service shop/api:80"]]);
});

test("another caller is a node of its own, and an address is one too", () => {
  const callers = [edge("Deployment/ingress@edge", "shop/api:80"), edge("10.9.9.9", "shop/api:80")];
  const graph = graphOf(traffic("api", { callers }));
  expect([...graph.nodes.values()].filter((node) => node.kind === "caller").map((node) => node.label)).toEqual([
    "ingress",
    "10.9.9.9",
  ]);
  expect(parseCaller("Deployment/a@b")).toEqual({ label: "a", detail: "Deployment in b" });
  expect(parseCaller("other").detail).toBe("further clients");
});

test("of several services with a pod, the one with the fewest servers is the caller", () => {
  const pods = (...names: string[]) => names.map((pod, index) => server(`10.0.0.${index}:80`, { pod }));
  const graph = graphOf(
    traffic("web", { servers: pods("shop/v1", "shop/v2") }),
    traffic("web-v2", { servers: pods("shop/v2") }),
    traffic("api", { callers: [edge("Pod/v2@shop", "shop/api:80", { pods: ["shop/v2"] })] }),
  );
  expect(graph.edges[0]?.from).toBe("service shop/web-v2:80");
});

test("callers that are pods of one service are one edge, with the sum of rates", () => {
  const graph = graphOf(
    traffic("web", { servers: [server("a", { pod: "shop/a" }), server("b", { pod: "shop/b" })] }),
    traffic("api", {
      callers: [
        edge("Pod/a@shop", "shop/api:80", { pods: ["shop/a"], last: windowOf({ rate: 3, requests: 180, success: 1 }) }),
        edge("Pod/b@shop", "shop/api:80", { pods: ["shop/b"], last: windowOf({ rate: 1, requests: 60, success: 0 }) }),
      ],
    }),
  );
  expect(graph.edges).toHaveLength(1);
  expect(graph.edges[0]).toMatchObject({ rate: 4, failed: 0.25 });
});

test("a split has edges with weights and measured shares", () => {
  const graph = graphOf(
    traffic("web", {
      branches: [
        branch("shop/web:80/split/canary/web-v1", 0.75, windowOf({ requests: 60 })),
        branch("shop/web:80/split/canary/web-v2", 0.25, windowOf({ requests: 40 })),
        branch("shop/web:80", null),
      ],
    }),
    traffic("web-v1"),
    traffic("web-v2"),
  );
  expect(graph.edges.map(({ to, weight, share }) => [to, weight, share])).toEqual([
    ["service shop/web-v1:80", 0.75, 0.6],
    ["service shop/web-v2:80", 0.25, 0.4],
  ]);
});

test("a destination is a key, a branch with a service's name, or the service itself", () => {
  const known = new Map([["shop/api:80", 1]]);
  const web = traffic("web");
  expect(findDestination("shop/api:80", web, known)).toBe("shop/api:80");
  expect(findDestination("shop/web:80/split/a/api", web, known)).toBe("shop/api:80");
  expect(findDestination("shop/web:80/split/a/gone", web, known)).toBe("shop/web:80");
});

test("the part around a node reaches as far as asked", () => {
  const graph = graphOf(
    traffic("b", { callers: [edge("a", "shop/b:80")], servers: [server("x", { pod: "shop/b-1" })] }),
    traffic("c", { callers: [edge("Pod/b-1@shop", "shop/c:80", { pods: ["shop/b-1"] })] }),
  );
  expect(cutAround(graph, (node) => node.key === "shop/c:80", 1).nodes.size).toBe(2);
  expect(cutAround(graph, (node) => node.key === "shop/c:80", 2).nodes.size).toBe(3);
  expect(cutAround(graph, () => false).edges).toEqual([]);
});

test("figures change no position, and a new edge does", () => {
  const before = graphOf(traffic("api", { callers: [edge("a", "shop/api:80")] }));
  const louder = graphOf(traffic("api", { callers: [edge("a", "shop/api:80", { last: windowOf({ rate: 99 }) })] }));
  const wider = graphOf(traffic("api", { callers: [edge("a", "shop/api:80"), edge("b", "shop/api:80")] }));
  expect(signGraph(louder)).toBe(signGraph(before));
  expect(signGraph(wider)).not.toBe(signGraph(before));
});

test("separate parts do not overlap, and every edge has a path", () => {
  const graph = graphOf(
    ...Array.from({ length: 12 }, (_, index) =>
      traffic(`s${index}`, { callers: [edge(`c${index}`, `shop/s${index}:80`)] }),
    ),
  );
  const layout = layOut(graph);
  expect(layout.boxes.size).toBe(24);
  expect([...layout.paths.values()].every((points) => points.length > 1)).toBe(true);
  const places = [...layout.boxes.values()].map(({ x, y }) => `${x} ${y}`);
  expect(new Set(places).size).toBe(24);
  expect(layOut(graph)).toEqual(layout);
});

test("access control locks services, and edges with what it decides", () => {
  const destinations = { "shop/api:80": [{ service: "api", grants: [{ sources: ["10.0.0.1"] }] }] };
  const rules = readRules({ services: { "api@shop": topologyService({ additions: { acl: { destinations } } }) } });
  const callers = [
    edge("Pod/a@shop", "shop/api:80", { addresses: ["10.0.0.1"] }),
    edge("Pod/b@shop", "shop/api:80", { addresses: ["10.0.0.2"] }),
  ];
  const measured = report(
    traffic("api", { callers }),
    traffic("web", { callers: [edge("Pod/a@shop", "shop/web:80")] }),
  );
  const graph = buildGraph(measured, buildRows([service("api"), service("web")], measured), rules);
  expect(graph.edges.map(({ access }) => access)).toEqual(["granted", "denied", "open"]);
  expect([...graph.nodes.values()].filter((node) => node.isLocked).map((node) => node.key)).toEqual(["shop/api:80"]);
});
