import { expect, test } from "vitest";
import type { AuditDocument, Denial, Suggestion } from "../src/logic/audit";
import { describeReason, describeRequest, filterPairs, groupPairs, joinYaml } from "../src/logic/audit";

const WEB = { namespace: "shop", serviceAccount: "web" };

function denial(changes: Partial<Denial> = {}): Denial {
  return {
    mode: "audit",
    service: "shop/api:80",
    destinations: ["api@shop"],
    client: WEB,
    address: "10.0.0.1",
    trafficType: "http",
    method: "GET",
    path: "/a",
    pathCut: false,
    route: "",
    reason: "client",
    count: 1,
    first: "2026-01-01T10:00:00Z",
    last: "2026-01-01T10:00:00Z",
    ...changes,
  };
}

function suggestion(changes: Partial<Suggestion> = {}): Suggestion {
  return {
    name: "web-to-api-1",
    namespace: "shop",
    clients: [WEB],
    destination: { namespace: "shop", serviceAccount: "api" },
    trafficType: "http",
    services: ["shop/api:80"],
    count: 1,
    notes: [],
    yaml: "kind: TrafficTarget\n",
    ...changes,
  };
}

function document(denials: Denial[], suggestions: Suggestion[] = []): AuditDocument {
  const report = { since: "2026-01-01T09:00:00Z", complete: true, denials, nodes: [] };
  return { report, suggestions, leftOut: [], allowed: 0, more: 0 };
}

test("denials are grouped by client and service, and the most frequent ones come first", () => {
  const pairs = groupPairs(
    document([
      denial({ service: "shop/db:80", count: 5 }),
      denial({ count: 2, first: "2026-01-01T09:30:00Z" }),
      denial({ count: 9, path: "/b", last: "2026-01-01T11:00:00Z" }),
    ]),
  );
  expect(pairs.map((pair) => [pair.client, pair.service, pair.count])).toEqual([
    ["web@shop", "shop/api:80", 11],
    ["web@shop", "shop/db:80", 5],
  ]);
  expect(pairs[0]?.denials.map((each) => each.path)).toEqual(["/b", "/a"]);
  expect([pairs[0]?.first, pairs[0]?.last]).toEqual(["2026-01-01T09:30:00Z", "2026-01-01T11:00:00Z"]);
});

test("a client without an account is shown by its address, and has no rule", () => {
  const [pair] = groupPairs(document([denial({ client: null })], [suggestion()]));
  expect([pair?.client, pair?.suggestions]).toEqual(["10.0.0.1", []]);
});

test("a rule belongs to the pairs of its clients, services and traffic type", () => {
  const denials = [denial(), denial({ client: { ...WEB, serviceAccount: "batch" } }), denial({ trafficType: "tcp" })];
  const pairs = groupPairs(document(denials, [suggestion(), suggestion({ name: "other", services: ["shop/db:80"] })]));
  expect(pairs.map((pair) => pair.suggestions.length).sort()).toEqual([0, 0, 1]);
});

test("requests that were denied are told from those that would be", () => {
  const [pair] = groupPairs(document([denial(), denial({ mode: "enforce", path: "/b" })]));
  expect(pair?.isDenied).toBe(true);
  expect(groupPairs(document([denial()]))[0]?.isDenied).toBe(false);
});

test("a filter looks at clients, services and requests", () => {
  const pairs = groupPairs(document([denial(), denial({ service: "shop/db:80", path: "/secret" })]));
  expect(filterPairs(pairs, "SECRET").map((pair) => pair.service)).toEqual(["shop/db:80"]);
  expect(filterPairs(pairs, "web@").length).toBe(2);
  expect(filterPairs(pairs, " ").length).toBe(2);
  expect(filterPairs(pairs, "nothing")).toEqual([]);
});

test("a rule of several pairs is copied once", () => {
  const shared = suggestion({ services: ["shop/api:80", "shop/db:80"] });
  const other = suggestion({ name: "other", yaml: "kind: Other\n" });
  const pairs = groupPairs(document([denial(), denial({ service: "shop/db:80" })], [shared, other]));
  expect(joinYaml(pairs)).toBe("kind: TrafficTarget\n---\nkind: Other\n");
  expect(joinYaml([])).toBe("");
});

test("requests and reasons have texts", () => {
  expect(describeRequest(denial({ pathCut: true }))).toBe("GET /a…");
  expect(describeRequest(denial({ trafficType: "udp" }))).toBe("a UDP session");
  expect(describeReason(denial({ reason: "path" }))).toBe("the path is ambiguous");
  expect(describeReason(denial({ reason: "new", trafficTargets: [] }))).toBe("new");
});

test("a reason names the TrafficTargets that allow the client other requests", () => {
  const describe = (...trafficTargets: string[]) => describeReason(denial({ reason: "request", trafficTargets }));
  const reason = "no rule allows this request of the client";
  expect(describe("read@shop")).toBe(`${reason}: TrafficTarget read@shop does not`);
  expect(describe("read@shop", "write@shop")).toBe(`${reason}: TrafficTargets read@shop, write@shop do not`);
});
