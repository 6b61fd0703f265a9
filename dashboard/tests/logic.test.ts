import { expect, test } from "vitest";
import { findAdvice, isIntended } from "../src/logic/advice";
import * as format from "../src/logic/format";
import { History, SAMPLES_LIMIT } from "../src/logic/history";
import { LineParser } from "../src/logic/lines";
import { splitKey, topologyKey } from "../src/logic/model";
import { describeDestination, describeMatches, describeSettings, findConfigured } from "../src/logic/routes";
import { parseConfiguration } from "../src/logic/store";
import { linkTo, linkToService, parseRoute } from "../src/parts/route";
import { report, traffic, windowOf } from "./build";

test.each([
  [0, "0"],
  [0.01, "<0.1"],
  [3.14159, "3.1"],
  [314.4, "314"],
  [12_345, "12k"],
  [Number.NaN, "–"],
])("a rate of %s is %s", (rate, text) => expect(format.formatRate(rate)).toBe(text));

test.each([
  [null, "–"],
  [1, "100 %"],
  [0.99999, ">99.9 %"],
  [0.995, "99.5 %"],
  [0.0001, "<0.1 %"],
  [0, "0 %"],
])("a share of %s is %s", (share, text) => expect(format.formatShare(share)).toBe(text));

test.each([
  [undefined, "–"],
  [0, "0"],
  [0.00042, "0.42 ms"],
  [0.0042, "4.2 ms"],
  [0.25, "250 ms"],
  [2.5, "2.5 s"],
  [600, "10 min"],
])("a duration of %s is %s", (seconds, text) => expect(format.formatSeconds(seconds)).toBe(text));

test("sizes, counts, ages and times are short", () => {
  expect([12, 4200, 3_000_000, 5e9].map(format.formatBytes)).toEqual(["12 B", "4.2 kB", "3 MB", "5 GB"]);
  expect([9999, 10_400, 2_500_000, 7e9].map(format.formatCount)).toEqual(["9999", "10k", "2.5M", "7G"]);
  expect([0, 30, 600, 9000].map(format.formatAge)).toEqual(["just now", "30 s ago", "10 min ago", "3 h ago"]);
  expect(format.formatTime(0.25)).toMatch(/^\d\d:\d\d:00\.250$/);
  expect(format.shorten("abcdef", 4)).toBe("abc…");
});

test("keys are split into their parts", () => {
  expect(splitKey("shop/web:80")).toEqual({ namespace: "shop", name: "web", port: "80", branch: "" });
  expect(splitKey("shop/web:80/split/canary/web-v2")).toMatchObject({ port: "80", branch: "split/canary/web-v2" });
  expect(topologyKey("shop/web:80")).toBe("web@shop");
});

test("routes survive the address", () => {
  expect(parseRoute("#/")).toMatchObject({ path: "", rest: "" });
  expect(parseRoute(linkToService("shop/web:80"))).toMatchObject({ path: "service", rest: "shop/web:80" });
  expect(parseRoute(linkTo("tap", { service: "a b", path: "" })).query.get("service")).toBe("a b");
  expect(parseRoute("#/service/%zz").rest).toBe("%zz");
});

test("lines are parsed however their bytes arrive, and what is no JSON is skipped", () => {
  const bytes = new TextEncoder().encode('{"a":"ü"}\nnonsense\n\n{"b":2}\n{"c"');
  for (let size = 1; size < bytes.length; size++) {
    const parser = new LineParser();
    const found = [];
    for (let at = 0; at < bytes.length; at += size) found.push(...parser.feed(bytes.subarray(at, at + size)));
    expect(found).toEqual([{ a: "ü" }, { b: 2 }]);
    expect(parser.invalid).toBe(1);
  }
});

test("the history has the rate between two reports, and is bounded", () => {
  const history = new History();
  const at = (second: number, requests: number) => ({
    ...report(traffic("web", { last: windowOf({ rate: 1 }), total: windowOf({ requests }) })),
    at: new Date(second * 1000).toISOString(),
  });
  for (const each of [at(10, 100), at(12, 120), at(12, 120), at(14, 5), at(16, 25)]) history.add(each);
  expect(history.get("shop/web:80")?.rate).toEqual([1, 10, 1, 10]);
  for (let second = 20; second < 20 + 2 * SAMPLES_LIMIT; second++) history.add(at(second, 25));
  expect(history.get("shop/web:80")?.at).toHaveLength(SAMPLES_LIMIT);
  history.add({ ...report(), at: new Date(1e6).toISOString() });
  expect(history.get("shop/web:80")).toBeUndefined();
  history.add({ ...report(traffic("web")), at: "yesterday" });
  expect(history.get("shop/web:80")).toBeUndefined();
});

test("known texts have advice, and others none", () => {
  expect(findAdvice("the service has no usable server")).toContain("readiness");
  expect(findAdvice("access denied: no TrafficTarget")).toContain("Why?");
  expect(findAdvice("access denied: no rule allows this client")).toContain("add a TrafficTarget");
  expect(findAdvice("access denied: no rule allows this request of the client")).toContain("HTTPRouteGroup");
  expect(findAdvice("access denied: the path is ambiguous")).toContain("Change the client");
  expect(findAdvice("teapot")).toBe("");
});

const DOCUMENT = {
  revision: "e.1",
  full: true,
  plugins: ["smi"],
  removed: [],
  http: {
    routers: {
      "shop/web:80": {
        entrypoint: 5000,
        hosts: ["web.shop.maesh"],
        service: "shop/web:80",
        branches: [
          { service: "shop/web:80/split/beta", matches: [{ headers: [{ name: "x-group", pattern: "^beta$" }] }] },
        ],
        middlewares: ["shop/web/retry", "gone"],
      },
    },
    services: {
      "shop/web:80": { servers: [{ address: "10.0.0.1", port: 80 }] },
      "shop/web:80/split/beta": { parts: [{ service: "shop/web:80/split/beta/web-v2", weight: 3 }] },
      "shop/web:80/split/beta/web-v2": { servers: [] },
    },
    middlewares: { "shop/web/retry": { kind: "retry", settings: { attempts: 3 } } },
  },
};

