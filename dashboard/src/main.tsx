// The page: its frame, the connection to the controller, and which part is shown.

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { formatAge } from "./logic/format";
import { countHealth } from "./logic/rows";
import { Store } from "./logic/store";
import { StoreContext, useStore } from "./parts/hooks";
import { useRoute } from "./parts/route";
import type { Route } from "./parts/route";
import { Empty } from "./parts/bits";
import { Conditions } from "./parts/Conditions";
import { AuditPage } from "./pages/Audit";
import { GraphPage } from "./pages/Graph";
import { NodesPage } from "./pages/Nodes";
import { OverviewPage } from "./pages/Overview";
import { ServicePage } from "./pages/Service";
import { TapPage } from "./pages/Tap";
import { WhyPage } from "./pages/Why";
import "uplot/dist/uPlot.min.css";
import "./style.css";

const PAGES: [path: string, title: string][] = [
  ["", "Services"],
  ["graph", "Graph"],
  ["tap", "Live tap"],
  ["why", "Why?"],
  ["audit", "Audit"],
  ["nodes", "Nodes"],
];

function App() {
  const route = useRoute();
  const main = useRef<HTMLElement>(null);
  const place = `${route.path}/${route.rest}`;
  const shown = useRef(place);
  useEffect(() => {
    if (shown.current === place) return;
    shown.current = place;
    window.scrollTo(0, 0);
    main.current?.focus({ preventScroll: true }); // a screen reader then reads the new page
  }, [place]);
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to the content
      </a>
      <Header path={route.path} />
      <Connection />
      <Conditions />
      <main id="content" ref={main} tabIndex={-1}>
        <Page route={route} />
      </main>
    </>
  );
}

function Header({ path }: { path: string }) {
  const [{ rows, controller }] = useStore();
  const { failing, degraded } = countHealth(rows);
  return (
    <header>
      <a class="brand" href="#/">
        <img src="./favicon.svg" width="22" height="22" alt="" /> Maesh
      </a>
      <nav aria-label="Pages">
        {PAGES.map(([page, title]) => {
          const isCurrent = path === page || (path === "service" && page === "");
          return (
            <a key={page} href={`#/${page}`} {...(isCurrent ? { "aria-current": "page" as const } : {})}>
              {title}
              {page === "" && failing > 0 && <b class="count failing">{failing}</b>}
              {page === "" && failing === 0 && degraded > 0 && <b class="count degraded">{degraded}</b>}
            </a>
          );
        })}
      </nav>
      {controller && (
        <span class="revision" title={`revision ${controller.revision} of controller ${controller.name}`}>
          {controller.ready ? "" : "not ready · "}revision {controller.revision.split(".").at(-1)}
        </span>
      )}
    </header>
  );
}

/** What is wrong with the data as a whole: the connection is lost, or the controller measures nothing. */
function Connection() {
  const [{ phase, lostSince, lostReason, traffic, hasTraffic, services }, store] = useStore();
  const [, setNow] = useState(0);
  useEffect(() => {
    if (phase !== "lost") return;
    const timer = window.setInterval(() => setNow(Date.now()), 1000);
    return () => window.clearInterval(timer);
  }, [phase]);
  const silent = traffic?.nodes.filter((node) => node.error) ?? [];
  const missing = traffic?.missing ?? [];
  const age = lostSince === null ? 0 : (Date.now() - lostSince) / 1000;
  return (
    <div aria-live="polite">
      {phase === "lost" && (
        <div class="banner error">
          <span>
            Connection lost {formatAge(age)}: {lostReason}.{services ? " The page shows older data." : ""} Trying again
            …
          </span>
          <button onClick={() => store.retry()}>Try now</button>
        </div>
      )}
      {phase === "live" && !hasTraffic && (
        <div class="banner">This controller does not measure traffic, so rates, edges and percentiles are missing.</div>
      )}
      {phase === "live" && silent.length > 0 && (
        <div class="banner">
          <span>
            {silent.length === 1
              ? `Proxy ${silent[0]?.name} does not answer, so its traffic is missing`
              : `${silent.length} proxies do not answer, so their traffic is missing`}
            : {silent[0]?.error}. <a href="#/nodes">Nodes</a>
          </span>
        </div>
      )}
      {phase === "live" && missing.length > 0 && (
        <div class="banner">
          {missing.length === 1
            ? `Controller ${missing[0]?.name} does not answer, so proxies may be missing`
            : `${missing.length} controllers do not answer, so proxies may be missing`}
          : {missing[0]?.error}.
        </div>
      )}
    </div>
  );
}

function Page({ route }: { route: Route }) {
  switch (route.path) {
    case "":
      return <OverviewPage query={route.query} />;
    case "graph":
      return <GraphPage query={route.query} />;
    case "service":
      return <ServicePage serviceKey={route.rest} key={route.rest} />;
    case "tap":
      return <TapPage query={route.query} />;
    case "why":
      return <WhyPage query={route.query} key={route.query.toString()} />;
    case "audit":
      return <AuditPage query={route.query} />;
    case "nodes":
      return <NodesPage />;
    default:
      return (
        <Empty title="There is no such page">
          <p>
            <a href="#/">All services</a>
          </p>
        </Empty>
      );
  }
}

const store = new Store();
const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(
    <StoreContext.Provider value={store}>
      <App />
    </StoreContext.Provider>,
    root,
  );
  store.start();
}
