// A chart over time of one or more series, drawn by uPlot in the colours of the page.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { useSize } from "./hooks";

export interface Series {
  label: string;
  color: string; // the name of a custom property
  values: (number | null)[];
}

interface Properties {
  title: string;
  at: number[];
  series: Series[];
  format: (value: number) => string;
  top?: number; // the largest value of the axis; otherwise what fits
}

const HEIGHT = 150;

export function Chart({ title, at, series, format, top }: Properties) {
  const [ref, { width }, element] = useSize<HTMLDivElement>();
  const plot = useRef<uPlot | null>(null);
  const labels = series.map((each) => each.label).join();

  useEffect(() => {
    if (!element || !width) return;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(buildOptions(title, width, series, format, top), build(at, series), element);
    };
    draw();
    const scheme = window.matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", draw);
    return () => {
      scheme.removeEventListener("change", draw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [width, labels, title]);

  useEffect(() => {
    plot.current?.setData(build(at, series));
  });

  const newest = series.map((each) => {
    const value = each.values.at(-1);
    return `${each.label} ${value === null || value === undefined ? "not measured" : format(value)}`;
  });
  return (
    <figure class="chart">
      <figcaption>
        {title}
        {series.length > 1 &&
          series.map((each) => (
            <span class="legend" key={each.label}>
              <i style={{ background: `var(${each.color})` }} />
              {each.label}
            </span>
          ))}
      </figcaption>
      <div ref={ref} class="plot" role="img" aria-label={`${title}: ${newest.join(", ")}`} />
    </figure>
  );
}

function build(at: number[], series: Series[]): uPlot.AlignedData {
  return [[...at], ...series.map((each) => [...each.values])] as uPlot.AlignedData;
}

function readColor(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function buildOptions(
  title: string,
  width: number,
  series: Series[],
  format: (value: number) => string,
  top: number | undefined,
): uPlot.Options {
  const axis = {
    stroke: readColor("--quiet"),
    grid: { stroke: readColor("--line"), width: 1 },
    ticks: { stroke: readColor("--line"), width: 1 },
    font: "11px system-ui, sans-serif",
  };
  return {
    width,
    height: HEIGHT,
    id: title.replaceAll(/\W/g, ""),
    cursor: { drag: { x: false, y: false }, points: { show: false } },
    legend: { show: false },
    scales: { y: { range: (_, __, max) => [0, top ?? Math.max(max * 1.15, 1e-6)] } },
    axes: [
      { ...axis, size: 26, space: 70, values: [[1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
      { ...axis, size: 64, space: 34, values: (_, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [
      {},
      ...series.map((each) => ({
        label: each.label,
        stroke: readColor(each.color),
        width: 1.5,
        spanGaps: false,
        points: { show: false },
      })),
    ],
  };
}
