import { defineConfig } from "vite";

// The built files are part of the plugin's distribution, so that pip needs no node: docs/development.md.
export default defineConfig({
  base: "./", // also below the path of an API server's proxy
  build: {
    outDir: "../plugins/dashboard/maesh_dashboard/built",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the Content-Security-Policy allows no data URL
    license: { fileName: "licenses.md" },
    reportCompressedSize: true,
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: { proxy: { "/api": process.env["MAESH_ENDPOINT"] ?? "http://127.0.0.1:9000" } },
});
