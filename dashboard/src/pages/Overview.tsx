// All services, problems first: rate, success, percentiles, and why a service fails.

import { useMemo, useRef, useState } from "preact/hooks";
import { formatRate, formatSeconds, formatShare } from "../logic/format";
import { SAMPLES_LIMIT } from "../logic/history";
import type { Health, Row, SortColumn, Sorting } from "../logic/rows";
import { StableOrder, countHealth, matchesFilter, toneOfSuccess } from "../logic/rows";
import { Empty, HEALTH_WORDS, HealthMark, Loading } from "../parts/bits";
import { useSize, useStore, useTitle } from "../parts/hooks";
import { linkToService, replaceQuery } from "../parts/route";
import { Sparkline } from "../parts/Sparkline";
import { VirtualList } from "../parts/VirtualList";

const COLUMNS: [column: SortColumn, title: string, className: string][] = [
  ["health", "Health", "c-health"],
  ["name", "Service", "c-name"],
  ["rate", "Requests/s", "c-rate"],
  ["success", "Success", "c-success"],
  ["p95", "p50 / p95", "c-p95"],
];
const HEALTHS: Health[] = ["failing", "degraded", "remarked", "fine", "idle"];
const NARROW = 700;

export function OverviewPage({ query }: { query: URLSearchParams }) {
  const [{ rows, services, phase }, store] = useStore();
  const [filter, setFilter] = useState(query.get("filter") ?? "");
  const [health, setHealth] = useState<Health | "">((query.get("health") as Health | null) ?? "");
  const [sorting, setSorting] = useState<Sorting>({ column: "health", isReversed: false });
  const order = useRef(new StableOrder());
  const isHeld = useRef(false);
  const [ref, { width }] = useSize<HTMLDivElement>();
  useTitle("Services");

  const found = useMemo(
    () => rows.filter((row) => (!health || row.health === health) && matchesFilter(row, filter)),
    [rows, filter, health],
  );
  const sorted = order.current.sort(found, sorting, performance.now(), isHeld.current);
  const counts = countHealth(rows);
  const select = (nextFilter: string, nextHealth: Health | "") => {
    setFilter(nextFilter);
    setHealth(nextHealth);
    replaceQuery("", { filter: nextFilter, health: nextHealth });
  };
  const sortBy = (column: SortColumn) =>
    setSorting({ column, isReversed: sorting.column === column && !sorting.isReversed });

  if (!services)
    return phase === "lost" ? <Empty title="The controller does not answer" /> : <Loading what="services" />;
  if (!rows.length)
    return (
      <Empty title="No services yet">
        <p>
          The mesh serves each Service that the controller reads. Add one to the cluster, or to the manifests of{" "}
          <code>maesh up</code>. If there are Services, check <code>--watch-namespaces</code>.
        </p>
      </Empty>
    );
  const isNarrow = width > 0 && width < NARROW;
  const head = isNarrow ? null : (
    <div class="row head">
      {COLUMNS.map(([column, title, className]) => (
        <button
          key={column}
          class={className}
          onClick={() => sortBy(column)}
          aria-label={`Sort by ${title}`}
          aria-pressed={sorting.column === column}
        >
          {title}
          {sorting.column === column && <span aria-hidden="true">{sorting.isReversed ? " ▲" : " ▼"}</span>}
        </button>
      ))}
      <span class="c-why">Last five minutes, and what is wrong</span>
    </div>
  );
  return (
    <div class="overview" ref={ref}>
      <h1 class="unseen">Services</h1>
      <div class="tools">
        <input
          type="search"
          placeholder="Filter by name, namespace or problem"
          aria-label="Filter services"
          value={filter}
          onInput={(event) => select(event.currentTarget.value, health)}
        />
        <div class="chips" role="group" aria-label="Filter by health">
          {HEALTHS.filter((each) => counts[each] || each === health).map((each) => (
            <button
              key={each}
              class={`chip ${each}`}
              aria-pressed={health === each}
              onClick={() => select(filter, health === each ? "" : each)}
            >
              {counts[each]} {HEALTH_WORDS[each]}
            </button>
          ))}
        </div>
      </div>
      {sorted.length ? (
        <div
          class="held"
          onPointerEnter={() => (isHeld.current = true)}
          onPointerLeave={() => (isHeld.current = false)}
          onFocusIn={() => (isHeld.current = true)}
          onFocusOut={() => (isHeld.current = false)}
        >
          <VirtualList
            items={sorted}
            rowHeight={isNarrow ? 76 : 38}
            label={`${sorted.length} services`}
            getKey={(row) => row.key}
            className={isNarrow ? "narrow" : ""}
            head={head}
            render={(row) => <ServiceRow row={row} samples={store.history.get(row.key)} />}
          />
        </div>
      ) : (
        <Empty title="Nothing matches">
          <button onClick={() => select("", "")}>Show all services</button>
        </Empty>
      )}
    </div>
  );
}

function ServiceRow({ row, samples }: { row: Row; samples: { rate: (number | null)[]; at: number[] } | undefined }) {
  const last = row.traffic?.last;
  const isStream = row.trafficType !== "http" && row.trafficType !== "";
  return (
    <a class={`row ${row.health}`} href={linkToService(row.key)} data-focus>
      <span class="c-health">
        <HealthMark health={row.health} isShort />
      </span>
      <span class="c-name" title={row.key}>
        <strong>{row.name}</strong>
        <span class="quiet">
          :{row.port} {row.namespace}
          {isStream && <em> {row.trafficType}</em>}
        </span>
      </span>
      <span class="c-rate">{last ? formatRate(last.rate) : "–"}</span>
      <span class={`c-success ${toneOfSuccess(last?.success)}`}>{formatShare(last?.success)}</span>
      <span class="c-p95">
        {formatSeconds(last?.total.p50)} <span class="quiet">/ {formatSeconds(last?.total.p95)}</span>
      </span>
      <span class="c-why">
        {samples && <Sparkline values={samples.rate} length={samples.at.at(-1) ?? 0} limit={SAMPLES_LIMIT} />}
        <span class="why" title={row.why}>
          {row.why}
        </span>
      </span>
    </a>
  );
}
