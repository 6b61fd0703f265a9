// A list of thousands of rows of one height, of which only the visible ones are in the document. Arrow keys, Page Up,
// Page Down, Home and End move among the rows; Enter follows a row's link.

import type { ComponentChildren, JSX } from "preact";
import { useCallback, useLayoutEffect, useRef, useState } from "preact/hooks";

const MARGIN = 6; // rows that are drawn beyond each edge

interface Properties<T> {
  items: T[];
  rowHeight: number;
  label: string;
  getKey: (item: T) => string;
  render: (item: T, index: number) => ComponentChildren;
  className?: string;
  head?: ComponentChildren; // stays at the top
}

export function VirtualList<T>({ items, rowHeight, label, getKey, render, className = "", head }: Properties<T>) {
  const outer = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 800 });
  const wanted = useRef<number | null>(null);
  const measure = useCallback(() => {
    const element = outer.current;
    if (element) setView({ top: element.scrollTop, height: element.clientHeight });
  }, []);
  useLayoutEffect(() => {
    const element = outer.current;
    if (!element) return;
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, [measure]);
  useLayoutEffect(() => {
    if (wanted.current === null) return;
    const row = outer.current?.querySelector<HTMLElement>(`[data-index="${wanted.current}"] [data-focus]`);
    if (row) {
      row.focus({ preventScroll: true });
      wanted.current = null;
    }
  });

  const first = Math.max(0, Math.floor(view.top / rowHeight) - MARGIN);
  const last = Math.min(items.length, Math.ceil((view.top + view.height) / rowHeight) + MARGIN);

  const onKeyDown = (event: JSX.TargetedKeyboardEvent<HTMLDivElement>) => {
    const row = (event.target as HTMLElement).closest<HTMLElement>("[data-index]");
    const at = row ? Number(row.dataset["index"]) : -1;
    const page = Math.max(1, Math.floor(view.height / rowHeight) - 1);
    const moves: Record<string, number> = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: items.length - 1,
    };
    const move = moves[event.key];
    const element = outer.current;
    if (move === undefined || !element || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const to = Math.min(items.length - 1, Math.max(0, move));
    wanted.current = to;
    const list = element.querySelector("ul");
    const above = list ? list.offsetTop : 0; // the height of the head, which covers as much of the rows
    if (to * rowHeight < element.scrollTop) element.scrollTop = to * rowHeight;
    const bottom = (to + 1) * rowHeight + above - element.clientHeight;
    if (bottom > element.scrollTop) element.scrollTop = bottom;
    measure();
  };

  return (
    <div class={`virtual ${className}`} ref={outer} onScroll={measure} onKeyDown={onKeyDown} tabIndex={-1}>
      {head && <div class="sticky">{head}</div>}
      <ul aria-label={label} style={{ height: `${items.length * rowHeight}px` }}>
        {items.slice(first, last).map((item, offset) => (
          <li
            key={getKey(item)}
            data-index={first + offset}
            aria-posinset={first + offset + 1}
            aria-setsize={items.length}
            style={{ transform: `translateY(${(first + offset) * rowHeight}px)`, height: `${rowHeight}px` }}
          >
            {render(item, first + offset)}
          </li>
        ))}
      </ul>
    </div>
  );
}
