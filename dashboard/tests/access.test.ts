import { expect, test } from "vitest";
import { describeAccess, findRules, joinAccess, judge, readRules } from "../src/logic/access";
import { topologyService } from "./build";

const KEY = "shop/api:80";

function judgeWith(leaves: unknown, ...addresses: string[]) {
  const additions = { acl: { destinations: { [KEY]: leaves } } };
  const rules = readRules({ services: { "api@shop": topologyService({ additions }) } });
  return judge(findRules(rules, KEY), KEY, addresses);
}

const grant = (source: string, more: object = {}) => ({ target: "t@shop", sources: [source], ...more });

test("a caller with a grant is allowed, another one is denied", () => {
  const leaves = [{ service: "api", grants: [grant("10.0.0.1")] }];
  expect(judgeWith(leaves, "10.0.0.1")).toBe("granted");
  expect(judgeWith(leaves, "10.0.0.2")).toBe("denied");
  expect(judgeWith(leaves, "10.0.0.1", "10.0.0.2")).toBe("limited");
});

test("without an address or rules nobody knows what is decided", () => {
  expect(judgeWith([{ service: "api", grants: [] }])).toBe("unknown");
  expect(judge(new Map(), KEY, ["10.0.0.1"])).toBe("unknown");
});

test("a grant for some requests or to some servers limits the caller, unless another grant has no limit", () => {
  const matches = [{ paths: ["/a"] }];
  expect(judgeWith([{ grants: [grant("10.0.0.1", { matches })] }], "10.0.0.1")).toBe("limited");
  expect(judgeWith([{ grants: [grant("10.0.0.1", { servers: [["10.0.1.1", 80]] })] }], "10.0.0.1")).toBe("limited");
  expect(judgeWith([{ grants: [grant("10.0.0.1", { matches }), grant("10.0.0.1")] }], "10.0.0.1")).toBe("granted");
});

test("every service behind a split must allow the caller", () => {
  const [open, shut] = [{ grants: [grant("10.0.0.1")] }, { grants: [] }];
  expect(judgeWith([open, open], "10.0.0.1")).toBe("granted");
  expect(judgeWith([open, shut], "10.0.0.1")).toBe("denied");
  expect(judgeWith([], "10.0.0.1")).toBe("denied");
});

test("branches count with their port, and other ports do not", () => {
  const destinations = {
    [KEY]: [{ grants: [grant("10.0.0.1")] }],
    [`${KEY}/split/beta`]: [{ grants: [] }],
    "shop/api:8080": [{ grants: [] }],
  };
  const rules = readRules({ services: { "api@shop": topologyService({ additions: { acl: { destinations } } }) } });
  expect(judge(rules.get("api@shop"), KEY, ["10.0.0.1"])).toBe("limited");
});

test("a service without access control is open, and what has another shape grants nothing", () => {
  expect(findRules(readRules({ services: { "api@shop": topologyService({}) } }), KEY)).toBeUndefined();
  expect(readRules(null).size).toBe(0);
  expect(judge(undefined, KEY, ["10.0.0.1"])).toBe("open");
  for (const leaves of [null, "x", [null], [{ grants: "x" }], [{ grants: [null] }], [{ grants: [{ sources: 1 }] }]])
    expect(judgeWith(leaves, "10.0.0.1")).toBe("denied");
});

test("what is decided about several callers is joined, and has a text", () => {
  expect(joinAccess("granted", "granted")).toBe("granted");
  expect(joinAccess("granted", "denied")).toBe("limited");
  expect(joinAccess("denied", "unknown")).toBe("unknown");
  expect(describeAccess("limited")).toBe("partly allowed");
  expect(describeAccess("open")).toBe("");
});
