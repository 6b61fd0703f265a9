import { expect, test } from "vitest";
import { StableOrder, buildRows, compareRows, countHealth, describeFailures, matchesFilter } from "../src/logic/rows";
import type { Sorting } from "../src/logic/rows";
import { branch, report, server, service, traffic, windowOf } from "./build";

const BY_HEALTH: Sorting = { column: "health", isReversed: false };

function rowOf(name: string, changes: Parameters<typeof traffic>[1] = {}, known: Parameters<typeof service>[1] = {}) {
  const [row] = buildRows([service(name, known)], report(traffic(name, changes)));
  if (!row) throw new Error("no row");
  return row;
}

test("each port of a service is a row, with its traffic", () => {
  const ports = [{ port: 80, entrypoint: 5000 }, { port: 81 }];
  const rows = buildRows([service("web", { ports })], report(traffic("web", { last: windowOf({ rate: 5 }) })));
  expect(rows.map((row) => [row.key, row.traffic?.last.rate, row.entrypoint])).toEqual([
    ["shop/web:80", 5, 5000],
    ["shop/web:81", undefined, null],
  ]);
});

test("each port has its own traffic type, and ports of one number are one row, as their traffic is", () => {
  const ports = [
    { port: 80, entrypoint: 5000 },
    { port: 53, protocol: "UDP" },
    { port: 53, protocol: "TCP", entrypoint: 10000, trafficType: "tcp" },
  ];
  const rows = buildRows([service("web", { ports })], null);
  expect(rows.map((row) => [row.key, row.trafficType, row.entrypoint])).toEqual([
    ["shop/web:80", "http", 5000],
    ["shop/web:53", "tcp", 10000],
  ]);
});

test("services are shown without measured traffic, and traffic without a service", () => {
  expect(buildRows([service("web")], null)[0]?.health).toBe("idle");
  expect(buildRows([], report(traffic("gone"))).map((row) => row.key)).toEqual(["shop/gone:80"]);
});

test.each([
  ["an error", {}, { errors: ["bad annotation"] }, "failing", "bad annotation"],
  [
    "many failures",
    { last: windowOf({ requests: 100, success: 0.5, reasons: { "no server": 50 } }) },
    {},
    "failing",
    "50 × no server",
  ],
  [
    "some failures",
    { last: windowOf({ requests: 1000, success: 0.99, codes: { "2xx": 990, "5xx": 10 } }) },
    {},
    "degraded",
    "1.0 % fail: the servers answer 5xx",
  ],
  [
    "failures of one server",
    {
      last: windowOf({ requests: 100, success: 0.5, codes: { "5xx": 50 } }),
      servers: [
        server("a", { last: windowOf({ success: 1 }) }),
        server("b", { pod: "shop/b-1", last: windowOf({ success: 0 }) }),
      ],
    },
    {},
    "failing",
    "50.0 % fail: only the server shop/b-1 answers 5xx",
  ],
  [
    "no server",
    {},
    { ports: [{ port: 80, unserved: "no pod is ready" }] },
    "failing",
    "no ready server: no pod is ready",
  ],
  ["an open breaker", { openBreakers: 1 }, {}, "failing", "the circuit breaker is open"],
  [
    "a server set aside",
    { servers: [server("a", { isSetAside: true }), server("b")] },
    {},
    "degraded",
    "1 of 2 servers set aside",
  ],
  ["denied requests", { last: windowOf({ requests: 9, success: 1, denied: 3 }) }, {}, "remarked", "3 denied"],
  [
    "limited requests",
    { last: windowOf({ requests: 9, success: 1, limited: 3 }) },
    {},
    "remarked",
    "3 over the rate limit",
  ],
  ["a notice", {}, { notices: ["unread"] }, "remarked", "unread"],
  ["traffic", { last: windowOf({ requests: 9, success: 1 }) }, {}, "fine", ""],
  ["connections", { last: windowOf({ connections: 2 }) }, {}, "fine", ""],
  ["nothing", {}, {}, "idle", ""],
] as const)("a service with %s says so", (_, changes, known, health, why) => {
  const row = rowOf("web", changes as Parameters<typeof traffic>[1], known as unknown as Parameters<typeof service>[1]);
  expect([row.health, row.why]).toEqual([health, why]);
});

