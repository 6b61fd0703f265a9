// A small line of one figure over the last minutes. Decorative: the figures beside it say the same.

import { memo } from "preact/compat";

const LEAST = 30;

interface Properties {
  values: (number | null)[];
  length: number; // of `values`, which grows in place
  limit: number;
  width?: number;
  height?: number;
  className?: string;
}

export const Sparkline = memo(function Sparkline(properties: Properties) {
  const { values, limit, width = 96, height = 22, className = "" } = properties;
  const top = Math.max(...values.map((value) => value ?? 0), 1e-9);
  const shown = Math.min(limit, Math.max(values.length, LEAST)); // the first minute fills a part of it, not a sliver
  const step = width / (shown - 1);
  const start = shown - values.length;
  let path = "";
  let isDrawing = false;
  values.forEach((value, index) => {
    if (value === null) {
      isDrawing = false;
      return;
    }
    const x = ((start + index) * step).toFixed(1);
    const y = (height - 1.5 - (value / top) * (height - 3)).toFixed(1);
    path += `${isDrawing ? "L" : "M"}${x} ${y}`;
    isDrawing = true;
  });
  return (
    <svg
      class={`sparkline ${className}`}
      width={width}
      height={height}
      viewBox={`0 0 ${width} ${height}`}
      aria-hidden="true"
    >
      <path d={path} />
    </svg>
  );
});
