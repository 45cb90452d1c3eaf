import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [
    {
      // The build writes the script's tag anew and drops what it does not know.
      name: 'blocking-render',
      transformIndexHtml: {
        order: 'post',
        handler: (html) => html.replace('<script type="module"', '<script type="module" blocking="render"'),
      },
    },
  ],
  build: {
    outDir: '../static',
    emptyOutDir: true,
    target: ['chrome123', 'firefox121', 'safari17.5'],
    // Nothing inline: the page is served under a policy that allows neither inline scripts nor data: scripts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 150,
  },
  server: {
    proxy: {
      '/api': 'http://127.0.0.1:6066',
      '/ws': { target: 'ws://127.0.0.1:6066', ws: true },
    },
  },
  test: { include: ['test/**/*.test.ts'], environment: 'node', testTimeout: 60_000 },
});
