import { expect, test } from "vitest";
import { buildGraph } from "../src/logic/graph";
import {
  addPaths,
  describeEncryption,
  findEncryptedShare,
  judgePaths,
  NO_PATHS,
  readPaths,
} from "../src/logic/encryption";
import { buildRows } from "../src/logic/rows";
import { edge, report, server, service, traffic, windowOf } from "./build";

test("a controller without encryption has no counts", () => {
  expect(readPaths(windowOf())).toEqual(NO_PATHS);
  expect(judgePaths(NO_PATHS)).toBe("none");
  expect(findEncryptedShare(NO_PATHS)).toBeNull();
  expect(describeEncryption("none")).toBe("");
});

test("traffic to servers on the same node does not count", () => {
  expect(judgePaths(readPaths(windowOf({ paths: { local: 9 } })))).toBe("none");
});

test("a share of requests was encrypted, all, or none", () => {
  const window = windowOf({ paths: { encrypted: 3, clear: 1, local: 5 } });
  expect(judgePaths(readPaths(window))).toBe("partly");
  expect(findEncryptedShare(readPaths(window))).toBe(0.75);
  expect(judgePaths({ encrypted: 1, clear: 0 })).toBe("encrypted");
  expect(judgePaths({ encrypted: 0, clear: 1 })).toBe("clear");
});

test("edges that are joined have the sum", () => {
  const callers = ["a", "b"].map((name, index) =>
    edge(`Pod/${name}@shop`, "shop/api:80", {
      pods: [`shop/${name}`],
      last: windowOf({ paths: index ? { clear: 2 } : { encrypted: 5 } }),
    }),
  );
  const web = traffic("web", {
    servers: ["a", "b"].map((name) => server(`10.0.0.${name}:80`, { pod: `shop/${name}` })),
  });
  const measured = report(web, traffic("api", { callers }));
  const graph = buildGraph(measured, buildRows([service("web"), service("api")], measured), new Map());
  expect(graph.edges.map((each) => each.paths)).toEqual([{ encrypted: 5, clear: 2 }]);
  expect(addPaths(NO_PATHS, { encrypted: 1, clear: 2 })).toEqual({ encrypted: 1, clear: 2 });
});