test("the reason of the mesh is named only if it explains most failures", () => {
  const last = windowOf({ requests: 100, success: 0.5, reasons: { rare: 2 }, grpc: { "0": 50, "14": 50 } });
  expect(describeFailures(traffic("web", { last }))).toBe("50.0 % fail: gRPC status 14");
  expect(describeFailures(traffic("web", { last: windowOf({ requests: 4, success: 0 }) }))).toBe("100 % fail");
});

test("a service that gets only shares of another's requests is not without traffic", () => {
  const known = [service("web"), service("web-v2"), service("web-v3")];
  const branches = [branch("shop/web-v2:80", 0.5, windowOf({ requests: 60, rate: 1 })), branch("shop/web-v3:80", 0)];
  const rows = buildRows(known, report(traffic("web", { branches }), traffic("web-v2"), traffic("web-v3")));
  expect(rows.map((row) => [row.health, row.why])).toEqual([
    ["idle", ""],
    ["fine", "gets 1.0/s of web"],
    ["idle", ""],
  ]);
});

test("problems come first, and equal rows are sorted by name", () => {
  const rows = [rowOf("b"), rowOf("c", {}, { errors: ["x"] }), rowOf("a")].sort(compareRows(BY_HEALTH));
  expect(rows.map((row) => row.name)).toEqual(["c", "a", "b"]);
});

test.each([
  ["rate", ["b", "a"]],
  ["success", ["a", "b"]],
  ["p95", ["b", "a"]],
  ["name", ["a", "b"]],
] as const)("rows are sorted by %s", (column, names) => {
  const rows = [
    rowOf("a", { last: windowOf({ rate: 1, success: 0.5, total: { p95: 0.1 } }) }),
    rowOf("b", { last: windowOf({ rate: 2, success: 1, total: { p95: 0.2 } }) }),
  ];
  expect(rows.sort(compareRows({ column, isReversed: false })).map((row) => row.name)).toEqual(names);
  expect(rows.sort(compareRows({ column, isReversed: true })).map((row) => row.name)).toEqual([...names].reverse());
});

test("a filter needs all its words, in any field", () => {
  const row = rowOf("web", {}, { errors: ["no such thing"] });
  expect(["", "web", "SHOP such", "failing http"].map((text) => matchesFilter(row, text))).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect(matchesFilter(row, "web other")).toBe(false);
  expect(countHealth([row]).failing).toBe(1);
});

test("rows keep their places while only figures change", () => {
  const order = new StableOrder(10_000);
  const sorting: Sorting = { column: "rate", isReversed: false };
  const rows = (one: number, other: number, errors: string[] = []) => [
    rowOf("a", { last: windowOf({ rate: one, requests: 1, success: 1 }) }, { errors }),
    rowOf("b", { last: windowOf({ rate: other, requests: 1, success: 1 }) }),
  ];
  const names = (found: { name: string }[]) => found.map((row) => row.name).join("");
  expect(names(order.sort(rows(2, 1), sorting, 0))).toBe("ab");
  expect(names(order.sort(rows(1, 2), sorting, 5000))).toBe("ab");
  expect(names(order.sort(rows(1, 2), sorting, 11_000, true))).toBe("ab");
  expect(names(order.sort(rows(1, 2), sorting, 11_000))).toBe("ba");
  expect(names(order.sort(rows(3, 2, ["broken"]), sorting, 11_001))).toBe("ab");
  expect(names(order.sort(rows(3, 2), { ...sorting, isReversed: true }, 11_002))).toBe("ba");
});