test("the configuration of a port has its routes and middlewares", () => {
  const configuration = parseConfiguration(DOCUMENT);
  const found = findConfigured(configuration, "shop/web:80");
  expect(configuration.plugins).toEqual(["smi"]);
  expect(found?.routes).toEqual([
    { name: "split beta", condition: "x-group: ^beta$", targets: [{ name: "web-v2", share: 1, result: "0 servers" }] },
    { name: "", condition: "all other requests", targets: [{ name: "web:80", share: 1, result: "1 server" }] },
  ]);
  expect(found?.middlewares).toEqual([
    { kind: "retry", settings: "attempts 3" },
    { kind: "gone", settings: "" },
  ]);
  expect(findConfigured(configuration, "shop/other:80")).toBeNull();
  expect(findConfigured(null, "shop/web:80")).toBeNull();
});

test("the rules of a port are listed with their conditions, middlewares and responses", () => {
  const rules = {
    rules: [
      { service: "shop/api:80/rule/httproute/shop/api/0", middlewares: ["t"] },
      { service: "shop/api:80/rule/httproute/shop/api/1", name: "beta" },
      { service: "shop/api:80/rule/httproute/shop/api/2", middlewares: ["r"] },
    ],
    order: [
      { rule: 1, match: { headers: [{ name: "x-group", value: "beta" }], queries: [{ name: "v", pattern: "2.*" }] } },
      { rule: 0, match: { pathPrefix: "/a" } },
      { rule: 0, match: { exactPath: "/b" } },
      { rule: 2, match: { pathPrefix: "/old" } },
    ],
    reason: "no rule of an HTTPRoute matches",
  };
  const http = {
    routers: {
      "shop/api:80": { entrypoint: 5000, rules },
      "shop/own:80": {
        entrypoint: 5000,
        consumers: { test: { rules: [{}], order: [{ rule: 0 }] } },
        fallback: "shop/own:80",
      },
    },
    services: {
      "shop/own:80": { servers: [{ address: "10.0.0.1", port: 80 }] },
      "shop/api:80/rule/httproute/shop/api/0": {
        parts: [
          { service: "shop/api:80/backend/shop/v1:80", weight: 3 },
          { service: "shop/api:80/backend/shop/v2:80", weight: 1 },
        ],
      },
      "shop/api:80/backend/shop/v1:80": { servers: [{ address: "10.0.0.1", port: 80 }] },
      "shop/api:80/backend/shop/v2:80": { answer: { status: 500, reason: "a backend is invalid" } },
      "shop/api:80/rule/httproute/shop/api/1": { answer: { status: 500, reason: "it has no backends" } },
    },
    middlewares: { t: { kind: "timeout" }, r: { kind: "redirect" } },
  };
  const configuration = parseConfiguration({ revision: "e.2", full: true, removed: [], http });
  expect(findConfigured(configuration, "shop/api:80")?.routes).toEqual([
    {
      name: "rule beta",
      condition: "x-group=beta with query parameter v: 2.*",
      targets: [{ name: "", share: 1, result: "500: it has no backends" }],
    },
    {
      name: "rule httproute/shop/api/0, timeout",
      condition: "path prefix /a, or path /b exactly",
      targets: [
        { name: "v1:80", share: 0.75, result: "1 server" },
        { name: "v2:80", share: 0.25, result: "500: a backend is invalid" },
      ],
    },
    {
      name: "rule httproute/shop/api/2, redirect",
      condition: "path prefix /old",
      targets: [{ name: "", share: 1, result: "a redirect" }],
    },
    {
      name: "",
      condition: "all other requests",
      targets: [{ name: "", share: 1, result: "404: no rule of an HTTPRoute matches" }],
    },
  ]);
  expect(findConfigured(configuration, "shop/own:80")?.routes).toEqual([
    { name: "", condition: "from namespace test: all requests", targets: [] },
    { name: "", condition: "all other requests", targets: [{ name: "own:80", share: 1, result: "1 server" }] },
  ]);
});

test("a destination has its servers, or the response of the mesh with its reason", () => {
  const found = { service: "shop/web:80", share: 1, servers: [] };
  expect(describeDestination({ ...found, servers: ["10.0.0.1:80", "10.0.0.2:80"] })).toBe("10.0.0.1:80, 10.0.0.2:80");
  expect(describeDestination({ ...found, status: 500, reason: "a backend is invalid" })).toBe(
    "500: a backend is invalid",
  );
  expect(describeDestination({ ...found, reason: "no server is ready" })).toBe("no server is ready");
  expect(describeDestination(found)).toBe("no ready server");
});

test("a redirect and the answer to a preflight are no failures", () => {
  expect(isIntended("the request is redirected")).toBe(true);
  expect(isIntended("a preflight request of a page")).toBe(true);
  expect(isIntended("pages of this origin are not allowed")).toBe(false);
});

test("matches and settings are described in words", () => {
  expect(describeMatches([])).toBe("all requests");
  expect(describeMatches([{ methods: ["GET", "HEAD"], paths: ["/a"] }, { methods: ["*"] }])).toBe(
    "GET or HEAD with path /a, or all requests",
  );
  expect(describeSettings({ average: 100, on: ["5xx", "reset"], grants: [{}], empty: [], more: { a: 1 } })).toBe(
    "average 100, on 5xx reset, grants (1), empty none, more (1)",
  );
});
