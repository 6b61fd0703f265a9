// What plugins say about the mesh as a whole, such as that access control denies nothing, above every page.

import { useEffect, useState } from "preact/hooks";
import type { Condition } from "../logic/model";
import { fetchJson } from "../logic/store";

/** The controller may ask all proxies for an answer. */
const REFRESH_MS = 30_000;

export function Conditions() {
  const [found, setFound] = useState<Condition[]>([]);
  useEffect(() => {
    const stopper = new AbortController();
    const load = async () => {
      try {
        setFound(await fetchJson<Condition[]>("api/conditions", stopper.signal));
      } catch {
        // The page says elsewhere that the connection is lost.
        if (!stopper.signal.aborted) setFound([]);
      }
    };
    void load();
    const timer = window.setInterval(() => document.hidden || void load(), REFRESH_MS);
    return () => (stopper.abort(), window.clearInterval(timer));
  }, []);
  return (
    <div aria-live="polite">
      {found.map((condition) =>
        (condition.problems ?? []).map((problem) => (
          <div class="banner" key={`${condition.id} ${problem}`}>
            <span>
              {problem[0]?.toUpperCase()}
              {problem.slice(1)}. {condition.hint}
              {condition.id === "access-enforced" && (
                <>
                  {" "}
                  <a href="#/audit">Audit</a>
                </>
              )}
            </span>
          </div>
        )),
      )}
    </div>
  );
}
