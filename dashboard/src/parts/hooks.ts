// Hooks of Preact that several pages use.

import { createContext } from "preact";
import { useContext, useEffect, useLayoutEffect, useState } from "preact/hooks";
import type { State } from "../logic/store";
import { Store } from "../logic/store";

export const StoreContext = createContext<Store>(null as unknown as Store);

export function useStore(): [State, Store] {
  const store = useContext(StoreContext);
  const [, setVersion] = useState(0);
  useEffect(() => {
    setVersion(store.state.version);
    return store.subscribe(() => setVersion(store.state.version));
  }, [store]);
  return [store.state, store];
}

export function useDocument(what: "topology" | "configuration"): void {
  const store = useContext(StoreContext);
  useEffect(() => store.need(what), [store, what]);
}

export interface Size {
  width: number;
  height: number;
}

/** The inner size of an element, which may appear later than its component. */
export function useSize<T extends Element>(): [(element: T | null) => void, Size, T | null] {
  const [element, setElement] = useState<T | null>(null);
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  useLayoutEffect(() => {
    if (!element) return;
    const measure = () => setSize({ width: element.clientWidth, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, [element]);
  return [setElement, size, element];
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} – Maesh` : "Maesh";
  }, [title]);
}
